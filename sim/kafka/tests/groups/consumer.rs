//! The `consumer` protocol (KIP-848).

use std::collections::BTreeMap;

use proto_kafka::error::ResponseError as Error;
use proto_kafka::messages::consumer_group_heartbeat_request::TopicPartitions;
use proto_kafka::messages::*;
use simulated_kafka::group::GroupConfig;

use crate::harness::{Bench, GROUP, code, text, topic_id};
use crate::offsets::{commit, commit_error};

const SESSION: i64 = 45_000;
const REBALANCE: i32 = 60_000;

/// The first heartbeat of a member.
pub fn joins(member: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(text(GROUP).into())
        .with_member_id(text(member))
        .with_member_epoch(0)
        .with_rebalance_timeout_ms(REBALANCE)
        .with_subscribed_topic_names(Some(vec![text("a").into()]))
        .with_topic_partitions(Some(Vec::new()))
}

/// A heartbeat without news.
pub fn keeps(member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(text(GROUP).into())
        .with_member_id(text(member))
        .with_member_epoch(epoch)
}

/// A heartbeat of a member that says what it has of topic `a`.
pub fn owns(member: &str, epoch: i32, partitions: &[i32]) -> ConsumerGroupHeartbeatRequest {
    let topic = TopicPartitions::default().with_topic_id(topic_id(1)).with_partitions(partitions.to_vec());
    keeps(member, epoch).with_topic_partitions(Some(vec![topic]))
}

/// The heartbeat of a member that got no answer to the one before: it says all, and gets all.
fn full(member: &str, epoch: i32, partitions: &[i32]) -> ConsumerGroupHeartbeatRequest {
    owns(member, epoch, partitions)
        .with_rebalance_timeout_ms(REBALANCE)
        .with_subscribed_topic_names(Some(vec![text("a").into()]))
}

/// The partitions of topic `a` in a response; `None` if it has no assignment.
pub fn assigned(response: &ConsumerGroupHeartbeatResponse) -> Option<Vec<i32>> {
    assert_eq!(response.error_code, 0, "{response:?}");
    let assignment = response.assignment.as_ref()?;
    Some(assignment.topic_partitions.iter().flat_map(|topic| topic.partitions.clone()).collect())
}

fn state(bench: &mut Bench) -> String {
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![text(GROUP).into()]);
    bench.describe_consumers(1, request).groups[0].group_state.to_string()
}

/// A group with two members, two partitions each, at epoch 2.
pub fn pair(bench: &mut Bench) {
    assert_eq!(assigned(&bench.beat(1, joins("one"))), Some(vec![0, 1, 2, 3]));
    assert_eq!(assigned(&bench.beat(1, joins("two"))), Some(vec![]));
    assert_eq!(assigned(&bench.beat(1, keeps("one", 1))), Some(vec![0, 1]));
    let first = bench.beat(1, owns("one", 1, &[0, 1]));
    assert_eq!((first.member_epoch, assigned(&first)), (2, None));
    let second = bench.beat(1, keeps("two", 2));
    assert_eq!((second.member_epoch, assigned(&second)), (2, Some(vec![2, 3])));
}

#[test]
fn the_first_member_gets_all_partitions() {
    let mut bench = Bench::new();
    let response = bench.beat(1, joins("one"));
    assert_eq!((response.member_epoch, response.heartbeat_interval_ms), (1, 5_000));
    assert_eq!(assigned(&response), Some(vec![0, 1, 2, 3]));
    assert_eq!(state(&mut bench), "Stable");
    let response = bench.beat(1, keeps("one", 1));
    assert_eq!((response.member_epoch, assigned(&response)), (1, None));
}

#[test]
fn a_partition_is_given_only_after_its_owner_says_that_it_has_it_no_more() {
    let mut bench = Bench::new();
    bench.beat(1, joins("one"));
    let second = bench.beat(1, joins("two"));
    assert_eq!((second.member_epoch, assigned(&second)), (2, Some(vec![])));
    // The owner is asked, stays in its epoch, and does not answer.
    let first = bench.beat(1, keeps("one", 1));
    assert_eq!((first.member_epoch, assigned(&first)), (1, Some(vec![0, 1])));
    assert_eq!(state(&mut bench), "Reconciling");
    for _ in 0..3 {
        assert_eq!(assigned(&bench.beat(1, keeps("one", 1))), None);
        assert_eq!(assigned(&bench.beat(1, keeps("two", 2))), None);
        assert_eq!(assigned(&bench.beat(1, owns("one", 1, &[0, 1, 2, 3]))), None);
    }
    assert_eq!(bench.beat(1, owns("one", 1, &[0, 1])).member_epoch, 2);
    assert_eq!(assigned(&bench.beat(1, keeps("two", 2))), Some(vec![2, 3]));
    assert_eq!(state(&mut bench), "Stable");
}

