//! The protocol for one incarnation of one partition.
//!
//! Three loops run concurrently and end together. Batches go from the first to the second to the third:
//!
//! 1. **fold**, strictly in the order of the log: take records into a batch, flush its rows to the writers as they
//!    come, count them into windows; counts that are not in memory are read from the store first;
//! 2. **write**, several batches at once: rows; and counts, then sums, then alerts;
//! 3. **advance**: move `progress` past the batches that are acknowledged, in order.
//!
//! All state of an incarnation (inbox, counts, batches, tracker) lives in [`Assigned::run`] and ends with it.
//! Dropping that future at any await has the same effect as a crash, and is as harmless.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use tokio::sync::{Notify, OnceCell, mpsc, watch};
use tokio::time::Instant;
use tokio::try_join;

use crate::broker::{Assignment, Broker};
use crate::decode::Decoder;
use crate::event::Row;
use crate::pipeline::batch::{Batch, OpenBatch, Part, RowBuffer};
use crate::pipeline::counts::{Counts, Touched};
use crate::pipeline::error::PipelineError;
use crate::pipeline::inbox::{Inbox, Next};
use crate::pipeline::messages::{AssignmentEvent, End};
use crate::pipeline::retry::Retry;
use crate::pipeline::tracker::Tracker;
use crate::pipeline::{Options, resume};
use crate::store::{Alert, Binding, Count, Progress, Store, StoreError, WindowKey, registration};

/// Windows in one call of the store, which splits them into as many requests as it needs. Most batches touch fewer.
const WINDOWS_PER_CALL: usize = 10_000;

/// Partitions in one call of the store for sums, which is retried as a whole, and calls that run concurrently.
const PARTITIONS_PER_CALL: usize = 16;
const CALLS_AT_ONCE: usize = 4;

/// Parts of one batch that are written concurrently.
const PARTS_IN_FLIGHT: usize = 6;

/// An assignment and what it uses.
#[derive(Debug)]
pub(super) struct Assigned<'a, B, S> {
    pub(super) assignment: Assignment,
    pub(super) broker: &'a B,
    pub(super) store: &'a S,
    pub(super) options: &'a Options,
    pub(super) binding: &'a Binding,
    pub(super) decoder: Decoder,
    pub(super) retry: Retry,
    /// To the worker.
    pub(super) events: mpsc::UnboundedSender<AssignmentEvent>,
    /// Set by the worker when the assignment is to end.
    pub(super) end: watch::Receiver<End>,
}

/// State that the three loops share.
struct LoopState {
    counts: Mutex<Counts>,
    /// Notified when a batch is acknowledged, so counts may have been released.
    released: Notify,
    tracker: Mutex<Tracker>,
    /// Set once this partition is registered, which it must be before its first count is written.
    registered: OnceCell<()>,
    /// Buffers of rows that were written, for reuse: allocating them again costs more than decoding.
    buffer_pool: Mutex<Vec<RowBuffer>>,
}

/// What was written of a batch so far.
#[derive(Debug, Default)]
struct WriteTotals {
    events: u64,
    dead_letters: u64,
    alerts: u64,
    /// Set when the last part is written.
    complete: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LoopState {
    /// A buffer for rows, from the pool if it has one.
    fn buffer(&self) -> RowBuffer {
        lock(&self.buffer_pool).pop().unwrap_or_default()
    }
}

impl WriteTotals {
    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.dead_letters += other.dead_letters;
        self.alerts += other.alerts;
        self.complete |= other.complete;
    }
}

