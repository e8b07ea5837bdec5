//! Members that the coordinator does not hear from. Each case is run with both protocols.

use std::time::Duration;

use super::groups::{EXPIRY, driver, is_lost, with_both_protocols};
use super::helpers::{append, topic, topic_of};
use super::member::{Member, MemberEvent, Positions, brief, of_the_group, offsets_delivered, owned, summary};
use crate::kafka::backend::{Backend, Client, Link, Protocol, Traffic, Verb};
use crate::suite::{Case, Observations, case};

const CUT: &str = "librdkafka's introduction: with the consumer protocol a consumer continues to fetch when the coordinator is unavailable; classic members revoke when the session has expired";

with_both_protocols! {
    expires: classic_a_member_cut_off_for_longer_than_its_session_loses_its_partitions, consumer_a_member_cut_off_for_longer_than_its_session_loses_its_partitions;
    survives: classic_a_member_cut_off_for_less_than_its_session_keeps_its_partitions, consumer_a_member_cut_off_for_less_than_its_session_keeps_its_partitions;
    zombie: classic_a_member_cut_off_from_its_coordinator_only, consumer_a_member_cut_off_from_its_coordinator_only;
}

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(classic_a_member_cut_off_for_longer_than_its_session_loses_its_partitions, [Link(Cut)], EXPIRY),
        case!(
            consumer_a_member_cut_off_for_longer_than_its_session_loses_its_partitions,
            [Link(Cut), ConsumerProtocol],
            EXPIRY
        ),
        case!(classic_a_member_cut_off_for_less_than_its_session_keeps_its_partitions, [Link(Cut)], EXPIRY),
        case!(
            consumer_a_member_cut_off_for_less_than_its_session_keeps_its_partitions,
            [Link(Cut), ConsumerProtocol],
            EXPIRY
        ),
        case!(classic_a_member_cut_off_from_its_coordinator_only, [Link(Cut)], CUT),
        case!(consumer_a_member_cut_off_from_its_coordinator_only, [Link(Cut), ConsumerProtocol], CUT),
    ]
}

async fn expires<W: Backend>(backend: &W, seen: &Observations, protocol: Protocol) {
    let (topic, group, positions) =
        (topic_of(backend, 2, &[]).await, backend.unique("group"), Positions::default());
    let link = backend.link();
    let client = Client { protocol, ..Client::default() };
    let first = Member::join(&backend.broker(client, Some(&link)), &group, &topic, &positions).await;
    first.until_ends(&[(0, 0), (1, 0)]).await;
    let mark = first.mark();
    link.cut(Traffic::All);
    let second = Member::join(&driver(backend, protocol), &group, &topic, &positions).await;
    second.until_owns(2).await;
    seen.note("one member is cut off beyond its session: the other gets all partitions");
    for partition in 0..2 {
        append(backend, &topic, partition, 0..5).await;
    }
    second.until_ends(&[(0, 5), (1, 5)]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let while_cut = summary(&first.since(mark));
    seen.note(format!("while it is cut off it gets: {while_cut}"));
    link.restore();
    first
        .until("loss, and then a share", |events| {
            events[mark..].iter().any(is_lost) && owned(events).len() == 1
        })
        .await;
    second.until_owns(1).await;
    let events = first.since(mark);
    assert!(!events.iter().any(|events| matches!(events, MemberEvent::Revoked(_))), "{}", brief(&events));
    assert_eq!(of_the_group(&events).first().map(is_lost), Some(true), "{}", brief(&events));
    seen.note("when it is restored, it gets lost, not revoked; then it is assigned a share");
    first.leave().await;
    second.leave().await;
}

async fn survives<W: Backend>(backend: &W, seen: &Observations, protocol: Protocol) {
    let (topic, group, positions) =
        (topic_of(backend, 2, &[]).await, backend.unique("group"), Positions::default());
    let link = backend.link();
    let client = Client { protocol, ..Client::default() };
    let member = Member::join(&backend.broker(client, Some(&link)), &group, &topic, &positions).await;
    member.until_ends(&[(0, 0), (1, 0)]).await;
    let mark = member.mark();
    link.cut(Traffic::All);
    tokio::time::sleep(protocol.session() / 3).await;
    link.restore();
    append(backend, &topic, 0, 0..5).await;
    member.until_ends(&[(0, 5)]).await;
    tokio::time::sleep(protocol.session()).await;
    let events = of_the_group(&member.since(mark));
    seen.note(format!("cut off for a third of its session, it gets: {}", summary(&events)));
    assert_eq!(events, []);
    member.leave().await;
}

async fn zombie<W: Backend>(backend: &W, seen: &Observations, protocol: Protocol) {
    let (topic, group, positions) =
        (topic(backend, &[]).await, backend.unique("group"), Positions::default());
    append(backend, &topic, 0, 0..5).await;
    let link = backend.link();
    let client = Client { protocol, ..Client::default() };
    let first =
        Member::join(&backend.broker(client, Some(&link)), &group, &topic, &Positions::default()).await;
    first.until_ends(&[(0, 5)]).await;
    let mark = first.mark();
    link.cut(Traffic::Group);
    append(backend, &topic, 0, 5..10).await;
    first.until_ends(&[(0, 10)]).await;
    seen.note("cut off from its coordinator alone, within its session: it continues to read");
    let second = Member::join(&driver(backend, protocol), &group, &topic, &positions).await;
    second.until_owns(1).await;
    second.until_ends(&[(0, 10)]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    append(backend, &topic, 0, 10..15).await;
    second.until_ends(&[(0, 15)]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let events = first.since(mark);
    let zombie = offsets_delivered(&events, 0).contains(&14);
    seen.note(format!(
        "beyond its session, the partition another's: it gets {}, and of the records after that it receives {}",
        summary(&events),
        if zombie { "everything" } else { "nothing" }
    ));
    link.restore();
    first.until("the loss", |events| events[mark..].iter().any(is_lost)).await;
    seen.note("restored: it gets lost");
    first.leave().await;
    second.leave().await;
}
