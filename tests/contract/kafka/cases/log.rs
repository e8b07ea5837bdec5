//! The start and the end of a log, and positions outside of it.

use std::time::{Duration, SystemTime};

use exactlyonce::broker::{Broker, BrokerError, LogOffsets};

use super::helpers::{TIMEOUT, append, describe, driver, eventually, fetch, kind, offsets, topic};
use super::member::{Behaviour, Member, MemberEvent, Positions, offsets_delivered};
use crate::kafka::backend::{Backend, ClientError, NewRecord, ProducerOptions, TestProducer, value};
use crate::suite::{Case, Observations, case};

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(
            an_empty_partition_starts_and_ends_at_zero,
            [],
            "an empty log has log start offset = log end offset = 0 (Kafka protocol, ListOffsets)"
        ),
        case!(
            a_position_beyond_the_end_is_out_of_range_and_the_end_itself_is_not,
            [],
            "OFFSET_OUT_OF_RANGE only below the log start or above the log end (UnifiedLog.read)"
        ),
        case!(
            a_position_below_the_start_is_out_of_range,
            [],
            "DeleteRecords moves the log start offset; below it: OFFSET_OUT_OF_RANGE (KIP-107)"
        ),
        case!(
            deleting_all_records_leaves_a_log_that_starts_at_its_end,
            [],
            "DeleteRecords up to the high watermark: log start = log end; offsets are not used again (KIP-107)"
        ),
        case!(
            deleting_records_beyond_the_end_is_refused,
            [],
            "OFFSET_OUT_OF_RANGE if the offset is above the high watermark (KIP-107)"
        ),
        case!(
            retention_empties_even_the_last_segment,
            [],
            "the active segment is rolled and deleted when its newest timestamp is older than retention.ms (UnifiedLog.deleteOldSegments)"
        ),
        case!(
            a_record_from_the_future_holds_up_retention,
            [],
            "whole segments are deleted, from the first on, by the greatest timestamp of each (UnifiedLog.deleteRetentionMsBreachedSegments)"
        ),
        case!(
            a_record_from_more_than_an_hour_ahead_is_refused,
            [],
            "message.timestamp.after.max.ms: an hour, INVALID_TIMESTAMP beyond it (KIP-937)"
        ),
        case!(
            a_partition_that_the_topic_does_not_have_is_an_error,
            [],
            "UNKNOWN_TOPIC_OR_PARTITION (Kafka protocol)"
        ),
        case!(
            a_start_below_the_log_fails_and_a_new_start_resumes,
            [],
            "auto.offset.reset=error: the consumer reports the error and stays where it is (librdkafka, CONFIGURATION.md)"
        ),
        case!(
            a_start_beyond_the_log_fails_although_the_log_reaches_it_later,
            [],
            "as above; the broker does not wait for the log to grow (UnifiedLog.read)"
        ),
        case!(
            records_deleted_before_a_reader_reaches_them_are_out_of_range,
            [],
            "a fetch below the new log start: OFFSET_OUT_OF_RANGE (KIP-107)"
        ),
    ]
}

async fn an_empty_partition_starts_and_ends_at_zero<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    let broker = driver(backend);
    assert_eq!(offsets(&broker, &topic).await, LogOffsets { start: 0, end: 0 });
    seen.note("start 0, end 0");
    let at_zero = fetch(&broker, &topic, 0).await;
    seen.note(format!("a fetch at 0: {}", describe(&at_zero)));
    let member = Member::join(&broker, &backend.unique("group"), &topic, &Positions::default()).await;
    member.until_ends(&[(0, 0)]).await;
    seen.note("a member gets the end at 0");
    member.leave().await;
}

async fn a_position_beyond_the_end_is_out_of_range_and_the_end_itself_is_not<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..3).await;
    let broker = driver(backend);
    assert_eq!(offsets(&broker, &topic).await, LogOffsets { start: 0, end: 3 });
    for offset in [2, 3, 4, 1_000_000_000_000] {
        let fetched = fetch(&broker, &topic, offset).await;
        if let Err(BrokerError::OutOfRange { partition: 0, offset: requested, .. }) = &fetched {
            assert_eq!(*requested, offset);
        }
        seen.note(format!("end 3, a fetch at {offset}: {}", describe(&fetched)));
    }
    assert!(fetch(&broker, &topic, 3).await.is_ok_and(|fetched| fetched.records.is_empty()));
    assert!(matches!(fetch(&broker, &topic, 4).await, Err(BrokerError::OutOfRange { .. })));
}

