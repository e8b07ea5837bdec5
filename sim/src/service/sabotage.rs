//! A store and a consumer that do what no service may do, while a fault says so: what the oracles must find, in every world.

use std::collections::BTreeMap;
use std::sync::Arc;

use exactlyonce::broker::{Assignment, BrokerError, Consumer, Delivery};
use exactlyonce::event::{Body, DeadLetter, Event, Reason, Row};
use exactlyonce::guarantee::Finding;
use exactlyonce::store::{
    Alert, Binding, Bound, BoundConsistency, Count, Cursor, Damaged, Layout, Outcome, Page, Progress, Store,
    StoreError, Stored, StoredBinding, StoredCount, WindowKey,
};

use crate::context::{ActiveFault, SimContext};
use crate::scenario::fault::{Kind, Sabotage};

impl SimContext {
    /// True if an active fault does this now.
    pub(crate) fn does(&self, what: Sabotage) -> bool {
        self.occurs(|kind| match kind {
            Kind::Sabotaged { how, per_mille } if how == what => Some(per_mille),
            _ => None,
        })
    }

    /// True if an active fault drops an acknowledged write now.
    fn drops_acknowledged_write(&self) -> bool {
        self.occurs(|kind| match kind {
            Kind::AcknowledgedWritesDropped { per_mille } => Some(per_mille),
            _ => None,
        })
    }

    /// True if one of the active faults that have a rate here occurs now.
    fn occurs(&self, per_mille: impl Fn(Kind) -> Option<u64>) -> bool {
        let mut occurs = false;
        self.apply_faults(|ActiveFault { fault, random, .. }| {
            let now = per_mille(fault.kind).is_some_and(|per_mille| random.chance(per_mille));
            occurs |= now;
            now
        });
        occurs
    }
}

/// The store of a worker, sabotaged while a fault says so.
#[derive(Clone)]
pub(crate) struct SabotagedStore<S> {
    store: S,
    context: Arc<SimContext>,
}

impl<S: Store> SabotagedStore<S> {
    pub fn new(store: S, context: Arc<SimContext>) -> Self {
        Self { store, context }
    }

    /// A write, unless it is dropped or refused.
    async fn write(&self, call: impl Future<Output = Outcome<()>>) -> Outcome<()> {
        if self.context.drops_acknowledged_write() {
            return Outcome::Acknowledged(());
        }
        if self.context.does(Sabotage::WritesRefused) {
            return Outcome::Refused(StoreError::of("sabotage"));
        }
        call.await
    }

    /// A write of a batch, which may never be answered.
    async fn write_batch(&self, call: impl Future<Output = Outcome<()>>) -> Outcome<()> {
        if self.context.does(Sabotage::NoResponse) {
            std::future::pending::<()>().await;
        }
        self.write(call).await
    }
}

/// The row with other content.
fn altered(row: &Row) -> Row {
    match row {
        Row::Event(event) => Row::Event(Event { id: event.id.wrapping_add(1), ..event.clone() }),
        Row::DeadLetter(letter) => {
            Row::DeadLetter(DeadLetter { timestamp: letter.timestamp.wrapping_add(1), ..letter.clone() })
        }
    }
}

/// A row of the other table.
fn doubled(row: &Row) -> Option<Row> {
    let body = Body::Whole { key: None, value: None };
    matches!(row, Row::Event(_))
        .then(|| Row::DeadLetter(DeadLetter { reason: Reason::NullValue, timestamp: 0, body }))
}

