//! The store's node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use exactlyonce::store::memory::MemoryStore;
use exactlyonce::store::{Outcome, Store};
use tokio::time::sleep;

use crate::network::{self, Caller, Manner};
use crate::observed;
use crate::stage::Stage;
use crate::store::question::{Answer, Ask};

/// How many calls that write rows of a partition are being applied: for telling that they overlap.
type Open = Arc<Mutex<BTreeMap<i32, u32>>>;

/// Serves the tables until the node is killed.
pub(crate) async fn serve(stage: Arc<Stage>) {
    let open = Open::default();
    network::serve(stage, move |stage, ask, manner| {
        let open = open.clone();
        async move { apply(&stage, ask, manner, &open).await }
    })
    .await;
}

async fn apply(stage: &Stage, ask: Ask, manner: Manner, open: &Open) -> Answer {
    observe(stage, &ask, manner).await;
    if !ask.is_write() {
        return read(stage, ask, manner.caller).await;
    }
    if manner.forgotten {
        stage.observe("acknowledged writes dropped");
        stage.note(format_args!("the store forgets #{}", manner.number));
        return Answer::Written;
    }
    let rows_of = match &ask {
        Ask::WriteRows(partition, _) => Some(*partition),
        _ => None,
    };
    if let Some(partition) = rows_of {
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = open.entry(partition).or_default();
        *calls += 1;
        if *calls > 1 {
            stage.observe(observed::OVERLAP);
        }
    }
    write(stage, &ask, manner).await;
    if let Some(partition) = rows_of
        && let Some(calls) = open.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&partition)
    {
        *calls -= 1;
    }
    Answer::Written
}

/// Applies rows one by one, in any order, with pauses in which other requests are served.
async fn write(stage: &Stage, ask: &Ask, manner: Manner) {
    let mut rows = ask.rows();
    let (pauses, kept) = {
        let mut dice = stage.dice();
        dice.shuffle(&mut rows);
        let length = rows.len() as u64;
        let pauses: Vec<(u64, u64)> =
            (0..dice.below(3)).map(|_| (dice.below(length + 1), dice.within(1..=20))).collect();
        (pauses, if manner.torn { dice.below(length + 1) } else { length })
    };
    if manner.torn {
        stage.observe("calls torn");
        if kept > 0 && kept < rows.len() as u64 {
            stage.observe(observed::TORN);
        }
        stage.note(format_args!("the store does {kept} of {} rows of #{}", rows.len(), manner.number));
    }
    for (number, row) in rows.into_iter().enumerate().take(kept as usize) {
        for (_, ms) in pauses.iter().filter(|(before, _)| *before == number as u64) {
            sleep(Duration::from_millis(*ms)).await;
        }
        let written = match &row {
            Ask::WriteProgress(partition, progress) => {
                stage.tables.write_progress(*partition, *progress).await
            }
            Ask::Register(partition) => stage.tables.register(*partition).await,
            Ask::WriteCounts(partition, counts) => stage.tables.write_counts(*partition, counts).await,
            Ask::WriteAlerts(alerts) => stage.tables.write_alerts(alerts).await,
            Ask::WriteRows(partition, rows) => stage.tables.write_rows(*partition, rows).await,
            _ => unreachable!("only writes have rows"),
        };
        acknowledged(written);
    }
}

async fn read(stage: &Stage, ask: Ask, caller: Caller) -> Answer {
    let tables = &stage.tables;
    match ask {
        Ask::Binding => Answer::Binding(acknowledged(tables.binding().await)),
        Ask::Bind(binding) => Answer::Bind(acknowledged(tables.bind(&binding).await)),
        Ask::HoldsRows => Answer::HoldsRows(acknowledged(tables.holds_rows().await)),
        Ask::ProgressOfAll => Answer::ProgressOfAll(acknowledged(tables.progress_of_all().await)),
        Ask::Progress(partition) => Answer::Progress(acknowledged(tables.progress(partition).await)),
        Ask::Registered => Answer::Registered(acknowledged(tables.registered().await)),
        Ask::Counts(partition, windows) => {
            let mut counts = Vec::with_capacity(windows.len());
            for part in parts(stage, &windows) {
                pause(stage).await;
                counts.extend(acknowledged(tables.counts(partition, part).await));
            }
            // Whoever is not the owner reads it for a sum, of windows that he has counted in himself.
            if counts.iter().any(Option::is_some) && stage.group().owner(partition) != Some(caller) {
                stage.observe(observed::SHARED_WINDOW);
            }
            Answer::Counts(counts)
        }
        Ask::RowsBelow(partition, from, below, limit) => {
            Answer::RowsBelow(acknowledged(tables.rows_below(partition, from, below, limit).await))
        }
        Ask::Events(partition, from, to, limit) => {
            Answer::Events(acknowledged(tables.events(partition, from, to, limit).await))
        }
        Ask::DeadLetters(partition, from, to, limit) => {
            Answer::DeadLetters(acknowledged(tables.dead_letters(partition, from, to, limit).await))
        }
        Ask::Partitions => Answer::Partitions(acknowledged(tables.partitions().await)),
        Ask::Alerts(after, limit) => Answer::Alerts(acknowledged(tables.alerts(after, limit).await)),
        Ask::WriteProgress(..)
        | Ask::Register(_)
        | Ask::WriteCounts(..)
        | Ask::WriteAlerts(..)
        | Ask::WriteRows(..) => unreachable!("writes are not read"),
    }
}

/// A read of many windows is no snapshot: it is done in up to two parts.
fn parts<'a, T>(stage: &Stage, items: &'a [T]) -> impl Iterator<Item = &'a [T]> + use<'a, T> {
    let cut = stage.dice().below(items.len() as u64 + 1) as usize;
    let (first, second) = items.split_at(cut);
    [first, second].into_iter().filter(|part| !part.is_empty())
}

async fn pause(stage: &Stage) {
    let ms = stage.dice().below(8);
    if ms > 0 {
        sleep(Duration::from_millis(ms)).await;
    }
}

/// What the tables in memory answer at once.
fn acknowledged<T>(outcome: Outcome<T>) -> T {
    outcome.answer().expect("the tables in memory answer whatever is well formed")
}

async fn observe(stage: &Stage, ask: &Ask, Manner { caller, .. }: Manner) {
    if let Some(partition) = ask.written_partition() {
        let owner = stage.group().owner(partition);
        if owner.is_some_and(|owner| owner != caller) {
            stage.observe(observed::ZOMBIE_WRITE);
        }
    }
    match ask {
        Ask::Progress(partition) => stage.forget_written(caller, *partition),
        Ask::WriteCounts(partition, counts) => {
            counts.iter().for_each(|(key, _)| stage.wrote(caller, *partition, key));
        }
        // With a single partition there are no sums to read, so this is the fold's read.
        Ask::Counts(partition, windows)
            if stage.world.partitions == 1 && stage.has_written(caller, *partition, windows) =>
        {
            stage.observe(observed::EVICTION);
        }
        Ask::WriteRows(partition, rows) => {
            if let Some(&(offset, _)) = rows.first()
                && holds(&stage.tables, *partition, offset).await
            {
                stage.observe(observed::REPLAY);
            }
        }
        _ => {}
    }
}

async fn holds(tables: &MemoryStore, partition: i32, offset: i64) -> bool {
    let below = acknowledged(tables.rows_below(partition, offset, offset + 1, 1).await);
    below.first().is_some_and(|row| row.0 == offset)
}
