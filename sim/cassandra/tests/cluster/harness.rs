//! A cluster of three nodes with one table, and statements in short.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use simulated_cassandra::cluster::{
    AdjustableClock, Cluster, Envelope, HintOptions, HostFault, NodeId, NodeOptions, Options, Recovery,
    RuledLinks, RunningNode, Verb,
};
use simulated_cassandra::coordinator::{Consistency, Coordinator, Event, RequestError, Warnings, WriteMode};
use simulated_cassandra::schema::{
    Column, ColumnKind, Order, ReadRepair, Replication, SchemaChange, SpeculativeRetry, Table, TableId,
    TableOptions,
};
use simulated_cassandra::storage::{
    Cell, DecoratedKey, Deletion, Disk, Liveness, Mutation, Partition, ReadCommand, ReadResult, Row, Token,
};
use tokio::sync::broadcast;

pub const A: NodeId = NodeId(0);
pub const B: NodeId = NodeId(1);
pub const C: NodeId = NodeId(2);

/// 2026-01-01, in microseconds.
pub const START: i64 = 1_767_225_600_000_000;

pub struct TestCluster {
    pub cluster: Cluster,
    pub links: Arc<RuledLinks>,
    pub clocks: Vec<Arc<AdjustableClock>>,
    pub table: Arc<Table>,
    pub other: Arc<Table>,
}

/// What a test may ask to be different.
pub struct Settings {
    pub seed: u64,
    pub options: Options,
    pub replication: Replication,
    pub table: TableOptions,
}

fn table(name: &str, id: u128, options: TableOptions) -> Arc<Table> {
    let column = |name: &str, kind, data_type| Column { name: name.into(), kind, data_type };
    use simulated_cassandra::types::DataType::Int;
    let columns = [
        column("p", ColumnKind::PartitionKey(0), Int),
        column("c", ColumnKind::Clustering(0, Order::Ascending), Int),
        column("v", ColumnKind::Regular, Int),
        column("w", ColumnKind::Regular, Int),
    ];
    Arc::new(Table::new(TableId(id), "ks", name, columns, options))
}

pub fn int(value: i32) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes())
}

fn number(value: &Bytes) -> i32 {
    i32::from_be_bytes(value[..].try_into().expect("an int"))
}

/// A cluster that is up, with its table known to all nodes. Speculative retry and hints are off unless asked for.
pub async fn test_cluster(change: impl FnOnce(&mut Settings)) -> TestCluster {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut clocks = Vec::new();
    let mut nodes = Vec::new();
    for number in 1..=3u8 {
        let clock = Arc::new(AdjustableClock::new(START));
        clocks.push(clock.clone());
        nodes.push(NodeOptions {
            address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, number)),
            port: 9042,
            data_center: "dc1".to_owned(),
            rack: format!("rack{number}"),
            tokens: (0..8).map(|_| Token(random.next_u64() as i64)).collect(),
            clock,
            disk: Disk::new(),
        });
    }
    let mut settings = Settings {
        seed: 1,
        options: Options {
            hints: HintOptions { enabled: false, ..HintOptions::default() },
            ..Options::new(nodes)
        },
        replication: Replication::Simple { factor: 3 },
        table: TableOptions { speculative_retry: SpeculativeRetry::Never, ..TableOptions::default() },
    };
    change(&mut settings);
    let delays = ChaCha8Rng::seed_from_u64(settings.seed);
    let links = Arc::new(RuledLinks::new(Duration::from_micros(500), Duration::from_millis(2), delays));
    let random = ChaCha8Rng::seed_from_u64(settings.seed + 1);
    let cluster = Cluster::start(settings.options, links.clone(), random);
    let (table, other) = (table("t", 1, settings.table.clone()), table("u", 2, settings.table));
    cluster.settled().await;
    let test = TestCluster { cluster, links, clocks, table, other };
    let keyspace = SchemaChange::PutKeyspace {
        name: "ks".into(),
        replication: settings.replication,
        durable_writes: true,
    };
    for change in
        [keyspace, SchemaChange::PutTable(test.table.clone()), SchemaChange::PutTable(test.other.clone())]
    {
        test.on(A).change_schema(change).await.expect("a schema change");
    }
    test.pass(2.0).await;
    test
}

impl TestCluster {
    pub fn on(&self, node: NodeId) -> RunningNode {
        self.cluster.node(node).expect("a running node")
    }

    /// Lets some seconds pass.
    pub async fn pass(&self, seconds: f64) {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }

    pub fn key(&self, p: i32) -> DecoratedKey {
        self.table.key(&[int(p)])
    }

    /// A partition that this node is the first replica of.
    pub fn owned_by(&self, node: NodeId) -> i32 {
        (0..).find(|p| self.cluster.replicas("ks", &self.key(*p)).first() == Some(&node)).expect("some key")
    }

    /// INSERT INTO t (p, c, v) VALUES (p, c, v) USING TIMESTAMP timestamp.
    pub fn insert(&self, p: i32, c: i32, v: i32, timestamp: i64) -> Mutation {
        self.insert_ttl(p, c, v, timestamp, 0)
    }

