//! A run of a scenario: bind, inject faults, end all of them, drain the log, compare the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use exactlyonce::broker::Broker;
use exactlyonce::store::{Binding, Store};
use exactlyonce::verify;
use madsim::runtime::Handle;
use serde::{Deserialize, Serialize};
use tokio::network::Network;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::COMMIT;
use crate::context::{SimContext, Triggered};
use crate::injector::{Injector, Nodes};
use crate::observed::Observed;
use crate::operator::Operator;
use crate::oracle::cell::Cell;
use crate::oracle::tables::Checker;
use crate::oracle::truth::Truth;
use crate::oracle::{Oracles, Violation, outcome};
use crate::parties::{Service, worker_ip};
use crate::scenario::fault::{Fault, Host, KindName};
use crate::scenario::options::{RunOptions, TOPIC};
use crate::scenario::workload::Item;
use crate::scenario::{Log, Scenario, Tables, World};
use crate::service::cassandra_tables::CassandraTables;
#[cfg(feature = "full")]
use crate::service::kafka::KafkaLog;
use crate::service::simple_log::log::SimpleLog;
use crate::service::simple_tables::SimpleTables;
use crate::service::{BrokerOpener, LogService, Opener, TablesService, simple_log, simple_store};
use crate::simulate::simulate;
use crate::timeline::{Recorder, Timeline};
use crate::watch::{Line, Watch};
use crate::{trace, worker};

/// Determines everything that happens in a run.
pub type Seed = u64;

/// Time between two checks of the invariant, in simulated milliseconds.
const CHECK_INTERVAL_MS: u64 = 100;

/// How long a worker may take to become a member of its group when all faults have ended, in simulated milliseconds.
const REJOINS_WITHIN_MS: u64 = 120_000;

/// How long workers may take to drain a log, or to refuse, after damage that no client can survive.
const DAMAGED_LIMIT_MS: u64 = 60_000;

/// How much longer a worker may take to refuse a topic of a Kafka cluster.
const KAFKA_REFUSAL_MS: u64 = 30_000;

/// How long the group may take, after the faults, to have all positions, in simulated milliseconds.
const COMMITTED_LIMIT_MS: u64 = 60_000;

/// How often `verify` is run again where replicas may have lost what was acknowledged.
const VERIFIED_AGAIN: u32 = 8;

/// The result of a run. `{}` prints what is needed to find out why it failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What was run.
    pub scenario: Scenario,
    /// What happened in it.
    pub observed: Observed,
    /// Its trace.
    pub trace: trace::Record,
    /// The first violation, if any.
    pub violation: Option<Violation>,
    /// All violations that were kept, in the order in which they were found.
    pub violations: Vec<Violation>,
    /// Its duration in simulated milliseconds.
    pub simulated_ms: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, observed, trace, violation, violations, simulated_ms } = self;
        let (seed, world, profile) = (scenario.seed, scenario.world(), scenario.profile);
        write!(f, "seed {seed} ({world}, {profile}) of commit {COMMIT}")?;
        match violation {
            None => writeln!(f, ": the tables equal the ground truth")?,
            Some(violation) => writeln!(f, " after {simulated_ms} ms: {violation:#?}")?,
        }
        for violation in violations.iter().skip(1) {
            writeln!(f, "also {violation:?}")?;
        }
        writeln!(f, "options: {:#?}", scenario.options)?;
        writeln!(f, "tables: {:#?}", scenario.tables)?;
        writeln!(f, "faults:")?;
        for fault in &scenario.faults {
            writeln!(f, "  {fault}")?;
        }
        write!(f, "observed:\n{observed}")?;
        writeln!(f, "trace: {} events, hash {:016x}", trace.events, trace.hash)
    }
}

/// Runs a scenario.
pub fn run(scenario: Scenario, keep_trace: bool) -> Report {
    run_in_its_world(scenario, keep_trace, Watch::default(), Recorder::default()).report
}

/// Runs a scenario, and watches these cells. Its timeline is recorded on demand.
pub(crate) fn run_watching(scenario: Scenario, cells: Vec<Cell>, record: bool) -> Watched {
    let recorder = if record { Recorder::on() } else { Recorder::default() };
    run_in_its_world(scenario, false, Watch::new(cells), recorder)
}

