//! A run, from its seed to its verdict: bind, break things, heal everything, drain, compare.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use exactlyonce::binding::{self, Origin};
use exactlyonce::broker::{Broker, NewRecord, Producer};
use exactlyonce::error::chain;
use exactlyonce::store::{Binding, Store};
use madsim::runtime::Handle;
use tokio::network::Network;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::faults::{LONGEST_DELAY_MS, Plan};
use crate::injector::{Injector, Nodes};
use crate::network::{Caller, Line, Service};
use crate::observed::Observed;
use crate::oracle::{Judge, Violation};
use crate::simulate::simulate;
use crate::stage::Stage;
use crate::worker::Tables;
use crate::workload::{self, Item};
use crate::world::{Begin, TOPIC, World};
use crate::{broker, store, trace, worker};

/// Decides everything that happens in a run.
pub type Seed = u64;

/// Time between two looks of the oracle, in simulated milliseconds.
const LOOK_MS: u64 = 100;

/// What came of a run. `{}` is what somebody needs who has to find out why it failed.
#[derive(Clone, Debug)]
pub struct Report {
    /// The run's seed.
    pub seed: Seed,
    /// Its options.
    pub world: World,
    /// Its faults.
    pub plan: Plan,
    /// What happened in it.
    pub observed: Observed,
    /// All that happened in it, in order.
    pub trace: trace::Record,
    /// What went wrong, if anything did.
    pub violation: Option<Violation>,
    /// Simulated time that it took, in milliseconds.
    pub simulated_ms: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.violation {
            None => writeln!(f, "seed {}: the tables equal the ground truth", self.seed)?,
            Some(violation) => {
                writeln!(f, "seed {} after {} ms: {violation:#?}", self.seed, self.simulated_ms)?;
            }
        }
        writeln!(f, "world: {:#?}", self.world)?;
        write!(f, "faults:\n{}", self.plan)?;
        writeln!(f, "observed:")?;
        for (name, count) in self.observed.iter() {
            writeln!(f, "  {count:>6}  {name}")?;
        }
        writeln!(f, "trace: {} events, hash {:016x}", self.trace.events, self.trace.hash)?;
        writeln!(
            f,
            "again, with its trace: EXACTLYONCE_SIM_SEEDS={} EXACTLYONCE_SIM_TRACE=1 cargo sim a_thousand_seeds \
             --nocapture",
            self.seed
        )
    }
}

/// Plays a seed.
pub fn run(seed: Seed, keep_trace: bool) -> Report {
    let world = World::of(seed);
    let plan = Plan::of(seed, &world);
    run_with(seed, world, plan, keep_trace)
}

/// Plays a seed in a world and with faults that somebody chose.
pub fn run_with(seed: Seed, world: World, plan: Plan, keep_trace: bool) -> Report {
    let (sender, triggered) = mpsc::unbounded_channel();
    let stage = Arc::new(Stage::new(seed, world.clone(), keep_trace, sender));
    let played = simulate(seed, {
        let (stage, plan) = (stage.clone(), plan.clone());
        move || play(stage, plan, triggered)
    });
    let (violation, simulated_ms) = match played {
        Ok(played) => {
            debug_assert_eq!(Arc::strong_count(&stage), 1, "the run leaves something behind");
            played
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("something that is no text");
            (Some(Violation::Panicked { message: text.to_owned() }), 0)
        }
    };
    let (observed, trace) = (stage.observed(), stage.trace.record());
    Report { seed, world, plan, observed, trace, violation, simulated_ms }
}

async fn play(
    stage: Arc<Stage>,
    plan: Plan,
    triggered: mpsc::UnboundedReceiver<(usize, Caller)>,
) -> (Option<Violation>, u64) {
    let handle = Handle::current();
    let items = workload::draw(stage.seed, &stage.world);
    let (before, during): (Vec<Item>, Vec<Item>) = items.into_iter().partition(|item| item.at_ms.is_none());
    create_topic(&stage).await;
    append(&stage, before).await;
    let services = services(&handle, &stage);
    let binding = init(&handle, &stage, worker::SimpleTables).await;
    let workers = workers(&handle, &stage, &worker::SimpleTables);
    let nodes = Nodes { workers, services };

    let mut judge = Judge::new(stage.log.clone(), stage.tables.clone(), binding);
    let injector = Arc::new(Injector::new(stage.clone(), nodes.clone(), plan));
    let injecting = tokio::spawn(injector.clone().carry_out(triggered));
    let producer = tokio::spawn(produce(stage.clone(), during));
    let storm_ends_ms = stage.now_ms() + stage.world.stormy_ms;
    while stage.now_ms() < storm_ends_ms && stage.violation().is_none() {
        look(&stage, &mut judge).await;
    }
    injector.heal();
    // All records are there by now; this only says that producing did not fail.
    let produced = producer.await;
    produced.expect("the producer does not panic");

    let give_up_ms = stage.now_ms() + stage.world.settle_limit_ms;
    while stage.violation().is_none() && !judge.has_drained().await {
        look(&stage, &mut judge).await;
        if stage.now_ms() >= give_up_ms {
            stage.violate(Violation::Stuck { partitions: judge.positions().await });
        }
    }
    verdict(&stage, &judge).await;
    stage.note(format_args!("drained"));
    // Whatever is still on its way lands now, and must change nothing.
    sleep(Duration::from_millis(2 * LONGEST_DELAY_MS)).await;
    verdict(&stage, &judge).await;

    let simulated_ms = stage.now_ms();
    for node in nodes.workers.into_iter().chain(nodes.services.into_values()) {
        handle.kill(node);
    }
    injecting.abort();
    // Time for the tasks of the killed nodes to be dropped.
    sleep(Duration::from_secs(5)).await;
    (stage.violation(), simulated_ms)
}

