//! The state that all nodes of a run share: durable data, the trace, and the active faults.
//!
//! None of it belongs to a node, so a node's crash loses none of it. Volatile state is kept in the node's own tasks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use exactlyonce::broker::memory::MemoryBroker;
use exactlyonce::store::memory::MemoryStore;
use madsim::time::TimeHandle;
use tokio::sync::{mpsc, watch};

use crate::broker::group::Group;
use crate::checker::Violation;
use crate::config::SimConfig;
use crate::faults::{Direction, Fault, Kind, Point, Trigger};
use crate::network::{Caller, Service};
use crate::observed::Observed;
use crate::random::{Random, Stream};
use crate::trace::Trace;

pub(crate) struct SimContext {
    pub seed: u64,
    pub config: SimConfig,
    pub trace: Trace,
    /// The store's tables.
    pub tables: MemoryStore,
    /// The log.
    pub log: MemoryBroker,
    group: Mutex<Group>,
    fault_state: Mutex<FaultState>,
    random: Mutex<Random>,
    observed: Mutex<Observed>,
    violation: Mutex<Option<Violation>>,
    requests: Mutex<u64>,
    /// For each worker, whether it should stop.
    pub stops: Vec<watch::Sender<bool>>,
    triggered: mpsc::UnboundedSender<(usize, Caller)>,
}

/// The active faults, and those that wait for their trigger.
struct FaultState {
    random: Random,
    /// By the fault's index in the plan.
    active: BTreeMap<usize, Fault>,
    /// Faults that wait for a point, and how many more times it must be reached.
    waiting: BTreeMap<usize, (Point, u64)>,
    /// The log's end as lagging readers see it.
    lagging_ends: BTreeMap<i32, i64>,
    /// The windows that each process of a worker wrote: to detect evictions.
    written: BTreeMap<(Caller, i32), std::collections::BTreeSet<exactlyonce::store::WindowKey>>,
}

