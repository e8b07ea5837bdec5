//! The faults of a scenario: one vocabulary for every service.
//!
//! A fault has an id, a trigger (a time, or a step of the protocol: "when the third write of counts was acknowledged by
//! the store and the worker does not know it yet"), a target and a duration. Its draws, when it is planned and while it is
//! active, come from a random stream of its own, so that the other faults of a scenario stay the same without it. A
//! correct pipeline survives every drawn fault; [`Kind::AcknowledgedWritesDropped`], which no client could survive, tests
//! the oracles and is never drawn, and so does [`Kind::Sabotaged`].
//!
//! Three more kinds, of the class *damage*, are more than a client can survive: they change the log or the tables in a way
//! that the pipeline must refuse, or that `verify` must find. They are drawn for runs of their own.

use std::fmt;

use serde::{Deserialize, Serialize};
use strum::{EnumDiscriminants, EnumIter, IntoEnumIterator, IntoStaticStr};

use crate::parties::Service;
use crate::random::{Random, Stream};
use crate::scenario::Tables;
use crate::scenario::cassandra::NODES;
use crate::scenario::mix::FaultMix;
use crate::scenario::options::RunOptions;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Its number in the scenario, and that of its random stream.
    pub id: u64,
    /// When it starts.
    pub trigger: Trigger,
    /// Which worker it affects, if any.
    pub target: Target,
    /// What happens.
    pub kind: Kind,
    /// How long it lasts from its first effect on, in simulated milliseconds.
    pub duration_ms: u64,
}

/// When a fault starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Trigger {
    /// At this time after the workers start.
    At {
        /// In simulated milliseconds.
        at_ms: u64,
    },
    /// When a worker reaches this point for the nth time, from 1, after the workers started; at the latest at this time.
    When {
        /// The point.
        point: Point,
        /// How often.
        nth: u64,
        /// In simulated milliseconds.
        latest_ms: u64,
    },
}

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
}

