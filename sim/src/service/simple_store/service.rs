//! The store's node.

use std::sync::Arc;
use std::time::Duration;

use exactlyonce::store::{Outcome, Store};
use tokio::time::sleep;

use crate::context::SimContext;
use crate::network::{self, Handling};
use crate::observed::Sometimes;
use crate::oracle::cell::{self, Cell, Value};
use crate::parties::{Caller, Service};
use crate::service::simple_store::request::{StoreRequest, StoreResponse};
use crate::timeline::Touched;

/// Serves the tables until the node is killed.
pub(crate) async fn serve(context: Arc<SimContext>) {
    network::serve(context, |context, request: Arc<StoreRequest>, handling| async move {
        apply(&context, &request, handling).await
    })
    .await;
}

async fn apply(context: &SimContext, request: &StoreRequest, handling: Handling) -> StoreResponse {
    if !request.is_write() {
        return read(context, request, handling.caller).await;
    }
    write(context, request, handling).await;
    StoreResponse::Written
}

/// Applies rows one by one, in random order, with pauses during which other requests are served.
async fn write(context: &SimContext, request: &StoreRequest, handling: Handling) {
    let rows = request.rows();
    let mut order: Vec<usize> = (0..rows).collect();
    let (pauses, kept) = {
        let mut random = context.random(Service::Store, handling.caller);
        random.shuffle(&mut order);
        let length = rows as u64;
        let pauses: Vec<(u64, u64)> =
            (0..random.below(3)).map(|_| (random.below(length + 1), random.within(1..=20))).collect();
        (pauses, if handling.torn { random.below(length + 1) } else { length })
    };
    if handling.torn {
        if kept > 0 && kept < rows as u64 {
            context.observe(Sometimes::CallAppliedInPart);
        }
        context.note(format_args!("the store applies {kept} of {rows} rows of #{}", handling.number));
    }
    for (number, row) in order.into_iter().enumerate().take(kept as usize) {
        for (_, ms) in pauses.iter().filter(|(before, _)| *before == number as u64) {
            sleep(Duration::from_millis(*ms)).await;
        }
        let tables = &context.tables;
        let written = match request {
            StoreRequest::WriteProgress(partition, progress) => {
                tables.write_progress(*partition, *progress).await
            }
            StoreRequest::Register(partition) => tables.register(*partition).await,
            StoreRequest::WriteCounts(partition, counts) => {
                tables.write_counts(*partition, &counts[row..=row]).await
            }
            StoreRequest::WriteAlerts(alerts) => tables.write_alerts(&alerts[row..=row]).await,
            StoreRequest::WriteRows(partition, rows) => tables.write_rows(*partition, &rows[row..=row]).await,
            _ => unreachable!("only writes have rows"),
        };
        acknowledged(written);
        context.applied();
        if !context.watch.is_off() {
            let who = format!("the store, for {},", handling.caller);
            context.touch_all(&cell_of(request, row), Touched::new(&who, Service::Store, "applies"));
        }
    }
}

/// A row of a write, with its value.
fn cell_of(request: &StoreRequest, row: usize) -> Vec<(Cell, Value)> {
    match request {
        StoreRequest::WriteProgress(partition, progress) => cell::of_progress(*partition, *progress),
        StoreRequest::Register(partition) => cell::of_registration(*partition),
        StoreRequest::WriteCounts(partition, counts) => cell::of_counts(*partition, &counts[row..=row]),
        StoreRequest::WriteAlerts(alerts) => cell::of_alerts(&alerts[row..=row]),
        StoreRequest::WriteRows(partition, rows) => cell::of_rows(*partition, &rows[row..=row]),
        _ => Vec::new(),
    }
}

async fn read(context: &SimContext, request: &StoreRequest, caller: Caller) -> StoreResponse {
    let tables = &context.tables;
    match request {
        StoreRequest::Binding => StoreResponse::Binding(acknowledged(tables.binding().await)),
        StoreRequest::Bind(binding) => StoreResponse::Bind(acknowledged(tables.bind(binding).await)),
        StoreRequest::HoldsRows => StoreResponse::HoldsRows(acknowledged(tables.holds_rows().await)),
        StoreRequest::ProgressOfAll => {
            StoreResponse::ProgressOfAll(acknowledged(tables.stored_progress().await))
        }
        StoreRequest::Progress(partition) => {
            StoreResponse::Progress(acknowledged(tables.progress(*partition).await))
        }
        StoreRequest::Registered => StoreResponse::Registered(acknowledged(tables.registered().await)),
        StoreRequest::Counts(partition, windows) => {
            let mut counts = Vec::with_capacity(windows.len());
            for part in parts(context, caller, windows) {
                pause(context, caller).await;
                counts.extend(acknowledged(tables.counts(*partition, part).await));
            }
            // Workers other than the owner read it for a sum of windows in which they have counted themselves.
            if counts.iter().any(Option::is_some) && context.group().owner(*partition) != Some(caller) {
                context.observe(Sometimes::WindowCountedInSeveralPartitions);
            }
            StoreResponse::Counts(counts)
        }
        StoreRequest::RowsBelow(partition, from, below, limit) => {
            StoreResponse::RowsBelow(acknowledged(tables.rows_below(*partition, *from, *below, *limit).await))
        }
        StoreRequest::Events(partition, from, to, limit) => {
            StoreResponse::Events(acknowledged(tables.stored_events(*partition, *from, *to, *limit).await))
        }
        StoreRequest::DeadLetters(partition, from, to, limit) => StoreResponse::DeadLetters(acknowledged(
            tables.stored_dead_letters(*partition, *from, *to, *limit).await,
        )),
        StoreRequest::Partitions => StoreResponse::Partitions(acknowledged(tables.partitions().await)),
        StoreRequest::Alerts(after, limit) => {
            StoreResponse::Alerts(acknowledged(tables.stored_alerts(after.clone(), *limit).await))
        }
        StoreRequest::AllCounts(after, limit) => {
            StoreResponse::AllCounts(acknowledged(tables.all_counts(after.clone(), *limit).await))
        }
        StoreRequest::WriteProgress(..)
        | StoreRequest::Register(_)
        | StoreRequest::WriteCounts(..)
        | StoreRequest::WriteAlerts(..)
        | StoreRequest::WriteRows(..) => unreachable!("writes are not read"),
    }
}

/// A read of many windows is not a snapshot: it is done in up to two parts.
fn parts<'a, T>(
    context: &SimContext,
    client: Caller,
    items: &'a [T],
) -> impl Iterator<Item = &'a [T]> + use<'a, T> {
    let cut = context.random(Service::Store, client).below(items.len() as u64 + 1) as usize;
    let (first, second) = items.split_at(cut);
    [first, second].into_iter().filter(|part| !part.is_empty())
}

async fn pause(context: &SimContext, client: Caller) {
    let ms = context.random(Service::Store, client).below(8);
    if ms > 0 {
        sleep(Duration::from_millis(ms)).await;
    }
}

/// What the tables in memory return at once.
fn acknowledged<T>(outcome: Outcome<T>) -> T {
    outcome.into_result().expect("the in-memory tables accept every well-formed request")
}
