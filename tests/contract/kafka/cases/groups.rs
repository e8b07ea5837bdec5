//! Members of a group: assignment, reassignment and failures. Each case is run with both protocols.

use simulated_hosts::{HostFault::Kill, Recovery::Start};
use std::time::Duration;

use super::helpers::{append, eventually, topic, topic_of};
use super::member::{
    Behaviour, Member, MemberEvent, Positions, brief, delivered, of_the_group, offsets_delivered, owned,
    summary,
};
use crate::kafka::backend::{Backend, Client, ProducerOptions, Protocol, TestProducer, Verb, value};
use crate::suite::{Case, Observations, case};

/// Cases that are run with each protocol.
macro_rules! with_both_protocols {
    ($($body:ident: $classic:ident, $consumer:ident;)*) => {$(
        async fn $classic<W: Backend>(backend: &W, seen: &Observations) {
            $body(backend, seen, Protocol::Classic).await;
        }
        async fn $consumer<W: Backend>(backend: &W, seen: &Observations) {
            $body(backend, seen, Protocol::Consumer).await;
        }
    )*};
}

pub(super) use with_both_protocols;

with_both_protocols! {
    joins: classic_a_member_that_joins_gets_a_share, consumer_a_member_that_joins_gets_a_share;
    too_many: classic_a_surplus_member_gets_an_empty_assignment, consumer_a_surplus_member_gets_an_empty_assignment;
    waits: classic_a_partition_is_not_reassigned_before_it_is_released, consumer_a_partition_is_not_reassigned_before_it_is_released;
    prefetched: classic_nothing_of_a_partition_is_delivered_after_its_revocation, consumer_nothing_of_a_partition_is_delivered_after_its_revocation;
    leaves: classic_the_partitions_of_a_member_that_leaves_resume_at_the_given_positions, consumer_the_partitions_of_a_member_that_leaves_resume_at_the_given_positions;
    crashes: classic_the_partitions_of_a_crashed_member_are_reassigned_after_its_session, consumer_the_partitions_of_a_crashed_member_are_reassigned_after_its_session;
    polling: classic_a_member_that_polls_keeps_its_paused_partitions, consumer_a_member_that_polls_keeps_its_paused_partitions;
    late_start: classic_a_partition_may_be_started_long_after_its_assignment, consumer_a_partition_may_be_started_long_after_its_assignment;
    coordinator: classic_members_are_not_affected_by_a_killed_coordinator, consumer_members_are_not_affected_by_a_killed_coordinator;
}

