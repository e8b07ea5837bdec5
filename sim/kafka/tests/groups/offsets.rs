//! Committed offsets.

use proto_kafka::error::ResponseError as Error;
use proto_kafka::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use proto_kafka::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use proto_kafka::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use proto_kafka::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use proto_kafka::messages::*;
use simulated_kafka::coordinator::Producer;

use crate::classic::{join, sync};
use crate::harness::{Bench, GROUP, answer, code, text};

const DAY: i64 = 24 * 3_600_000;

pub fn commit(topic: &str, partition: i32, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(3)
        .with_committed_metadata(Some(text("meta")));
    let topic =
        OffsetCommitRequestTopic::default().with_name(text(topic).into()).with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(text(GROUP).into())
        .with_generation_id_or_member_epoch(-1)
        .with_retention_time_ms(-1)
        .with_topics(vec![topic])
}

pub fn commit_error(bench: &mut Bench, version: i16, request: OffsetCommitRequest) -> i16 {
    bench.commit_offsets(version, request).topics[0].partitions[0].error_code
}

fn fetch(topic: &str, partition: i32) -> OffsetFetchRequest {
    let topic = OffsetFetchRequestTopics::default()
        .with_name(text(topic).into())
        .with_partition_indexes(vec![partition]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(text(GROUP).into())
        .with_member_epoch(-1)
        .with_topics(Some(vec![topic]));
    OffsetFetchRequest::default().with_groups(vec![group])
}

/// The committed offset and the error.
pub fn fetched(bench: &mut Bench, request: OffsetFetchRequest) -> (i64, i16) {
    let group = bench.fetch_offsets(9, request).groups.remove(0);
    assert_eq!(group.error_code, 0);
    let partition = &group.topics[0].partitions[0];
    (partition.committed_offset, partition.error_code)
}

pub fn in_transaction(offset: i64) -> TxnOffsetCommitRequest {
    let partition =
        TxnOffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(offset);
    let topic =
        TxnOffsetCommitRequestTopic::default().with_name(text("a").into()).with_partitions(vec![partition]);
    TxnOffsetCommitRequest::default()
        .with_transactional_id(text("id").into())
        .with_group_id(text(GROUP).into())
        .with_producer_id(9.into())
        .with_producer_epoch(2)
        .with_generation_id(-1)
        .with_topics(vec![topic])
}

const PRODUCER: Producer = Producer { id: 9, epoch: 2 };

#[test]
fn a_committed_offset_is_fetched_with_its_epoch_and_metadata_also_from_another_coordinator() {
    let mut bench = Bench::new();
    assert_eq!(commit_error(&mut bench, 9, commit("a", 1, 42)), 0);
    for _ in 0..2 {
        let response = bench.fetch_offsets(9, fetch("a", 1));
        let partition = &response.groups[0].topics[0].partitions[0];
        assert_eq!((partition.committed_offset, partition.committed_leader_epoch), (42, 3));
        assert_eq!(partition.metadata.as_deref(), Some("meta"));
        bench.reload();
    }
}

#[test]
fn an_unknown_group_or_partition_has_the_offset_minus_one_and_no_error() {
    let mut bench = Bench::new();
    assert_eq!(fetched(&mut bench, fetch("a", 0)), (-1, 0));
    commit_error(&mut bench, 9, commit("a", 1, 42));
    assert_eq!(fetched(&mut bench, fetch("a", 0)), (-1, 0));
    assert_eq!(fetched(&mut bench, fetch("unknown", 0)), (-1, 0));
}

#[test]
fn the_old_form_of_a_fetch_is_answered_in_the_old_form() {
    let mut bench = Bench::new();
    commit_error(&mut bench, 9, commit("a", 1, 42));
    let topic =
        OffsetFetchRequestTopic::default().with_name(text("a").into()).with_partition_indexes(vec![1, 2]);
    let request =
        OffsetFetchRequest::default().with_group_id(text(GROUP).into()).with_topics(Some(vec![topic]));
    let response = bench.fetch_offsets(5, request.clone());
    let offsets: Vec<_> = response.topics[0].partitions.iter().map(|p| p.committed_offset).collect();
    assert_eq!(offsets, [42, -1]);
    let all = bench.fetch_offsets(5, request.with_topics(None));
    assert_eq!((all.topics.len(), all.topics[0].partitions.len()), (1, 1));
}

#[test]
fn an_offset_of_an_unknown_partition_is_refused_alone() {
    let mut bench = Bench::new();
    let mut request = commit("a", 9, 1);
    request.topics.extend(commit("a", 0, 7).topics);
    request.topics.extend(commit("none", 0, 7).topics);
    let response = bench.commit_offsets(9, request);
    let codes: Vec<_> = response.topics.iter().map(|topic| topic.partitions[0].error_code).collect();
    let unknown = code(Error::UnknownTopicOrPartition);
    assert_eq!(codes, [unknown, 0, unknown]);
    assert_eq!(fetched(&mut bench, fetch("a", 0)), (7, 0));
}

#[test]
fn too_much_metadata_is_refused() {
    let mut bench = Bench::new();
    let mut request = commit("a", 0, 1);
    request.topics[0].partitions[0].committed_metadata = Some(text(&"x".repeat(4_097)));
    assert_eq!(commit_error(&mut bench, 9, request), code(Error::OffsetMetadataTooLarge));
    assert_eq!(bench.log.len(), 0);
}

#[test]
fn a_commit_waits_for_its_record_and_is_refused_if_that_takes_too_long() {
    let mut bench = Bench::new();
    bench.hold = true;
    let first = bench.send(9, commit("a", 0, 1));
    assert!(!bench.is_answered(first));
    bench.pass(5_000);
    let response = answer!(bench, first, OffsetCommit);
    assert_eq!(response.topics[0].partitions[0].error_code, code(Error::CoordinatorNotAvailable));
    // The record may still be committed, and is.
    bench.commit();
    assert_eq!(fetched(&mut bench, fetch("a", 0)), (1, 0));
}

#[test]
fn each_request_waits_its_own_time_for_records_that_are_stuck() {
    let mut bench = Bench::new();
    bench.hold = true;
    let first = bench.send(9, commit("a", 0, 1));
    bench.pass(3_000);
    let second = bench.send(9, fetch("a", 0).with_require_stable(true));
    bench.pass(2_000);
    assert!(bench.is_answered(first) && !bench.is_answered(second));
    bench.pass(2_999);
    assert!(!bench.is_answered(second));
    bench.pass(1);
    let group = answer!(bench, second, OffsetFetch).groups.remove(0);
    assert_eq!(group.error_code, code(Error::CoordinatorNotAvailable));
}

#[test]
fn a_failed_append_refuses_all_that_waits_and_asks_for_a_reload() {
    let mut bench = Bench::new();
    bench.hold = true;
    let tokens = [bench.send(9, commit("a", 0, 1)), bench.send(9, commit("a", 1, 1))];
    bench.fail(Error::NotLeaderOrFollower);
    for token in tokens {
        let response = answer!(bench, token, OffsetCommit);
        assert_eq!(response.topics[0].partitions[0].error_code, code(Error::NotCoordinator));
    }
    assert!(bench.reload_asked);
    bench.log.clear();
    bench.hold = false;
    bench.reload();
    assert_eq!(fetched(&mut bench, fetch("a", 0)), (-1, 0));
}

#[test]
fn members_commit_with_their_generation_and_others_do_not() {
    let mut bench = Bench::new();
    let token = bench.send(3, join(""));
    bench.pass(3_000);
    let id = answer!(bench, token, JoinGroup).member_id.to_string();
    let of = |member: &str, generation| {
        commit("a", 0, 5).with_member_id(text(member)).with_generation_id_or_member_epoch(generation)
    };
    assert_eq!(commit_error(&mut bench, 9, of(&id, 1)), code(Error::RebalanceInProgress));
    bench.sync_now(3, sync(&id, 1, &[]));
    assert_eq!(commit_error(&mut bench, 9, of(&id, 1)), 0);
    assert_eq!(commit_error(&mut bench, 9, of(&id, 0)), code(Error::IllegalGeneration));
    assert_eq!(commit_error(&mut bench, 9, of("other", 1)), code(Error::UnknownMemberId));
    assert_eq!(commit_error(&mut bench, 9, of("", -1)), code(Error::UnknownMemberId));
}

#[test]
fn a_generation_of_an_unknown_group_is_refused() {
    let mut bench = Bench::new();
    let request = || commit("a", 0, 5).with_generation_id_or_member_epoch(4);
    assert_eq!(commit_error(&mut bench, 8, request()), code(Error::IllegalGeneration));
    assert_eq!(commit_error(&mut bench, 9, request()), code(Error::GroupIdNotFound));
}

#[test]
fn an_offset_of_a_transaction_is_fetched_after_its_marker_only() {
    for commits in [true, false] {
        let mut bench = Bench::new();
        commit_error(&mut bench, 9, commit("a", 0, 1));
        assert_eq!(bench.commit_in_transaction(3, in_transaction(5)).topics[0].partitions[0].error_code, 0);
        assert_eq!(bench.log.last().and_then(|(_, producer)| *producer), Some(PRODUCER));
        bench.reload();
        assert_eq!(fetched(&mut bench, fetch("a", 0)), (1, 0));
        let stable = fetch("a", 0).with_require_stable(true);
        assert_eq!(fetched(&mut bench, stable.clone()), (-1, code(Error::UnstableOffsetCommit)));
        bench.marker(PRODUCER, commits);
        assert_eq!(fetched(&mut bench, stable), (if commits { 5 } else { 1 }, 0));
    }
}

#[test]
fn an_offset_that_is_not_replicated_is_fetched_only_by_who_waits_for_stable_ones() {
    let mut bench = Bench::new();
    commit_error(&mut bench, 9, commit("a", 0, 1));
    bench.hold = true;
    let committing = bench.send(9, commit("a", 0, 5));
    assert_eq!(fetched(&mut bench, fetch("a", 0)), (1, 0));
    let stable = bench.send(9, fetch("a", 0).with_require_stable(true));
    assert!(!bench.is_answered(committing) && !bench.is_answered(stable));
    bench.commit();
    assert_eq!(fetched(&mut bench, fetch("a", 0)), (5, 0));
    let answered = answer!(bench, stable, OffsetFetch);
    assert_eq!(answered.groups[0].topics[0].partitions[0].committed_offset, 5);
}

#[test]
fn what_was_loaded_beyond_the_high_watermark_is_committed_when_that_reaches_it() {
    let mut bench = Bench::new();
    for offset in [1, 5] {
        commit_error(&mut bench, 9, commit("a", 0, offset));
    }
    bench.hold = true;
    bench.reload_from(1);
    assert_eq!(fetched(&mut bench, fetch("a", 0)), (1, 0));
    let stable = bench.send(9, fetch("a", 0).with_require_stable(true));
    assert!(!bench.is_answered(stable));
    bench.commit();
    assert_eq!(fetched(&mut bench, fetch("a", 0)), (5, 0));
    let answered = answer!(bench, stable, OffsetFetch);
    assert_eq!(answered.groups[0].topics[0].partitions[0].committed_offset, 5);
}

#[test]
fn offsets_of_a_transaction_are_refused_to_a_member_of_another_generation() {
    let mut bench = Bench::new();
    let token = bench.send(3, join(""));
    bench.pass(3_000);
    let id = answer!(bench, token, JoinGroup).member_id.to_string();
    let error = |bench: &mut Bench, member: &str, generation| {
        let request = in_transaction(5).with_member_id(text(member)).with_generation_id(generation);
        bench.commit_in_transaction(3, request).topics[0].partitions[0].error_code
    };
    assert_eq!(error(&mut bench, &id, 0), code(Error::IllegalGeneration));
    assert_eq!(error(&mut bench, "other", 1), code(Error::UnknownMemberId));
    // A rebalance does not matter, and neither does a producer that names no member.
    assert_eq!(error(&mut bench, &id, 1), 0);
    assert_eq!(error(&mut bench, "", -1), 0);
}

#[test]
fn offsets_of_a_group_without_members_expire_after_the_retention_and_the_group_with_them() {
    let mut bench = Bench::new();
    commit_error(&mut bench, 9, commit("a", 0, 1));
    bench.pass(7 * DAY - 1);
    assert_eq!(fetched(&mut bench, fetch("a", 0)), (1, 0));
    bench.pass(600_000);
    assert_eq!(fetched(&mut bench, fetch("a", 0)), (-1, 0));
    assert_eq!(bench.list_groups(5, ListGroupsRequest::default()).groups.len(), 0);
    bench.reload();
    assert_eq!(fetched(&mut bench, fetch("a", 0)), (-1, 0));
}

#[test]
fn offsets_that_members_use_do_not_expire() {
    let mut bench = Bench::new();
    let token = bench.send(3, join("").with_session_timeout_ms(1_800_000));
    bench.pass(3_000);
    let id = answer!(bench, token, JoinGroup).member_id.to_string();
    bench.sync_now(3, sync(&id, 1, &[]));
    let of_member =
        |topic: &str| commit(topic, 0, 5).with_member_id(text(&id)).with_generation_id_or_member_epoch(1);
    assert_eq!(commit_error(&mut bench, 9, of_member("a")), 0);
    // It is not subscribed to this one.
    assert_eq!(commit_error(&mut bench, 9, of_member("b")), 0);
    for _ in 0..8 * 96 {
        bench.pass(DAY / 96);
        let heartbeat = crate::classic::heartbeat(&id, 1);
        assert_eq!(bench.heartbeat(3, heartbeat).error_code, 0);
    }
    assert_eq!(fetched(&mut bench, fetch("a", 0)), (5, 0));
    assert_eq!(fetched(&mut bench, fetch("b", 0)), (-1, 0));
}

#[test]
fn the_retention_that_an_old_client_asks_for_counts() {
    let mut bench = Bench::new();
    commit_error(&mut bench, 4, commit("a", 0, 1).with_retention_time_ms(1_000));
    bench.reload();
    bench.pass(600_000);
    assert_eq!(fetched(&mut bench, fetch("a", 0)), (-1, 0));
}

#[test]
fn offsets_of_a_deleted_topic_are_deleted_and_those_of_a_recreated_one() {
    let mut bench = Bench::new();
    for topic in ["a", "b"] {
        commit_error(&mut bench, 9, commit(topic, 0, 1));
    }
    bench.change_topics(&[("a", 1, 4), ("b", 77, 2)]);
    assert_eq!(fetched(&mut bench, fetch("a", 0)), (1, 0));
    assert_eq!(fetched(&mut bench, fetch("b", 0)), (-1, 0));
    bench.change_topics(&[]);
    bench.reload();
    assert_eq!(fetched(&mut bench, fetch("a", 0)), (-1, 0));
}

#[test]
fn only_offsets_without_subscribers_are_deleted() {
    let mut bench = Bench::new();
    let delete = |topic: &str| {
        let partition = OffsetDeleteRequestPartition::default().with_partition_index(0);
        let topic = OffsetDeleteRequestTopic::default()
            .with_name(text(topic).into())
            .with_partitions(vec![partition]);
        OffsetDeleteRequest::default().with_group_id(text(GROUP).into()).with_topics(vec![topic])
    };
    assert_eq!(bench.delete_offsets(0, delete("a")).error_code, code(Error::GroupIdNotFound));
    commit_error(&mut bench, 9, commit("a", 0, 1));
    commit_error(&mut bench, 9, commit("b", 0, 1));
    let token = bench.send(3, join(""));
    bench.pass(3_000);
    answer!(bench, token, JoinGroup);
    let error = |response: OffsetDeleteResponse| response.topics[0].partitions[0].error_code;
    assert_eq!(error(bench.delete_offsets(0, delete("a"))), code(Error::GroupSubscribedToTopic));
    assert_eq!(error(bench.delete_offsets(0, delete("b"))), 0);
    assert_eq!(fetched(&mut bench, fetch("b", 0)), (-1, 0));
    assert_eq!(error(bench.delete_offsets(0, delete("none"))), code(Error::UnknownTopicOrPartition));
}

#[test]
fn a_deleted_group_has_no_offsets() {
    let mut bench = Bench::new();
    commit_error(&mut bench, 9, commit("a", 0, 1));
    let request = DeleteGroupsRequest::default().with_groups_names(vec![text(GROUP).into()]);
    assert_eq!(bench.delete_groups(2, request).results[0].error_code, 0);
    bench.reload();
    assert_eq!(fetched(&mut bench, fetch("a", 0)), (-1, 0));
}
