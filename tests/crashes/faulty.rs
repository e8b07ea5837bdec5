//! A store with planned faults. Requests are numbered; a plan has a fault for some of the numbers.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use exactlyonce::event::{DeadLetter, Event, Row};
use exactlyonce::store::memory::MemoryStore;
use exactlyonce::store::{
    Alert, Binding, Bound, BoundConsistency, Count, Cursor, Damaged, Layout, Outcome, Page, Progress, Store,
    StoreError, Stored, StoredBinding, StoredCount, WindowKey,
};
use tokio::sync::Notify;
use tokio::time::sleep;

/// What happens to one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The worker crashes before the request is sent.
    CrashBefore,
    /// The request is applied, and the worker crashes before it gets the response.
    CrashAfter,
    /// The request is lost: its outcome is unknown.
    RequestLost,
    /// The request is applied and the response is lost: its outcome is unknown.
    ResponseLost,
    /// Only the first half of the rows of a write is applied: its outcome is unknown.
    PartiallyApplied,
    /// The request is applied twice.
    AppliedTwice,
    /// The outcome of the request is unknown, and it is applied later, after other requests.
    AppliedLate,
    /// The request is refused, as after a permission was revoked. It is not in [`Fault::ALL`], because it ends a worker
    /// with an error.
    Refused,
}

impl Fault {
    pub const ALL: [Fault; 7] = [
        Fault::CrashBefore,
        Fault::CrashAfter,
        Fault::RequestLost,
        Fault::ResponseLost,
        Fault::PartiallyApplied,
        Fault::AppliedTwice,
        Fault::AppliedLate,
    ];
}

/// Delay of [`Fault::AppliedLate`].
const LATE: Duration = Duration::from_millis(400);

#[derive(Debug, Default)]
struct Plan {
    faults: BTreeMap<u64, Fault>,
    /// Delays of requests and of their responses in milliseconds, used round-robin.
    delays: Vec<(u64, u64)>,
    /// The fault of every read of the progress of all partitions, whatever its number.
    progress_of_all: Option<Fault>,
    operations: u64,
    injected: Vec<Fault>,
    /// Number of rows of each write of rows, and number of counts of each write of counts.
    rows: Vec<usize>,
    counts: Vec<usize>,
    /// Requests about counts, in the order in which they were acknowledged.
    acknowledged: Vec<Call>,
}

/// A request about counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A partition was registered.
    Register(i32),
    /// The registry was read.
    Registered,
    /// Counts of a partition were read.
    Counts(i32),
    /// Counts of a partition were written.
    WriteCounts(i32),
}

/// A worker's handle of the store.
#[derive(Clone, Debug)]
pub struct FaultyStore {
    store: MemoryStore,
    plan: Arc<Mutex<Plan>>,
    crash: Arc<Notify>,
    /// The value that reads of the registry return instead of the stored one.
    registry: Option<i32>,
}

impl FaultyStore {
    pub fn new(store: MemoryStore, faults: BTreeMap<u64, Fault>, delays: Vec<(u64, u64)>) -> Self {
        let plan = Plan { faults, delays, ..Plan::default() };
        Self { store, plan: Arc::new(Mutex::new(plan)), crash: Arc::default(), registry: None }
    }

    /// Sets the fault of every further read of the progress of all partitions.
    pub fn fail_progress_of_all(&self, fault: Option<Fault>) {
        self.plan.lock().unwrap().progress_of_all = fault;
    }

    /// The same store and plan for another worker; each worker crashes independently.
    pub fn for_another_worker(&self) -> Self {
        Self { crash: Arc::default(), ..self.clone() }
    }

    /// The same store, whose registry was lowered by another program.
    pub fn with_registry_at(self, partitions: i32) -> Self {
        Self { registry: Some(partitions), ..self }
    }

    /// Ready when this worker must crash.
    pub async fn crashed(&self) {
        self.crash.notified().await;
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.plan.lock().unwrap().operations
    }

