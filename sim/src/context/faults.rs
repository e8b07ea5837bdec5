//! The active faults, those that wait for their point, and what they do to requests.

use std::collections::BTreeMap;
use std::time::Duration;

use simulated_hosts::LinkFault;

use super::{SimContext, lock};
use crate::observed::Sometimes;
use crate::parties::{Caller, Service};
use crate::random::{Random, Stream};
use crate::scenario::fault::{Fault, Host, Kind, KindName, Point, Target, Trigger};

/// A worker that is held until another one passes a point.
struct Held {
    until: Point,
    /// The point must be of this partition, if it is of any.
    partition: Option<i32>,
    worker: u8,
}

impl Held {
    fn ends_with(&self, point: Point, partition: Option<i32>, caller: Caller) -> bool {
        let is_of_partition = self.partition.is_none() || partition.is_none() || self.partition == partition;
        self.until == point && caller.worker != Some(self.worker) && is_of_partition
    }
}

/// An active fault, with its own random numbers.
pub(crate) struct ActiveFault {
    pub fault: Fault,
    pub random: Random,
    /// It affects nothing any more, and what it has done is not undone yet.
    pub is_over: bool,
}

/// The active faults, and those that wait for their trigger.
#[derive(Default)]
pub(super) struct FaultState {
    /// By id.
    active: BTreeMap<u64, ActiveFault>,
    /// Faults that wait for a point, by id.
    waiting: BTreeMap<u64, Waiting>,
    /// The workers that are held until another one passes a point, by fault.
    held: BTreeMap<u64, Held>,
    /// The partitions of the points that faults have waited for, by fault.
    began_at: BTreeMap<u64, i32>,
    /// The log's end as lagging readers see it.
    lagging_ends: BTreeMap<i32, i64>,
    /// No further fault begins.
    ended: bool,
}

/// A fault that waits for a point.
struct Waiting {
    point: Point,
    /// How many more times it must be reached.
    left: u64,
    /// The fault kills a worker.
    kills: bool,
}

/// What the active faults do to one request to a simple service.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestFaults {
    pub lost: bool,
    pub delay_ms: Option<u64>,
    pub duplicated_after_ms: Option<u64>,
    pub response_lost: bool,
    pub error: bool,
    pub torn: bool,
}

impl SimContext {
    /// True if it is a fault of the scenario.
    pub(super) fn is_planned(&self, id: u64) -> bool {
        id < Fault::AFTER_FAULTS
    }

    /// Adds an active fault.
    pub fn begin_fault(&self, fault: &Fault) {
        self.record(|recording| recording.fault_begins(fault));
        // What stays down after the time of the faults is not one of the scenario.
        if self.is_planned(fault.id) {
            lock(&self.observed).begin(fault);
        }
        let random = Random::new(self.seed, Stream::FaultDraws(fault.id));
        lock(&self.faults)
            .active
            .insert(fault.id, ActiveFault { fault: fault.clone(), random, is_over: false });
    }

    pub fn end_fault(&self, id: u64) -> Option<Fault> {
        lock(&self.observed).end(id);
        let fault = lock(&self.faults).active.remove(&id).map(|active| active.fault)?;
        self.record(|recording| recording.fault_ends(&fault));
        Some(fault)
    }

    pub fn active_faults(&self) -> Vec<Fault> {
        lock(&self.faults).active.values().map(|active| active.fault.clone()).collect()
    }

    /// Lowers the rates of the active faults, so that together they are at most this.
    pub fn lower_rates(&self, most_per_mille: u64) {
        let mut faults = lock(&self.faults);
        let mut rates: Vec<&mut u64> =
            faults.active.values_mut().filter_map(|active| active.fault.kind.rate_mut()).collect();
        let most = most_per_mille / rates.len().max(1) as u64;
        rates.iter_mut().for_each(|rate| **rate = (**rate).min(most));
    }

    /// Applies each active fault, by id, to something that happens; `apply` returns whether the fault had an effect on it.
    pub fn apply_faults(&self, mut apply: impl FnMut(&mut ActiveFault) -> bool) {
        for active in lock(&self.faults).active.values_mut() {
            if apply(active) {
                self.effect(&active.fault);
            }
        }
    }

    /// A fault affects nothing any more; false if it is not active.
    pub fn finish(&self, id: u64) -> bool {
        let mut faults = lock(&self.faults);
        let active = faults.active.get_mut(&id);
        active.is_some_and(|active| {
            active.is_over = true;
            true
        })
    }

    /// The log's end as readers see it while it lags.
    pub fn set_lagging_ends(&self, ends: BTreeMap<i32, i64>) {
        lock(&self.faults).lagging_ends = ends;
    }

    /// Starts to count the points that triggers wait for.
    pub fn arm(&self, faults: &[Fault]) {
        let waiting = faults.iter().filter_map(|fault| match fault.trigger {
            Trigger::When { point, nth, .. } => {
                let kills = fault.name() == KindName::WorkerKilled;
                Some((fault.id, Waiting { point, left: nth, kills }))
            }
            Trigger::At { .. } => None,
        });
        lock(&self.faults).waiting = waiting.collect();
    }

    /// A fault no longer waits for its point; false if it does not wait.
    pub fn stop_waiting(&self, id: u64) -> bool {
        lock(&self.faults).waiting.remove(&id).is_some()
    }

