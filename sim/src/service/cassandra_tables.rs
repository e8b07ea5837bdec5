//! The tables on a simulated Cassandra cluster of three nodes, through the production store and the unmodified driver.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use exactlyonce::error::chain;
use exactlyonce::store::Layout;
use exactlyonce::store::cassandra::{CassandraOptions, CassandraStore, Consistency, apply_schema};
use exactlyonce::store::cql::{Keyspace, Replication, tables};
use scylla::client::session_builder::SessionBuilder;
use simulated_cassandra::cluster::NodeId;
use simulated_hosts::{HostCommand, HostFault, Recovery};
use tokio::network::Network;
use tokio::time::sleep;

use crate::context::SimContext;
use crate::network::Channel;
use crate::observed::Sometimes;
use crate::oracle::Violation;
use crate::oracle::cell::Replicas;
use crate::scenario::Tables;
use crate::scenario::cassandra::{ClusterOptions, DATA_CENTERS, NODES};
use crate::scenario::fault::{Fault, Host, Kind, Sabotage};
use crate::service::cassandra::cells::ClusterReplicas;
use crate::service::cassandra::faults::ClusterFaults;
use crate::service::cassandra::record::{self, Clients};
use crate::service::cassandra::{Frame, Notes, SimulatedCassandra, Watch, damage, observe};
use crate::service::{Opener, TablesService};

/// How long the cluster may take for what is left to do, besides intervals.
const CATCH_UP_MS: u64 = 2_000;

pub(crate) struct CassandraTables {
    context: Arc<SimContext>,
    cassandra: SimulatedCassandra,
    cluster: ClusterOptions,
    opener: CassandraOpener,
    faults: ClusterFaults,
    /// What the tables are read with at the end.
    store: OnceLock<CassandraStore>,
    /// The cluster does not own what it is traced with.
    _notes: Notes,
}

/// Opens the production store.
#[derive(Clone)]
pub(crate) struct CassandraOpener {
    options: CassandraOptions,
    layout: Layout,
}

impl Opener for CassandraOpener {
    type Store = CassandraStore;

    async fn open(&self, _: &Channel) -> Result<CassandraStore, String> {
        CassandraStore::connect(&self.options, self.layout).await.map_err(|error| chain(&error))
    }
}

/// Traces and records the requests of clients, and counts errors.
struct Watching(Arc<SimContext>, Clients);

impl Watch for Watching {
    fn note(&self, event: fmt::Arguments<'_>) {
        self.0.note(event);
    }

    fn reads_lines(&self) -> bool {
        self.0.trace.keeps_lines()
    }

    fn returned_error(&self, code: u32) {
        // native_protocol_v4, 9
        match code {
            0x1000 => self.0.observe(Sometimes::TooFewReplicasAlive),
            0x1100 => self.0.observe(Sometimes::WriteTimedOutAtCoordinator),
            0x1200 => self.0.observe(Sometimes::ReadTimedOutAtCoordinator),
            _ => {}
        }
    }

    fn frame(&self, frame: &Frame<'_>, is_request: bool) {
        let Self(context, clients) = self;
        match is_request {
            _ if !context.timeline.is_on() => {}
            true => clients.request(context, frame),
            false => clients.response(context, frame),
        }
    }

    fn process(&self, node: u8, command: HostCommand) {
        self.0.record(|recording| recording.process(Host::Node(node), command));
    }
}

impl TablesService for CassandraTables {
    type Store = CassandraStore;
    type Opener = CassandraOpener;

    async fn start(context: &Arc<SimContext>) -> Self {
        let Tables::Cassandra(cluster) = &context.tables_options else {
            unreachable!("the scenario's tables are on Cassandra");
        };
        Network::current().plug_in(madsim::plugin::node(), [10, 0, 2, 2].into());
        let notes: Notes = Arc::new(Watching(context.clone(), Clients::default()));
        record::add_lanes(context, cluster);
        let cassandra = SimulatedCassandra::start(cluster.nodes(), context.seed, notes.clone(), |options| {
            cluster.configure(options);
        });
        cassandra.cluster.settled().await;
        let opener = create_tables(context, &cassandra, cluster).await;
        let faults = ClusterFaults::start(context, &cassandra, cluster);
        let replicas = ClusterReplicas::new(&cassandra.cluster, &opener.options.keyspace, opener.layout);
        observe::observe(context, &cassandra, replicas);
        let (context, cluster) = (context.clone(), cluster.clone());
        Self { context, cassandra, cluster, opener, faults, store: OnceLock::new(), _notes: notes }
    }

    fn opener(&self) -> CassandraOpener {
        self.opener.clone()
    }

    fn begin(&self, fault: &Fault, active: &[Fault]) -> bool {
        let Kind::RowsDeleted { table } = fault.kind else { return self.faults.begin(fault, active) };
        let Self { context, opener, .. } = self;
        let statement = damage::statement(context, &opener.options.keyspace, opener.layout, table);
        let Some(statement) = statement else { return false };
        context.note_event(format_args!("operator: {statement}"));
        // From now on the tables may be damaged; that the statement has succeeded is known later.
        context.damage().done = true;
        let (nodes, context, fault) = (opener.options.contact_points.clone(), context.clone(), fault.clone());
        tokio::spawn(async move {
            if damage::execute(&nodes, statement).await {
                context.effect(&fault);
            }
        });
        true
    }

    fn end(&self, fault: &Fault) {
        self.faults.end(fault);
    }

