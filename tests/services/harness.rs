//! The program in a folder whose configuration names the services, a topic and a keyspace of this test only.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use exactlyonce::store::EventLayout;
use exactlyonce::store::cql::tables;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use simulated_hosts::HostCommand;
use tokio::runtime::Runtime;

use crate::cluster::Cluster;
use crate::damaged_rows::TestPipeline;
use crate::program::{Process, ProgramOutput, WorkFolder};

/// Maximum time of each wait.
const DEADLINE: Duration = Duration::from_secs(240);

/// Tests share the services; a test that stops a node has exclusive use.
static SERVICES: RwLock<()> = RwLock::new(());

pub fn shared() -> RwLockReadGuard<'static, ()> {
    SERVICES.read().unwrap_or_else(PoisonError::into_inner)
}

pub fn exclusive() -> RwLockWriteGuard<'static, ()> {
    SERVICES.write().unwrap_or_else(PoisonError::into_inner)
}

/// Applies a fault to a node, or ends it. Panics if no services run, so that the test fails.
pub fn apply(command: impl Into<HostCommand>, node: &str) {
    Cluster::running().apply(command, &[node]).unwrap_or_else(|error| panic!("{error}"));
}

pub struct Harness {
    folder: WorkFolder,
    name: String,
    pub kafka: String,
    pub cassandra: String,
    runtime: Runtime,
}

impl Harness {
    /// A harness with Kafka and Cassandra.
    pub fn new() -> Self {
        Self::of("kafka", "cassandra")
    }

    /// A harness with these kinds of broker and store.
    pub fn of(broker: &str, store: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        let name = format!("services_{now:x}_{}_{number}", std::process::id());
        let services = Cluster::running();
        let addresses =
            |name: &str| services.addresses(name, 1).unwrap_or_else(|error| panic!("{error}")).join(",");
        let (kafka, cassandra) = (addresses("KAFKA"), addresses("CASSANDRA"));
        let points: Vec<&str> = cassandra.split(',').collect();
        let configuration = format!(
            "topic = '{name}'\n[broker]\nkind = '{broker}'\n[store]\nkind = '{store}'\nkeyspace = '{name}'\n\
             replication = {}\n[kafka]\nbootstrap_servers = '{kafka}'\nsession_timeout_ms = 6_000\n\
             [cassandra]\ncontact_points = {points:?}\n[pipeline]\ngroup = '{name}'\n",
            points.len(),
        );
        let (folder, runtime) = (WorkFolder::configured(&configuration), Runtime::new().expect("a runtime"));
        Self { folder, name, kafka, cassandra, runtime }
    }

    /// A harness whose topic is created and bound.
    pub fn bound() -> Self {
        let harness = Self::new();
        harness.succeed("topic create");
        harness.succeed("init");
        harness
    }

    /// A harness with thirty processed events.
    pub fn processed() -> Self {
        let harness = Self::bound();
        harness.succeed("generate --events-per-key 10 --seed 1");
        harness.succeed("run --until-end");
        harness
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts a worker.
    pub fn worker(&self, arguments: &str) -> Process {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.start(&format!("worker-{number}"), arguments.split(' '))
    }

    /// Waits until this many records are durable, with a short interval between reads: through a session, without starting
    /// the program.
    pub fn wait_closely_until_durable(&self, records: i64) {
        let session = self.session();
        let cql = format!("SELECT next_offset FROM {}.progress", self.name);
        let started = Instant::now();
        loop {
            // A read may time out on a busy machine.
            if let Ok(rows) = self.runtime.block_on(session.query_unpaged(cql.as_str(), ())) {
                let rows = rows.into_rows_result().expect("rows");
                let rows = rows.rows::<(Option<i64>,)>().expect("offsets");
                let durable: i64 = rows.filter_map(|row| row.expect("an offset").0).sum();
                if durable >= records {
                    return;
                }
            }
            assert!(started.elapsed() < DEADLINE, "{records} records are not durable");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until this many records are durable.
    pub fn wait_until_durable(&self, records: i64) {
        until(&format!("{records} records are durable"), || self.durable_records("") >= Some(records));
    }

    /// Checks that `verify` finds no difference; returns the number of events and of alerts.
    pub fn verified(&self, arguments: &str) -> (u64, u64) {
        let report = self.succeed(format!("{arguments} verify --json").trim_start());
        let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
        assert_eq!((&report["clean"], &report["complete"]), (&true.into(), &true.into()), "{report}");
        let number = |name: &str| report[name].as_u64().expect("a number");
        (number("events"), number("alerts"))
    }

    /// Every cell of every table, in a stable order.
    pub fn dump(&self) -> BTreeMap<&'static str, Vec<String>> {
        let session = self.session();
        let rows = |table| {
            let cql = format!("SELECT JSON * FROM {}.{table}", self.name);
            let rows = self.runtime.block_on(session.query_unpaged(cql, ())).expect("the table exists");
            let rows = rows.into_rows_result().expect("rows");
            let rows = rows.rows::<(String,)>().expect("text").map(|row| row.expect("text").0);
            let mut rows: Vec<String> = rows.collect();
            rows.sort_unstable();
            (table, rows)
        };
        tables(EventLayout::Original).map(|table| rows(table.name)).into()
    }

    fn session(&self) -> Session {
        let nodes: Vec<&str> = self.cassandra.split(',').collect();
        self.runtime.block_on(SessionBuilder::new().known_nodes(nodes).build()).expect("the nodes respond")
    }

    /// Runs a statement in which `KS` stands for the keyspace.
    pub fn cql(&self, statement: &str) {
        let cql = statement.replace("KS", &self.name);
        self.runtime.block_on(self.session().query_unpaged(cql, ())).expect("the statement succeeds");
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.kafka).create().expect("a client")
    }

    /// Deletes a partition's records below an offset.
    pub fn delete_below(&self, partition: i32, offset: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&self.name, partition, Offset::Offset(offset)).expect("an offset");
        let admin = self.admin();
        let deleted = self.runtime.block_on(admin.delete_records(&offsets, &AdminOptions::new()));
        deleted.expect("the records are deleted");
    }

    pub fn delete_topic(&self) {
        let admin = self.admin();
        let deleted = self.runtime.block_on(admin.delete_topics(&[&self.name], &AdminOptions::new()));
        deleted.expect("the broker responds")[0].as_ref().expect("the topic is deleted");
        until("the topic is deleted", || self.run("topic describe").code == 2);
    }

    /// Removes topic and keyspace. A failed test leaves them behind for inspection.
    pub fn end(self) {
        self.cql("DROP KEYSPACE IF EXISTS KS");
        let admin = self.admin();
        let _ = self.runtime.block_on(admin.delete_topics(&[&self.name], &AdminOptions::new()));
    }
}

/// Waits until a condition holds.
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < DEADLINE, "timeout before {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Stops a worker gracefully.
pub fn stop(worker: Process) -> ProgramOutput {
    assert!(worker.signal("TERM"));
    finish(worker)
}

/// Waits until a worker ends by itself.
pub fn finish(mut worker: Process) -> ProgramOutput {
    let code = worker.exit_code_within(DEADLINE).expect("it ends");
    ProgramOutput { code, stdout: String::new(), stderr: worker.log() }
}

impl Deref for Harness {
    type Target = WorkFolder;

    fn deref(&self) -> &WorkFolder {
        &self.folder
    }
}

impl TestPipeline for Harness {
    fn cql(&self, statement: &str) {
        Harness::cql(self, statement);
    }
}
