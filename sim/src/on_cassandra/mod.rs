//! The pipeline on production's own store, over a simulated Cassandra of three nodes: bind, break things, heal
//! everything, drain, read the tables at QUORUM from each pair of replicas, compare.
//!
//! The broker, the workers and what happens to them are those of [`crate::run`]; the faults of its plan that are
//! about its simple store are left out, and those of [`CassandraPlan`] come instead.

mod faults;
mod injector;
pub mod observed;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use exactlyonce::error::chain;
use exactlyonce::schema::{Keyspace, Replication};
use exactlyonce::store::Layout;
use exactlyonce::store::cassandra::{CassandraOptions, CassandraStore, apply_schema};
use madsim::runtime::Handle;
use scylla::client::session_builder::SessionBuilder;
use tokio::network::Network;
use tokio::sync::mpsc;
use tokio::time::sleep;

pub use faults::{CassandraFault, CassandraKind, CassandraPlan, CassandraWorld, NODES};

use crate::cassandra::{Notes, SimulatedCassandra, Watch};
use crate::faults::{Kind, LONGEST_DELAY_MS, Plan};
use crate::injector::Nodes;
use crate::network::{Caller, Line, Service};
use crate::observed::Observed;
use crate::oracle::{Judge, Violation};
use crate::run::{Seed, append, create_topic, init, produce, services, verdict, workers};
use crate::simulate::simulate;
use crate::stage::Stage;
use crate::trace;
use crate::worker::Tables;
use crate::workload::{self, Item};
use crate::world::World;

/// Simulated time that the workers have to drain the log when all is healed: drivers wait up to a minute before they
/// connect to a node again.
const SETTLE_LIMIT_MS: u64 = 300_000;

/// All tables.
const TABLES: [&str; 7] =
    ["pipeline", "progress", "window_counts", "registry", "alerts", "events", "dead_letters"];

/// What came of a run. `{}` is what somebody needs who has to find out why it failed.
#[derive(Clone, Debug)]
pub struct CassandraReport {
    /// The run's seed.
    pub seed: Seed,
    /// Its options.
    pub world: World,
    /// How the cluster was configured.
    pub cassandra: CassandraWorld,
    /// What went wrong with workers and broker.
    pub plan: Plan,
    /// What went wrong with Cassandra.
    pub faults: CassandraPlan,
    /// What happened in it.
    pub observed: Observed,
    /// All that happened in it, in order.
    pub trace: trace::Record,
    /// What went wrong, if anything did.
    pub violation: Option<Violation>,
    /// Simulated time that it took, in milliseconds.
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
        writeln!(f, "world: {:#?}", self.world)?;
        writeln!(f, "cassandra: {:#?}", self.cassandra)?;
        write!(f, "faults:\n{}{}", self.plan, self.faults)?;
        writeln!(f, "observed:")?;
        for (name, count) in self.observed.iter() {
            writeln!(f, "  {count:>6}  {name}")?;
        }
        writeln!(f, "trace: {} events, hash {:016x}", self.trace.events, self.trace.hash)?;
        writeln!(
            f,
            "again, with its trace: EXACTLYONCE_SIM_CASSANDRA_SEEDS={} EXACTLYONCE_SIM_TRACE=1 cargo sim \
             seeds_on_cassandra --nocapture",
            self.seed
        )
    }
}

/// The options of a seed: those of the simple store's runs, with fewer records, for each costs much more here.
pub fn world(seed: Seed) -> World {
    let world = World::narrow_of(seed);
    World { records: world.records.min(150), settle_limit_ms: SETTLE_LIMIT_MS, ..world }
}

/// What happens to the workers and the broker in a seed.
fn plan(seed: Seed, world: &World) -> Plan {
    let is_of_simple_store = |kind: Kind| match kind {
        Kind::LinkCut { service, .. }
        | Kind::ServiceKilled { service }
        | Kind::RequestsLost { service, .. }
        | Kind::RequestsDelayed { service, .. }
        | Kind::RequestsDoubled { service, .. }
        | Kind::AnswersLost { service, .. }
        | Kind::ErrorsAnswered { service, .. } => service == Service::Store,
        Kind::CallsTorn { .. } | Kind::AcknowledgedWritesDropped { .. } => true,
        _ => false,
    };
    let mut plan = Plan::of(seed, world);
    plan.faults.retain(|fault| !is_of_simple_store(fault.kind));
    plan
}