/// The faults that apply to one request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestFaults {
    pub lost: bool,
    pub delay_ms: Option<u64>,
    pub duplicated_after_ms: Option<u64>,
    pub response_lost: bool,
    pub error: bool,
    pub torn: bool,
    pub forgotten: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimContext {
    pub fn new(
        seed: u64,
        config: SimConfig,
        keep_trace: bool,
        triggered: mpsc::UnboundedSender<(usize, Caller)>,
    ) -> Self {
        let group = Group::new(&config);
        let stops = (0..config.workers).map(|_| watch::Sender::new(false)).collect();
        Self {
            seed,
            trace: Trace::new(keep_trace),
            tables: MemoryStore::with_layout(config.layout),
            log: MemoryBroker::new(config.fetch_records as usize),
            group: Mutex::new(group),
            fault_state: Mutex::new(FaultState {
                random: Random::new(seed, Stream::FaultDraws),
                active: BTreeMap::new(),
                waiting: BTreeMap::new(),
                lagging_ends: BTreeMap::new(),
                written: BTreeMap::new(),
            }),
            random: Mutex::new(Random::new(seed, Stream::Services)),
            observed: Mutex::default(),
            violation: Mutex::default(),
            requests: Mutex::default(),
            stops,
            triggered,
            config,
        }
    }

    pub fn note(&self, event: fmt::Arguments<'_>) {
        self.trace.note(event);
    }

    pub fn observe(&self, name: &'static str) {
        lock(&self.observed).add(name);
    }

    pub fn observed(&self) -> Observed {
        lock(&self.observed).clone()
    }

    /// Records a violation; the first one is kept.
    pub fn violate(&self, violation: Violation) {
        self.note(format_args!("VIOLATION {violation:?}"));
        lock(&self.violation).get_or_insert(violation);
    }

    pub fn violation(&self) -> Option<Violation> {
        lock(&self.violation).clone()
    }

    /// Random numbers for what services and clients may do at any time.
    pub fn random(&self) -> MutexGuard<'_, Random> {
        lock(&self.random)
    }

    pub fn group(&self) -> MutexGuard<'_, Group> {
        lock(&self.group)
    }

    pub fn now_ms(&self) -> u64 {
        TimeHandle::current().elapsed().as_millis() as u64
    }

    pub fn next_request(&self) -> u64 {
        let mut requests = lock(&self.requests);
        *requests += 1;
        *requests
    }

    // Faults.

    pub fn begin_fault(&self, number: usize, fault: Fault, ends: BTreeMap<i32, i64>) {
        let mut fault_state = lock(&self.fault_state);
        if fault.kind == Kind::LogEndLags {
            fault_state.lagging_ends = ends;
        }
        fault_state.active.insert(number, fault);
    }

    pub fn end_fault(&self, number: usize) -> Option<Fault> {
        lock(&self.fault_state).active.remove(&number)
    }

    pub fn active_faults(&self) -> Vec<usize> {
        lock(&self.fault_state).active.keys().copied().collect()
    }

    /// Whether a fault is active and satisfies the predicate.
    pub fn with_fault(&self, number: usize, request: &dyn Fn(&Fault) -> bool) -> bool {
        lock(&self.fault_state).active.get(&number).is_some_and(request)
    }

    /// Starts to count the points that triggers wait for.
    pub fn arm(&self, plan: &[Fault]) {
        lock(&self.fault_state).waiting = plan
            .iter()
            .enumerate()
            .filter_map(|(number, fault)| match fault.trigger {
                Trigger::When { point, nth } => Some((number, (point, nth))),
                Trigger::At { .. } => None,
            })
            .collect();
    }

    /// No further fault is triggered.
    pub fn disarm(&self) {
        lock(&self.fault_state).waiting.clear();
    }

    /// A worker's request has reached this point. If a fault waits for it, the fault starts before this returns.
    pub async fn reached(&self, point: Point, caller: Caller) {
        let mut due = Vec::new();
        lock(&self.fault_state).waiting.retain(|number, (awaited, left)| {
            if *awaited == point {
                *left -= 1;
                if *left == 0 {
                    due.push(*number);
                }
            }
            *left > 0
        });
        if due.is_empty() {
            return;
        }
        for number in due {
            let _ = self.triggered.send((number, caller));
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }

    /// True if the request (or its response) would be lost.
    pub fn is_cut(&self, caller: Caller, service: Service, responses: bool) -> bool {
        let fault_state = lock(&self.fault_state);
        fault_state.active.values().any(|fault| match (fault.kind, fault.target) {
            (Kind::LinkCut { service: cut, direction }, crate::faults::Target::Worker(worker)) => {
                cut == service
                    && caller.worker == Some(worker)
                    && match direction {
                        Direction::Both => true,
                        Direction::Requests => !responses,
                        Direction::Responses => responses,
                    }
            }
            _ => false,
        })
    }

    /// Draws the faults for a request that has arrived.
    pub fn request_faults(&self, at: Service) -> RequestFaults {
        let fault_state = &mut *lock(&self.fault_state);
        let random = &mut fault_state.random;
        let mut faults = RequestFaults::default();
        for fault in fault_state.active.values() {
            match fault.kind {
                Kind::RequestsLost { service, per_mille } if service == at => {
                    faults.lost |= random.chance(per_mille);
                }
                Kind::RequestsDelayed { service, per_mille, up_to_ms }
                    if service == at && random.chance(per_mille) =>
                {
                    faults.delay_ms = Some(random.within(1..=up_to_ms));
                }
                Kind::RequestsDuplicated { service, per_mille, up_to_ms }
                    if service == at && random.chance(per_mille) =>
                {
                    faults.duplicated_after_ms = Some(random.within(1..=up_to_ms));
                }
                Kind::ResponsesLost { service, per_mille } if service == at => {
                    faults.response_lost |= random.chance(per_mille);
                }
                Kind::ErrorsReturned { service, per_mille } if service == at => {
                    faults.error |= random.chance(per_mille);
                }
                Kind::CallsTorn { per_mille } if at == Service::Store => {
                    faults.torn |= random.chance(per_mille);
                }
                Kind::AcknowledgedWritesDropped { per_mille } if at == Service::Store => {
                    faults.forgotten |= random.chance(per_mille);
                }
                _ => {}
            }
        }
        faults
    }

    /// The log's end as readers see it, if it lags.
    pub fn lagging_end(&self, partition: i32) -> Option<i64> {
        let fault_state = lock(&self.fault_state);
        let lags = fault_state.active.values().any(|fault| fault.kind == Kind::LogEndLags);
        lags.then(|| fault_state.lagging_ends.get(&partition).copied().unwrap_or(0))
    }

    /// Time between two reassignments of the group, while that fault is active.
    pub fn shuffle_every_ms(&self) -> Option<u64> {
        lock(&self.fault_state).active.values().find_map(|fault| match fault.kind {
            Kind::GroupShuffled { every_ms } => Some(every_ms),
            _ => None,
        })
    }

    /// Records which windows a process of a worker wrote.
    pub fn wrote(&self, caller: Caller, partition: i32, key: &exactlyonce::store::WindowKey) {
        lock(&self.fault_state).written.entry((caller, partition)).or_default().insert(key.clone());
    }

    /// True if it wrote one of these windows since it was assigned the partition.
    pub fn has_written(
        &self,
        caller: Caller,
        partition: i32,
        keys: &[exactlyonce::store::WindowKey],
    ) -> bool {
        let fault_state = lock(&self.fault_state);
        let written = fault_state.written.get(&(caller, partition));
        written.is_some_and(|written| keys.iter().any(|key| written.contains(key)))
    }

    /// A worker starts a partition with nothing in memory.
    pub fn forget_written(&self, caller: Caller, partition: i32) {
        lock(&self.fault_state).written.remove(&(caller, partition));
    }
}
