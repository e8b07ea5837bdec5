//! The client of the store: a request without a response has the outcome *unknown*.

use std::collections::BTreeMap;
use std::sync::Arc;

use exactlyonce::event::{DeadLetter, Event, Row};
use exactlyonce::store::{
    Alert, Binding, Bound, BoundConsistency, Count, Cursor, Layout, Outcome, Page, Progress, Store,
    StoreError, Stored, StoredBinding, StoredCount, WindowKey,
};

use crate::network::Channel;
use crate::service::simple_store::request::{StoreRequest, StoreResponse};

/// A client of the simulated store.
#[derive(Clone)]
pub struct StoreClient {
    channel: Channel,
    layout: Layout,
}

impl StoreClient {
    /// A client that writes and reads `events` in this layout.
    pub(crate) fn new(channel: Channel, layout: Layout) -> Self {
        Self { channel, layout }
    }
}

macro_rules! call {
    ($client:expr, $request:expr, $response:pat => $value:expr) => {{
        let request = Arc::new($request);
        match $client.channel.send(&request).await {
            Ok($response) => Outcome::Acknowledged($value),
            Ok(_) => unreachable!("the response is of the request's type"),
            Err(error) => Outcome::Unknown(StoreError::new(request.to_string(), error)),
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

    async fn stored_binding(&self) -> Outcome<Option<StoredBinding>> {
        call!(self, StoreRequest::Binding, StoreResponse::Binding(binding) => binding.map(StoredBinding::from))
    }

    async fn bind(&self, binding: &Binding) -> Outcome<Bound> {
        call!(self, StoreRequest::Bind(binding.clone()), StoreResponse::Bind(bound) => bound)
    }

    async fn holds_rows(&self) -> Outcome<bool> {
        call!(self, StoreRequest::HoldsRows, StoreResponse::HoldsRows(yes) => yes)
    }

    async fn stored_progress(&self) -> Outcome<BTreeMap<i32, Stored<Progress>>> {
        call!(self, StoreRequest::ProgressOfAll, StoreResponse::ProgressOfAll(all) => all)
    }

    async fn progress(&self, partition: i32) -> Outcome<Option<Progress>> {
        call!(self, StoreRequest::Progress(partition), StoreResponse::Progress(progress) => progress)
    }

    async fn write_progress(&self, partition: i32, progress: Progress) -> Outcome<()> {
        call!(self, StoreRequest::WriteProgress(partition, progress), StoreResponse::Written => ())
    }

    async fn register(&self, partition: i32) -> Outcome<()> {
        call!(self, StoreRequest::Register(partition), StoreResponse::Written => ())
    }

    async fn registered(&self) -> Outcome<i32> {
        call!(self, StoreRequest::Registered, StoreResponse::Registered(partitions) => partitions)
    }

    async fn counts(&self, partition: i32, windows: &[WindowKey]) -> Outcome<Vec<Option<Count>>> {
        call!(self, StoreRequest::Counts(partition, windows.to_vec()), StoreResponse::Counts(counts) => counts)
    }

    async fn write_counts(&self, partition: i32, counts: &[(WindowKey, Count)]) -> Outcome<()> {
        call!(self, StoreRequest::WriteCounts(partition, counts.to_vec()), StoreResponse::Written => ())
    }

    async fn write_alerts(&self, alerts: &[Alert]) -> Outcome<()> {
        call!(self, StoreRequest::WriteAlerts(alerts.to_vec()), StoreResponse::Written => ())
    }

    async fn write_rows(&self, partition: i32, rows: &[(i64, Row)]) -> Outcome<()> {
        call!(self, StoreRequest::WriteRows(partition, rows.to_vec()), StoreResponse::Written => ())
    }

    async fn rows_below(
        &self,
        partition: i32,
        from: i64,
        below: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Row)>> {
        call!(self, StoreRequest::RowsBelow(partition, from, below, limit), StoreResponse::RowsBelow(rows) => rows)
    }

    async fn stored_events(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Stored<Event>)>> {
        call!(self, StoreRequest::Events(partition, from, to, limit), StoreResponse::Events(rows) => rows)
    }

    async fn stored_dead_letters(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Stored<DeadLetter>)>> {
        call!(self, StoreRequest::DeadLetters(partition, from, to, limit), StoreResponse::DeadLetters(rows) => rows)
    }

    async fn partitions(&self) -> Outcome<Vec<i32>> {
        call!(self, StoreRequest::Partitions, StoreResponse::Partitions(partitions) => partitions)
    }

    async fn stored_alerts(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Outcome<Page<(WindowKey, Stored<i32>)>> {
        call!(self, StoreRequest::Alerts(after, limit), StoreResponse::Alerts(page) => page)
    }

    async fn all_counts(&self, after: Option<Cursor>, limit: usize) -> Outcome<Page<StoredCount>> {
        call!(self, StoreRequest::AllCounts(after, limit), StoreResponse::AllCounts(page) => page)
    }
}
