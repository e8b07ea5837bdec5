//! The position at which an assignment starts, and the checks before that.
//!
//! The position comes only from the store's `progress`. If tables and log contradict each other, the worker stops with
//! an error instead of guessing.

use tracing::debug;

use crate::broker::{Broker, BrokerError};
use crate::event::Row;
use crate::pipeline::assignment::Assigned;
use crate::pipeline::error::PipelineError;
use crate::pipeline::retry::Attempts;
use crate::store::{Progress, Store};

/// How many stored rows below `progress` are compared with the log.
const IDENTITY_ROWS: usize = 16;

/// Records of one read of the log.
const FETCH_RECORDS: usize = 1_000;
const FETCH_BYTES: usize = 1 << 20;

/// The progress from which the assignment continues. `refused_at` is the offset that the broker reported as out of
/// range, if that is why the assignment restarts.
///
/// # Errors
/// Contradictions between tables and log, and services that were unavailable past the retry deadline.
pub(super) async fn position<B: Broker, S: Store>(
    a: &Assigned<'_, B, S>,
    refused_at: Option<i64>,
) -> Result<Progress, PipelineError> {
    let (topic, partition) = (&a.binding.topic, a.assignment.partition);
    // The log's start is read first: another worker can then only move progress further past it between the two
    // reads, which cannot look like a loss.
    let log = a.retry.until_not_retriable(|| a.broker.offsets(topic, partition)).await;
    let log = log.map_err(|error| a.retry.broker_error(error))?;
    let stored = a
        .retry
        .until_acknowledged(
            || format!("read progress of partition {partition}"),
            || a.store.progress(partition),
        )
        .await?;
    let origin = a.binding.origin(partition);
    let progress = stored.unwrap_or(Progress { origin, next_offset: origin });
    let next_offset = progress.next_offset;
    if log.start > next_offset {
        return Err(PipelineError::LogBeginsAfterProgress {
            topic: topic.clone(),
            partition,
            log_start: log.start,
            next_offset,
        });
    }
    // The broker's error no longer applies if another worker has moved progress past that offset in the meantime.
    if let Some(offset) = refused_at.filter(|offset| next_offset <= *offset) {
        return Err(PipelineError::OutOfRange { topic: topic.clone(), partition, offset, next_offset });
    }
    compare_with_log(a, log.start.max(progress.origin), next_offset).await?;
    // The row that was read may be on one replica only, so it is written again before anything depends on it.
    a.write_progress(progress).await?;
    Ok(progress)
}

/// Compares the last stored rows below `next_offset` with the log from `start` on.
async fn compare_with_log<B: Broker, S: Store>(
    a: &Assigned<'_, B, S>,
    start: i64,
    next_offset: i64,
) -> Result<(), PipelineError> {
    let (topic, partition) = (&a.binding.topic, a.assignment.partition);
    let request = || format!("read rows of partition {partition} below offset {next_offset}");
    let stored = || a.store.rows_below(partition, start, next_offset, IDENTITY_ROWS);
    let stored = a.retry.until_acknowledged(request, stored).await?;
    let Some(&(mut from, _)) = stored.first() else { return Ok(()) };
    let mut stored = stored.into_iter().peekable();
    let differ = |offset, difference| {
        Err(PipelineError::RecordsDiffer { topic: topic.clone(), partition, offset, next_offset, difference })
    };
    let mut attempts = Attempts::new(&a.retry);
    while from < next_offset {
        let fetch = || a.broker.fetch(topic, partition, from, FETCH_RECORDS, FETCH_BYTES);
        let fetched = match a.retry.until_not_retriable(fetch).await {
            Ok(fetched) => fetched,
            // Retention deleted the records meanwhile, or the log ends before progress. The latter is detected as soon
            // as the consumer starts there; the high watermark is not used here because it may lag behind the log.
            Err(BrokerError::OutOfRange { offset, .. }) => {
                debug!(%topic, partition, offset, "the log changed while rows were compared");
                return Ok(());
            }
            Err(error) => return Err(a.retry.broker_error(error)),
        };
        let read_to = fetched.next_offset.min(next_offset);
        for record in fetched.records.into_iter().take_while(|record| record.offset < next_offset) {
            let offset = record.offset;
            match stored.next_if(|(stored, _)| *stored <= offset) {
                Some((stored, _)) if stored < offset => return differ(stored, "the log has no such record"),
                Some((_, row)) if row != a.decoder.row(record) => return differ(offset, difference(&row)),
                Some(_) => {}
                None => return differ(offset, "the tables have no such row"),
            }
        }
        if let Some((offset, _)) = stored.next_if(|(stored, _)| *stored < read_to) {
            return differ(offset, "the log has no such record");
        }
        if fetched.next_offset > from {
            from = fetched.next_offset;
            continue;
        }
        // There is nothing to read. Either the log ends before progress (see above), or a transaction is open at
        // offsets that have stored rows, and its outcome must be known first.
        let probe = || a.broker.fetch(topic, partition, next_offset, 1, 1);
        match a.retry.until_not_retriable(probe).await {
            Ok(_) => {
                attempts
                    .wait(|| {
                        format!(
                            "broker: offset {from} of partition {partition} is part of an open transaction"
                        )
                    })
                    .await
            }
            Err(BrokerError::OutOfRange { .. }) => return Ok(()),
            Err(error) => return Err(a.retry.broker_error(error)),
        }
    }
    attempts.finish(Ok(()))
}

fn difference(row: &Row) -> &'static str {
    match row {
        Row::Event(_) => "the event differs",
        Row::DeadLetter(_) => "the dead letter differs",
    }
}
