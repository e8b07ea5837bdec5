//! The names of faults: what is counted and printed, and what profiles choose from.

use std::fmt;
use std::hash::Hasher;

use fnv::FnvHasher;
use serde::{Deserialize, Serialize};
use simulated_hosts::{ClockFault, DiskFault, HostFault, LinkFault};
use strum::{EnumIter, IntoStaticStr};

use super::{Host, Kind, Target};
use crate::parties::Service;

/// Faults of a kind in a scenario, at most.
pub(crate) const FAULTS_OF_A_KIND: u64 = 12;

/// Ids of a kind of fault: a round number, so that an id shows which kind it is of, and which fault of it.
pub(super) const IDS_OF_A_KIND: u64 = 100;

/// Smaller ids are those of faults that are not drawn.
const FIRST_NUMBER: u64 = 10;

/// Ids have six digits at most.
const END_OF_NUMBERS: u64 = 10_000;

/// A kind of fault and of target, without their parameters. Their order is that of tables, and matters for nothing else.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumIter, IntoStaticStr, Serialize, Deserialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum KindName {
    /// A worker's process is killed at any await point, and restarted after the duration.
    WorkerKilled,
    /// A worker is paused, and then resumes as if no time had passed.
    WorkerPaused,
    /// A worker is paused at a point, until another worker passes one.
    WorkerHeld,
    /// A worker is asked to stop.
    WorkerStopped,
    /// The link between a worker and a simple service is cut.
    LinkCut,
    /// A simple service's process is killed with all requests in flight.
    ServiceKilled,
    /// Requests are lost before they are applied.
    RequestsLost,
    /// Requests are applied late, mostly after their client timed out.
    RequestsDelayed,
    /// Requests are applied a second time, later.
    RequestsDuplicated,
    /// Requests are applied, and their responses lost.
    ResponsesLost,
    /// Requests are not applied, and return an error.
    ErrorsReturned,
    /// Calls to the simple store are applied in part.
    CallsTorn,
    /// A partition is added to the topic.
    PartitionAdded,
    /// The group reassigns its partitions repeatedly.
    GroupShuffled,
    /// The log's end lags.
    LogEndLags,
    /// The store acknowledges a write and drops it.
    AcknowledgedWritesDropped,
    /// A node's process is killed.
    NodeKilled,
    /// The processes of all nodes are killed.
    AllNodesKilled,
    /// A node's host loses power.
    PowerLost,
    /// A node is paused.
    NodePaused,
    /// A node's process is killed after some writes.
    CoordinatorKilled,
    /// A write of a worker reaches at most one replica, and the worker is killed.
    WriteTorn,
    /// The link from one node to another is cut.
    ReplicaLinkCut,
    /// Messages between nodes are lost.
    ReplicaMessagesLost,
    /// Messages between nodes are delayed.
    ReplicaMessagesDelayed,
    /// Messages between nodes arrive twice.
    ReplicaMessagesDuplicated,
    /// The link between a worker and a node is cut.
    ClientLinkCut,
    /// The connections of a worker to a node are reset.
    ConnectionsReset,
    /// A node's clock is moved, and back after the duration.
    ClockStepped,
    /// A node's clock shows only multiples of some time.
    ClockCoarse,
    /// A broker's process is killed.
    BrokerKilled,
    /// The processes of all brokers are killed.
    AllBrokersKilled,
    /// A broker's host loses power.
    BrokerPowerLost,
    /// A broker is paused.
    BrokerPaused,
    /// A broker shuts down, and moves its leaders before.
    BrokerStopped,
    /// A broker leads no partition any more.
    LeadersMoved,
    /// A broker drops out of the in-sync sets.
    InSyncShrunk,
    /// Metadata reach a broker late.
    MetadataLags,
    /// A broker cannot read logs for consumers.
    ReadsFail,
    /// A broker's clock is moved, and back after the duration.
    BrokerClockStepped,
    /// The link from one broker to another is cut.
    BrokerLinkCut,
    /// Messages between brokers are lost.
    BrokerMessagesLost,
    /// Messages between brokers are delayed.
    BrokerMessagesDelayed,
    /// Messages between brokers arrive twice.
    BrokerMessagesDuplicated,
    /// The link between a worker and a broker is cut.
    ConsumerLinkCut,
    /// The connections of a worker to a broker are reset.
    ConsumerConnectionsReset,
    /// No name of a broker can be resolved.
    NamesUnavailable,
    /// A transaction is left open.
    TransactionOpen,
    /// A transaction is open that no producer knows.
    TransactionHangs,
    /// Retention deletes what is processed.
    LogTrimmed,
    /// A service does what it must not.
    Sabotaged,
    /// Retention deletes what is not processed.
    LogTrimmedPastProgress,
    /// The log's end is cut off.
    LogTruncated,
    /// The hosts of all brokers lose power.
    AllBrokersPowerLost,
    /// The topic is created again.
    TopicRecreated,
    /// The topic becomes compacted.
    TopicCompacted,
    /// A worker has another binding than the tables.
    WorkerMisconfigured,
    /// An operator deletes a row.
    RowsDeleted,
    /// A node gets an empty disk, and no repair.
    DiskWiped,
}