#[test]
fn the_partitions_of_a_member_that_leaves_go_to_the_others() {
    let mut bench = Bench::new();
    pair(&mut bench);
    let left = bench.beat(1, keeps("one", -1));
    assert_eq!((left.error_code, left.member_epoch), (0, -1));
    let second = bench.beat(1, keeps("two", 2));
    assert_eq!((second.member_epoch, assigned(&second)), (3, Some(vec![0, 1, 2, 3])));
    assert_eq!(bench.beat(1, keeps("one", 2)).error_code, code(Error::UnknownMemberId));
}

#[test]
fn a_member_without_heartbeats_is_fenced_after_its_session() {
    let mut bench = Bench::new();
    pair(&mut bench);
    bench.pass(SESSION - 1);
    assert_eq!(bench.beat(1, keeps("two", 2)).error_code, 0);
    bench.pass(1);
    assert_eq!(assigned(&bench.beat(1, keeps("two", 2))), Some(vec![0, 1, 2, 3]));
    assert_eq!(bench.beat(1, keeps("one", 2)).error_code, code(Error::UnknownMemberId));
}

#[test]
fn a_member_that_does_not_give_partitions_up_is_fenced_after_its_rebalance_timeout() {
    let mut bench = Bench::new();
    bench.beat(1, joins("one"));
    bench.beat(1, joins("two"));
    bench.beat(1, keeps("one", 1));
    for _ in 0..6 {
        assert_eq!(bench.beat(1, keeps("one", 1)).error_code, 0);
        bench.beat(1, keeps("two", 2));
        bench.pass(i64::from(REBALANCE) / 6);
    }
    assert_eq!(bench.beat(1, keeps("one", 1)).error_code, code(Error::UnknownMemberId));
    assert_eq!(assigned(&bench.beat(1, keeps("two", 2))), Some(vec![0, 1, 2, 3]));
}

#[test]
fn a_member_whose_epoch_was_lost_on_the_way_retries_with_the_one_before() {
    let mut bench = Bench::new();
    pair(&mut bench);
    // It has not seen epoch 2, and has what it may keep.
    let retried = bench.beat(1, owns("one", 1, &[0, 1]));
    assert_eq!((retried.error_code, retried.member_epoch), (0, 2));
    // With more than that, or without saying so, it is fenced.
    assert_eq!(bench.beat(1, owns("one", 1, &[0, 1, 2])).error_code, code(Error::FencedMemberEpoch));
    assert_eq!(bench.beat(1, keeps("one", 1)).error_code, code(Error::FencedMemberEpoch));
}

#[test]
fn a_member_that_says_all_is_told_its_assignment_again() {
    let mut bench = Bench::new();
    pair(&mut bench);
    assert_eq!(assigned(&bench.beat(1, owns("one", 2, &[0, 1]))), None);
    assert_eq!(assigned(&bench.beat(1, full("one", 2, &[0, 1]))), Some(vec![0, 1]));
}

#[test]
fn a_member_with_another_epoch_is_fenced() {
    let mut bench = Bench::new();
    pair(&mut bench);
    assert_eq!(bench.beat(1, keeps("one", 3)).error_code, code(Error::FencedMemberEpoch));
    assert_eq!(bench.beat(1, joins("one")).error_code, code(Error::FencedMemberEpoch));
    let unknown = bench.beat(1, keeps("three", 1));
    assert_eq!(unknown.error_code, code(Error::UnknownMemberId));
    assert!(unknown.error_message.is_some());
}

