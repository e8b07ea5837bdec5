//! OffsetDelete, and the offsets of deleted topics.

use std::collections::BTreeSet;

use crate::coordinator::{Record, Token, Topics};
use crate::error::ErrorCode;
use crate::group::classic::State;
use crate::group::{Group, GroupShard, records};
use crate::protocol::messages::offset_delete_request::OffsetDeleteRequestTopic;
use crate::protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use crate::protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

impl GroupShard {
    pub(crate) fn offset_delete(&mut self, now: i64, token: Token, request: &OffsetDeleteRequest) {
        let group = request.group_id.as_str();
        if let Err(error) = self.validate_offset_delete(group) {
            let response = OffsetDeleteResponse::default().with_error_code(error.code());
            self.out.reply(token, response.into());
            return;
        }
        let mut records = Vec::new();
        let topic = |topic: &OffsetDeleteRequestTopic| {
            let subscribed = self.groups.get(group).is_some_and(|group| group.is_subscribed(&topic.name));
            let partitions = topic.partitions.iter().map(|partition| {
                let index = partition.partition_index;
                let result = if !self.topics.contains(&topic.name, index) {
                    Err(ErrorCode::UnknownTopicOrPartition)
                } else if subscribed {
                    Err(ErrorCode::GroupSubscribedToTopic)
                } else {
                    let at = (topic.name.to_string(), index);
                    if self.offsets.is_committed(group, &at) || self.offsets.is_open(group, &at) {
                        records.push(records::offset(group, &topic.name, index, None));
                    }
                    Ok(())
                };
                OffsetDeleteResponsePartition::default()
                    .with_partition_index(index)
                    .with_error_code(crate::coordinator::code(result))
            });
            OffsetDeleteResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        };
        let topics = request.topics.iter().map(topic).collect();
        self.write(now, records, None);
        self.out.reply(token, OffsetDeleteResponse::default().with_topics(topics).into());
    }

    fn validate_offset_delete(&self, group: &str) -> Result<(), ErrorCode> {
        if group.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        match self.groups.get(group) {
            // Members of unknown protocols may use any topic.
            Some(Group::Classic(group)) if group.state != State::Empty && !group.is_of_consumers() => {
                Err(ErrorCode::NonEmptyGroup)
            }
            Some(_) => Ok(()),
            None => Err(ErrorCode::GroupIdNotFound),
        }
    }

    /// Tombstones for all offsets of a group.
    pub(crate) fn delete_all_offsets(&self, group: &str) -> Vec<Record> {
        let partitions = self.offsets.partitions(group);
        partitions.iter().map(|(topic, partition)| records::offset(group, topic, *partition, None)).collect()
    }

    /// Tombstones for the offsets of topics that are gone, or were replaced by others of the same name.
    pub(crate) fn delete_offsets_of_deleted(&self, before: &Topics, after: &Topics) -> Vec<Record> {
        let gone = |(name, id): &(&str, uuid::Uuid)| after.id(name) != Some(*id);
        let topics: BTreeSet<&str> =
            before.iter().map(|(name, id, _)| (name, id)).filter(gone).map(|(name, _)| name).collect();
        let offsets = topics.into_iter().flat_map(|topic| self.offsets.of_topic(topic));
        offsets.map(|(group, (topic, partition))| records::offset(&group, &topic, partition, None)).collect()
    }
}
