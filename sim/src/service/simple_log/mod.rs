//! The simulated broker: two services, one with the log and one with the group.
//!
//! They are separate so that a worker may be partitioned from its group and still read the log, as a consumer of the
//! real broker may: a zombie. The log has gaps and a start past 0, may report its end late, and returns any number of
//! records per fetch. The group moves a partition after its owner has released it; a member that is silent for too long,
//! or does not release a revoked partition in time, loses it. Not simulated: replicas, elections, transactions (except
//! for the gaps they leave), retention during the run.

use super::declaration::Declaration;
use crate::observed::Sometimes;
use crate::scenario::fault::{KindName, Step};

mod client;
pub(crate) mod group;
pub(crate) mod log;
mod request;
mod service;

pub use client::{BrokerClient, GroupMember};
pub(crate) use service::{serve_group, serve_log};

/// What can happen to the log, to the group, and to requests to any simple service.
pub(crate) const DECLARATION: Declaration = Declaration {
    faults: &[
        KindName::LinkCut,
        KindName::ServiceKilled,
        KindName::RequestsLost,
        KindName::RequestsDelayed,
        KindName::RequestsDuplicated,
        KindName::ResponsesLost,
        KindName::ErrorsReturned,
        KindName::PartitionAdded,
        KindName::GroupShuffled,
        KindName::LogEndLags,
        KindName::LogTrimmed,
    ],
    damage: &[
        KindName::LogTrimmedPastProgress,
        KindName::LogTruncated,
        KindName::TopicRecreated,
        KindName::TopicCompacted,
    ],
    steps: &[Step::Assigned, Step::Revoked, Step::Lost, Step::Released],
    situations: &[
        Sometimes::ZombieWriteAfterSuccessor,
        Sometimes::ResponseLost,
        Sometimes::PartitionReleased,
        Sometimes::PartitionTakenAway,
        Sometimes::PartitionLost,
        Sometimes::SessionExpired,
        Sometimes::StaleDelivery,
        Sometimes::LogEndWentBack,
    ],
};
