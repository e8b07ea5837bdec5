//! The points of the protocol: a worker's calls of its store, before they are sent and when they are acknowledged.

use std::collections::BTreeMap;

use exactlyonce::event::{DeadLetter, Event, Row};
use exactlyonce::guarantee::Finding;
use exactlyonce::store::{
    Alert, Binding, Bound, BoundConsistency, Count, Cursor, Damaged, Layout, Outcome, Page, Progress, Store,
    Stored, StoredBinding, StoredCount, WindowKey,
};

use super::{OfPartition, Process};
use crate::observed::{Ending, Sometimes};
use crate::oracle::cell::{self, Cell, Value};
use crate::oracle::{Violation, refusal};
use crate::scenario::fault::{Moment, Step};
use crate::service::sabotage::SabotagedStore;
use crate::timeline::{Described, ItemId, Kind, Touched};

/// A window, for a reader.
fn shown(window: &WindowKey) -> String {
    format!("{:?} at {}", window.source, window.end)
}

/// A store whose calls are points. A call that is not acknowledged has no point after it.
#[derive(Clone)]
pub(crate) struct ObservedStore<S> {
    store: SabotagedStore<S>,
    process: Process,
}

impl<S: Store> ObservedStore<S> {
    pub fn new(store: S, process: Process) -> Self {
        Self { store: SabotagedStore::new(store, process.context.clone()), process }
    }

    async fn step<T>(&self, step: Step, call: impl Future<Output = Outcome<T>>) -> Outcome<T> {
        self.step_of(step, None, call).await
    }

    async fn step_of<T>(
        &self,
        step: Step,
        partition: Option<i32>,
        call: impl Future<Output = Outcome<T>>,
    ) -> Outcome<T> {
        self.process.reached(step, Moment::Before, partition).await;
        let outcome = call.await;
        self.process.context.ended(step, Ending::of(&outcome));
        if matches!(outcome, Outcome::Acknowledged(_)) {
            self.process.reached(step, Moment::After, partition).await;
        }
        outcome
    }

    /// A call that writes cells, which are durable when it is acknowledged.
    async fn durable(
        &self,
        item: Option<ItemId>,
        call: impl Future<Output = Outcome<()>>,
        cells: impl Fn() -> Vec<(Cell, Value)> + Send + Sync,
    ) -> Outcome<()> {
        let Process { context, caller, .. } = &self.process;
        let touched = |does| Touched { item, ..Touched::new(caller, *caller, does) };
        if !context.watch.is_off() {
            context.touch_all(&cells(), touched("writes"));
        }
        let outcome = call.await;
        match outcome {
            Outcome::Acknowledged(()) => {
                let cells = cells();
                context.touch_all(&cells, touched("learns that it is written,"));
                let first = cells.first().cloned();
                context.judge(|oracles| oracles.acknowledged(cells));
                if let (Some(oracles), Some(first)) = (context.oracles(), first)
                    && oracles.is_missing_elsewhere(&first)
                {
                    context.observe(Sometimes::TwoDatacentersDisagree);
                }
            }
            Outcome::Unknown(_) => {
                let cells = cells();
                context.touch_all(&cells, touched("does not learn whether it is written,"));
                self.process.unknown(cells);
            }
            Outcome::Refused(_) => {}
        }
        outcome
    }

    /// A write of a partition. That it is acknowledged although another worker owns the partition is not an error.
    async fn write(
        &self,
        step: Step,
        partition: i32,
        what: impl FnOnce() -> Described,
        call: impl Future<Output = Outcome<()>>,
        cells: impl Fn() -> Vec<(Cell, Value)> + Send + Sync,
    ) -> Outcome<()> {
        let Process { context, caller, .. } = &self.process;
        let item = self.process.begins(Kind::Write, what);
        let _writing = context.writes(partition);
        let outcome = self.step_of(step, Some(partition), self.durable(item.item(), call, cells)).await;
        item.end(&outcome, |()| Vec::new());
        let owner = context.group().owner(partition);
        if matches!(outcome, Outcome::Acknowledged(())) && owner.is_some_and(|owner| owner != *caller) {
            context.observe(Sometimes::ZombieWriteAfterSuccessor);
        }
        outcome
    }
}

