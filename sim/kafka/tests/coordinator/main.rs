//! Random requests of both group protocols, to the state machine of groups and to Kafka's own: `GroupMetadataManager` of
//! 4.1.1, in the frame of its own tests (`GroupMetadataManagerTestContext`), which Maven fetches. Both have a clock that
//! the test advances. Here are the heartbeats of the `consumer` protocol; the classic protocol, and both in one group, are in
//! [`classic`].

mod classic;
#[path = "../../../../tests/common/clients/mod.rs"]
#[allow(dead_code, unused_imports)] // What other tests use.
mod clients;
#[path = "../differential/draw.rs"]
mod draw;
#[path = "../groups/harness.rs"]
#[allow(dead_code, unused_imports, unused_macros)] // What other tests use.
mod harness;
mod kafka;
#[path = "../../../../tests/common/setting.rs"]
mod setting;
mod steps;

use std::collections::BTreeMap;

use draw::Draw;
use harness::{Bench, GROUP, text, topic_id};
use kafka::Kafka;
use proto_kafka::messages::consumer_group_heartbeat_request::TopicPartitions;
use proto_kafka::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
};
use setting::setting;
use simulated_kafka::group::Assignor;
use steps::{Beat, Step, TOPICS};

/// Partitions by the number of a topic's id.
type Partitions = BTreeMap<u128, Vec<i32>>;

/// What a member knows of itself.
#[derive(Clone, Default)]
struct Member {
    epoch: i32,
    owned: Partitions,
    /// Which process it is, for its member id.
    run: usize,
}

fn partitions_of(response: &ConsumerGroupHeartbeatResponse) -> Option<Partitions> {
    let assignment = response.assignment.as_ref()?;
    let topics = assignment.topic_partitions.iter().map(|topic| {
        let mut partitions = topic.partitions.clone();
        partitions.sort();
        (topic.topic_id.as_u128(), partitions)
    });
    Some(topics.filter(|(_, partitions)| !partitions.is_empty()).collect())
}

/// What is compared of a response.
fn shown(response: &ConsumerGroupHeartbeatResponse) -> String {
    format!(
        "error {} member {:?} epoch {} every {} ms {:?}",
        response.error_code,
        response.member_id.as_deref(),
        response.member_epoch,
        response.heartbeat_interval_ms,
        partitions_of(response)
    )
}

fn described(response: &ConsumerGroupDescribeResponse) -> Vec<String> {
    let group = &response.groups[0];
    let mut lines = vec![format!(
        "error {} {} {} {} {}",
        group.error_code, group.group_state, group.group_epoch, group.assignment_epoch, group.assignor_name
    )];
    let mut members: Vec<String> = group
        .members
        .iter()
        .map(|member| {
            let mut topics: Vec<&str> =
                member.subscribed_topic_names.iter().map(|name| name.as_str()).collect();
            topics.sort();
            let show = |assignment: &proto_kafka::messages::consumer_group_describe_response::Assignment| {
                let mut all: Vec<_> = assignment
                    .topic_partitions
                    .iter()
                    .map(|topic| {
                        let mut partitions = topic.partitions.clone();
                        partitions.sort();
                        (topic.topic_id.as_u128(), partitions)
                    })
                    .collect();
                all.sort();
                format!("{all:?}")
            };
            format!(
                "{} of type {} {:?} {} {topics:?} {:?} has {} of {}",
                member.member_id.as_str(),
                member.member_type,
                member.instance_id.as_deref(),
                member.member_epoch,
                member.subscribed_topic_regex.as_deref(),
                show(&member.assignment),
                show(&member.target_assignment)
            )
        })
        .collect();
    members.sort();
    lines.extend(members);
    lines
}

/// The request of a member.
fn request(beat: &Beat, members: &[Member]) -> ConsumerGroupHeartbeatRequest {
    let member = &members[beat.member];
    let epoch = beat.epoch.unwrap_or(member.epoch + beat.shift);
    // Who joins has to say all, which is checked before the state machine is asked. The order of `uniform` among equals is
    // that of a hash table.
    let joins = epoch == 0;
    let topics = if joins { beat.topics.or(Some(1)) } else { beat.topics };
    let assignor = if joins { Some("range") } else { None };
    let owned = beat.owned.then(|| {
        let topics = member.owned.iter().map(|(topic, partitions)| {
            let kept = partitions.iter().copied().take(partitions.len().saturating_sub(beat.given_up));
            TopicPartitions::default().with_topic_id(topic_id(*topic)).with_partitions(kept.collect())
        });
        topics.filter(|topic| !topic.partitions.is_empty()).collect()
    });
    let owned = if joins { Some(Vec::new()) } else { owned };
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(text(GROUP).into())
        .with_member_id(text(&format!("m{}-{}", beat.member, member.run)))
        .with_instance_id(beat.is_static.then(|| text(&format!("i{}", beat.member))))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(if topics.is_some() { 60_000 } else { -1 })
        .with_subscribed_topic_names(topics.map(|topics| {
            let wanted = (0..TOPICS.len()).filter(|topic| topics & (1 << topic) != 0);
            wanted.map(|topic| text(TOPICS[topic]).into()).collect()
        }))
        .with_server_assignor(assignor.map(text))
        .with_topic_partitions(owned)
}

