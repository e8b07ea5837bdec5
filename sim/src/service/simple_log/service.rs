//! The broker's two nodes.

use std::sync::Arc;
use std::time::Duration;

use exactlyonce::broker::{Broker, BrokerError, Fetched};
use tokio::time::{Instant, sleep, timeout_at};

use crate::context::SimContext;
use crate::network::{self, Handling};
use crate::observed::Sometimes;
use crate::parties::Service;
use crate::service::simple_log::group::Change;
use crate::service::simple_log::request::{GroupRequest, GroupResponse, LogRequest, LogResponse};

/// Longest time between two checks for expired sessions and revocations. No timeout is shorter, so that none is missed.
const TICK_MS: u64 = 100;

/// Serves the log until the node is killed.
pub(crate) async fn serve_log(context: Arc<SimContext>) {
    network::serve(context, |context, request: Arc<LogRequest>, _| async move {
        let response = match &*request {
            LogRequest::Topic(topic) => context.log.topic(topic).await.map(LogResponse::Topic),
            LogRequest::Offsets(topic, partition) => {
                context.log.offsets(topic, *partition).await.map(|mut log| {
                    if let Some(end) = context.lagging_end(*partition, log.end) {
                        log.end = end.max(log.start);
                    }
                    LogResponse::Offsets(log)
                })
            }
            LogRequest::Fetch { topic, partition, offset, max_records, max_wait_ms } => {
                let deadline = Instant::now() + Duration::from_millis(*max_wait_ms);
                fetch(&context, (topic, *partition), *offset, *max_records, deadline).await
            }
        };
        response.unwrap_or_else(LogResponse::Refused)
    })
    .await;
}

/// Fetches records, or waits for some until the deadline.
async fn fetch(
    context: &SimContext,
    (topic, partition): (&str, i32),
    offset: i64,
    max_records: usize,
    deadline: Instant,
) -> Result<LogResponse, BrokerError> {
    loop {
        let changed = context.log.changed();
        let fetched = context.log.fetch(topic, partition, offset, max_records, usize::MAX).await?;
        let end = context.lagging_end(partition, fetched.next_offset);
        let response = up_to(fetched, offset, end);
        let is_empty = matches!(&response, LogResponse::Fetched { fetched, .. }
            if fetched.records.is_empty() && fetched.next_offset == offset);
        if !is_empty || timeout_at(deadline, changed).await.is_err() {
            return Ok(response);
        }
    }
}

/// The part of a fetch from `offset` that lies below a lagging end.
fn up_to(mut fetched: Fetched, offset: i64, end: Option<i64>) -> LogResponse {
    let Some(end) = end else {
        let at_end = fetched.records.is_empty();
        return LogResponse::Fetched { fetched, at_end };
    };
    fetched.records.retain(|record| record.offset < end);
    fetched.next_offset = end.max(offset);
    // A reader past the end that it sees cannot know whether it is at the end.
    let at_end = fetched.records.is_empty() && offset <= end;
    LogResponse::Fetched { fetched, at_end }
}

/// Serves the group until the node is killed.
pub(crate) async fn serve_group(context: Arc<SimContext>) {
    tokio::spawn(watch(context.clone()));
    network::serve(context, |context, request: Arc<GroupRequest>, Handling { caller, .. }| async move {
        let now_ms = context.now_ms();
        let response = match &*request {
            GroupRequest::Join => GroupResponse::Joined(context.group().join(now_ms, caller)),
            GroupRequest::Heartbeat { member, released } => {
                let revoked_before = context.group().revoked();
                let owned = context.group().heartbeat(now_ms, *member, released);
                match owned {
                    None => GroupResponse::UnknownMember,
                    Some(owned) => {
                        if context.group().revoked() < revoked_before {
                            context.observe(Sometimes::PartitionReleased);
                        }
                        GroupResponse::Owned(owned)
                    }
                }
            }
            GroupRequest::Leave { member } => {
                context.group().leave(now_ms, *member);
                GroupResponse::Left
            }
        };
        record_owners(&context);
        response
    })
    .await;
}

fn record_owners(context: &SimContext) {
    context.record(|recording| {
        let (owners, partitions) = context.group().owners();
        recording.owners(&owners, partitions);
    });
}

/// Expires sessions and revocations, and reassigns partitions while that fault is active.
async fn watch(context: Arc<SimContext>) {
    let mut shuffle_at_ms = 0;
    loop {
        let now_ms = context.now_ms();
        let due_ms = context.group().next_due_ms().map_or(TICK_MS, |due_ms| due_ms.saturating_sub(now_ms));
        sleep(Duration::from_millis(due_ms.clamp(1, TICK_MS))).await;
        let now_ms = context.now_ms();
        let changes = context.group().tick(now_ms);
        for change in changes {
            context.note(format_args!("group: {change:?}"));
            context.record(|recording| {
                let text = match change {
                    Change::Expired(caller) => format!("the session of {caller} expires"),
                    Change::TakenAway(partition) => format!("partition {partition} is revoked by force"),
                };
                recording.moment(Some(Service::Coordinator.into()), text);
            });
            context.observe(match change {
                Change::Expired(_) => Sometimes::SessionExpired,
                Change::TakenAway(_) => Sometimes::PartitionTakenAway,
            });
        }
        record_owners(&context);
        match context.shuffling() {
            Some((fault, every_ms)) if now_ms >= shuffle_at_ms => {
                shuffle_at_ms = now_ms + every_ms;
                let before = context.group().revoked();
                context.group().shuffle(now_ms);
                if context.group().revoked() > before {
                    context.note(format_args!("group: shuffled"));
                    context.effect(&fault);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use exactlyonce::broker::{NewRecord, Producer};
    use tokio::sync::mpsc;

    use super::*;
    use crate::scenario::options::TOPIC;
    use crate::scenario::profile::Profile;
    use crate::scenario::{Draft, World};
    use crate::simulate;

    /// How many records a fetch that may be held for a second finds, and after how many milliseconds, if one is appended
    /// after so many.
    fn fetch_with_append_after(ms: u64) -> (usize, u64) {
        let (sender, _triggered) = mpsc::unbounded_channel();
        let scenario = Draft::new(1, World::Simple, Profile::Standard).without_faults();
        let context = Arc::new(SimContext::new(&scenario, false, sender));
        let body = async || {
            context.log.create_topic(TOPIC, 1, 1).await.expect("a topic");
            let appending = context.clone();
            tokio::spawn(async move {
                sleep(Duration::from_millis(ms)).await;
                let record = NewRecord { partition: Some(0), key: None, value: None, timestamp: 0 };
                appending.log.append(TOPIC, vec![record]).await.expect("appended");
            });
            let began_ms = context.now_ms();
            let response = fetch(&context, (TOPIC, 0), 0, 10, Instant::now() + Duration::from_secs(1)).await;
            let Ok(LogResponse::Fetched { fetched, .. }) = response else { panic!("it is fetched") };
            (fetched.records.len(), context.now_ms() - began_ms)
        };
        simulate(1, body).expect("nothing panics")
    }

    #[test]
    fn a_fetch_at_the_end_is_held_until_a_record_arrives_or_its_time_is_over() {
        let (records, ms) = fetch_with_append_after(300);
        assert!(records == 1 && (300..303).contains(&ms), "{records} after {ms} ms");
        let (records, ms) = fetch_with_append_after(2_000);
        assert!(records == 0 && (1_000..1_003).contains(&ms), "{records} after {ms} ms");
    }
}
