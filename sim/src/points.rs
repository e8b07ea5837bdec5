//! Raises the points of the protocol around whatever broker and store a worker opened, and observes its calls.

mod broker;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exactlyonce::broker::{Assignment, LogOffsets};
use exactlyonce::event::{Record, Row};
use exactlyonce::store::{Alert, Count, Outcome, WindowKey};

use crate::context::SimContext;
use crate::observed::Sometimes;
use crate::oracle::cell::{Cell, Seen, Value};
use crate::oracle::delivery::Delivered;
use crate::oracle::{Position, Violation, memory, refusal, registry};
use crate::parties::Caller;
use crate::scenario::Log;
use crate::scenario::fault::{KindName, Moment, Point, Sabotage, Step};
use crate::timeline::{Call, Described, Kind, Touched};

pub(crate) use broker::ObservedBroker;
pub(crate) use store::ObservedStore;

/// A process of a worker.
#[derive(Clone)]
pub(crate) struct Process {
    context: Arc<SimContext>,
    caller: Caller,
    state: Arc<Mutex<State>>,
    /// How many bytes of records it may hold of a partition.
    memory_limit: memory::Limit,
    /// Why it must refuse to start any partition, if there is a reason since it began.
    must_refuse: Option<&'static str>,
}

/// What this process has done so far.
#[derive(Default)]
struct State {
    /// By partition.
    partitions: BTreeMap<i32, OfPartition>,
    delivered: Delivered,
    /// The partitions that its group has given it.
    owned: BTreeSet<i32>,
    /// The greatest end of a window that it wrote an alert for, by source.
    alerts: BTreeMap<Arc<str>, i64>,
}

/// What a process has done with a partition since it was assigned to it.
#[derive(Default)]
struct OfPartition {
    /// The windows that it wrote.
    written: BTreeSet<WindowKey>,
    /// Calls that write rows, and calls that write counts, that are in flight.
    writing_rows: u32,
    writing_counts: u32,
    /// Bytes of counts in these calls.
    counts_bytes: usize,
    /// What was cut off from the log before its progress was read: the first record that is gone, and the progress
    /// then.
    truncated: Option<(i64, i64)>,
    /// The log at that time.
    log: Option<LogOffsets>,
    /// The acknowledged counts after which the registry was not read yet.
    unread: registry::Unread,
    /// The progress that was read, or written and acknowledged.
    durable: Option<i64>,
    /// The greatest offset of acknowledged rows, and of acknowledged counts.
    rows_to: Option<i64>,
    counts_to: Option<i64>,
}

/// What a count in flight costs in memory in addition to its source's name, at least.
const COUNT_BYTES: usize = 64;

impl Process {
    pub fn new(context: Arc<SimContext>, caller: Caller) -> Self {
        let memory_limit = memory::Limit::of(&context.options, &context.log_options);
        let must_refuse = {
            let damage = context.damage();
            let is_misconfigured = caller.worker.is_some_and(|worker| damage.misconfigured.contains(&worker));
            let known = damage.refusable.filter(|_| !damage.is_hidden);
            known.or(is_misconfigured.then_some("the tables are bound to another threshold"))
        };
        Self { context, caller, state: Arc::default(), memory_limit, must_refuse }
    }

    /// It starts a partition at an offset. The violation if damage was done that it must have noticed before.
    fn starting(&self, partition: i32, offset: i64) -> Option<Violation> {
        let Self { context, must_refuse: reason, .. } = self;
        let seen = context.oracles().map(|oracles| oracles.see(&Cell::Progress(partition)));
        let lags = context.planned_faults.iter().any(|fault| fault.name() == KindName::LogEndLags);
        let (truncated, log) = self.of(partition, |of| (of.truncated, of.log));
        // Retention may have deleted what was to be compared since.
        let start_now = context.log_offsets(partition).map_or(0, |log| log.start);
        let log = log.map(|log| LogOffsets { start: log.start.max(start_now), ..log });
        refusal::starting(&refusal::Start {
            partition,
            offset,
            reason: *reason,
            truncated,
            log: log.filter(|_| !lags),
            trimmed: context.damage().trimmed,
            seen: &seen.unwrap_or_default(),
        })
    }