impl Step {
    /// True if a node of Cassandra takes it, otherwise a worker does.
    pub fn is_of_cassandra(self) -> bool {
        use Step::{Commit, HintKept, HintSent, Prepare, ReadRepair, ReplicaWrite};
        matches!(self, ReplicaWrite | HintKept | HintSent | ReadRepair | Prepare | Commit)
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

impl Point {
    /// All points that a worker can pass.
    pub fn all() -> impl Iterator<Item = Point> {
        Step::iter().filter(|step| !step.is_of_cassandra()).flat_map(|step| {
            let is_message = matches!(step, Step::Assigned | Step::Revoked | Step::Lost | Step::Released);
            let moments = Moment::iter().filter(move |moment| !is_message || *moment == Moment::Before);
            moments.map(move |moment| Point { step, moment })
        })
    }

    /// All points that the nodes of Cassandra can pass.
    pub fn of_cassandra() -> impl Iterator<Item = Point> {
        let steps = Step::iter().filter(|step| step.is_of_cassandra());
        steps.map(|step| Point { step, moment: Moment::Before })
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
    /// A repair changes nothing.
    RepairsSkipped,
}

/// Which worker a fault affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This one.
    Worker(u8),
    /// The one that reached the point.
    Triggering,
    /// None in particular.
    Anyone,
}

/// In which direction messages are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Both.
    Both,
    /// Requests are lost.
    Requests,
    /// Requests arrive, responses are lost.
    Responses,
}

/// What happens. Nodes of Cassandra are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, EnumDiscriminants)]
#[serde(rename_all = "snake_case")]
#[strum_discriminants(
    name(KindName),
    doc = "A kind of fault, without its parameters.",
    derive(PartialOrd, Ord, Hash, EnumIter, IntoStaticStr, Serialize, Deserialize),
    strum(serialize_all = "snake_case"),
    serde(rename_all = "snake_case")
)]
pub enum Kind {
    /// The worker's process is killed at any await point, and restarted after the duration.
    WorkerKilled,
    /// The worker is paused, and then resumes as if no time had passed.
    WorkerPaused,
    /// The worker is asked to stop, and restarted when it has stopped and the duration is over.
    WorkerStopped,
    /// The link between the worker and a simple service is cut.
    LinkCut {
        /// The service.
        service: Service,
        /// In which direction.
        direction: Direction,
    },
    /// A simple service's process is killed with all requests in flight, and restarted after the duration.
    ServiceKilled {
        /// The service.
        service: Service,
    },
    /// Requests are lost before they are applied.
    RequestsLost {
        /// By this service.
        service: Service,
        /// How many.
        per_mille: u64,
    },
    /// Requests are applied late, mostly after their client timed out.
    RequestsDelayed {
        /// By this service.
        service: Service,
        /// How many.
        per_mille: u64,
        /// Maximum delay in milliseconds.
        up_to_ms: u64,
    },
    /// Requests are applied a second time, later.
    RequestsDuplicated {
        /// By this service.
        service: Service,
        /// How many.
        per_mille: u64,
        /// Maximum delay in milliseconds.
        up_to_ms: u64,
    },
    /// Requests are applied, and their responses lost.
    ResponsesLost {
        /// By this service.
        service: Service,
        /// How many.
        per_mille: u64,
    },
    /// Requests are not applied, and return an error that does not say so.
    ErrorsReturned {
        /// By this service.
        service: Service,
        /// How many.
        per_mille: u64,
    },
    /// Calls to the simple store are applied in part and return an error.
    CallsTorn {
        /// How many.
        per_mille: u64,
    },
    /// A partition is added to the topic.
    PartitionAdded,
    /// The group reassigns its partitions repeatedly.
    GroupShuffled {
        /// Time between two reassignments, in milliseconds.
        every_ms: u64,
    },
    /// Readers see the log's end as it was when the fault started, as after an election.
    LogEndLags,
    /// The store acknowledges a write and drops it. Never drawn: the oracles must find it.
    AcknowledgedWritesDropped {
        /// How many.
        per_mille: u64,
    },
    /// A node's process is killed, and restarted after the duration.
    NodeKilled {
        /// The node.
        node: u8,
    },
    /// The processes of all nodes are killed.
    AllNodesKilled,
    /// A node's host loses power, and regains it after the duration.
    PowerLost {
        /// The node.
        node: u8,
    },
    /// A node is paused, and then resumes.
    NodePaused {
        /// The node.
        node: u8,
    },
    /// A node's process is killed when it has sent this many writes to replicas, from the trigger on.
    CoordinatorKilled {
        /// The node.
        node: u8,
        /// How many writes.
        writes: u64,
    },
    /// The link from one node to another is cut.
    ReplicaLinkCut {
        /// The node that sends.
        from: u8,
        /// The node that does not receive.
        to: u8,
    },
    /// Messages between nodes are lost.
    ReplicaMessagesLost {
        /// How many.
        per_mille: u64,
    },
    /// Messages between nodes are delayed.
    ReplicaMessagesDelayed {
        /// How many.
        per_mille: u64,
        /// Maximum delay in milliseconds.
        up_to_ms: u64,
    },
    /// Messages between nodes arrive twice.
    ReplicaMessagesDuplicated {
        /// How many.
        per_mille: u64,
    },
    /// The link between the worker and a node is cut.
    ClientLinkCut {
        /// The node.
        node: u8,
        /// In which direction.
        direction: Direction,
    },
    /// The connections of the worker to a node are reset.
    ConnectionsReset {
        /// The node.
        node: u8,
    },
    /// A node's clock is moved, and back after the duration.
    ClockStepped {
        /// The node.
        node: u8,
        /// By how many milliseconds.
        by_ms: i64,
    },
    /// A node's clock shows only multiples of some time.
    ClockCoarse {
        /// The node.
        node: u8,
        /// The time, in milliseconds.
        step_ms: i64,
    },
    /// Retention deletes every record below acknowledged progress, once.
    LogTrimmed,
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
    TopicCompacted,
    /// The worker is started with another threshold than the tables are bound to. Damage.
    WorkerMisconfigured,
    /// An operator deletes a row, with a wall-clock timestamp. Damage.
    RowsDeleted {
        /// Of which table.
        table: DeletedFrom,
    },
    /// A node gets an empty disk, and no repair. Damage.
    DiskWiped {
        /// The node.
        node: u8,
    },
    // A kind's place determines its random stream: new ones come last.
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

/// Maximum delay of a request, in milliseconds; a run waits at least this long after all faults have ended.
pub const LONGEST_DELAY_MS: u64 = 8_000;

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

/// Faults of a kind in a scenario, at most.
pub(crate) const FAULTS_OF_A_KIND: u64 = 12;

impl KindName {
    /// The kinds that are drawn for runs with these tables.
    pub fn drawn(tables: &Tables) -> impl Iterator<Item = KindName> + use<> {
        let simple = matches!(tables, Tables::Simple);
        KindName::iter().filter(move |kind| match kind {
            KindName::AcknowledgedWritesDropped | KindName::Sabotaged => false,
            KindName::CallsTorn => simple,
            kind if kind.is_damage() => false,
            kind if kind.is_of_cassandra() => !simple,
            _ => true,
        })
    }

