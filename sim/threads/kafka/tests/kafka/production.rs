//! Production's broker, as a worker opens it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use exactlyonce::broker::kafka::{KafkaBroker, KafkaOptions};
use exactlyonce::broker::{Assignment, Broker, Consumer, Delivery, NewRecord, Producer};
use madsim::runtime::{Handle, NodeHandle};
use simulated_hosts::{HostFault, Recovery};
use simulated_threads::{Figures, Options};
use tokio::network::Network;

use crate::harness::{simulate, sleep_ms};
use simulated_threads_kafka::Kafka;

const TOPIC: &str = "topic";
const GROUP: &str = "group";
const PARTITIONS: i32 = 6;
const RECORDS: usize = 1_000;

/// What is seen from outside.
#[derive(Default)]
struct Seen {
    appended: usize,
    /// Where each partition is read on.
    next: BTreeMap<i32, i64>,
    read: usize,
    /// How many partitions each worker has.
    owned: [usize; 2],
    leave: bool,
    left: usize,
    again: usize,
    errors: Vec<String>,
}

type Shared = Arc<Mutex<Seen>>;

fn look<T>(seen: &Shared, at: impl FnOnce(&mut Seen) -> T) -> T {
    at(&mut seen.lock().expect("no panic"))
}

fn options(bootstrap: &str) -> KafkaOptions {
    let mut options = KafkaOptions::new(bootstrap);
    options.session_timeout = Duration::from_secs(10);
    options
}

async fn produce(bootstrap: String, seen: Shared) {
    let broker = KafkaBroker::connect(&options(&bootstrap)).expect("options");
    while let Err(error) = broker.create_topic(TOPIC, PARTITIONS, 3).await {
        look(&seen, |seen| seen.errors.push(format!("create: {error}")));
        sleep_ms(500).await;
    }
    for piece in 0..RECORDS / 10 {
        sleep_ms(100).await;
        let record = |number: usize| NewRecord {
            key: Some((piece * 10 + number).to_string().into_bytes()),
            value: Some(vec![b'.'; 200]),
            ..NewRecord::default()
        };
        let records: Vec<_> = (0..10).map(record).collect();
        while let Err(error) = broker.append(TOPIC, records.clone()).await {
            look(&seen, |seen| seen.errors.push(format!("append: {error}")));
            sleep_ms(500).await;
        }
        look(&seen, |seen| seen.appended += 10);
    }
}

async fn work(bootstrap: String, seen: Shared, which: usize) {
    let broker = KafkaBroker::connect(&options(&bootstrap)).expect("options");
    let mut consumer = loop {
        match broker.subscribe(GROUP, TOPIC).await {
            Ok(consumer) => break consumer,
            Err(error) => look(&seen, |seen| seen.errors.push(format!("subscribe: {error}"))),
        }
        sleep_ms(500).await;
    };
    let (mut incarnation, mut owned) = (0, Vec::new());
    while !look(&seen, |seen| seen.leave) {
        let Ok(delivery) = tokio::time::timeout(Duration::from_secs(1), consumer.poll()).await else {
            continue;
        };
        match delivery {
            Ok(Delivery::Assigned(partitions)) => {
                for partition in partitions {
                    incarnation += 1;
                    let offset = look(&seen, |seen| seen.next.get(&partition).copied().unwrap_or(0));
                    consumer.start(Assignment { partition, incarnation }, offset);
                    owned.push(partition);
                }
            }
            Ok(Delivery::Revoked(partitions)) => {
                owned.retain(|partition| !partitions.contains(partition));
                partitions.into_iter().for_each(|partition| consumer.release(partition));
            }
            Ok(Delivery::Lost(partitions)) => owned.retain(|partition| !partitions.contains(partition)),
            Ok(Delivery::Records { assignment, records, next_offset }) => {
                look(&seen, |seen| {
                    let next = seen.next.entry(assignment.partition).or_insert(0);
                    seen.read += records.iter().filter(|record| record.offset >= *next).count();
                    *next = next_offset.max(*next);
                });
                consumer.report(assignment.partition, next_offset);
            }
            Ok(Delivery::End { .. }) => {}
            Ok(Delivery::Failed { error, .. }) => {
                look(&seen, |seen| seen.errors.push(format!("failed: {error}")))
            }
            Err(error) => look(&seen, |seen| seen.errors.push(format!("poll: {error}"))),
        }
        look(&seen, |seen| seen.owned[which] = owned.len());
    }
    consumer.leave().await;
    drop(broker);
    // Its clients end on threads of their own.
    sleep_ms(5_000).await;
    look(&seen, |seen| seen.left += 1);
}

/// Reads everything outside the group.
async fn read_again(bootstrap: String, seen: Shared) {
    let broker = KafkaBroker::connect(&options(&bootstrap)).expect("options");
    for partition in 0..PARTITIONS {
        let log = broker.offsets(TOPIC, partition).await.expect("offsets");
        let mut next = log.start;
        while next < log.end {
            let fetched = broker.fetch(TOPIC, partition, next, 100, 1 << 20).await.expect("records");
            next = fetched.next_offset;
            look(&seen, |seen| seen.again += fetched.records.len());
        }
    }
}

