//! Random requests to three real brokers and to three simulated ones: both respond the same. The real ones must not delete
//! empty groups meanwhile:
//!
//! ```text
//! EXACTLYONCE_LOCAL_KAFKA_SETTINGS=offsets.retention.check.interval.ms=600000 docker/local/cluster up --kafka 3 --cassandra 0
//! ```

mod admin;
#[path = "../../../../tests/common/cluster.rs"]
mod cluster;
mod configs;
mod data;
mod draw;
mod frames;
mod groups;
#[path = "../hostile/requests.rs"]
#[allow(dead_code)] // What other tests use.
mod requests;
#[path = "../../../../tests/common/setting.rs"]
mod setting;
mod side;
mod steps;
mod transactions;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cluster::Cluster;
use draw::Draw;
use setting::setting;
use side::{Host, Side};
use simulated_hosts::HostCommand;
use simulated_kafka::cluster::Recovery;
use simulated_kafka::serve::{LocalBrokers, LocalOptions};
use steps::{PRODUCERS, Step, TOPICS, step};

/// What differs from the defaults of brokers on loopback addresses in those that `docker/local/cluster` starts.
const PROPERTIES: [(&str, &str); 3] =
    [("auto.create.topics.enable", "false"), ("min.insync.replicas", "2"), ("log.segment.bytes", "16777216")];

/// After how many steps that differ the test ends. What follows the first may differ because of it.
const MAX_DIFFERENCES: usize = 5;

impl Side {
    /// Carries out a step; what is compared, line by line.
    async fn run(&mut self, step: &Step, now: i64) -> Vec<String> {
        self.compressed.extend(step.compressed());
        match step {
            Step::Produce(produce) => self.produce(produce, now).await,
            Step::Classic { group, instance, steps } => self.classic(*group, *instance, steps).await,
            Step::Consumer { group, is_static, steps } => self.consumer(*group, *is_static, steps).await,
            Step::Kill(node) => {
                if self.down.is_none() {
                    self.kill(*node).await;
                    self.wait_for_all().await;
                }
                Vec::new()
            }
            Step::Start => {
                if self.down.is_some() {
                    self.start().await;
                    self.wait_for_all().await;
                }
                Vec::new()
            }
            Step::Commit { .. }
            | Step::Committed { .. }
            | Step::DeleteOffsets { .. }
            | Step::DeleteGroup { .. } => self.offsets(step).await,
            Step::Init { .. }
            | Step::InitAs { .. }
            | Step::Add { .. }
            | Step::End { .. }
            | Step::TxnOffsets { .. }
            | Step::DescribeTransaction { .. } => self.transaction(step).await,
            Step::DescribeProducers { .. }
            | Step::DeleteRecords { .. }
            | Step::Offsets { .. }
            | Step::Epochs { .. }
            | Step::Fetch { .. } => self.log(step, now).await,
            _ => self.admin(step).await,
        }
    }
}

/// The steps begin with a topic of each name, and with all producers.
fn first_step(place: usize) -> Option<Step> {
    let create =
        |topic| Step::Create { topic, partitions: 3, replicas: 3, configs: Vec::new(), validate: false };
    if place < TOPICS {
        return Some(create(place));
    }
    let producer = place - TOPICS;
    (producer < PRODUCERS).then_some(Step::Init { producer, timeout: 600_000 })
}

async fn sides(now: i64) -> (Side, Side) {
    let cluster = Arc::new(Cluster::running());
    let addresses = cluster.addresses("KAFKA", 3).expect("three brokers");
    let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
    let prefix = format!("d{}", now % 100_000_000);
    // A run before may have ended while one was down.
    let names = ["kafka-1", "kafka-2", "kafka-3"];
    cluster.call_apply(HostCommand::from(Recovery::Start), &names).await.expect("a start");
    let real = Side::new(Host::Real(cluster), addresses, prefix.clone());
    let options = LocalOptions { port: 0, ..LocalOptions::new(now * 1000) };
    let brokers = LocalBrokers::start(options, |options| {
        for (name, value) in PROPERTIES {
            options.set(name, value).expect("a setting");
        }
    });
    let brokers = brokers.await.expect("the brokers start");
    let addresses = (1..=3).map(|broker| brokers.address(broker)).collect();
    (real, Side::new(Host::Simulated(brokers), addresses, prefix))
}

fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime")
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as i64
}

/// Runs random steps on both; panics if they differ.
fn compare(kills: bool, default_steps: u64) {
    let seed = setting("EXACTLYONCE_DIFFERENTIAL_SEED", std::process::id().into());
    let planned = setting("EXACTLYONCE_DIFFERENTIAL_STEPS", default_steps);
    // How many steps before one that differs are printed.
    let history = setting("EXACTLYONCE_DIFFERENTIAL_HISTORY", 40);
    println!("EXACTLYONCE_DIFFERENTIAL_SEED={seed} EXACTLYONCE_DIFFERENTIAL_STEPS={planned}");
    runtime().block_on(async {
        let now = now();
        let (mut real, mut simulated) = sides(now).await;
        for side in [&mut real, &mut simulated] {
            side.kills = kills;
            // The topics of the coordinators are created when they are looked for.
            side.coordinator(0, "any").await;
            side.coordinator(1, "any").await;
        }
        // Records are older than what the brokers' clocks show, so that times differ.
        let now = now - 3_600_000;
        let mut draw = Draw::new(seed);
        let (mut lines, mut errors) = (0, 0);
        let mut different = Vec::new();
        let mut before = std::collections::VecDeque::new();
        for place in 0..planned {
            let step = first_step(place as usize).unwrap_or_else(|| step(&mut draw, kills));
            let (expected, found) = tokio::join!(real.run(&step, now), simulated.run(&step, now));
            lines += expected.len();
            errors += usize::from(expected.first().is_some_and(|line| !line.starts_with("0 ")));
            if expected != found {
                for (step, outcome) in std::mem::take(&mut before) {
                    println!("{step:?}\n    {outcome:?}");
                }
                println!("step {place}: {step:?}");
                for at in 0..expected.len().max(found.len()) {
                    let (expected, found) = (expected.get(at), found.get(at));
                    let differs = if expected == found { ' ' } else { '!' };
                    println!("{differs}   Kafka      {expected:?}\n{differs}   simulation {found:?}");
                }
                different.push(format!("step {place}: {step:?}"));
                if different.len() == MAX_DIFFERENCES {
                    break;
                }
            }
            before.push_back((step, expected));
            if before.len() as u64 > history {
                before.pop_front();
            }
        }
        assert!(different.is_empty(), "seed {seed}, they differ in\n{}", different.join("\n"));
        println!("{planned} steps: {lines} lines compared, {errors} begin with an error");
        assert!(errors as u64 * 10 < planned * 8, "most steps fail: {errors} of {planned}");
    });
}

/// `EXACTLYONCE_DIFFERENTIAL_SEED` and `EXACTLYONCE_DIFFERENTIAL_STEPS` set what their names say.
#[test]
#[ignore = "needs services, see the start of this file"]
fn random_requests_have_the_same_responses_on_kafka_and_in_the_simulation() {
    compare(false, 3000);
}

/// The same, while one broker after another is killed and started.
#[test]
#[ignore = "needs services, see the start of this file"]
fn random_requests_have_the_same_responses_while_brokers_are_killed() {
    compare(true, 600);
}

/// `EXACTLYONCE_DIFFERENTIAL_SEED` is the seed, and `EXACTLYONCE_DIFFERENTIAL_ROUNDS` how often each version is sent.
#[test]
#[ignore = "needs services, see the start of this file"]
fn damaged_and_cut_requests_of_every_version_have_responses_or_end_the_connection_on_both() {
    let seed = setting("EXACTLYONCE_DIFFERENTIAL_SEED", std::process::id().into());
    let rounds = setting("EXACTLYONCE_DIFFERENTIAL_ROUNDS", 1);
    println!("EXACTLYONCE_DIFFERENTIAL_SEED={seed} EXACTLYONCE_DIFFERENTIAL_ROUNDS={rounds}");
    runtime().block_on(async {
        let (real, simulated) = sides(now()).await;
        let different = frames::compare(real.address(0), simulated.address(0), seed, rounds).await;
        assert!(different.is_empty(), "seed {seed}, they differ in\n{}", different.join("\n"));
    });
}
