//! Three nodes, a folder whose configuration names them, and the program in it.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use simulated_cassandra::cluster::Ending;
use simulated_cassandra::serve::{LocalNodes, LocalOptions};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The choices of a seed, which is printed.
pub struct Choices(ChaCha8Rng);

impl Choices {
    pub fn new() -> Choices {
        let seed = match std::env::var("SIMULATED_CASSANDRA_SEED") {
            Ok(text) => text.parse().expect("SIMULATED_CASSANDRA_SEED is a number"),
            Err(_) => u64::from(std::process::id()),
        };
        println!("SIMULATED_CASSANDRA_SEED={seed}");
        Choices(ChaCha8Rng::seed_from_u64(seed))
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0.next_u64() % limit
    }
}

pub struct World {
    folder: TempDir,
    nodes: LocalNodes,
    runtime: Runtime,
}

impl World {
    pub fn start() -> World {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
        let options = LocalOptions { port: 0, ..LocalOptions::new(now as i64) };
        let runtime = Runtime::new().expect("a runtime");
        let nodes = runtime.block_on(LocalNodes::start(options, |_| {})).expect("three nodes start");
        let points: Vec<_> = (1..=3).map(|node| nodes.address(node).to_string()).collect();
        let configuration = format!(
            "[broker]\nkind = 'embedded'\n[store]\nkind = 'cassandra'\nreplication = 3\n\
             [cassandra]\ncontact_points = {points:?}\n[pipeline]\nbatch_records = 20\nin_flight_batches = 3\n\
             [log]\nlevel = 'warn'\n"
        );
        let folder = TempDir::new().expect("a temporary folder");
        std::fs::write(folder.path().join("exactlyonce.toml"), configuration).expect("a file is written");
        World { folder, nodes, runtime }
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exactlyonce"));
        command.args(arguments.split(' ')).current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        command
    }

    /// Runs the program to its end, which must be a good one.
    pub fn fine(&self, arguments: &str) -> String {
        let output = self.command(arguments).output().expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (said, complaints) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{arguments}:\n{said}{complaints}");
        said
    }

    /// Starts a worker.
    pub fn worker(&self, arguments: &str) -> Worker {
        let path = self.folder.path().join("worker.log");
        let messages = File::options().create(true).append(true).open(&path).expect("a file for messages");
        let mut command = self.command(arguments);
        command.stdout(messages.try_clone().expect("the file again")).stderr(messages);
        Worker { process: command.spawn().expect("a worker starts"), messages: path }
    }

    fn is_at_work(&self, worker: &mut Worker) -> bool {
        worker.process.try_wait().expect("it can be asked").is_none()
    }

    /// How many records are done, as `progress` has it; none if the nodes do not answer now, as a read of a whole
    /// table does not while one of them is dead and not yet known to be.
    pub fn stored(&self) -> Option<u64> {
        let output = self.command("show progress --json").output().expect("the program starts");
        if !output.status.success() {
            return None;
        }
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let rows = said.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        Some(rows.map(|row: serde_json::Value| row["next_offset"].as_u64().expect("an offset")).sum())
    }

    /// Waits until so many records are done.
    pub fn until_stored(&self, records: u64, worker: &mut Worker) {
        let start = Instant::now();
        while self.stored().is_none_or(|stored| stored < records) {
            assert!(self.is_at_work(worker), "the worker ended too early:\n{}", worker.said());
            assert!(start.elapsed() < PATIENCE, "no progress:\n{}", worker.said());
        }
    }

    pub fn end_node(&self, node: u8, ending: Ending) {
        let _runtime = self.runtime.enter();
        self.nodes.end(node, ending).expect("a node that runs ends");
    }

    pub fn start_node(&self, node: u8) {
        self.runtime.block_on(self.nodes.start_node(node)).expect("the node starts again");
    }

    pub fn pause(&self, node: u8, duration: Duration) {
        let _runtime = self.runtime.enter();
        self.nodes.pause(node).expect("a node that runs pauses");
        std::thread::sleep(duration);
        self.nodes.resume(node).expect("it goes on");
    }
}

/// A worker's process.
pub struct Worker {
    process: Child,
    messages: std::path::PathBuf,
}

impl Worker {
    pub fn kill(mut self) {
        self.process.kill().expect("SIGKILL");
        self.process.wait().expect("it ended");
    }

    /// Waits for its end at the log's end.
    pub fn finish(mut self) {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.process.try_wait().expect("it can be asked") {
                assert!(status.success(), "{status}:\n{}", self.said());
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the worker comes to no end:\n{}", self.said());
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.messages).unwrap_or_default()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Gone already, if it was killed or has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
