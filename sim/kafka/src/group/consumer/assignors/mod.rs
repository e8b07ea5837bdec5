//! The server-side assignors: from members and topics to a target assignment.

mod range;
mod sticky;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::Partitions;
use crate::group::Assignor;

/// A member as an assignor sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spec {
    pub(crate) instance_id: Option<String>,
    /// Topics that exist.
    pub(crate) topics: BTreeSet<Uuid>,
    /// The target so far.
    pub(crate) target: Partitions,
}

/// The new target of each member; members without partitions are not in it. `counts` are the numbers of partitions of
/// all topics that members are subscribed to.
pub(crate) fn assign(
    assignor: Assignor,
    members: &BTreeMap<String, Spec>,
    counts: &BTreeMap<Uuid, i32>,
) -> BTreeMap<String, Partitions> {
    let mut subscriptions = members.values().map(|spec| &spec.topics);
    let first = subscriptions.next();
    let same = subscriptions.all(|topics| Some(topics) == first);
    match (assignor, first) {
        (_, None) => BTreeMap::new(),
        (Assignor::Range, _) => range::assign(members, counts),
        (Assignor::Uniform, Some(topics)) if same => uniform::assign(members, topics, counts),
        (Assignor::Uniform, _) => sticky::assign(members, counts),
    }
}
