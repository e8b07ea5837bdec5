//! From the classic protocol to `consumer`: a member with the new protocol joins a classic group.

use bytes::Bytes;

use super::heartbeat::{Refused, refused};
use super::member::ClassicMetadata;
use super::records::{self, MemberValue, collect};
use super::{ConsumerGroup, ConsumerMember, Partitions, hash_of};
use crate::coordinator::{Record, RecordError, Topics};
use crate::error::ErrorCode;
use crate::group::classic::{ClassicGroup, Member};
use crate::group::env::Env;
use crate::group::{Group, subscription};

impl ConsumerGroup {
    /// The same group in the new protocol: its members go on in the classic one, with what they were assigned.
    pub(super) fn upgrade(
        env: &mut Env<'_>,
        classic: &mut ClassicGroup,
        records: &mut Vec<Record>,
    ) -> Result<Self, Refused> {
        let id = classic.id.clone();
        let id = id.as_str();
        let cannot = |why: &str| {
            let why = format!("Cannot upgrade classic group {id} to consumer group because {why}.");
            refused(ErrorCode::GroupIdNotFound, why)
        };
        if !env.config.consumer_migration_policy.upgrades() {
            return cannot("online upgrade is disabled");
        }
        if !classic.is_of_consumers() {
            return cannot("the group does not use the consumer embedded protocol");
        }
        if classic.members.len() > env.config.consumer_max_size {
            return cannot("the group size exceeds the consumer group maximum size");
        }
        // Those who wait come again, whatever becomes of it.
        classic.upgraded(env);
        // Kafka has no name for this error either.
        let unexpected = || refused(ErrorCode::UnknownServerError, ErrorCode::UnknownServerError.to_string());
        let mut group = Self::new(id);
        group.timers = std::mem::take(&mut classic.consumer_timers).after(env.now);
        (group.epoch, group.assignment_epoch) = (classic.generation, classic.generation);
        for member in classic.members.values() {
            let Ok(read) = subscription::read_assignment(&member.assignment) else {
                return cannot("the embedded consumer protocol is malformed");
            };
            if read.has_user_data {
                return cannot("an unsupported custom assignor is in use");
            }
            let assigned = ids(env.topics, &read.partitions);
            // Before the first generation there is no protocol, and later a member may have given it up.
            let Some(metadata) = classic.protocol.as_deref().and_then(|name| member.metadata(name)) else {
                return unexpected();
            };
            let Ok(upgraded) = upgraded(classic, member, &metadata, assigned.clone()) else {
                return cannot("the embedded consumer protocol is malformed");
            };
            group.target.insert(member.id.clone(), assigned);
            group.timers.sessions.insert(member.id.clone(), env.after_ms(member.session_timeout));
            group.put(upgraded);
        }
        let names = group.members.values().flat_map(|member| group.subscription(member));
        group.metadata_hash = hash_of(env.topics, names.collect::<Vec<_>>());
        records.extend(Group::classic_tombstone(id));
        records.extend(group.members.values().map(|member| records::member(id, member)));
        records.push(records::metadata(id, group.epoch, group.metadata_hash));
        records.extend(group.target.iter().map(|(member, target)| records::target(id, member, target)));
        records.push(records::target_metadata(id, group.epoch));
        records.extend(group.members.values().map(|member| records::current(id, member)));
        Ok(group)
    }
}

fn upgraded(
    classic: &ClassicGroup,
    member: &Member,
    metadata: &Bytes,
    assigned: Partitions,
) -> Result<ConsumerMember, RecordError> {
    let subscription = subscription::read(metadata)?;
    let mut upgraded = ConsumerMember::new(&member.id);
    (upgraded.epoch, upgraded.previous_epoch) = (classic.generation, classic.generation);
    upgraded.assigned = assigned;
    upgraded.value = MemberValue {
        instance_id: member.instance_id.clone(),
        rack_id: subscription.rack,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        topics: subscription.topics,
        regex: None,
        rebalance_timeout: member.rebalance_timeout,
        assignor: None,
        classic: Some(ClassicMetadata {
            session_timeout: member.session_timeout,
            protocols: member.protocols.clone(),
        }),
    };
    Ok(upgraded)
}

/// Partitions by topic id; those of unknown topics are left out.
pub(super) fn ids(topics: &Topics, partitions: &subscription::Named) -> Partitions {
    let known = partitions.iter().filter_map(|(name, all)| topics.id(name).map(|id| (id, all)));
    collect(known.flat_map(|(id, all)| all.iter().map(move |partition| (id, *partition))))
}

/// Partitions by topic name; those of unknown topics are left out.
pub(super) fn names(topics: &Topics, partitions: &Partitions) -> subscription::Named {
    let known =
        partitions.iter().filter_map(|(id, all)| topics.name(*id).map(|name| (name.to_owned(), all.clone())));
    known.collect()
}
