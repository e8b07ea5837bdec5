//! Three simulated nodes, and the program in a folder whose configuration names them.

use std::ops::Deref;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use scylla::client::session_builder::SessionBuilder;
use simulated_cassandra::cluster::{HostFault, Recovery};
use simulated_cassandra::serve::{LocalNodes, LocalOptions};
use tokio::runtime::Runtime;

use crate::damaged_rows::TestPipeline;
use crate::program::{Process, WorkFolder};

/// Maximum time of each wait.
const DEADLINE: Duration = Duration::from_secs(120);

pub struct Harness {
    folder: WorkFolder,
    nodes: LocalNodes,
    runtime: Runtime,
}

impl Harness {
    pub fn start() -> Harness {
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
        Harness { folder: WorkFolder::configured(&configuration), nodes, runtime }
    }

    /// Starts a worker.
    pub fn worker(&self, arguments: &str) -> Process {
        self.start("worker", arguments.split(' '))
    }

    /// Number of durable records according to `progress`; `None` if the read fails, as a scan of a table does while a
    /// node is down and not yet detected as such.
    pub fn stored(&self) -> Option<u64> {
        self.durable_records("").map(|records| records as u64)
    }

    /// Waits until this many records are durable.
    pub fn until_stored(&self, records: u64, worker: &mut Process) {
        let start = Instant::now();
        while self.stored().is_none_or(|stored| stored < records) {
            assert_eq!(worker.exit_code(), None, "the worker ended early");
            assert!(start.elapsed() < DEADLINE, "no progress");
        }
    }

    /// Waits until a worker ends at the log's end.
    pub fn finish(&self, mut worker: Process) {
        assert_eq!(worker.exit_code_within(DEADLINE), Some(0), "the worker did not reach the end");
    }

    pub fn end_node(&self, node: u8, fault: HostFault) {
        let _runtime = self.runtime.enter();
        self.nodes.apply(node, fault).expect("the node is running");
    }

    pub fn start_node(&self, node: u8) {
        self.runtime.block_on(self.nodes.recover(node, Recovery::Start)).expect("the node restarts");
    }

    pub fn pause(&self, node: u8, duration: Duration) {
        let _runtime = self.runtime.enter();
        self.nodes.apply(node, HostFault::Pause).expect("the node is running");
        std::thread::sleep(duration);
        self.runtime.block_on(self.nodes.recover(node, Recovery::Resume)).expect("the node is paused");
    }
}

impl Deref for Harness {
    type Target = WorkFolder;

    fn deref(&self) -> &WorkFolder {
        &self.folder
    }
}

impl TestPipeline for Harness {
    fn cql(&self, statement: &str) {
        let cql = statement.replace("KS", "exactlyonce");
        let node = SessionBuilder::new().known_node(self.nodes.address(1).to_string());
        let session = self.runtime.block_on(node.build()).expect("the nodes respond");
        self.runtime.block_on(session.query_unpaged(cql, ())).expect("the statement succeeds");
    }
}
