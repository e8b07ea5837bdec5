//! A pipeline: its configuration, its workers as processes, and the producer of its records.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use scylla::client::session_builder::SessionBuilder;

use crate::program::{Process, WorkFolder};
use crate::random::Random;
use crate::services::Services;

/// Maximum time of a command that is not a worker.
const COMMAND: Duration = Duration::from_secs(300);
/// Maximum time without progress of the last worker, which processes the log to its end. On a slow machine it may
/// continue while it makes progress, up to [`DRAIN`].
const STALLED: Duration = Duration::from_secs(120);
/// Maximum time of the last worker.
const DRAIN: Duration = Duration::from_secs(900);

/// A pipeline's configuration. Its clones share a folder.
#[derive(Clone)]
pub struct Pipeline {
    folder: Arc<WorkFolder>,
    keyspace: String,
    nodes: String,
}

impl Pipeline {
    pub fn new(services: &dyn Services, topic: &str, keyspace: &str, settings: &[&str]) -> Self {
        let nodes = services.cassandra().to_owned();
        let points: Vec<String> = nodes.split(',').map(|node| format!("{node:?}")).collect();
        let configuration = format!(
            "topic = {topic:?}\nbroker.kind = \"kafka\"\nstore.kind = \"cassandra\"\nstore.keyspace = {keyspace:?}\n\
             store.replication = 3\nkafka.bootstrap_servers = {:?}\ncassandra.contact_points = [{}]\n\
             cassandra.request_timeout_ms = 5000\npipeline.group = {keyspace:?}\n{}\n",
            services.kafka(),
            points.join(", "),
            settings.join("\n"),
        );
        let folder = Arc::new(WorkFolder::configured(&configuration));
        Self { folder, keyspace: keyspace.to_owned(), nodes }
    }

    /// Runs a command: its exit code and its output.
    ///
    /// # Panics
    /// If it takes longer than [`COMMAND`].
    fn output(&self, arguments: &[&str]) -> (i32, String) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("command-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut process = self.folder.start(&name, arguments);
        let ended = process.exit_code_within(COMMAND);
        let output = process.log();
        let Some(code) = ended else {
            panic!("{arguments:?} did not end within {} s: {output}", COMMAND.as_secs());
        };
        process.remove_log();
        (code, output)
    }

    /// Runs a command that must succeed.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let (code, output) = self.output(arguments);
        assert_eq!(code, 0, "{arguments:?}: {output}");
        output
    }

    /// Runs a worker to the end of the log. Compares the tables with the log, and with what was acknowledged to its producer.
    pub fn drain_and_verify(&self, acknowledged: &Acknowledged) {
        let name = format!("{}-drain", self.keyspace);
        let mut worker = self.folder.start(&name, ["run", "--until-end"]);
        let began = Instant::now();
        let (mut progress, mut progressed) = (self.progress(), began);
        let ended = loop {
            if let Some(code) = worker.exit_code_within(Duration::from_secs(5)) {
                break code;
            }
            let now = self.progress();
            if now > progress {
                (progress, progressed) = (now, Instant::now());
            }
            let (stalled, taken) = (progressed.elapsed(), began.elapsed());
            if stalled > STALLED || taken > DRAIN {
                panic!(
                    "the last worker of {} did not reach the end in {} s, and made no progress for {} s, at {progress} records",
                    self.keyspace,
                    taken.as_secs(),
                    stalled.as_secs(),
                );
            }
        };
        assert_eq!(ended, 0, "the last worker of {} failed", self.keyspace);
        println!("{}: at the end of the log after {:.1} s", self.keyspace, began.elapsed().as_secs_f64());
        let (code, output) = self.output(&["verify", "--json"]);
        assert_eq!(code, 0, "{output}");
        let report: serde_json::Value =
            output.lines().find_map(|line| serde_json::from_str(line).ok()).expect("a report");
        println!("{}: {report}", self.keyspace);
        let mut rows = self.rows("events");
        rows.extend(self.rows("dead-letters"));
        acknowledged.check(&rows);
    }

    /// The positions of a table's rows, with the ids of events.
    fn rows(&self, table: &str) -> Positions {
        self.succeed(&["show", table, "--json"]).lines().filter_map(position).collect()
    }

    /// Number of durable records over all partitions.
    fn progress(&self) -> i64 {
        self.folder.durable_records("").expect("progress is shown")
    }

    pub fn drop_keyspace(&self) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let nodes = self.nodes.split(',');
            let session = SessionBuilder::new().known_nodes(nodes).build().await.expect("a session");
            let drop = format!("DROP KEYSPACE {}", self.keyspace);
            session.query_unpaged(drop, ()).await.expect("it can be dropped");
        });
    }
}

/// How long a process may take to begin handling signals. Before, a signal ends it.
const BEGINS: Duration = Duration::from_secs(5);

/// The exit code of a process that SIGTERM ended.
const TERMINATED: i32 = 128 + 15;

struct Worker {
    process: Process,
    started: Instant,
}

/// Workers of one group.
pub struct Workers {
    pipeline: Pipeline,
    all: Vec<Mutex<Worker>>,
}

impl Workers {
    pub fn start(pipeline: &Pipeline, count: usize) -> Self {
        let all = (0..count).map(|number| Mutex::new(Self::worker(pipeline, number))).collect();
        Self { pipeline: pipeline.clone(), all }
    }

