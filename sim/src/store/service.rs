//! The store's node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use exactlyonce::store::memory::MemoryStore;
use exactlyonce::store::{Outcome, Store};
use tokio::time::sleep;

use crate::context::SimContext;
use crate::network::{self, Caller, Handling};
use crate::observed;
use crate::store::request::{StoreRequest, StoreResponse};

/// How many calls that write rows of a partition are being applied: to detect overlap.
type Open = Arc<Mutex<BTreeMap<i32, u32>>>;

/// Serves the tables until the node is killed.
pub(crate) async fn serve(context: Arc<SimContext>) {
    let open = Open::default();
    network::serve(context, move |context, request, handling| {
        let open = open.clone();
        async move { apply(&context, request, handling, &open).await }
    })
    .await;
}

async fn apply(
    context: &SimContext,
    request: StoreRequest,
    handling: Handling,
    open: &Open,
) -> StoreResponse {
    observe(context, &request, handling).await;
    if !request.is_write() {
        return read(context, request, handling.caller).await;
    }
    if handling.forgotten {
        context.observe("acknowledged writes dropped");
        context.note(format_args!("the store drops #{}", handling.number));
        return StoreResponse::Written;
    }
    let rows_of = match &request {
        StoreRequest::WriteRows(partition, _) => Some(*partition),
        _ => None,
    };
    if let Some(partition) = rows_of {
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = open.entry(partition).or_default();
        *calls += 1;
        if *calls > 1 {
            context.observe(observed::OVERLAP);
        }
    }
    write(context, &request, handling).await;
    if let Some(partition) = rows_of
        && let Some(calls) = open.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&partition)
    {
        *calls -= 1;
    }
    StoreResponse::Written
}

/// Applies rows one by one, in random order, with pauses during which other requests are served.
async fn write(context: &SimContext, request: &StoreRequest, handling: Handling) {
    let mut rows = request.rows();
    let (pauses, kept) = {
        let mut random = context.random();
        random.shuffle(&mut rows);
        let length = rows.len() as u64;
        let pauses: Vec<(u64, u64)> =
            (0..random.below(3)).map(|_| (random.below(length + 1), random.within(1..=20))).collect();
        (pauses, if handling.torn { random.below(length + 1) } else { length })
    };
    if handling.torn {
        context.observe("calls torn");
        if kept > 0 && kept < rows.len() as u64 {
            context.observe(observed::TORN);
        }
        context.note(format_args!("the store applies {kept} of {} rows of #{}", rows.len(), handling.number));
    }
    for (number, row) in rows.into_iter().enumerate().take(kept as usize) {
        for (_, ms) in pauses.iter().filter(|(before, _)| *before == number as u64) {
            sleep(Duration::from_millis(*ms)).await;
        }
        let written = match &row {
            StoreRequest::WriteProgress(partition, progress) => {
                context.tables.write_progress(*partition, *progress).await
            }
            StoreRequest::Register(partition) => context.tables.register(*partition).await,
            StoreRequest::WriteCounts(partition, counts) => {
                context.tables.write_counts(*partition, counts).await
            }
            StoreRequest::WriteAlerts(alerts) => context.tables.write_alerts(alerts).await,
            StoreRequest::WriteRows(partition, rows) => context.tables.write_rows(*partition, rows).await,
            _ => unreachable!("only writes have rows"),
        };
        acknowledged(written);
    }
}

