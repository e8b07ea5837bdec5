//! The estimated sizes of rows in requests, compared with the bytes that are sent.

use std::fmt::Debug;

use scylla::frame::response::result::{ColumnSpec, ColumnType, NativeType, TableSpec};
use scylla::serialize::row::RowSerializationContext;
use scylla::serialize::writers::RowWriter;

use super::{DeadLetterRow, EventRow, RequestRow};
use crate::event::{Body, DeadLetter, Event, Health, Reason};
use crate::store::Alert;

/// Maximum bytes by which an estimate may exceed the size.
const EXCESS: usize = 40;

/// Asserts that a row's estimate is its size in a batch, or a little more.
pub(in crate::store::cassandra) fn assert_estimated(
    row: &impl RequestRow,
    types: &[NativeType],
    what: impl Debug,
) {
    let column = |data: &NativeType| {
        ColumnSpec::borrowed("c", ColumnType::Native(data.clone()), TableSpec::borrowed("k", "t"))
    };
    let columns: Vec<ColumnSpec<'_>> = types.iter().map(column).collect();
    let mut values = Vec::new();
    let context = RowSerializationContext::from_specs(&columns);
    row.serialize(&context, &mut RowWriter::new(&mut values)).expect("the types are those of the columns");
    // Before the values: the kind, the length of the id and the id, and the number of values.
    let bytes = 1 + 2 + 16 + 2 + values.len();
    let estimate = row.bytes();
    assert!((bytes..=bytes + EXCESS).contains(&estimate), "{what:?}: {estimate} for {bytes} bytes");
}

#[test]
fn the_estimated_size_of_an_event_is_little_more_than_its_size() {
    use NativeType::{BigInt, Int, Text, Timestamp};
    for (source, client) in [(0, 0), (1, 1_000), (700, 3), (1_024, 1_024)] {
        let (source, client) = ("s".repeat(source), "c".repeat(client));
        let event = Event { id: 1, ts: 2, source, client, health: Health::Warning };
        let row = |bucket| EventRow { partition: 1, bucket, offset: 5, event: &event };
        let original = [Int, BigInt, BigInt, Timestamp, Text, Text, Int, BigInt];
        assert_estimated(&row(None), &original, &event);
        let bucketed = [Int, BigInt, BigInt, BigInt, Timestamp, Text, Text, Int, BigInt];
        assert_estimated(&row(Some(3)), &bucketed, &event);
    }
}

#[test]
fn the_estimated_size_of_a_dead_letter_is_little_more_than_its_size() {
    use NativeType::{BigInt, Blob, Int, Text, Timestamp};
    let bytes = |length: Option<usize>| length.map(|length| vec![7; length]);
    let whole = |key, value| Body::Whole { key: bytes(key), value: bytes(value) };
    let bodies = [
        whole(None, None),
        whole(Some(0), Some(3)),
        whole(Some(900), None),
        whole(None, Some(1_000)),
        whole(Some(200), Some(100_000)),
        Body::Digest { key_length: Some(1), value_length: Some(2), sha256: [9; 32] },
    ];
    for body in bodies {
        for reason in Reason::all() {
            let letter = DeadLetter { reason, timestamp: 3, body: body.clone() };
            let row = DeadLetterRow { partition: 1, offset: 5, letter: &letter };
            let columns = [Int, BigInt, Text, Timestamp, Blob, Blob, BigInt, BigInt, Blob, BigInt];
            assert_estimated(&row, &columns, letter.reason);
        }
    }
}

#[test]
fn the_estimated_size_of_an_alert_is_little_more_than_its_size() {
    use NativeType::{BigInt, Int, Text, Timestamp};
    for length in [0, 1, 50, 1_024] {
        let alert = Alert { source: "s".repeat(length).into(), ts: 2, event_count: 3 };
        assert_estimated(&&alert, &[Text, Timestamp, Int, BigInt], &alert);
    }
}