    fn worker(pipeline: &Pipeline, number: usize) -> Worker {
        let process = pipeline.folder.start(&format!("{}-{number}", pipeline.keyspace), ["run"]);
        Worker { process, started: Instant::now() }
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn name(&self, number: usize) -> String {
        format!("{}-{number}", self.pipeline.keyspace)
    }

    /// Calls a function with a worker, which must be running: no worker ends by itself, even if services fail.
    fn with<T>(&self, number: usize, act: impl FnOnce(&mut Worker) -> T) -> T {
        let mut worker = self.all[number].lock().expect("no panic");
        if let Some(code) = worker.process.exit_code() {
            panic!("worker {} ended with exit code {code}:\n{}", self.name(number), worker.process.tail());
        }
        act(&mut worker)
    }

    /// Sends SIGKILL, and starts a new worker after a pause.
    pub fn kill(&self, number: usize, pause: Duration) {
        self.with(number, |worker| {
            worker.process.kill();
            std::thread::sleep(pause);
            *worker = Self::worker(&self.pipeline, number);
        });
    }

    /// Sends SIGSTOP, and SIGCONT after a pause. If that is longer than the session timeout, the worker is then a zombie.
    pub fn pause(&self, number: usize, pause: Duration) {
        self.with(number, |worker| {
            assert!(worker.process.signal("STOP"), "SIGSTOP to a worker");
            std::thread::sleep(pause);
            assert!(worker.process.signal("CONT"), "SIGCONT to a worker");
        });
    }

    /// Stops the worker gracefully, and starts a new one.
    pub fn restart(&self, number: usize) {
        self.with(number, |worker| {
            self.stop(number, worker);
            *worker = Self::worker(&self.pipeline, number);
        });
    }

    fn stop(&self, number: usize, worker: &mut Worker) {
        let is_new = worker.started.elapsed() < BEGINS;
        let process = &mut worker.process;
        assert!(process.signal("TERM"), "SIGTERM to a worker");
        let ended = process.exit_code_within(Duration::from_secs(60));
        let is_clean = ended == Some(0) || (is_new && ended == Some(TERMINATED));
        let name = self.name(number);
        assert!(is_clean, "worker {name} did not shut down cleanly, but {ended:?}:\n{}", process.tail());
    }

    pub fn stop_gracefully(self) {
        for number in 0..self.all.len() {
            self.with(number, |worker| self.stop(number, worker));
        }
    }
}

/// The id at each position, by partition and offset; none if the record is not a valid event.
type Positions = BTreeMap<(i64, i64), Option<i64>>;

/// The position in a line of `generate --json` or `show ... --json`; none in a line of the log.
fn position(line: &str) -> Option<((i64, i64), Option<i64>)> {
    let row: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(((row["partition"].as_i64()?, row["offset"].as_i64()?), row["id"].as_i64()))
}

/// The records that were acknowledged, whatever happened to the brokers later.
pub struct Acknowledged(Positions);

impl Acknowledged {
    /// # Panics
    /// Unless the rows have every record at its position.
    fn check(&self, rows: &Positions) {
        let missing = self.0.iter().filter(|(position, id)| rows.get(position) != Some(id));
        let missing: Vec<_> = missing.map(|(position, id)| (position, id, rows.get(position))).collect();
        assert!(
            missing.is_empty(),
            "{} of {} acknowledged records are not in the tables; (position, id, row): {:?}",
            missing.len(),
            self.0.len(),
            &missing[..missing.len().min(20)],
        );
        println!("all {} acknowledged records are in the tables", self.0.len());
    }
}

/// Appends records to the topic at a moderate rate, until `over` is set.
pub struct Producer(JoinHandle<Acknowledged>);

impl Producer {
    pub fn start(pipeline: Pipeline, mut random: Random, over: Arc<AtomicBool>) -> Self {
        Self(std::thread::spawn(move || {
            // The records have current timestamps, because retention is based on them.
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right");
            let (mut acknowledged, mut start_ms) = (Positions::new(), now.as_millis() as u64);
            while !over.load(Ordering::Relaxed) {
                let (events, seed) = (500 + random.below(1_500), random.below(u64::MAX >> 1).to_string());
                // Windows on both sides of the threshold, and event time that overlaps from call to call.
                let (count, start) = (events.to_string(), start_ms.to_string());
                // It may fail while brokers are down; then any part of what it has not printed is in the log, too.
                let (_, output) = pipeline.output(&[
                    "generate",
                    "--json",
                    "--preset",
                    "mixed",
                    "--events",
                    &count,
                    "--sources",
                    "40",
                    "--rate",
                    "300",
                    "--malformed",
                    "3",
                    "--late",
                    "5",
                    "--late-by-ms",
                    "30000",
                    "--start-ms",
                    &start,
                    "--seed",
                    &seed,
                ]);
                for (position, id) in output.lines().filter_map(position) {
                    let before = acknowledged.insert(position, id);
                    assert_eq!(before, None, "two records were acknowledged at {position:?}");
                }
                start_ms += events * 3;
                std::thread::sleep(Duration::from_millis(300 + random.below(1_000)));
            }
            Acknowledged(acknowledged)
        }))
    }

    /// Stops, and returns what was acknowledged.
    pub fn finish(self) -> Acknowledged {
        let acknowledged = self.0.join().expect("the producer did not panic");
        assert!(!acknowledged.0.is_empty(), "nothing was produced");
        acknowledged
    }
}