/// A machine that runs this, again whenever it is restarted.
fn machine<F: Future<Output = ()> + 'static>(
    number: u8,
    program: impl Fn() -> F + Send + Sync + 'static,
) -> NodeHandle {
    let node = Handle::current().create_node().name(format!("machine {number}")).init(program).build();
    Network::current().plug_in(node.id(), crate::harness::address(number).into());
    node
}

async fn until(seen: &Shared, what: &str, is_so: impl Fn(&Seen) -> bool) {
    let began = tokio::time::Instant::now();
    while !look(seen, |seen| is_so(seen)) {
        sleep_ms(20).await;
        assert!(
            began.elapsed() < Duration::from_secs(300),
            "not after 300 s: {what}: {:?}",
            look(seen, |seen| {
                (
                    seen.appended,
                    seen.read,
                    seen.owned,
                    seen.left,
                    seen.again,
                    std::mem::take(&mut seen.errors),
                )
            })
        );
    }
}

async fn scenario(seed: u64) -> Duration {
    let began = tokio::time::Instant::now();
    let kafka = Kafka::start(3, seed, |_| {}).await;
    let seen = Shared::default();
    let bootstrap = kafka.bootstrap();
    let started = |number: u8, which: usize| {
        let (seen, bootstrap) = (seen.clone(), bootstrap.clone());
        machine(number, move || work(bootstrap.clone(), seen.clone(), which))
    };
    {
        let (seen, bootstrap) = (seen.clone(), bootstrap.clone());
        machine(10, move || produce(bootstrap.clone(), seen.clone()));
    }
    until(&seen, "something was appended", |seen| seen.appended > 0).await;
    let first = started(20, 0);
    started(21, 1);
    until(&seen, "both have joined", |seen| seen.owned == [3, 3]).await;

    // A worker loses its power.
    let (network, ip) = (Network::current(), crate::harness::address(20).into());
    network.power_off(ip);
    Handle::current().kill(first.id());
    look(&seen, |seen| seen.owned[0] = 0);
    until(&seen, "the second has everything", |seen| seen.owned == [0, 6]).await;
    network.power_on(ip);
    Handle::current().restart(first.id());
    until(&seen, "the first has joined again", |seen| seen.owned == [3, 3]).await;

    // A broker ends and starts again, and another one is cut off from a worker, one way.
    kafka.apply(2, HostFault::Kill);
    sleep_ms(20_000).await;
    kafka.recover(2, Recovery::Start);
    let (broker, worker) = (simulated_threads_kafka::address(1).into(), crate::harness::address(21).into());
    network.cut(broker, worker);
    sleep_ms(20_000).await;
    network.restore(broker, worker);
    until(&seen, "everything was read", |seen| seen.read >= RECORDS && seen.appended == RECORDS).await;
    until(&seen, "both are there", |seen| seen.owned == [3, 3]).await;
    look(&seen, |seen| seen.leave = true);
    until(&seen, "both have left", |seen| seen.left == 2).await;
    let (again, servers) = (seen.clone(), bootstrap.clone());
    machine(22, move || read_again(servers.clone(), again.clone()));
    until(&seen, "everything was read again", |seen| seen.again >= RECORDS).await;
    began.elapsed()
}

fn play(seed: u64) -> (Duration, Figures) {
    let began = std::time::Instant::now();
    let played =
        simulate(seed, Options::default(), || scenario(seed)).unwrap_or_else(|panic| panic!("{panic}"));
    println!("seed {seed}: {:?} in {:?}: {:?}", played.0, began.elapsed(), played.1);
    played
}

#[test]
fn workers_on_production_s_broker_survive_a_power_failure_a_killed_broker_and_a_cut() {
    let (took, figures) = play(1);
    assert!(took > Duration::from_secs(50) && took < Duration::from_secs(400), "{took:?}");
    assert!(figures.killed > 5, "{figures:?}");
}

#[test]
fn a_seed_of_production_s_broker_gives_the_same_trace_again() {
    let (first, second) = (play(2), play(2));
    assert_eq!((first.0, first.1.trace, first.1.calls), (second.0, second.1.trace, second.1.calls));
}

/// Set in a process that plays one seed for another.
const SEED: &str = "SIMULATED_THREADS_KAFKA_TEST_SEED";

#[test]
fn a_seed_of_production_s_broker_gives_the_same_trace_in_two_processes() {
    let line = |seed| {
        let (took, figures) = play(seed);
        format!("{took:?} {:016x} {} {}", figures.trace, figures.calls, figures.turns)
    };
    if let Some(seed) = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()) {
        println!("\ntrace: {}", line(seed));
        return;
    }
    let this = std::env::current_exe().expect("a path");
    for seed in 3..5 {
        let name = "production::a_seed_of_production_s_broker_gives_the_same_trace_in_two_processes";
        let mut command = std::process::Command::new(&this);
        let output = command.args([name, "--exact", "--nocapture"]).env(SEED, seed.to_string()).output();
        let text = String::from_utf8_lossy(&output.expect("it runs").stdout).into_owned();
        let elsewhere = text.lines().find_map(|line| line.strip_prefix("trace: "));
        assert_eq!(elsewhere, Some(line(seed).as_str()), "seed {seed}: {text}");
    }
}
