//! The operations on a Cassandra cluster that a case may use, in addition to requests through the driver.

use std::net::SocketAddr;
use std::time::Duration;

use simulated_hosts::{ClockFault, ClockFaultName, DiskFault, HostFault, LinkFaultName, Recovery};

/// Operations that not every backend supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Apply a fault to the processes or hosts of nodes, and end it.
    Host(HostFault),
    /// Apply a fault to a node's disk.
    Disk(DiskFault),
    /// Apply a fault to a node's clock, and end it.
    Clock(ClockFaultName),
    /// Apply a fault to the mutations from one node to another, and to nothing else, and end it.
    Link(LinkFaultName),
    /// Switch hinted handoff on and off.
    HintedHandoff,
    /// Make running nodes look down to the others immediately, and end that.
    Silence,
    /// Flush a table's memtable, and compact its sstables.
    Compact,
    /// Keep the hints of a coordinator in memory for longer than a case takes.
    HoldHints,
    /// Run an anti-entropy repair.
    AntiEntropy,
    /// Sync the commit log periodically instead of before each acknowledgement.
    PeriodicSync,
}

/// Three nodes, numbered from 0, that are all replicas of everything (replication factor 3), and see each other as up
/// when a case starts. A verb that fails panics, and so does one that is not in
/// [`VERBS`](crate::suite::Backend::VERBS).
#[allow(async_fn_in_trait)] // cases run on the thread that made their backend
pub trait Backend: crate::suite::Backend<Verb = Verb> {
    /// The address at which each node serves clients.
    fn addresses(&self) -> [SocketAddr; 3];

    /// How long a coordinator waits for the replicas of a write (`write_request_timeout`); a replica drops writes that
    /// are older when it processes them.
    fn write_timeout(&self) -> Duration;

    /// Maximum time until the hints of a node that is up again are delivered, and until a batchlog is replayed.
    fn delivered_within(&self) -> Duration;

    /// Maximum time until all nodes have detected that a killed node is down.
    fn death_noticed_within(&self) -> Duration;

    /// [`Verb::Host`].
    async fn apply(&self, fault: HostFault, nodes: &[usize]);

    /// Undoes [`apply`](Backend::apply). [`Recovery::Resume`] returns immediately, [`Recovery::Start`] when the nodes
    /// respond and all see each other as up.
    async fn recover(&self, recovery: Recovery, nodes: &[usize]);

    /// [`Verb::Disk`], for a node that is down.
    async fn apply_to_disk(&self, fault: DiskFault, node: usize);

    /// [`Verb::Clock`].
    async fn apply_to_clock(&self, fault: ClockFault, node: usize);

    /// Undoes [`apply_to_clock`](Backend::apply_to_clock).
    async fn restore_clock(&self, fault: ClockFault, node: usize);

    /// [`Verb::Link`] with [`LinkFaultName::Cut`].
    async fn cut_mutations(&self, from: usize, to: usize);

    /// Undoes [`cut_mutations`](Backend::cut_mutations); mutations that were lost stay lost.
    async fn restore_mutations(&self, from: usize, to: usize);

    /// [`Verb::HintedHandoff`], on all running nodes. Whether it is on at the start of a case is undefined.
    async fn hinted_handoff(&self, on: bool);

    /// [`Verb::Silence`]: returns when the other nodes have detected it.
    async fn silence(&self, nodes: &[usize]);

    /// Undoes [`silence`](Backend::silence): returns when all nodes see each other as up.
    async fn end_silence(&self);

    /// [`Verb::Compact`], on all nodes: flushes the tables of a keyspace, and, if `merge`, compacts the sstables of each
    /// table into one, without data that may be purged.
    async fn compact(&self, keyspace: &str, merge: bool);

    /// [`Verb::HoldHints`].
    async fn hold_hints(&self);

    /// [`Verb::AntiEntropy`], of a keyspace, on all nodes; returns when it has ended.
    async fn repair(&self, keyspace: &str);

    /// [`Verb::PeriodicSync`] (`commitlog_sync: periodic`), on all nodes; off is `batch`.
    async fn periodic_sync(&self, on: bool);
}
