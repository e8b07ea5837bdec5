//! The tasks of the cluster: one delivers messages, one starts the nodes' own tasks.
//!
//! Both belong to the caller that started the cluster, not to the sender of a message: a message that was
//! sent arrives even if its sender dies, and what a coordinator has begun continues when its client disconnects.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::Environment;
use super::message::Message;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The sending side for messages and tasks.
#[derive(Debug)]
pub(crate) struct Hub {
    messages: mpsc::UnboundedSender<(Instant, Message)>,
    tasks: mpsc::UnboundedSender<Task>,
}

/// The receiving side, before it is started.
pub(crate) struct HubTasks {
    messages: mpsc::UnboundedReceiver<(Instant, Message)>,
    tasks: mpsc::UnboundedReceiver<Task>,
}

pub(crate) fn hub() -> (Hub, HubTasks) {
    // Unbounded: what is in flight is bounded by the requests that nodes accept and by what links duplicate.
    let (messages, messages_out) = mpsc::unbounded_channel();
    let (tasks, tasks_out) = mpsc::unbounded_channel();
    (Hub { messages, tasks }, HubTasks { messages: messages_out, tasks: tasks_out })
}

impl Hub {
    /// Delivers a message this long after it was sent.
    pub(crate) fn send(&self, delay: Duration, message: Message) {
        // Fails only when the cluster is gone.
        let _ = self.messages.send((message.sent + delay, message));
    }

    pub(crate) fn begin(&self, task: impl Future<Output = ()> + Send + 'static) {
        let _ = self.tasks.send(Box::pin(task));
    }
}

impl HubTasks {
    /// Starts both tasks. They end when the cluster is dropped.
    pub(crate) fn start(self, cluster: &Arc<Environment>) {
        let mut tasks = self.tasks;
        tokio::spawn(async move {
            while let Some(task) = tasks.recv().await {
                tokio::spawn(task);
            }
        });
        tokio::spawn(deliver(self.messages, Arc::downgrade(cluster)));
    }
}

async fn deliver(mut messages: mpsc::UnboundedReceiver<(Instant, Message)>, cluster: Weak<Environment>) {
    // By arrival, then in the order of sending.
    let mut in_flight: BTreeMap<(Instant, u64), Message> = BTreeMap::new();
    let mut sent = 0u64;
    loop {
        // What is due goes out without a timer: tokio's wait for the next whole millisecond.
        let now = Instant::now();
        while let Some(first) = in_flight.first_entry() {
            if first.key().0 > now {
                break;
            }
            let Some(cluster) = cluster.upgrade() else { return };
            cluster.deliver(first.remove());
        }
        let next = in_flight.first_key_value().map(|((at, _), _)| *at);
        tokio::select! {
            biased;
            received = messages.recv() => {
                let Some((at, message)) = received else { return };
                if at <= Instant::now() && next.is_none_or(|next| at < next) {
                    let Some(cluster) = cluster.upgrade() else { return };
                    cluster.deliver(message);
                } else {
                    sent += 1;
                    in_flight.insert((at, sent), message);
                }
            }
            () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
        }
    }
}
