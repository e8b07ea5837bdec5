//! What an observer learns of groups.

use std::sync::Arc;

use proto_kafka::error::ResponseError as Error;
use proto_kafka::messages::*;
use simulated_kafka::cluster::observe::Event;
use simulated_kafka::types::NodeId;

use crate::classic::{self, REBALANCE, SESSION, heartbeat, join, leave, member_id, sync};
use crate::consumer::{joins, keeps, owns, pair, static_joins};
use crate::harness::{Bench, GROUP, answer, code, text};
use crate::migration::{all_of_a, classic_member};
use crate::offsets::{commit, commit_error, in_transaction};
use crate::recorder::Recorder;
use crate::static_members::static_join;

/// Changes of a group and of its members.
fn changes() -> (Bench, Arc<Recorder>) {
    let recorder = Recorder::new(|event| match event {
        Event::GroupChanged { broker: NodeId(1), group: GROUP, protocol, state, epoch, members } => {
            Some(format!("{protocol:?} {state} {epoch}: {members}"))
        }
        Event::MemberJoined { broker: NodeId(1), group: GROUP, member, instance, client_id: "client" } => {
            Some(format!("joined {member} {}", instance.unwrap_or("-")))
        }
        Event::MemberRemoved { broker: NodeId(1), group: GROUP, member, why } => {
            Some(format!("removed {member} {why:?}"))
        }
        _ => None,
    });
    (Bench::observed(recorder.clone()), recorder)
}

fn assignments() -> (Bench, Arc<Recorder>) {
    let recorder = Recorder::new(|event| match event {
        Event::AssignmentSent { group: GROUP, member, epoch, partitions, .. } => {
            Some(format!("{member} {epoch} {partitions:?}"))
        }
        _ => None,
    });
    (Bench::observed(recorder.clone()), recorder)
}

/// A stable group of one member.
fn stable(bench: &mut Bench) -> String {
    let id = member_id(bench);
    let token = bench.send(5, join(&id));
    bench.pass(3_000);
    assert_eq!(answer!(bench, token, JoinGroup).generation_id, 1);
    bench.sync_now(3, sync(&id, 1, &[(&id, all_of_a())]));
    id
}

#[test]
fn each_state_of_a_classic_group_is_reported_with_its_members_until_it_is_deleted() {
    let (mut bench, recorder) = changes();
    let id = stable(&mut bench);
    let began = [
        format!("joined {id} -"),
        "Classic PreparingRebalance 0: 1".to_owned(),
        "Classic CompletingRebalance 1: 1".to_owned(),
        "Classic Stable 1: 1".to_owned(),
    ];
    assert_eq!(recorder.take(), began);
    bench.leave(4, leave(&[(&id, None)]));
    let ended = [
        format!("removed {id} Left"),
        "Classic PreparingRebalance 1: 0".to_owned(),
        "Classic Empty 2: 0".to_owned(),
    ];
    assert_eq!(recorder.take(), ended);
    bench.delete_groups(2, DeleteGroupsRequest::default().with_groups_names(vec![text(GROUP).into()]));
    assert_eq!(recorder.take(), ["Classic Dead 2: 0"]);
}

#[test]
fn a_member_of_a_classic_group_whose_session_is_over_is_reported_as_such() {
    let (mut bench, recorder) = changes();
    let id = stable(&mut bench);
    recorder.take();
    bench.pass(i64::from(SESSION));
    assert_eq!(recorder.take()[0], format!("removed {id} SessionExpired"));
}

#[test]
fn members_of_a_classic_group_that_are_late_in_a_rebalance_are_reported_as_such() {
    let (mut bench, recorder) = changes();
    let id = stable(&mut bench);
    // It does not join again.
    let other = member_id(&mut bench);
    let token = bench.send(5, join(&other));
    for _ in 0..6 {
        bench.heartbeat(3, heartbeat(&id, 1));
        bench.pass(5_000);
    }
    assert_eq!(answer!(bench, token, JoinGroup).generation_id, 2);
    let removed = format!("removed {id} RebalanceTimeout");
    assert!(recorder.take().contains(&removed));
    // The other one does not ask for its assignment.
    for _ in 0..6 {
        bench.heartbeat(3, heartbeat(&other, 2));
        bench.pass(5_000);
    }
    let removed = format!("removed {other} RebalanceTimeout");
    assert!(recorder.take().contains(&removed));
}

#[test]
fn a_member_that_a_smaller_group_does_not_hold_any_more_is_reported_as_such() {
    let (mut bench, recorder) = changes();
    let (ids, _) = classic::stable(&mut bench, 2);
    bench.config.max_size = 1;
    bench.reload();
    // What was loaded is nothing new.
    assert_eq!(recorder.take().last().map(String::as_str), Some("Classic PreparingRebalance 1: 2"));
    let token = bench.send(5, join(&ids[0]));
    assert_eq!(bench.join_now(5, join(&ids[1])).error_code, code(Error::GroupMaxSizeReached));
    assert_eq!(recorder.take()[..1], [format!("removed {} GroupFull", ids[1])]);
    bench.pass(i64::from(REBALANCE));
    assert_eq!(answer!(bench, token, JoinGroup).members.len(), 1);
}

#[test]
fn a_static_member_of_a_classic_group_is_replaced_by_the_next_one_with_its_name() {
    let (mut bench, recorder) = changes();
    let token = bench.send(5, static_join("", "one"));
    bench.pass(3_000);
    let old = answer!(bench, token, JoinGroup).member_id;
    recorder.take();
    let token = bench.send(5, static_join("", "one"));
    let new = answer!(bench, token, JoinGroup).member_id;
    assert_eq!(recorder.take()[..2], [format!("removed {old} Replaced"), format!("joined {new} one")]);
}

