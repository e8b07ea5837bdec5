//! Replicas: when records are visible, and how failures of brokers affect readers.

use std::time::Duration;

use exactlyonce::broker::{Broker, LogOffsets};
use simulated_hosts::{
    HostFault::{Kill, Pause, Stop},
    Recovery::{Resume, Start},
};

use super::helpers::{
    append, describe, driver, eventually, fetch, numbered, offsets, read_all, topic_of, values_of,
};
use super::member::{
    Member, MemberEvent, Positions, brief, delivered, of_the_group, offsets_delivered, summary,
};
use crate::kafka::backend::{
    Backend, ClientError, Guarantee, NODES, PartitionState, ProducerOptions, TestProducer, Verb, value,
};
use crate::suite::{Case, Observations, case};

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(
            a_record_is_visible_when_the_in_sync_set_has_it,
            [Host(Pause)],
            "consumers read up to the high watermark: what all in-sync replicas have (Kafka documentation, Replication)"
        ),
        case!(
            too_few_in_sync_replicas_refuse_a_write_to_all_of_them,
            [Host(Kill)],
            "acks=all with fewer than min.insync.replicas: NOT_ENOUGH_REPLICAS (topic configuration); the high watermark does not advance meanwhile (KIP-966)"
        ),
        case!(
            a_record_that_only_its_leader_has_is_lost_with_it,
            [Host(Pause), Host(Kill)],
            "acks=1: lost if the leader fails before followers copied it; its offset is used again (producer configuration, acks)"
        ),
        case!(
            a_killed_leader_neither_loses_nor_duplicates_records_for_a_reader,
            [Host(Kill), PreferredElection],
            "a new leader from the in-sync set has everything below the high watermark (Kafka documentation, Replication)"
        ),
        case!(
            a_paused_leader_delays_records_and_loses_none,
            [Host(Pause)],
            "a request times out and is sent again (librdkafka, socket.timeout.ms)"
        ),
        case!(
            a_reader_is_not_affected_by_a_rolling_restart_of_the_brokers,
            [Host(Stop)],
            "controlled shutdown moves leaders first (broker configuration, controlled.shutdown.enable)"
        ),
        case!(
            acknowledged_records_survive_a_kill_of_all_brokers,
            [Host(Kill)],
            "not synced to the disk before the acknowledgement; a process's end loses nothing of the page cache (Kafka documentation, Replication)"
        ),
        case!(
            an_unclean_election_puts_different_records_at_offsets_that_were_read,
            [Host(Pause), Host(Kill), UncleanElection],
            "unclean.leader.election.enable: data loss (topic configuration); a position without a leader epoch is not validated (KIP-320)"
        ),
    ]
}

fn quick(acks: i32) -> ProducerOptions {
    ProducerOptions { acks, delivery_timeout: Duration::from_secs(30), ..ProducerOptions::default() }
}

async fn placed<W: Backend>(backend: &W, replicas: &[i32], configs: &[(&str, &str)]) -> String {
    let topic = backend.unique("contract");
    backend.create_topic_on(&topic, replicas, configs).await.expect("a topic");
    topic
}

async fn in_sync<W: Backend>(backend: &W, topic: &str, count: usize) {
    let attempt = || backend.partition(topic, 0);
    let right = |state: &Result<PartitionState, ClientError>| {
        state.as_ref().is_ok_and(|state| state.in_sync.len() == count)
    };
    assert!(eventually("the in-sync set", attempt, right).await.is_ok());
}

async fn led_by_other_than<W: Backend>(backend: &W, topic: &str, node: i32) -> i32 {
    let attempt = || backend.partition(topic, 0);
    let other = |leader: Option<i32>| leader.is_some_and(|leader| leader != node);
    let state =
        eventually("another leader", attempt, |state| state.as_ref().is_ok_and(|state| other(state.leader)))
            .await;
    state.ok().and_then(|state| state.leader).expect("a leader")
}

