//! Three nodes, a folder whose configuration names them, and the program in it.

use std::ops::Deref;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use scylla::client::session_builder::SessionBuilder;
use simulated_cassandra::cluster::Ending;
use simulated_cassandra::serve::{LocalNodes, LocalOptions};
use tokio::runtime::Runtime;

use crate::damaged_rows::Damageable;
use crate::program::{Process, Workplace};

/// Longest time that anything here may take.
const DEADLINE: Duration = Duration::from_secs(120);

pub struct World {
    workplace: Workplace,
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
        World { workplace: Workplace::configured(&configuration), nodes, runtime }
    }

    /// Starts a worker.
    pub fn worker(&self, arguments: &str) -> Process {
        self.start("worker", arguments.split(' '))
    }

    /// How many records are done, as `progress` has it; none if the nodes do not answer now, as a read of a whole
    /// table does not while one of them is dead and not yet known to be.
    pub fn stored(&self) -> Option<u64> {
        self.done("").map(|done| done as u64)
    }

    /// Waits until so many records are done.
    pub fn until_stored(&self, records: u64, worker: &mut Process) {
        let start = Instant::now();
        while self.stored().is_none_or(|stored| stored < records) {
            assert_eq!(worker.ended(), None, "the worker ended too early");
            assert!(start.elapsed() < DEADLINE, "no progress");
        }
    }

    /// Waits for a worker's end at the log's end.
    pub fn finish(&self, mut worker: Process) {
        assert_eq!(worker.ends_within(DEADLINE), Some(0), "the worker did not reach the end");
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

impl Deref for World {
    type Target = Workplace;

    fn deref(&self) -> &Workplace {
        &self.workplace
    }
}

impl Damageable for World {
    fn cql(&self, statement: &str) {
        let cql = statement.replace("KS", "exactlyonce");
        let node = SessionBuilder::new().known_node(self.nodes.address(1).to_string());
        let session = self.runtime.block_on(node.build()).expect("the nodes answer");
        self.runtime.block_on(session.query_unpaged(cql, ())).expect("the statement is right");
    }
}
