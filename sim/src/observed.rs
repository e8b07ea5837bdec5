//! What actually happened in a run. A fault without effect proves nothing, so a fault counts as effective when it takes
//! effect: a message that was dropped, a response that was withheld.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use strum::{EnumIter, IntoStaticStr};

use exactlyonce::store::Outcome;

use crate::scenario::fault::{Fault, KindName, Step};

/// A rare situation that a campaign must reach.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumIter, IntoStaticStr, Serialize, Deserialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Sometimes {
    /// A write reached the simple store after its client had timed out.
    LateWrite,
    /// A write of a partition was acknowledged to a worker that no longer owned it.
    ZombieWriteAfterSuccessor,
    /// A request was applied and its response lost.
    ResponseLost,
    /// A call's rows were applied in part, and the others never.
    CallAppliedInPart,
    /// A row was written that was already stored: replay.
    Replay,
    /// Two calls that write rows of one partition were in flight at the same time.
    TwoBatchesOfAPartitionInFlight,
    /// A worker read a count that the same process had written before: it had been evicted.
    EvictedCountReadBack,
    /// A partition was handed over in order.
    PartitionReleased,
    /// A partition was revoked by force because its owner took too long to release it.
    PartitionTakenAway,
    /// A worker lost a partition.
    PartitionLost,
    /// A member's session expired.
    SessionExpired,
    /// Records fetched for an older incarnation were delivered after a newer one had started.
    StaleDelivery,
    /// A window's counts came from more than one partition.
    WindowCountedInSeveralPartitions,
    /// A worker was asked to stop, and did.
    WorkerStoppedOnRequest,
    /// A worker gave up because a service did not respond in time, or could not open its tables, and was restarted.
    WorkerGaveUp,
    /// A worker refused to continue, and it was right.
    WorkerRefused,
    /// `verify` named the damage that was done.
    DamageFoundByVerify,
    /// Damage was done, and the tables were right in the end.
    DamageWithoutConsequence,
    /// A fault was triggered by a point of the protocol instead of a time.
    FaultAtAPoint,
    /// A worker was killed after its counts were acknowledged, and before it read the sums.
    CrashBetweenCountsAndSums,
    /// A worker was killed after it read the sums, and before an alert was acknowledged.
    CrashBetweenSumsAndAlert,
    /// A worker was killed after an alert was acknowledged, and before its progress.
    CrashBetweenAlertAndProgress,
    /// A worker was killed after rows were acknowledged, and before the counts of the same records.
    CrashBetweenRowsAndCounts,
    /// A worker was killed after counts were acknowledged, and before the rows of the same records.
    CrashBetweenCountsAndRows,
    /// A worker was killed after rows were acknowledged.
    CrashAfterRows,
    /// A worker was killed while it wrote progress.
    CrashAtProgress,
    /// A worker was killed while it read progress, or the rows below it.
    CrashWhileResuming,
    /// A worker was killed while it registered a partition.
    CrashAtRegistration,
    /// A worker was killed while it learned that it must release a partition, or released it.
    CrashWhileReleasing,
    /// Rows were written again whose first and last event are in different windows.
    ReplayOverWindowBorder,
    /// A write timed out at its client, and every replica had applied it.
    UnknownOutcomeWasApplied,
    /// A write timed out at its client, and one replica had applied it, but not all.
    UnknownOutcomeWasAppliedByOneReplica,
    /// A write timed out at its client, and no replica had applied it.
    UnknownOutcomeWasNotApplied,
    /// A worker lost a partition, or had to release it, while writes of it were in flight.
    RebalanceWithWritesInFlight,
    /// More counts were in flight than the cache may hold, and none of them may leave memory.
    CountPinnedWhileCacheFull,
    /// An alert was raised to a count that no partition reached alone.
    AlertRaisedBySecondPartition,
    /// An alert was raised after a later window of its source had one.
    LateEventRaisesOldAlert,
    /// Progress moved to an offset below which there is no record: past a gap, or to the end.
    ProgressMovedPastGap,
    /// A partition was added while workers ran.
    PartitionAddedWhileRunning,
    /// Retention deleted records while workers ran.
    LogTrimmedWhileRunning,
    /// The log's end was reported lower than before.
    LogEndWentBack,
    /// A worker was held at a point until another one had passed one.
    WorkerHeldUntilAnotherPassed,
    /// A fault paused a worker for longer than its session.
    PausedLongerThanSession,
    /// A count was read whose newest value only one replica had.
    CountOnOneReplicaOnlyRead,
    /// A hint was delivered to a replica that had missed a write.
    HintSent,
    /// A hint was sent to a replica that already had a newer value of each of its cells.
    HintOlderThanNewerWrite,
    /// A read found that replicas differ, and wrote to one.
    ReadRepairSent,
    /// A read repair wrote some of the rows of a batch to a replica that lacked more of them.
    ReadRepairOfPartOfABatch,
    /// The processes of all nodes were killed.
    AllNodesKilled,
    /// A coordinator was killed after it had sent some of the writes of a request.
    CoordinatorKilledWhileWriting,
    /// A conditional write was prepared, or committed, by the replicas.
    ConditionalWriteReplicated,
    /// A node was paused, and resumed.
    NodePausedAndResumed,
    /// The connections of a worker were reset while they were in use.
    ConnectionsResetInUse,
    /// A node's clock went back.
    ClockWentBack,
    /// What was acknowledged by a quorum of one data center was missing in the other.
    TwoDatacentersDisagree,
    /// A host lost power while its commit log held records that were not synced.
    UnsyncedRecordsLost,
    /// A write timed out at its coordinator.
    WriteTimedOutAtCoordinator,
    /// A read timed out at its coordinator.
    ReadTimedOutAtCoordinator,
    /// A coordinator saw too few live replicas.
    TooFewReplicasAlive,
    /// The controller fenced a broker.
    BrokerFenced,
    /// Another broker became the controller.
    ControllerMoved,
    /// A replica dropped out of an in-sync set.
    InSyncSetShrank,
    /// A replica joined an in-sync set again.
    InSyncSetGrew,
    /// A partition had no leader.
    PartitionWithoutLeader,
    /// A leader was elected while a worker wrote rows or counts of its partition.
    LeaderMovedMidBatch,
    /// A new leader began with a lower high watermark than an earlier one had served.
    HighWatermarkLaggedAfterElection,
    /// A leader was elected that was not in sync.
    UncleanElection,
    /// A broker cut the end of its log off.
    LogTruncatedAtBroker,
    /// A log was cut off, and the high watermark reached its former end again.
    TruncatedThenGrownOver,
    /// A leader's log start advanced.
    LogStartAdvanced,
    /// The marker of a transaction reached one partition much later than another one.
    MarkerLateInSecondPartition,
    /// A consumer got records of an aborted transaction, to be skipped.
    AbortedTransactionSkipped,
    /// A consumer was at the last stable offset, below the high watermark.
    ReaderWaitsForOpenTransaction,
    /// A producer was fenced by another one with its transactional id.
    ProducerFenced,
    /// A producer sent a batch again that was in the log.
    ProduceRepeated,
    /// A batch was appended and not acknowledged.
    AppendedButNotAcknowledged,
    /// A new leader did not return the log's end yet.
    OffsetNotAvailableAtStart,
    /// A consumer fetched from a follower in its rack.
    FetchFromFollower,
    /// A leader sent a consumer to a follower in its rack.
    PreferredReplicaGiven,
    /// A fetch was out of range.
    FetchOutOfRange,
    /// A broker could not read a log for a consumer.
    FetchFailed,
    /// A consumer and a broker had different epochs of a leader.
    FetchWithOtherEpoch,
    /// Another broker became the coordinator of the group.
    CoordinatorMoved,
    /// A coordinator moved while its group rebalanced.
    CoordinatorMovedInRebalance,
    /// A client asked a coordinator that was loading.
    CoordinatorLoads,
    /// A client asked a broker that was not the coordinator any more.
    NotCoordinator,
    /// A member learned from a request that its group rebalances.
    RebalanceInProgress,
    /// A member learned that its group does not know it.
    UnknownMember,
    /// A member learned that its generation or epoch is over.
    MemberOfAnOldGeneration,
    /// A coordinator removed a member whose session expired.
    MemberSessionExpired,
    /// A member's session expired while writes of a worker were in flight.
    SessionExpiredWhileWriting,
    /// A coordinator removed a member that took too long in a rebalance.
    MemberTooSlowInRebalance,
    /// A member left its group.
    MemberLeft,
    /// The group changed while the tables were not available.
    RebalanceWhileStoreIsAway,
    /// A group changed from the classic to the consumer protocol.
    ClassicToConsumerUpgrade,
    /// A worker lost a partition without having been asked to release it.
    LostWithoutRevoked,
    /// A commit of an offset was refused.
    CommitRefused,
    /// A broker was paused, and resumed.
    BrokerPausedAndResumed,
    /// The processes of all brokers were killed.
    AllBrokersKilled,
    /// A client could not resolve the name of a broker.
    NamesUnavailable,
}

