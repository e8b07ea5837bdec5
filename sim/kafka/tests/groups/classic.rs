//! The classic protocol.

use bytes::{BufMut, Bytes, BytesMut};
use proto_kafka::error::ResponseError as Error;
use proto_kafka::messages::join_group_request::JoinGroupRequestProtocol;
use proto_kafka::messages::leave_group_request::MemberIdentity;
use proto_kafka::messages::sync_group_request::SyncGroupRequestAssignment;
use proto_kafka::messages::*;
use simulated_kafka::coordinator::Token;
use simulated_kafka::group::{GroupConfig, GroupResponse};

use crate::harness::{Bench, GROUP, answer, code, text};

pub const SESSION: i32 = 10_000;
pub const REBALANCE: i32 = 30_000;

/// The metadata of a consumer that is subscribed to these topics.
pub fn subscription(topics: &[&str]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(topics.len() as i32);
    for topic in topics {
        out.put_i16(topic.len() as i16);
        out.put_slice(topic.as_bytes());
    }
    out.put_i32(-1);
    out.freeze()
}

pub fn join(member: &str) -> JoinGroupRequest {
    join_with(member, &[("range", subscription(&["a"]))])
}

pub fn join_with(member: &str, protocols: &[(&str, Bytes)]) -> JoinGroupRequest {
    let protocols = protocols.iter().map(|(name, metadata)| {
        JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(metadata.clone())
    });
    JoinGroupRequest::default()
        .with_group_id(text(GROUP).into())
        .with_session_timeout_ms(SESSION)
        .with_rebalance_timeout_ms(REBALANCE)
        .with_member_id(text(member))
        .with_protocol_type(text("consumer"))
        .with_protocols(protocols.collect())
}