/// A run, and what was watched and recorded of it.
pub(crate) struct Watched {
    pub report: Report,
    pub lines: Vec<Line>,
    pub timeline: Option<Timeline>,
}

fn run_in_its_world(scenario: Scenario, keep_trace: bool, watch: Watch, recorder: Recorder) -> Watched {
    match scenario.world() {
        World::Simple => run_on::<SimpleLog, SimpleTables>(scenario, keep_trace, watch, recorder),
        World::Cassandra => run_on::<SimpleLog, CassandraTables>(scenario, keep_trace, watch, recorder),
        #[cfg(feature = "full")]
        World::Full => run_on::<KafkaLog, CassandraTables>(scenario, keep_trace, watch, recorder),
        #[cfg(not(feature = "full"))]
        World::Full => {
            panic!("the world full needs the feature `full` of the simulation, on Linux with glibc")
        }
    }
}

fn run_on<L: LogService, T: TablesService>(
    scenario: Scenario,
    keep_trace: bool,
    watch: Watch,
    recorder: Recorder,
) -> Watched {
    let (sender, triggered) = mpsc::unbounded_channel();
    let mut context = SimContext::new(&scenario, keep_trace, sender);
    (context.watch, context.timeline) = (watch, recorder);
    #[cfg(feature = "full")]
    {
        let is_recorded = context.timeline.is_on() && L::HAS_THREADS;
        context.activity = is_recorded.then(crate::service::kafka::Activity::default);
    }
    context.add_lanes();
    let context = Arc::new(context);
    let body = {
        let (context, scenario) = (context.clone(), scenario.clone());
        move || execute::<L, T>(context, scenario, triggered)
    };
    let result = match L::HAS_THREADS {
        false => simulate(scenario.seed, body),
        true => with_threads(&context, body),
    };
    let simulated_ms = match result {
        Ok(simulated_ms) => {
            debug_assert_eq!(Arc::strong_count(&context), 1, "the run leaks a task");
            simulated_ms
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message");
            context.violate(Violation::Panicked { message: text.to_owned() });
            0
        }
    };
    let (observed, trace, violations) = (context.observed(), context.trace.record(), context.violations());
    let report = Report {
        scenario,
        observed,
        trace,
        violation: violations.first().cloned(),
        violations,
        simulated_ms,
    };
    let timeline = context.timeline.recording().map(|recording| recording.timeline());
    Watched { report, lines: context.watch.lines(), timeline }
}

/// Runs a simulation in which C code, and its threads, run.
#[cfg(feature = "full")]
fn with_threads<F: Future<Output = u64>>(
    context: &Arc<SimContext>,
    body: impl FnOnce() -> F + Send,
) -> std::thread::Result<u64> {
    use simulated_threads::Strategy;

    use crate::scenario::kafka::Scheduling;

    let mut options = simulated_threads::Options::default();
    if let Log::Kafka(cluster) = &context.log_options {
        options.strategy = match cluster.scheduling {
            Scheduling::Random => Strategy::Random,
            Scheduling::Priorities { changes, calls } => Strategy::Priorities { changes, calls },
        };
    }
    if context.activity.is_some() {
        let context = Arc::downgrade(context);
        options.observer = Some(Arc::new(move |event| {
            if let Some(context) = context.upgrade()
                && let Some(activity) = &context.activity
            {
                activity.call(event, context.trace.last_event());
            }
        }));
    }
    let played = crate::simulate::simulate_with_threads(context.seed, options, body);
    played.map(|(simulated_ms, figures)| {
        // The trace of a run has its threads, too.
        context.trace.note(format_args!("threads: {} calls, hash {:016x}", figures.calls, figures.trace));
        simulated_ms
    })
}

#[cfg(not(feature = "full"))]
fn with_threads<F: Future<Output = u64>>(
    context: &Arc<SimContext>,
    body: impl FnOnce() -> F + Send,
) -> std::thread::Result<u64> {
    simulate(context.seed, body)
}

