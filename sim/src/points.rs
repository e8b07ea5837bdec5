//! Raises the points of the protocol around whatever broker and store a worker opened, and observes its calls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exactlyonce::broker::{Assignment, Broker, BrokerError, Consumer, Delivery, Fetched, LogOffsets, Topic};
use exactlyonce::event::{DeadLetter, Event, Row};
use exactlyonce::guarantee::Finding;
use exactlyonce::store::{
    Alert, Binding, Bound, BoundConsistency, Count, Cursor, Damaged, Layout, Outcome, Page, Progress, Store,
    Stored, StoredBinding, StoredCount, WindowKey,
};

use crate::checker::Violation;
use crate::context::SimContext;
use crate::network::Caller;
use crate::observed::Sometimes;
use crate::oracle::durability::{self, WrittenCell};
use crate::scenario::fault::{Moment, Point, Step};

/// A process of a worker.
#[derive(Clone)]
struct Process {
    context: Arc<SimContext>,
    caller: Caller,
}

impl Process {
    async fn reached(&self, step: Step, moment: Moment) {
        self.context.reached(Point { step, moment }, self.caller).await;
    }
}

/// A store whose calls are points. A call that is not acknowledged has no point after it.
#[derive(Clone)]
pub(crate) struct ObservedStore<S> {
    store: S,
    process: Process,
    calls: Arc<Mutex<Calls>>,
}

/// What this process has done so far.
#[derive(Default)]
struct Calls {
    /// The windows that it wrote, by partition, since the partition was assigned to it.
    written: BTreeMap<i32, BTreeSet<WindowKey>>,
    /// Calls that write rows and are in flight, by partition.
    writing_rows: BTreeMap<i32, u32>,
}

