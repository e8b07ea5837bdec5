//! The deliveries of a member.

use std::time::Duration;

use exactlyonce::broker::Assignment;

use super::helpers::{append, driver, numbered, topic, topic_of};
use super::member::{Behaviour, Member, MemberEvent, Positions, delivered, offsets_delivered};
use crate::kafka::backend::{Backend, Link, ProducerOptions, Request, TestProducer, Traffic, Verb, value};
use crate::suite::{Case, Observations, case};

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(
            nothing_is_delivered_of_a_partition_before_it_is_started,
            [],
            "the application assigns in its rebalance callback (librdkafka, rd_kafka_conf_set_rebalance_cb)"
        ),
        case!(
            every_record_is_delivered_once_in_order,
            [],
            "records of a partition are read in the order in which they were written (Kafka documentation)"
        ),
        case!(a_delivery_has_the_offset_of_the_next_one, [], "the project's `Delivery::Records`"),
        case!(
            an_end_is_reported_again_when_it_has_moved,
            [],
            "enable.partition.eof: once for each time that the end is reached (librdkafka, CONFIGURATION.md)"
        ),
        case!(
            nothing_of_an_older_incarnation_is_delivered_after_a_new_start,
            [],
            "a seek drops what was fetched before; a message may be in an application's queue already (librdkafka, rd_kafka_seek_partitions)"
        ),
        case!(
            a_paused_partition_is_not_delivered_while_others_are,
            [],
            "pause stops fetching, not polling (librdkafka, rd_kafka_pause_partitions)"
        ),
        case!(a_new_start_ends_a_pause, [], "the project's `Consumer::start`"),
        case!(
            two_members_of_two_groups_are_each_delivered_everything,
            [],
            "groups are independent (Kafka documentation, Consumers)"
        ),
        case!(
            lost_responses_to_fetches_neither_lose_nor_duplicate_records,
            [Link(LoseResponses)],
            "the position is the consumer's; a fetch is sent again from it (Kafka documentation, The Consumer)"
        ),
        case!(a_reader_that_was_cut_off_continues_at_its_position, [Link(Cut)], "as above"),
    ]
}

/// Joins as a member that acts only on command, and waits for the partitions.
async fn idle<W: Backend>(backend: &W, topic: &str, partitions: usize) -> Member {
    let group = backend.unique("group");
    let member =
        Member::join_as(Behaviour::Idle, &driver(backend), &group, topic, &Positions::default()).await;
    member.until_owns(partitions).await;
    member
}

fn of_incarnation(events: &[MemberEvent], incarnation: u64) -> Vec<i64> {
    let offsets = |events: &MemberEvent| match events {
        MemberEvent::Records { at, records, .. } if at.incarnation == incarnation => {
            records.iter().map(|(offset, _)| *offset).collect()
        }
        _ => Vec::new(),
    };
    events.iter().flat_map(offsets).collect()
}

async fn nothing_is_delivered_of_a_partition_before_it_is_started<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic_of(backend, 2, &[]).await;
    append(backend, &topic, 0, 0..5).await;
    append(backend, &topic, 1, 0..5).await;
    let member = idle(backend, &topic, 2).await;
    member.start(1, 2);
    member.until_ends(&[(1, 5)]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(offsets_delivered(&member.events(), 1), [2, 3, 4]);
    assert_eq!(offsets_delivered(&member.events(), 0), [] as [i64; 0]);
    seen.note("two partitions assigned, one started at 2: 2-4 of it, nothing of the other");
    member.start(0, 4);
    member.until_ends(&[(0, 5)]).await;
    assert_eq!(offsets_delivered(&member.events(), 0), [4]);
    seen.note("the other started at 4: 4");
    member.leave().await;
}