const JOIN: &str = "cooperative: only what moves is revoked, and assigned in a second round (KIP-429); by the broker, member by member (KIP-848)";
pub(super) const EXPIRY: &str = "after session.timeout.ms without a heartbeat a member is dead; it learns with its next heartbeat: UNKNOWN_MEMBER_ID / FENCED_MEMBER_EPOCH, partitions lost (KIP-429, KIP-848)";

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(classic_a_member_that_joins_gets_a_share, [], JOIN),
        case!(consumer_a_member_that_joins_gets_a_share, [ConsumerProtocol], JOIN),
        case!(
            classic_a_surplus_member_gets_an_empty_assignment,
            [],
            "an empty assignment (Kafka protocol, SyncGroup)"
        ),
        case!(
            consumer_a_surplus_member_gets_an_empty_assignment,
            [ConsumerProtocol],
            "an empty assignment (KIP-848, ConsumerGroupHeartbeat)"
        ),
        case!(
            classic_a_partition_is_not_reassigned_before_it_is_released,
            [],
            "the second round waits for the revoking member to join again (KIP-429)"
        ),
        case!(
            consumer_a_partition_is_not_reassigned_before_it_is_released,
            [ConsumerProtocol],
            "a partition stays pending until its owner's heartbeat no longer names it (KIP-848)"
        ),
        case!(
            classic_nothing_of_a_partition_is_delivered_after_its_revocation,
            [],
            "the rebalance callback is called before the partition is released; fetched records are dropped (librdkafka, INTRODUCTION.md)"
        ),
        case!(
            consumer_nothing_of_a_partition_is_delivered_after_its_revocation,
            [ConsumerProtocol],
            "as with classic"
        ),
        case!(
            classic_the_partitions_of_a_member_that_leaves_resume_at_the_given_positions,
            [],
            "LeaveGroup rebalances at once; positions are the application's when it assigns them (librdkafka, rd_kafka_assign)"
        ),
        case!(
            consumer_the_partitions_of_a_member_that_leaves_resume_at_the_given_positions,
            [ConsumerProtocol],
            "a heartbeat with epoch -1 leaves (KIP-848); positions as with classic"
        ),
        case!(classic_the_partitions_of_a_crashed_member_are_reassigned_after_its_session, [], EXPIRY),
        case!(
            consumer_the_partitions_of_a_crashed_member_are_reassigned_after_its_session,
            [ConsumerProtocol],
            EXPIRY
        ),
        case!(
            classic_a_member_that_polls_keeps_its_paused_partitions,
            [],
            "max.poll.interval.ms counts polls, heartbeats continue in the background (KIP-62)"
        ),
        case!(
            consumer_a_member_that_polls_keeps_its_paused_partitions,
            [ConsumerProtocol],
            "as with classic"
        ),
        case!(
            classic_a_partition_may_be_started_long_after_its_assignment,
            [],
            "documented of the classic protocol: the application answers a rebalance by assigning (librdkafka, INTRODUCTION.md)"
        ),
        case!(
            consumer_a_partition_may_be_started_long_after_its_assignment,
            [ConsumerProtocol],
            "not documented (librdkafka, INTRODUCTION.md)"
        ),
        case!(
            classic_members_are_not_affected_by_a_killed_coordinator,
            [Host(Kill)],
            "another broker loads the group from __consumer_offsets; members keep their assignment (Kafka documentation, Group Coordinator)"
        ),
        case!(
            consumer_members_are_not_affected_by_a_killed_coordinator,
            [Host(Kill), ConsumerProtocol],
            "as with classic (KIP-848)"
        ),
    ]
}

pub(super) fn driver<W: Backend>(backend: &W, protocol: Protocol) -> W::Broker {
    backend.broker(Client { protocol, ..Client::default() }, None)
}

/// A worker that owns all partitions and has read them to their ends.
async fn settled<W: Backend>(
    backend: &W,
    protocol: Protocol,
    group: &str,
    topic: &str,
    ends: &[(i32, i64)],
    positions: &Positions,
) -> Member {
    let member = Member::join(&driver(backend, protocol), group, topic, positions).await;
    member.until_owns(ends.len()).await;
    member.until_ends(ends).await;
    member
}

/// The offsets of a partition that these members were delivered, ascending.
fn together(partition: i32, of: &[&[MemberEvent]]) -> Vec<i64> {
    let mut all: Vec<_> = of.iter().flat_map(|events| offsets_delivered(events, partition)).collect();
    all.sort_unstable();
    all
}

pub(super) fn is_lost(events: &MemberEvent) -> bool {
    matches!(events, MemberEvent::Lost(_))
}

