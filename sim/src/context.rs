//! The state that all nodes of a run share: durable data, the trace, and the active faults.
//!
//! None of it belongs to a node, so a node's crash loses none of it. Volatile state is kept in the node's own tasks.

mod faults;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use exactlyonce::broker::memory::MemoryBroker;
use exactlyonce::broker::{Broker, LogOffsets};
use exactlyonce::event::Record;
use exactlyonce::store::memory::MemoryStore;
use futures_util::FutureExt;
use madsim::time::TimeHandle;
use tokio::sync::{Notify, mpsc, watch};

use crate::links::Links;
use crate::observed::{Ending, Observed, Sometimes};
use crate::oracle::cell::Cell;
use crate::oracle::members::Members;
use crate::oracle::{Oracles, Violation};
use crate::parties::{Caller, Service};
use crate::random::{Random, Stream};
use crate::scenario::fault::{Fault, Kind, KindName, Step};
use crate::scenario::options::{RunOptions, TOPIC};
use crate::scenario::{Log, Scenario, Tables};
use crate::service::simple_log::group::Group;
use crate::timeline::{Party, Recorder, Recording, Touched};
use crate::trace::Trace;
use crate::watch::Watch;

pub(crate) use faults::ActiveFault;
use faults::FaultState;

/// Violations of a kind that are kept.
const VIOLATIONS_OF_A_KIND: usize = 5;

/// A log elsewhere, which the run's own logs follow.
pub(crate) trait LogSource: Send + Sync {
    /// Brings `log` and `history` up to date, without any wait.
    fn follow(&self, context: &SimContext);

    /// Deletes the records of a partition below an offset, as retention does.
    fn delete_below(&self, partition: i32, offset: i64);
}

/// A fault whose point was reached by this worker.
pub(crate) type Triggered = (u64, Caller);

pub(crate) struct SimContext {
    pub seed: u64,
    pub options: RunOptions,
    pub tables_options: Tables,
    pub log_options: Log,
    /// The faults of the scenario.
    pub planned_faults: Vec<Fault>,
    pub trace: Trace,
    /// The cells that are watched, to explain a run.
    pub watch: Watch,
    /// The timeline, if it is recorded.
    pub timeline: Recorder,
    /// What the threads of clients do, if it is recorded.
    #[cfg(feature = "full")]
    pub activity: Option<crate::service::kafka::Activity>,
    /// The simple store's tables.
    pub tables: MemoryStore,
    /// The log.
    pub log: MemoryBroker,
    /// The same with all records, also those that retention deleted: for the checker.
    pub history: MemoryBroker,
    /// The log that `log` and `history` follow, if they are not the log themselves.
    source: OnceLock<Box<dyn LogSource>>,
    /// To the simple services.
    pub links: Links,
    group: Mutex<Group>,
    members: Mutex<Members>,
    faults: Mutex<FaultState>,
    /// By service, and for each of them by worker, then the operator.
    random: Vec<Mutex<Random>>,
    observed: Mutex<Observed>,
    violations: Mutex<Vec<Violation>>,
    damage: Mutex<Damage>,
    /// Notified of each effect of a fault, and when all faults end.
    effects: Notify,
    /// Notified when a worker passes a point that another one is held until.
    passed: Notify,
    requests: Mutex<u64>,
    /// Rows that the simple store has written.
    applied: AtomicU64,
    /// For each partition, the greatest offset whose row was acknowledged.
    written: Mutex<BTreeMap<i32, i64>>,
    /// For each partition, how many writes are in flight.
    writing: Mutex<BTreeMap<i32, u32>>,
    /// For each partition, the greatest progress that was acknowledged.
    progress: Mutex<BTreeMap<i32, i64>>,
    /// What looks at the tables while the run goes on, from the binding on.
    oracles: OnceLock<Oracles>,
    /// Whether the tables are bound: workers wait for it.
    pub bound: watch::Sender<bool>,
    /// For each worker, whether it should stop.
    pub stops: Vec<watch::Sender<bool>>,
    triggered: mpsc::UnboundedSender<Triggered>,
}

