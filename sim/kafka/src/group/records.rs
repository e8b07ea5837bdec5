//! The records of classic groups and of offsets, in the formats of Kafka's `__consumer_offsets`.
//!
//! Written are the versions that Kafka 4.1 writes; older ones are read as well.

use bytes::Bytes;
use uuid::Uuid;

use crate::coordinator::wire::{Reader, Writer};
use crate::coordinator::{Record, RecordError};

use super::consumer::records::{self as consumer, ConsumerRecord};

const OFFSET_COMMIT_OLD: i16 = 0;
const OFFSET_COMMIT: i16 = 1;
const GROUP_METADATA: i16 = 2;

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OffsetValue {
    pub(crate) offset: i64,
    /// -1 if it is not known.
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
    pub(crate) commit_timestamp: i64,
    /// Set by clients that ask for a retention of their own (OffsetCommit 2 to 4).
    pub(crate) expire_timestamp: Option<i64>,
    /// Zero if it is not known.
    pub(crate) topic_id: Uuid,
}

/// A classic group as of its last rebalance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupValue {
    pub(crate) protocol_type: String,
    pub(crate) generation: i32,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) state_timestamp: Option<i64>,
    pub(crate) members: Vec<GroupMemberValue>,
}

/// A member of a classic group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupMemberValue {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout: i32,
    pub(crate) session_timeout: i32,
    pub(crate) subscription: Bytes,
    pub(crate) assignment: Bytes,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Offset { group: String, topic: String, partition: i32, value: Option<OffsetValue> },
    Group { group: String, value: Option<GroupValue> },
    Consumer { group: String, record: ConsumerRecord },
}

/// Reads a record. `None` if Kafka writes records of its kind, but this coordinator does not need them.
pub(crate) fn read(record: &Record) -> Result<Option<Entry>, RecordError> {
    let mut key = Reader::new("key", &record.key);
    let kind = key.i16("type")?;
    match kind {
        OFFSET_COMMIT_OLD | OFFSET_COMMIT => {
            let (group, topic, partition) = (key.str("group")?, key.str("topic")?, key.i32("partition")?);
            let value = record.value.as_deref().map(read_offset).transpose()?;
            Ok(Some(Entry::Offset { group, topic, partition, value }))
        }
        GROUP_METADATA => {
            let group = key.str("group")?;
            let value = record.value.as_deref().map(read_group).transpose()?;
            Ok(Some(Entry::Group { group, value }))
        }
        _ => {
            let read = consumer::read(kind, &mut key, record.value.as_deref())?;
            Ok(read.map(|(group, record)| Entry::Consumer { group, record }))
        }
    }
}

fn read_offset(bytes: &[u8]) -> Result<OffsetValue, RecordError> {
    let mut value = Reader::new("offset", bytes);
    let version = value.i16("version")?;
    if !(0..=4).contains(&version) {
        return Err(value.unknown_version(version));
    }
    value.flexible(version >= 4);
    let offset = value.i64("offset")?;
    let leader_epoch = if version >= 3 { value.i32("leader_epoch")? } else { -1 };
    let metadata = value.str("metadata")?;
    let commit_timestamp = value.i64("commit_timestamp")?;
    let expire = if version == 1 { value.i64("expire_timestamp")? } else { -1 };
    let mut topic_id = Uuid::nil();
    for (tag, mut field) in value.end()? {
        if tag == 0 {
            topic_id = field.uuid("topic_id")?;
        }
    }
    let expire_timestamp = (expire != -1).then_some(expire);
    Ok(OffsetValue { offset, leader_epoch, metadata, commit_timestamp, expire_timestamp, topic_id })
}

fn read_group(bytes: &[u8]) -> Result<GroupValue, RecordError> {
    let mut value = Reader::new("group", bytes);
    let version = value.i16("version")?;
    if !(0..=4).contains(&version) {
        return Err(value.unknown_version(version));
    }
    value.flexible(version >= 4);
    let protocol_type = value.str("protocol_type")?;
    let generation = value.i32("generation")?;
    let protocol = value.nullable_str("protocol")?;
    let leader = value.nullable_str("leader")?;
    let timestamp = if version >= 2 { value.i64("current_state_timestamp")? } else { -1 };
    let members = value.array("members", |member| {
        let id = member.str("member_id")?;
        let instance_id = if version >= 3 { member.nullable_str("group_instance_id")? } else { None };
        let client_id = member.str("client_id")?;
        let client_host = member.str("client_host")?;
        let rebalance = if version >= 1 { member.i32("rebalance_timeout")? } else { -1 };
        let session_timeout = member.i32("session_timeout")?;
        let rebalance_timeout = if rebalance == -1 { session_timeout } else { rebalance };
        let subscription = member.bytes("subscription")?;
        let assignment = member.bytes("assignment")?;
        member.end()?;
        Ok(GroupMemberValue {
            id,
            instance_id,
            client_id,
            client_host,
            rebalance_timeout,
            session_timeout,
            subscription,
            assignment,
        })
    })?;
    value.end()?;
    let state_timestamp = (timestamp != -1).then_some(timestamp);
    Ok(GroupValue { protocol_type, generation, protocol, leader, state_timestamp, members })
}