    /// True for faults of nodes of Cassandra, and of their links and clocks.
    pub fn is_of_cassandra(self) -> bool {
        use KindName::{
            AllNodesKilled, ClientLinkCut, ClockCoarse, ClockStepped, ConnectionsReset, CoordinatorKilled,
            DiskWiped, NodeKilled, NodePaused, PowerLost, ReplicaLinkCut, ReplicaMessagesDelayed,
            ReplicaMessagesDuplicated, ReplicaMessagesLost, RowsDeleted,
        };
        matches!(
            self,
            NodeKilled
                | AllNodesKilled
                | PowerLost
                | NodePaused
                | CoordinatorKilled
                | ReplicaLinkCut
                | ReplicaMessagesLost
                | ReplicaMessagesDelayed
                | ReplicaMessagesDuplicated
                | ClientLinkCut
                | ConnectionsReset
                | ClockStepped
                | ClockCoarse
                | DiskWiped
                | RowsDeleted
        )
    }

    /// True if no client can survive it: the pipeline must refuse to continue, or `verify` must find it.
    pub fn is_damage(self) -> bool {
        use KindName::{
            DiskWiped, LogTrimmedPastProgress, LogTruncated, RowsDeleted, TopicCompacted, TopicRecreated,
            WorkerMisconfigured,
        };
        matches!(
            self,
            LogTrimmedPastProgress
                | LogTruncated
                | TopicRecreated
                | TopicCompacted
                | WorkerMisconfigured
                | RowsDeleted
                | DiskWiped
        )
    }

    /// The kinds of damage that can be done to runs with these tables. A power loss is one, too, where acknowledged writes
    /// are not synced.
    pub fn damage(tables: &Tables) -> impl Iterator<Item = KindName> + use<> {
        let (simple, unsynced) = match tables {
            Tables::Simple => (true, false),
            Tables::Cassandra(cluster) => (false, !cluster.synced_first),
        };
        KindName::iter().filter(move |kind| match kind {
            KindName::RowsDeleted | KindName::DiskWiped => !simple,
            KindName::PowerLost => unsynced,
            kind => kind.is_damage(),
        })
    }

    /// True if it kills, pauses or stops the worker.
    pub fn affects_process_of_worker(self) -> bool {
        matches!(
            self,
            KindName::WorkerKilled
                | KindName::WorkerPaused
                | KindName::WorkerStopped
                | KindName::WorkerMisconfigured
        )
    }

    /// True if it needs a worker as its target.
    fn needs_worker(self) -> bool {
        let link = matches!(self, KindName::LinkCut | KindName::ClientLinkCut | KindName::ConnectionsReset);
        link || self.affects_process_of_worker()
    }
}

impl fmt::Display for KindName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.into())
    }
}