async fn a_position_below_the_start_is_out_of_range<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..10).await;
    let broker = driver(backend);
    assert_eq!(backend.delete_records(&topic, 0, Some(5)).await, Ok(5));
    assert_eq!(offsets(&broker, &topic).await, LogOffsets { start: 5, end: 10 });
    seen.note("10 records, those below 5 deleted: start 5, end 10");
    for offset in [0, 4, 5] {
        seen.note(format!("a fetch at {offset}: {}", describe(&fetch(&broker, &topic, offset).await)));
    }
    assert!(matches!(fetch(&broker, &topic, 4).await, Err(BrokerError::OutOfRange { offset: 4, .. })));
}

async fn deleting_all_records_leaves_a_log_that_starts_at_its_end<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..10).await;
    let broker = driver(backend);
    assert_eq!(backend.delete_records(&topic, 0, None).await, Ok(10));
    assert_eq!(offsets(&broker, &topic).await, LogOffsets { start: 10, end: 10 });
    seen.note("10 records, all deleted: start 10, end 10");
    for offset in [9, 10] {
        seen.note(format!("a fetch at {offset}: {}", describe(&fetch(&broker, &topic, offset).await)));
    }
    assert_eq!(append(backend, &topic, 0, 10..11).await, [10]);
    seen.note("the next record gets the offset 10");
}

async fn deleting_records_beyond_the_end_is_refused<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..3).await;
    let broker = driver(backend);
    let refused = backend.delete_records(&topic, 0, Some(4)).await;
    assert_eq!(refused, Err(ClientError::OutOfRange));
    assert_eq!(offsets(&broker, &topic).await, LogOffsets { start: 0, end: 3 });
    seen.note("end 3, deletion below 4: out of range; start 0, end 3");
}

async fn retention_empties_even_the_last_segment<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[("retention.ms", "1000")]).await;
    let producer = backend.producer(&ProducerOptions::default(), None);
    let old = |n: i64| NewRecord { timestamp: Some(1_000_000 + n), ..value(n.to_string()) };
    producer.send_all(&topic, (0..4).map(old).collect()).await.expect("records");
    let broker = driver(backend);
    let attempt = || async { offsets(&broker, &topic).await };
    let after = eventually("retention", attempt, |offsets| offsets.start > 0).await;
    assert_eq!(after, LogOffsets { start: 4, end: 4 });
    seen.note("4 records past their retention: start 4, end 4");
    for offset in [3, 4] {
        seen.note(format!("a fetch at {offset}: {}", describe(&fetch(&broker, &topic, offset).await)));
    }
}

/// A time that is so much later than now, in milliseconds.
fn ahead(minutes: u64) -> i64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970") + Duration::from_secs(60 * minutes);
    i64::try_from(now.as_millis()).expect("a time")
}

async fn a_record_from_the_future_holds_up_retention<W: Backend>(backend: &W, seen: &Observations) {
    // The smallest segment there is, of which each record has more than a half.
    let topic = topic(backend, &[("retention.ms", "1000"), ("segment.bytes", "1048576")]).await;
    let producer = backend.producer(&ProducerOptions::default(), None);
    let large = "x".repeat(600_000);
    for timestamp in [1_000_000, 1_000_001, ahead(30), 1_000_002] {
        let record = NewRecord { timestamp: Some(timestamp), ..value(&large) };
        producer.send(&topic, record).await.expect("a record");
    }
    let broker = driver(backend);
    let attempt = || async { offsets(&broker, &topic).await };
    let after = eventually("retention", attempt, |offsets| offsets.start > 1).await;
    assert_eq!(after, LogOffsets { start: 2, end: 4 });
    // For some rounds of retention.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(offsets(&broker, &topic).await, LogOffsets { start: 2, end: 4 });
    seen.note("4 segments of a record each, past their retention but for the third: start 2, end 4");
}