async fn joins<W: Backend>(backend: &W, seen: &Observations, protocol: Protocol) {
    let (topic, group) = (topic_of(backend, 4, &[]).await, backend.unique("group"));
    for partition in 0..4 {
        append(backend, &topic, partition, 0..10).await;
    }
    let positions = Positions::default();
    let first =
        settled(backend, protocol, &group, &topic, &[(0, 10), (1, 10), (2, 10), (3, 10)], &positions).await;
    let mark = first.mark();
    let second = Member::join(&driver(backend, protocol), &group, &topic, &positions).await;
    second.until_owns(2).await;
    first.until_owns(2).await;
    for partition in 0..4 {
        append(backend, &topic, partition, 10..20).await;
    }
    for partition in 0..4 {
        let (one, two) = (first.events(), second.events());
        let owner = if owned(&one).contains(&partition) { &first } else { &second };
        assert_ne!(owned(&one).contains(&partition), owned(&two).contains(&partition));
        owner.until_ends(&[(partition, 20)]).await;
    }
    let changes = of_the_group(&first.since(mark));
    let revoked: usize = changes
        .iter()
        .map(|events| match events {
            MemberEvent::Revoked(partitions) => partitions.len(),
            other => panic!("{other:?}"),
        })
        .sum();
    seen.note(format!("4 partitions, a second member joins: {revoked} are revoked from the first, which keeps the others; 2 each"));
    assert_eq!(revoked, 2);
    let (one, two) = (first.leave().await, second.leave().await);
    for partition in 0..4 {
        assert_eq!(together(partition, &[&one, &two]), (0..20).collect::<Vec<_>>());
    }
    seen.note("every record is delivered once");
}

async fn too_many<W: Backend>(backend: &W, seen: &Observations, protocol: Protocol) {
    let (topic, group, positions) =
        (topic(backend, &[]).await, backend.unique("group"), Positions::default());
    let first = settled(backend, protocol, &group, &topic, &[(0, 0)], &positions).await;
    let mark = first.mark();
    let second = Member::join(&driver(backend, protocol), &group, &topic, &positions).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(owned(&second.events()), [] as [i32; 0]);
    seen.note(format!("1 partition, a second member: gets {}", summary(&second.events())));
    assert!(
        of_the_group(&first.since(mark)).iter().all(|events| *events == MemberEvent::Assigned(Vec::new())),
        "{}",
        brief(&first.since(mark))
    );
    first.leave().await;
    second.until_owns(1).await;
    seen.note("the first leaves: the second is assigned it");
    second.leave().await;
}

async fn waits<W: Backend>(backend: &W, seen: &Observations, protocol: Protocol) {
    let (topic, group, positions) =
        (topic_of(backend, 2, &[]).await, backend.unique("group"), Positions::default());
    let first =
        Member::join_as(Behaviour::Holds, &driver(backend, protocol), &group, &topic, &positions).await;
    first.until_owns(2).await;
    let second = Member::join(&driver(backend, protocol), &group, &topic, &positions).await;
    first.until_owns(1).await;
    // Longer than the session: a revoked partition is not taken from its owner.
    tokio::time::sleep(protocol.session() + Duration::from_secs(2)).await;
    assert_eq!(owned(&second.events()), [] as [i32; 0]);
    seen.note("a revoked partition is not released for longer than the session: no member gets it");
    let Some(MemberEvent::Revoked(revoked)) = of_the_group(&first.events()).pop() else {
        panic!("{}", brief(&first.events()))
    };
    revoked.iter().for_each(|&partition| first.release(partition));
    second.until_owns(1).await;
    assert_eq!(owned(&second.events()), revoked);
    seen.note("released: the other gets it");
    second.leave().await;
    first.leave().await;
}