impl Sometimes {
    /// True if only a campaign of a thousand seeds reaches it.
    pub fn is_rare(self) -> bool {
        matches!(
            self,
            Sometimes::WorkerRefused
                | Sometimes::DamageFoundByVerify
                | Sometimes::DamageWithoutConsequence
                | Sometimes::CrashBetweenCountsAndSums
                | Sometimes::CrashBetweenSumsAndAlert
                | Sometimes::CrashBetweenAlertAndProgress
                | Sometimes::CrashBetweenRowsAndCounts
                | Sometimes::CrashBetweenCountsAndRows
                | Sometimes::CrashAtRegistration
                | Sometimes::CrashWhileReleasing
                | Sometimes::CrashAfterRows
                | Sometimes::CrashAtProgress
                | Sometimes::UnsyncedRecordsLost
                | Sometimes::CountPinnedWhileCacheFull
                | Sometimes::UncleanElection
                | Sometimes::MarkerLateInSecondPartition
                | Sometimes::ProducerFenced
                | Sometimes::OffsetNotAvailableAtStart
                | Sometimes::FetchOutOfRange
                | Sometimes::CoordinatorMovedInRebalance
                | Sometimes::MemberTooSlowInRebalance
        )
    }
}

impl fmt::Display for Sometimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.into())
    }
}

