//! A seed decides everything that happens: every message between brokers, when it arrives, every response, and what an
//! observer learns, whose presence changes nothing.
//!
//! The runs are in processes of their own, because what differs between processes (addresses, the keys of hash tables, the
//! runtime's random numbers) is the same within one.

mod groups;
mod producers;

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto_kafka::protocol::{HeaderVersion, Request};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use simulated_kafka::cluster::HostFault::{Kill, Pause, PowerLoss, Stop};
use simulated_kafka::cluster::observe::{Event, Observer};
use simulated_kafka::cluster::{Envelope, Links, RuledLinks};
use simulated_kafka::types::NodeId;
use tokio::time::{Instant, sleep};

use crate::harness::{Testbed, batch_of, seconds, wanted};

/// The seed of the run that a process is started for, and the file that it writes its history to.
const SEED: &str = "SIMULATED_KAFKA_HISTORY_SEED";
const FILE: &str = "SIMULATED_KAFKA_HISTORY_FILE";
/// Whether it has an observer.
const OBSERVED: &str = "SIMULATED_KAFKA_HISTORY_OBSERVED";

/// How long clients send requests.
const DURATION: Duration = Duration::from_secs(15);

/// The topics, and the brokers of each.
const TOPICS: [(&str, [i32; 3]); 3] = [("a", [1, 2, 3]), ("b", [2, 3, 1]), ("c", [3, 1, 2])];

/// What happened, in order.
#[derive(Debug, Clone)]
struct History {
    start: Instant,
    lines: Arc<Mutex<Vec<String>>>,
}

impl History {
    fn note(&self, who: &str, what: impl Debug) {
        let at = self.start.elapsed().as_nanos();
        self.lines.lock().unwrap().push(format!("{at} {who}: {what:?}"));
    }
}

/// Links that note every message.
struct Noted {
    links: Arc<RuledLinks>,
    history: History,
}

impl Links for Noted {
    fn deliveries(&self, envelope: &Envelope) -> Vec<Duration> {
        let deliveries = Links::deliveries(&*self.links, envelope);
        self.history.note("link", (envelope, &deliveries));
        deliveries
    }
}

impl Observer for History {
    fn event(&self, event: &Event<'_>) {
        self.note(OBSERVER, event);
    }
}

/// Who notes events in a history.
const OBSERVER: &str = "observer";

/// What all clients of a run have.
#[derive(Clone)]
struct Run {
    bed: Arc<Testbed>,
    history: History,
}

impl Run {
    fn is_over(&self) -> bool {
        self.history.start.elapsed() >= DURATION
    }

    /// Sends a request to a broker and notes the response. None if there is none within three seconds.
    async fn ask<R: Request>(&self, who: &str, node: i32, request: R, version: i16) -> Option<R::Response>
    where
        R::Response: HeaderVersion + Debug,
    {
        let response = tokio::time::timeout(seconds(3), self.bed.send(node, request, version)).await;
        let response = response.ok().flatten();
        self.history.note(who, &response);
        response
    }

    /// The leader of a topic, or some broker.
    fn leader(&self, topic: &str) -> i32 {
        self.bed.leader(topic).unwrap_or(1)
    }
}

/// Writes without idempotence.
async fn write(run: Run, number: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(number);
    let who = format!("writer {number}");
    while !run.is_over() {
        let (topic, _) = TOPICS[random.next_u64() as usize % TOPICS.len()];
        let acks = [-1, 1][random.next_u64() as usize % 2];
        let batch = batch_of(&["value"]);
        let sent = run.bed.produce_to(run.leader(topic), topic, &batch, acks);
        run.history.note(&who, tokio::time::timeout(seconds(3), sent).await);
        sleep(Duration::from_millis(random.next_u64() % 300)).await;
    }
}

