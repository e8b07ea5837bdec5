//! The broker's two nodes.

use std::sync::Arc;
use std::time::Duration;

use exactlyonce::broker::{Broker, Fetched};
use tokio::time::sleep;

use crate::broker::group::Change;
use crate::broker::question::{AskGroup, AskLog, GroupAnswer, LogAnswer};
use crate::network::{self, Manner};
use crate::observed;
use crate::stage::Stage;

/// Time between two looks at who is late.
const TICK_MS: u64 = 20;

/// Serves the log until the node is killed.
pub(crate) async fn serve_log(stage: Arc<Stage>) {
    network::serve(stage, |stage, ask, _| async move {
        let log = &stage.log;
        let answer = match ask {
            AskLog::Topic(topic) => log.topic(&topic).await.map(LogAnswer::Topic),
            AskLog::Offsets(topic, partition) => {
                let lagging = stage.lagging_end(partition);
                log.offsets(&topic, partition).await.map(|mut log| {
                    if let Some(end) = lagging.filter(|end| *end < log.end) {
                        stage.observe("log end lags");
                        log.end = end.max(log.start);
                    }
                    LogAnswer::Offsets(log)
                })
            }
            AskLog::Fetch { topic, partition, offset, max_records } => {
                let lagging = stage.lagging_end(partition);
                log.fetch(&topic, partition, offset, max_records, usize::MAX).await.map(|fetched| {
                    let end = lagging.filter(|end| *end < fetched.next_offset);
                    if end.is_some() {
                        stage.observe("log end lags");
                    }
                    up_to(fetched, offset, end)
                })
            }
        };
        answer.unwrap_or_else(LogAnswer::Refused)
    })
    .await;
}

/// What was fetched from `offset` on, as far as it lies below a lagging end.
fn up_to(mut fetched: Fetched, offset: i64, end: Option<i64>) -> LogAnswer {
    let Some(end) = end else {
        let at_end = fetched.records.is_empty();
        return LogAnswer::Fetched { fetched, at_end };
    };
    fetched.records.retain(|record| record.offset < end);
    fetched.next_offset = end.max(offset);
    // Past the end that it sees, a reader does not know whether it is at the end.
    let at_end = fetched.records.is_empty() && offset <= end;
    LogAnswer::Fetched { fetched, at_end }
}

/// Serves the group until the node is killed.
pub(crate) async fn serve_group(stage: Arc<Stage>) {
    tokio::spawn(watch(stage.clone()));
    network::serve(stage, |stage, ask, Manner { caller, .. }| async move {
        let now_ms = stage.now_ms();
        match ask {
            AskGroup::Join => GroupAnswer::Joined(stage.group().join(now_ms, caller)),
            AskGroup::Heartbeat { member, released } => {
                let revoked_before = stage.group().revoked();
                let shares = stage.group().heartbeat(now_ms, member, &released);
                match shares {
                    None => GroupAnswer::UnknownMember,
                    Some(shares) => {
                        if stage.group().revoked() < revoked_before {
                            stage.observe(observed::RELEASED);
                        }
                        GroupAnswer::Shares(shares)
                    }
                }
            }
            AskGroup::Leave { member } => {
                stage.group().leave(now_ms, member);
                GroupAnswer::Left
            }
        }
    })
    .await;
}

/// Finds out who is late, and shuffles if that is what goes wrong at the moment.
async fn watch(stage: Arc<Stage>) {
    let mut shuffle_at_ms = 0;
    loop {
        sleep(Duration::from_millis(TICK_MS)).await;
        let now_ms = stage.now_ms();
        let changes = stage.group().tick(now_ms);
        for change in changes {
            stage.note(format_args!("group: {change:?}"));
            stage.observe(match change {
                Change::Expired(_) => observed::EXPIRED,
                Change::TakenAway(_) => observed::TAKEN_AWAY,
            });
        }
        match stage.shuffle_every_ms() {
            Some(every_ms) if now_ms >= shuffle_at_ms => {
                shuffle_at_ms = now_ms + every_ms;
                let before = stage.group().revoked();
                stage.group().shuffle(now_ms);
                if stage.group().revoked() > before {
                    stage.note(format_args!("group: shuffled"));
                    stage.observe("group shuffled");
                }
            }
            _ => {}
        }
    }
}
