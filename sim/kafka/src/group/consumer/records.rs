//! The records of groups of the `consumer` protocol, in the formats of Kafka's `__consumer_offsets`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use uuid::Uuid;

use super::member::{ClassicMetadata, MemberState};
use super::{ConsumerMember, Partitions};
use crate::coordinator::wire::{Reader, Writer};
use crate::coordinator::{Record, RecordError};

const METADATA: i16 = 3;
const MEMBER: i16 = 5;
const TARGET_METADATA: i16 = 6;
const TARGET_MEMBER: i16 = 7;
const CURRENT: i16 = 8;
const REGEX: i16 = 16;

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemberValue {
    pub(crate) instance_id: Option<String>,
    pub(crate) rack_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) topics: BTreeSet<String>,
    pub(crate) regex: Option<String>,
    pub(crate) rebalance_timeout: i32,
    pub(crate) assignor: Option<String>,
    pub(crate) classic: Option<ClassicMetadata>,
}

/// What a member has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CurrentValue {
    pub(crate) epoch: i32,
    pub(crate) previous_epoch: i32,
    pub(crate) state: MemberState,
    pub(crate) assigned: Partitions,
    pub(crate) pending_revocation: Partitions,
}

/// The topics that a regular expression matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegexValue {
    pub(crate) topics: BTreeSet<String>,
    /// Of the metadata; Kafka's is an offset of its metadata log.
    pub(crate) version: i64,
    pub(crate) timestamp: i64,
}

/// What a record of a group says. `None` for tombstones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConsumerRecord {
    /// The epoch of the group, and the hash of its topics.
    Metadata(Option<(i32, i64)>),
    Member(String, Option<MemberValue>),
    /// The epoch of the target assignment.
    TargetMetadata(Option<i32>),
    TargetMember(String, Option<Partitions>),
    Current(String, Option<CurrentValue>),
    Regex(String, Option<RegexValue>),
}

/// Reads a record; the key's type is already read.
pub(crate) fn read(
    kind: i16,
    key: &mut Reader<'_>,
    value: Option<&[u8]>,
) -> Result<Option<(String, ConsumerRecord)>, RecordError> {
    if !matches!(kind, METADATA | MEMBER | TARGET_METADATA | TARGET_MEMBER | CURRENT | REGEX) {
        return Ok(None);
    }
    let group = key.str("group_id")?;
    let record = match kind {
        METADATA => ConsumerRecord::Metadata(value.map(read_metadata).transpose()?),
        MEMBER => ConsumerRecord::Member(key.str("member_id")?, value.map(read_member).transpose()?),
        TARGET_METADATA => ConsumerRecord::TargetMetadata(value.map(read_target_metadata).transpose()?),
        TARGET_MEMBER => {
            ConsumerRecord::TargetMember(key.str("member_id")?, value.map(read_target).transpose()?)
        }
        CURRENT => ConsumerRecord::Current(key.str("member_id")?, value.map(read_current).transpose()?),
        _ => ConsumerRecord::Regex(key.str("regular_expression")?, value.map(read_regex).transpose()?),
    };
    Ok(Some((group, record)))
}

/// Begins to read a value of version 0, which is flexible.
fn begin<'a>(record: &'static str, bytes: &'a [u8]) -> Result<Reader<'a>, RecordError> {
    let mut reader = Reader::new(record, bytes);
    let version = reader.i16("version")?;
    if version != 0 {
        return Err(reader.unknown_version(version));
    }
    reader.flexible(true);
    Ok(reader)
}

fn read_metadata(bytes: &[u8]) -> Result<(i32, i64), RecordError> {
    let mut value = begin("group epoch", bytes)?;
    let epoch = value.i32("epoch")?;
    let mut hash = 0;
    for (tag, mut field) in value.end()? {
        if tag == 0 {
            hash = field.i64("metadata_hash")?;
        }
    }
    Ok((epoch, hash))
}

fn read_member(bytes: &[u8]) -> Result<MemberValue, RecordError> {
    let mut value = begin("member", bytes)?;
    let mut member = MemberValue {
        instance_id: value.nullable_str("instance_id")?,
        rack_id: value.nullable_str("rack_id")?,
        client_id: value.str("client_id")?,
        client_host: value.str("client_host")?,
        topics: value.array("subscribed_topic_names", |value| value.str("topic"))?.into_iter().collect(),
        regex: value.nullable_str("subscribed_topic_regex")?,
        rebalance_timeout: value.i32("rebalance_timeout_ms")?,
        assignor: value.nullable_str("server_assignor")?,
        classic: None,
    };
    for (tag, mut field) in value.end()? {
        // A nullable structure has a byte before it: 1 if it is there.
        if tag == 0 && field.i8("classic_member_metadata")? == 1 {
            let session_timeout = field.i32("session_timeout_ms")?;
            let protocols = field.array("supported_protocols", |field| {
                let protocol = (field.str("name")?, field.bytes("metadata")?);
                field.end()?;
                Ok(protocol)
            })?;
            member.classic = Some(ClassicMetadata { session_timeout, protocols });
        }
    }
    Ok(member)
}