async fn a_record_is_visible_when_the_in_sync_set_has_it<W: Backend>(backend: &W, seen: &Observations) {
    let topic = placed(backend, &[1, 2, 3], &[]).await;
    append(backend, &topic, 0, 0..3).await;
    let broker = driver(backend);
    let attempt = || async { offsets(&broker, &topic).await.end };
    eventually("the first records", attempt, |end| *end == 3).await;
    backend.apply(Pause, 3).await;
    let sent = backend.producer(&quick(1), None).send_all(&topic, numbered(0, 3..6)).await;
    assert_eq!(sent, Ok(vec![(0, 3), (0, 4), (0, 5)]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let log = offsets(&broker, &topic).await;
    seen.note(format!(
        "3 records, a follower is paused, 3 more that the leader alone acknowledged (3-5): end {}",
        log.end
    ));
    assert_eq!(log, LogOffsets { start: 0, end: 3 });
    for offset in [0, 3] {
        seen.note(format!("a fetch at {offset}: {}", describe(&fetch(&broker, &topic, offset).await)));
    }
    // Above the leader's log end, not only above the high watermark.
    seen.note(format!("a fetch at 7: {}", describe(&fetch(&broker, &topic, 7).await)));
    let member = Member::join(&broker, &backend.unique("group"), &topic, &Positions::at([(0, 4)])).await;
    member.until_owns(1).await;
    let started_early = member.mark();
    eventually("the end", attempt, |end| *end == 6).await;
    in_sync(backend, &topic, 2).await;
    seen.note("the follower is dropped from the in-sync set: end 6");
    member.until_ends(&[(0, 6)]).await;
    let events = member.leave().await;
    assert!(
        !events.iter().any(|events| matches!(events, MemberEvent::Failed { .. })),
        "{}",
        brief(&events[started_early..])
    );
    assert_eq!(offsets_delivered(&events, 0), [4, 5]);
    seen.note("a member started at 4 before that: 4-5 then");
}

async fn too_few_in_sync_replicas_refuse_a_write_to_all_of_them<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = placed(backend, &[1, 2], &[("min.insync.replicas", "2")]).await;
    append(backend, &topic, 0, 0..3).await;
    backend.apply(Kill, 2).await;
    in_sync(backend, &topic, 1).await;
    // Metadata may be ahead of the leader itself.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let refused = backend
        .producer(&ProducerOptions { retries: 0, ..quick(-1) }, None)
        .send(&topic, value("refused"))
        .await;
    assert_eq!(refused, Err(ClientError::NotEnoughReplicas));
    let broker = driver(backend);
    seen.note(format!(
        "1 of 2 replicas in sync, 2 needed, acks=all: not enough replicas, end {}",
        offsets(&broker, &topic).await.end
    ));
    let alone = backend.producer(&quick(1), None).send(&topic, value("alone")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let end = offsets(&broker, &topic).await.end;
    seen.note(format!(
        "acks=1: {}, end {end}",
        if alone == Ok((0, 3)) { "appended at 3" } else { "refused" }
    ));
    seen.note(format!("a fetch at 0: {}", describe(&fetch(&broker, &topic, 0).await)));
    backend.recover(Start, &[2]).await;
    in_sync(backend, &topic, 2).await;
    let attempt = || async { offsets(&broker, &topic).await.end };
    eventually("the end", attempt, |end| *end == 4).await;
    assert_eq!(values_of(&read_all(&broker, &topic, 0, 0).await), ["0", "1", "2", "alone"]);
    seen.note("both in sync again: end 4");
}

async fn a_record_that_only_its_leader_has_is_lost_with_it<W: Backend>(backend: &W, seen: &Observations) {
    let topic = placed(backend, &[1, 2, 3], &[]).await;
    append(backend, &topic, 0, 0..3).await;
    let broker = driver(backend);
    let attempt = || async { offsets(&broker, &topic).await.end };
    eventually("the first records", attempt, |end| *end == 3).await;
    let producer = backend.producer(&quick(1), None);
    backend.apply(Pause, 2).await;
    backend.apply(Pause, 3).await;
    // A fetch of the follower that is already waiting at the leader returns one more batch to it.
    let sent = producer.send(&topic, value("copied or not")).await;
    assert_eq!(sent, Ok((0, 3)));
    assert_eq!(producer.send(&topic, value("lost")).await, Ok((0, 4)));
    backend.apply(Kill, 1).await;
    backend.recover(Resume, &[2]).await;
    backend.recover(Resume, &[3]).await;
    led_by_other_than(backend, &topic, 1).await;
    let next = append(backend, &topic, 0, [9]).await;
    let values = values_of(&read_all(&broker, &topic, 0, 0).await);
    assert!(!values.contains(&"lost".to_owned()) && values.last() == Some(&"9".to_owned()), "{values:?}");
    assert!(next[0] <= 4, "{next:?}");
    seen.note("the leader alone acknowledged offset 4 and is killed: a clean election, the record is lost, and its offset is used again");
    seen.note("no reader had been delivered it");
}

async fn a_killed_leader_neither_loses_nor_duplicates_records_for_a_reader<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = placed(backend, &[2, 3, 1], &[]).await;
    let broker = driver(backend);
    let member = Member::join(&broker, &backend.unique("group"), &topic, &Positions::default()).await;
    member.until_ends(&[(0, 0)]).await;
    let producer = backend.producer(&ProducerOptions { guarantee: Guarantee::Idempotent, ..quick(-1) }, None);
    producer.send_all(&topic, numbered(0, 0..100)).await.expect("records");
    backend.apply(Kill, 2).await;
    producer.send_all(&topic, numbered(0, 100..200)).await.expect("records");
    led_by_other_than(backend, &topic, 2).await;
    member.until_delivered(0, 200).await;
    seen.note("the leader is killed while a member reads: another leads");
    backend.recover(Start, &[2]).await;
    in_sync(backend, &topic, 3).await;
    let attempt = || async {
        backend.elect_preferred(&topic, 0).await.expect("an election");
        backend.partition(&topic, 0).await
    };
    let right = |state: &Result<PartitionState, ClientError>| {
        state.as_ref().is_ok_and(|state| state.leader == Some(2))
    };
    assert!(eventually("the preferred leader", attempt, right).await.is_ok());
    producer.send_all(&topic, numbered(0, 200..300)).await.expect("records");
    member.until_delivered(0, 300).await;
    seen.note("it is up and leads again");
    let events = member.leave().await;
    assert_eq!(delivered(&events, 0), (0..300).map(|n: i64| (n, n.to_string())).collect::<Vec<_>>());
    assert!(!events.iter().any(|events| matches!(events, MemberEvent::Failed { .. })));
    seen.note("300 records: each once, in order, no failure reported");
}

async fn a_paused_leader_delays_records_and_loses_none<W: Backend>(backend: &W, seen: &Observations) {
    let topic = placed(backend, &[3, 1, 2], &[]).await;
    let broker = driver(backend);
    let member = Member::join(&broker, &backend.unique("group"), &topic, &Positions::default()).await;
    let producer = backend.producer(&ProducerOptions { guarantee: Guarantee::Idempotent, ..quick(-1) }, None);
    producer.send_all(&topic, numbered(0, 0..50)).await.expect("records");
    member.until_delivered(0, 50).await;
    backend.apply(Pause, 3).await;
    let (sent, ()) = tokio::join!(producer.send_all(&topic, numbered(0, 50..100)), async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        backend.recover(Resume, &[3]).await;
    });
    sent.expect("records");
    member.until_delivered(0, 100).await;
    let events = member.leave().await;
    assert_eq!(delivered(&events, 0), (0..100).map(|n: i64| (n, n.to_string())).collect::<Vec<_>>());
    assert!(!events.iter().any(|events| matches!(events, MemberEvent::Failed { .. })));
    seen.note("the leader is paused for 4 s: 100 records, each once, in order, no failure reported");
}