#[test]
fn each_epoch_of_a_consumer_group_is_reported_with_its_members_until_it_is_deleted() {
    let (mut bench, recorder) = changes();
    pair(&mut bench);
    let changes = [
        "joined one -",
        "Consumer Stable 1: 1",
        "joined two -",
        "Consumer Reconciling 2: 2",
        "Consumer Stable 2: 2",
    ];
    assert_eq!(recorder.take(), changes);
    bench.beat(1, keeps("one", -1));
    assert_eq!(recorder.take(), ["removed one Left", "Consumer Assigning 3: 1"]);
    bench.pass(45_000);
    assert_eq!(recorder.take(), ["removed two SessionExpired", "Consumer Empty 4: 0"]);
    bench.delete_groups(2, DeleteGroupsRequest::default().with_groups_names(vec![text(GROUP).into()]));
    assert_eq!(recorder.take(), ["Consumer Dead 4: 0"]);
}

#[test]
fn a_member_of_a_consumer_group_that_does_not_give_up_partitions_is_reported_as_late() {
    let (mut bench, recorder) = changes();
    bench.beat(1, joins("one"));
    bench.beat(1, joins("two"));
    recorder.take();
    for _ in 0..3 {
        bench.beat(1, keeps("one", 1));
        bench.beat(1, keeps("two", 2));
        bench.pass(25_000);
    }
    assert_eq!(recorder.take()[..1], ["removed one RebalanceTimeout"]);
}

#[test]
fn a_static_member_of_a_consumer_group_is_replaced_by_the_next_one_with_its_name() {
    let (mut bench, recorder) = changes();
    bench.beat(1, static_joins("one", "i"));
    bench.beat(1, keeps("one", -2).with_instance_id(Some(text("i"))));
    recorder.take();
    bench.beat(1, static_joins("two", "i"));
    assert_eq!(recorder.take()[..2], ["removed one Replaced", "joined two i"]);
}

#[test]
fn a_group_that_changes_its_protocol_is_reported_in_both() {
    let (mut bench, recorder) = changes();
    let classic = classic_member(&mut bench);
    recorder.take();
    bench.beat(1, joins("new"));
    assert_eq!(recorder.take(), ["joined new -", "Consumer Reconciling 2: 2"]);
    bench.beat(1, keeps("new", -1));
    let back = ["removed new Left", "Classic Stable 2: 1", "Classic PreparingRebalance 2: 1"];
    assert_eq!(recorder.take(), back);
    let token = bench.send(5, join(&classic));
    assert_eq!(answer!(bench, token, JoinGroup).generation_id, 3);
    assert_eq!(recorder.take(), ["Classic CompletingRebalance 3: 1"]);
}

#[test]
fn assignments_are_reported_in_both_protocols() {
    let (mut bench, recorder) = assignments();
    let id = stable(&mut bench);
    let all = format!("{id} 1 {{\"a\": {{0, 1, 2, 3}}}}");
    assert_eq!(recorder.take(), std::slice::from_ref(&all));
    // It asks again, because the response was lost.
    bench.sync_now(3, sync(&id, 1, &[]));
    assert_eq!(recorder.take(), [all]);
    // A member of the other protocol joins.
    bench.beat(1, joins("new"));
    assert_eq!(recorder.take(), ["new 2 {}"]);
    bench.sync_now(3, sync(&id, 1, &[]));
    assert!(recorder.take().is_empty(), "it has to join again first");

    let (mut bench, recorder) = assignments();
    pair(&mut bench);
    let sent = ["one 1 {\"a\": {0, 1, 2, 3}}", "two 2 {}", "one 1 {\"a\": {0, 1}}", "two 2 {\"a\": {2, 3}}"];
    assert_eq!(recorder.take(), sent);
    bench.beat(1, owns("one", 2, &[0, 1]));
    assert!(recorder.take().is_empty(), "nothing is sent");
}

#[test]
fn an_assignment_that_cannot_be_read_is_not_reported() {
    let (mut bench, recorder) = assignments();
    let token = bench.send(3, join("").with_rebalance_timeout_ms(REBALANCE));
    bench.pass(3_000);
    let id = answer!(bench, token, JoinGroup).member_id;
    bench.sync_now(3, sync(&id, 1, &[(&id, b"x")]));
    assert!(recorder.take().is_empty());
}

#[test]
fn accepted_offsets_are_reported_with_who_commits_them() {
    let recorder = Recorder::new(|event| match event {
        Event::OffsetCommitted {
            group: GROUP, topic, partition, offset, epoch, member, producer_id, ..
        } => Some(format!("{topic} {partition} {offset} {epoch} {member:?} {producer_id:?}")),
        _ => None,
    });
    let mut bench = Bench::observed(recorder.clone());
    assert_eq!(commit_error(&mut bench, 9, commit("a", 1, 42)), 0);
    bench.commit_in_transaction(3, in_transaction(7));
    assert_eq!(commit_error(&mut bench, 9, commit("no", 0, 1)), code(Error::UnknownTopicOrPartition));
    assert_eq!(recorder.take(), ["a 1 42 -1 \"\" None", "a 0 7 -1 \"\" Some(9)"]);
    bench.beat(1, joins("one"));
    let of_member =
        |epoch| commit("a", 0, 5).with_member_id(text("one")).with_generation_id_or_member_epoch(epoch);
    assert_eq!(commit_error(&mut bench, 9, of_member(9)), code(Error::StaleMemberEpoch));
    assert_eq!(commit_error(&mut bench, 9, of_member(1)), 0);
    assert_eq!(recorder.take(), ["a 0 5 1 \"one\" None"]);
}