/// Plays a seed.
pub fn run_on_cassandra(seed: Seed, keep_trace: bool) -> CassandraReport {
    let (world, cassandra) = (world(seed), CassandraWorld::of(seed));
    let faults = CassandraPlan::of(seed, &world, &cassandra);
    let plan = plan(seed, &world);
    run_on_cassandra_with(seed, world, cassandra, plan, faults, keep_trace)
}

/// Plays a seed in a world and with faults that somebody chose.
pub fn run_on_cassandra_with(
    seed: Seed,
    world: World,
    cassandra: CassandraWorld,
    plan: Plan,
    faults: CassandraPlan,
    keep_trace: bool,
) -> CassandraReport {
    let (sender, triggered) = mpsc::unbounded_channel();
    let stage = Arc::new(Stage::new(seed, world.clone(), keep_trace, sender));
    let played = simulate(seed, {
        let (stage, plan, cassandra, faults) =
            (stage.clone(), plan.clone(), cassandra.clone(), faults.clone());
        move || play(stage, plan, triggered, cassandra, faults)
    });
    let (violation, simulated_ms) = match played {
        Ok(played) => played,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("something that is no text");
            (Some(Violation::Panicked { message: text.to_owned() }), 0)
        }
    };
    let (observed, trace) = (stage.observed(), stage.trace.record());
    CassandraReport { seed, world, cassandra, plan, faults, observed, trace, violation, simulated_ms }
}

/// Production's store for each life of a worker.
#[derive(Clone)]
struct CassandraTables {
    options: CassandraOptions,
    layout: Layout,
}

impl Tables for CassandraTables {
    type Store = CassandraStore;

    async fn open(&self, _line: &Line) -> Result<CassandraStore, String> {
        CassandraStore::connect(&self.options, self.layout).await.map_err(|error| chain(&error))
    }
}

/// Notes what clients ask of nodes, and counts errors.
struct Watching(Arc<Stage>);

impl Watch for Watching {
    fn note(&self, event: fmt::Arguments<'_>) {
        self.0.note(event);
    }

    fn answered_with_error(&self, code: u32) {
        // native_protocol_v4, 9
        match code {
            0x1000 => self.0.observe(observed::UNAVAILABLE),
            0x1100 => self.0.observe(observed::WRITE_TIMEOUT),
            0x1200 => self.0.observe(observed::READ_TIMEOUT),
            _ => {}
        }
    }
}