    fn dispensable(&self) -> Option<Host> {
        Some(Host::Node((self.context.seed % u64::from(NODES)) as u8))
    }

    async fn settle(&self) {
        self.cassandra.cluster.settled().await;
    }

    fn version(&self) -> Option<u64> {
        None
    }

    fn replicas(&self) -> Box<dyn Replicas> {
        Box::new(ClusterReplicas::new(
            &self.cassandra.cluster,
            &self.opener.options.keyspace,
            self.opener.layout,
        ))
    }

    async fn repair(&self) -> Vec<Violation> {
        let Self { context, cassandra, .. } = self;
        let keyspace = self.opener.options.keyspace.to_string();
        let is_skipped =
            |active: &Fault| matches!(active.kind, Kind::Sabotaged { how: Sabotage::RepairsSkipped, .. });
        let is_skipped = context.planned_faults.iter().any(is_skipped);
        while !is_skipped && let Err(error) = cassandra.cluster.repair(NodeId(0), &keyspace).await {
            context.note(format_args!("the repair failed: {}", chain(&error)));
            sleep(Duration::from_millis(500)).await;
        }
        let mut violations = Vec::new();
        for table in tables(self.opener.layout.events) {
            for node in 1..self.cluster.nodes() {
                if !cassandra.cluster.has_equal_replicas(
                    &keyspace,
                    table.name,
                    NodeId(0),
                    NodeId(node.into()),
                ) {
                    violations
                        .push(Violation::ReplicasDiffer { table: table.name.to_owned(), nodes: (0, node) });
                }
            }
        }
        violations
    }

    async fn store(&self) -> CassandraStore {
        if let Some(store) = self.store.get() {
            return store.clone();
        }
        let options = with_long_timeouts(&self.opener.options);
        loop {
            match CassandraStore::connect(&options, self.opener.layout).await {
                Ok(store) => return self.store.get_or_init(|| store).clone(),
                Err(error) => {
                    self.context.note(format_args!("the checker has no tables: {}", chain(&error)));
                }
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    async fn caught_up(&self) {
        // Whatever arrives last may be answered by a hint, which is written and delivered after an interval each.
        let until_ms = self.faults.latest_ms().max(self.context.now_ms());
        let until_ms = until_ms + 2 * self.cluster.hint_interval_ms + CATCH_UP_MS;
        sleep(Duration::from_millis(until_ms - self.context.now_ms())).await;
    }

    async fn store_without(&self, index: u8) -> Option<CassandraStore> {
        if let Some(before) = index.checked_sub(1) {
            self.cassandra.recover(before, Recovery::Start);
            self.cassandra.cluster.settled().await;
        }
        if index >= NODES {
            return None;
        }
        self.cassandra.apply(index, HostFault::Kill);
        sleep(Duration::from_millis(3 * self.cluster.failure_timeout_ms)).await;
        self.context.note(format_args!("the tables without cassandra {}", index + 1));
        Some(self.store().await)
    }

    fn shut_down(&self) {
        self.cassandra.links.restore_all();
        self.cassandra.shut_down();
    }
}

/// For the operator and the checker, who are not under test.
fn with_long_timeouts(options: &CassandraOptions) -> CassandraOptions {
    CassandraOptions {
        connect_timeout: Duration::from_secs(10),
        request_timeout: Duration::from_secs(10),
        ..options.clone()
    }
}

/// Creates the tables, as an operator does before the first worker starts.
async fn create_tables(
    context: &SimContext,
    cassandra: &SimulatedCassandra,
    cluster: &ClusterOptions,
) -> CassandraOpener {
    let nodes = cassandra.addresses().iter().map(ToString::to_string).collect();
    let keyspace = Keyspace::try_from("exactlyonce".to_owned()).expect("a valid name");
    let options = CassandraOptions {
        connect_timeout: Duration::from_millis(cluster.connect_timeout_ms),
        request_timeout: Duration::from_millis(cluster.request_timeout_ms),
        ..CassandraOptions::new(nodes, keyspace)
    };
    let options = match cluster.data_centers {
        1 => options,
        _ => CassandraOptions {
            consistency: Consistency::LocalQuorum,
            datacenter: Some(DATA_CENTERS[0].to_owned()),
            ..options
        },
    };
    let long_timeouts = with_long_timeouts(&options);
    let replicas =
        DATA_CENTERS[..cluster.data_centers.into()].iter().map(|name| ((*name).to_owned(), NODES.into()));
    let replication = match cluster.data_centers {
        1 => Replication::anywhere(NODES.into()),
        _ => Replication::datacenters(replicas.collect()),
    };
    let replication = replication.expect("as many as there are nodes");
    let layout = context.options.layout;
    loop {
        match apply_schema(&long_timeouts, &replication, layout).await {
            Ok(()) => break,
            Err(error) => context.note(format_args!("no tables yet: {}", chain(&error))),
        }
        sleep(Duration::from_millis(100)).await;
    }
    let session = SessionBuilder::new().known_nodes(&options.contact_points).build().await;
    let session = session.expect("no fault is active yet");
    for table in tables(layout.events) {
        let (keyspace, name) = (&options.keyspace, table.name);
        let alter = format!("ALTER TABLE {keyspace}.{name} WITH {}", cluster.table_options());
        session.query_unpaged(alter, ()).await.expect("no fault is active yet");
    }
    CassandraOpener { options, layout }
}
