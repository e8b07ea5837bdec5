//! What happens.

use serde::{Deserialize, Serialize};
use simulated_hosts::{ClockFault, DiskFault, HostFault, LinkFault};
use strum::{EnumIter, IntoStaticStr};

use super::Point;

/// What happens. To what is up to the fault's [`Target`](super::Target).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// To the process of a worker, a simple service or a node, or to a node's host; its recovery follows after the duration.
    /// A worker that is asked to stop is restarted when it has stopped and the duration is over.
    Host(HostFault),
    /// To a node's disk: its process is killed, and starts on it without a repair. Damage.
    Disk(DiskFault),
    /// To a node's clock.
    Clock(ClockFault),
    /// To a link, or to the messages of a kind.
    Link(LinkFault),
    /// A node's process is killed when it has sent this many writes to replicas, from the trigger on.
    CoordinatorKilled {
        /// How many writes.
        writes: u64,
    },
    /// To a worker's process: it is paused until another worker passes a point, at the latest until the duration is over.
    HeldUntil {
        /// The point.
        point: Point,
        /// It must be of the partition at whose point the worker is held, if it is of any.
        #[serde(default)]
        same_partition: bool,
    },
    /// No write between nodes of Cassandra arrives, and as soon as one is lost, the worker is killed, and restarted after the
    /// duration: what it wrote last, one replica may have.
    WriteTorn,
    /// Requests are not applied, and return an error that does not say so.
    ErrorsReturned {
        /// How many.
        per_mille: u64,
    },
    /// Calls to the simple store are applied in part and return an error.
    CallsTorn {
        /// How many.
        per_mille: u64,
    },
    /// A broker no longer leads any partition: others in the in-sync sets do.
    LeadersMoved,
    /// A broker drops out of the in-sync sets of all partitions, as after a pause of its fetches.
    InSyncShrunk,
    /// Metadata reach a broker late.
    MetadataLags {
        /// By how many milliseconds.
        by_ms: u64,
    },
    /// A broker answers the fetches of consumers with an error, as when its remote storage fails.
    ReadsFail,
    /// No name of a broker can be resolved.
    NamesUnavailable,
    /// A producer leaves a transaction open, in all partitions: readers of committed records wait at its beginning. At the end
    /// it is aborted.
    TransactionOpen,
    /// A transaction that no producer knows stays open in all partitions, as after a late request (KIP-890). At the end an
    /// operator aborts it.
    TransactionHangs,
    /// A partition is added to the topic.
    PartitionAdded,
    /// The group reassigns its partitions repeatedly.
    GroupShuffled {
        /// Time between two reassignments, in milliseconds.
        every_ms: u64,
    },
    /// Readers see the log's end as it was when the fault started, or before: after an election, Kafka's new leader begins
    /// with a high watermark of its own, which may be lower than what readers have seen.
    LogEndLags {
        /// How many offsets the end goes back.
        behind: u64,
    },
    /// Retention runs: it deletes every record below acknowledged progress, at once.
    LogTrimmed,
    /// The store acknowledges a write and drops it. Never drawn: the oracles must find it.
    AcknowledgedWritesDropped {
        /// How many.
        per_mille: u64,
    },
    /// A service does what it must not. Never drawn: the oracles must find it.
    Sabotaged {
        /// What.
        how: Sabotage,
        /// How often.
        per_mille: u64,
    },
    /// Retention deletes records that are not processed. Damage.
    LogTrimmedPastProgress {
        /// How many of a partition, at most.
        records: u64,
    },
    /// The log's end is cut off and written again, as an unclean election does. Damage.
    LogTruncated {
        /// How many offsets of each partition.
        offsets: u64,
    },
    /// The topic is deleted and created again. Damage.
    TopicRecreated,
    /// The topic becomes compacted. Damage.
    TopicCompacted {
        /// True if retention deletes records, too: `cleanup.policy` is `compact,delete`.
        deletes: bool,
    },
    /// The worker is started with another threshold than the tables are bound to. Damage.
    WorkerMisconfigured,
    /// An operator deletes a row, with a wall-clock timestamp. Damage.
    RowsDeleted {
        /// Of which table.
        table: DeletedFrom,
    },
}

impl Kind {
    /// How often it affects what it may affect, for faults that do so at random.
    pub(crate) fn rate(mut self) -> Option<u64> {
        self.rate_mut().copied()
    }

    /// The same, to be changed.
    pub(crate) fn rate_mut(&mut self) -> Option<&mut u64> {
        match self {
            Kind::Link(
                LinkFault::Lose { per_mille }
                | LinkFault::LoseResponses { per_mille }
                | LinkFault::Delay { per_mille, .. }
                | LinkFault::Duplicate { per_mille, .. },
            )
            | Kind::ErrorsReturned { per_mille }
            | Kind::CallsTorn { per_mille } => Some(per_mille),
            _ => None,
        }
    }
}

/// What can be wrong with a service that must be found. Each is what no real service does, or does only outside its
/// assumptions.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumIter, IntoStaticStr, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Sabotage {
    /// A row is written with other content.
    RowsAltered,
    /// A row is also written to the other table.
    RowsDoubled,
    /// Rows are written to another partition.
    PartitionsSwapped,
    /// A count is written with another number.
    CountsAltered,
    /// An alert is written with a greater number.
    AlertsAltered,
    /// An alert of another window is written, too.
    AlertsAdded,
    /// Progress is written too far.
    ProgressAltered,
    /// The registration of a partition is acknowledged and dropped.
    RegistrationsDropped,
    /// A read of progress returns none.
    OldProgressRead,
    /// A read of counts returns none.
    OldCountsRead,
    /// Writes are refused.
    WritesRefused,
    /// Writes of rows and counts are never answered.
    NoResponse,
    /// Records are delivered with other content.
    RecordsAltered,
    /// Records of an older assignment are delivered as those of the current one, with a gap.
    StaleRecordsDelivered,
    /// A paused partition is delivered.
    PauseIgnored,
    /// The client of the broker fails for good.
    ConsumerFails,
    /// A repair changes nothing.
    RepairsSkipped,
}

/// A table from which an operator deletes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, EnumIter, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum DeletedFrom {
    /// `events`.
    Events,
    /// `window_counts`.
    WindowCounts,
    /// `alerts`.
    Alerts,
    /// `progress`.
    Progress,
    /// `registry`.
    Registry,
}