async fn look<S: Store>(stage: &Stage, judge: &mut Judge<S>) {
    sleep(Duration::from_millis(LOOK_MS)).await;
    if let Some(violation) = judge.check_promise().await {
        stage.violate(violation);
    }
}

pub(crate) async fn verdict<S: Store>(stage: &Stage, judge: &Judge<S>) {
    if stage.violation().is_none()
        && let Some(violation) = judge.judge().await
    {
        stage.violate(violation);
    }
}

const EXPECTED: &str = "the log in memory does what is well formed";

pub(crate) async fn create_topic(stage: &Stage) {
    let World { partitions, retired_offsets, .. } = stage.world;
    stage.log.create_topic(TOPIC, partitions.into(), 1).await.expect(EXPECTED);
    for partition in 0..partitions.into() {
        stage.log.skip(TOPIC, partition, retired_offsets);
        stage.log.delete_below(TOPIC, partition, retired_offsets);
    }
}

pub(crate) async fn append(stage: &Stage, items: Vec<Item>) {
    for Item { lane, gap, record, .. } in items {
        let partitions = stage.log.topic(TOPIC).await.expect(EXPECTED).partitions;
        let partition = (lane % partitions as u64) as i32;
        let record = NewRecord { partition: Some(partition), ..record };
        let places = stage.log.append(TOPIC, vec![record]).await.expect(EXPECTED);
        stage.log.skip(TOPIC, partition, gap);
        stage.note(format_args!("appended {places:?}, gap {gap}"));
    }
}

pub(crate) async fn produce(stage: Arc<Stage>, items: Vec<Item>) {
    let began_ms = stage.now_ms();
    for item in items {
        let due_ms = began_ms + item.at_ms.unwrap_or(0);
        let now_ms = stage.now_ms();
        if due_ms > now_ms {
            sleep(Duration::from_millis(due_ms - now_ms)).await;
        }
        append(&stage, vec![item]).await;
    }
}

// The simulator keeps what starts a node for ever, also after the run. So that holds the stage weakly, or every
// seed of a long campaign would leave its log and tables behind.
pub(crate) fn services(handle: &Handle, stage: &Arc<Stage>) -> BTreeMap<Service, madsim::task::NodeId> {
    let node = |service: Service| {
        let stage = Arc::downgrade(stage);
        let node = handle.create_node().name(format!("{service:?}")).ip(service.ip());
        let node = node.init(move || {
            let stage = stage.clone();
            async move {
                let Some(stage) = stage.upgrade() else { return };
                stage.note(format_args!("{service:?} starts"));
                match service {
                    Service::Store => store::serve(stage).await,
                    Service::Log => broker::serve_log(stage).await,
                    Service::Coordinator => broker::serve_group(stage).await,
                }
            }
        });
        (service, node.build().id())
    };
    Service::ALL.map(node).into()
}

pub(crate) fn workers<T: Tables>(
    handle: &Handle,
    stage: &Arc<Stage>,
    tables: &T,
) -> Vec<madsim::task::NodeId> {
    let node = |index: u8| {
        let (stage, lives) = (Arc::downgrade(stage), Arc::new(AtomicU32::new(0)));
        let ip = worker_ip(index);
        let node = handle.create_node().name(format!("worker {index}")).ip(ip);
        let tables = tables.clone();
        let work = move || {
            let (stage, tables, lives) = (stage.clone(), tables.clone(), lives.clone());
            async move {
                if let Some(stage) = stage.upgrade() {
                    worker::work(stage, tables, index, lives).await;
                }
            }
        };
        let node = node.init(work).build().id();
        Network::current().plug_in(node, ip);
        node
    };
    (0..stage.world.workers).map(node).collect()
}

/// A worker's address.
pub(crate) fn worker_ip(index: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 1, index + 1).into()
}

/// Binds the tables to the topic, as an operator would: from a machine of its own, until it is done.
pub(crate) async fn init<T: Tables>(handle: &Handle, stage: &Arc<Stage>, tables: T) -> Binding {
    let ip = Ipv4Addr::new(10, 0, 2, 1).into();
    let node = handle.create_node().name("operator").ip(ip).build();
    Network::current().plug_in(node.id(), ip);
    let stage = stage.clone();
    let bound = node.spawn(async move {
        let origin = match stage.world.begin {
            Begin::Start => Origin::Start,
            Begin::End => Origin::End,
        };
        let line = Line::open(stage.clone(), Caller { worker: None, life: 0 }).await;
        let broker = broker::BrokerClient::new(line.clone());
        loop {
            let store = match tables.open(&line).await {
                Ok(store) => store,
                Err(error) => {
                    stage.note(format_args!("init has no tables: {error}"));
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            match binding::init(&broker, &store, &stage.world.facts(), &origin).await {
                Ok(initialized) => return initialized.binding,
                Err(error) => {
                    stage.note(format_args!("init failed, and runs again: {}", chain(&error)));
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    bound.await.expect("the operator's machine is never killed")
}