    /// No further fault begins.
    pub fn disarm(&self) {
        if !self.faults_have_ended() {
            self.record(|recording| recording.moment(None, "no further fault begins"));
        }
        let mut faults = lock(&self.faults);
        faults.waiting.clear();
        faults.ended = true;
        drop(faults);
        self.effects.notify_waiters();
    }

    /// True after [`disarm`](Self::disarm).
    pub fn faults_have_ended(&self) -> bool {
        lock(&self.faults).ended
    }

    /// A worker has reached this point. If a fault waits for it, the fault starts before this returns; `killed` is called
    /// if it kills a worker.
    pub async fn reached(&self, point: Point, partition: Option<i32>, caller: Caller, killed: impl FnOnce()) {
        let (is_due, kills) = self.trigger(point, partition, caller);
        if kills {
            killed();
        }
        if is_due {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A fault holds a worker until another one passes a point, perhaps of the same partition.
    pub fn hold(&self, id: u64, worker: u8, until: Point, same_partition: bool) {
        let mut faults = lock(&self.faults);
        let partition = faults.began_at.get(&id).copied().filter(|_| same_partition);
        faults.held.insert(id, Held { until, partition, worker });
    }

    /// Waits until another worker has passed the point that a fault holds its worker until.
    pub async fn wait_for_another(&self, id: u64) {
        loop {
            let passed = self.passed.notified();
            if !lock(&self.faults).held.contains_key(&id) {
                return;
            }
            passed.await;
        }
    }

    /// Starts the faults that wait for this point; returns whether there is one, and whether one kills a worker.
    pub fn trigger(&self, point: Point, partition: Option<i32>, caller: Caller) -> (bool, bool) {
        let (mut due, mut kills) = (Vec::new(), false);
        let mut faults = lock(&self.faults);
        let held = faults.held.len();
        faults.held.retain(|_, held| !held.ends_with(point, partition, caller));
        if faults.held.len() < held {
            self.passed.notify_waiters();
            self.observe(Sometimes::WorkerHeldUntilAnotherPassed);
        }
        faults.waiting.retain(|id, waiting| {
            if waiting.point == point {
                waiting.left -= 1;
                if waiting.left == 0 {
                    due.push(*id);
                    kills |= waiting.kills;
                }
            }
            waiting.left > 0
        });
        faults.began_at.extend(due.iter().filter_map(|id| Some((*id, partition?))));
        drop(faults);
        for id in &due {
            // The receiver exists as long as the run.
            let _ = self.triggered.send((*id, caller));
        }
        (!due.is_empty(), kills)
    }

    /// Counts the effect of the faults that cut this link; the simulator drops the message.
    pub fn observe_cut(&self, caller: Caller, to: Service, responses: bool) {
        let worker = caller.worker.map(Host::Worker);
        self.apply_faults(|ActiveFault { fault, .. }| match (fault.kind, fault.target) {
            (Kind::Link(LinkFault::Cut), Target::Link { from, to: Host::Service(service), direction }) => {
                service == to && Some(from) == worker && direction.loses(!responses)
            }
            _ => false,
        });
    }

    /// Draws what the active faults do to a request that has arrived, and counts it as their effect.
    pub fn request_faults(&self, at: Service, is_write: bool) -> RequestFaults {
        let mut faults = RequestFaults::default();
        self.apply_faults(|ActiveFault { fault, random, .. }| {
            let Some(per_mille) = fault.kind.rate() else { return false };
            let is_possible = is_write || !matches!(fault.kind, Kind::CallsTorn { .. });
            if fault.target != Target::Requests(at) || !is_possible || !random.chance(per_mille) {
                return false;
            }
            match fault.kind {
                Kind::Link(LinkFault::Lose { .. }) => faults.lost = true,
                Kind::Link(LinkFault::Delay { up_to_ms, .. }) => {
                    faults.delay_ms = Some(random.within(1..=up_to_ms));
                }
                Kind::Link(LinkFault::Duplicate { up_to_ms, .. }) => {
                    faults.duplicated_after_ms = Some(random.within(1..=up_to_ms));
                }
                Kind::Link(LinkFault::LoseResponses { .. }) => faults.response_lost = true,
                Kind::ErrorsReturned { .. } => faults.error = true,
                _ => faults.torn = true,
            }
            true
        });
        faults
    }

    /// The log's end as readers see it, if it lags and is below `end`; then the fault has had an effect.
    pub fn lagging_end(&self, partition: i32, end: i64) -> Option<i64> {
        let lagging = lock(&self.faults).lagging_ends.get(&partition).copied().unwrap_or(0);
        let mut lags = false;
        self.apply_faults(|active| {
            let has_effect = active.fault.name() == KindName::LogEndLags && lagging < end;
            lags |= has_effect;
            has_effect
        });
        if lags {
            self.observe(Sometimes::LogEndWentBack);
        }
        lags.then_some(lagging)
    }

    /// The fault that shuffles the group, with the time between two reassignments.
    pub fn shuffling(&self) -> Option<(Fault, u64)> {
        self.active_faults().into_iter().find_map(|fault| match fault.kind {
            Kind::GroupShuffled { every_ms } => Some((fault, every_ms)),
            _ => None,
        })
    }
}