impl<S: Store> ObservedStore<S> {
    pub fn new(store: S, context: Arc<SimContext>, caller: Caller) -> Self {
        Self { store, process: Process { context, caller }, calls: Arc::default() }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn step<T>(&self, step: Step, call: impl Future<Output = Outcome<T>>) -> Outcome<T> {
        self.process.reached(step, Moment::Before).await;
        let outcome = call.await;
        if matches!(outcome, Outcome::Acknowledged(_)) {
            self.process.reached(step, Moment::After).await;
        }
        outcome
    }

    /// A call that writes cells, which are durable when it is acknowledged.
    async fn durable(
        &self,
        call: impl Future<Output = Outcome<()>>,
        cells: impl FnOnce() -> Vec<WrittenCell>,
    ) -> Outcome<()> {
        let outcome = call.await;
        if matches!(outcome, Outcome::Acknowledged(())) {
            self.process.context.acknowledged(cells);
        }
        outcome
    }

    /// A write of a partition. That it is acknowledged although another worker owns the partition is not an error.
    async fn write(
        &self,
        step: Step,
        partition: i32,
        call: impl Future<Output = Outcome<()>>,
        cells: impl FnOnce() -> Vec<WrittenCell>,
    ) -> Outcome<()> {
        let Process { context, caller } = &self.process;
        let outcome = self.step(step, self.durable(call, cells)).await;
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
        self.calls().written.remove(&partition);
        let context = &self.process.context;
        let acknowledged = context.acknowledged_progress(partition);
        let outcome = self.step(Step::ReadProgress, self.store.progress(partition)).await;
        if let (Outcome::Acknowledged(read), Some(acknowledged)) = (&outcome, acknowledged) {
            let read = read.map(|progress| progress.next_offset);
            if read.is_none_or(|read| read < acknowledged) {
                context.violate(Violation::ProgressBack { partition, acknowledged, read });
            }
        }
        outcome
    }

    async fn write_progress(&self, partition: i32, progress: Progress) -> Outcome<()> {
        let call = self.store.write_progress(partition, progress);
        let cells = || durability::of_progress(partition, progress);
        let outcome = self.write(Step::WriteProgress, partition, call, cells).await;
        if matches!(outcome, Outcome::Acknowledged(())) {
            self.process.context.advanced(partition, progress.next_offset);
        }
        outcome
    }

    async fn register(&self, partition: i32) -> Outcome<()> {
        let call = self.store.register(partition);
        self.write(Step::Register, partition, call, || durability::of_registration(partition)).await
    }

    async fn registered(&self) -> Outcome<i32> {
        self.step(Step::ReadRegistry, self.store.registered()).await
    }

    async fn counts(&self, partition: i32, windows: &[WindowKey]) -> Outcome<Vec<Option<Count>>> {
        let written = self
            .calls()
            .written
            .get(&partition)
            .is_some_and(|written| windows.iter().any(|window| written.contains(window)));
        if written {
            self.process.context.observe(Sometimes::EvictedCountReadBack);
        }
        self.step(Step::ReadCounts, self.store.counts(partition, windows)).await
    }

    async fn sums(&self, partitions: &[i32], windows: &[WindowKey]) -> Outcome<Vec<i64>> {
        self.step(Step::ReadSums, self.store.sums(partitions, windows)).await
    }

    async fn write_counts(&self, partition: i32, counts: &[(WindowKey, Count)]) -> Outcome<()> {
        self.calls().written.entry(partition).or_default().extend(counts.iter().map(|(key, _)| key.clone()));
        let (call, layout) = (self.store.write_counts(partition, counts), self.store.layout());
        self.write(Step::WriteCounts, partition, call, || durability::of_counts(partition, layout, counts))
            .await
    }

    async fn write_alerts(&self, alerts: &[Alert]) -> Outcome<()> {
        let call = self.durable(self.store.write_alerts(alerts), || durability::of_alerts(alerts));
        self.step(Step::WriteAlerts, call).await
    }

    async fn write_rows(&self, partition: i32, rows: &[(i64, Row)]) -> Outcome<()> {
        let context = &self.process.context;
        {
            let mut calls = self.calls();
            let writing = calls.writing_rows.entry(partition).or_default();
            *writing += 1;
            if *writing > 1 {
                context.observe(Sometimes::TwoBatchesOfAPartitionInFlight);
            }
        }
        if rows.first().is_some_and(|(offset, _)| context.was_written(partition, *offset)) {
            context.observe(Sometimes::Replay);
        }
        let (call, layout) = (self.store.write_rows(partition, rows), self.store.layout());
        let cells = || durability::of_rows(partition, layout, rows);
        let outcome = self.write(Step::WriteRows, partition, call, cells).await;
        if let Some(writing) = self.calls().writing_rows.get_mut(&partition) {
            *writing = writing.saturating_sub(1);
        }
        if let (Outcome::Acknowledged(()), Some((offset, _))) = (&outcome, rows.last()) {
            context.wrote(partition, *offset);
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
        self.step(Step::ReadRows, self.store.rows_below(partition, from, below, limit)).await
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

/// A broker whose messages to its consumer are points.
#[derive(Clone)]
pub(crate) struct ObservedBroker<B> {
    broker: B,
    process: Process,
}

impl<B: Broker> ObservedBroker<B> {
    pub fn new(broker: B, context: Arc<SimContext>, caller: Caller) -> Self {
        Self { broker, process: Process { context, caller } }
    }
}

impl<B: Broker> Broker for ObservedBroker<B> {
    type Consumer = ObservedConsumer<B::Consumer>;

    async fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        self.broker.topic(topic).await
    }

    async fn offsets(&self, topic: &str, partition: i32) -> Result<LogOffsets, BrokerError> {
        self.broker.offsets(topic, partition).await
    }

    async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Fetched, BrokerError> {
        self.broker.fetch(topic, partition, offset, max_records, max_bytes).await
    }

    async fn guarantees(&self, topic: &str) -> Result<Vec<Finding>, BrokerError> {
        self.broker.guarantees(topic).await
    }

    async fn subscribe(&self, group: &str, topic: &str) -> Result<Self::Consumer, BrokerError> {
        let consumer = self.broker.subscribe(group, topic).await?;
        Ok(ObservedConsumer { consumer, process: self.process.clone(), next: None })
    }
}

/// A consumer of an [`ObservedBroker`].
pub(crate) struct ObservedConsumer<C> {
    consumer: C,
    process: Process,
    /// A delivery whose point was reached. The future that polled for it may have been dropped since.
    next: Option<Result<Delivery, BrokerError>>,
}

impl<C: Consumer> Consumer for ObservedConsumer<C> {
    async fn poll(&mut self) -> Result<Delivery, BrokerError> {
        if self.next.is_none() {
            let delivery = self.consumer.poll().await;
            let step = match &delivery {
                Ok(Delivery::Assigned(_)) => Some(Step::Assigned),
                Ok(Delivery::Revoked(_)) => Some(Step::Revoked),
                Ok(Delivery::Lost(_)) => Some(Step::Lost),
                _ => None,
            };
            self.next = Some(delivery);
            if let Some(step) = step {
                self.process.reached(step, Moment::Before).await;
            }
        }
        match self.next.take() {
            Some(delivery) => delivery,
            None => std::future::pending().await,
        }
    }

    fn start(&mut self, assignment: Assignment, offset: i64) {
        self.consumer.start(assignment, offset);
    }

    fn pause(&mut self, partition: i32) {
        self.consumer.pause(partition);
    }

    fn resume(&mut self, partition: i32) {
        self.consumer.resume(partition);
    }

    fn release(&mut self, partition: i32) {
        let process = self.process.clone();
        tokio::spawn(async move { process.reached(Step::Released, Moment::Before).await });
        self.consumer.release(partition);
    }

    fn report(&mut self, partition: i32, next_offset: i64) {
        self.consumer.report(partition, next_offset);
    }

    async fn leave(self) {
        self.consumer.leave().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
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
        let store = ObservedStore::new(context.tables.clone(), context.clone(), caller);
        simulate(1, || steps(store, context.clone())).expect("the steps do not panic");
        context.violation()
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
