//! The points of the protocol that a fault may wait for.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, IntoEnumIterator};

/// A point of the protocol, as a worker passes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Point {
    /// What the worker does.
    pub step: Step,
    /// Before or after it.
    pub moment: Moment,
}

/// A step of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumIter, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Reads `progress` of a partition that was assigned to it.
    ReadProgress,
    /// Reads the rows below progress, to compare them with the log.
    ReadRows,
    /// Registers a partition.
    Register,
    /// Reads its own counts, while it folds.
    ReadCounts,
    /// Writes its own counts.
    WriteCounts,
    /// Reads the registry.
    ReadRegistry,
    /// Reads the sums over the other partitions.
    ReadSums,
    /// Writes alerts.
    WriteAlerts,
    /// Writes events and dead letters.
    WriteRows,
    /// Writes progress.
    WriteProgress,
    /// Learns that a partition was assigned to it.
    Assigned,
    /// Learns that it must release a partition.
    Revoked,
    /// Learns that it lost a partition.
    Lost,
    /// Releases a partition.
    Released,
    /// Gets records.
    Delivered,
    /// Starts a partition at a position.
    Started,
    /// Pauses a partition.
    Paused,
    /// Resumes a partition.
    Resumed,
    /// A producer appends a record.
    Append,
    /// A node of Cassandra sends a write to a replica.
    ReplicaWrite,
    /// A coordinator keeps a hint.
    HintKept,
    /// A node sends a hint to a replica.
    HintSent,
    /// A node sends a read repair.
    ReadRepair,
    /// A node sends the first step of a conditional write.
    Prepare,
    /// A node sends the last step of a conditional write.
    Commit,
    /// A leader's high watermark advances.
    HighWatermark,
    /// An in-sync set shrinks.
    InSyncShrunk,
    /// A marker of a transaction is written to a partition.
    Marker,
    /// A coordinator begins to load a partition of its topic.
    CoordinatorLoads,
    /// A leader is elected.
    LeaderElected,
    /// A member joins a group, or leaves it.
    GroupChanged,
    /// A member says which partitions it has: its answer to a rebalance.
    RebalanceAnswered,
}

impl Step {
    /// The moments of it that are points: a message to a worker, or between nodes, has only the one before it.
    pub(crate) fn moments(self) -> impl Iterator<Item = Moment> {
        use Step::{
            Assigned, Commit, CoordinatorLoads, Delivered, GroupChanged, HighWatermark, HintKept, HintSent,
            InSyncShrunk, LeaderElected, Lost, Marker, Paused, Prepare, ReadRepair, RebalanceAnswered,
            Released, ReplicaWrite, Resumed, Revoked, Started,
        };
        let is_message = matches!(
            self,
            Assigned
                | Revoked
                | Lost
                | Released
                | ReplicaWrite
                | HintKept
                | HintSent
                | ReadRepair
                | Prepare
                | Commit
                | HighWatermark
                | InSyncShrunk
                | Marker
                | CoordinatorLoads
                | LeaderElected
                | GroupChanged
                | Delivered
                | Started
                | Paused
                | Resumed
                | RebalanceAnswered
        );
        Moment::iter().filter(move |moment| !is_message || *moment == Moment::Before)
    }
}

/// A moment of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumIter, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Before the request is sent, or the message is handed to the worker.
    Before,
    /// The request was acknowledged, and the worker does not know it yet.
    After,
}

/// The points at which a batch is partly written: a worker that ends there leaves work for its successor.
pub(crate) const POINTS_OF_A_BATCH: [Point; 9] = [
    Point { step: Step::WriteCounts, moment: Moment::After },
    Point { step: Step::ReadRegistry, moment: Moment::After },
    Point { step: Step::ReadSums, moment: Moment::Before },
    Point { step: Step::ReadSums, moment: Moment::After },
    Point { step: Step::WriteAlerts, moment: Moment::Before },
    Point { step: Step::WriteAlerts, moment: Moment::After },
    Point { step: Step::WriteRows, moment: Moment::After },
    Point { step: Step::WriteProgress, moment: Moment::Before },
    Point { step: Step::WriteProgress, moment: Moment::After },
];

/// The points at which a worker is held. What it knows there may be old when it goes on.
pub(crate) const POINTS_TO_HOLD: [Point; 12] = [
    Point { step: Step::ReadProgress, moment: Moment::After },
    Point { step: Step::ReadRows, moment: Moment::After },
    Point { step: Step::Register, moment: Moment::Before },
    Point { step: Step::Register, moment: Moment::After },
    Point { step: Step::ReadCounts, moment: Moment::After },
    Point { step: Step::WriteCounts, moment: Moment::Before },
    Point { step: Step::WriteCounts, moment: Moment::After },
    Point { step: Step::ReadRegistry, moment: Moment::After },
    Point { step: Step::ReadSums, moment: Moment::After },
    Point { step: Step::WriteAlerts, moment: Moment::Before },
    Point { step: Step::WriteProgress, moment: Moment::Before },
    Point { step: Step::Revoked, moment: Moment::Before },
];

/// The points that another worker passes meanwhile.
pub(crate) const POINTS_TO_HOLD_UNTIL: [Point; 8] = [
    Point { step: Step::ReadProgress, moment: Moment::After },
    Point { step: Step::Register, moment: Moment::After },
    Point { step: Step::WriteCounts, moment: Moment::After },
    Point { step: Step::ReadSums, moment: Moment::After },
    Point { step: Step::WriteAlerts, moment: Moment::After },
    Point { step: Step::WriteRows, moment: Moment::After },
    Point { step: Step::WriteProgress, moment: Moment::After },
    Point { step: Step::Released, moment: Moment::Before },
];

/// The points before a write that may reach one replica only.
pub(crate) const POINTS_TO_TEAR: [Point; 5] = [
    Point { step: Step::Register, moment: Moment::Before },
    Point { step: Step::WriteCounts, moment: Moment::Before },
    Point { step: Step::WriteAlerts, moment: Moment::Before },
    Point { step: Step::WriteRows, moment: Moment::Before },
    Point { step: Step::WriteProgress, moment: Moment::Before },
];