impl Report {
    /// True if the run has a violation of this name.
    pub fn has(&self, name: &str) -> bool {
        self.violations.iter().any(|violation| violation.name() == name)
    }
}

async fn execute<L: LogService, T: TablesService>(
    context: Arc<SimContext>,
    scenario: Scenario,
    triggered: mpsc::UnboundedReceiver<Triggered>,
) -> u64 {
    let handle = Handle::current();
    let Scenario { faults, records, .. } = scenario;
    let (before, during): (Vec<Item>, Vec<Item>) = records.into_iter().partition(|item| item.at_ms.is_none());
    let start_log = async { Arc::new(L::start(&context).await) };
    let start_tables = async {
        let services = services(&handle, &context);
        (services, Arc::new(T::start(&context).await))
    };
    let append = |log: Arc<L>| async move { log.append(before).await };
    let (log, appending, (services, tables)) = if context.log_options.is_created_last() {
        let tables = start_tables.await;
        let log = start_log.await;
        // A topic that some brokers do not know yet is bound and read while its first records are appended.
        let appending = match context.options.init_among_faults {
            true => {
                append(log.clone()).await;
                None
            }
            false => Some(tokio::spawn(append(log.clone()))),
        };
        (log, appending, tables)
    } else {
        let log = start_log.await;
        append(log.clone()).await;
        (log, None, start_tables.await)
    };
    let openers = (log.opener(), tables.opener());
    let mut operator = Operator::start(&context, openers.clone());
    let limit = Duration::from_millis(context.options.settle_limit_ms);
    let bound = match context.options.init_among_faults {
        false => operator.binding_within(limit).await,
        true => {
            // What was appended before must be on all replicas: the faults begin at once.
            log.settle().await;
            tables.settle().await;
            None
        }
    };
    let nodes = Nodes { workers: workers(&handle, &context, &openers), services };
    if let Some(binding) = &bound {
        begin(&context, binding, tables.as_ref()).await;
    }
    let services = (log.clone(), tables.clone());
    let injector = Arc::new(Injector::new(context.clone(), nodes.clone(), &faults, services));
    let injecting = tokio::spawn(injector.clone().inject(triggered));
    let producer = tokio::spawn({
        let (context, log) = (context.clone(), log.clone());
        async move {
            if let Some(appending) = appending {
                appending.await.expect("the producer does not panic");
            }
            produce(context, log, during).await;
        }
    });
    let chaos_ends_ms = context.now_ms() + context.options.chaos_ms;
    let binding = match bound {
        Some(binding) => Some(binding),
        None if !context.options.init_among_faults => None,
        None => {
            let binding = operator.binding_among_faults(&context, limit).await;
            if let Some(binding) = &binding {
                begin(&context, binding, tables.as_ref()).await;
            }
            binding
        }
    };
    let checker = match binding {
        Some(binding) => {
            while context.now_ms() < chaos_ends_ms && !context.has_failed() {
                wait_and_judge(&context).await;
            }
            injector.heal().await;
            // All records have been appended by now; this only checks that the producer did not fail.
            let produced =
                timeout(limit, producer).await.expect("all records are appended soon after the faults");
            produced.expect("the producer does not panic");
            let checker = Checker::new(context.history.clone(), tables.store().await, binding);
            drain_and_judge(&context, &checker, (log.as_ref(), tables.as_ref()), &injector).await;
            Some(checker)
        }
        None => {
            context.violate(Violation::Stuck { partitions: BTreeMap::new() });
            producer.abort();
            injector.heal().await;
            injector.end_all();
            None
        }
    };

    // Nobody writes any more. Idle clients, and their log, would only take time.
    operator.end();
    nodes.workers.into_iter().for_each(|node| handle.kill(node));
    log.shut_down();
    if let Some(checker) = checker.filter(|_| !context.damage().done) {
        judge_parts(&context, &checker, tables.as_ref()).await;
    }
    let simulated_ms = context.now_ms();
    nodes.services.into_values().for_each(|node| handle.kill(node));
    tables.shut_down();
    injecting.abort();
    // Time for the tasks of the killed nodes to be dropped.
    sleep(Duration::from_secs(5)).await;
    simulated_ms
}