impl<S: Store> Store for ObservedStore<S> {
    fn layout(&self) -> Layout {
        self.store.layout()
    }

    fn consistency(&self) -> BoundConsistency {
        self.store.consistency()
    }

    fn rows_per_call(&self) -> usize {
        self.store.rows_per_call()
    }

    async fn guarantees(&self) -> Outcome<Vec<Finding>> {
        self.store.guarantees().await
    }

    async fn stored_binding(&self) -> Outcome<Option<StoredBinding>> {
        self.store.stored_binding().await
    }

    async fn bind(&self, binding: &Binding) -> Outcome<Bound> {
        self.store.bind(binding).await
    }

    async fn holds_rows(&self) -> Outcome<bool> {
        self.store.holds_rows().await
    }

    async fn stored_progress(&self) -> Outcome<BTreeMap<i32, Stored<Progress>>> {
        self.store.stored_progress().await
    }

    async fn progress(&self, partition: i32) -> Outcome<Option<Progress>> {
        let context = &self.process.context;
        let truncated = context.damage().truncated.get(&partition).copied();
        let log = context.log_offsets(partition);
        self.process.of(partition, |of| *of = OfPartition { truncated, log, ..OfPartition::default() });
        let acknowledged = context.acknowledged_progress(partition);
        let call = self.process.begins(Kind::Read, || Described::new("read progress").of(partition));
        let outcome = self.step(Step::ReadProgress, self.store.progress(partition)).await;
        let show = |progress: &Option<Progress>| match progress {
            Some(progress) => progress.next_offset.to_string(),
            None => "none".to_owned(),
        };
        call.end(&outcome, |progress| vec![show(progress)]);
        self.process.has_read(&call, &Cell::Progress(partition), &outcome, show);
        if let Outcome::Acknowledged(read) = &outcome {
            let read = read.map(|progress| progress.next_offset);
            self.process.of(partition, |of| of.durable = read);
            if let Some(acknowledged) =
                acknowledged.filter(|at_least| read.is_none_or(|read| read < *at_least))
            {
                context.violate(Violation::ProgressBack { partition, acknowledged, read });
            }
        }
        outcome
    }

    async fn write_progress(&self, partition: i32, progress: Progress) -> Outcome<()> {
        let context = &self.process.context;
        let acknowledged = context.all_acknowledged_progress();
        let ahead =
            context.oracles().map(|oracles| oracles.before_progress(partition, progress, &acknowledged));
        let ahead = ahead.unwrap_or_default();
        let trimmed = context.damage().trimmed;
        if let Some(violation) = ahead.first().filter(|_| trimmed) {
            context.violate(refusal::passing(partition, violation));
        }
        ahead.into_iter().for_each(|violation| context.violate(violation));
        let not_read =
            self.process.of(partition, |of| of.unread.before_progress(partition, progress.next_offset));
        not_read.into_iter().for_each(|violation| context.violate(violation));
        if let Some(oracles) = context.oracles()
            && oracles.truth().record(partition, progress.next_offset - 1).is_none()
        {
            context.observe(Sometimes::ProgressMovedPastGap);
        }
        let call = self.store.write_progress(partition, progress);
        let cells = || cell::of_progress(partition, progress);
        let what = || Described::new(format!("progress {}", progress.next_offset)).of(partition);
        let outcome = self.write(Step::WriteProgress, partition, what, call, cells).await;
        if matches!(outcome, Outcome::Acknowledged(())) {
            self.process.of(partition, |of| of.durable = Some(progress.next_offset));
            self.process.context.advanced(partition, progress.next_offset);
        }
        outcome
    }

    async fn register(&self, partition: i32) -> Outcome<()> {
        let call = self.store.register(partition);
        let what = || Described::new("register").of(partition);
        self.write(Step::Register, partition, what, call, || cell::of_registration(partition)).await
    }

    async fn registered(&self) -> Outcome<i32> {
        self.process.state().partitions.values_mut().for_each(|of| of.unread.read());
        let call = self.process.begins(Kind::Read, || Described::new("read registry"));
        let outcome = self.step(Step::ReadRegistry, self.store.registered()).await;
        call.end(&outcome, |partitions| vec![format!("{partitions} partitions")]);
        self.process.has_read(&call, &Cell::Registry, &outcome, i32::to_string);
        outcome
    }