#[test]
fn an_incomplete_first_heartbeat_is_refused() {
    let mut bench = Bench::new();
    let invalid = code(Error::InvalidRequest);
    assert_eq!(bench.beat(1, joins("")).error_code, invalid);
    assert_eq!(bench.beat(1, joins("m").with_rebalance_timeout_ms(-1)).error_code, invalid);
    assert_eq!(bench.beat(1, joins("m").with_topic_partitions(None)).error_code, invalid);
    assert_eq!(bench.beat(1, joins("m").with_subscribed_topic_names(None)).error_code, invalid);
    assert_eq!(bench.beat(1, joins("m").with_member_epoch(-3)).error_code, invalid);
    assert_eq!(bench.beat(1, joins("m").with_member_epoch(-2)).error_code, invalid);
    let assignor = joins("m").with_server_assignor(Some(text("other")));
    assert_eq!(bench.beat(1, assignor).error_code, code(Error::UnsupportedAssignor));
    assert_eq!(bench.beat(1, keeps("m", 1)).error_code, code(Error::GroupIdNotFound));
    assert_eq!(bench.log.len(), 0);
}

#[test]
fn with_version_0_the_coordinator_names_the_member() {
    let mut bench = Bench::new();
    let response = bench.beat(0, joins(""));
    assert_eq!(response.error_code, 0);
    assert_eq!(response.member_id.map(|id| id.len()), Some(22));
}

#[test]
fn new_partitions_are_assigned_with_the_next_heartbeat() {
    let mut bench = Bench::new();
    bench.beat(1, joins("one"));
    bench.change_topics(&[("a", 1, 6), ("b", 2, 2)]);
    let response = bench.beat(1, keeps("one", 1));
    assert_eq!((response.member_epoch, assigned(&response)), (2, Some((0..6).collect())));
}

#[test]
fn a_recreated_topic_is_assigned_under_its_new_id() {
    let mut bench = Bench::new();
    bench.beat(1, joins("one"));
    bench.change_topics(&[("a", 9, 1)]);
    let asked = bench.beat(1, keeps("one", 1));
    assert_eq!((asked.member_epoch, assigned(&asked)), (1, Some(vec![])));
    let response = bench.beat(1, keeps("one", 1).with_topic_partitions(Some(Vec::new())));
    let topics = response.assignment.expect("an assignment").topic_partitions;
    assert_eq!((topics.len(), topics[0].topic_id), (1, topic_id(9)));
}

#[test]
fn a_topic_that_does_not_exist_yet_is_assigned_when_it_does() {
    let mut bench = Bench::new();
    let subscribed = joins("one").with_subscribed_topic_names(Some(vec![text("later").into()]));
    assert_eq!(assigned(&bench.beat(1, subscribed)), Some(vec![]));
    bench.change_topics(&[("later", 5, 2)]);
    assert_eq!(assigned(&bench.beat(1, keeps("one", 1))), Some(vec![0, 1]));
}

#[test]
fn another_subscription_gives_other_partitions() {
    let mut bench = Bench::new();
    bench.beat(1, joins("one"));
    let other = || keeps("one", 1).with_subscribed_topic_names(Some(vec![text("b").into()]));
    assert_eq!(assigned(&bench.beat(1, other())), Some(vec![]));
    let response = bench.beat(1, keeps("one", 1).with_topic_partitions(Some(Vec::new())));
    let topics = response.assignment.expect("an assignment").topic_partitions;
    assert_eq!((topics[0].topic_id, topics[0].partitions.as_slice()), (topic_id(2), [0, 1].as_slice()));
}

#[test]
fn members_keep_their_assignment_when_the_coordinator_moves() {
    let mut bench = Bench::new();
    pair(&mut bench);
    assert_eq!(bench.reload(), []);
    for member in ["one", "two"] {
        let response = bench.beat(1, keeps(member, 2));
        assert_eq!((response.member_epoch, assigned(&response)), (2, None));
    }
    bench.pass(SESSION);
    assert_eq!(state(&mut bench), "Empty");
}

#[test]
fn a_partition_that_is_waited_for_is_not_forgotten_when_the_coordinator_moves() {
    let mut bench = Bench::new();
    bench.beat(1, joins("one"));
    bench.beat(1, joins("two"));
    bench.beat(1, keeps("one", 1));
    bench.reload();
    assert_eq!(assigned(&bench.beat(1, keeps("two", 2))), None);
    bench.beat(1, owns("one", 1, &[0, 1]));
    assert_eq!(assigned(&bench.beat(1, keeps("two", 2))), Some(vec![2, 3]));
}

pub fn static_joins(member: &str, instance: &str) -> ConsumerGroupHeartbeatRequest {
    joins(member).with_instance_id(Some(text(instance)))
}