impl<S: Store> Store for SabotagedStore<S> {
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
        if self.context.does(Sabotage::OldProgressRead) {
            return Outcome::Acknowledged(None);
        }
        self.store.progress(partition).await
    }

    async fn write_progress(&self, partition: i32, progress: Progress) -> Outcome<()> {
        let further = i64::from(self.context.does(Sabotage::ProgressAltered));
        let progress = Progress { next_offset: progress.next_offset + further, ..progress };
        self.write(self.store.write_progress(partition, progress)).await
    }

    async fn register(&self, partition: i32) -> Outcome<()> {
        if self.context.does(Sabotage::RegistrationsDropped) {
            return Outcome::Acknowledged(());
        }
        self.write(self.store.register(partition)).await
    }

    async fn registered(&self) -> Outcome<i32> {
        self.store.registered().await
    }

    async fn counts(&self, partition: i32, windows: &[WindowKey]) -> Outcome<Vec<Option<Count>>> {
        if self.context.does(Sabotage::OldCountsRead) {
            return Outcome::Acknowledged(vec![None; windows.len()]);
        }
        self.store.counts(partition, windows).await
    }

    async fn sums(&self, partitions: &[i32], windows: &[WindowKey]) -> Outcome<Vec<i64>> {
        self.store.sums(partitions, windows).await
    }

    async fn write_counts(&self, partition: i32, counts: &[(WindowKey, Count)]) -> Outcome<()> {
        let more = i64::from(self.context.does(Sabotage::CountsAltered));
        let count = |(window, count): &(WindowKey, Count)| {
            (window.clone(), Count { count: count.count + more, ..*count })
        };
        let counts: Vec<_> = counts.iter().map(count).collect();
        self.write_batch(self.store.write_counts(partition, &counts)).await
    }

    async fn write_alerts(&self, alerts: &[Alert]) -> Outcome<()> {
        let more = i32::from(self.context.does(Sabotage::AlertsAltered));
        let alter = |alert: &Alert| Alert { event_count: alert.event_count + more, ..alert.clone() };
        let mut written: Vec<_> = alerts.iter().map(alter).collect();
        if self.context.does(Sabotage::AlertsAdded) {
            let other = |alert: &Alert| Alert { ts: alert.ts.wrapping_add(1), ..alert.clone() };
            written.extend(alerts.iter().map(other));
        }
        self.write(self.store.write_alerts(&written)).await
    }

    async fn write_rows(&self, partition: i32, rows: &[(i64, Row)]) -> Outcome<()> {
        let mut written = rows.to_vec();
        if self.context.does(Sabotage::RowsAltered) {
            written.iter_mut().for_each(|(_, row)| *row = altered(row));
        }
        if self.context.does(Sabotage::RowsDoubled) {
            written.extend(rows.iter().filter_map(|(offset, row)| Some((*offset, doubled(row)?))));
        }
        // With a single partition there is no other that has rows.
        let partition =
            if self.context.does(Sabotage::PartitionsSwapped) { partition ^ 1 } else { partition };
        self.write_batch(self.store.write_rows(partition, &written)).await
    }

    async fn rows_below(
        &self,
        partition: i32,
        from: i64,
        below: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Row)>> {
        self.store.rows_below(partition, from, below, limit).await
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

/// The consumer of a worker, sabotaged while a fault says so.
pub(crate) struct SabotagedConsumer<C> {
    consumer: C,
    context: Arc<SimContext>,
}

impl<C: Consumer> SabotagedConsumer<C> {
    pub fn new(consumer: C, context: Arc<SimContext>) -> Self {
        Self { consumer, context }
    }
}

impl<C: Consumer> Consumer for SabotagedConsumer<C> {
    async fn poll(&mut self) -> Result<Delivery, BrokerError> {
        if self.context.does(Sabotage::ConsumerFails) {
            return Err(BrokerError::Fatal { what: "sabotage".to_owned(), cause: None });
        }
        match self.consumer.poll().await {
            Ok(Delivery::Records { assignment, mut records, next_offset }) => {
                if self.context.does(Sabotage::RecordsAltered) {
                    records.iter_mut().for_each(|record| record.timestamp = record.timestamp.wrapping_add(1));
                }
                Ok(Delivery::Records { assignment, records, next_offset })
            }
            other => other,
        }
    }

    fn start(&mut self, assignment: Assignment, offset: i64) {
        self.consumer.start(assignment, offset);
    }

    fn pause(&mut self, partition: i32) {
        if !self.context.does(Sabotage::PauseIgnored) {
            self.consumer.pause(partition);
        }
    }

    fn resume(&mut self, partition: i32) {
        self.consumer.resume(partition);
    }

    fn release(&mut self, partition: i32) {
        self.consumer.release(partition);
    }

    fn report(&mut self, partition: i32, next_offset: i64) {
        self.consumer.report(partition, next_offset);
    }

    async fn leave(self) {
        self.consumer.leave().await;
    }
}
