//! What a case may do to a world of Cassandra, beside talking to its nodes through the driver.

use std::net::SocketAddr;
use std::time::Duration;

/// What not every world can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Stop nodes where they stand, and let them go on.
    Pause,
    /// End a node's process: its memory is gone, what it gave to its operating system stays. Start it again.
    Kill,
    /// Switch hinted handoff on and off.
    HintedHandoff,
    /// Write a node's memtables to disk.
    Flush,
    /// Cut a node's power: what it had not synced is gone.
    PowerLoss,
    /// Move a node's clock.
    ClockSkew,
    /// Lose messages between nodes that go on answering clients.
    DropMessages,
}

/// Three nodes, numbered from 0, that all hold everything (replication factor 3), and know each other to be up
/// when a case begins. A verb that fails panics, and so does one that is not in
/// [`VERBS`](crate::suite::World::VERBS).
#[allow(async_fn_in_trait)] // cases run on the thread that made their world
pub trait World: crate::suite::World<Verb = Verb> {
    /// Where each node answers clients.
    fn addresses(&self) -> [SocketAddr; 3];

    /// How long a coordinator waits for the replicas of a write (`write_request_timeout`); a replica drops a
    /// write that is older when it comes to it.
    fn write_timeout(&self) -> Duration;

    /// How long a coordinator waits for the replicas of a read (`read_request_timeout`).
    fn read_timeout(&self) -> Duration;

    /// How soon after a node knows another to be up its hints have been delivered, at most.
    fn hints_delivered_within(&self) -> Duration;

    /// How soon all nodes know of a silent node that it is down, at most.
    fn silence_noticed_within(&self) -> Duration;

    /// How long a coordinator leaves a batch in its batchlog before the log's owners replay it, at most.
    fn batchlog_replayed_within(&self) -> Duration;

    /// [`Verb::Pause`].
    async fn pause(&self, nodes: &[usize]);

    /// Undoes [`pause`](World::pause); returns at once.
    async fn resume(&self, nodes: &[usize]);

    /// [`Verb::Kill`].
    async fn kill(&self, nodes: &[usize]);

    /// Undoes [`kill`](World::kill): returns when the nodes answer and the others know them to be up.
    async fn start(&self, nodes: &[usize]);

    /// [`Verb::HintedHandoff`], on all nodes that run. Whether it is on when a case begins is not defined.
    async fn hinted_handoff(&self, on: bool);

    /// [`Verb::Flush`], of one table, and waits for it.
    async fn flush(&self, node: usize, keyspace: &str, table: &str);

    /// [`Verb::PowerLoss`], and the start after it.
    async fn power_loss(&self, node: usize);

    /// [`Verb::ClockSkew`], by microseconds from the true time.
    async fn clock_skew(&self, node: usize, micros: i64);

    /// [`Verb::DropMessages`]: all that `from` sends to `to`, until told otherwise.
    async fn drop_messages(&self, from: usize, to: usize, lost: bool);
}