pub fn sync(member: &str, generation: i32, assignments: &[(&str, &'static [u8])]) -> SyncGroupRequest {
    let assignments = assignments.iter().map(|(member, bytes)| {
        SyncGroupRequestAssignment::default()
            .with_member_id(text(member))
            .with_assignment(Bytes::from_static(bytes))
    });
    SyncGroupRequest::default()
        .with_group_id(text(GROUP).into())
        .with_generation_id(generation)
        .with_member_id(text(member))
        .with_assignments(assignments.collect())
}

pub fn heartbeat(member: &str, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(text(GROUP).into())
        .with_generation_id(generation)
        .with_member_id(text(member))
}

pub fn leave(members: &[(&str, Option<&str>)]) -> LeaveGroupRequest {
    let members = members.iter().map(|(member, instance)| {
        MemberIdentity::default().with_member_id(text(member)).with_group_instance_id(instance.map(text))
    });
    LeaveGroupRequest::default().with_group_id(text(GROUP).into()).with_members(members.collect())
}

/// Asks for a member id, as clients do from JoinGroup 4 on.
pub fn member_id(bench: &mut Bench) -> String {
    let response = bench.join_now(5, join(""));
    assert_eq!(response.error_code, code(Error::MemberIdRequired));
    response.member_id.to_string()
}

/// Members of a stable group, the leader first, and the generation.
pub fn stable(bench: &mut Bench, count: usize) -> (Vec<String>, i32) {
    let ids: Vec<String> = (0..count).map(|_| member_id(bench)).collect();
    let tokens: Vec<Token> = ids.iter().map(|id| bench.send(5, join(id))).collect();
    bench.pass(6_000);
    let joined: Vec<_> = tokens.into_iter().map(|token| answer!(bench, token, JoinGroup)).collect();
    let generation = joined[0].generation_id;
    let leader = joined[0].leader.to_string();
    let mut ids = ids;
    ids.sort_by_key(|id| *id != leader);
    let tokens: Vec<Token> = ids[1..].iter().map(|id| bench.send(3, sync(id, generation, &[]))).collect();
    let assignments: Vec<(&str, &'static [u8])> =
        ids.iter().map(|id| (id.as_str(), b"assigned".as_slice())).collect();
    let synced = bench.sync_now(3, sync(&leader, generation, &assignments));
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, b"assigned".as_slice()));
    for token in tokens {
        assert_eq!(&answer!(bench, token, SyncGroup).assignment[..], b"assigned");
    }
    (ids, generation)
}

fn state(bench: &mut Bench) -> String {
    let request = DescribeGroupsRequest::default().with_groups(vec![text(GROUP).into()]);
    bench.describe_groups(5, request).groups[0].group_state.to_string()
}

#[test]
fn a_new_member_is_given_an_id_and_joins_with_it() {
    let mut bench = Bench::new();
    let id = member_id(&mut bench);
    assert!(id.starts_with("client-") && id.len() == "client-".len() + 36, "{id}");
    let token = bench.send(5, join(&id));
    assert!(!bench.is_answered(token));
    bench.pass(3_000);
    let joined = answer!(bench, token, JoinGroup);
    assert_eq!((joined.error_code, joined.generation_id, joined.leader.as_str()), (0, 1, id.as_str()));
    assert_eq!(joined.members.len(), 1);
}

#[test]
fn before_version_4_a_new_member_joins_at_once() {
    let mut bench = Bench::new();
    let token = bench.send(3, join(""));
    bench.pass(3_000);
    assert_eq!(answer!(bench, token, JoinGroup).error_code, 0);
}

#[test]
fn an_id_that_does_not_join_is_forgotten_after_its_session() {
    let mut bench = Bench::new();
    let id = member_id(&mut bench);
    bench.pass(i64::from(SESSION) + 1);
    assert_eq!(bench.join_now(5, join(&id)).error_code, code(Error::UnknownMemberId));
}

#[test]
fn the_first_rebalance_waits_for_others_as_long_as_they_come() {
    let mut bench = Bench::new();
    let first = bench.send(3, join(""));
    bench.pass(2_000);
    let second = bench.send(3, join(""));
    bench.pass(3_000);
    assert!(!bench.is_answered(first), "the second came within the first delay");
    bench.pass(1_000);
    assert_eq!(answer!(bench, first, JoinGroup).generation_id, 1);
    assert_eq!(answer!(bench, second, JoinGroup).generation_id, 1);
}

#[test]
fn only_the_leader_learns_the_members() {
    let mut bench = Bench::new();
    let tokens = [bench.send(3, join("")), bench.send(3, join(""))];
    bench.pass(6_000);
    let joined = tokens.map(|token| answer!(bench, token, JoinGroup));
    for response in joined {
        let is_leader = response.leader == response.member_id;
        assert_eq!(response.members.len(), if is_leader { 2 } else { 0 });
        assert_eq!(response.protocol_name.as_deref(), Some("range"));
    }
}

#[test]
fn members_receive_their_assignment_when_it_is_committed() {
    let mut bench = Bench::new();
    let token = bench.send(3, join(""));
    bench.pass(3_000);
    let id = answer!(bench, token, JoinGroup).member_id.to_string();
    bench.hold = true;
    let token = bench.send(3, sync(&id, 1, &[(&id, b"mine")]));
    assert!(!bench.is_answered(token));
    bench.commit();
    assert_eq!(&answer!(bench, token, SyncGroup).assignment[..], b"mine");
    bench.hold = false;
    assert_eq!(state(&mut bench), "Stable");
}

#[test]
fn an_assignment_that_is_not_committed_in_time_is_refused_and_the_group_rebalances() {
    let mut bench = Bench::new();
    let token = bench.send(3, join(""));
    bench.pass(3_000);
    let id = answer!(bench, token, JoinGroup).member_id.to_string();
    bench.hold = true;
    let token = bench.send(3, sync(&id, 1, &[(&id, b"mine")]));
    bench.pass(5_000);
    assert_eq!(answer!(bench, token, SyncGroup).error_code, code(Error::CoordinatorNotAvailable));
    bench.hold = false;
    bench.commit();
    assert_eq!(bench.heartbeat(3, heartbeat(&id, 1)).error_code, code(Error::RebalanceInProgress));
}

#[test]
fn a_member_that_joins_makes_the_others_rejoin() {
    let mut bench = Bench::new();
    let (ids, generation) = stable(&mut bench, 1);
    assert_eq!(bench.heartbeat(3, heartbeat(&ids[0], generation)).error_code, 0);
    let second = member_id(&mut bench);
    let token = bench.send(5, join(&second));
    assert_eq!(
        bench.heartbeat(3, heartbeat(&ids[0], generation)).error_code,
        code(Error::RebalanceInProgress)
    );
    let first = bench.send(5, join(&ids[0]));
    // All have joined: no delay.
    assert_eq!(answer!(bench, first, JoinGroup).generation_id, generation + 1);
    assert_eq!(answer!(bench, token, JoinGroup).generation_id, generation + 1);
}

#[test]
fn a_member_that_does_not_rejoin_is_removed_after_the_rebalance_timeout() {
    let mut bench = Bench::new();
    let (ids, generation) = stable(&mut bench, 1);
    let second = member_id(&mut bench);
    let token = bench.send(5, join(&second));
    for _ in 0..5 {
        bench.pass(5_000);
        assert_eq!(
            bench.heartbeat(3, heartbeat(&ids[0], generation)).error_code,
            code(Error::RebalanceInProgress)
        );
    }
    bench.pass(5_000);
    let joined = answer!(bench, token, JoinGroup);
    assert_eq!((joined.generation_id, joined.members.len()), (generation + 1, 1));
    assert_eq!(bench.heartbeat(3, heartbeat(&ids[0], generation)).error_code, code(Error::UnknownMemberId));
}

#[test]
fn a_member_without_heartbeats_expires_after_its_session_and_the_others_rebalance() {
    let mut bench = Bench::new();
    let (ids, generation) = stable(&mut bench, 2);
    bench.pass(i64::from(SESSION) - 1);
    assert_eq!(bench.heartbeat(3, heartbeat(&ids[0], generation)).error_code, 0);
    bench.pass(1);
    assert_eq!(
        bench.heartbeat(3, heartbeat(&ids[0], generation)).error_code,
        code(Error::RebalanceInProgress)
    );
    let token = bench.send(5, join(&ids[0]));
    assert_eq!(answer!(bench, token, JoinGroup).members.len(), 1);
    assert_eq!(bench.heartbeat(3, heartbeat(&ids[1], generation)).error_code, code(Error::UnknownMemberId));
}

#[test]
fn a_member_that_waits_for_a_rebalance_needs_no_heartbeats() {
    let mut bench = Bench::new();
    let (ids, generation) = stable(&mut bench, 2);
    let token = bench.send(5, join(&ids[0]));
    for _ in 0..5 {
        bench.pass(5_000);
        bench.heartbeat(3, heartbeat(&ids[1], generation));
    }
    bench.pass(5_000);
    assert_eq!(answer!(bench, token, JoinGroup).error_code, 0);
}

#[test]
fn a_member_that_leaves_makes_the_others_rejoin_at_once() {
    let mut bench = Bench::new();
    let (ids, generation) = stable(&mut bench, 2);
    let old = LeaveGroupRequest::default().with_group_id(text(GROUP).into()).with_member_id(text(&ids[1]));
    let left = bench.leave(1, old);
    assert_eq!((left.error_code, left.members.len()), (0, 0));
    assert_eq!(
        bench.heartbeat(3, heartbeat(&ids[0], generation)).error_code,
        code(Error::RebalanceInProgress)
    );
}

#[test]
fn the_last_member_that_leaves_makes_the_group_empty_and_the_generation_goes_on() {
    let mut bench = Bench::new();
    let (ids, generation) = stable(&mut bench, 1);
    let left = bench.leave(4, leave(&[(&ids[0], None), ("unknown", None)]));
    let codes: Vec<_> = left.members.iter().map(|member| member.error_code).collect();
    assert_eq!(codes, [0, code(Error::UnknownMemberId)]);
    assert_eq!(state(&mut bench), "Empty");
    bench.reload();
    let token = bench.send(3, join(""));
    bench.pass(3_000);
    assert_eq!(answer!(bench, token, JoinGroup).generation_id, generation + 2);
}

#[test]
fn a_member_that_does_not_ask_for_its_assignment_is_removed() {
    let mut bench = Bench::new();
    let tokens = [bench.send(3, join("")), bench.send(3, join(""))];
    bench.pass(6_000);
    let joined = tokens.map(|token| answer!(bench, token, JoinGroup));
    let follower = joined.iter().find(|j| j.leader != j.member_id).expect("a follower").member_id.clone();
    let token = bench.send(3, sync(&follower, 1, &[]));
    for _ in 0..5 {
        bench.pass(5_000);
        for response in &joined {
            bench.heartbeat(3, heartbeat(&response.member_id, 1));
        }
    }
    bench.pass(5_000);
    assert_eq!(answer!(bench, token, SyncGroup).error_code, code(Error::RebalanceInProgress));
    let leader = &joined[0].leader;
    assert_eq!(bench.heartbeat(3, heartbeat(leader, 1)).error_code, code(Error::UnknownMemberId));
}

#[test]
fn a_request_of_another_generation_is_refused() {
    let mut bench = Bench::new();
    let (ids, generation) = stable(&mut bench, 1);
    let error = code(Error::IllegalGeneration);
    assert_eq!(bench.heartbeat(3, heartbeat(&ids[0], generation - 1)).error_code, error);
    assert_eq!(bench.sync_now(3, sync(&ids[0], generation + 1, &[])).error_code, error);
}

#[test]
fn a_member_that_supports_none_of_the_groups_protocols_is_refused() {
    let mut bench = Bench::new();
    stable(&mut bench, 1);
    let other = join_with("", &[("roundrobin", subscription(&["a"]))]);
    assert_eq!(bench.join_now(3, other.clone()).error_code, code(Error::InconsistentGroupProtocol));
    let other = other.with_protocol_type(text("connect"));
    assert_eq!(bench.join_now(3, other).error_code, code(Error::InconsistentGroupProtocol));
}

#[test]
fn the_protocol_is_the_one_that_all_support_and_most_prefer() {
    let mut bench = Bench::new();
    let metadata = || subscription(&["a"]);
    let one = join_with("", &[("x", metadata()), ("y", metadata()), ("z", metadata())]);
    let two = join_with("", &[("z", metadata()), ("y", metadata())]);
    let three = join_with("", &[("z", metadata()), ("x", metadata()), ("y", metadata())]);
    let tokens = [bench.send(3, one), bench.send(3, two), bench.send(3, three)];
    bench.pass(9_000);
    for token in tokens {
        assert_eq!(answer!(bench, token, JoinGroup).protocol_name.as_deref(), Some("z"));
    }
}

#[test]
fn of_two_protocols_with_as_many_votes_it_is_the_first_in_javas_hash_table() {
    let mut bench = Bench::new();
    let metadata = || subscription(&["a"]);
    let one = join_with("", &[("cooperative-sticky", metadata()), ("range", metadata())]);
    let two = join_with("", &[("range", metadata()), ("cooperative-sticky", metadata())]);
    let tokens = [bench.send(3, one), bench.send(3, two)];
    bench.pass(6_000);
    for token in tokens {
        assert_eq!(answer!(bench, token, JoinGroup).protocol_name.as_deref(), Some("range"));
    }
}

#[test]
fn a_session_timeout_out_of_bounds_is_refused() {
    let mut bench = Bench::new();
    for timeout in [5_999, 1_800_001] {
        let request = join("").with_session_timeout_ms(timeout);
        assert_eq!(bench.join_now(5, request).error_code, code(Error::InvalidSessionTimeout));
    }
}

#[test]
fn a_full_group_takes_no_more_members() {
    let mut bench = Bench::with(GroupConfig { max_size: 1, ..GroupConfig::default() });
    stable(&mut bench, 1);
    assert_eq!(bench.join_now(5, join("")).error_code, code(Error::GroupMaxSizeReached));
}

#[test]
fn a_leader_that_joins_again_begins_a_rebalance_and_a_follower_gets_the_same_answer() {
    let mut bench = Bench::new();
    let (ids, generation) = stable(&mut bench, 2);
    let repeated = bench.join_now(5, join(&ids[1]));
    assert_eq!((repeated.error_code, repeated.generation_id), (0, generation));
    let token = bench.send(5, join(&ids[0]));
    assert!(!bench.is_answered(token));
    assert_eq!(
        bench.heartbeat(3, heartbeat(&ids[1], generation)).error_code,
        code(Error::RebalanceInProgress)
    );
}

#[test]
fn another_coordinator_knows_the_generation_and_the_assignment() {
    let mut bench = Bench::new();
    let (ids, generation) = stable(&mut bench, 2);
    assert_eq!(bench.reload(), []);
    for id in &ids {
        assert_eq!(bench.heartbeat(3, heartbeat(id, generation)).error_code, 0);
        assert_eq!(&bench.sync_now(3, sync(id, generation, &[])).assignment[..], b"assigned");
    }
}

#[test]
fn requests_that_wait_are_refused_when_the_coordinator_moves() {
    let mut bench = Bench::new();
    let token = bench.send(3, join(""));
    let refused = bench.reload();
    let [(refused_token, GroupResponse::JoinGroup(response))] = refused.as_slice() else {
        panic!("{refused:?}")
    };
    assert_eq!((*refused_token, response.error_code), (token, code(Error::NotCoordinator)));
}

#[test]
fn a_heartbeat_to_a_coordinator_that_loads_succeeds() {
    use simulated_kafka::group::GroupRequest;
    let request = GroupRequest::from(heartbeat("m", 1));
    let GroupResponse::Heartbeat(response) = request.refuse(3, Error::CoordinatorLoadInProgress) else {
        panic!()
    };
    assert_eq!(response.error_code, 0);
    let GroupResponse::Heartbeat(response) = request.refuse(3, Error::NotCoordinator) else { panic!() };
    assert_eq!(response.error_code, code(Error::NotCoordinator));
}

#[test]
fn groups_are_listed_by_state_and_type_and_described_with_their_members() {
    let mut bench = Bench::new();
    let (ids, _) = stable(&mut bench, 2);
    let listed = |bench: &mut Bench, states: &[&str], types: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|name| text(name)).collect();
        let request =
            ListGroupsRequest::default().with_states_filter(names(states)).with_types_filter(names(types));
        bench.list_groups(5, request).groups.len()
    };
    assert_eq!(listed(&mut bench, &[], &[]), 1);
    assert_eq!(listed(&mut bench, &["stable"], &["Classic"]), 1);
    assert_eq!(listed(&mut bench, &["Empty"], &[]), 0);
    assert_eq!(listed(&mut bench, &[], &["consumer"]), 0);
    let request = DescribeGroupsRequest::default().with_groups(vec![text(GROUP).into(), text("none").into()]);
    let described = bench.describe_groups(6, request.clone()).groups;
    assert_eq!(described[0].members.len(), ids.len());
    assert_eq!((described[0].group_state.as_str(), described[0].protocol_data.as_str()), ("Stable", "range"));
    assert_eq!(described[1].error_code, code(Error::GroupIdNotFound));
    assert_eq!(bench.describe_groups(5, request).groups[1].error_code, 0);
}

#[test]
fn only_a_group_without_members_is_deleted() {
    let mut bench = Bench::new();
    let (ids, _) = stable(&mut bench, 1);
    let delete = || DeleteGroupsRequest::default().with_groups_names(vec![text(GROUP).into()]);
    assert_eq!(bench.delete_groups(2, delete()).results[0].error_code, code(Error::NonEmptyGroup));
    bench.leave(4, leave(&[(&ids[0], None)]));
    assert_eq!(bench.delete_groups(2, delete()).results[0].error_code, 0);
    assert_eq!(bench.delete_groups(2, delete()).results[0].error_code, code(Error::GroupIdNotFound));
}