#[test]
fn a_static_member_that_is_away_keeps_its_partitions_for_its_successor() {
    let mut bench = Bench::new();
    bench.beat(1, static_joins("one", "i"));
    bench.beat(1, joins("two"));
    bench.beat(1, keeps("one", 1).with_instance_id(Some(text("i"))));
    bench.beat(1, owns("one", 1, &[0, 1]).with_instance_id(Some(text("i"))));
    bench.beat(1, keeps("two", 2));
    let left = bench.beat(1, keeps("one", -2).with_instance_id(Some(text("i"))));
    assert_eq!((left.error_code, left.member_epoch), (0, -2));
    assert_eq!(assigned(&bench.beat(1, keeps("two", 2))), None);
    let back = bench.beat(1, static_joins("three", "i"));
    assert_eq!((back.member_epoch, assigned(&back)), (2, Some(vec![0, 1])));
    let fenced = keeps("one", 2).with_instance_id(Some(text("i")));
    assert_eq!(bench.beat(1, fenced).error_code, code(Error::FencedInstanceId));
}

#[test]
fn the_instance_of_a_member_that_is_there_is_not_released() {
    let mut bench = Bench::new();
    bench.beat(1, static_joins("one", "i"));
    assert_eq!(bench.beat(1, static_joins("two", "i")).error_code, code(Error::UnreleasedInstanceId));
}

#[test]
fn a_static_member_that_does_not_come_back_is_fenced_after_its_session() {
    let mut bench = Bench::new();
    bench.beat(1, static_joins("one", "i"));
    bench.beat(1, keeps("one", -2).with_instance_id(Some(text("i"))));
    bench.pass(SESSION);
    assert_eq!(state(&mut bench), "Empty");
}

#[test]
fn a_full_group_takes_no_more_members() {
    let mut bench = Bench::with(GroupConfig { consumer_max_size: 1, ..GroupConfig::default() });
    bench.beat(1, joins("one"));
    assert_eq!(bench.beat(1, joins("two")).error_code, code(Error::GroupMaxSizeReached));
    assert_eq!(bench.beat(1, keeps("one", 1)).error_code, 0);
}

#[test]
fn members_choose_the_assignor() {
    let mut bench = Bench::new();
    bench.change_topics(&[("a", 1, 3), ("b", 2, 3)]);
    let with = |member: &str| {
        joins(member)
            .with_server_assignor(Some(text("range")))
            .with_subscribed_topic_names(Some(vec![text("a").into(), text("b").into()]))
    };
    bench.beat(1, with("one"));
    bench.beat(1, with("two"));
    bench.beat(1, keeps("one", 1));
    bench.beat(1, owns("one", 1, &[0, 1]));
    let response = bench.beat(1, keeps("two", 2));
    assert_eq!(assigned(&response), Some(vec![2, 2]), "the last of each topic");
}

#[test]
fn a_regular_expression_subscribes_to_what_it_matches_as_a_whole() {
    let mut bench = Bench::new();
    bench.change_topics(&[("a", 1, 2), ("ab", 2, 1), ("ba", 3, 1)]);
    let request =
        || joins("one").with_subscribed_topic_names(None).with_subscribed_topic_regex(Some(text("a.*")));
    bench.beat(1, request());
    let response = bench.beat(1, keeps("one", 1));
    let topics: BTreeMap<_, _> = response
        .assignment
        .expect("an assignment")
        .topic_partitions
        .into_iter()
        .map(|topic| (topic.topic_id, topic.partitions))
        .collect();
    assert_eq!(topics, [(topic_id(1), vec![0, 1]), (topic_id(2), vec![0])].into());
    bench.change_topics(&[("a", 1, 2), ("ab", 2, 1), ("ac", 4, 1)]);
    bench.pass(10_001);
    bench.beat(1, keeps("one", 2));
    let response = bench.beat(1, keeps("one", 2));
    assert_eq!(response.assignment.map(|assignment| assignment.topic_partitions.len()), Some(3));
    let invalid = joins("two").with_subscribed_topic_regex(Some(text("(")));
    assert_eq!(bench.beat(1, invalid).error_code, code(Error::InvalidRegularExpression));
}

#[test]
fn members_commit_with_their_epoch_and_a_version_that_knows_it() {
    let mut bench = Bench::new();
    pair(&mut bench);
    let of = |epoch| commit("a", 0, 5).with_member_id(text("one")).with_generation_id_or_member_epoch(epoch);
    assert_eq!(commit_error(&mut bench, 9, of(2)), 0);
    assert_eq!(commit_error(&mut bench, 9, of(1)), code(Error::StaleMemberEpoch));
    assert_eq!(commit_error(&mut bench, 8, of(2)), code(Error::UnsupportedVersion));
    let other = of(2).with_member_id(text("three"));
    assert_eq!(commit_error(&mut bench, 9, other), code(Error::UnknownMemberId));
}

