//! What is inside the metadata and assignments of consumers in the classic protocol (`ConsumerProtocol`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};

use crate::coordinator::RecordError;
use crate::coordinator::wire::Reader;

/// Partitions by the names of their topics.
pub(crate) type Named = BTreeMap<String, BTreeSet<i32>>;

/// The subscription of a consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) version: i16,
    pub(crate) topics: BTreeSet<String>,
    /// What it says that it owns.
    pub(crate) owned: Named,
    pub(crate) generation: i32,
    pub(crate) rack: Option<String>,
}

/// The topics of a subscription; `None` if it cannot be read.
pub(crate) fn topics(metadata: &[u8]) -> Option<BTreeSet<String>> {
    read(metadata).ok().map(|subscription| subscription.topics)
}

/// Reads a subscription of version 0 to 3; later ones as 3, as `ConsumerProtocol.deserializeVersion` says.
pub(crate) fn read(metadata: &[u8]) -> Result<Subscription, RecordError> {
    let mut reader = Reader::new("subscription", metadata);
    let version = reader.i16("version")?;
    if version < 0 {
        return Err(reader.unknown_version(version));
    }
    let topics = reader.array("topics", |reader| reader.str("topic"))?;
    reader.bytes("user data")?;
    let mut subscription = Subscription {
        version,
        topics: topics.into_iter().collect(),
        generation: -1,
        ..Subscription::default()
    };
    if version >= 1 {
        let owned = reader.array("owned partitions", |reader| {
            let topic = reader.str("topic")?;
            let partitions = reader.array("partitions", |reader| reader.i32("partition"))?;
            Ok((topic, partitions.into_iter().collect()))
        })?;
        subscription.owned = owned.into_iter().collect();
    }
    if version >= 2 {
        subscription.generation = reader.i32("generation")?;
    }
    if version >= 3 {
        subscription.rack = reader.nullable_str("rack")?;
    }
    Ok(subscription)
}

/// What a consumer was assigned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub(crate) partitions: Named,
    /// Whether its assignor has written more than partitions.
    pub(crate) has_user_data: bool,
}

/// Reads an assignment. No bytes are no assignment.
pub(crate) fn read_assignment(bytes: &[u8]) -> Result<Assigned, RecordError> {
    if bytes.is_empty() {
        return Ok(Assigned::default());
    }
    let mut reader = Reader::new("assignment", bytes);
    let version = reader.i16("version")?;
    if version < 0 {
        return Err(reader.unknown_version(version));
    }
    let partitions = reader.array("assigned partitions", |reader| {
        let topic = reader.str("topic")?;
        let partitions = reader.array("partitions", |reader| reader.i32("partition"))?;
        Ok((topic, partitions.into_iter().collect()))
    })?;
    let has_user_data = !reader.bytes("user data")?.is_empty();
    Ok(Assigned { partitions: partitions.into_iter().collect(), has_user_data })
}

/// Writes an assignment; all its versions are alike.
pub(crate) fn assignment(version: i16, partitions: &Named) -> Bytes {
    let mut out = BytesMut::new();
    let length = |length: usize| i32::try_from(length).unwrap_or(i32::MAX);
    out.put_i16(version.clamp(0, 3));
    out.put_i32(length(partitions.len()));
    for (topic, partitions) in partitions {
        out.put_i16(i16::try_from(topic.len()).unwrap_or(i16::MAX));
        out.put_slice(topic.as_bytes());
        out.put_i32(length(partitions.len()));
        partitions.iter().for_each(|partition| out.put_i32(*partition));
    }
    // No user data.
    out.put_i32(-1);
    out.freeze()
}

#[cfg(test)]
pub(crate) fn write(version: i16, topics: &[&str], owned: &[(&str, &[i32])], generation: i32) -> Bytes {
    let mut out = BytesMut::new();
    let put = |out: &mut BytesMut, text: &str| {
        out.put_i16(text.len() as i16);
        out.put_slice(text.as_bytes());
    };
    out.put_i16(version);
    out.put_i32(topics.len() as i32);
    topics.iter().for_each(|topic| put(&mut out, topic));
    out.put_i32(-1);
    if version >= 1 {
        out.put_i32(owned.len() as i32);
        for (topic, partitions) in owned {
            put(&mut out, topic);
            out.put_i32(partitions.len() as i32);
            partitions.iter().for_each(|partition| out.put_i32(*partition));
        }
    }
    if version >= 2 {
        out.put_i32(generation);
    }
    if version >= 3 {
        out.put_i16(-1);
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_of_each_version_is_read() {
        for version in 0..=4 {
            let bytes = write(version, &["a", "b"], &[("a", &[1, 2])], 7);
            let subscription = read(&bytes).expect("a subscription");
            assert_eq!(subscription.topics, ["a".to_owned(), "b".to_owned()].into());
            let owned: BTreeMap<_, _> =
                if version >= 1 { [("a".to_owned(), [1, 2].into())].into() } else { [].into() };
            assert_eq!(subscription.owned, owned);
            assert_eq!(subscription.generation, if version >= 2 { 7 } else { -1 });
        }
    }

    #[test]
    fn an_assignment_is_read_as_it_was_written() {
        let partitions: Named = [("a".to_owned(), [1, 2].into()), ("b".to_owned(), [0].into())].into();
        let read = read_assignment(&assignment(2, &partitions)).expect("an assignment");
        assert_eq!(read, Assigned { partitions, has_user_data: false });
    }

    #[test]
    fn a_subscription_that_is_cut_has_no_topics() {
        assert_eq!(topics(&[0, 0, 0, 0, 0, 9]), None);
        assert_eq!(topics(&[]), None);
    }
}