async fn a_reader_is_not_affected_by_a_rolling_restart_of_the_brokers<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let topic = topic_of(backend, 3, &[]).await;
    let broker = driver(backend);
    let member = Member::join(&broker, &backend.unique("group"), &topic, &Positions::default()).await;
    member.until_ends(&[(0, 0), (1, 0), (2, 0)]).await;
    let mark = member.mark();
    let producer = backend.producer(&ProducerOptions { guarantee: Guarantee::Idempotent, ..quick(-1) }, None);
    let mut sent = 0;
    for node in NODES {
        backend.apply(Stop, node).await;
        for partition in 0..3 {
            producer.send_all(&topic, numbered(partition, sent..sent + 20)).await.expect("records");
        }
        sent += 20;
        backend.recover(Start, &[node]).await;
        for partition in 0..3 {
            let attempt = || backend.partition(&topic, partition);
            let right = |state: &Result<PartitionState, ClientError>| {
                state.as_ref().is_ok_and(|state| state.in_sync.len() == 3)
            };
            assert!(eventually("the in-sync set", attempt, right).await.is_ok());
        }
    }
    member.until_ends(&[(0, sent), (1, sent), (2, sent)]).await;
    let events = member.leave().await;
    for partition in 0..3 {
        assert_eq!(delivered(&events, partition), (0..sent).map(|n| (n, n.to_string())).collect::<Vec<_>>());
    }
    assert!(!events.iter().any(|events| matches!(events, MemberEvent::Failed { .. })));
    seen.note("each broker stopped and started while records are written: each delivered once, in order, no failure reported");
    let of_the_group = of_the_group(&events[mark..]);
    assert!(
        !of_the_group.iter().any(|events| matches!(events, MemberEvent::Ended(_))),
        "{}",
        summary(&of_the_group)
    );
}