/// Carries out random steps on both; what differs in the first step that does.
fn compare(kafka: &mut Kafka, seed: u64, steps: u64) -> Result<Counts, String> {
    let mut draw = Draw::new(seed);
    let mut bench = Bench::new();
    kafka.begin(i32::MAX as usize, Assignor::Uniform);
    let mut topics = vec![("a", 1, 4), ("b", 2, 2)];
    bench.change_topics(&topics);
    kafka.topics(&topics);
    let mut members = vec![Member::default(); steps::MEMBERS];
    let (mut requests, mut errors) = (0, 0);
    let mut history = Vec::new();
    for place in 0..steps {
        let step = steps::step(&mut draw);
        match &step {
            Step::Beat(beat) => {
                if beat.restarts {
                    members[beat.member] = Member { run: members[beat.member].run + 1, ..Member::default() };
                }
                let request = request(beat, &members);
                let expected = kafka.heartbeat(&request);
                let found = bench.beat(1, request.clone());
                // No two sessions end at once.
                kafka.pass(1);
                bench.pass(1);
                requests += 1;
                errors += u64::from(expected.error_code != 0);
                history.push(format!("{request:?}\n    {}", shown(&expected)));
                if shown(&expected) != shown(&found) {
                    let from = history.len().saturating_sub(30);
                    return Err(format!(
                        "seed {seed}, step {place}:\n{}\n    simulation: {} {:?}\n    Kafka's message: {:?}",
                        history[from..].join("\n"),
                        shown(&found),
                        found.error_message,
                        expected.error_message,
                    ));
                }
                // A response that gets lost teaches the member nothing.
                if expected.error_code == 0 && !beat.is_lost {
                    let member = &mut members[beat.member];
                    member.epoch = expected.member_epoch.max(0);
                    if let Some(partitions) = partitions_of(&expected) {
                        member.owned = partitions;
                    }
                }
            }
            Step::Pass(milliseconds) => {
                history.push(format!("{milliseconds} ms pass"));
                kafka.pass(*milliseconds);
                bench.pass(*milliseconds);
            }
            Step::Grow(topic) => {
                topics[*topic].2 += 1;
                history.push(format!("{topics:?}"));
                bench.change_topics(&topics);
                kafka.topics(&topics);
            }
            Step::Recreate(topic) => {
                topics[*topic].1 += 10;
                history.push(format!("{topics:?}"));
                bench.change_topics(&topics);
                kafka.topics(&topics);
            }
        }
        let describe = ConsumerGroupDescribeRequest::default().with_group_ids(vec![text(GROUP).into()]);
        let found = described(&bench.describe_consumers(1, describe));
        let expected = described(&kafka.describe(GROUP));
        if expected != found {
            let from = history.len().saturating_sub(30);
            return Err(format!(
                "seed {seed}, after step {place}:\n{}\n  Kafka:      {}\n  simulation: {}",
                history[from..].join("\n"),
                expected.join("\n              "),
                found.join("\n              ")
            ));
        }
    }
    Ok(Counts { requests, errors, ..Counts::default() })
}

/// What was sent in all groups.
#[derive(Clone, Copy, Default)]
struct Counts {
    groups: u64,
    requests: u64,
    errors: u64,
    /// How often a group became a classic one again.
    downgrades: u64,
}

/// Compares groups, each with another seed: `EXACTLYONCE_DIFFERENTIAL_SEED` is the first one,
/// `EXACTLYONCE_DIFFERENTIAL_GROUPS` how many there are. What Kafka reports as errors goes to a file of this name.
///
/// # Panics
/// If one differs.
fn compare_groups(
    errors: &str,
    mut compare: impl FnMut(&mut Kafka, u64) -> Result<Counts, String>,
) -> Counts {
    let first = setting("EXACTLYONCE_DIFFERENTIAL_SEED", std::process::id().into());
    let groups = setting("EXACTLYONCE_DIFFERENTIAL_GROUPS", 200);
    println!("EXACTLYONCE_DIFFERENTIAL_SEED={first} EXACTLYONCE_DIFFERENTIAL_GROUPS={groups}");
    let mut kafka = Kafka::start(errors);
    let mut all = Counts { groups, ..Counts::default() };
    let mut different = Vec::new();
    for seed in first..first + groups {
        match compare(&mut kafka, seed) {
            Ok(counts) => {
                all.requests += counts.requests;
                all.errors += counts.errors;
                all.downgrades += counts.downgrades;
            }
            Err(difference) => different.push(difference),
        }
        if different.len() == 3 {
            break;
        }
    }
    let Counts { requests, errors, downgrades, .. } = all;
    println!("{requests} requests, {errors} refused, {downgrades} times a classic group again");
    assert!(different.is_empty(), "{} of the groups differ:\n{}", different.len(), different.join("\n\n"));
    all
}

#[test]
#[ignore = "needs Java, Maven and the network"]
fn random_heartbeats_have_the_same_responses_and_effects_in_kafkas_own_state_machine() {
    let all = compare_groups("errors-consumer", |kafka, seed| compare(kafka, seed, 60));
    assert!(all.requests > all.groups * 10 && all.errors * 2 < all.requests, "most are refused");
}