async fn play(
    stage: Arc<Stage>,
    plan: Plan,
    triggered: mpsc::UnboundedReceiver<(usize, Caller)>,
    world: CassandraWorld,
    faults: CassandraPlan,
) -> (Option<Violation>, u64) {
    let handle = Handle::current();
    Network::current().plug_in(madsim::plugin::node(), [10, 0, 2, 2].into());
    let items = workload::draw(stage.seed, &stage.world);
    let (before, during): (Vec<Item>, Vec<Item>) = items.into_iter().partition(|item| item.at_ms.is_none());
    create_topic(&stage).await;
    append(&stage, before).await;
    let services = services(&handle, &stage);
    let notes: Notes = Arc::new(Watching(stage.clone()));
    let cassandra =
        SimulatedCassandra::start(NODES, stage.seed, notes.clone(), |options| world.configure(options));
    cassandra.cluster.settled().await;
    let tables = make_tables(&stage, &cassandra, &world).await;
    let binding = init(&handle, &stage, tables.clone()).await;
    let workers = workers(&handle, &stage, &tables);
    let nodes = Nodes { workers, services };

    let injector = Arc::new(crate::injector::Injector::new(stage.clone(), nodes.clone(), plan));
    let injecting = tokio::spawn(injector.clone().carry_out(triggered));
    let on_cassandra = injector::Injector::new(stage.clone(), cassandra.clone(), &world, faults);
    tokio::spawn(on_cassandra.clone().carry_out());
    let producer = tokio::spawn(produce(stage.clone(), during));
    let storm_ends_ms = stage.now_ms() + stage.world.stormy_ms;
    while stage.now_ms() < storm_ends_ms && stage.violation().is_none() {
        sleep(Duration::from_millis(100)).await;
    }
    on_cassandra.heal();
    injector.heal();
    // All records are there by now; this only says that producing did not fail.
    producer.await.expect("the producer does not panic");

    cassandra.cluster.settled().await;
    let reading = CassandraTables {
        // Nobody is in a hurry here.
        options: CassandraOptions {
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(10),
            ..tables.options.clone()
        },
        layout: tables.layout,
    };
    let store = connect(&stage, &reading).await;
    let mut judge = Judge::new(stage.log.clone(), store, binding.clone());
    let give_up_ms = stage.now_ms() + stage.world.settle_limit_ms;
    while stage.violation().is_none() && !judge.has_drained().await {
        sleep(Duration::from_millis(500)).await;
        if stage.now_ms() >= give_up_ms {
            stage.violate(Violation::Stuck { partitions: judge.positions().await });
        }
    }
    verdict(&stage, &judge).await;
    if stage.violation().is_none()
        && let Some(violation) = judge.check_promise().await
    {
        stage.violate(violation);
    }
    stage.note(format_args!("drained"));
    // Whatever is still on its way lands now, hints among it, and must change nothing.
    sleep(Duration::from_millis(2 * LONGEST_DELAY_MS + 2 * world.hint_interval_ms)).await;
    for away in 0..NODES {
        if stage.violation().is_some() {
            break;
        }
        cassandra.kill(away);
        sleep(Duration::from_millis(3 * world.failure_timeout_ms)).await;
        stage.note(format_args!("the tables without cassandra {}", away + 1));
        let store = connect(&stage, &reading).await;
        verdict(&stage, &Judge::new(stage.log.clone(), store, binding.clone())).await;
        cassandra.start_node(away);
        cassandra.cluster.settled().await;
    }

    let simulated_ms = stage.now_ms();
    for node in nodes.workers.into_iter().chain(nodes.services.into_values()) {
        handle.kill(node);
    }
    cassandra.links.mend_all();
    cassandra.shut_down();
    injecting.abort();
    // Time for the tasks of the killed nodes to be dropped.
    sleep(Duration::from_secs(5)).await;
    (stage.violation(), simulated_ms)
}

/// Makes the tables, as an operator does before the first worker comes.
async fn make_tables(
    stage: &Stage,
    cassandra: &SimulatedCassandra,
    world: &CassandraWorld,
) -> CassandraTables {
    let nodes = cassandra.addresses().iter().map(ToString::to_string).collect();
    let keyspace = Keyspace::try_from("exactlyonce".to_owned()).expect("a valid name");
    let options = CassandraOptions {
        connect_timeout: Duration::from_millis(world.connect_timeout_ms),
        request_timeout: Duration::from_millis(world.request_timeout_ms),
        ..CassandraOptions::new(nodes, keyspace)
    };
    let patient = CassandraOptions {
        connect_timeout: Duration::from_secs(10),
        request_timeout: Duration::from_secs(10),
        ..options.clone()
    };
    let replication = Replication::anywhere(NODES.into()).expect("as many as there are nodes");
    let layout = stage.world.layout;
    loop {
        match apply_schema(&patient, &replication, layout).await {
            Ok(()) => break,
            Err(error) => stage.note(format_args!("no tables yet: {}", chain(&error))),
        }
        sleep(Duration::from_millis(100)).await;
    }
    let session = SessionBuilder::new().known_nodes(&options.contact_points).build().await;
    let session = session.expect("nothing is wrong yet");
    for table in TABLES {
        let alter = format!("ALTER TABLE {}.{table} WITH {}", options.keyspace, world.table_options());
        session.query_unpaged(alter, ()).await.expect("nothing is wrong yet");
    }
    CassandraTables { options, layout }
}

async fn connect(stage: &Stage, tables: &CassandraTables) -> CassandraStore {
    loop {
        match CassandraStore::connect(&tables.options, tables.layout).await {
            Ok(store) => return store,
            Err(error) => stage.note(format_args!("the judge has no tables: {}", chain(&error))),
        }
        sleep(Duration::from_millis(500)).await;
    }
}