async fn acknowledged_records_survive_a_kill_of_all_brokers<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic_of(backend, 1, &[]).await;
    append(backend, &topic, 0, 0..100).await;
    let broker = driver(backend);
    let member = Member::join(&broker, &backend.unique("group"), &topic, &Positions::default()).await;
    member.until_delivered(0, 50).await;
    append(backend, &topic, 0, 100..200).await;
    for node in NODES {
        backend.apply(Kill, node).await;
    }
    // A single broker does not respond, because there is no majority.
    backend.recover(Start, &NODES).await;
    let log = eventually(
        "the log",
        || broker.offsets(&topic, 0),
        |log| log.as_ref().is_ok_and(|log| log.end == 200),
    )
    .await;
    assert!(log.is_ok_and(|log| log.start == 0));
    member.until_delivered(0, 200).await;
    append(backend, &topic, 0, 200..210).await;
    member.until_delivered(0, 210).await;
    assert_eq!(offsets_delivered(&member.leave().await, 0), (0..210).collect::<Vec<_>>());
    seen.note(
        "200 records acknowledged, all brokers killed and started: 200 records; a member continues to read, each once",
    );
}

async fn an_unclean_election_puts_different_records_at_offsets_that_were_read<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let configs = [("min.insync.replicas", "1"), ("unclean.leader.election.enable", "true")];
    let topic = placed(backend, &[1, 2], &configs).await;
    append(backend, &topic, 0, 0..5).await;
    backend.apply(Pause, 2).await;
    in_sync(backend, &topic, 1).await;
    append(backend, &topic, 0, 5..10).await;
    let broker = driver(backend);
    let attempt = || async { offsets(&broker, &topic).await.end };
    eventually("all records", attempt, |end| *end == 10).await;
    assert_eq!(values_of(&read_all(&broker, &topic, 0, 0).await).len(), 10);
    let member = Member::join(&broker, &backend.unique("group"), &topic, &Positions::default()).await;
    member.until_ends(&[(0, 10)]).await;
    let mark = member.mark();
    backend.apply(Kill, 1).await;
    backend.recover(Resume, &[2]).await;
    let leader = led_by_other_than(backend, &topic, 1).await;
    assert_eq!(leader, 2);
    let fetched = fetch(&broker, &topic, 10).await;
    seen.note(format!(
        "10 records read, an unclean election of a replica with 5: a fetch at 10: {}",
        describe(&fetched)
    ));
    append(backend, &topic, 0, 100..108).await;
    let fetched = fetch(&broker, &topic, 10).await;
    seen.note(format!("8 more: a fetch at 10: {}, no error", describe(&fetched)));
    assert_eq!(values_of(&fetched.expect("records").records), ["105", "106", "107"]);
    let has_failed = |events: &[MemberEvent]| {
        events.iter().any(|event| matches!(event, MemberEvent::Failed { kind: "out of range", .. }))
    };
    let attempt = || async { member.since(mark) };
    let something = |events: &Vec<MemberEvent>| has_failed(events) || !delivered(events, 0).is_empty();
    eventually("something for the member", attempt, something).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let events = member.since(mark);
    let (failed, records) = (has_failed(&events), delivered(&events, 0));
    seen.note(format!(
        "a member at 10 throughout: {}",
        match (failed, records.is_empty()) {
            // Which one depends on the length of the log at its first fetch from the new leader.
            (true, true) | (false, false) => "gets out of range, or the other records",
            (true, false) => "gets out of range, and records",
            (false, true) => "gets nothing",
        }
    ));
    member.crash().await;
}