    /// Number of rows of each write of rows so far, and number of counts of each write of counts.
    pub fn writes(&self) -> (Vec<usize>, Vec<usize>) {
        let plan = self.plan.lock().unwrap();
        (plan.rows.clone(), plan.counts.clone())
    }

    /// The requests about counts that were acknowledged so far.
    pub fn acknowledged(&self) -> Vec<Call> {
        self.plan.lock().unwrap().acknowledged.clone()
    }

    fn note<T>(&self, call: Call, outcome: Outcome<T>) -> Outcome<T> {
        if matches!(outcome, Outcome::Acknowledged(_)) {
            self.plan.lock().unwrap().acknowledged.push(call);
        }
        outcome
    }

    /// The faults that were injected so far.
    pub fn injected(&self) -> Vec<Fault> {
        self.plan.lock().unwrap().injected.clone()
    }

    fn next(&self) -> (Option<Fault>, u64, u64) {
        let mut plan = self.plan.lock().unwrap();
        let number = plan.operations;
        plan.operations += 1;
        let fault = plan.faults.get(&number).copied();
        plan.injected.extend(fault);
        let delay = match plan.delays.len() {
            0 => (0, 0),
            n => plan.delays[number as usize % n],
        };
        (fault, delay.0, delay.1)
    }

    async fn crash(&self) -> ! {
        self.crash.notify_one();
        pending().await
    }

    /// Runs an operation with its planned fault. `half` is the operation on the first half of what it writes.
    async fn operate<T: Send + 'static, F>(
        &self,
        whole: impl Fn(MemoryStore) -> F,
        half: impl Fn(MemoryStore) -> F,
    ) -> Outcome<T>
    where
        F: Future<Output = Outcome<T>> + Send + 'static,
    {
        let unknown = || Outcome::Unknown(StoreError::of("no response"));
        let (fault, there, back) = self.next();
        if fault == Some(Fault::CrashBefore) {
            self.crash().await
        }
        sleep(Duration::from_millis(there)).await;
        let outcome = match fault {
            Some(Fault::RequestLost) => unknown(),
            Some(Fault::Refused) => Outcome::Refused(StoreError::of("not allowed")),
            Some(Fault::AppliedLate) => {
                let late = whole(self.store.clone());
                tokio::spawn(async move {
                    sleep(LATE).await;
                    let _ = late.await;
                });
                unknown()
            }
            Some(Fault::PartiallyApplied) => {
                let _ = half(self.store.clone()).await;
                unknown()
            }
            Some(Fault::AppliedTwice) => {
                let _ = whole(self.store.clone()).await;
                whole(self.store.clone()).await
            }
            _ => whole(self.store.clone()).await,
        };
        if fault == Some(Fault::CrashAfter) {
            self.crash().await
        }
        sleep(Duration::from_millis(back)).await;
        match fault {
            Some(Fault::ResponseLost) => unknown(),
            _ => outcome,
        }
    }

    async fn read<T: Send + 'static, F>(&self, read: impl Fn(MemoryStore) -> F) -> Outcome<T>
    where
        F: Future<Output = Outcome<T>> + Send + 'static,
    {
        self.operate(&read, &read).await
    }
}

impl Store for FaultyStore {
    fn layout(&self) -> Layout {
        self.store.layout()
    }

    fn consistency(&self) -> BoundConsistency {
        self.store.consistency()
    }

    async fn stored_binding(&self) -> Outcome<Option<StoredBinding>> {
        self.read(|store| async move { store.stored_binding().await }).await
    }

    async fn bind(&self, binding: &Binding) -> Outcome<Bound> {
        let binding = binding.clone();
        self.read(move |store| {
            let binding = binding.clone();
            async move { store.bind(&binding).await }
        })
        .await
    }

    async fn holds_rows(&self) -> Outcome<bool> {
        self.read(|store| async move { store.holds_rows().await }).await
    }

    async fn stored_progress(&self) -> Outcome<BTreeMap<i32, Stored<Progress>>> {
        match self.plan.lock().unwrap().progress_of_all {
            Some(Fault::Refused) => return Outcome::Refused(StoreError::of("not allowed")),
            Some(_) => return Outcome::Unknown(StoreError::of("no response")),
            None => {}
        }
        self.read(|store| async move { store.stored_progress().await }).await
    }