async fn read(context: &SimContext, request: StoreRequest, caller: Caller) -> StoreResponse {
    let tables = &context.tables;
    match request {
        StoreRequest::Binding => StoreResponse::Binding(acknowledged(tables.binding().await)),
        StoreRequest::Bind(binding) => StoreResponse::Bind(acknowledged(tables.bind(&binding).await)),
        StoreRequest::HoldsRows => StoreResponse::HoldsRows(acknowledged(tables.holds_rows().await)),
        StoreRequest::ProgressOfAll => {
            StoreResponse::ProgressOfAll(acknowledged(tables.stored_progress().await))
        }
        StoreRequest::Progress(partition) => {
            StoreResponse::Progress(acknowledged(tables.progress(partition).await))
        }
        StoreRequest::Registered => StoreResponse::Registered(acknowledged(tables.registered().await)),
        StoreRequest::Counts(partition, windows) => {
            let mut counts = Vec::with_capacity(windows.len());
            for part in parts(context, &windows) {
                pause(context).await;
                counts.extend(acknowledged(tables.counts(partition, part).await));
            }
            // Workers other than the owner read it for a sum of windows in which they have counted themselves.
            if counts.iter().any(Option::is_some) && context.group().owner(partition) != Some(caller) {
                context.observe(observed::SHARED_WINDOW);
            }
            StoreResponse::Counts(counts)
        }
        StoreRequest::RowsBelow(partition, from, below, limit) => {
            StoreResponse::RowsBelow(acknowledged(tables.rows_below(partition, from, below, limit).await))
        }
        StoreRequest::Events(partition, from, to, limit) => {
            StoreResponse::Events(acknowledged(tables.stored_events(partition, from, to, limit).await))
        }
        StoreRequest::DeadLetters(partition, from, to, limit) => StoreResponse::DeadLetters(acknowledged(
            tables.stored_dead_letters(partition, from, to, limit).await,
        )),
        StoreRequest::Partitions => StoreResponse::Partitions(acknowledged(tables.partitions().await)),
        StoreRequest::Alerts(after, limit) => {
            StoreResponse::Alerts(acknowledged(tables.stored_alerts(after, limit).await))
        }
        StoreRequest::AllCounts(after, limit) => {
            StoreResponse::AllCounts(acknowledged(tables.all_counts(after, limit).await))
        }
        StoreRequest::WriteProgress(..)
        | StoreRequest::Register(_)
        | StoreRequest::WriteCounts(..)
        | StoreRequest::WriteAlerts(..)
        | StoreRequest::WriteRows(..) => unreachable!("writes are not read"),
    }
}

/// A read of many windows is not a snapshot: it is done in up to two parts.
fn parts<'a, T>(context: &SimContext, items: &'a [T]) -> impl Iterator<Item = &'a [T]> + use<'a, T> {
    let cut = context.random().below(items.len() as u64 + 1) as usize;
    let (first, second) = items.split_at(cut);
    [first, second].into_iter().filter(|part| !part.is_empty())
}

async fn pause(context: &SimContext) {
    let ms = context.random().below(8);
    if ms > 0 {
        sleep(Duration::from_millis(ms)).await;
    }
}

/// What the tables in memory return at once.
fn acknowledged<T>(outcome: Outcome<T>) -> T {
    outcome.into_result().expect("the in-memory tables accept every well-formed request")
}

async fn observe(context: &SimContext, request: &StoreRequest, Handling { caller, .. }: Handling) {
    if let Some(partition) = request.written_partition() {
        let owner = context.group().owner(partition);
        if owner.is_some_and(|owner| owner != caller) {
            context.observe(observed::ZOMBIE_WRITE);
        }
    }
    match request {
        StoreRequest::Progress(partition) => context.forget_written(caller, *partition),
        StoreRequest::WriteCounts(partition, counts) => {
            counts.iter().for_each(|(key, _)| context.wrote(caller, *partition, key));
        }
        // With a single partition there are no sums to read, so this is the fold's read.
        StoreRequest::Counts(partition, windows)
            if context.config.partitions == 1 && context.has_written(caller, *partition, windows) =>
        {
            context.observe(observed::EVICTION);
        }
        StoreRequest::WriteRows(partition, rows) => {
            if let Some(&(offset, _)) = rows.first()
                && holds(&context.tables, *partition, offset).await
            {
                context.observe(observed::REPLAY);
            }
        }
        _ => {}
    }
}

async fn holds(tables: &MemoryStore, partition: i32, offset: i64) -> bool {
    let below = acknowledged(tables.rows_below(partition, offset, offset + 1, 1).await);
    below.first().is_some_and(|row| row.0 == offset)
}