    pub fn insert_ttl(&self, p: i32, c: i32, v: i32, timestamp: i64, ttl: u32) -> Mutation {
        let now = self.on_any().now();
        let row = Row {
            liveness: Some(Liveness::new(timestamp, ttl, now)),
            deletion: None,
            cells: BTreeMap::from([("v".into(), Cell::expiring(timestamp, int(v), ttl, now))]),
        };
        self.row(p, c, row)
    }

    /// UPDATE t SET column = value WHERE p AND c, USING TIMESTAMP.
    pub fn set(&self, p: i32, c: i32, column: &str, value: i32, timestamp: i64) -> Mutation {
        let cells = BTreeMap::from([(column.into(), Cell::live(timestamp, int(value)))]);
        self.row(p, c, Row { cells, ..Row::default() })
    }

    /// DELETE FROM t WHERE p AND c, USING TIMESTAMP.
    pub fn delete(&self, p: i32, c: i32, timestamp: i64) -> Mutation {
        let deletion = Deletion { timestamp, local_deletion_time: self.on_any().now() };
        self.row(p, c, Row { deletion: Some(deletion), ..Row::default() })
    }

    fn row(&self, p: i32, c: i32, row: Row) -> Mutation {
        let update =
            Partition { rows: BTreeMap::from([(self.table.row(vec![int(c)]), row)]), ..Partition::default() };
        Mutation::new("ks".into(), self.key(p), self.table.id, update)
    }

    /// The same mutation of the other table.
    pub fn in_other(&self, mut mutation: Mutation) -> Mutation {
        let update = mutation.updates.remove(&self.table.id).expect("of the first table");
        mutation.updates.insert(self.other.id, update);
        mutation
    }

    pub async fn write(
        &self,
        node: NodeId,
        mutation: Mutation,
        consistency: Consistency,
    ) -> Result<Warnings, RequestError> {
        self.on(node).write(vec![mutation], WriteMode::Single, consistency).await
    }

    /// SELECT * FROM t WHERE p.
    pub fn select(&self, p: i32) -> ReadCommand {
        ReadCommand::of_partition(self.table.id, self.key(p), self.on_any().now())
    }

    pub fn on_any(&self) -> RunningNode {
        self.cluster.nodes().find_map(|node| self.cluster.node(node)).expect("a running node")
    }

    /// The rows of a partition as (c, v), as a node finds them.
    pub async fn read(
        &self,
        node: NodeId,
        p: i32,
        consistency: Consistency,
    ) -> Result<Vec<(i32, Option<i32>)>, RequestError> {
        self.on(node).read(self.select(p), consistency).await.map(|result| rows(&result, "v"))
    }

    /// The rows that one replica has, as (c, v).
    pub fn peek(&self, node: NodeId, p: i32) -> Vec<(i32, i32)> {
        let partition = self.cluster.peek(node, self.table.id, &self.key(p)).unwrap_or_default();
        let value = |row: &Row| Some(number(row.cells.get("v")?.value.as_ref()?));
        partition.rows.iter().filter_map(|(at, row)| Some((number(&at.values()[0]), value(row)?))).collect()
    }

    /// Loses all messages of a kind to a node.
    pub fn lose(&self, verb: Verb, to: NodeId) -> u64 {
        self.links.rule(move |envelope| (envelope.verb == verb && envelope.to == to).then(Vec::new))
    }

    /// Loses all responses of a node to messages of a kind.
    pub fn lose_responses(&self, verb: Verb, from: NodeId) -> u64 {
        self.links.rule(move |envelope| {
            (envelope.response_to == Some(verb) && envelope.from == from).then(Vec::new)
        })
    }

    /// Notes every message from now on.
    pub fn watch(&self) -> Arc<Mutex<Vec<Envelope>>> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = seen.clone();
        self.links.rule(move |envelope| {
            notes.lock().expect("not poisoned").push(*envelope);
            None
        });
        seen
    }

    /// Ends a node and waits until the others know.
    pub async fn end_and_notice(&self, node: NodeId, fault: HostFault) {
        self.cluster.apply(node, fault);
        let believed = |other| other != node && self.cluster.believes_alive(other, node);
        for _ in 0..200 {
            if !self.cluster.nodes().any(believed) {
                return;
            }
            self.pass(0.5).await;
        }
        panic!("no node noticed the end of {node:?}");
    }

    /// Starts a node and waits until all serve.
    pub async fn start(&self, node: NodeId) {
        self.cluster.recover(node, Recovery::Start);
        self.cluster.settled().await;
    }
}

/// The next event, within a minute.
pub async fn next(events: &mut broadcast::Receiver<Event>) -> Event {
    let wait = Duration::from_secs(60);
    tokio::time::timeout(wait, events.recv()).await.expect("an event").expect("not lagging")
}

/// The rows of a result as (c, column).
pub fn rows(result: &ReadResult, column: &str) -> Vec<(i32, Option<i32>)> {
    let value = |row: &Row| row.cells.get(column).and_then(|cell| cell.value.as_ref()).map(number);
    let rows = result.partitions.iter().flat_map(|partition| &partition.rows);
    rows.map(|(at, row)| (number(&at.values()[0]), value(row))).collect()
}

pub fn no_read_repair(settings: &mut Settings) {
    settings.table.read_repair = ReadRepair::None;
}

pub fn with_hints(settings: &mut Settings) {
    settings.options.hints.enabled = true;
}
