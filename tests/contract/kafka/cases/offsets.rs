//! Committed offsets: how long they are kept, and what they are not used for.

use std::time::Duration;

use proto_kafka::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use proto_kafka::messages::{GroupId, OffsetCommitRequest};

use super::groups::with_both_protocols;
use super::helpers::{append, driver, eventually, topic};
use super::member::{Member, Positions, offsets_delivered};
use super::raw::{Coordinates, coordinator, text, topic_name};
use crate::kafka::backend::{Backend, Client, Protocol, Verb};
use crate::suite::{Case, Observations, case};

/// The last version of OffsetCommit that says how long an offset is kept.
const WITH_RETENTION: i16 = 4;

with_both_protocols! {
    committed: classic_committed_offsets_are_never_used_as_a_start, consumer_committed_offsets_are_never_used_as_a_start;
}

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(
            an_offset_of_a_group_without_members_expires,
            [],
            "offsets.retention.minutes, or the time that a commit of an old version gives, while no member is subscribed (KIP-211)"
        ),
        case!(
            an_offset_that_was_committed_for_a_deleted_topic_is_forgotten,
            [],
            "the coordinator deletes the offsets of a topic that is deleted (GroupCoordinatorService.onPartitionsDeleted)"
        ),
        case!(
            classic_committed_offsets_are_never_used_as_a_start,
            [],
            "a start position that is given overrides committed ones (librdkafka, rd_kafka_assign)"
        ),
        case!(consumer_committed_offsets_are_never_used_as_a_start, [ConsumerProtocol], "as with classic"),
    ]
}

/// Commits an offset of 1 for a group without members, with a time after which it expires.
async fn commit_for<W: Backend>(backend: &W, group: &str, topic: &str, retention: Duration) {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
    let of_topic =
        OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_retention_time_ms(i64::try_from(retention.as_millis()).expect("a short time"))
        .with_topics(vec![of_topic]);
    let attempt = || async {
        let node = coordinator(backend, group, Coordinates::Group).await;
        let response = backend.request(node, &request, WITH_RETENTION).await;
        response.topics[0].partitions[0].error_code
    };
    assert_eq!(eventually("the commit", attempt, |code| *code == 0).await, 0);
}

async fn an_offset_of_a_group_without_members_expires<W: Backend>(backend: &W, seen: &Observations) {
    let topic = topic(backend, &[]).await;
    append(backend, &topic, 0, 0..2).await;
    let [short, long, used] = [(); 3].map(|()| backend.unique("group"));
    // The member joins before its group's offset expires.
    let retention = Duration::from_secs(8);
    for group in [&short, &used] {
        commit_for(backend, group, &topic, retention).await;
    }
    commit_for(backend, &long, &topic, Duration::from_secs(3600)).await;
    let broker = driver(backend);
    let member = Member::join(&broker, &used, &topic, &Positions::default()).await;
    member.until_owns(1).await;
    assert_eq!(backend.committed(&used, &topic, 0).await, Ok(Some(1)));
    let attempt = || backend.committed(&short, &topic, 0);
    assert_eq!(eventually("the expiration", attempt, |found| *found == Ok(None)).await, Ok(None));
    assert_eq!(backend.committed(&long, &topic, 0).await, Ok(Some(1)));
    seen.note("committed for 8 s and for an hour, without members: the first expires");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(backend.committed(&used, &topic, 0).await, Ok(Some(1)));
    seen.note("for 8 s, and a member is subscribed to the topic: it is kept");
    member.leave().await;
    let attempt = || backend.committed(&used, &topic, 0);
    assert_eq!(eventually("the expiration", attempt, |found| *found == Ok(None)).await, Ok(None));
    seen.note("the member leaves: it expires");
}

async fn an_offset_that_was_committed_for_a_deleted_topic_is_forgotten<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let (topic, other, group) =
        (topic(backend, &[]).await, topic(backend, &[]).await, backend.unique("group"));
    for (topic, offset) in [(&topic, 3), (&other, 4)] {
        append(backend, topic, 0, 0..5).await;
        backend.commit(&group, topic, 0, offset).await.expect("committed");
        assert_eq!(backend.committed(&group, topic, 0).await, Ok(Some(offset)));
    }
    backend.delete_topic(&topic).await.expect("deleted");
    backend.create_topic(&topic, 1, 3, &[]).await.expect("created");
    let attempt = || backend.committed(&group, &topic, 0);
    assert_eq!(eventually("the deletion", attempt, |found| *found == Ok(None)).await, Ok(None));
    assert_eq!(backend.committed(&group, &other, 0).await, Ok(Some(4)));
    seen.note("3 and 4 committed for two topics, the first is recreated: nothing and 4 are committed");
}

async fn committed<W: Backend>(backend: &W, seen: &Observations, protocol: Protocol) {
    let (topic, group) = (topic(backend, &[]).await, backend.unique("group"));
    append(backend, &topic, 0, 0..10).await;
    backend.commit(&group, &topic, 0, 7).await.expect("committed");
    assert_eq!(backend.committed(&group, &topic, 0).await, Ok(Some(7)));
    let client = Client { protocol, commit_offsets: true, ..Client::default() };
    let member = Member::join(&backend.broker(client, None), &group, &topic, &Positions::at([(0, 2)])).await;
    member.until_ends(&[(0, 10)]).await;
    assert_eq!(offsets_delivered(&member.events(), 0).first(), Some(&2));
    seen.note("the group has committed 7, the given position is 2: records from 2");
    member.report(0, 5);
    let attempt = || backend.committed(&group, &topic, 0);
    let reported = eventually("the report", attempt, |committed| *committed == Ok(Some(5))).await;
    assert_eq!(reported, Ok(Some(5)));
    seen.note("5 is reported: the group has committed 5");
    member.leave().await;
    assert_eq!(backend.committed(&group, &topic, 0).await, Ok(Some(5)));
    let member = Member::join(&backend.broker(client, None), &group, &topic, &Positions::at([(0, 3)])).await;
    member.until_ends(&[(0, 10)]).await;
    assert_eq!(offsets_delivered(&member.events(), 0).first(), Some(&3));
    seen.note("started again at 3: records from 3, although 5 is committed and 10 was read");
    member.leave().await;
}