#[test]
fn a_group_is_described_with_targets_and_epochs() {
    let mut bench = Bench::new();
    bench.beat(1, joins("one"));
    bench.beat(1, joins("two"));
    let request =
        ConsumerGroupDescribeRequest::default().with_group_ids(vec![text(GROUP).into(), text("no").into()]);
    let groups = bench.describe_consumers(1, request).groups;
    let group = &groups[0];
    assert_eq!((group.group_epoch, group.assignment_epoch, group.assignor_name.as_str()), (2, 2, "uniform"));
    let member = &group.members[0];
    assert_eq!((member.member_id.as_str(), member.member_epoch, member.member_type), ("one", 1, 1));
    assert_eq!(member.assignment.topic_partitions[0].partitions, [0, 1, 2, 3]);
    assert_eq!(member.target_assignment.topic_partitions[0].partitions, [0, 1]);
    assert_eq!(member.target_assignment.topic_partitions[0].topic_name.as_str(), "a");
    assert_eq!(groups[1].error_code, code(Error::GroupIdNotFound));
}

#[test]
fn a_heartbeat_is_answered_when_its_records_are_committed() {
    let mut bench = Bench::new();
    bench.hold = true;
    let token = bench.send(1, joins("one"));
    assert!(!bench.is_answered(token));
    bench.commit();
    assert!(bench.is_answered(token));
}

/// Members that join, leave, come back and lose responses, in any order: no partition has two owners, and in the end
/// all are assigned.
#[test]
fn no_partition_ever_has_two_owners() {
    use rand_core::{Rng, SeedableRng};
    for seed in 0..60 {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let mut bench = Bench::new();
        // Epoch and what the member has, as it knows.
        let mut members: BTreeMap<String, (i32, Vec<i32>)> = BTreeMap::new();
        let mut next = 0;
        for step in 0..300 {
            let quiet = step >= 250;
            match rng.next_u32() % 10 {
                0 if !quiet && members.len() < 5 => {
                    next += 1;
                    members.insert(format!("m{next}"), (0, Vec::new()));
                }
                1 if !quiet && members.len() > 1 => {
                    let id = members.keys().next().expect("a member").clone();
                    let (epoch, _) = members.remove(&id).expect("a member");
                    if epoch > 0 {
                        bench.beat(1, keeps(&id, -1));
                    }
                }
                2 if !quiet => {
                    bench.reload();
                }
                _ => {}
            }
            if members.is_empty() {
                members.insert(format!("m{step}-first"), (0, Vec::new()));
            }
            let index = (rng.next_u32() as usize) % members.len();
            let id = members.keys().nth(index).expect("a member").clone();
            let (epoch, owned) = members[&id].clone();
            let request = if epoch == 0 { joins(&id) } else { full(&id, epoch, &owned) };
            let response = bench.beat(1, request);
            bench.pass(100);
            if !quiet && rng.next_u32() % 5 == 0 {
                // The response is lost.
                continue;
            }
            if response.error_code != 0 {
                members.insert(id.clone(), (0, Vec::new()));
            } else {
                let owned = assigned(&response).unwrap_or(owned);
                members.insert(id.clone(), (response.member_epoch, owned));
            }
            let mut all: Vec<i32> = members.values().flat_map(|(_, owned)| owned.clone()).collect();
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count, "seed {seed}, step {step}: {members:?}");
        }
        // A member that lost two responses is fenced even when it joins again, until its session is over.
        for _ in 0..8 {
            bench.pass(15_000);
            for id in members.keys().cloned().collect::<Vec<_>>() {
                let (epoch, owned) = members[&id].clone();
                let request = if epoch == 0 { joins(&id) } else { full(&id, epoch, &owned) };
                let response = bench.beat(1, request);
                let next = match response.error_code {
                    0 => (response.member_epoch, assigned(&response).unwrap_or(owned)),
                    _ => (0, Vec::new()),
                };
                members.insert(id, next);
            }
        }
        let all: usize = members.values().map(|(_, owned)| owned.len()).sum();
        assert_eq!(all, 4, "seed {seed}: {members:?}");
    }
}