async fn prefetched<W: Backend>(backend: &W, seen: &Observations, protocol: Protocol) {
    const COUNT: usize = 5_000;
    let (topic, group, positions) =
        (topic_of(backend, 2, &[]).await, backend.unique("group"), Positions::default());
    let producer = backend.producer(&ProducerOptions::default(), None);
    let first = Member::join(&driver(backend, protocol), &group, &topic, &positions).await;
    first.until_owns(2).await;
    let second = Member::join(&driver(backend, protocol), &group, &topic, &positions).await;
    // Records are appended while the partition is reassigned.
    let mut sent = 0;
    while sent < COUNT || owned(&second.events()).is_empty() {
        for partition in 0..2 {
            let batch = (sent..sent + 500)
                .map(|n| crate::kafka::backend::NewRecord { partition: Some(partition), ..value(n) });
            producer.send_all(&topic, batch.collect()).await.expect("records");
        }
        sent += 500;
    }
    let all = || async { positions.all() };
    let total = i64::try_from(sent).expect("a count");
    eventually("all records", all, |positions| {
        (0..2).all(|partition| positions.get(&partition) == Some(&total))
    })
    .await;
    let (one, two) = (first.leave().await, second.leave().await);
    let mut gone = Vec::new();
    for events in &one {
        match events {
            MemberEvent::Revoked(partitions) => gone.extend(partitions.iter().copied()),
            MemberEvent::Records { at, .. } | MemberEvent::End { at, .. } => {
                assert!(!gone.contains(&at.partition), "{at:?} after its revocation")
            }
            MemberEvent::Assigned(partitions) => gone.retain(|partition| !partitions.contains(partition)),
            _ => {}
        }
    }
    for partition in 0..2 {
        assert_eq!(together(partition, &[&one, &two]), (0..total).collect::<Vec<_>>());
    }
    seen.note("a partition is revoked while records are appended: nothing of it is delivered after that, and both members together are delivered each record once");
}

async fn leaves<W: Backend>(backend: &W, seen: &Observations, protocol: Protocol) {
    let (topic, group, positions) =
        (topic_of(backend, 2, &[]).await, backend.unique("group"), Positions::default());
    append(backend, &topic, 0, 0..10).await;
    append(backend, &topic, 1, 0..10).await;
    let first = settled(backend, protocol, &group, &topic, &[(0, 10), (1, 10)], &positions).await;
    first.leave().await;
    // Positions that are neither those of the first member nor the committed ones.
    let given = Positions::at([(0, 4), (1, 9)]);
    let second = settled(backend, protocol, &group, &topic, &[(0, 10), (1, 10)], &given).await;
    let events = second.leave().await;
    assert_eq!(offsets_delivered(&events, 0), [4, 5, 6, 7, 8, 9]);
    assert_eq!(offsets_delivered(&events, 1), [9]);
    seen.note("both partitions read to 10 by the first, which leaves; given 4 and 9, the second is delivered 4-9 and 9");
}

async fn crashes<W: Backend>(backend: &W, seen: &Observations, protocol: Protocol) {
    let (topic, group, positions) =
        (topic_of(backend, 2, &[]).await, backend.unique("group"), Positions::default());
    append(backend, &topic, 0, 0..10).await;
    let first = settled(backend, protocol, &group, &topic, &[(0, 10), (1, 0)], &positions).await;
    let second = Member::join(&driver(backend, protocol), &group, &topic, &positions).await;
    second.until_owns(1).await;
    first.until_owns(1).await;
    let one = first.crash().await;
    tokio::time::sleep(protocol.session() / 3).await;
    assert_eq!(owned(&second.events()).len(), 1);
    seen.note("one of two members crashes: within its session the other gets nothing");
    second.until_owns(2).await;
    append(backend, &topic, 0, 10..15).await;
    append(backend, &topic, 1, 0..5).await;
    second.until_ends(&[(0, 15), (1, 5)]).await;
    let two = second.leave().await;
    assert_eq!(together(0, &[&one, &two]), (0..15).collect::<Vec<_>>());
    assert_eq!(together(1, &[&one, &two]), (0..5).collect::<Vec<_>>());
    assert!(!two.iter().any(is_lost));
    seen.note("after it the other is assigned its partition, and continues at the stored position");
}

async fn polling<W: Backend>(backend: &W, seen: &Observations, protocol: Protocol) {
    let (topic, group, positions) =
        (topic_of(backend, 2, &[]).await, backend.unique("group"), Positions::default());
    let member = settled(backend, protocol, &group, &topic, &[(0, 0), (1, 0)], &positions).await;
    member.pause(0);
    member.pause(1);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mark = member.mark();
    append(backend, &topic, 0, 0..5).await;
    tokio::time::sleep(protocol.session() + Duration::from_secs(2)).await;
    assert_eq!(member.since(mark), []);
    seen.note("everything paused for longer than its session: it gets nothing");
    member.resume(0);
    member.until_ends(&[(0, 5)]).await;
    seen.note("resumed: continues");
    member.leave().await;
}

