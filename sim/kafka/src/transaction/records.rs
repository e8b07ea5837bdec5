//! The records of transactional ids, in the formats of Kafka's `__transaction_state`.

use std::collections::{BTreeMap, BTreeSet};

use super::state::{Metadata, NO_EPOCH, NO_ID, State};
use crate::coordinator::wire::{Reader, Writer};
use crate::coordinator::{Record, RecordError};

/// The type of a key.
const TRANSACTION_LOG: i16 = 0;

/// Reads a record: a transactional id and its state, `None` if it is forgotten. Keys of other types are `None`.
pub(crate) fn read(record: &Record) -> Result<Option<(String, Option<Metadata>)>, RecordError> {
    let mut key = Reader::new("key", &record.key);
    if key.i16("type")? != TRANSACTION_LOG {
        return Ok(None);
    }
    let id = key.str("transactional_id")?;
    Ok(Some((id, record.value.as_deref().map(read_value).transpose()?)))
}

fn read_value(bytes: &[u8]) -> Result<Metadata, RecordError> {
    let mut value = Reader::new("transaction", bytes);
    let version = value.i16("version")?;
    if !(0..=1).contains(&version) {
        return Err(value.unknown_version(version));
    }
    value.flexible(version >= 1);
    let producer_id = value.i64("producer_id")?;
    let epoch = value.i16("producer_epoch")?;
    let timeout = value.i32("transaction_timeout_ms")?;
    let number = value.i8("transaction_status")?;
    let state = State::of(number).ok_or_else(|| value.bad_value("transaction_status", i64::from(number)))?;
    let topics = value.array("transaction_partitions", |value| {
        let topic = value.str("topic")?;
        let partitions = value.array("partition_ids", |value| value.i32("partition"))?;
        value.end()?;
        Ok((topic, partitions))
    })?;
    let updated = value.i64("transaction_last_update_timestamp_ms")?;
    let started = value.i64("transaction_start_timestamp_ms")?;
    let partitions: BTreeSet<_> = topics
        .into_iter()
        .flat_map(|(topic, partitions)| {
            partitions.into_iter().map(move |partition| (topic.clone(), partition))
        })
        .collect();
    let mut metadata = Metadata {
        producer_id,
        previous_producer_id: NO_ID,
        next_producer_id: NO_ID,
        epoch,
        last_epoch: NO_EPOCH,
        timeout,
        state,
        partitions,
        started,
        updated,
        version: 0,
    };
    for (tag, mut field) in value.end()? {
        match tag {
            0 => metadata.previous_producer_id = field.i64("previous_producer_id")?,
            1 => metadata.next_producer_id = field.i64("next_producer_id")?,
            2 => metadata.version = field.i16("client_transaction_version")?,
            _ => {}
        }
    }
    Ok(metadata)
}

/// The record of a state. Flexible from `transaction.version` 1 on.
///
/// As Kafka 4.1's `TransactionLog.valueToBytes`, it holds neither the last epoch nor the previous and next producer
/// ids: another coordinator does not know them.
pub(crate) fn write(id: &str, metadata: &Metadata, transaction_version: i16) -> Record {
    let flexible = transaction_version >= 1;
    let mut out = Writer::new(i16::from(flexible), flexible);
    out.i64(metadata.producer_id).i16(metadata.epoch).i32(metadata.timeout).i8(metadata.state.number());
    if metadata.state == State::Empty {
        out.null_array();
    } else {
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in &metadata.partitions {
            topics.entry(topic).or_default().push(*partition);
        }
        out.array(topics.into_iter(), |out, (topic, partitions)| {
            out.str(topic);
            out.array(partitions.iter(), |out, partition| {
                out.i32(*partition);
            });
            out.end();
        });
    }
    out.i64(metadata.updated).i64(metadata.started);
    if flexible {
        let version = Writer::field(|field| {
            field.i16(metadata.version);
        });
        out.end_with(if metadata.version == 0 { Vec::new() } else { vec![(2, version)] });
    }
    Record { key: key(id), value: Some(out.finish()) }
}

/// The tombstone of a transactional id.
pub(crate) fn tombstone(id: &str) -> Record {
    Record { key: key(id), value: None }
}

fn key(id: &str) -> bytes::Bytes {
    let mut key = Writer::new(TRANSACTION_LOG, false);
    key.str(id);
    key.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written_but_for_what_kafka_does_not_record() {
        let partitions = [("a".to_owned(), 0), ("a".to_owned(), 2), ("b".to_owned(), 1)].into();
        let metadata = Metadata {
            epoch: 3,
            last_epoch: 2,
            state: State::Ongoing,
            partitions,
            started: 5,
            version: 2,
            ..Metadata::new(9, 60_000, 4)
        };
        for version in [0, 1, 2] {
            let read = read(&write("id", &metadata, version)).expect("a record");
            let client_version = if version == 0 { 0 } else { 2 };
            let expected = Metadata { last_epoch: NO_EPOCH, version: client_version, ..metadata.clone() };
            assert_eq!(read, Some(("id".to_owned(), Some(expected))));
        }
        assert_eq!(read(&tombstone("id")), Ok(Some(("id".to_owned(), None))));
    }

    #[test]
    fn an_unknown_state_is_refused() {
        let mut metadata = Metadata::new(9, 60_000, 4);
        metadata.epoch = 0;
        let mut record = write("id", &metadata, 0);
        let mut value = record.value.take().map(|value| value.to_vec()).unwrap_or_default();
        if let Some(state) = value.get_mut(16) {
            *state = 9;
        }
        record.value = Some(value.into());
        let refused = RecordError::Value { record: "transaction", field: "transaction_status", value: 9 };
        assert_eq!(read(&record), Err(refused));
    }
}