/// A committed offset, or its tombstone.
pub(crate) fn offset(group: &str, topic: &str, partition: i32, value: Option<&OffsetValue>) -> Record {
    let mut key = Writer::new(OFFSET_COMMIT, false);
    key.str(group).str(topic).i32(partition);
    let value = value.map(|value| {
        // Version 1 is the only one with an expiry, as in `GroupCoordinatorRecordHelpers.newOffsetCommitRecord`.
        if let Some(expire) = value.expire_timestamp {
            let mut out = Writer::new(1, false);
            out.i64(value.offset).str(&value.metadata).i64(value.commit_timestamp).i64(expire);
            return out.finish();
        }
        let mut out = Writer::new(4, true);
        out.i64(value.offset).i32(value.leader_epoch).str(&value.metadata).i64(value.commit_timestamp);
        let id = || {
            Writer::field(|field| {
                field.uuid(value.topic_id);
            })
        };
        out.end_with(if value.topic_id.is_nil() { Vec::new() } else { vec![(0, id())] });
        out.finish()
    });
    Record { key: key.finish(), value }
}

/// A classic group, or its tombstone.
pub(crate) fn group(group: &str, value: Option<&GroupValue>) -> Record {
    let mut key = Writer::new(GROUP_METADATA, false);
    key.str(group);
    let value = value.map(|value| {
        let mut out = Writer::new(3, false);
        out.str(&value.protocol_type).i32(value.generation);
        out.nullable_str(value.protocol.as_deref()).nullable_str(value.leader.as_deref());
        out.i64(value.state_timestamp.unwrap_or(-1));
        out.array(value.members.iter(), |out, member| {
            out.str(&member.id).nullable_str(member.instance_id.as_deref());
            out.str(&member.client_id).str(&member.client_host);
            out.i32(member.rebalance_timeout).i32(member.session_timeout);
            out.bytes(&member.subscription).bytes(&member.assignment);
        });
        out.finish()
    });
    Record { key: key.finish(), value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_read_as_it_was_written_with_and_without_topic_id_and_expiry() {
        for (expire_timestamp, topic_id, version) in
            [(None, Uuid::nil(), 4), (None, Uuid::from_u128(9), 4), (Some(77), Uuid::nil(), 1)]
        {
            let value = OffsetValue {
                offset: 12,
                leader_epoch: if version == 1 { -1 } else { 5 },
                metadata: "text".to_owned(),
                commit_timestamp: 1_000,
                expire_timestamp,
                topic_id,
            };
            let record = offset("group", "topic", 3, Some(&value));
            assert_eq!(record.value.as_ref().and_then(|value| value.get(1)).copied(), Some(version));
            let expected = Entry::Offset {
                group: "group".to_owned(),
                topic: "topic".to_owned(),
                partition: 3,
                value: Some(value),
            };
            assert_eq!(read(&record), Ok(Some(expected)));
        }
    }

    #[test]
    fn a_classic_group_is_read_as_it_was_written() {
        let value = GroupValue {
            protocol_type: "consumer".to_owned(),
            generation: 4,
            protocol: Some("range".to_owned()),
            leader: Some("a".to_owned()),
            state_timestamp: Some(9),
            members: vec![GroupMemberValue {
                id: "a".to_owned(),
                instance_id: Some("instance".to_owned()),
                client_id: "client".to_owned(),
                client_host: "/127.0.0.1".to_owned(),
                rebalance_timeout: 2,
                session_timeout: 3,
                subscription: Bytes::from_static(b"s"),
                assignment: Bytes::from_static(b"a"),
            }],
        };
        let record = group("group", Some(&value));
        assert_eq!(read(&record), Ok(Some(Entry::Group { group: "group".to_owned(), value: Some(value) })));
    }

    #[test]
    fn a_tombstone_names_what_it_deletes() {
        let expected =
            Entry::Offset { group: "g".to_owned(), topic: "t".to_owned(), partition: 1, value: None };
        assert_eq!(read(&offset("g", "t", 1, None)), Ok(Some(expected)));
        assert_eq!(read(&group("g", None)), Ok(Some(Entry::Group { group: "g".to_owned(), value: None })));
    }

    #[test]
    fn a_cut_record_is_refused_at_every_length() {
        let value = OffsetValue {
            offset: 12,
            leader_epoch: 5,
            metadata: "text".to_owned(),
            commit_timestamp: 1_000,
            expire_timestamp: None,
            topic_id: Uuid::from_u128(9),
        };
        let record = offset("group", "topic", 3, Some(&value));
        let whole = record.value.clone().unwrap_or_default();
        for length in 0..whole.len() {
            let cut = Record { key: record.key.clone(), value: Some(whole.slice(..length)) };
            assert!(read(&cut).is_err(), "{length} bytes");
        }
    }
}