async fn a_record_from_more_than_an_hour_ahead_is_refused<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    let producer = backend.producer(&ProducerOptions::default(), None);
    for minutes in [30, 90] {
        let record = NewRecord { timestamp: Some(ahead(minutes)), ..value("x") };
        let outcome = match producer.send(&topic, record).await {
            Ok((_, offset)) => format!("appended at {offset}"),
            Err(error) => format!("{error:?}"),
        };
        seen.note(format!("{minutes} minutes ahead: {outcome}"));
    }
    assert_eq!(offsets(&driver(backend), &topic).await, LogOffsets { start: 0, end: 1 });
}

async fn a_partition_that_the_topic_does_not_have_is_an_error<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    let broker = driver(backend);
    let offsets = broker.offsets(&topic, 1).await.expect_err("no such partition");
    let fetched = broker.fetch(&topic, 1, 0, 10, 1000).await.expect_err("no such partition");
    seen.note(format!("offsets: {}, fetch: {}", kind(&offsets), kind(&fetched)));
    assert!(!offsets.is_retriable() && !fetched.is_retriable());
}

async fn a_start_below_the_log_fails_and_a_new_start_resumes<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..10).await;
    backend.delete_records(&topic, 0, Some(5)).await.expect("deleted");
    let member =
        Member::join(&driver(backend), &backend.unique("group"), &topic, &Positions::at([(0, 4)])).await;
    fails(&member, 4).await;
    seen.note("start 5, a member's start at 4: out of range at 4, nothing delivered");
    member.start(0, 5);
    member.until_ends(&[(0, 10)]).await;
    assert_eq!(offsets_delivered(&member.events(), 0), [5, 6, 7, 8, 9]);
    seen.note("started again at 5: 5-9, end 10");
    member.leave().await;
}

async fn a_start_beyond_the_log_fails_although_the_log_reaches_it_later<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..3).await;
    let member =
        Member::join(&driver(backend), &backend.unique("group"), &topic, &Positions::at([(0, 4)])).await;
    fails(&member, 4).await;
    seen.note("end 3, a member's start at 4: out of range at 4");
    append(backend, &topic, 0, 3..6).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(offsets_delivered(&member.events(), 0).is_empty());
    seen.note("the log grows to 6: nothing delivered");
    member.start(0, 4);
    member.until_ends(&[(0, 6)]).await;
    assert_eq!(offsets_delivered(&member.events(), 0), [4, 5]);
    seen.note("started again at 4: 4-5, end 6");
    member.leave().await;
}

async fn fails(member: &Member, at_offset: i64) {
    let failed = |events: &[MemberEvent]| {
        events.iter().any(|events| {
            matches!(events, MemberEvent::Failed { at, offset, kind: "out of range" } if at.partition == 0 && *offset == at_offset)
        })
    };
    member.until(&format!("failure at {at_offset}"), failed).await;
    assert!(offsets_delivered(&member.events(), 0).is_empty());
}

async fn records_deleted_before_a_reader_reaches_them_are_out_of_range<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..3).await;
    let positions = Positions::default();
    let broker = driver(backend);
    let member =
        Member::join_as(Behaviour::Worker, &broker, &backend.unique("group"), &topic, &positions).await;
    member.until_ends(&[(0, 3)]).await;
    member.pause(0);
    append(backend, &topic, 0, 3..10).await;
    backend.delete_records(&topic, 0, Some(8)).await.expect("deleted");
    // A fetch may have been in flight when the member was paused.
    let mark = member.mark();
    member.start(0, 3);
    let failed = |events: &[MemberEvent]| {
        events
            .iter()
            .skip(mark)
            .any(|events| matches!(events, MemberEvent::Failed { offset: 3, kind: "out of range", .. }))
    };
    member.until("the failure", failed).await;
    assert!(
        member
            .since(mark)
            .iter()
            .all(|events| !matches!(events, MemberEvent::Records { at, .. } if at.incarnation == 2))
    );
    seen.note("position 3, records below 8 deleted: out of range at 3, nothing delivered");
    assert!(tokio::time::timeout(TIMEOUT, member.leave()).await.is_ok());
}
