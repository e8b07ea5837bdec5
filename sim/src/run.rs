//! A run of a seed: bind, inject faults, end all of them, drain the log, compare the tables.

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

use crate::checker::{Checker, Violation};
use crate::config::{Begin, SimConfig, TOPIC};
use crate::context::SimContext;
use crate::faults::{LONGEST_DELAY_MS, Plan};
use crate::injector::{Injector, Nodes};
use crate::network::{Caller, Channel, Service};
use crate::observed::Observed;
use crate::simulate::simulate;
use crate::worker::Tables;
use crate::workload::{self, Item};
use crate::{broker, store, trace, worker};

/// Determines everything that happens in a run.
pub type Seed = u64;

/// Time between two checks of the invariant, in simulated milliseconds.
const CHECK_INTERVAL_MS: u64 = 100;

/// The result of a run. `{}` prints what is needed to find out why it failed.
#[derive(Clone, Debug)]
pub struct Report {
    /// The run's seed.
    pub seed: Seed,
    /// Its options.
    pub config: SimConfig,
    /// Its faults.
    pub plan: Plan,
    /// What happened in it.
    pub observed: Observed,
    /// Its trace.
    pub trace: trace::Record,
    /// The first violation, if any.
    pub violation: Option<Violation>,
    /// Its duration in simulated milliseconds.
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
        writeln!(f, "config: {:#?}", self.config)?;
        write!(f, "faults:\n{}", self.plan)?;
        writeln!(f, "observed:")?;
        for (name, count) in self.observed.iter() {
            writeln!(f, "  {count:>6}  {name}")?;
        }
        writeln!(f, "trace: {} events, hash {:016x}", self.trace.events, self.trace.hash)?;
        writeln!(
            f,
            "to repeat it with its trace: EXACTLYONCE_SIM_SEEDS={} EXACTLYONCE_SIM_TRACE=1 cargo sim a_thousand_seeds \
             --nocapture",
            self.seed
        )
    }
}

/// Runs a seed.
pub fn run(seed: Seed, keep_trace: bool) -> Report {
    let config = SimConfig::of(seed);
    let plan = Plan::of(seed, &config);
    run_with(seed, config, plan, keep_trace)
}

/// Runs a seed with a given configuration and given faults.
pub fn run_with(seed: Seed, config: SimConfig, plan: Plan, keep_trace: bool) -> Report {
    let (sender, triggered) = mpsc::unbounded_channel();
    let context = Arc::new(SimContext::new(seed, config.clone(), keep_trace, sender));
    let result = simulate(seed, {
        let (context, plan) = (context.clone(), plan.clone());
        move || execute(context, plan, triggered)
    });
    let (violation, simulated_ms) = match result {
        Ok(result) => {
            debug_assert_eq!(Arc::strong_count(&context), 1, "the run leaks a task");
            result
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message");
            (Some(Violation::Panicked { message: text.to_owned() }), 0)
        }
    };
    let (observed, trace) = (context.observed(), context.trace.record());
    Report { seed, config, plan, observed, trace, violation, simulated_ms }
}

async fn execute(
    context: Arc<SimContext>,
    plan: Plan,
    triggered: mpsc::UnboundedReceiver<(usize, Caller)>,
) -> (Option<Violation>, u64) {
    let handle = Handle::current();
    let items = workload::draw(context.seed, &context.config);
    let (before, during): (Vec<Item>, Vec<Item>) = items.into_iter().partition(|item| item.at_ms.is_none());
    create_topic(&context).await;
    append(&context, before).await;
    let services = services(&handle, &context);
    let binding = init(&handle, &context, worker::SimpleTables).await;
    let workers = workers(&handle, &context, &worker::SimpleTables);
    let nodes = Nodes { workers, services };

    let mut checker = Checker::new(context.log.clone(), context.tables.clone(), binding);
    let injector = Arc::new(Injector::new(context.clone(), nodes.clone(), plan));
    let injecting = tokio::spawn(injector.clone().inject(triggered));
    let producer = tokio::spawn(produce(context.clone(), during));
    let chaos_ends_ms = context.now_ms() + context.config.chaos_ms;
    while context.now_ms() < chaos_ends_ms && context.violation().is_none() {
        wait_and_check(&context, &mut checker).await;
    }
    injector.end_all();
    // All records have been appended by now; this only checks that the producer did not fail.
    let produced = producer.await;
    produced.expect("the producer does not panic");

    let give_up_ms = context.now_ms() + context.config.settle_limit_ms;
    while context.violation().is_none() && !checker.has_drained().await {
        wait_and_check(&context, &mut checker).await;
        if context.now_ms() >= give_up_ms {
            context.violate(Violation::Stuck { partitions: checker.positions().await });
        }
    }
    check_at_end(&context, &checker).await;
    context.note(format_args!("drained"));
    // Delayed requests are applied now, and must change nothing.
    sleep(Duration::from_millis(2 * LONGEST_DELAY_MS)).await;
    check_at_end(&context, &checker).await;

    let simulated_ms = context.now_ms();
    for node in nodes.workers.into_iter().chain(nodes.services.into_values()) {
        handle.kill(node);
    }
    injecting.abort();
    // Time for the tasks of the killed nodes to be dropped.
    sleep(Duration::from_secs(5)).await;
    (context.violation(), simulated_ms)
}