async fn every_record_is_delivered_once_in_order<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic_of(backend, 3, &[]).await;
    let member =
        Member::join(&driver(backend), &backend.unique("group"), &topic, &Positions::default()).await;
    member.until_owns(3).await;
    let producer = backend.producer(&ProducerOptions::default(), None);
    for round in 0..20 {
        for partition in 0..3 {
            let records = numbered(partition, round * 100..(round + 1) * 100);
            producer.send_all(&topic, records).await.expect("records");
        }
    }
    member.until_ends(&[(0, 2000), (1, 2000), (2, 2000)]).await;
    let events = member.leave().await;
    let expected: Vec<_> = (0..2000).map(|n: i64| (n, n.to_string())).collect();
    assert!((0..3).all(|partition| delivered(&events, partition) == expected));
    seen.note("2000 records in each of 3 partitions while being read: each once, in order");
}

async fn a_delivery_has_the_offset_of_the_next_one<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..1000).await;
    let member =
        Member::join(&driver(backend), &backend.unique("group"), &topic, &Positions::default()).await;
    member.until_ends(&[(0, 1000)]).await;
    let mut expected = 0;
    for events in member.leave().await {
        if let MemberEvent::Records { records, next, .. } = events {
            assert_eq!(records.first().map(|(offset, _)| *offset), Some(expected));
            assert_eq!(records.last().map(|(offset, _)| *offset + 1), Some(next));
            expected = next;
        }
    }
    assert_eq!(expected, 1000);
    seen.note("each of the deliveries of 1000 records starts at the next offset of the one before");
}

async fn an_end_is_reported_again_when_it_has_moved<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    let member =
        Member::join(&driver(backend), &backend.unique("group"), &topic, &Positions::default()).await;
    let mut ends = Vec::new();
    for end in 0..4 {
        member.until_ends(&[(0, end)]).await;
        ends.push(end.to_string());
        append(backend, &topic, 0, end..end + 1).await;
    }
    member.until_ends(&[(0, 4)]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let events: Vec<_> = member
        .leave()
        .await
        .into_iter()
        .filter_map(|events| match events {
            MemberEvent::End { offset, .. } => Some(offset),
            _ => None,
        })
        .collect();
    assert!(events.is_sorted(), "{events:?}");
    seen.note("4 records one by one: ends at 0, 1, 2, 3, 4");
}

async fn nothing_of_an_older_incarnation_is_delivered_after_a_new_start<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    const COUNT: i64 = 20_000;
    let topic = topic(backend, &[]).await;
    let producer = backend.producer(&ProducerOptions::default(), None);
    let records = (0..COUNT).map(|n| value(format!("{n:0200}"))).collect();
    producer.send_all(&topic, records).await.expect("records");
    let member = idle(backend, &topic, 1).await;
    // Each start happens while records of the previous one are being delivered.
    for start in [0, 5000, 100, 19_000, 7] {
        member.start(0, start);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    member.until_ends(&[(0, COUNT)]).await;
    let finished = |events: &[MemberEvent]| {
        events
            .iter()
            .any(|events| matches!(events, MemberEvent::End { at, offset: COUNT } if at.incarnation == 5))
    };
    member.until("the end of the last start", finished).await;
    let events = member.leave().await;
    let mut newest = 0;
    for events in &events {
        let (MemberEvent::Records { at, .. } | MemberEvent::End { at, .. }) = events else { continue };
        assert!(at.incarnation >= newest, "{at:?} after {newest}");
        newest = at.incarnation;
    }
    for (incarnation, start) in (1..).zip([0, 5000, 100, 19_000, 7]) {
        let offsets = of_incarnation(&events, incarnation);
        let follow: Vec<_> = (start..).take(offsets.len()).collect();
        assert_eq!(offsets, follow, "incarnation {incarnation}");
    }
    assert_eq!(of_incarnation(&events, 5).len() as i64, COUNT - 7);
    seen.note("started at 0, 5000, 100, 19000 and 7 in turn: each delivers from its start, none after the next, the last all");
}

