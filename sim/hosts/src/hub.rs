//! The tasks of a simulated cluster: one delivers messages, one starts the nodes' own tasks.
//!
//! Both belong to the caller that started the cluster, not to the sender of a message: a message that was sent
//! arrives even if its sender ends, and what a node has begun continues when its client disconnects.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The sending side for messages and tasks.
pub struct Hub<M> {
    messages: mpsc::UnboundedSender<(Instant, M)>,
    tasks: mpsc::UnboundedSender<Task>,
}

impl<M> fmt::Debug for Hub<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

/// The receiving side, before it is started.
pub struct HubTasks<M> {
    messages: mpsc::UnboundedReceiver<(Instant, M)>,
    tasks: mpsc::UnboundedReceiver<Task>,
}

impl<M> fmt::Debug for HubTasks<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubTasks").finish_non_exhaustive()
    }
}

/// Both sides.
pub fn hub<M>() -> (Hub<M>, HubTasks<M>) {
    // Unbounded: what is in flight is bounded by the requests that nodes accept and by what links duplicate.
    let (messages, messages_out) = mpsc::unbounded_channel();
    let (tasks, tasks_out) = mpsc::unbounded_channel();
    (Hub { messages, tasks }, HubTasks { messages: messages_out, tasks: tasks_out })
}

impl<M: Send + 'static> Hub<M> {
    /// Delivers a message at a time.
    pub fn send(&self, at: Instant, message: M) {
        // Fails only when the cluster is gone.
        let _ = self.messages.send((at, message));
    }

    /// Begins a task.
    pub fn begin(&self, task: impl Future<Output = ()> + Send + 'static) {
        let _ = self.tasks.send(Box::pin(task));
    }
}

impl<M: Send + 'static> HubTasks<M> {
    /// Starts both tasks. They end when the cluster, which has the [`Hub`], is dropped.
    pub fn start<C: Send + Sync + 'static>(self, cluster: &Arc<C>, deliver: impl Fn(&C, M) + Send + 'static) {
        let mut tasks = self.tasks;
        tokio::spawn(async move {
            while let Some(task) = tasks.recv().await {
                tokio::spawn(task);
            }
        });
        tokio::spawn(deliver_all(self.messages, Arc::downgrade(cluster), deliver));
    }
}

async fn deliver_all<C, M>(
    mut messages: mpsc::UnboundedReceiver<(Instant, M)>,
    cluster: Weak<C>,
    deliver: impl Fn(&C, M),
) {
    // By arrival, then in the order of sending.
    let mut in_flight: BTreeMap<(Instant, u64), M> = BTreeMap::new();
    let mut sent = 0u64;
    loop {
        // What is due goes out without a timer: tokio's wait for the next whole millisecond.
        let now = Instant::now();
        while let Some(first) = in_flight.first_entry() {
            if first.key().0 > now {
                break;
            }
            let Some(cluster) = cluster.upgrade() else { return };
            deliver(&cluster, first.remove());
        }
        let next = in_flight.first_key_value().map(|((at, _), _)| *at);
        tokio::select! {
            biased;
            received = messages.recv() => {
                let Some((at, message)) = received else { return };
                if at <= Instant::now() && next.is_none_or(|next| at < next) {
                    let Some(cluster) = cluster.upgrade() else { return };
                    deliver(&cluster, message);
                } else {
                    sent += 1;
                    in_flight.insert((at, sent), message);
                }
            }
            () = sleep_until(next.unwrap_or(now)), if next.is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn messages_arrive_by_their_delays_and_equal_ones_in_the_order_of_sending() {
        let (hub, tasks) = hub();
        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        let cluster = Arc::new(arrived);
        tasks.start(&cluster, |arrived, message| {
            let _ = arrived.send((Instant::now(), message));
        });
        let start = Instant::now();
        for (delay, message) in [(5, 'c'), (2, 'a'), (5, 'd'), (2, 'b'), (9, 'e')] {
            hub.send(start + Duration::from_millis(delay), message);
        }
        for (delay, message) in [(2, 'a'), (2, 'b'), (5, 'c'), (5, 'd'), (9, 'e')] {
            let (at, received) = arrivals.recv().await.unwrap();
            assert_eq!((at - start, received), (Duration::from_millis(delay), message));
        }
    }
}
