//! The group epoch and the target assignment.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::assignors::{self, Spec};
use super::{ConsumerGroup, ConsumerMember, Partitions, hash_of, records};
use crate::coordinator::Record;
use crate::group::Assignor;
use crate::group::env::Env;

/// How long the topics of a group are taken to be unchanged, unless the metadata say otherwise
/// (`METADATA_REFRESH_INTERVAL_MS` of `GroupMetadataManager`), in milliseconds.
const REFRESH_INTERVAL: i64 = i32::MAX as i64;

impl ConsumerGroup {
    /// The members as they are with this change: `updated` added, and a static member whose place it takes removed.
    fn with<'a>(&'a self, updated: &'a ConsumerMember) -> BTreeMap<&'a str, &'a ConsumerMember> {
        let mut members: BTreeMap<&str, &ConsumerMember> =
            self.members.iter().map(|(id, member)| (id.as_str(), member)).collect();
        if let Some(previous) = updated.instance().and_then(|instance| self.static_members.get(instance)) {
            members.remove(previous.as_str());
        }
        members.insert(&updated.id, updated);
        members
    }

    /// Whether the topics have to be looked at again.
    pub(super) fn has_stale_metadata(&self, now: i64) -> bool {
        self.refresh.0 <= now || self.epoch < self.refresh.1
    }

    /// Begins a new epoch if that is asked for or topics have changed. The epoch of the group afterwards.
    pub(super) fn update_epoch(
        &mut self,
        env: &Env<'_>,
        bump: bool,
        updated: &ConsumerMember,
        records: &mut Vec<Record>,
    ) -> i32 {
        let names: BTreeSet<String> =
            self.with(updated).values().flat_map(|member| self.subscription(member)).collect();
        let hash = hash_of(env.topics, names);
        let mut epoch = self.epoch;
        if bump || hash != self.metadata_hash {
            epoch = epoch.wrapping_add(1);
            records.push(records::metadata(&self.id, epoch, hash));
        }
        self.refresh = (env.now.saturating_add(REFRESH_INTERVAL), epoch);
        epoch
    }

    /// The hash of the topics of the members that are left without some.
    pub(super) fn hash_without(&self, env: &Env<'_>, gone: &[&str]) -> i64 {
        let left = self.members.values().filter(|member| !gone.contains(&member.id.as_str()));
        hash_of(env.topics, left.flat_map(|member| self.subscription(member)))
    }

    /// Computes the target of an epoch, and returns that of the updated member.
    pub(super) fn update_target(
        &self,
        env: &Env<'_>,
        epoch: i32,
        updated: &ConsumerMember,
        records: &mut Vec<Record>,
    ) -> Partitions {
        let members = self.with(updated);
        let specs: BTreeMap<String, Spec> = members
            .iter()
            .map(|(id, member)| {
                let previous = member.instance().and_then(|instance| self.static_members.get(instance));
                let target = self.target.get(*id).or_else(|| previous.and_then(|id| self.target.get(id)));
                let ids = self.subscription(member).into_iter().filter_map(|name| env.topics.id(&name));
                let spec = Spec {
                    instance_id: member.value.instance_id.clone(),
                    topics: ids.collect(),
                    target: target.cloned().unwrap_or_default(),
                };
                ((*id).to_owned(), spec)
            })
            .collect();
        let topics: BTreeSet<Uuid> = specs.values().flat_map(|spec| spec.topics.iter().copied()).collect();
        let counts = topics.into_iter().map(|id| (id, env.topics.partitions_of(id).unwrap_or(0))).collect();
        let target = assignors::assign(self.assignor(env, &members), &specs, &counts);
        for id in specs.keys() {
            let new = target.get(id).cloned().unwrap_or_default();
            if self.target.get(id) != Some(&new) {
                records.push(records::target(&self.id, id, &new));
            }
        }
        records.push(records::target_metadata(&self.id, epoch));
        target.get(&updated.id).cloned().unwrap_or_default()
    }

    /// The assignor that most members ask for; or else the first of the broker's.
    fn assignor(&self, env: &Env<'_>, members: &BTreeMap<&str, &ConsumerMember>) -> Assignor {
        let default = env.config.consumer_assignors.first().copied().unwrap_or(Assignor::Uniform);
        let asked = members.values().filter_map(|member| member.value.assignor.as_deref());
        preferred(asked).and_then(Assignor::of).unwrap_or(default)
    }

    /// The name of the assignor, for its description.
    pub(crate) fn assignor_name(&self, default: Assignor) -> String {
        let asked = self.members.values().filter_map(|member| member.value.assignor.as_deref());
        preferred(asked).unwrap_or(default.name()).to_owned()
    }
}

fn preferred<'a>(asked: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in asked {
        *counts.entry(name).or_default() += 1;
    }
    let most = counts.values().copied().max()?;
    counts.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name)
}