    async fn progress(&self, partition: i32) -> Outcome<Option<Progress>> {
        self.read(move |store| async move { store.progress(partition).await }).await
    }

    async fn write_progress(&self, partition: i32, progress: Progress) -> Outcome<()> {
        self.read(move |store| async move { store.write_progress(partition, progress).await }).await
    }

    async fn register(&self, partition: i32) -> Outcome<()> {
        let outcome = self.read(move |store| async move { store.register(partition).await }).await;
        self.note(Call::Register(partition), outcome)
    }

    async fn registered(&self) -> Outcome<i32> {
        let outcome = self.read(|store| async move { store.registered().await }).await;
        let outcome = outcome.map(|registered| self.registry.unwrap_or(registered));
        self.note(Call::Registered, outcome)
    }

    async fn counts(&self, partition: i32, windows: &[WindowKey]) -> Outcome<Vec<Option<Count>>> {
        let windows = windows.to_vec();
        let outcome = self.read(move |store| {
            let windows = windows.clone();
            async move { store.counts(partition, &windows).await }
        });
        let outcome = outcome.await;
        self.note(Call::Counts(partition), outcome)
    }

    async fn write_counts(&self, partition: i32, counts: &[(WindowKey, Count)]) -> Outcome<()> {
        self.plan.lock().unwrap().counts.push(counts.len());
        let write = |counts: &[(WindowKey, Count)]| {
            let counts = counts.to_vec();
            move |store: MemoryStore| {
                let counts = counts.clone();
                async move { store.write_counts(partition, &counts).await }
            }
        };
        let outcome = self.operate(write(counts), write(&counts[..counts.len() / 2])).await;
        self.note(Call::WriteCounts(partition), outcome)
    }

    async fn write_alerts(&self, alerts: &[Alert]) -> Outcome<()> {
        let write = |alerts: &[Alert]| {
            let alerts = alerts.to_vec();
            move |store: MemoryStore| {
                let alerts = alerts.clone();
                async move { store.write_alerts(&alerts).await }
            }
        };
        self.operate(write(alerts), write(&alerts[..alerts.len() / 2])).await
    }

    async fn write_rows(&self, partition: i32, rows: &[(i64, Row)]) -> Outcome<()> {
        self.plan.lock().unwrap().rows.push(rows.len());
        let write = |rows: &[(i64, Row)]| {
            let rows = rows.to_vec();
            move |store: MemoryStore| {
                let rows = rows.clone();
                async move { store.write_rows(partition, &rows).await }
            }
        };
        self.operate(write(rows), write(&rows[..rows.len() / 2])).await
    }

    async fn rows_below(
        &self,
        partition: i32,
        from: i64,
        below: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Row)>> {
        self.read(move |store| async move { store.rows_below(partition, from, below, limit).await }).await
    }

    async fn stored_events(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Stored<Event>)>> {
        self.read(move |store| async move { store.stored_events(partition, from, to, limit).await }).await
    }

    async fn stored_dead_letters(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Outcome<Vec<(i64, Stored<DeadLetter>)>> {
        self.read(move |store| async move { store.stored_dead_letters(partition, from, to, limit).await })
            .await
    }

    async fn partitions(&self) -> Outcome<Vec<i32>> {
        self.read(|store| async move { store.partitions().await }).await
    }

    async fn invalid_partitions(&self) -> Outcome<Vec<Damaged>> {
        self.read(|store| async move { store.invalid_partitions().await }).await
    }

    async fn stored_alerts(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Outcome<Page<(WindowKey, Stored<i32>)>> {
        self.read(move |store| {
            let after = after.clone();
            async move { store.stored_alerts(after, limit).await }
        })
        .await
    }

    async fn all_counts(&self, after: Option<Cursor>, limit: usize) -> Outcome<Page<StoredCount>> {
        self.read(move |store| {
            let after = after.clone();
            async move { store.all_counts(after, limit).await }
        })
        .await
    }
}
