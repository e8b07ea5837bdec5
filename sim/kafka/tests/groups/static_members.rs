//! Static members of the classic protocol (KIP-345).

use proto_kafka::error::ResponseError as Error;
use proto_kafka::messages::*;

use crate::classic::{REBALANCE, heartbeat, join, leave, sync};
use crate::harness::{Bench, answer, code, text};

pub fn static_join(member: &str, instance: &str) -> JoinGroupRequest {
    join(member).with_group_instance_id(Some(text(instance)))
}

#[test]
fn a_static_member_that_comes_back_takes_its_place_without_a_rebalance_and_the_old_one_is_fenced() {
    let mut bench = Bench::new();
    let token = bench.send(5, static_join("", "one"));
    bench.pass(3_000);
    let old = answer!(bench, token, JoinGroup).member_id.to_string();
    bench.sync_now(3, sync(&old, 1, &[(&old, b"kept")]));
    let joined = bench.join_now(9, static_join("", "one"));
    assert_eq!((joined.error_code, joined.generation_id, joined.skip_assignment), (0, 1, true));
    assert_ne!(joined.member_id.as_str(), old);
    assert_eq!(joined.leader, joined.member_id);
    let synced = bench.sync_now(3, sync(&joined.member_id, 1, &[]));
    assert_eq!(&synced.assignment[..], b"kept");
    let fenced = heartbeat(&old, 1).with_group_instance_id(Some(text("one")));
    assert_eq!(bench.heartbeat(3, fenced).error_code, code(Error::FencedInstanceId));
}

#[test]
fn before_version_9_a_returning_static_leader_is_not_told_that_it_leads() {
    let mut bench = Bench::new();
    let token = bench.send(5, static_join("", "one"));
    bench.pass(3_000);
    let old = answer!(bench, token, JoinGroup).member_id.to_string();
    bench.sync_now(3, sync(&old, 1, &[(&old, b"kept")]));
    let joined = bench.join_now(5, static_join("", "one"));
    assert_eq!((joined.leader.as_str(), joined.members.len()), (old.as_str(), 0));
}

#[test]
fn a_static_member_is_kept_over_a_rebalance_that_it_misses_until_its_session_is_over() {
    let mut bench = Bench::new();
    let tokens = [bench.send(5, static_join("", "one")), bench.send(5, static_join("", "two"))];
    bench.pass(6_000);
    let joined = tokens.map(|token| answer!(bench, token, JoinGroup));
    let leader = joined[0].leader.to_string();
    bench.sync_now(3, sync(&leader, 1, &[]));
    let instance = if joined[0].leader == joined[0].member_id { "one" } else { "two" };
    // The other one stays silent, but its session lasts.
    let token = bench.send(5, static_join(&leader, instance).with_rebalance_timeout_ms(4_000));
    bench.pass(9_000);
    assert!(!bench.is_answered(token), "the other's rebalance timeout is longer");
    // After its session it is removed, and the rebalance ends.
    bench.pass(1_000);
    assert_eq!(answer!(bench, token, JoinGroup).members.len(), 1);
}

#[test]
fn a_static_member_that_is_late_for_a_rebalance_stays_a_member() {
    let mut bench = Bench::new();
    let long = |member: &str, instance: &str| static_join(member, instance).with_session_timeout_ms(60_000);
    let tokens = [bench.send(5, long("", "one")), bench.send(5, long("", "two"))];
    bench.pass(6_000);
    let joined = tokens.map(|token| answer!(bench, token, JoinGroup));
    let (leader, other) = if joined[0].leader == joined[0].member_id {
        ((&joined[0].member_id, "one"), (&joined[1].member_id, "two"))
    } else {
        ((&joined[1].member_id, "two"), (&joined[0].member_id, "one"))
    };
    bench.sync_now(3, sync(leader.0, 1, &[]));
    bench.sync_now(3, sync(other.0, 1, &[]));
    let token = bench.send(5, long(leader.0, leader.1));
    bench.pass(i64::from(REBALANCE));
    assert_eq!(answer!(bench, token, JoinGroup).members.len(), 2);
    assert_eq!(bench.heartbeat(3, heartbeat(other.0, 2)).error_code, 0);
}

#[test]
fn an_administrator_removes_a_static_member_by_its_instance() {
    let mut bench = Bench::new();
    let token = bench.send(5, static_join("", "one"));
    bench.pass(3_000);
    answer!(bench, token, JoinGroup);
    let left = bench.leave(4, leave(&[("", Some("one")), ("", Some("other"))]));
    let codes: Vec<_> = left.members.iter().map(|member| member.error_code).collect();
    assert_eq!(codes, [0, code(Error::UnknownMemberId)]);
}

#[test]
fn a_group_rebalances_if_a_static_member_did_not_ask_for_its_assignment_although_it_was_replaced() {
    let mut bench = Bench::new();
    let tokens = [bench.send(5, static_join("", "one")), bench.send(5, static_join("", "two"))];
    bench.pass(6_000);
    let joined = tokens.map(|token| answer!(bench, token, JoinGroup));
    let leader = joined[0].leader.clone();
    bench.sync_now(3, sync(&leader, 1, &[]));
    let other = if joined[0].member_id == leader { "two" } else { "one" };
    let replaced = bench.join_now(9, static_join("", other));
    assert_eq!(replaced.error_code, 0);
    bench.sync_now(3, sync(&replaced.member_id, 1, &[]));
    let beat = |bench: &mut Bench| {
        let members = [&leader, &replaced.member_id];
        members.map(|member| bench.heartbeat(3, heartbeat(member, 1)).error_code)
    };
    for _ in 0..5 {
        assert_eq!(beat(&mut bench), [0, 0]);
        bench.pass(i64::from(REBALANCE) / 5);
    }
    // Kafka still waits for the SyncGroup of the old member then.
    assert_eq!(beat(&mut bench), [code(Error::RebalanceInProgress); 2]);
}
