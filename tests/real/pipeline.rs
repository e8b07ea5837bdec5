//! A pipeline: its configuration, its workers as processes, and what fills its topic.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use scylla::client::session_builder::SessionBuilder;
use tempfile::TempDir;

use crate::services::Services;
use crate::trouble::Random;

/// How long the rest of the log may take when everything is well again.
const DRAIN: Duration = Duration::from_secs(300);

/// A pipeline's configuration. Its clones share a folder.
#[derive(Clone)]
pub struct Pipeline {
    folder: Arc<TempDir>,
    keyspace: String,
    nodes: String,
}

impl Pipeline {
    pub fn new(services: &Services, topic: &str, keyspace: &str, settings: &[&str]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let nodes = services.cassandra.clone();
        let points: Vec<String> = nodes.split(',').map(|node| format!("{node:?}")).collect();
        let configuration = format!(
            "topic = {topic:?}\nbroker.kind = \"kafka\"\nstore.kind = \"cassandra\"\nstore.keyspace = {keyspace:?}\n\
             store.replication = 3\nkafka.bootstrap_servers = {:?}\ncassandra.contact_points = [{}]\n\
             cassandra.request_timeout_ms = 5000\npipeline.group = {keyspace:?}\n{}\n",
            services.kafka,
            points.join(", "),
            settings.join("\n"),
        );
        std::fs::write(folder.path().join("exactlyonce.toml"), configuration).expect("a file can be written");
        Self { folder: Arc::new(folder), keyspace: keyspace.to_owned(), nodes }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program in this pipeline's folder, with nothing from the environment.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exactlyonce"));
        command.args(arguments).current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        command
    }

    fn said(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.command(arguments).output().expect("the program starts");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    }

    /// Runs a command that must go well.
    pub fn fine(&self, arguments: &[&str]) -> String {
        let (code, said) = self.said(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        said
    }

    /// Lets a worker finish the log and holds the tables against it.
    pub fn drain_and_verify(&self, at_least: u64) {
        let name = format!("{}-drain", self.keyspace);
        let mut worker = Worker::start(self, &name, &["run", "--until-end"]);
        let ended = worker.wait(DRAIN);
        assert_eq!(
            ended,
            Some(Some(0)),
            "the last worker did not reach the end:\n{}",
            tail(&self.log(&name))
        );
        let (code, said) = self.said(&["verify", "--json"]);
        assert_eq!(code, Some(0), "{said}");
        let report: serde_json::Value =
            said.lines().find_map(|line| serde_json::from_str(line).ok()).expect("a report");
        println!("{}: {report}", self.keyspace);
        let rows = report["events"].as_u64().zip(report["dead_letters"].as_u64()).map(|(e, d)| e + d);
        assert!(rows >= Some(at_least), "{rows:?} rows of at least {at_least} records: {report}");
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

fn tail(log: &PathBuf) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Sends a signal by name.
fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success(), "SIG{name} to a child");
}

/// A process that does not outlive the test.
struct Worker(Child);

impl Worker {
    fn start(pipeline: &Pipeline, name: &str, arguments: &[&str]) -> Self {
        let log = OpenOptions::new().create(true).append(true).open(pipeline.log(name));
        let log: File = log.expect("a log can be written");
        let child = pipeline.command(arguments).stdout(Stdio::null()).stderr(log).spawn();
        Self(child.expect("the program starts"))
    }

    /// Its exit code (`None` for a signal), if it ends in time.
    fn wait(&mut self, most: Duration) -> Option<Option<i32>> {
        let deadline = Instant::now() + most;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait().expect("it can be asked") {
                return Some(status.code());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        None
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
        Worker::start(pipeline, &format!("{}-{number}", pipeline.keyspace), &["run"])
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn name(&self, number: usize) -> String {
        format!("{}-{number}", self.pipeline.keyspace)
    }

    /// Does something to a worker, which must be alive: none ends by itself, whatever happens to the services.
    fn with<T>(&self, number: usize, act: impl FnOnce(&mut Worker) -> T) -> T {
        let mut worker = self.all[number].lock().expect("nobody panicked");
        if let Some(status) = worker.0.try_wait().expect("it can be asked") {
            panic!(
                "worker {} ended with {status}:\n{}",
                self.name(number),
                tail(&self.pipeline.log(&self.name(number)))
            );
        }
        act(&mut worker)
    }

    /// SIGKILL, and another one after a while.
    pub fn kill(&self, number: usize, away: Duration) {
        self.with(number, |worker| {
            worker.0.kill().expect("a child can be killed");
            worker.0.wait().expect("it can be waited for");
            std::thread::sleep(away);
            *worker = Self::worker(&self.pipeline, number);
        });
    }

    /// SIGSTOP, and SIGCONT after a while: longer than the session timeout it is a zombie that wakes up.
    pub fn pause(&self, number: usize, pause: Duration) {
        self.with(number, |worker| {
            signal(&worker.0, "STOP");
            std::thread::sleep(pause);
            signal(&worker.0, "CONT");
        });
    }

    /// SIGTERM, and another one when it has ended in order.
    pub fn restart(&self, number: usize) {
        self.with(number, |worker| {
            self.stop(number, worker);
            *worker = Self::worker(&self.pipeline, number);
        });
    }

    fn stop(&self, number: usize, worker: &mut Worker) {
        signal(&worker.0, "TERM");
        let ended = worker.wait(Duration::from_secs(60));
        let log = self.pipeline.log(&self.name(number));
        assert_eq!(
            ended,
            Some(Some(0)),
            "worker {} did not stop in order:\n{}",
            self.name(number),
            tail(&log)
        );
    }

    pub fn stop_in_order(self) {
        for number in 0..self.all.len() {
            self.with(number, |worker| self.stop(number, worker));
        }
    }
}

/// Fills the topic, at a moderate rate, until it is told to end.
pub struct Producer(JoinHandle<u64>);

impl Producer {
    pub fn start(pipeline: Pipeline, mut random: Random, over: Arc<AtomicBool>) -> Self {
        Self(std::thread::spawn(move || {
            // Of the present: the brokers' retention goes by the records' times.
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right");
            let (mut appended, mut start_ms) = (0, now.as_millis() as u64);
            while !over.load(Ordering::Relaxed) {
                let (events, seed) = (500 + random.below(1_500), random.below(u64::MAX >> 1).to_string());
                // Windows on both sides of the threshold, and event time that overlaps from call to call.
                let (count, start) = (events.to_string(), start_ms.to_string());
                let said = pipeline.said(&[
                    "generate",
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
                // With the brokers in trouble it may fail; then any part of it is in the log, which is all that counts.
                if said.0 == Some(0) {
                    appended += events;
                }
                start_ms += events * 3;
                std::thread::sleep(Duration::from_millis(300 + random.below(1_000)));
            }
            appended
        }))
    }

    /// How many records are in the log at least.
    pub fn finish(self) -> u64 {
        let appended = self.0.join().expect("the producer did not panic");
        assert!(appended > 0, "nothing was produced");
        appended
    }
}