impl Kind {
    /// The kind without its parameters.
    pub fn name(self) -> KindName {
        self.into()
    }

    /// How often it affects what it may affect, for faults that do so at random.
    pub(crate) fn rate(mut self) -> Option<u64> {
        self.rate_mut().copied()
    }

    /// The same, to be changed.
    pub(crate) fn rate_mut(&mut self) -> Option<&mut u64> {
        match self {
            Kind::RequestsLost { per_mille, .. }
            | Kind::RequestsDelayed { per_mille, .. }
            | Kind::RequestsDuplicated { per_mille, .. }
            | Kind::ResponsesLost { per_mille, .. }
            | Kind::ErrorsReturned { per_mille, .. }
            | Kind::CallsTorn { per_mille }
            | Kind::ReplicaMessagesLost { per_mille }
            | Kind::ReplicaMessagesDelayed { per_mille, .. }
            | Kind::ReplicaMessagesDuplicated { per_mille } => Some(per_mille),
            _ => None,
        }
    }

    /// The node whose process or host it stops or pauses.
    pub(crate) fn affects_process_of_node(self) -> Option<u8> {
        match self {
            Kind::NodeKilled { node }
            | Kind::PowerLost { node }
            | Kind::NodePaused { node }
            | Kind::DiskWiped { node } => Some(node),
            _ => None,
        }
    }

    fn draw(random: &mut Random, name: KindName, tables: &Tables) -> Self {
        let service = match tables {
            Tables::Simple => {
                random.pick(&[Service::Store, Service::Store, Service::Log, Service::Coordinator])
            }
            Tables::Cassandra(_) => random.pick(&[Service::Log, Service::Coordinator]),
        };
        let per_mille = random.log_uniform(30..=700);
        let up_to_ms = random.log_uniform(30..=LONGEST_DELAY_MS);
        let direction =
            random.pick(&[Direction::Both, Direction::Both, Direction::Requests, Direction::Responses]);
        let nodes = match tables {
            Tables::Simple => NODES,
            Tables::Cassandra(cluster) => cluster.nodes(),
        };
        let node = random.below(nodes.into()) as u8;
        let other = (node + 1 + random.below(u64::from(nodes) - 1) as u8) % nodes;
        match name {
            KindName::WorkerKilled => Kind::WorkerKilled,
            KindName::WorkerPaused => Kind::WorkerPaused,
            KindName::WorkerStopped => Kind::WorkerStopped,
            KindName::LinkCut => Kind::LinkCut { service, direction },
            KindName::ServiceKilled => Kind::ServiceKilled { service },
            KindName::RequestsLost => Kind::RequestsLost { service, per_mille },
            KindName::RequestsDelayed => Kind::RequestsDelayed { service, per_mille, up_to_ms },
            KindName::RequestsDuplicated => Kind::RequestsDuplicated { service, per_mille, up_to_ms },
            KindName::ResponsesLost => Kind::ResponsesLost { service, per_mille },
            KindName::ErrorsReturned => Kind::ErrorsReturned { service, per_mille },
            KindName::CallsTorn => Kind::CallsTorn { per_mille },
            KindName::PartitionAdded => Kind::PartitionAdded,
            KindName::GroupShuffled => Kind::GroupShuffled { every_ms: random.log_uniform(20..=1_000) },
            KindName::LogEndLags => Kind::LogEndLags,
            KindName::LogTrimmed => Kind::LogTrimmed,
            KindName::AcknowledgedWritesDropped => Kind::AcknowledgedWritesDropped { per_mille },
            KindName::NodeKilled => Kind::NodeKilled { node },
            KindName::AllNodesKilled => Kind::AllNodesKilled,
            KindName::PowerLost => Kind::PowerLost { node },
            KindName::NodePaused => Kind::NodePaused { node },
            KindName::CoordinatorKilled => {
                Kind::CoordinatorKilled { node, writes: random.log_uniform(1..=20) }
            }
            KindName::ReplicaLinkCut => Kind::ReplicaLinkCut { from: node, to: other },
            KindName::ReplicaMessagesLost => Kind::ReplicaMessagesLost { per_mille },
            KindName::ReplicaMessagesDelayed => {
                Kind::ReplicaMessagesDelayed { per_mille, up_to_ms: random.log_uniform(10..=4_000) }
            }
            KindName::ReplicaMessagesDuplicated => Kind::ReplicaMessagesDuplicated { per_mille },
            KindName::ClientLinkCut => Kind::ClientLinkCut { node, direction },
            KindName::ConnectionsReset => Kind::ConnectionsReset { node },
            KindName::ClockStepped => {
                let by_ms = random.log_uniform(1..=3_600_000) as i64;
                Kind::ClockStepped { node, by_ms: if random.coin() { by_ms } else { -by_ms } }
            }
            KindName::ClockCoarse => {
                Kind::ClockCoarse { node, step_ms: random.log_uniform(1..=2_000) as i64 }
            }
            KindName::Sabotaged => {
                let all: Vec<Sabotage> = Sabotage::iter().collect();
                Kind::Sabotaged { how: random.pick(&all), per_mille }
            }
            KindName::LogTrimmedPastProgress => {
                Kind::LogTrimmedPastProgress { records: random.log_uniform(1..=20) }
            }
            KindName::LogTruncated => Kind::LogTruncated { offsets: random.log_uniform(1..=40) },
            KindName::TopicRecreated => Kind::TopicRecreated,
            KindName::TopicCompacted => Kind::TopicCompacted,
            KindName::WorkerMisconfigured => Kind::WorkerMisconfigured,
            KindName::RowsDeleted => {
                let all: Vec<DeletedFrom> = DeletedFrom::iter().collect();
                Kind::RowsDeleted { table: random.pick(&all) }
            }
            KindName::DiskWiped => Kind::DiskWiped { node },
        }
    }
}