fn read_target_metadata(bytes: &[u8]) -> Result<i32, RecordError> {
    begin("target epoch", bytes)?.i32("assignment_epoch")
}

fn partitions(value: &mut Reader<'_>, field: &'static str) -> Result<Partitions, RecordError> {
    let topics = value.array(field, |value| {
        let topic = value.uuid("topic_id")?;
        let partitions = value.array("partitions", |value| value.i32("partition"))?;
        value.end()?;
        Ok((topic, partitions.into_iter().collect()))
    })?;
    Ok(topics.into_iter().collect())
}

fn read_target(bytes: &[u8]) -> Result<Partitions, RecordError> {
    partitions(&mut begin("target assignment", bytes)?, "topic_partitions")
}

fn read_current(bytes: &[u8]) -> Result<CurrentValue, RecordError> {
    let mut value = begin("current assignment", bytes)?;
    let epoch = value.i32("member_epoch")?;
    let previous_epoch = value.i32("previous_member_epoch")?;
    let state = value.i8("state")?;
    let state = MemberState::of(state).ok_or_else(|| value.bad_value("state", i64::from(state)))?;
    let assigned = partitions(&mut value, "assigned_partitions")?;
    let pending_revocation = partitions(&mut value, "partitions_pending_revocation")?;
    Ok(CurrentValue { epoch, previous_epoch, state, assigned, pending_revocation })
}

fn read_regex(bytes: &[u8]) -> Result<RegexValue, RecordError> {
    let mut value = begin("regular expression", bytes)?;
    let topics = value.array("topics", |value| value.str("topic"))?.into_iter().collect();
    Ok(RegexValue { topics, version: value.i64("version")?, timestamp: value.i64("timestamp")? })
}

fn record(kind: i16, names: &[&str], value: Option<impl FnOnce(&mut Writer)>) -> Record {
    let mut key = Writer::new(kind, false);
    for name in names {
        key.str(name);
    }
    let value = value.map(|write| {
        let mut value = Writer::new(0, true);
        write(&mut value);
        value.finish()
    });
    Record { key: key.finish(), value }
}

const TOMBSTONE: Option<fn(&mut Writer)> = None;

pub(crate) fn metadata(group: &str, epoch: i32, hash: i64) -> Record {
    let write = |value: &mut Writer| {
        let field = Writer::field(|field| {
            field.i64(hash);
        });
        value.i32(epoch).end_with(if hash == 0 { Vec::new() } else { vec![(0, field)] });
    };
    record(METADATA, &[group], Some(write))
}

pub(crate) fn metadata_tombstone(group: &str) -> Record {
    record(METADATA, &[group], TOMBSTONE)
}

pub(crate) fn member(group: &str, member: &ConsumerMember) -> Record {
    let said = &member.value;
    let write = |value: &mut Writer| {
        value.nullable_str(said.instance_id.as_deref()).nullable_str(said.rack_id.as_deref());
        value.str(&said.client_id).str(&said.client_host);
        value.array(said.topics.iter(), |value, topic| {
            value.str(topic);
        });
        value.nullable_str(said.regex.as_deref()).i32(said.rebalance_timeout);
        value.nullable_str(said.assignor.as_deref());
        value.end_with(said.classic.iter().map(|classic| (0, classic_metadata(classic))).collect());
    };
    record(MEMBER, &[group, &member.id], Some(write))
}

fn classic_metadata(classic: &ClassicMetadata) -> Bytes {
    Writer::field(|field| {
        field.i8(1).i32(classic.session_timeout);
        field.array(classic.protocols.iter(), |field, (name, metadata)| {
            field.str(name).bytes(metadata).end();
        });
        field.end();
    })
}

pub(crate) fn member_tombstone(group: &str, member: &str) -> Record {
    record(MEMBER, &[group, member], TOMBSTONE)
}

pub(crate) fn target_metadata(group: &str, epoch: i32) -> Record {
    let write = |value: &mut Writer| {
        value.i32(epoch).end();
    };
    record(TARGET_METADATA, &[group], Some(write))
}

