//! The broker's two nodes.

use std::sync::Arc;
use std::time::Duration;

use exactlyonce::broker::{Broker, BrokerError, Fetched};
use tokio::time::{Instant, sleep, timeout_at};

use crate::context::SimContext;
use crate::network::{self, Handling};
use crate::observed::Sometimes;
use crate::service::simple_log::group::Change;
use crate::service::simple_log::request::{GroupRequest, GroupResponse, LogRequest, LogResponse};

/// Time between two checks for expired sessions and revocations.
const TICK_MS: u64 = 20;

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
        match &*request {
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
        }
    })
    .await;
}

/// Expires sessions and revocations, and reassigns partitions while that fault is active.
async fn watch(context: Arc<SimContext>) {
    let mut shuffle_at_ms = 0;
    loop {
        sleep(Duration::from_millis(TICK_MS)).await;
        let now_ms = context.now_ms();
        let changes = context.group().tick(now_ms);
        for change in changes {
            context.note(format_args!("group: {change:?}"));
            context.observe(match change {
                Change::Expired(_) => Sometimes::SessionExpired,
                Change::TakenAway(_) => Sometimes::PartitionTakenAway,
            });
        }
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