/// Damage that no client can survive, and who noticed it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Damage {
    /// It was done.
    pub done: bool,
    /// The workers that refused to continue, with their errors.
    pub refused: BTreeMap<u8, String>,
    /// The workers that run with another binding than the tables'.
    pub misconfigured: BTreeSet<u8>,
    /// Records were deleted that are not processed.
    pub trimmed: bool,
    /// Every copy of the log's end may be lost.
    pub logs_may_shrink: bool,
    /// Nothing is appended any more: what was cut off is not written again.
    pub appends_end: bool,
    /// What every worker must refuse, because it checks its topic when it begins and regularly.
    pub refusable: Option<&'static str>,
    /// A broker may still respond as if there were no reason to refuse: a worker that begins may ask that one.
    pub is_hidden: bool,
    /// The partitions whose leader may have begun without committed records, with the least end of such a log. That is damage
    /// only if consumers could read the records.
    pub began_at: BTreeMap<i32, i64>,
    /// The partitions whose end was cut off, with the offset of the first record that is gone and the progress then.
    pub truncated: BTreeMap<i32, (i64, i64)>,
    /// By partition, the records that are gone, as long as none has been replaced: a later leader may have them again.
    gone: BTreeMap<i32, VecDeque<Record>>,
}

impl Damage {
    /// The end of a partition was cut off: these records are gone.
    fn cut_off(&mut self, partition: i32, records: Vec<Record>, progress: i64) {
        let gone = self.gone.entry(partition).or_default();
        records.into_iter().rev().for_each(|record| gone.push_front(record));
        let first = gone.front().map(|first| first.offset);
        self.truncated.extend(first.map(|first| (partition, (first, progress))));
    }

    /// A record is there: nothing is gone any more, if all are there again.
    fn is_there(&mut self, record: &Record) {
        let Record { partition, offset, .. } = record;
        let Some(gone) = self.gone.get_mut(partition) else { return };
        match gone.front() {
            Some(first) if first == record => _ = gone.pop_front(),
            Some(first) if first.offset <= *offset => return gone.clear(),
            _ => return,
        }
        match (gone.front(), self.truncated.get_mut(partition)) {
            (Some(next), Some((first, _))) => *first = next.offset,
            _ => _ = self.truncated.remove(partition),
        }
    }
}

/// The beginning of a record's value, for a reader.
struct Beginning<'a>(Option<&'a [u8]>);

impl Beginning<'_> {
    /// The source, if it looks like an event.
    fn source(&self) -> Option<String> {
        let value: serde_json::Value = serde_json::from_slice(self.0?).ok()?;
        Some(value.get("source")?.as_str()?.to_owned())
    }
}

impl fmt::Display for Beginning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.map(String::from_utf8_lossy).unwrap_or_default();
        text.chars().take(120).try_for_each(|character| write!(f, "{character}"))
    }
}