pub(crate) fn target_metadata_tombstone(group: &str) -> Record {
    record(TARGET_METADATA, &[group], TOMBSTONE)
}

fn write_partitions(value: &mut Writer, partitions: &Partitions) {
    value.array(partitions.iter(), |value, (topic, partitions): (&Uuid, &BTreeSet<i32>)| {
        value.uuid(*topic);
        value.array(partitions.iter(), |value, partition| {
            value.i32(*partition);
        });
        value.end();
    });
}

pub(crate) fn target(group: &str, member: &str, partitions: &Partitions) -> Record {
    let write = |value: &mut Writer| {
        write_partitions(value, partitions);
        value.end();
    };
    record(TARGET_MEMBER, &[group, member], Some(write))
}

pub(crate) fn target_tombstone(group: &str, member: &str) -> Record {
    record(TARGET_MEMBER, &[group, member], TOMBSTONE)
}

pub(crate) fn current(group: &str, member: &ConsumerMember) -> Record {
    let write = |value: &mut Writer| {
        value.i32(member.epoch).i32(member.previous_epoch).i8(member.state.number());
        write_partitions(value, &member.assigned);
        write_partitions(value, &member.pending_revocation);
        value.end();
    };
    record(CURRENT, &[group, &member.id], Some(write))
}

pub(crate) fn current_tombstone(group: &str, member: &str) -> Record {
    record(CURRENT, &[group, member], TOMBSTONE)
}

pub(crate) fn regex(group: &str, regex: &str, resolved: &RegexValue) -> Record {
    let write = |value: &mut Writer| {
        value.array(resolved.topics.iter(), |value, topic| {
            value.str(topic);
        });
        value.i64(resolved.version).i64(resolved.timestamp).end();
    };
    record(REGEX, &[group, regex], Some(write))
}

pub(crate) fn regex_tombstone(group: &str, regex: &str) -> Record {
    record(REGEX, &[group, regex], TOMBSTONE)
}

/// Topics with partitions, from pairs.
pub(crate) fn collect(partitions: impl IntoIterator<Item = (Uuid, i32)>) -> Partitions {
    let mut topics: BTreeMap<Uuid, BTreeSet<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(topic).or_default().insert(partition);
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::records::{Entry, read};

    fn round_trip(record: &Record, expected: ConsumerRecord) {
        let expected = Entry::Consumer { group: "g".to_owned(), record: expected };
        assert_eq!(read(record), Ok(Some(expected)));
    }

    #[test]
    fn each_record_of_a_group_is_read_as_it_was_written() {
        let partitions = collect([(Uuid::from_u128(1), 2), (Uuid::from_u128(1), 3), (Uuid::from_u128(2), 0)]);
        let classic = ClassicMetadata {
            session_timeout: 45_000,
            protocols: vec![("range".to_owned(), Bytes::from_static(b"subscription"))],
        };
        let value = MemberValue {
            instance_id: Some("instance".to_owned()),
            topics: ["a".to_owned(), "b".to_owned()].into(),
            regex: Some("^c.*".to_owned()),
            rebalance_timeout: 300_000,
            classic: Some(classic),
            ..MemberValue::default()
        };
        let mut one = ConsumerMember::new("m");
        (one.value, one.epoch, one.previous_epoch) = (value.clone(), 4, 3);
        (one.state, one.assigned) = (MemberState::UnrevokedPartitions, partitions.clone());
        let current_value = CurrentValue {
            epoch: 4,
            previous_epoch: 3,
            state: MemberState::UnrevokedPartitions,
            assigned: partitions.clone(),
            pending_revocation: Partitions::new(),
        };
        let resolved = RegexValue { topics: ["c1".to_owned()].into(), version: 3, timestamp: 9 };
        round_trip(&metadata("g", 5, -77), ConsumerRecord::Metadata(Some((5, -77))));
        round_trip(&member("g", &one), ConsumerRecord::Member("m".to_owned(), Some(value)));
        round_trip(&target_metadata("g", 5), ConsumerRecord::TargetMetadata(Some(5)));
        round_trip(
            &target("g", "m", &partitions),
            ConsumerRecord::TargetMember("m".to_owned(), Some(partitions)),
        );
        round_trip(&current("g", &one), ConsumerRecord::Current("m".to_owned(), Some(current_value)));
        round_trip(&regex("g", "c.*", &resolved), ConsumerRecord::Regex("c.*".to_owned(), Some(resolved)));
        round_trip(&current_tombstone("g", "m"), ConsumerRecord::Current("m".to_owned(), None));
        round_trip(&metadata_tombstone("g"), ConsumerRecord::Metadata(None));
    }
}
