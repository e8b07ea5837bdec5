//! OffsetFetch.

use super::{Offsets, Partition};
use crate::coordinator::{Context, Token};
use crate::error::ErrorCode;
use crate::group::env::text;
use crate::group::{Group, GroupRequest, GroupShard};
use crate::protocol::StrBytes;
use crate::protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use crate::protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use crate::protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};

/// The first version with several groups.
const GROUPS: i16 = 8;

/// What is asked of one group; all its offsets if `topics` is `None`.
struct Question<'a> {
    group: &'a str,
    member: Option<&'a str>,
    epoch: i32,
    topics: Option<Vec<(&'a str, &'a [i32])>>,
    stable: bool,
}

impl GroupShard {
    pub(crate) fn offset_fetch(&mut self, token: Token, context: &Context, request: &OffsetFetchRequest) {
        let response = if context.api_version >= GROUPS {
            let groups = request.groups.iter().map(|group| self.fetch_group(group, request.require_stable));
            OffsetFetchResponse::default().with_groups(groups.collect())
        } else {
            let topics = request.topics.as_ref();
            let question = Question {
                group: &request.group_id,
                member: None,
                epoch: -1,
                topics: topics.map(|topics| {
                    topics.iter().map(|t| (t.name.as_str(), t.partition_indexes.as_slice())).collect()
                }),
                stable: request.require_stable,
            };
            match self.fetch(&question) {
                Ok(topics) => {
                    OffsetFetchResponse::default().with_topics(topics.into_iter().map(old).collect())
                }
                Err(error) => {
                    let request = GroupRequest::OffsetFetch(request.clone());
                    self.out.reply(token, request.refuse(context.api_version, error));
                    return;
                }
            }
        };
        // Who does not ask for stable offsets gets those at the high watermark, and does not wait for later ones
        // (`GroupCoordinatorService.fetchOffsets`).
        if request.require_stable {
            self.out.reply(token, response.into());
        } else {
            self.out.reply_now(token, response.into());
        }
    }

    /// The offsets that a question is about.
    fn asked(&self, question: &Question<'_>) -> &Offsets {
        if question.stable { &self.offsets } else { &self.settled }
    }

    fn fetch_group(&self, group: &OffsetFetchRequestGroup, stable: bool) -> OffsetFetchResponseGroup {
        let topics = group.topics.as_ref();
        let question = Question {
            group: &group.group_id,
            member: group.member_id.as_deref(),
            epoch: group.member_epoch,
            topics: topics.map(|topics| {
                topics.iter().map(|t| (t.name.as_str(), t.partition_indexes.as_slice())).collect()
            }),
            stable,
        };
        let response = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
        match self.fetch(&question) {
            Ok(topics) => response.with_topics(topics),
            Err(error) => response.with_error_code(error.code()),
        }
    }

    /// An unknown group, or one without offsets, has -1 everywhere, and no error.
    fn fetch(&self, question: &Question<'_>) -> Result<Vec<OffsetFetchResponseTopics>, ErrorCode> {
        if let Some(Group::Consumer(group)) = self.groups.get(question.group) {
            group.validate_fetch(question.member, question.epoch)?;
        }
        let known = self.groups.contains_key(question.group);
        let response = |name: &str, partitions: Vec<_>| {
            OffsetFetchResponseTopics::default().with_name(text(name).into()).with_partitions(partitions)
        };
        if let Some(topics) = &question.topics {
            let topic = |(name, partitions): &(&str, &[i32])| {
                let partitions = partitions
                    .iter()
                    .map(|partition| self.partition(question, &((*name).to_owned(), *partition), known));
                response(name, partitions.collect())
            };
            return Ok(topics.iter().map(topic).collect());
        }
        let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
        let offsets = self.asked(question).committed.get(question.group).filter(|_| known);
        for at in offsets.into_iter().flat_map(|offsets| offsets.keys()) {
            let partition = self.partition(question, at, known);
            match topics.last_mut().filter(|topic| *topic.name == *at.0) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(response(&at.0, vec![partition])),
            }
        }
        Ok(topics)
    }

    fn partition(
        &self,
        question: &Question<'_>,
        at: &Partition,
        known: bool,
    ) -> OffsetFetchResponsePartitions {
        let response = OffsetFetchResponsePartitions::default()
            .with_partition_index(at.1)
            .with_committed_offset(-1)
            .with_committed_leader_epoch(-1)
            .with_metadata(Some(StrBytes::default()));
        if question.stable && self.offsets.is_open(question.group, at) {
            return response.with_error_code(ErrorCode::UnstableOffsetCommit.code());
        }
        let offsets = self.asked(question).committed.get(question.group).filter(|_| known);
        match offsets.and_then(|offsets| offsets.get(at)) {
            Some(stored) => response
                .with_committed_offset(stored.value.offset)
                .with_committed_leader_epoch(stored.value.leader_epoch)
                .with_metadata(Some(text(&stored.value.metadata))),
            None => response,
        }
    }
}

/// The form before version 8.
fn old(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partition = |partition: OffsetFetchResponsePartitions| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_committed_offset(partition.committed_offset)
            .with_committed_leader_epoch(partition.committed_leader_epoch)
            .with_metadata(partition.metadata)
            .with_error_code(partition.error_code)
    };
    let partitions = topic.partitions.into_iter().map(partition).collect();
    OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions)
}