    async fn counts(&self, partition: i32, windows: &[WindowKey]) -> Outcome<Vec<Option<Count>>> {
        let is_written = |of: &mut OfPartition| windows.iter().any(|window| of.written.contains(window));
        let written = self.process.of(partition, is_written);
        self.process.reading_counts(partition, windows);
        if written {
            self.process.context.observe(Sometimes::EvictedCountReadBack);
        }
        let call =
            self.process.begins(Kind::Read, || Described::of_windows("read", "count", windows).of(partition));
        let outcome = self.step(Step::ReadCounts, self.store.counts(partition, windows)).await;
        let show =
            |count: Option<Count>| count.map_or("none".to_owned(), |count| Value::Count(count).to_string());
        call.end(&outcome, |counts| {
            let counts = windows.iter().zip(counts);
            counts.map(|(window, count)| format!("{}: {}", shown(window), show(*count))).collect()
        });
        for (place, window) in windows.iter().enumerate().filter(|_| !self.process.context.watch.is_off()) {
            self.process.has_read(&call, &Cell::Count(partition, window.clone()), &outcome, |counts| {
                show(counts.get(place).copied().flatten())
            });
        }
        outcome
    }

    async fn sums(&self, partitions: &[i32], windows: &[WindowKey]) -> Outcome<Vec<i64>> {
        for partition in partitions {
            self.process.reading_counts(*partition, windows);
        }
        let call = self
            .process
            .begins(Kind::Read, || Described::of_windows("read", "sum", windows).of_all(partitions));
        let outcome = self.step(Step::ReadSums, self.store.sums(partitions, windows)).await;
        call.end(&outcome, |sums| {
            windows.iter().zip(sums).map(|(window, sum)| format!("{}: {sum}", shown(window))).collect()
        });
        for (place, window) in windows.iter().enumerate().filter(|_| !self.process.context.watch.is_off()) {
            for partition in partitions.iter().take(1) {
                self.process.has_read(&call, &Cell::Count(*partition, window.clone()), &outcome, |sums| {
                    format!("sum over partitions {partitions:?} is {}", sums.get(place).copied().unwrap_or(0))
                });
            }
        }
        outcome
    }

    async fn write_counts(&self, partition: i32, counts: &[(WindowKey, Count)]) -> Outcome<()> {
        let bytes = self.process.writing_counts(partition, counts);
        let call = self.store.write_counts(partition, counts);
        let what = || Described::counts(partition, counts);
        let cells = || cell::of_counts(partition, counts);
        let outcome = self.write(Step::WriteCounts, partition, what, call, cells).await;
        let is_acknowledged = matches!(outcome, Outcome::Acknowledged(()));
        self.process.of(partition, |of| {
            of.writing_counts = of.writing_counts.saturating_sub(1);
            of.counts_bytes = of.counts_bytes.saturating_sub(bytes);
            if is_acknowledged {
                of.unread.written(counts.iter().map(|(_, count)| count.through_offset));
                of.counts_to = of.counts_to.max(counts.iter().map(|(_, count)| count.through_offset).max());
            }
        });
        outcome
    }

    async fn write_alerts(&self, alerts: &[Alert]) -> Outcome<()> {
        self.process.writing_alerts(alerts);
        let item = self.process.begins(Kind::Write, || Described::alerts(alerts));
        let call = self.durable(item.item(), self.store.write_alerts(alerts), || cell::of_alerts(alerts));
        let outcome = self.step(Step::WriteAlerts, call).await;
        item.end(&outcome, |()| Vec::new());
        outcome
    }

    async fn write_rows(&self, partition: i32, rows: &[(i64, Row)]) -> Outcome<()> {
        self.process.writing_rows(partition, rows);
        let call = self.store.write_rows(partition, rows);
        let what = || Described::rows(partition, rows);
        let cells = || cell::of_rows(partition, rows);
        let outcome = self.write(Step::WriteRows, partition, what, call, cells).await;
        let is_acknowledged = matches!(outcome, Outcome::Acknowledged(()));
        self.process.of(partition, |of| {
            of.writing_rows = of.writing_rows.saturating_sub(1);
            if is_acknowledged {
                of.rows_to = of.rows_to.max(rows.last().map(|(offset, _)| *offset));
            }
        });
        if let (true, Some((offset, _))) = (is_acknowledged, rows.last()) {
            self.process.state().delivered.written(partition, rows.iter().map(|(offset, _)| *offset));
            self.process.context.wrote(partition, *offset);
        }
        outcome
    }