async fn late_start<W: Backend>(backend: &W, seen: &Observations, protocol: Protocol) {
    let (topic, group, positions) =
        (topic_of(backend, 2, &[]).await, backend.unique("group"), Positions::default());
    append(backend, &topic, 0, 0..5).await;
    let member =
        Member::join_as(Behaviour::Idle, &driver(backend, protocol), &group, &topic, &positions).await;
    member.until_owns(2).await;
    tokio::time::sleep(protocol.session() + Duration::from_secs(2)).await;
    assert_eq!(of_the_group(&member.events()), [MemberEvent::Assigned(vec![0, 1])]);
    member.start(0, 2);
    member.until_ends(&[(0, 5)]).await;
    assert_eq!(delivered(&member.events(), 0).first(), Some(&(2, "2".to_owned())));
    seen.note(
        "assigned, and started at 2 when longer than its session has passed: it gets nothing in between, then records from 2",
    );
    let second = Member::join(&driver(backend, protocol), &group, &topic, &Positions::at([(0, 5)])).await;
    member.until_owns(1).await;
    let Some(MemberEvent::Revoked(revoked)) = of_the_group(&member.events()).pop() else {
        panic!("no revocation")
    };
    revoked.iter().for_each(|&partition| member.release(partition));
    second.until_owns(1).await;
    seen.note("a second member is given its share then");
    member.leave().await;
    second.leave().await;
}

async fn coordinator<W: Backend>(backend: &W, seen: &Observations, protocol: Protocol) {
    // A partition on the two brokers that are not the coordinator.
    let (topic, group, positions) =
        (backend.unique("contract"), backend.unique("group"), Positions::default());
    let probe = topic_of(backend, 1, &[]).await;
    let probing = Member::join(&driver(backend, protocol), &group, &probe, &positions).await;
    // The first member of a cluster creates the topic of the groups.
    probing.until_owns(1).await;
    probing.leave().await;
    let attempt = || backend.coordinator(&group);
    let coordinator = eventually("a coordinator", attempt, Result::is_ok).await.expect("a coordinator");
    let others: Vec<_> =
        crate::kafka::backend::NODES.into_iter().filter(|node| *node != coordinator).collect();
    backend.create_topic_on(&topic, &others, &[]).await.expect("a topic");
    append(backend, &topic, 0, 0..5).await;
    // A session that is longer than the move of the coordinator, which takes as long as the session of a broker.
    let session = Some(Duration::from_secs(30));
    let broker = backend.broker(Client { protocol, session, ..Client::default() }, None);
    let member = Member::join(&broker, &group, &topic, &positions).await;
    member.until_ends(&[(0, 5)]).await;
    let mark = member.mark();
    backend.apply(Kill, coordinator).await;
    append(backend, &topic, 0, 5..10).await;
    member.until_ends(&[(0, 10)]).await;
    let attempt = || backend.coordinator(&group);
    let other = eventually("another coordinator", attempt, |node| {
        node.as_ref().is_ok_and(|node| *node != coordinator)
    });
    assert_ne!(other.await, Ok(coordinator));
    tokio::time::sleep(protocol.session() + Duration::from_secs(2)).await;
    let events = member.since(mark);
    append(backend, &topic, 0, 10..15).await;
    member.until_ends(&[(0, 15)]).await;
    seen.note(format!(
        "its coordinator is killed: the member continues to read, and gets from the group: {}",
        summary(&events)
    ));
    assert_eq!(of_the_group(&events), []);
    backend.recover(Start, &[coordinator]).await;
    let second = Member::join(&driver(backend, protocol), &group, &topic, &positions).await;
    member.leave().await;
    second.until_owns(1).await;
    seen.note("another member joins at the new coordinator, and gets the partition when the first leaves");
    second.leave().await;
}
