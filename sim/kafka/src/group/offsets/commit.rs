//! OffsetCommit and TxnOffsetCommit.

use uuid::Uuid;

use crate::cluster::observe::Event;
use crate::coordinator::{Context, Producer, Record, Token};
use crate::error::ErrorCode;
use crate::group::classic::{ClassicGroup, State};
use crate::group::records::{self, OffsetValue};
use crate::group::{Group, GroupShard, refusal};
use crate::protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use crate::protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};

/// The first version that members of the `consumer` protocol may use.
const MEMBER_EPOCH: i16 = 9;

/// What a partition of either request commits now.
macro_rules! committed {
    ($partition:expr, $now:expr) => {
        OffsetValue {
            offset: $partition.committed_offset,
            leader_epoch: $partition.committed_leader_epoch,
            metadata: $partition.committed_metadata.as_deref().unwrap_or_default().to_owned(),
            commit_timestamp: $now,
            expire_timestamp: None,
            topic_id: Uuid::nil(),
        }
    };
}

/// Who commits offsets.
struct Committer<'a> {
    group: &'a str,
    member: &'a str,
    /// The generation or member epoch.
    epoch: i32,
    /// The producer whose transaction commits them.
    producer_id: Option<i64>,
}

impl GroupShard {
    pub(crate) fn offset_commit(
        &mut self,
        now: i64,
        token: Token,
        context: &Context,
        request: &OffsetCommitRequest,
    ) {
        let known = |name: &str, partition| self.topics.contains(name, partition);
        let any =
            request.topics.iter().any(|t| t.partitions.iter().any(|p| known(&t.name, p.partition_index)));
        // Without a partition that exists, the group is not even looked at (`KafkaApis`).
        if any && let Err(error) = self.validate_commit(now, context, request) {
            let refused = self.refused_commit(request, error);
            self.out.reply(token, refused.into());
            return;
        }
        let expire_timestamp = (request.retention_time_ms >= 0 && context.api_version < 5)
            .then(|| now.saturating_add(request.retention_time_ms));
        let committer = Committer {
            group: &request.group_id,
            member: &request.member_id,
            epoch: request.generation_id_or_member_epoch,
            producer_id: None,
        };
        let mut records = Vec::new();
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let value = OffsetValue { expire_timestamp, ..committed!(partition, now) };
                let result =
                    self.prepare(&mut records, &committer, &topic.name, partition.partition_index, &value);
                OffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(crate::coordinator::code(result))
            });
            OffsetCommitResponseTopic::default()
                .with_name(topic.name.clone())
                .with_topic_id(topic.topic_id)
                .with_partitions(partitions.collect())
        });
        let response = OffsetCommitResponse::default().with_topics(topics.collect());
        self.write(now, records, None);
        self.out.reply(token, response.into());
    }

    /// Refuses all partitions that exist; those that do not are refused for that.
    fn refused_commit(&self, request: &OffsetCommitRequest, error: ErrorCode) -> OffsetCommitResponse {
        let mut refused = refusal::offset_commit(request, error);
        for topic in &mut refused.topics {
            for partition in &mut topic.partitions {
                if !self.topics.contains(&topic.name, partition.partition_index) {
                    partition.error_code = ErrorCode::UnknownTopicOrPartition.code();
                }
            }
        }
        refused
    }

    pub(crate) fn txn_offset_commit(
        &mut self,
        now: i64,
        token: Token,
        context: &Context,
        request: &TxnOffsetCommitRequest,
    ) {
        let validated = if request.group_id.is_empty() {
            Err(ErrorCode::InvalidGroupId)
        } else {
            self.validate_transactional_commit(now, context, request)
        };
        if let Err(error) = validated {
            self.out.reply(token, refusal::txn_offset_commit(request, error).into());
            return;
        }
        let committer = Committer {
            group: &request.group_id,
            member: &request.member_id,
            epoch: request.generation_id,
            producer_id: Some(request.producer_id.0),
        };
        let mut records = Vec::new();
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let value = committed!(partition, now);
                let result =
                    self.prepare(&mut records, &committer, &topic.name, partition.partition_index, &value);
                TxnOffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(crate::coordinator::code(result))
            });
            TxnOffsetCommitResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions.collect())
        });
        let response = TxnOffsetCommitResponse::default().with_topics(topics.collect());
        let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
        self.write(now, records, Some(producer));
        self.out.reply(token, response.into());
    }

    /// Adds the record of an offset, if it may be committed.
    fn prepare(
        &self,
        records: &mut Vec<Record>,
        committer: &Committer<'_>,
        topic: &str,
        partition: i32,
        value: &OffsetValue,
    ) -> Result<(), ErrorCode> {
        if !self.topics.contains(topic, partition) {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        // Kafka counts UTF-16 code units.
        if value.metadata.encode_utf16().count() > self.config.offset_metadata_max {
            return Err(ErrorCode::OffsetMetadataTooLarge);
        }
        let Committer { group, member, epoch, producer_id } = *committer;
        records.push(records::offset(group, topic, partition, Some(value)));
        self.observed.see(|broker| Event::OffsetCommitted {
            broker,
            group,
            topic,
            partition,
            offset: value.offset,
            epoch,
            member,
            producer_id,
        });
        Ok(())
    }

    fn validate_commit(
        &mut self,
        now: i64,
        context: &Context,
        request: &OffsetCommitRequest,
    ) -> Result<(), ErrorCode> {
        let epoch = request.generation_id_or_member_epoch;
        let (member, instance) = (request.member_id.as_str(), request.group_instance_id.as_deref());
        if !self.groups.contains_key(request.group_id.as_str()) {
            if epoch >= 0 {
                let modern = context.api_version >= MEMBER_EPOCH;
                return Err(if modern { ErrorCode::GroupIdNotFound } else { ErrorCode::IllegalGeneration });
            }
            // A group that only stores offsets.
            self.create_classic(&request.group_id, now);
        }
        let (groups, mut env) = self.split(now);
        match groups.get_mut(request.group_id.as_str()) {
            Some(Group::Classic(group)) => {
                group.validate_commit(member, instance, epoch, false)?;
                if matches!(group.state, State::Stable | State::PreparingRebalance) {
                    group.heard_of(&env, member);
                }
                Ok(())
            }
            Some(Group::Consumer(group)) => {
                let _ = &mut env;
                group.validate_commit(member, instance, epoch, false, context.api_version)
            }
            None => Err(ErrorCode::GroupIdNotFound),
        }
    }

    fn validate_transactional_commit(
        &mut self,
        now: i64,
        context: &Context,
        request: &TxnOffsetCommitRequest,
    ) -> Result<(), ErrorCode> {
        let (member, instance) = (request.member_id.as_str(), request.group_instance_id.as_deref());
        let generation = request.generation_id;
        if !self.groups.contains_key(request.group_id.as_str()) {
            if generation >= 0 {
                return Err(ErrorCode::IllegalGeneration);
            }
            self.create_classic(&request.group_id, now);
        }
        match self.groups.get(request.group_id.as_str()) {
            Some(Group::Classic(group)) => group.validate_commit(member, instance, generation, true),
            Some(Group::Consumer(group)) => group
                .validate_commit(member, instance, generation, true, context.api_version)
                // Old clients do not know the error of the new protocol.
                .map_err(|error| match error {
                    ErrorCode::StaleMemberEpoch => ErrorCode::IllegalGeneration,
                    other => other,
                }),
            None => Err(ErrorCode::IllegalGeneration),
        }
    }

    /// Adds an empty classic group, without a record of its own.
    pub(crate) fn create_classic(&mut self, group: &str, now: i64) {
        self.groups
            .entry(group.to_owned())
            .or_insert_with(|| Group::Classic(ClassicGroup::new(group, Some(now))));
    }
}