/// The faults of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultCounts {
    /// In the scenarios.
    pub planned: u64,
    /// Of these, how many began.
    pub begun: u64,
    /// Of these, how many had at least one effect.
    pub effective: u64,
    /// All effects.
    pub effects: u64,
}

/// How a request to the tables ended, as the worker knows it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumIter, IntoStaticStr, Serialize, Deserialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It was acknowledged.
    Acknowledged,
    /// Whether it was applied is unknown.
    Unknown,
    /// It was refused.
    Refused,
}

impl Ending {
    /// How a request with this outcome ended.
    pub fn of<T>(outcome: &Outcome<T>) -> Self {
        match outcome {
            Outcome::Acknowledged(_) => Ending::Acknowledged,
            Outcome::Unknown(_) => Ending::Unknown,
            Outcome::Refused(_) => Ending::Refused,
        }
    }
}

/// What happened in a run, or in many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    faults: BTreeMap<KindName, FaultCounts>,
    sometimes: BTreeMap<Sometimes, u64>,
    /// How the requests of each step ended.
    #[serde(with = "pairs")]
    endings: BTreeMap<(Step, Ending), u64>,
    /// The same, while a fault of a kind was active that had had an effect.
    #[serde(with = "pairs")]
    endings_during: BTreeMap<(KindName, Step, Ending), u64>,
    /// How often a fault had its first effect while another one, which had one before, was active: the other one's kind
    /// and its own.
    #[serde(with = "pairs")]
    overlaps: BTreeMap<(KindName, KindName), u64>,
    /// The faults of the current run that have had an effect.
    effective: BTreeSet<u64>,
    /// The faults of the current run that are active.
    active: BTreeMap<u64, KindName>,
}

/// Maps whose keys are no text, which JSON does not have: as lists of keys and values.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub fn deserialize<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<K, V>, D::Error> {
        Vec::deserialize(deserializer).map(|pairs: Vec<(K, V)>| pairs.into_iter().collect())
    }
}

