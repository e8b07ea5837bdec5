//! The pipeline with the production store on a simulated three-node Cassandra cluster: bind, inject faults, end all of
//! them, drain the log, read the tables at QUORUM from each pair of replicas, compare.
//!
//! The broker, the workers and their faults are those of [`crate::run`]; the faults of its plan that affect its simple
//! store are replaced by those of [`CassandraPlan`].

mod faults;
mod injector;
pub mod observed;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use exactlyonce::error::chain;
use exactlyonce::store::Layout;
use exactlyonce::store::cassandra::{CassandraOptions, CassandraStore, apply_schema};
use exactlyonce::store::cql::{Keyspace, Replication, tables};
use madsim::runtime::Handle;
use scylla::client::session_builder::SessionBuilder;
use tokio::network::Network;
use tokio::sync::mpsc;
use tokio::time::sleep;

pub use faults::{CassandraConfig, CassandraFault, CassandraKind, CassandraPlan, NODES};

use crate::cassandra::{Notes, SimulatedCassandra, Watch};
use crate::checker::{Checker, Violation};
use crate::config::SimConfig;
use crate::context::SimContext;
use crate::faults::{Kind, LONGEST_DELAY_MS, Plan};
use crate::injector::Nodes;
use crate::network::{Caller, Channel, Service};
use crate::observed::Observed;
use crate::run::{Seed, append, check_at_end, create_topic, init, produce, services, workers};
use crate::simulate::simulate;
use crate::trace;
use crate::worker::Tables;
use crate::workload::{self, Item};

/// Simulated time that the workers have to drain the log after all faults have ended: drivers wait up to a minute before
/// they reconnect to a node.
const SETTLE_LIMIT_MS: u64 = 300_000;

/// The result of a run. `{}` prints what is needed to find out why it failed.
#[derive(Clone, Debug)]
pub struct CassandraReport {
    /// The run's seed.
    pub seed: Seed,
    /// Its options.
    pub config: SimConfig,
    /// The cluster's configuration.
    pub cassandra: CassandraConfig,
    /// The faults of workers and broker.
    pub plan: Plan,
    /// The faults of Cassandra.
    pub faults: CassandraPlan,
    /// What happened in it.
    pub observed: Observed,
    /// Its trace.
    pub trace: trace::Record,
    /// The first violation, if any.
    pub violation: Option<Violation>,
    /// Its duration in simulated milliseconds.
    pub simulated_ms: u64,
}

impl fmt::Display for CassandraReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.violation {
            None => writeln!(f, "seed {} on cassandra: the tables equal the ground truth", self.seed)?,
            Some(violation) => {
                writeln!(
                    f,
                    "seed {} on cassandra after {} ms: {violation:#?}",
                    self.seed, self.simulated_ms
                )?;
            }
        }
        writeln!(f, "config: {:#?}", self.config)?;
        writeln!(f, "cassandra: {:#?}", self.cassandra)?;
        write!(f, "faults:\n{}{}", self.plan, self.faults)?;
        writeln!(f, "observed:")?;
        for (name, count) in self.observed.iter() {
            writeln!(f, "  {count:>6}  {name}")?;
        }
        writeln!(f, "trace: {} events, hash {:016x}", self.trace.events, self.trace.hash)?;
        writeln!(
            f,
            "to repeat it with its trace: EXACTLYONCE_SIM_CASSANDRA_SEEDS={} EXACTLYONCE_SIM_TRACE=1 cargo sim \
             seeds_on_cassandra --nocapture",
            self.seed
        )
    }
}

/// The options of a seed: those of the simple store's runs, with fewer records, because each costs much more here.
pub fn config(seed: Seed) -> SimConfig {
    let config = SimConfig::narrow_of(seed);
    SimConfig { records: config.records.min(150), settle_limit_ms: SETTLE_LIMIT_MS, ..config }
}