/// The tables are bound: workers begin, and oracles look.
async fn begin<T: TablesService>(context: &SimContext, binding: &Binding, tables: &T) {
    context.set_oracles(Oracles::new(truth_so_far(context, binding).await, tables.replicas()));
    context.bound.send_replace(true);
}

/// After the faults: waits until the workers have drained the log, and judges what is in the tables then.
async fn drain_and_judge<L: LogService, T: TablesService>(
    context: &SimContext,
    checker: &Checker<T::Store>,
    (log, tables): (&L, &T),
    injector: &Injector<L, T>,
) {
    log.settle().await;
    tables.settle().await;
    drain(context, checker).await;
    injector.end_all();
    if context.damage().done {
        judge_damage(context, checker, log, tables.store().await).await;
    } else {
        judge_tables(context, checker, tables).await;
        log.judge().await;
        if L::HAS_COMMITTED_POSITIONS {
            judge_membership(context, log).await;
            judge_committed(context).await;
        }
    }
}

/// Waits until each worker is a member of its group again: the others have drained the log without one that is not.
async fn judge_membership<L: LogService>(context: &SimContext, log: &L) {
    let outside = || context.members().outside(&log.members()?);
    violates_no_more(context, REJOINS_WITHIN_MS, || Some(Violation::OutsideGroup { worker: outside()? }))
        .await;
}

/// Waits until something is no violation any more; after so long it is one.
async fn violates_no_more(context: &SimContext, limit_ms: u64, look: impl Fn() -> Option<Violation>) {
    let give_up_ms = context.now_ms() + limit_ms;
    while !context.has_failed() {
        let Some(violation) = look() else { return };
        if context.now_ms() >= give_up_ms {
            return context.violate(violation);
        }
        wait_and_judge(context).await;
    }
}

/// Waits until the workers have drained the log, as long as progress moves often enough. With damage it is enough that all of
/// them refuse to.
async fn drain<S: Store>(context: &SimContext, checker: &Checker<S>) {
    let limit_ms = match context.damage().done {
        true => DAMAGED_LIMIT_MS.min(context.options.settle_limit_ms),
        false => context.options.settle_limit_ms,
    };
    let mut progress = context.all_acknowledged_progress();
    let mut give_up_ms = context.now_ms() + limit_ms;
    let have_refused = || context.damage().refused.len() >= usize::from(context.options.workers);
    while !context.has_failed() && !have_refused() && !has_drained(context, checker).await {
        wait_and_judge(context).await;
        let moved = context.all_acknowledged_progress();
        if moved != progress {
            (progress, give_up_ms) = (moved, context.now_ms() + limit_ms);
        }
        if context.now_ms() >= give_up_ms {
            return context.violate(Violation::Stuck { partitions: checker.positions().await });
        }
    }
    context.note(format_args!("drained"));
    context.record(|recording| recording.moment(None, "the log is drained"));
}

/// Whether the workers have drained the log, and know it. Progress that was not acknowledged may be read and then not be read any
/// more, if reads do not repair.
async fn has_drained<S: Store>(context: &SimContext, checker: &Checker<S>) -> bool {
    let positions = checker.positions().await;
    let is_at_end = |(partition, (stored, end)): (&i32, &(Option<i64>, i64))| {
        let acknowledged = context.acknowledged_progress(*partition).unwrap_or(0);
        stored.unwrap_or(0) >= *end && (acknowledged >= *end || context.damage().done)
    };
    positions.iter().all(is_at_end)
}

/// Compares the tables with the ground truth, and again when delayed requests are applied.
async fn judge_tables<T: TablesService>(context: &SimContext, checker: &Checker<T::Store>, tables: &T) {
    let version = tables.version();
    check_at_end(context, checker).await;
    wait_and_judge(context).await;
    tables.settle().await;
    // Delayed requests are applied now, and must change nothing.
    tables.caught_up().await;
    if version.is_none() || tables.version() != version {
        check_at_end(context, checker).await;
    }
}

