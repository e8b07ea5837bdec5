//! Groups that change between the protocols while they have members.

use bytes::Bytes;
use proto_kafka::error::ResponseError as Error;
use proto_kafka::messages::*;
use simulated_kafka::group::{GroupConfig, MigrationPolicy};

use crate::classic::{heartbeat, join, join_with, subscription, sync};
use crate::consumer::{assigned, joins, keeps, owns};
use crate::harness::{Bench, GROUP, answer, code, text};

/// An assignment of topic `a`, as a leader writes it.
pub fn all_of_a() -> &'static [u8] {
    b"\x00\x00\x00\x00\x00\x01\x00\x01a\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\xff\xff\xff\xff"
}

/// The partitions of an assignment of topic `a`.
fn partitions(assignment: &Bytes) -> Vec<i32> {
    let Some(bytes) = assignment.get(13..assignment.len() - 4) else { return Vec::new() };
    bytes.chunks(4).map(|chunk| i32::from_be_bytes(chunk.try_into().expect("4 bytes"))).collect()
}

pub fn classic_member(bench: &mut Bench) -> String {
    let token = bench.send(3, join(""));
    bench.pass(3_000);
    let id = answer!(bench, token, JoinGroup).member_id.to_string();
    bench.sync_now(3, sync(&id, 1, &[(&id, all_of_a())]));
    id
}

#[test]
fn a_group_without_members_changes_to_the_protocol_of_who_comes() {
    let mut bench = Bench::new();
    bench.beat(1, joins("one"));
    bench.beat(1, keeps("one", -1));
    let id = classic_member(&mut bench);
    bench.reload();
    assert_eq!(bench.heartbeat(3, heartbeat(&id, 1)).error_code, 0);
    let request = LeaveGroupRequest::default().with_group_id(text(GROUP).into()).with_member_id(text(&id));
    assert_eq!(bench.leave(1, request).error_code, 0);
    assert_eq!(assigned(&bench.beat(1, joins("two"))), Some(vec![0, 1, 2, 3]));
    bench.reload();
    assert_eq!(bench.beat(1, keeps("two", 1)).error_code, 0);
}

#[test]
fn without_migration_each_protocol_refuses_the_other() {
    let config =
        GroupConfig { consumer_migration_policy: MigrationPolicy::Disabled, ..GroupConfig::default() };
    let mut bench = Bench::with(config);
    let id = classic_member(&mut bench);
    assert_eq!(bench.beat(1, joins("one")).error_code, code(Error::GroupIdNotFound));
    assert_eq!(bench.heartbeat(3, heartbeat(&id, 1)).error_code, 0);
}

#[test]
fn a_classic_group_is_not_upgraded_before_its_first_generation_and_its_members_join_again() {
    let mut bench = Bench::new();
    let token = bench.send(3, join(""));
    assert_eq!(bench.beat(1, joins("one")).error_code, code(Error::UnknownServerError));
    assert_eq!(answer!(bench, token, JoinGroup).error_code, code(Error::RebalanceInProgress));
}

#[test]
fn a_member_with_the_new_protocol_upgrades_a_classic_group_which_then_shares_its_partitions() {
    let mut bench = Bench::new();
    let classic = classic_member(&mut bench);
    let joined = bench.beat(1, joins("new"));
    assert_eq!((joined.member_epoch, assigned(&joined)), (2, Some(vec![])));
    bench.reload();
    // The classic member is asked to join again, gives up half, and receives the other.
    assert_eq!(bench.heartbeat(3, heartbeat(&classic, 1)).error_code, code(Error::RebalanceInProgress));
    let rejoined = bench.join_now(5, join_owning(&classic, &[0, 1, 2, 3]));
    assert_eq!((rejoined.error_code, rejoined.generation_id), (0, 1));
    let synced = bench.sync_now(3, sync(&classic, 1, &[]));
    assert_eq!(partitions(&synced.assignment).len(), 2);
    assert_eq!(bench.heartbeat(3, heartbeat(&classic, 1)).error_code, code(Error::RebalanceInProgress));
    assert_eq!(assigned(&bench.beat(1, keeps("new", 2))), None, "it is not released yet");
    let kept = partitions(&synced.assignment);
    let rejoined = bench.join_now(5, join_owning(&classic, &kept));
    assert_eq!((rejoined.error_code, rejoined.generation_id), (0, 2));
    assert_eq!(partitions(&bench.sync_now(3, sync(&classic, 2, &[])).assignment), kept);
    assert_eq!(bench.heartbeat(3, heartbeat(&classic, 2)).error_code, 0);
    let mut all = assigned(&bench.beat(1, keeps("new", 2))).expect("an assignment");
    all.extend(kept);
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3]);
}

/// A member that says in its subscription what it has (version 1).
fn join_owning(member: &str, owned: &[i32]) -> JoinGroupRequest {
    let mut metadata = subscription(&["a"]).to_vec();
    metadata[1] = 1;
    metadata.extend(b"\x00\x00\x00\x01\x00\x01a");
    metadata.extend((owned.len() as i32).to_be_bytes());
    owned.iter().for_each(|partition| metadata.extend(partition.to_be_bytes()));
    join_with(member, &[("range", metadata.into())])
}

#[test]
fn the_group_becomes_a_classic_one_when_the_last_member_with_the_new_protocol_leaves() {
    let mut bench = Bench::new();
    let classic = classic_member(&mut bench);
    bench.beat(1, joins("new"));
    assert_eq!(bench.beat(1, keeps("new", -1)).error_code, 0);
    let request = DescribeGroupsRequest::default().with_groups(vec![text(GROUP).into()]);
    let described = bench.describe_groups(6, request).groups.remove(0);
    assert_eq!((described.error_code, described.group_state.as_str()), (0, "PreparingRebalance"));
    let token = bench.send(5, join(&classic));
    let joined = answer!(bench, token, JoinGroup);
    assert_eq!((joined.error_code, joined.generation_id, joined.leader.as_str()), (0, 3, classic.as_str()));
    bench.sync_now(3, sync(&classic, 3, &[(&classic, all_of_a())]));
    bench.reload();
    assert_eq!(bench.heartbeat(3, heartbeat(&classic, 3)).error_code, 0);
}

#[test]
fn a_classic_member_that_joins_a_group_of_the_new_protocol_is_given_an_id_first() {
    let mut bench = Bench::new();
    bench.beat(1, joins("new"));
    let asked = bench.join_now(5, join(""));
    assert_eq!(asked.error_code, code(Error::MemberIdRequired));
    let joined = bench.join_now(5, join_owning(&asked.member_id, &[]));
    assert_eq!((joined.error_code, joined.generation_id), (0, 2));
    let mine = |bench: &mut Bench| partitions(&bench.sync_now(3, sync(&asked.member_id, 2, &[])).assignment);
    assert_eq!(mine(&mut bench).len(), 0);
    bench.beat(1, keeps("new", 1));
    bench.beat(1, owns("new", 1, &[0, 1]));
    assert_eq!(
        bench.heartbeat(3, heartbeat(&asked.member_id, 2)).error_code,
        code(Error::RebalanceInProgress)
    );
    bench.join_now(5, join_owning(&asked.member_id, &[]));
    assert_eq!(mine(&mut bench).len(), 2);
}