async fn wait_and_check<S: Store>(context: &SimContext, checker: &mut Checker<S>) {
    sleep(Duration::from_millis(CHECK_INTERVAL_MS)).await;
    if let Some(violation) = checker.check_invariant().await {
        context.violate(violation);
    }
}

pub(crate) async fn check_at_end<S: Store>(context: &SimContext, checker: &Checker<S>) {
    if context.violation().is_none()
        && let Some(violation) = checker.check_tables().await
    {
        context.violate(violation);
    }
}

const EXPECTED: &str = "the in-memory log accepts every well-formed request";

pub(crate) async fn create_topic(context: &SimContext) {
    let SimConfig { partitions, retired_offsets, .. } = context.config;
    context.log.create_topic(TOPIC, partitions.into(), 1).await.expect(EXPECTED);
    for partition in 0..partitions.into() {
        context.log.skip(TOPIC, partition, retired_offsets);
        context.log.delete_below(TOPIC, partition, retired_offsets);
    }
}

pub(crate) async fn append(context: &SimContext, items: Vec<Item>) {
    for Item { lane, gap, record, .. } in items {
        let partitions = context.log.topic(TOPIC).await.expect(EXPECTED).partitions;
        let partition = (lane % partitions as u64) as i32;
        let record = NewRecord { partition: Some(partition), ..record };
        let positions = context.log.append(TOPIC, vec![record]).await.expect(EXPECTED);
        context.log.skip(TOPIC, partition, gap);
        context.note(format_args!("appended {positions:?}, gap {gap}"));
    }
}

pub(crate) async fn produce(context: Arc<SimContext>, items: Vec<Item>) {
    let began_ms = context.now_ms();
    for item in items {
        let due_ms = began_ms + item.at_ms.unwrap_or(0);
        let now_ms = context.now_ms();
        if due_ms > now_ms {
            sleep(Duration::from_millis(due_ms - now_ms)).await;
        }
        append(&context, vec![item]).await;
    }
}

// The simulator keeps a node's start function forever, even after the run. So it holds only a weak reference to the
// context, or every seed of a long campaign would leak its log and tables.
pub(crate) fn services(
    handle: &Handle,
    context: &Arc<SimContext>,
) -> BTreeMap<Service, madsim::task::NodeId> {
    let node = |service: Service| {
        let context = Arc::downgrade(context);
        let node = handle.create_node().name(format!("{service:?}")).ip(service.ip());
        let node = node.init(move || {
            let context = context.clone();
            async move {
                let Some(context) = context.upgrade() else { return };
                context.note(format_args!("{service:?} starts"));
                match service {
                    Service::Store => store::serve(context).await,
                    Service::Log => broker::serve_log(context).await,
                    Service::Coordinator => broker::serve_group(context).await,
                }
            }
        });
        (service, node.build().id())
    };
    Service::ALL.map(node).into()
}

pub(crate) fn workers<T: Tables>(
    handle: &Handle,
    context: &Arc<SimContext>,
    tables: &T,
) -> Vec<madsim::task::NodeId> {
    let node = |index: u8| {
        let (context, lives) = (Arc::downgrade(context), Arc::new(AtomicU32::new(0)));
        let ip = worker_ip(index);
        let node = handle.create_node().name(format!("worker {index}")).ip(ip);
        let tables = tables.clone();
        let work = move || {
            let (context, tables, lives) = (context.clone(), tables.clone(), lives.clone());
            async move {
                if let Some(context) = context.upgrade() {
                    worker::work(context, tables, index, lives).await;
                }
            }
        };
        let node = node.init(work).build().id();
        Network::current().plug_in(node, ip);
        node
    };
    (0..context.config.workers).map(node).collect()
}

/// A worker's address.
pub(crate) fn worker_ip(index: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 1, index + 1).into()
}

/// Binds the tables to the topic as an operator would: from a node of its own, retrying until it succeeds.
pub(crate) async fn init<T: Tables>(handle: &Handle, context: &Arc<SimContext>, tables: T) -> Binding {
    let ip = Ipv4Addr::new(10, 0, 2, 1).into();
    let node = handle.create_node().name("operator").ip(ip).build();
    Network::current().plug_in(node.id(), ip);
    let context = context.clone();
    let bound = node.spawn(async move {
        let origin = match context.config.begin {
            Begin::Start => Origin::Start,
            Begin::End => Origin::End,
        };
        let channel = Channel::open(context.clone(), Caller { worker: None, life: 0 }).await;
        let broker = broker::BrokerClient::new(channel.clone());
        loop {
            let store = match tables.open(&channel).await {
                Ok(store) => store,
                Err(error) => {
                    context.note(format_args!("init has no tables: {error}"));
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            match binding::init(&broker, &store, &context.config.binding_spec(), &origin).await {
                Ok(initialized) => return initialized.binding,
                Err(error) => {
                    context.note(format_args!("init failed, retrying: {}", chain(&error)));
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    bound.await.expect("the operator's machine is never killed")
}