impl Observed {
    /// Counts the faults of a scenario as planned.
    pub fn plan(&mut self, faults: &[Fault]) {
        for fault in faults {
            self.faults.entry(fault.name()).or_default().planned += 1;
        }
    }

    /// A fault began.
    pub fn begin(&mut self, fault: &Fault) {
        self.faults.entry(fault.name()).or_default().begun += 1;
        self.active.insert(fault.id, fault.name());
    }

    /// A fault ended.
    pub fn end(&mut self, id: u64) {
        self.active.remove(&id);
    }

    /// A fault had an effect.
    pub fn effect(&mut self, fault: &Fault) {
        let counts = self.faults.entry(fault.name()).or_default();
        counts.effects += 1;
        if self.effective.insert(fault.id) {
            counts.effective += 1;
            let others = self.active.iter().filter(|(id, _)| **id != fault.id && self.effective.contains(id));
            for (_, other) in others {
                *self.overlaps.entry((*other, fault.name())).or_default() += 1;
            }
        }
    }

    /// True if a fault of the current run has had an effect.
    pub fn had_effect(&self, id: u64) -> bool {
        self.effective.contains(&id)
    }

    /// Counts one.
    pub fn add(&mut self, situation: Sometimes) {
        *self.sometimes.entry(situation).or_default() += 1;
    }

    /// A request of a step ended.
    pub fn ended(&mut self, step: Step, ending: Ending) {
        *self.endings.entry((step, ending)).or_default() += 1;
        for (_, kind) in self.active.iter().filter(|(id, _)| self.effective.contains(id)) {
            *self.endings_during.entry((*kind, step, ending)).or_default() += 1;
        }
    }

    /// Adds all counts of another run.
    pub fn add_all(&mut self, other: &Observed) {
        for (kind, counts) in &other.faults {
            let sum = self.faults.entry(*kind).or_default();
            sum.planned += counts.planned;
            sum.begun += counts.begun;
            sum.effective += counts.effective;
            sum.effects += counts.effects;
        }
        for (situation, count) in &other.sometimes {
            *self.sometimes.entry(*situation).or_default() += count;
        }
        for (ended, count) in &other.endings {
            *self.endings.entry(*ended).or_default() += count;
        }
        for (ended, count) in &other.endings_during {
            *self.endings_during.entry(*ended).or_default() += count;
        }
        for (kinds, count) in &other.overlaps {
            *self.overlaps.entry(*kinds).or_default() += count;
        }
    }

    /// The faults of a kind.
    pub fn faults(&self, kind: KindName) -> FaultCounts {
        self.faults.get(&kind).copied().unwrap_or_default()
    }

    /// How often.
    pub fn count(&self, situation: Sometimes) -> u64 {
        self.sometimes.get(&situation).copied().unwrap_or_default()
    }

    /// How often requests of each step ended in each way.
    pub fn endings(&self) -> impl Iterator<Item = (Step, Ending, u64)> {
        self.endings.iter().map(|((step, ending), count)| (*step, *ending, *count))
    }

    /// The same, while a fault of a kind was active that had had an effect.
    pub fn endings_during(&self) -> impl Iterator<Item = (KindName, Step, Ending, u64)> {
        self.endings_during.iter().map(|((kind, step, ending), count)| (*kind, *step, *ending, *count))
    }

    /// How often a fault had its first effect while another one, which had one before, was active: the other one's kind,
    /// its own, and the number.
    pub fn overlaps(&self) -> impl Iterator<Item = (KindName, KindName, u64)> {
        self.overlaps.iter().map(|((other, kind), count)| (*other, *kind, *count))
    }
}

impl fmt::Display for Observed {
    /// A line for each kind of fault, and one for each situation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>8} {:>8} {:>9} {:>9}  fault", "planned", "begun", "effective", "effects")?;
        for (kind, FaultCounts { planned, begun, effective, effects }) in &self.faults {
            writeln!(f, "{planned:>8} {begun:>8} {effective:>9} {effects:>9}  {kind}")?;
        }
        for (situation, count) in &self.sometimes {
            writeln!(f, "{count:>8}  {situation}")?;
        }
        Ok(())
    }
}