/// Compares the tables with the ground truth without each part of the service that may be lost, and the replicas with each
/// other.
async fn judge_parts<T: TablesService>(context: &SimContext, checker: &Checker<T::Store>, tables: &T) {
    for part in 0.. {
        if context.has_failed() {
            break;
        }
        let Some(store) = tables.store_without(part).await else { break };
        check_at_end(context, &checker.of(store)).await;
    }
    if !context.has_failed() {
        tables.repair().await.into_iter().for_each(|violation| context.violate(violation));
    }
}

/// Waits until the group has all positions, as dashboards would show them.
async fn judge_committed(context: &SimContext) {
    let behind = || context.members().behind(&context.all_acknowledged_progress());
    violates_no_more(context, COMMITTED_LIMIT_MS, behind).await;
}

/// Waits until all workers have refused a topic that they must not read any more, as long as the next check may take.
async fn await_refusals(context: &SimContext) {
    let Some(reason) = context.damage().refusable else { return };
    let RunOptions { pipeline, request_timeout_ms, .. } = &context.options;
    let limit = pipeline.topic_check_interval + pipeline.backoff_max + context.options.longest_stop();
    let of_log = match context.log_options {
        Log::Simple => 4 * request_timeout_ms,
        // A client may wait for a connection, for a request, and for its retry.
        Log::Kafka(_) => KAFKA_REFUSAL_MS,
    };
    let limit_ms = limit.as_millis() as u64 + of_log;
    let give_up_ms = context.now_ms() + limit_ms;
    while !context.has_failed() {
        let refused: BTreeSet<u8> = context.damage().refused.keys().copied().collect();
        let Some(worker) = (0..context.options.workers).find(|worker| !refused.contains(worker)) else {
            return;
        };
        if context.now_ms() >= give_up_ms {
            let difference =
                format!("worker {worker} has not ended {limit_ms} ms after the faults, although {reason}");
            return context.violate(Violation::NotRefused { difference });
        }
        wait_and_judge(context).await;
    }
}

/// Waits until a worker has refused a log that ends below progress: only its consumer notices that.
async fn await_refusal_of_end<L: LogService>(context: &SimContext, log: &L) {
    let ends_below = || {
        let below =
            |(partition, progress): &(i32, i64)| log.end_of(*partition).is_some_and(|end| end < *progress);
        let (partition, progress) = context.all_acknowledged_progress().into_iter().find(below)?;
        let difference = format!("no worker refuses partition {partition}, whose log ends below {progress}");
        context.damage().refused.is_empty().then_some(Violation::NotRefused { difference })
    };
    violates_no_more(context, DAMAGED_LIMIT_MS, ends_below).await;
}

/// Judges a run with damage that no client can survive.
async fn judge_damage<L: LogService, S: Store>(
    context: &SimContext,
    checker: &Checker<S>,
    log: &L,
    store: S,
) {
    await_refusals(context).await;
    await_refusal_of_end(context, log).await;
    let spec = &context.options.pipeline.binding_spec;
    let is_synced = matches!(&context.tables_options, Tables::Cassandra(cluster) if cluster.synced_first);
    let may_differ = |fault: &Fault| match fault.name() {
        KindName::DiskWiped => true,
        KindName::PowerLost => !is_synced,
        _ => false,
    };
    let may_differ = context.planned_faults.iter().any(may_differ);
    let is_refused = !context.damage().refused.is_empty();
    let mut differences = checker.check_tables().await;
    // Which replicas a read asks decides whether it sees what one of them has lost.
    let mut again = if may_differ && !differences.is_empty() { VERIFIED_AGAIN } else { 0 };
    let verified = loop {
        let verified = log.verify(store.clone(), spec.clone()).await;
        if again == 0 || !verified.as_ref().is_ok_and(verify::Report::is_clean) {
            break verified;
        }
        again -= 1;
    };
    if may_differ && verified.as_ref().is_ok_and(verify::Report::is_clean) {
        // Its reads may have repaired what the reads before did not see.
        differences = checker.check_tables().await;
    }
    let outcome = outcome::Outcome { is_refused, differences, may_differ, verified };
    context.note(format_args!("damage: {:?}, verify: {:?}", outcome.is_refused, outcome.verified));
    match outcome::judge(&outcome) {
        Ok(situation) => context.observe(situation),
        Err(violation) => context.violate(violation),
    }
}

