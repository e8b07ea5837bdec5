//! The store as a worker sees it: over the network, where no answer means *unknown*.

use std::collections::BTreeMap;

use exactlyonce::event::{DeadLetter, Event, Row};
use exactlyonce::store::{
    Alert, Binding, Bound, BoundConsistency, Count, Cursor, Layout, Outcome, Page, Progress, Store,
    StoreError, WindowKey,
};

use crate::network::Line;
use crate::store::question::{Answer, Ask};

/// A client of the simulated store.
#[derive(Clone)]
pub struct StoreClient {
    line: Line,
    layout: Layout,
}

impl StoreClient {
    /// A client that writes and reads `events` in this layout.
    pub(crate) fn new(line: Line, layout: Layout) -> Self {
        Self { line, layout }
    }
}

macro_rules! ask {
    ($client:expr, $ask:expr, $answer:pat => $value:expr) => {{
        let ask = $ask;
        match $client.line.ask(&ask).await {
            Ok($answer) => Outcome::Acknowledged($value),
            Ok(_) => unreachable!("the store answers what it was asked"),
            Err(error) => Outcome::Unknown(StoreError::new(ask.to_string(), error)),
        }
    }};
}

impl Store for StoreClient {
    fn layout(&self) -> Layout {
        self.layout
    }

    fn consistency(&self) -> BoundConsistency {
        BoundConsistency::Quorum
    }

    async fn binding(&self) -> Outcome<Option<Binding>> {
        ask!(self, Ask::Binding, Answer::Binding(binding) => binding)
    }

    async fn bind(&self, binding: &Binding) -> Outcome<Bound> {
        ask!(self, Ask::Bind(binding.clone()), Answer::Bind(bound) => bound)
    }

    async fn holds_rows(&self) -> Outcome<bool> {
        ask!(self, Ask::HoldsRows, Answer::HoldsRows(yes) => yes)
    }

    async fn progress_of_all(&self) -> Outcome<BTreeMap<i32, Progress>> {
        ask!(self, Ask::ProgressOfAll, Answer::ProgressOfAll(all) => all)
    }

    async fn progress(&self, partition: i32) -> Outcome<Option<Progress>> {
        ask!(self, Ask::Progress(partition), Answer::Progress(progress) => progress)
    }

    async fn write_progress(&self, partition: i32, progress: Progress) -> Outcome<()> {
        ask!(self, Ask::WriteProgress(partition, progress), Answer::Written => ())
    }

    async fn register(&self, partition: i32) -> Outcome<()> {
        ask!(self, Ask::Register(partition), Answer::Written => ())
    }

    async fn registered(&self) -> Outcome<i32> {
        ask!(self, Ask::Registered, Answer::Registered(partitions) => partitions)
    }

    async fn counts(&self, partition: i32, windows: &[WindowKey]) -> Outcome<Vec<Option<Count>>> {
        ask!(self, Ask::Counts(partition, windows.to_vec()), Answer::Counts(counts) => counts)
    }

    async fn write_counts(&self, partition: i32, counts: &[(WindowKey, Count)]) -> Outcome<()> {
        ask!(self, Ask::WriteCounts(partition, counts.to_vec()), Answer::Written => ())
    }

    async fn write_alerts(&self, alerts: &[Alert]) -> Outcome<()> {
        ask!(self, Ask::WriteAlerts(alerts.to_vec()), Answer::Written => ())
    }

    async fn write_rows(&self, partition: i32, rows: &[(i64, Row)]) -> Outcome<()> {
        ask!(self, Ask::WriteRows(partition, rows.to_vec()), Answer::Written => ())
    }

    async fn rows_below(
        &self,
        partition: i32,
        from: i64,
        below: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Row)>> {
        ask!(self, Ask::RowsBelow(partition, from, below, limit), Answer::RowsBelow(rows) => rows)
    }

    async fn events(&self, partition: i32, from: i64, to: i64, limit: usize) -> Outcome<Vec<(i64, Event)>> {
        ask!(self, Ask::Events(partition, from, to, limit), Answer::Events(rows) => rows)
    }

    async fn dead_letters(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, DeadLetter)>> {
        ask!(self, Ask::DeadLetters(partition, from, to, limit), Answer::DeadLetters(rows) => rows)
    }

    async fn partitions(&self) -> Outcome<Vec<i32>> {
        ask!(self, Ask::Partitions, Answer::Partitions(partitions) => partitions)
    }

    async fn alerts(&self, after: Option<Cursor>, limit: usize) -> Outcome<Page<Alert>> {
        ask!(self, Ask::Alerts(after, limit), Answer::Alerts(page) => page)
    }
}