async fn a_paused_partition_is_not_delivered_while_others_are<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic_of(backend, 2, &[]).await;
    let member =
        Member::join(&driver(backend), &backend.unique("group"), &topic, &Positions::default()).await;
    member.until_ends(&[(0, 0), (1, 0)]).await;
    member.pause(0);
    tokio::time::sleep(Duration::from_millis(500)).await;
    append(backend, &topic, 0, 0..10).await;
    append(backend, &topic, 1, 0..10).await;
    member.until_ends(&[(1, 10)]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(offsets_delivered(&member.events(), 0), [] as [i64; 0]);
    seen.note("one of two partitions paused, 10 records to each: 10 of the other, none of it");
    member.resume(0);
    member.until_ends(&[(0, 10)]).await;
    assert_eq!(offsets_delivered(&member.leave().await, 0), (0..10).collect::<Vec<_>>());
    seen.note("resumed: 10");
}

async fn a_new_start_ends_a_pause<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..10).await;
    let member = idle(backend, &topic, 1).await;
    member.start(0, 0);
    member.until_ends(&[(0, 10)]).await;
    member.pause(0);
    member.start(0, 6);
    let again = |events: &[MemberEvent]| of_incarnation(events, 2).len() == 4;
    member.until("the records again", again).await;
    assert_eq!(of_incarnation(&member.events(), 2), [6, 7, 8, 9]);
    seen.note("paused and started at 6: 6-9");
    append(backend, &topic, 0, 10..11).await;
    member.until("the next", |events| of_incarnation(events, 2).len() == 5).await;
    member.leave().await;
}

async fn two_members_of_two_groups_are_each_delivered_everything<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic_of(backend, 2, &[]).await;
    append(backend, &topic, 0, 0..10).await;
    append(backend, &topic, 1, 0..10).await;
    let broker = driver(backend);
    let mut members = Vec::new();
    for _ in 0..2 {
        members.push(Member::join(&broker, &backend.unique("group"), &topic, &Positions::default()).await);
    }
    for member in members {
        member.until_ends(&[(0, 10), (1, 10)]).await;
        let events = member.leave().await;
        assert!((0..2).all(|partition| offsets_delivered(&events, partition).len() == 10));
    }
    seen.note("two groups, one member each: each is delivered all records of all partitions");
}

async fn lost_responses_to_fetches_neither_lose_nor_duplicate_records<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic(backend, &[]).await;
    let link = backend.link();
    let broker = backend.broker(Default::default(), Some(&link));
    let member = Member::join(&broker, &backend.unique("group"), &topic, &Positions::default()).await;
    member.until_ends(&[(0, 0)]).await;
    for round in 0..4 {
        link.lose_responses(Request::Fetch, 1);
        append(backend, &topic, 0, round * 100..(round + 1) * 100).await;
        member.until_delivered(0, (round as usize + 1) * 100).await;
    }
    assert_eq!(link.lost_responses(), 4);
    let events = member.leave().await;
    assert_eq!(delivered(&events, 0), (0..400).map(|n: i64| (n, n.to_string())).collect::<Vec<_>>());
    seen.note("4 responses lost in 400 records: each once, in order");
}

async fn a_reader_that_was_cut_off_continues_at_its_position<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    let link = backend.link();
    let broker = backend.broker(Default::default(), Some(&link));
    let member = Member::join(&broker, &backend.unique("group"), &topic, &Positions::default()).await;
    append(backend, &topic, 0, 0..10).await;
    member.until_ends(&[(0, 10)]).await;
    link.cut(Traffic::All);
    append(backend, &topic, 0, 10..20).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(offsets_delivered(&member.events(), 0).len(), 10);
    link.restore();
    member.until_ends(&[(0, 20)]).await;
    let events = member.leave().await;
    assert_eq!(offsets_delivered(&events, 0), (0..20).collect::<Vec<_>>());
    let first = Assignment { partition: 0, incarnation: 1 };
    assert!(events.iter().all(|events| !matches!(events, MemberEvent::Records { at, .. } if *at != first)));
    seen.note("cut off for less than its session: 0-19 once each, in the same incarnation");
}