/// Waits, and asks the oracles that look regularly.
async fn wait_and_judge(context: &SimContext) {
    sleep(Duration::from_millis(CHECK_INTERVAL_MS)).await;
    context.follow_log();
    context.judge(Oracles::tick);
}

/// Compares the tables, unless the workers could not drain the log.
async fn check_at_end<S: Store>(context: &SimContext, checker: &Checker<S>) {
    if !context.has_failed() {
        checker.check_tables().await.into_iter().for_each(|violation| context.violate(violation));
    }
}

/// What is true of the records that were appended before the workers start.
async fn truth_so_far(context: &SimContext, binding: &Binding) -> Truth {
    context.follow_log();
    let mut truth = Truth::new(binding.clone());
    for partition in 0..context.history.topic(TOPIC).await.expect(EXPECTED).partitions {
        let start = context.history.offsets(TOPIC, partition).await.expect(EXPECTED).start;
        let fetched = context.history.fetch(TOPIC, partition, start, usize::MAX, usize::MAX).await;
        fetched.expect(EXPECTED).records.into_iter().for_each(|record| truth.add(record));
    }
    truth
}

const EXPECTED: &str = "the in-memory log accepts every well-formed request";

async fn produce<L: LogService>(context: Arc<SimContext>, log: Arc<L>, items: Vec<Item>) {
    let began_ms = context.now_ms();
    for item in items {
        let due_ms = began_ms + item.at_ms.unwrap_or(0);
        let now_ms = context.now_ms();
        if due_ms > now_ms {
            sleep(Duration::from_millis(due_ms - now_ms)).await;
        }
        log.append(vec![item]).await;
    }
}

// The simulator keeps a node's start function forever, even after the run. So it holds only a weak reference to the
// context, or every seed of a long campaign would leak its log and tables.
fn services(handle: &Handle, context: &Arc<SimContext>) -> BTreeMap<Service, madsim::task::NodeId> {
    let node = |service: Service| {
        let context = Arc::downgrade(context);
        let node = handle.create_node().name(format!("{service:?}")).ip(service.ip());
        let node = node.init(move || {
            let context = context.clone();
            async move {
                let Some(context) = context.upgrade() else { return };
                context.note(format_args!("{service:?} starts"));
                context.record(|recording| recording.process_starts(Host::Service(service), "process"));
                match service {
                    Service::Store => simple_store::serve(context).await,
                    Service::Log => simple_log::serve_log(context).await,
                    Service::Coordinator => simple_log::serve_group(context).await,
                }
            }
        });
        (service, node.build().id())
    };
    let is_needed = |service: &Service| match service {
        Service::Store => matches!(context.tables_options, Tables::Simple),
        Service::Log | Service::Coordinator => matches!(context.log_options, Log::Simple),
    };
    Service::ALL.into_iter().filter(is_needed).map(node).collect()
}

fn workers<L: BrokerOpener, T: Opener>(
    handle: &Handle,
    context: &Arc<SimContext>,
    openers: &(L, T),
) -> Vec<madsim::task::NodeId> {
    let known = context;
    let node = |index: u8| {
        let (context, lives) = (Arc::downgrade(context), Arc::new(AtomicU32::new(0)));
        let ip = worker_ip(index);
        let node = handle.create_node().name(format!("worker {index}")).ip(ip);
        let openers = openers.clone();
        let work = move || {
            let (context, openers, lives) = (context.clone(), openers.clone(), lives.clone());
            async move {
                if let Some(context) = context.upgrade() {
                    worker::work(context, openers, index, lives).await;
                }
            }
        };
        let node = node.init(work).build().id();
        #[cfg(feature = "full")]
        if let Some(activity) = &known.activity {
            activity.add_worker(node, index);
        }
        Network::current().plug_in(node, ip);
        node
    };
    (0..context.options.workers).map(node).collect()
}