/// The faults of the workers and the broker in a seed.
fn plan(seed: Seed, config: &SimConfig) -> Plan {
    let is_of_simple_store = |kind: Kind| match kind {
        Kind::LinkCut { service, .. }
        | Kind::ServiceKilled { service }
        | Kind::RequestsLost { service, .. }
        | Kind::RequestsDelayed { service, .. }
        | Kind::RequestsDuplicated { service, .. }
        | Kind::ResponsesLost { service, .. }
        | Kind::ErrorsReturned { service, .. } => service == Service::Store,
        Kind::CallsTorn { .. } | Kind::AcknowledgedWritesDropped { .. } => true,
        _ => false,
    };
    let mut plan = Plan::of(seed, config);
    plan.faults.retain(|fault| !is_of_simple_store(fault.kind));
    plan
}

/// Runs a seed.
pub fn run_on_cassandra(seed: Seed, keep_trace: bool) -> CassandraReport {
    let (config, cassandra) = (config(seed), CassandraConfig::of(seed));
    let faults = CassandraPlan::of(seed, &config, &cassandra);
    let plan = plan(seed, &config);
    run_on_cassandra_with(seed, config, cassandra, plan, faults, keep_trace)
}

/// Runs a seed with given configurations and given faults.
pub fn run_on_cassandra_with(
    seed: Seed,
    config: SimConfig,
    cassandra: CassandraConfig,
    plan: Plan,
    faults: CassandraPlan,
    keep_trace: bool,
) -> CassandraReport {
    let (sender, triggered) = mpsc::unbounded_channel();
    let context = Arc::new(SimContext::new(seed, config.clone(), keep_trace, sender));
    let result = simulate(seed, {
        let (context, plan, cassandra, faults) =
            (context.clone(), plan.clone(), cassandra.clone(), faults.clone());
        move || execute(context, plan, triggered, cassandra, faults)
    });
    let (violation, simulated_ms) = match result {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message");
            (Some(Violation::Panicked { message: text.to_owned() }), 0)
        }
    };
    let (observed, trace) = (context.observed(), context.trace.record());
    CassandraReport { seed, config, cassandra, plan, faults, observed, trace, violation, simulated_ms }
}

/// The production store for each process of a worker.
#[derive(Clone)]
struct CassandraTables {
    options: CassandraOptions,
    layout: Layout,
}

impl Tables for CassandraTables {
    type Store = CassandraStore;

    async fn open(&self, _channel: &Channel) -> Result<CassandraStore, String> {
        CassandraStore::connect(&self.options, self.layout).await.map_err(|error| chain(&error))
    }
}

/// Traces the requests of clients, and counts errors.
struct Watching(Arc<SimContext>);

impl Watch for Watching {
    fn note(&self, event: fmt::Arguments<'_>) {
        self.0.note(event);
    }

    fn returned_error(&self, code: u32) {
        // native_protocol_v4, 9
        match code {
            0x1000 => self.0.observe(observed::UNAVAILABLE),
            0x1100 => self.0.observe(observed::WRITE_TIMEOUT),
            0x1200 => self.0.observe(observed::READ_TIMEOUT),
            _ => {}
        }
    }
}