impl KindName {
    /// The name of a kind with a target; `None` if it cannot happen to that.
    pub fn of(kind: Kind, target: Target) -> Option<KindName> {
        Some(match (kind, target) {
            (Kind::Host(fault), Target::Host(Host::Broker(_))) => KindName::of_broker(fault),
            (Kind::Host(fault), Target::Host(host)) => match (fault, host) {
                (HostFault::Kill, Host::Service(_)) => KindName::ServiceKilled,
                (HostFault::Kill, Host::Node(_)) => KindName::NodeKilled,
                (HostFault::PowerLoss, Host::Node(_)) => KindName::PowerLost,
                (HostFault::Pause, Host::Node(_)) => KindName::NodePaused,
                (HostFault::Kill, worker) if worker.is_of_worker() => KindName::WorkerKilled,
                (HostFault::Pause, worker) if worker.is_of_worker() => KindName::WorkerPaused,
                (HostFault::Stop, worker) if worker.is_of_worker() => KindName::WorkerStopped,
                _ => return None,
            },
            (Kind::Clock(ClockFault::Step { .. }), Target::Host(Host::Broker(_))) => {
                KindName::BrokerClockStepped
            }
            (Kind::LeadersMoved, Target::Host(Host::Broker(_))) => KindName::LeadersMoved,
            (Kind::InSyncShrunk, Target::Host(Host::Broker(_))) => KindName::InSyncShrunk,
            (Kind::MetadataLags { .. }, Target::Host(Host::Broker(_))) => KindName::MetadataLags,
            (Kind::ReadsFail, Target::Host(Host::Broker(_))) => KindName::ReadsFail,
            (Kind::Host(HostFault::Kill), Target::AllBrokers) => KindName::AllBrokersKilled,
            (Kind::Host(HostFault::PowerLoss), Target::AllBrokers) => KindName::AllBrokersPowerLost,
            (Kind::Host(HostFault::Kill), Target::AllNodes) => KindName::AllNodesKilled,
            (Kind::Disk(DiskFault::Wipe), Target::Host(Host::Node(_))) => KindName::DiskWiped,
            (Kind::Clock(ClockFault::Step { .. }), Target::Host(Host::Node(_))) => KindName::ClockStepped,
            (Kind::Clock(ClockFault::Coarse { .. }), Target::Host(Host::Node(_))) => KindName::ClockCoarse,
            (Kind::CoordinatorKilled { .. }, Target::Host(Host::Node(_))) => KindName::CoordinatorKilled,
            (Kind::WorkerMisconfigured, Target::Host(worker)) if worker.is_of_worker() => {
                KindName::WorkerMisconfigured
            }
            (Kind::HeldUntil { .. }, Target::Host(worker)) if worker.is_of_worker() => KindName::WorkerHeld,
            (Kind::WriteTorn, Target::Host(worker)) if worker.is_of_worker() => KindName::WriteTorn,
            (Kind::Link(fault), target) => return KindName::of_link(fault, target),
            (Kind::ErrorsReturned { .. }, Target::Requests(_)) => KindName::ErrorsReturned,
            (Kind::CallsTorn { .. }, Target::Requests(Service::Store)) => KindName::CallsTorn,
            (kind, Target::Anyone) => return KindName::of_anyone(kind),
            _ => return None,
        })
    }

    fn of_broker(fault: HostFault) -> KindName {
        match fault {
            HostFault::Kill => KindName::BrokerKilled,
            HostFault::PowerLoss => KindName::BrokerPowerLost,
            HostFault::Pause => KindName::BrokerPaused,
            HostFault::Stop => KindName::BrokerStopped,
        }
    }