    async fn rows_below(
        &self,
        partition: i32,
        from: i64,
        below: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Row)>> {
        let call = self
            .process
            .begins(Kind::Read, || Described::new(format!("read rows below {below}")).of(partition));
        let outcome = self.step(Step::ReadRows, self.store.rows_below(partition, from, below, limit)).await;
        call.end(&outcome, |rows| vec![format!("{} rows", rows.len())]);
        outcome
    }

    async fn stored_events(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Stored<Event>)>> {
        self.store.stored_events(partition, from, to, limit).await
    }

    async fn stored_dead_letters(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Stored<DeadLetter>)>> {
        self.store.stored_dead_letters(partition, from, to, limit).await
    }

    async fn partitions(&self) -> Outcome<Vec<i32>> {
        self.store.partitions().await
    }

    async fn invalid_partitions(&self) -> Outcome<Vec<Damaged>> {
        self.store.invalid_partitions().await
    }

    async fn stored_alerts(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Outcome<Page<(WindowKey, Stored<i32>)>> {
        self.store.stored_alerts(after, limit).await
    }

    async fn all_counts(&self, after: Option<Cursor>, limit: usize) -> Outcome<Page<StoredCount>> {
        self.store.all_counts(after, limit).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::*;
    use crate::context::SimContext;
    use crate::parties::Caller;
    use crate::scenario::profile::Profile;
    use crate::scenario::{Draft, World};
    use crate::simulate::simulate;

    /// The violation after these steps of a worker on the simple store.
    fn violation_after<F: Future<Output = ()> + Send>(
        steps: impl FnOnce(ObservedStore<exactlyonce::store::memory::MemoryStore>, Arc<SimContext>) -> F + Send,
    ) -> Option<Violation> {
        let (sender, _triggered) = mpsc::unbounded_channel();
        let context = Arc::new(SimContext::new(
            &Draft::new(1, World::Simple, Profile::Standard).without_faults(),
            false,
            sender,
        ));
        let caller = Caller { worker: Some(0), life: 0 };
        let store = ObservedStore::new(context.tables.clone(), Process::new(context.clone(), caller));
        simulate(1, || steps(store, context.clone())).expect("the steps do not panic");
        context.violations().into_iter().next()
    }

    async fn write(store: &ObservedStore<exactlyonce::store::memory::MemoryStore>, next_offset: i64) {
        let progress = Progress { origin: 0, next_offset };
        store.write_progress(0, progress).await.into_result().expect("it is written");
    }

    #[test]
    fn progress_that_is_less_than_what_was_acknowledged_is_a_violation() {
        let violation = violation_after(|store, context| async move {
            write(&store, 7).await;
            // As if another write had been acknowledged and forgotten.
            context.advanced(0, 9);
            store.progress(0).await.into_result().expect("it is read");
        });
        let expected = Violation::ProgressBack { partition: 0, acknowledged: 9, read: Some(7) };
        assert_eq!(violation, Some(expected));
    }

    #[test]
    fn a_position_that_is_reported_before_it_is_durable_is_a_violation() {
        let reported = |position| {
            violation_after(move |store, context| async move {
                store.progress(0).await.into_result().expect("it is read");
                write(&store, 7).await;
                store
                    .process
                    .reports(0, position)
                    .into_iter()
                    .for_each(|violation| context.violate(violation));
            })
        };
        assert_eq!(reported(7), None);
        let expected = Violation::ReportedAhead { worker: 0, partition: 0, reported: 8, durable: Some(7) };
        assert_eq!(reported(8), Some(expected));
    }

    #[test]
    fn progress_that_only_grows_is_no_violation() {
        let violation = violation_after(|store, _| async move {
            write(&store, 7).await;
            write(&store, 9).await;
            store.progress(0).await.into_result().expect("it is read");
            store.progress(1).await.into_result().expect("it is read");
        });
        assert_eq!(violation, None);
    }
}