/// A write in flight.
pub(crate) struct Writing<'a> {
    context: &'a SimContext,
    partition: i32,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if let Some(number) = lock(&self.context.writing).get_mut(&self.partition) {
            *number -= 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimContext {
    pub fn new(scenario: &Scenario, keep_trace: bool, triggered: mpsc::UnboundedSender<Triggered>) -> Self {
        let (seed, options) = (scenario.seed, scenario.options.clone());
        let mut observed = Observed::default();
        observed.plan(&scenario.faults);
        Self {
            seed,
            trace: Trace::new(keep_trace),
            watch: Watch::default(),
            timeline: Recorder::default(),
            #[cfg(feature = "full")]
            activity: None,
            tables: MemoryStore::with_layout(options.layout),
            log: MemoryBroker::new(options.fetch_records as usize),
            history: MemoryBroker::new(options.fetch_records as usize),
            source: OnceLock::new(),
            links: Links::default(),
            group: Mutex::new(Group::new(&options)),
            members: Mutex::default(),
            faults: Mutex::default(),
            random: Service::ALL
                .into_iter()
                .flat_map(|service| {
                    let clients = (0..options.workers).map(Some).chain([None]);
                    clients.map(move |worker| {
                        Mutex::new(Random::new(seed, Stream::ServiceLink { service, worker }))
                    })
                })
                .collect(),
            observed: Mutex::new(observed),
            violations: Mutex::default(),
            damage: Mutex::default(),
            effects: Notify::new(),
            passed: Notify::new(),
            requests: Mutex::default(),
            applied: AtomicU64::new(0),
            written: Mutex::default(),
            writing: Mutex::default(),
            progress: Mutex::default(),
            oracles: OnceLock::new(),
            bound: watch::Sender::new(false),
            stops: (0..options.workers).map(|_| watch::Sender::new(false)).collect(),
            triggered,
            tables_options: scenario.tables.clone(),
            log_options: scenario.log.clone(),
            planned_faults: scenario.faults.clone(),
            options,
        }
    }

    #[track_caller]
    pub fn note(&self, event: fmt::Arguments<'_>) {
        self.trace.note(event);
    }

    /// Notes what a fault does, or what becomes of a worker: an explanation shows it, too.
    #[track_caller]
    pub fn note_event(&self, event: fmt::Arguments<'_>) {
        self.note(event);
        if !self.watch.is_off() {
            self.watch.add(event, false);
        }
    }

    /// Records something in the timeline, if there is one. What is noted in the trace is noted before.
    pub fn record<T>(&self, record: impl FnOnce(&mut Recording) -> T) -> Option<T> {
        let mut recording = self.timeline.recording()?;
        // A panic is recorded when the simulation has ended.
        if let Some(time) = TimeHandle::try_current() {
            recording.set_now(time.elapsed().as_micros() as u64, self.trace.last_event());
        }
        Some(record(&mut recording))
    }

    pub fn observe(&self, situation: Sometimes) {
        lock(&self.observed).add(situation);
    }

    /// A request of a step ended.
    pub fn ended(&self, step: Step, ending: Ending) {
        lock(&self.observed).ended(step, ending);
    }

    /// A fault had an effect.
    pub fn effect(&self, fault: &Fault) {
        let name = fault.name();
        if name.is_damage() && name != KindName::WorkerMisconfigured {
            self.damage().done = true;
        }
        if self.is_planned(fault.id) {
            lock(&self.observed).effect(fault);
        }
        self.effects.notify_waiters();
    }

    /// Waits until a fault has had an effect, or all faults have ended.
    pub async fn wait_for_effect(&self, id: u64) {
        loop {
            let effect = self.effects.notified();
            if self.had_effect(id) || self.faults_have_ended() {
                return;
            }
            effect.await;
        }
    }

    /// True if a fault has had an effect.
    pub fn had_effect(&self, id: u64) -> bool {
        lock(&self.observed).had_effect(id)
    }

    pub fn observed(&self) -> Observed {
        lock(&self.observed).clone()
    }

    /// Records a violation. Of each kind some are kept.
    pub fn violate(&self, violation: Violation) {
        self.note_event(format_args!("VIOLATION {violation:?}"));
        // What the damage has changed is judged at the end.
        if self.damage().done && violation.is_of_data() {
            return;
        }
        let mut violations = lock(&self.violations);
        let same = violations.iter().filter(|other| other.name() == violation.name()).count();
        if same < VIOLATIONS_OF_A_KIND && !violations.contains(&violation) {
            self.record(|recording| recording.violation(&violation));
            violations.push(violation);
        }
    }

    /// The violations, in the order in which they were found.
    pub fn violations(&self) -> Vec<Violation> {
        lock(&self.violations).clone()
    }

    pub fn damage(&self) -> MutexGuard<'_, Damage> {
        lock(&self.damage)
    }

    /// A worker refuses to continue. If that is right, it is noted, otherwise a violation.
    pub fn refused(&self, worker: u8, error: String) {
        let is_right = {
            let mut damage = lock(&self.damage);
            let is_right = damage.done || damage.misconfigured.contains(&worker);
            if is_right {
                damage.refused.insert(worker, error.clone());
            }
            is_right
        };
        match is_right {
            true => self.observe(Sometimes::WorkerRefused),
            false => self.violate(Violation::Refused { worker, error }),
        }
    }

    /// True if the run cannot go on.
    pub fn has_failed(&self) -> bool {
        lock(&self.violations).iter().any(Violation::ends_the_run)
    }

    /// Random numbers for what a service and one of its clients may do at any time.
    pub fn random(&self, service: Service, client: Caller) -> MutexGuard<'_, Random> {
        let workers = usize::from(self.options.workers);
        let client = client.worker.map_or(workers, usize::from);
        lock(&self.random[service as usize * (workers + 1) + client])
    }

    pub fn group(&self) -> MutexGuard<'_, Group> {
        lock(&self.group)
    }

    /// What the workers' processes hold, as members of a group of Kafka.
    pub fn members(&self) -> MutexGuard<'_, Members> {
        lock(&self.members)
    }

    pub fn now_ms(&self) -> u64 {
        TimeHandle::current().elapsed().as_millis() as u64
    }

    pub fn next_request(&self) -> u64 {
        let mut requests = lock(&self.requests);
        *requests += 1;
        *requests
    }

    /// The simple store has written a row.
    pub fn applied(&self) {
        self.applied.fetch_add(1, Ordering::Relaxed);
    }

    /// How many rows the simple store has written.
    pub fn rows_applied(&self) -> u64 {
        self.applied.load(Ordering::Relaxed)
    }

    /// A write of a partition is in flight as long as the result lives.
    pub fn writes(&self, partition: i32) -> Writing<'_> {
        *lock(&self.writing).entry(partition).or_default() += 1;
        Writing { context: self, partition }
    }

    /// True if a write of a partition is in flight.
    pub fn is_writing(&self, partition: i32) -> bool {
        lock(&self.writing).get(&partition).is_some_and(|number| *number > 0)
    }

    /// True if a write of any partition is in flight.
    pub fn writes_in_flight(&self) -> bool {
        lock(&self.writing).values().any(|number| *number > 0)
    }

    /// A row at this offset was acknowledged.
    pub fn wrote(&self, partition: i32, offset: i64) {
        let mut written = lock(&self.written);
        let greatest = written.entry(partition).or_insert(offset);
        *greatest = (*greatest).max(offset);
    }

    /// True if a row at this offset, or after it, was acknowledged.
    pub fn was_written(&self, partition: i32, offset: i64) -> bool {
        lock(&self.written).get(&partition).is_some_and(|greatest| *greatest >= offset)
    }

    /// Progress was acknowledged.
    pub fn advanced(&self, partition: i32, next_offset: i64) {
        let mut progress = lock(&self.progress);
        let greatest = progress.entry(partition).or_insert(next_offset);
        *greatest = (*greatest).max(next_offset);
        drop(progress);
        self.delete_processed(partition, || {
            let mut retention_runs = false;
            self.apply_faults(|active| {
                let is_retention = active.fault.kind == Kind::LogTrimmed;
                retention_runs |= is_retention;
                is_retention
            });
            retention_runs
        });
    }

    /// Deletes the records of a partition below its acknowledged progress, as retention may. False if there are none, or, which
    /// is asked only if there are some, it is not due.
    pub fn delete_processed(&self, partition: i32, is_due: impl FnOnce() -> bool) -> bool {
        let Some(progress) = self.acknowledged_progress(partition) else { return false };
        let is_deleted = self.log_offsets(partition).is_some_and(|log| log.start < progress) && is_due();
        if is_deleted {
            self.delete_below(partition, progress);
            self.observe(Sometimes::LogTrimmedWhileRunning);
        }
        is_deleted
    }

    /// Deletes the records of all partitions below their acknowledged progress; false if there are none.
    pub fn trim(&self) -> bool {
        self.follow_log();
        let topic = self.log.topic(TOPIC).now_or_never().and_then(Result::ok);
        let partitions = 0..topic.map_or(0, |topic| topic.partitions);
        let trimmed = partitions.filter(|partition| self.delete_processed(*partition, || true));
        trimmed.count() > 0
    }

    /// The greatest progress of each partition that was acknowledged.
    pub fn all_acknowledged_progress(&self) -> BTreeMap<i32, i64> {
        lock(&self.progress).clone()
    }

    /// The greatest progress of a partition that was acknowledged.
    pub fn acknowledged_progress(&self, partition: i32) -> Option<i64> {
        lock(&self.progress).get(&partition).copied()
    }

    /// From now on the oracles look at the tables. They must hold nothing that holds this.
    pub fn set_oracles(&self, oracles: Oracles) {
        // Called once, after the tables are bound.
        let _ = self.oracles.set(oracles);
    }

    pub fn oracles(&self) -> Option<&Oracles> {
        self.oracles.get()
    }

    /// Asks the oracles, if they look already.
    pub fn judge(&self, ask: impl FnOnce(&Oracles) -> Vec<Violation>) {
        let violations = self.oracles.get().map(ask).unwrap_or_default();
        violations.into_iter().for_each(|violation| self.violate(violation));
    }

    /// From now on the run's own logs follow this one.
    pub fn set_log_source(&self, source: Box<dyn LogSource>) {
        // Called once, when the log has started.
        let _ = self.source.set(source);
    }

    /// Brings the run's own logs up to date with the one that they follow.
    pub fn follow_log(&self) {
        if let Some(source) = self.source.get() {
            source.follow(self);
        }
    }

    /// Deletes the records of a partition below an offset.
    pub fn delete_below(&self, partition: i32, offset: i64) {
        if let Some(source) = self.source.get() {
            source.delete_below(partition, offset);
        }
        self.log.delete_below(TOPIC, partition, offset);
    }

    /// A record is in the log from now on: the timeline and the oracles learn of it.
    pub fn appended(&self, record: Record) {
        let Some(oracles) = self.oracles() else { return };
        self.damage().is_there(&record);
        let Record { partition, offset, .. } = record;
        let cells = [false, true].map(|is_dead_letter| Cell::Row { partition, offset, is_dead_letter });
        let shown = Beginning(record.value.as_deref());
        if let Some(cell) = cells.iter().find(|cell| self.watch.has(cell)) {
            let touched = Touched::new(&"the producer", Party::Outside, "appends the record of the");
            self.touch(cell, None, &shown, Touched { can_look: false, ..touched });
        }
        self.record(|recording| {
            let source = shown.source();
            recording.appended(Service::Log.into(), partition, offset, source.as_deref(), shown.to_string());
        });
        oracles.appended(record);
    }

    /// The end of a partition's log is cut off at an offset, in the run's own logs; false if it is not above.
    pub fn truncated(&self, partition: i32, end: i64) -> bool {
        let Some(before) = self.known_offsets(partition).map(|log| log.end).filter(|before| end < *before)
        else {
            return false;
        };
        self.log.truncate(TOPIC, partition, end);
        self.history.truncate(TOPIC, partition, end);
        if let Some(oracles) = self.oracles() {
            let mut truth = oracles.truth();
            let offsets: Vec<i64> = truth.rows(partition, end, before).map(|(offset, _)| offset).collect();
            let record = |offset| truth.record(partition, offset).map(|(record, _)| record.clone());
            let gone = offsets.into_iter().filter_map(record).collect();
            // Rows below progress are those of records that are gone.
            let progress = self.acknowledged_progress(partition).unwrap_or(0);
            self.damage().cut_off(partition, gone, progress);
            truth.truncate(partition, end);
        }
        true
    }

    /// The log's start and end, whether readers see it or not.
    pub fn log_offsets(&self, partition: i32) -> Option<LogOffsets> {
        self.follow_log();
        self.known_offsets(partition)
    }

    /// The same, as far as the run's own log has followed.
    pub fn known_offsets(&self, partition: i32) -> Option<LogOffsets> {
        self.log.offsets(TOPIC, partition).now_or_never()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::truth::tests::event;

    #[test]
    fn records_that_are_there_again_are_not_gone() {
        let cut_off = || {
            let mut damage = Damage::default();
            damage.cut_off(0, vec![event(0, 5, 1), event(0, 7, 2)], 9);
            damage
        };
        let mut damage = cut_off();
        assert_eq!(damage.truncated[&0], (5, 9));
        damage.is_there(&event(0, 5, 1));
        assert_eq!(damage.truncated[&0], (7, 9));
        damage.cut_off(0, vec![event(0, 5, 1)], 9);
        assert_eq!(damage.truncated[&0], (5, 9), "again");
        damage.is_there(&event(0, 5, 1));
        damage.is_there(&event(0, 7, 2));
        assert_eq!(damage.truncated.get(&0), None);
        for other in [event(0, 5, 3), event(0, 6, 1)] {
            let mut damage = cut_off();
            damage.is_there(&other);
            damage.is_there(&event(0, 5, 1));
            damage.is_there(&event(0, 7, 2));
            assert_eq!(damage.truncated[&0], (5, 9), "another one is in its place: {other:?}");
        }
        let mut damage = cut_off();
        damage.is_there(&event(1, 5, 3));
        damage.is_there(&event(0, 3, 3));
        damage.is_there(&event(0, 5, 1));
        assert_eq!(damage.truncated[&0], (7, 9));
    }
}