impl Fault {
    /// The ids from this on are those of faults that are not drawn.
    pub const ADDED: u64 = 999;

    /// The faults of a seed: each kind is enabled, or not, with log-uniform numbers.
    pub(crate) fn draw_all(seed: u64, options: &RunOptions, tables: &Tables, mix: &FaultMix) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (kind, name) in (0..).zip(KindName::iter()) {
            let first = kind * FAULTS_OF_A_KIND;
            let random = &mut Random::new(seed, Stream::Kind(kind));
            let (is_enabled, count) = (mix.enables(name, random), random.log_uniform(1..=FAULTS_OF_A_KIND));
            let powerless = name == KindName::PowerLost
                && matches!(tables, Tables::Cassandra(cluster) if !cluster.synced_first);
            if is_enabled && !powerless && KindName::drawn(tables).any(|drawn| drawn == name) {
                // A worker that is down cannot be killed, the log lags or does not; and each fault of Cassandra costs time.
                let exclusive = name.affects_process_of_worker() || name == KindName::LogEndLags;
                let count = match (exclusive, name.is_of_cassandra()) {
                    (true, _) => count.div_ceil(4),
                    (_, true) => count.div_ceil(2),
                    _ => count,
                };
                let ids = first..first + mix.number(count);
                faults.extend(ids.map(|id| Fault::draw(seed, id, options, tables, name)));
            }
        }
        faults
    }

    /// A fault of the class damage, beside the other faults of a scenario.
    pub(crate) fn draw_damage(seed: u64, options: &RunOptions, tables: &Tables) -> Fault {
        let kinds: Vec<KindName> = KindName::damage(tables).collect();
        let id = FAULTS_OF_A_KIND * KindName::iter().count() as u64;
        let name = Random::new(seed, Stream::Kind(id)).pick(&kinds);
        Fault::draw(seed, id, options, tables, name)
    }

    fn draw(seed: u64, id: u64, options: &RunOptions, tables: &Tables, name: KindName) -> Self {
        let random = &mut Random::new(seed, Stream::Fault(id));
        let kind = Kind::draw(random, name, tables);
        let all: Vec<Point> = Point::all().collect();
        let (point, nth) = (random.pick(&all), random.log_uniform(1..=24));
        let (point_of_batch, nth_of_batch) = (random.pick(&POINTS_OF_A_BATCH), random.log_uniform(1..=8));
        // Early enough that it has an effect.
        let at_ms = random.below(options.chaos_ms * 7 / 10 + 1);
        let of_cluster: Vec<Point> = match tables {
            Tables::Simple => Vec::new(),
            Tables::Cassandra(_) => Point::of_cassandra().collect(),
        };
        let at_cluster = (!of_cluster.is_empty() && random.below(3) == 0).then(|| random.pick(&of_cluster));
        let nth_at_cluster = random.log_uniform(1..=200);
        let (point, nth) = at_cluster.map_or((point, nth), |point| (point, nth_at_cluster));
        let trigger = match random.below(10) {
            0..4 => Trigger::At { at_ms },
            4..8 if name.affects_process_of_worker() => {
                let latest_ms = options.chaos_ms * 9 / 10;
                Trigger::When { point: point_of_batch, nth: nth_of_batch, latest_ms }
            }
            _ => Trigger::When { point, nth, latest_ms: at_ms },
        };
        let worker = random.below(options.workers.into()) as u8;
        let target = match (name.needs_worker(), trigger) {
            (false, _) => Target::Anyone,
            (true, Trigger::When { .. }) => Target::Triggering,
            (true, Trigger::At { .. }) => Target::Worker(worker),
        };
        // A run that spends its time with nothing running finds nothing.
        let longest_ms = match tables {
            // Up to twice the hint window.
            Tables::Cassandra(cluster) if name.is_of_cassandra() => (2 * cluster.hint_window_ms).min(8_000),
            // Around the session timeout, below and above.
            _ if name.needs_worker() => options.session_timeout_ms * 3,
            _ => 4_000,
        };
        let duration_ms = random.log_uniform(20..=longest_ms.min(options.chaos_ms / 4));
        Self { id, trigger, target, kind, duration_ms }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { id, trigger, target, kind, duration_ms } = self;
        write!(f, "{id:>3}  {trigger:?}  {target:?}  {kind:?}  for {duration_ms} ms")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::scenario::Scenario;
    use crate::scenario::World;
    use crate::scenario::profile::Profile;

    #[test]
    fn the_scenarios_of_many_seeds_have_every_kind_and_every_point_and_no_store_that_drops_writes() {
        for world in World::iter() {
            let scenarios = (0..300).map(|seed| Scenario::draw(seed, world, Profile::Standard));
            let mut faults: Vec<Fault> = Vec::new();
            let mut expected: BTreeSet<KindName> = BTreeSet::new();
            for scenario in scenarios {
                expected.extend(KindName::drawn(&scenario.tables));
                faults.extend(scenario.faults);
            }
            let drawn: BTreeSet<KindName> = faults.iter().map(|fault| fault.kind.name()).collect();
            assert_eq!(drawn, expected);
            for point in Point::all() {
                let at =
                    |fault: &Fault| matches!(fault.trigger, Trigger::When { point: p, .. } if p == point);
                assert!(faults.iter().any(at), "{point:?}");
            }
        }
    }

    #[test]
    fn a_kind_that_is_not_drawn_changes_no_other_fault() {
        let with: Vec<Fault> = (0..100)
            .flat_map(|seed| Scenario::draw(seed, World::Cassandra, Profile::Standard).faults)
            .filter(|fault| fault.kind.name() == KindName::WorkerKilled)
            .collect();
        assert!(!with.is_empty());
        let ids: BTreeSet<u64> = with.iter().map(|fault| fault.id).collect();
        assert!(ids.iter().all(|id| *id < FAULTS_OF_A_KIND));
    }
}