async fn execute(
    context: Arc<SimContext>,
    plan: Plan,
    triggered: mpsc::UnboundedReceiver<(usize, Caller)>,
    config: CassandraConfig,
    faults: CassandraPlan,
) -> (Option<Violation>, u64) {
    let handle = Handle::current();
    Network::current().plug_in(madsim::plugin::node(), [10, 0, 2, 2].into());
    let items = workload::draw(context.seed, &context.config);
    let (before, during): (Vec<Item>, Vec<Item>) = items.into_iter().partition(|item| item.at_ms.is_none());
    create_topic(&context).await;
    append(&context, before).await;
    let services = services(&handle, &context);
    let notes: Notes = Arc::new(Watching(context.clone()));
    let cassandra =
        SimulatedCassandra::start(NODES, context.seed, notes.clone(), |options| config.configure(options));
    cassandra.cluster.settled().await;
    let tables = create_tables(&context, &cassandra, &config).await;
    let binding = init(&handle, &context, tables.clone()).await;
    let workers = workers(&handle, &context, &tables);
    let nodes = Nodes { workers, services };

    let injector = Arc::new(crate::injector::Injector::new(context.clone(), nodes.clone(), plan));
    let injecting = tokio::spawn(injector.clone().inject(triggered));
    let on_cassandra = injector::Injector::new(context.clone(), cassandra.clone(), &config, faults);
    tokio::spawn(on_cassandra.clone().inject());
    let producer = tokio::spawn(produce(context.clone(), during));
    let chaos_ends_ms = context.now_ms() + context.config.chaos_ms;
    while context.now_ms() < chaos_ends_ms && context.violation().is_none() {
        sleep(Duration::from_millis(100)).await;
    }
    on_cassandra.end_all();
    injector.end_all();
    // All records have been appended by now; this only checks that the producer did not fail.
    producer.await.expect("the producer does not panic");

    cassandra.cluster.settled().await;
    let reading = CassandraTables {
        // Long timeouts: nothing is under test here.
        options: CassandraOptions {
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(10),
            ..tables.options.clone()
        },
        layout: tables.layout,
    };
    let store = connect(&context, &reading).await;
    let mut checker = Checker::new(context.log.clone(), store, binding.clone());
    let give_up_ms = context.now_ms() + context.config.settle_limit_ms;
    while context.violation().is_none() && !checker.has_drained().await {
        sleep(Duration::from_millis(500)).await;
        if context.now_ms() >= give_up_ms {
            context.violate(Violation::Stuck { partitions: checker.positions().await });
        }
    }
    check_at_end(&context, &checker).await;
    if context.violation().is_none()
        && let Some(violation) = checker.check_invariant().await
    {
        context.violate(violation);
    }
    context.note(format_args!("drained"));
    // Delayed requests and hints are applied now, and must change nothing.
    sleep(Duration::from_millis(2 * LONGEST_DELAY_MS + 2 * config.hint_interval_ms)).await;
    for down in 0..NODES {
        if context.violation().is_some() {
            break;
        }
        cassandra.kill(down);
        sleep(Duration::from_millis(3 * config.failure_timeout_ms)).await;
        context.note(format_args!("the tables without cassandra {}", down + 1));
        let store = connect(&context, &reading).await;
        check_at_end(&context, &Checker::new(context.log.clone(), store, binding.clone())).await;
        cassandra.start_node(down);
        cassandra.cluster.settled().await;
    }

    let simulated_ms = context.now_ms();
    for node in nodes.workers.into_iter().chain(nodes.services.into_values()) {
        handle.kill(node);
    }
    cassandra.links.restore_all();
    cassandra.shut_down();
    injecting.abort();
    // Time for the tasks of the killed nodes to be dropped.
    sleep(Duration::from_secs(5)).await;
    (context.violation(), simulated_ms)
}

/// Creates the tables, as an operator does before the first worker starts.
async fn create_tables(
    context: &SimContext,
    cassandra: &SimulatedCassandra,
    config: &CassandraConfig,
) -> CassandraTables {
    let nodes = cassandra.addresses().iter().map(ToString::to_string).collect();
    let keyspace = Keyspace::try_from("exactlyonce".to_owned()).expect("a valid name");
    let options = CassandraOptions {
        connect_timeout: Duration::from_millis(config.connect_timeout_ms),
        request_timeout: Duration::from_millis(config.request_timeout_ms),
        ..CassandraOptions::new(nodes, keyspace)
    };
    let long_timeouts = CassandraOptions {
        connect_timeout: Duration::from_secs(10),
        request_timeout: Duration::from_secs(10),
        ..options.clone()
    };
    let replication = Replication::anywhere(NODES.into()).expect("as many as there are nodes");
    let layout = context.config.layout;
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
        let alter = format!("ALTER TABLE {keyspace}.{name} WITH {}", config.table_options());
        session.query_unpaged(alter, ()).await.expect("no fault is active yet");
    }
    CassandraTables { options, layout }
}

async fn connect(context: &SimContext, tables: &CassandraTables) -> CassandraStore {
    loop {
        match CassandraStore::connect(&tables.options, tables.layout).await {
            Ok(store) => return store,
            Err(error) => context.note(format_args!("the checker has no tables: {}", chain(&error))),
        }
        sleep(Duration::from_millis(500)).await;
    }
}