    fn of_link(fault: LinkFault, target: Target) -> Option<KindName> {
        Some(match (fault, target) {
            (LinkFault::Cut, Target::Link { from, to, .. }) => match (from, to) {
                (worker, Host::Service(_)) if worker.is_of_worker() => KindName::LinkCut,
                (worker, Host::Node(_)) if worker.is_of_worker() => KindName::ClientLinkCut,
                (Host::Node(_), Host::Node(_)) => KindName::ReplicaLinkCut,
                (worker, Host::Broker(_)) if worker.is_of_worker() => KindName::ConsumerLinkCut,
                (Host::Broker(_), Host::Broker(_)) => KindName::BrokerLinkCut,
                _ => return None,
            },
            (LinkFault::Reset, Target::Link { from, to: Host::Node(_), .. }) if from.is_of_worker() => {
                KindName::ConnectionsReset
            }
            (LinkFault::Reset, Target::Link { from, to: Host::Broker(_), .. }) if from.is_of_worker() => {
                KindName::ConsumerConnectionsReset
            }
            (LinkFault::Lose { .. }, Target::Brokers) => KindName::BrokerMessagesLost,
            (LinkFault::Delay { .. }, Target::Brokers) => KindName::BrokerMessagesDelayed,
            (LinkFault::Duplicate { .. }, Target::Brokers) => KindName::BrokerMessagesDuplicated,
            (LinkFault::Lose { .. }, Target::Requests(_)) => KindName::RequestsLost,
            (LinkFault::LoseResponses { .. }, Target::Requests(_)) => KindName::ResponsesLost,
            (LinkFault::Delay { .. }, Target::Requests(_)) => KindName::RequestsDelayed,
            (LinkFault::Duplicate { .. }, Target::Requests(_)) => KindName::RequestsDuplicated,
            (LinkFault::Lose { .. }, Target::Replicas) => KindName::ReplicaMessagesLost,
            (LinkFault::Delay { .. }, Target::Replicas) => KindName::ReplicaMessagesDelayed,
            (LinkFault::Duplicate { .. }, Target::Replicas) => KindName::ReplicaMessagesDuplicated,
            _ => return None,
        })
    }

    fn of_anyone(kind: Kind) -> Option<KindName> {
        Some(match kind {
            Kind::NamesUnavailable => KindName::NamesUnavailable,
            Kind::TransactionOpen => KindName::TransactionOpen,
            Kind::TransactionHangs => KindName::TransactionHangs,
            Kind::PartitionAdded => KindName::PartitionAdded,
            Kind::GroupShuffled { .. } => KindName::GroupShuffled,
            Kind::LogEndLags { .. } => KindName::LogEndLags,
            Kind::LogTrimmed => KindName::LogTrimmed,
            Kind::AcknowledgedWritesDropped { .. } => KindName::AcknowledgedWritesDropped,
            Kind::Sabotaged { .. } => KindName::Sabotaged,
            Kind::LogTrimmedPastProgress { .. } => KindName::LogTrimmedPastProgress,
            Kind::LogTruncated { .. } => KindName::LogTruncated,
            Kind::TopicRecreated => KindName::TopicRecreated,
            Kind::TopicCompacted { .. } => KindName::TopicCompacted,
            Kind::RowsDeleted { .. } => KindName::RowsDeleted,
            _ => return None,
        })
    }

    /// The number of its random stream, and of its faults' ids: a hash of the name, so that new kinds change no other's
    /// draws. Each kind has its own, which a test checks.
    pub(crate) fn number(self) -> u64 {
        let name: &str = self.into();
        let mut hasher = FnvHasher::default();
        hasher.write(name.as_bytes());
        FIRST_NUMBER + hasher.finish() % (END_OF_NUMBERS - FIRST_NUMBER)
    }

    /// The id of its nth drawn fault, from 0.
    pub(crate) fn id(self, nth: u64) -> u64 {
        self.number() * IDS_OF_A_KIND + nth
    }

    /// True if it kills, pauses or stops the worker.
    pub fn affects_process_of_worker(self) -> bool {
        matches!(
            self,
            KindName::WorkerKilled
                | KindName::WorkerPaused
                | KindName::WorkerHeld
                | KindName::WriteTorn
                | KindName::WorkerStopped
                | KindName::WorkerMisconfigured
        )
    }

    /// True if it needs a worker as its target.
    pub(super) fn needs_worker(self) -> bool {
        let link = matches!(
            self,
            KindName::LinkCut
                | KindName::ClientLinkCut
                | KindName::ConnectionsReset
                | KindName::ConsumerLinkCut
                | KindName::ConsumerConnectionsReset
        );
        link || self.affects_process_of_worker()
    }
}

impl fmt::Display for KindName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.into())
    }
}