    /// A point is reached, of a partition if it has one.
    async fn reached(&self, step: Step, moment: Moment, partition: Option<i32>) {
        let killed = || {
            let between = |of: &mut OfPartition| (of.rows_to > of.counts_to, of.counts_to > of.rows_to);
            match partition.map(|partition| self.of(partition, between)) {
                Some((true, _)) => self.context.observe(Sometimes::CrashBetweenRowsAndCounts),
                Some((_, true)) => self.context.observe(Sometimes::CrashBetweenCountsAndRows),
                _ => {}
            }
        };
        self.context.reached(Point { step, moment }, partition, self.caller, killed).await;
    }

    /// A worker asks its consumer for something, which need not have happened when this returns: a fault that waits for the point
    /// begins at about the same time.
    fn asks(&self, step: Step, partition: i32) {
        let process = self.clone();
        tokio::spawn(async move { process.reached(step, Moment::Before, Some(partition)).await });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of<T>(&self, partition: i32, change: impl FnOnce(&mut OfPartition) -> T) -> T {
        change(self.state().partitions.entry(partition).or_default())
    }

    /// A watched cell is read by this call.
    fn has_read<T>(&self, call: &Call, cell: &Cell, outcome: &Outcome<T>, show: impl FnOnce(&T) -> String) {
        let Self { context, caller, .. } = self;
        if context.watch.has(cell)
            && let Outcome::Acknowledged(read) = outcome
        {
            let touched = Touched::new(caller, *caller, "reads");
            context.touch(cell, None, &show(read), Touched { item: call.item(), ..touched });
        }
    }

    /// A call begins, in the timeline.
    fn begins(&self, kind: Kind, what: impl FnOnce() -> Described) -> Call {
        Call::begin(&self.context, self.caller, kind, what)
    }

    /// The group says something about partitions, in the timeline.
    fn hears(&self, what: &str, partitions: &[i32]) {
        self.context.record(|recording| recording.hears(self.caller, what, partitions));
    }

    /// Assignments end, in the timeline.
    fn without(&self, partitions: &[i32], why: &str) {
        self.context.record(|recording| {
            partitions.iter().for_each(|partition| recording.assignment_ends(self.caller, *partition, why));
        });
    }

    /// A partition is no longer this worker's.
    fn gone(&self, partitions: &[i32]) {
        for partition in partitions {
            let is_writing = self.of(*partition, |of| of.writing_rows + of.writing_counts > 0);
            if is_writing {
                self.context.observe(Sometimes::RebalanceWithWritesInFlight);
            }
        }
    }

    /// The group gives it partitions, or takes them from it.
    fn owns(&self, partitions: &[i32], owned: bool) {
        let mut state = self.state();
        for partition in partitions {
            match owned {
                true => state.owned.insert(*partition),
                false => state.owned.remove(partition),
            };
        }
        drop(state);
        let mut members = self.context.members();
        match owned {
            true => members.assigned(self.caller, partitions),
            false => members.revoked(self.caller, partitions),
        }
    }

    /// It loses partitions. It may not have been asked to release them.
    fn loses(&self, partitions: &[i32]) {
        let is_surprise = partitions.iter().any(|partition| self.state().owned.contains(partition));
        if is_surprise && matches!(self.context.log_options, Log::Kafka(_)) {
            self.context.observe(Sometimes::LostWithoutRevoked);
        }
        self.owns(partitions, false);
        self.context.members().lost(self.caller, partitions);
    }

    /// What follows up to an offset is delivered: the violation if a record of the log is not among it. In a log that was cut off,
    /// created again or compacted, what is true of an offset changes.
    fn passes(&self, to: Assignment, records: &[Record], next_offset: i64) -> Option<Violation> {
        let worker = self.caller.worker?;
        let is_other = {
            let damage = self.context.damage();
            damage.refusable.is_some()
                || damage.truncated.contains_key(&to.partition)
                || damage.began_at.contains_key(&to.partition)
        };
        let oracles = self.context.oracles().filter(|_| !is_other)?;
        let position = self.state().delivered.passes_over(&oracles.truth(), to, records, next_offset)?;
        Some(Violation::RecordPassedOver { worker, position })
    }

    /// Records are delivered, and everything up to an offset.
    fn delivered(&self, to: Assignment, records: &[Record], next_offset: i64) {
        let Self { context, caller, .. } = self;
        context.record(|recording| recording.delivered(*caller, records));
        context.follow_log();
        let passed = self.passes(to, records, next_offset);
        passed.into_iter().for_each(|violation| context.violate(violation));
        context.judge(|oracles| oracles.delivered(records));
        // The simple log delivers what was fetched before.
        let is_kafka = matches!(context.log_options, Log::Kafka(_));
        let is_owned = !is_kafka || self.state().owned.contains(&to.partition);
        if let (false, Some(worker), Some(first)) = (is_owned, caller.worker, records.first()) {
            let position = Position { partition: to.partition, offset: first.offset };
            context.violate(Violation::DeliveredAfterRevocation { worker, position });
        }
        self.state().delivered.records(to, records, &self.memory_limit);
    }

    /// It starts a partition at an offset. The violation if that is not the progress that it knows.
    fn starts_elsewhere(&self, partition: i32, offset: i64) -> Option<Violation> {
        let worker = self.caller.worker?;
        let origin = self.context.oracles()?.truth().binding().origin(partition);
        let progress = self.of(partition, |of| of.durable).unwrap_or(origin);
        (offset != progress).then_some(Violation::StartedElsewhere { worker, partition, offset, progress })
    }

    /// It reports a position to its group. The violation if that is not durable.
    fn reports(&self, partition: i32, reported: i64) -> Option<Violation> {
        let worker = self.caller.worker?;
        let origin = self.context.oracles().map_or(0, |oracles| oracles.truth().binding().origin(partition));
        let durable = self.of(partition, |of| of.durable);
        let is_ahead = reported > durable.unwrap_or(origin);
        is_ahead.then_some(Violation::ReportedAhead { worker, partition, reported, durable })
    }

    /// The assignment that the worker takes records for: while a fault says so, the current one, as for a pipeline that
    /// compares no assignments.
    fn relabelled(&self, assignment: Assignment) -> Assignment {
        let current = self.state().delivered.current(assignment.partition).unwrap_or(assignment);
        let is_relabelled = current != assignment && self.context.does(Sabotage::StaleRecordsDelivered);
        if is_relabelled { current } else { assignment }
    }

    /// Before rows are written.
    fn writing_rows(&self, partition: i32, rows: &[(i64, Row)]) {
        let Self { context, caller, .. } = self;
        context.judge(|oracles| oracles.before_rows(partition, rows));
        let (stale, held) = {
            let delivered = &mut self.state().delivered;
            let offsets = || rows.iter().map(|(offset, _)| *offset);
            (delivered.stale(partition, offsets()), delivered.held(partition, offsets()))
        };
        if let (Some(offset), Some(worker)) = (stale, caller.worker) {
            context
                .violate(Violation::StaleRecordApplied { worker, position: Position { partition, offset } });
        }
        if let (Some(bytes), Some(worker)) = (held, caller.worker) {
            context.violate(Violation::MemoryExceeded {
                worker,
                partition,
                bytes,
                limit: self.memory_limit.inbox,
            });
        }
        let writing = self.of(partition, |of| {
            of.writing_rows += 1;
            of.writing_rows
        });
        if writing > 1 {
            context.observe(Sometimes::TwoBatchesOfAPartitionInFlight);
        }
        let (Some((first, row)), Some((_, last))) = (rows.first(), rows.last()) else { return };
        if context.was_written(partition, *first) {
            context.observe(Sometimes::Replay);
            let windows =
                |row| context.oracles().map(|oracles| oracles.truth().windows(row, 1)).unwrap_or_default();
            let ends = (windows(row), windows(last));
            if !ends.0.is_empty() && !ends.1.is_empty() && ends.0[0].end != ends.1[0].end {
                context.observe(Sometimes::ReplayOverWindowBorder);
            }
        }
    }

    /// Before counts are written. Returns their bytes in memory.
    fn writing_counts(&self, partition: i32, counts: &[(WindowKey, Count)]) -> usize {
        self.context.judge(|oracles| oracles.before_counts(partition, counts));
        let bytes: usize = counts.iter().map(|(key, _)| key.source.len() + COUNT_BYTES).sum();
        let in_flight = self.of(partition, |of| {
            of.written.extend(counts.iter().map(|(key, _)| key.clone()));
            of.writing_counts += 1;
            of.counts_bytes += bytes;
            of.counts_bytes
        });
        if in_flight > self.context.options.pipeline.counts_cache_bytes {
            self.context.observe(Sometimes::CountPinnedWhileCacheFull);
        }
        bytes
    }

    /// Before alerts are written.
    fn writing_alerts(&self, alerts: &[Alert]) {
        let Self { context, .. } = self;
        context.judge(|oracles| oracles.before_alerts(alerts));
        let Some(oracles) = context.oracles() else { return };
        for alert in alerts {
            let window = WindowKey { source: alert.source.clone(), end: alert.ts };
            let of_one = {
                let truth = oracles.truth();
                let counts = truth
                    .partitions()
                    .filter_map(|partition| truth.count_below(partition, &window, i64::MAX));
                counts.map(|count| count.count).max().unwrap_or(0)
            };
            let stored = oracles.see(&Cell::Alert(window)).into_iter().find_map(|seen| match seen {
                Seen::Value(Value::Alert(count)) => Some(count),
                _ => None,
            });
            let count = i64::from(alert.event_count);
            if stored.is_some_and(|stored| stored < count) && count > of_one {
                context.observe(Sometimes::AlertRaisedBySecondPartition);
            }
            let mut state = self.state();
            let newest = state.alerts.entry(alert.source.clone()).or_insert(alert.ts);
            if stored.is_some_and(|stored| stored < count) && alert.ts < *newest {
                context.observe(Sometimes::LateEventRaisesOldAlert);
            }
            *newest = alert.ts.max(*newest);
        }
    }

    /// The outcome of a write is not known: was it applied?
    fn unknown(&self, cells: Vec<(Cell, Value)>) {
        let Some(oracles) = self.context.oracles() else { return };
        let Some((cell, value)) = cells.into_iter().next() else { return };
        let seen = oracles.see(&cell);
        let has_it = |seen: &Seen| matches!(seen, Seen::Value(found) if found.includes(value));
        if seen.iter().all(has_it) {
            self.context.observe(Sometimes::UnknownOutcomeWasApplied);
        } else if seen.iter().any(has_it) {
            self.context.observe(Sometimes::UnknownOutcomeWasAppliedByOneReplica);
        } else if !seen.contains(&Seen::Down) {
            self.context.observe(Sometimes::UnknownOutcomeWasNotApplied);
        }
    }

    /// Before counts are read, its own or those of other partitions.
    fn reading_counts(&self, partition: i32, windows: &[WindowKey]) {
        let Some(oracles) = self.context.oracles() else { return };
        for window in windows.iter().take(4) {
            let seen = oracles.see(&Cell::Count(partition, window.clone()));
            let newest = seen.iter().filter_map(|seen| match seen {
                Seen::Value(Value::Count(count)) => Some(count.through_offset),
                _ => None,
            });
            let newest = newest.max();
            let has_newest = |seen: &&Seen| matches!(seen, Seen::Value(Value::Count(count)) if Some(count.through_offset) == newest);
            if seen.len() > 1 && seen.iter().filter(has_newest).count() == 1 {
                self.context.observe(Sometimes::CountOnOneReplicaOnlyRead);
            }
        }
    }
}
