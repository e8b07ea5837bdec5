//! What an observer learns of groups.

use std::collections::{BTreeMap, BTreeSet};

use super::classic::{ClassicGroup, Member};
use super::env::Env;
use super::records::{self, Entry};
use super::subscription::Named;
use super::{Group, GroupShard, subscription};
use crate::cluster::observe::{Event, GroupProtocol, Observed, Removal};
use crate::coordinator::Record;

/// The state of a group without members that is deleted.
const DEAD: &str = "Dead";

/// What of a group is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    protocol: GroupProtocol,
    state: &'static str,
    epoch: i32,
    members: BTreeSet<String>,
}

impl Summary {
    fn of(group: &Group) -> Self {
        match group {
            Group::Classic(group) => Self {
                protocol: GroupProtocol::Classic,
                state: group.state.name(),
                epoch: group.generation,
                members: group.members.keys().cloned().collect(),
            },
            Group::Consumer(group) => Self {
                protocol: GroupProtocol::Consumer,
                state: group.state().name(),
                epoch: group.epoch,
                members: group.members.keys().cloned().collect(),
            },
        }
    }

    fn is_same_state(&self, other: &Self) -> bool {
        (self.protocol, self.state, self.epoch) == (other.protocol, other.state, other.epoch)
    }
}

/// The groups of records, as they are before these are taken; none for those that are not there.
pub(super) type Summaries = BTreeMap<String, Option<Summary>>;

impl GroupShard {
    /// The groups of records, if there is an observer.
    pub(super) fn summaries(&self, records: &[Record]) -> Summaries {
        let mut summaries = Summaries::new();
        if !self.observed.is_on() {
            return summaries;
        }
        for record in records {
            if let Ok(Some(Entry::Group { group, .. } | Entry::Consumer { group, .. })) =
                records::read(record)
            {
                let summary = self.groups.get(&group).map(Summary::of);
                summaries.insert(group, summary);
            }
        }
        summaries
    }

    /// Reports what is different from before. Members were removed for this reason.
    pub(super) fn see_changes(&self, before: &Summaries, why: Removal) {
        for (id, before) in before {
            let group = self.groups.get(id);
            let after = group.map(Summary::of);
            let (was, is) = (before.as_ref(), after.as_ref());
            let members = |summary: Option<&Summary>| summary.map(|summary| summary.members.clone());
            let (had, has) = (members(was).unwrap_or_default(), members(is).unwrap_or_default());
            had.difference(&has).for_each(|member| see_removed(&self.observed, id, member, why));
            if let Some(Group::Consumer(group)) = group {
                for member in has.difference(&had).filter_map(|member| group.members.get(member)) {
                    let (instance, client_id) = (member.instance(), member.value.client_id.as_str());
                    see_joined(&self.observed, id, &member.id, instance, client_id);
                }
            }
            match (was, is) {
                (Some(was), Some(is)) if was.is_same_state(is) => {}
                (Some(was), None) => {
                    let (protocol, epoch) = (was.protocol, was.epoch);
                    self.observed.see(|broker| Event::GroupChanged {
                        broker,
                        group: id,
                        protocol,
                        state: DEAD,
                        epoch,
                        members: 0,
                    });
                }
                (_, Some(is)) => is.see(&self.observed, id),
                (None, None) => {}
            }
        }
    }
}

impl Summary {
    fn see(&self, observed: &Observed, group: &str) {
        observed.see(|broker| Event::GroupChanged {
            broker,
            group,
            protocol: self.protocol,
            state: self.state,
            epoch: self.epoch,
            members: self.members.len(),
        });
    }
}

impl ClassicGroup {
    /// Reports the state that the group has now.
    pub(super) fn see_state(&self, env: &Env<'_>) {
        env.observed.see(|broker| Event::GroupChanged {
            broker,
            group: &self.id,
            protocol: GroupProtocol::Classic,
            state: self.state.name(),
            epoch: self.generation,
            members: self.members.len(),
        });
    }

    /// Reports a member that has joined.
    pub(super) fn see_joined(&self, env: &Env<'_>, member: &Member) {
        let instance = member.instance_id.as_deref();
        see_joined(env.observed, &self.id, &member.id, instance, &member.client_id);
    }

    /// Reports a member that is not in the group any more.
    pub(super) fn see_removed(&self, env: &Env<'_>, id: &str, why: Removal) {
        see_removed(env.observed, &self.id, id, why);
    }

    /// Reports the assignment that a member gets, if it can be read.
    pub(super) fn see_assignment(&self, env: &Env<'_>, id: &str) {
        let Some(member) = self.members.get(id).filter(|_| env.observed.is_on() && self.is_of_consumers())
        else {
            return;
        };
        if let Ok(read) = subscription::read_assignment(&member.assignment) {
            see_assignment(env.observed, &self.id, id, self.generation, &read.partitions);
        }
    }
}

/// Reports what a member says that it has.
pub(super) fn see_ownership(
    observed: &Observed,
    group: &str,
    member: &str,
    partitions: &Named,
    is_full: bool,
) {
    observed.see(|broker| Event::OwnershipReported { broker, group, member, partitions, is_full });
}

pub(super) fn see_removed(observed: &Observed, group: &str, member: &str, why: Removal) {
    observed.see(|broker| Event::MemberRemoved { broker, group, member, why });
}

fn see_joined(observed: &Observed, group: &str, member: &str, instance: Option<&str>, client_id: &str) {
    observed.see(|broker| Event::MemberJoined { broker, group, member, instance, client_id });
}

/// Reports the assignment that a member gets.
pub(super) fn see_assignment(observed: &Observed, group: &str, member: &str, epoch: i32, partitions: &Named) {
    observed.see(|broker| Event::AssignmentSent { broker, group, member, epoch, partitions });
}
