//! A folder whose configuration names the services, a topic and a keyspace of its own, and the program in it.

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
use tokio::runtime::Runtime;

use crate::cluster::Cluster;
use crate::damaged_rows::Damageable;
use crate::program::{Process, Said, Workplace};

/// Longest time that anything here may take.
const DEADLINE: Duration = Duration::from_secs(240);

/// Tests share the services; one that stops a node has them for itself.
static SERVICES: RwLock<()> = RwLock::new(());

pub fn shared() -> RwLockReadGuard<'static, ()> {
    SERVICES.read().unwrap_or_else(PoisonError::into_inner)
}

pub fn alone() -> RwLockWriteGuard<'static, ()> {
    SERVICES.write().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the script that starts and stops the services. Panics where there are none: such a test must not pass.
pub fn cluster(arguments: &[&str]) {
    Cluster::running().run(arguments).unwrap_or_else(|error| panic!("{error}"));
}

pub struct Harness {
    workplace: Workplace,
    name: String,
    pub kafka: String,
    pub cassandra: String,
    runtime: Runtime,
}

impl Harness {
    /// With both services.
    pub fn new() -> Self {
        Self::of("kafka", "cassandra")
    }

    /// With these kinds of broker and store.
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
        let (workplace, runtime) =
            (Workplace::configured(&configuration), Runtime::new().expect("a runtime"));
        Self { workplace, name, kafka, cassandra, runtime }
    }

    /// With the topic created and bound.
    pub fn bound() -> Self {
        let harness = Self::new();
        harness.fine("topic create");
        harness.fine("init");
        harness
    }

    /// With thirty events processed.
    pub fn processed() -> Self {
        let harness = Self::bound();
        harness.fine("generate --events-per-key 10 --seed 1");
        harness.fine("run --until-end");
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

    /// Waits until so many records are done, and looks so often that a worker does not get far meanwhile: with a session
    /// of its own, not by starting the program.
    pub fn wait_closely_until_done(&self, records: i64) {
        let session = self.session();
        let cql = format!("SELECT next_offset FROM {}.progress", self.name);
        let begun = Instant::now();
        loop {
            // A read may time out on a busy machine.
            if let Ok(rows) = self.runtime.block_on(session.query_unpaged(cql.as_str(), ())) {
                let rows = rows.into_rows_result().expect("rows");
                let rows = rows.rows::<(Option<i64>,)>().expect("offsets");
                let done: i64 = rows.filter_map(|row| row.expect("an offset").0).sum();
                if done >= records {
                    return;
                }
            }
            assert!(begun.elapsed() < DEADLINE, "{records} records are not done");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until so many records are done.
    pub fn wait_until_done(&self, records: i64) {
        until(&format!("{records} records are done"), || self.done("") >= Some(records));
    }

    /// Expects log and tables to agree; answers the number of events and of alerts.
    pub fn verified(&self, arguments: &str) -> (u64, u64) {
        let report = self.fine(format!("{arguments} verify --json").trim_start());
        let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
        assert_eq!((&report["clean"], &report["complete"]), (&true.into(), &true.into()), "{report}");
        let number = |name: &str| report[name].as_u64().expect("a number");
        (number("events"), number("alerts"))
    }

    /// Every cell of every table, in some order that does not change.
    pub fn dump(&self) -> BTreeMap<&'static str, Vec<String>> {
        let session = self.session();
        let rows = |table| {
            let cql = format!("SELECT JSON * FROM {}.{table}", self.name);
            let rows = self.runtime.block_on(session.query_unpaged(cql, ())).expect("the table is there");
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
        self.runtime.block_on(SessionBuilder::new().known_nodes(nodes).build()).expect("the nodes answer")
    }

    /// Runs a statement in which `KS` stands for the keyspace.
    pub fn cql(&self, statement: &str) {
        let cql = statement.replace("KS", &self.name);
        self.runtime.block_on(self.session().query_unpaged(cql, ())).expect("the statement is right");
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
        deleted.expect("the broker answers")[0].as_ref().expect("the topic is deleted");
        until("the topic is gone", || self.run("topic describe").code == 2);
    }

    /// Removes topic and keyspace. What a test that failed leaves behind may be looked at.
    pub fn end(self) {
        self.cql("DROP KEYSPACE IF EXISTS KS");
        let admin = self.admin();
        let _ = self.runtime.block_on(admin.delete_topics(&[&self.name], &AdminOptions::new()));
    }
}

/// Waits until something is so.
pub fn until(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < DEADLINE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Asks a worker to stop, and waits until it has.
pub fn stop(worker: Process) -> Said {
    assert!(worker.signal("TERM"));
    finish(worker)
}

/// Waits until a worker ends by itself.
pub fn finish(mut worker: Process) -> Said {
    let code = worker.ends_within(DEADLINE).expect("it ends");
    Said { code, stdout: String::new(), stderr: worker.log() }
}

impl Deref for Harness {
    type Target = Workplace;

    fn deref(&self) -> &Workplace {
        &self.workplace
    }
}

impl Damageable for Harness {
    fn cql(&self, statement: &str) {
        Harness::cql(self, statement);
    }
}