/// Reads from the leader, and waits there for records.
async fn consume(run: Run, number: u64) {
    use proto_kafka::messages::FetchRequest;
    use proto_kafka::messages::fetch_request::FetchTopic;
    let (topic, _) = TOPICS[number as usize % TOPICS.len()];
    let (who, mut at) = (format!("reader {number}"), 0);
    while !run.is_over() {
        let partition = FetchTopic::default()
            .with_topic(crate::harness::topic_name(topic))
            .with_partitions(vec![wanted(at)]);
        let request = FetchRequest::default()
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_isolation_level((number / 3 % 2) as i8)
            .with_session_epoch(-1)
            .with_topics(vec![partition]);
        let response = run.ask(&who, run.leader(topic), request, crate::harness::BY_NAME).await;
        let data = response
            .and_then(|response| response.responses.into_iter().next()?.partitions.into_iter().next());
        match data.map(|data| crate::harness::read(data, at)) {
            Some(Ok(read)) => at = read.values.last().map_or(at, |(offset, _)| offset + 1),
            Some(Err(_)) => at = 0,
            None => {}
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Faults of brokers and of the links between them.
async fn faults(run: Run, seed: u64) {
    let (bed, mut random) = (&run.bed, ChaCha8Rng::seed_from_u64(seed));
    while !run.is_over() {
        let node = 1 + (random.next_u64() % 3) as i32;
        let fault = random.next_u64() % 7;
        run.history.note("fault", (node, fault));
        let other = NodeId(1 + node % 3);
        match fault {
            0 => bed.fault(node, Kill),
            1 => bed.fault(node, PowerLoss),
            2 => bed.fault(node, Pause),
            3 => bed.fault(node, Stop),
            4 => bed.cluster.lag_metadata(NodeId(node), seconds(2)),
            5 => bed.links.cut(NodeId(node), other),
            _ => run.history.note("moved", bed.cluster.move_leader("a", 0, other)),
        }
        sleep(Duration::from_millis(1_000 + random.next_u64() % 4_000)).await;
        bed.resume(node);
        bed.recover(node);
        bed.links.restore_all();
        bed.cluster.lag_metadata(NodeId(node), Duration::ZERO);
        sleep(Duration::from_millis(random.next_u64() % 3_000)).await;
    }
}

/// The history of a seed.
async fn history(seed: u64, is_observed: bool) -> Vec<String> {
    let history = History { start: Instant::now(), lines: Arc::default() };
    let observer: Option<Arc<dyn Observer>> = is_observed.then(|| Arc::new(history.clone()) as _);
    let change = |options: &mut simulated_kafka::cluster::Options| {
        options.observer = observer;
        options.offsets_partitions = 3;
        options.transaction_partitions = 3;
        options.coordinator_load_time = Duration::from_millis(200);
        options.controller.session_timeout = seconds(2);
        options.heartbeat_interval = Duration::from_millis(500);
        options.groups.min_session_timeout = 1_000;
        options.groups.initial_rebalance_delay = 500;
    };
    let noted = history.clone();
    let bed = Testbed::start_on(seed, change, |links| Arc::new(Noted { links, history: noted })).await;
    for (topic, brokers) in TOPICS {
        bed.topic(topic, &brokers, &[]).await;
    }
    let run = Run { bed: Arc::new(bed), history };
    let mut clients = vec![tokio::spawn(faults(run.clone(), seed))];
    for number in 0..4 {
        clients.push(tokio::spawn(write(run.clone(), number)));
    }
    for number in 0..9 {
        clients.push(tokio::spawn(consume(run.clone(), number)));
    }
    for number in 0..3 {
        clients.push(tokio::spawn(producers::idempotent(run.clone(), number)));
        clients.push(tokio::spawn(producers::transactional(run.clone(), number)));
        clients.push(tokio::spawn(groups::classic(run.clone(), number)));
        clients.push(tokio::spawn(groups::consumer(run.clone(), number)));
    }
    for client in clients {
        client.await.unwrap();
    }
    for node in 1..=3 {
        for (topic, _) in TOPICS {
            let at = format!("log of {topic} on {node}");
            run.history.note(&at, run.bed.cluster.replica(NodeId(node), topic, 0));
            run.history.note(&at, run.bed.cluster.batches(NodeId(node), topic, 0));
        }
    }
    run.history.note("metadata", run.bed.cluster.metadata());
    let lines = run.history.lines.lock().unwrap();
    lines.clone()
}

/// Starts a process that writes the history of a seed to a file.
fn start(seed: u64, name: &str, is_observed: bool) -> (Child, PathBuf) {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kafka-history-{name}"));
    let test = std::thread::current().name().unwrap().to_owned();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &test]).env(SEED, seed.to_string()).env(FILE, &file).stdout(Stdio::null());
    if is_observed {
        command.env(OBSERVED, "1");
    }
    (command.spawn().unwrap(), file)
}

fn finish((mut process, file): (Child, PathBuf)) -> String {
    assert!(process.wait().unwrap().success());
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn one_seed_gives_one_history_in_two_processes_and_another_seed_another() {
    if let (Ok(seed), Some(file)) = (std::env::var(SEED), std::env::var_os(FILE)) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let is_observed = std::env::var_os(OBSERVED).is_some();
        let lines = runtime.block_on(history(seed.parse().unwrap(), is_observed));
        std::fs::write(file, lines.join("\n")).unwrap();
        return;
    }
    let (first, second) = (start(1, "first", true), start(1, "second", true));
    let (first, second) = (finish(first), finish(second));
    let responses = first.lines().filter(|line| !line.contains(" link: ") && line.contains("Some(")).count();
    assert!(responses > 3_000, "{responses} responses");
    let differing = first.lines().zip(second.lines()).enumerate().find(|(_, (one, other))| one != other);
    assert!(differing.is_none(), "{differing:?}");
    assert_eq!(first.lines().count(), second.lines().count());
    let (other, unobserved) = (start(2, "other", true), start(1, "unobserved", false));
    assert_ne!(first, finish(other));
    let is_event = |line: &&str| line.contains(" observer: ");
    let events = first.lines().filter(is_event).count();
    assert!(events > 3_000, "{events} events");
    let without: Vec<&str> = first.lines().filter(|line| !is_event(line)).collect();
    assert!(without == finish(unobserved).lines().collect::<Vec<_>>(), "the observer changes what happens");
}