impl<B: Broker, S: Store> Assigned<'_, B, S> {
    /// Runs until the inbox is closed and what was folded is durable.
    ///
    /// # Errors
    /// Refusals, and services that were unavailable past the retry deadline.
    pub(super) async fn run(
        &self,
        inbox: Inbox,
        refused_at: Option<i64>,
        hash_seed: u64,
    ) -> Result<(), PipelineError> {
        let progress = resume::position(self, refused_at).await?;
        self.report(AssignmentEvent::Start(self.assignment, progress.next_offset));
        let shared = LoopState {
            counts: Mutex::new(Counts::new(self.options.counts_cache_bytes, hash_seed)),
            released: Notify::new(),
            tracker: Mutex::new(Tracker::default()),
            registered: OnceCell::new(),
            buffer_pool: Mutex::default(),
        };
        let (folded, to_write) = mpsc::channel(1);
        let (durable, to_advance) = watch::channel(progress.next_offset);
        try_join!(
            self.fold(&shared, inbox, progress.next_offset, folded),
            self.write(&shared, to_write, durable),
            self.advance(progress, to_advance),
        )?;
        Ok(())
    }

    /// Loop 1. A fold, reads included, ends before the next begins.
    async fn fold(
        &self,
        shared: &LoopState,
        mut inbox: Inbox,
        mut position: i64,
        folded: mpsc::Sender<Batch>,
    ) -> Result<(), PipelineError> {
        for number in 0.. {
            let buffer = shared.buffer();
            let mut batch = OpenBatch::new(number, position, buffer, &folded);
            let mut touched = self.take(shared, &mut inbox, &mut batch).await;
            if batch.next_offset == position {
                break;
            }
            // Its remaining rows, which are written concurrently with the reads that follow.
            batch.flush(RowBuffer::new()).await;
            // Counts that are not acknowledged yet fill the cache: wait until some are.
            while !lock(&shared.counts).shrink_to_limit() {
                shared.released.notified().await;
            }
            let missing = touched.missing();
            for indexes in missing.chunks(WINDOWS_PER_CALL) {
                let windows: Vec<WindowKey> =
                    indexes.iter().map(|p| touched.windows()[*p].0.clone()).collect();
                let read = self.read_counts(self.assignment.partition, &windows).await?;
                for (index, count) in indexes.iter().zip(read) {
                    touched.set(*index, count);
                }
            }
            touched.add_all();
            lock(&shared.counts).store(&touched);
            position = batch.next_offset;
            lock(&shared.tracker).begin(number, position);
            batch.close(touched.into_counts()).await;
        }
        Ok(())
    }

    /// Takes records into a batch until it is full, its deadline has passed, the inbox is empty while the writers can
    /// accept the batch, or an end is reached. While the writers are busy, a small batch would only wait, and cost
    /// them as much as a large one. A batch that covers nothing means that the inbox is closed.
    async fn take(&self, shared: &LoopState, inbox: &mut Inbox, batch: &mut OpenBatch<'_>) -> Touched {
        let options = self.options;
        let rows_to_flush = options.write_records.unwrap_or_else(|| self.store.rows_per_call()).max(1);
        let mut touched = Touched::default();
        let (mut deadline, mut latest) = (None, None);
        while batch.records < options.batch_records.max(1) && !self.ends() {
            let next = match inbox.next(deadline).await {
                Next::Nothing => tokio::select! {
                    biased;
                    () = batch.writers_ready() => Next::Nothing,
                    next = inbox.next(None) => next,
                },
                next => next,
            };
            if inbox.asks_to_resume() {
                self.report(AssignmentEvent::Resume(self.assignment));
            }
            match next {
                Next::Record(record, next_offset) => {
                    // Skips records that the broker delivers again.
                    if record.offset < batch.next_offset {
                        continue;
                    }
                    if batch.records == 0 {
                        let now = Instant::now();
                        (deadline, latest) =
                            (Some(now + options.batch_delay), Some(now + options.batch_longest));
                    }
                    batch.next_offset = next_offset;
                    let (offset, bytes) = (record.offset, record.len());
                    let row = self.decoder.row(record);
                    self.touch(shared, &mut touched, offset, &row, batch.number);
                    batch.add(offset, row, bytes);
                    if lock(&shared.counts).is_full(&touched) {
                        break;
                    }
                    if batch.has_rows_to_flush(rows_to_flush, options.write_bytes.max(1)) {
                        batch.flush(shared.buffer()).await;
                        if latest.is_some_and(|latest| latest <= Instant::now()) {
                            break;
                        }
                    }
                }
                Next::End(offset) if offset > batch.next_offset => {
                    batch.next_offset = offset;
                    break;
                }
                Next::End(_) if batch.records > 0 => break,
                Next::End(_) => {}
                Next::Nothing | Next::Closed => break,
            }
        }
        touched
    }

    /// Registers the row's event in the windows that count it.
    fn touch(&self, shared: &LoopState, touched: &mut Touched, offset: i64, row: &Row, number: u64) {
        let window = &self.binding.window;
        if let Row::Event(event) = row
            && window.health.contains(event.health)
            && let Some(ends) = window.ends(event.ts)
        {
            lock(&shared.counts).touch(number, touched, &event.source, ends, offset);
        }
    }

    /// Loop 2.
    async fn write(
        &self,
        shared: &LoopState,
        mut folded: mpsc::Receiver<Batch>,
        durable: watch::Sender<i64>,
    ) -> Result<(), PipelineError> {
        let mut writing = FuturesUnordered::new();
        let mut open = true;
        while open || !writing.is_empty() {
            tokio::select! {
                biased;
                Some(written) = writing.next(), if !writing.is_empty() => {
                    // An incomplete batch was abandoned, and all others will be, too.
                    let Some(number) = written? else { continue };
                    lock(&shared.counts).release(number);
                    shared.released.notify_one();
                    if let Some(next_offset) = lock(&shared.tracker).finish(number) {
                        durable.send_replace(next_offset);
                    }
                }
                batch = folded.recv(), if open && writing.len() < self.options.in_flight_batches.max(1) => {
                    match batch {
                        Some(batch) => writing.push(self.write_batch(shared, batch)),
                        None => open = false,
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes one batch; returns its number when all of it is acknowledged, and nothing if it was abandoned.
    async fn write_batch(&self, shared: &LoopState, batch: Batch) -> Result<Option<u64>, PipelineError> {
        let Batch { number, mut parts } = batch;
        let mut writing = FuturesUnordered::new();
        let mut all = WriteTotals::default();
        let mut open = true;
        while open || !writing.is_empty() {
            tokio::select! {
                biased;
                Some(written) = writing.next(), if !writing.is_empty() => all.add(written?),
                part = parts.recv(), if open && writing.len() < PARTS_IN_FLIGHT => match part {
                    Some(part) => writing.push(self.write_part(shared, part)),
                    None => open = false,
                },
            }
        }
        let WriteTotals { events, dead_letters, alerts, complete } = all;
        if complete {
            self.report(AssignmentEvent::Written { events, dead_letters, alerts });
        }
        Ok(complete.then_some(number))
    }

    async fn write_part(&self, shared: &LoopState, part: Part) -> Result<WriteTotals, PipelineError> {
        match part {
            Part::Rows(mut rows) => {
                self.write_rows(&rows).await?;
                let events = rows.iter().filter(|(_, row)| matches!(row, Row::Event(_))).count();
                let dead_letters = (rows.len() - events) as u64;
                rows.clear();
                lock(&shared.buffer_pool).push(rows);
                Ok(WriteTotals { events: events as u64, dead_letters, ..WriteTotals::default() })
            }
            Part::Counts(counts) => {
                let alerts = self.count_and_alert(shared, &counts).await?;
                Ok(WriteTotals { alerts, complete: true, ..WriteTotals::default() })
            }
        }
    }

    /// Writes the partition's own counts first; only after their acknowledgement reads the registry and then the sums,
    /// so that of several writers of one window the last sees the counts of all others. Then writes the alerts.
    async fn count_and_alert(
        &self,
        shared: &LoopState,
        counts: &[(WindowKey, Count)],
    ) -> Result<u64, PipelineError> {
        let mut written = 0;
        for counts in counts.chunks(WINDOWS_PER_CALL) {
            // Even if an earlier assignment registered it: that write may have reached only one replica.
            shared.registered.get_or_try_init(|| self.register()).await?;
            self.write_counts(counts).await?;
            let mut alerts = Vec::new();
            for ((window, _), sum) in counts.iter().zip(self.read_sums(counts).await?) {
                if sum >= i64::from(self.binding.window.threshold) {
                    alerts.push(alert(window.clone(), sum)?);
                }
            }
            if !alerts.is_empty() {
                self.write_alerts(&alerts).await?;
            }
            written += alerts.len() as u64;
        }
        Ok(written)
    }

    /// The sum of each window over all partitions. The counts of this partition must be acknowledged: they are used as
    /// they were written. The registry is read after that, again for each batch, because another worker may have
    /// registered a partition in the meantime.
    async fn read_sums(&self, counts: &[(WindowKey, Count)]) -> Result<Vec<i64>, PipelineError> {
        let own = self.assignment.partition;
        let registered = self.read_registered().await?;
        if registered < registration(own) {
            return Err(PipelineError::NotRegistered { partition: own, registered });
        }
        let others: Vec<i32> = (0..registered).filter(|partition| *partition != own).collect();
        let windows: Vec<WindowKey> = counts.iter().map(|(window, _)| window.clone()).collect();
        let mut sums: Vec<i64> = counts.iter().map(|(_, count)| count.count).collect();
        let calls: Vec<Vec<i32>> = others.chunks(PARTITIONS_PER_CALL).map(<[i32]>::to_vec).collect();
        let mut reads = stream::iter(calls)
            .map(|partitions| self.read_sums_of(partitions, &windows))
            .buffer_unordered(CALLS_AT_ONCE);
        while let Some(read) = reads.next().await {
            for (sum, more) in sums.iter_mut().zip(read?) {
                *sum = sum.saturating_add(more);
            }
        }
        Ok(sums)
    }

    /// Loop 3. One write at a time: a write whose outcome is unknown is repeated before the next one starts.
    async fn advance(&self, start: Progress, mut durable: watch::Receiver<i64>) -> Result<(), PipelineError> {
        self.report(AssignmentEvent::Durable(self.assignment, start.next_offset));
        while durable.changed().await.is_ok() {
            let next_offset = *durable.borrow_and_update();
            self.write_progress(Progress { next_offset, ..start }).await?;
            self.report(AssignmentEvent::Durable(self.assignment, next_offset));
        }
        Ok(())
    }

    /// True if the worker has asked the assignment to end.
    fn ends(&self) -> bool {
        !matches!(*self.end.borrow(), End::No)
    }

    fn report(&self, event: AssignmentEvent) {
        // A worker that is gone needs no reports.
        let _ = self.events.send(event);
    }
}

/// The alert of a window with this sum.
fn alert(window: WindowKey, sum: i64) -> Result<Alert, PipelineError> {
    match i32::try_from(sum) {
        Ok(event_count) => Ok(Alert { source: window.source, ts: window.end, event_count }),
        Err(_) => Err(PipelineError::CountOverflow {
            source_name: window.source.to_string(),
            window_end: window.end,
            sum,
        }),
    }
}

/// Checks that a response has one item for each window that was requested.
fn check_length<T>(
    items: Vec<T>,
    windows: &[WindowKey],
    request: impl Fn() -> String,
) -> Result<Vec<T>, PipelineError> {
    if items.len() == windows.len() {
        return Ok(items);
    }
    let source = StoreError::of(format!("the response covers {} of {} windows", items.len(), windows.len()));
    Err(PipelineError::StoreRefused { request: request(), source })
}

/// The requests to the store, each repeated until it is acknowledged.
impl<B: Broker, S: Store> Assigned<'_, B, S> {
    async fn register(&self) -> Result<(), PipelineError> {
        let partition = self.assignment.partition;
        let request = || format!("register partition {partition}");
        self.retry.until_acknowledged(request, || self.store.register(partition)).await
    }

    async fn read_registered(&self) -> Result<i32, PipelineError> {
        let request = || "read the registered partitions".to_owned();
        self.retry.until_acknowledged(request, || self.store.registered()).await
    }

    async fn read_counts(
        &self,
        partition: i32,
        windows: &[WindowKey],
    ) -> Result<Vec<Option<Count>>, PipelineError> {
        let request = || format!("read {} counts of partition {partition}", windows.len());
        let counts = self.retry.until_acknowledged(request, || self.store.counts(partition, windows)).await?;
        check_length(counts, windows, request)
    }

    async fn read_sums_of(
        &self,
        partitions: Vec<i32>,
        windows: &[WindowKey],
    ) -> Result<Vec<i64>, PipelineError> {
        let request = || format!("read {} counts of {} other partitions", windows.len(), partitions.len());
        let sums = self.retry.until_acknowledged(request, || self.store.sums(&partitions, windows)).await?;
        check_length(sums, windows, request)
    }

    async fn write_counts(&self, counts: &[(WindowKey, Count)]) -> Result<(), PipelineError> {
        let partition = self.assignment.partition;
        let request = || format!("write {} counts of partition {partition}", counts.len());
        self.retry.until_acknowledged(request, || self.store.write_counts(partition, counts)).await
    }

    async fn write_alerts(&self, alerts: &[Alert]) -> Result<(), PipelineError> {
        let request = || format!("write {} alerts", alerts.len());
        self.retry.until_acknowledged(request, || self.store.write_alerts(alerts)).await
    }

    async fn write_rows(&self, rows: &[(i64, Row)]) -> Result<(), PipelineError> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
        let partition = self.assignment.partition;
        let request = || format!("write rows of partition {partition} offsets {} to {}", first.0, last.0);
        self.retry.until_acknowledged(request, || self.store.write_rows(partition, rows)).await
    }

    pub(super) async fn write_progress(&self, progress: Progress) -> Result<(), PipelineError> {
        let partition = self.assignment.partition;
        let request = || format!("write progress {} of partition {partition}", progress.next_offset);
        self.retry.until_acknowledged(request, || self.store.write_progress(partition, progress)).await
    }
}
