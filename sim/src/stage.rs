//! What a run's nodes share: what is durable, what is noted, and what is wrong at the moment.
//!
//! Nothing here belongs to a node, so a node's crash loses nothing of it. What a node may lose, it keeps to
//! itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use exactlyonce::broker::memory::MemoryBroker;
use exactlyonce::store::memory::MemoryStore;
use madsim::time::TimeHandle;
use tokio::sync::{mpsc, watch};

use crate::broker::group::Group;
use crate::dice::{Dice, Stream};
use crate::faults::{Direction, Fault, Kind, Point, Trigger};
use crate::network::{Caller, Service};
use crate::observed::Observed;
use crate::oracle::Violation;
use crate::trace::Trace;
use crate::world::World;

pub(crate) struct Stage {
    pub seed: u64,
    pub world: World,
    pub trace: Trace,
    /// The store's tables.
    pub tables: MemoryStore,
    /// The log.
    pub log: MemoryBroker,
    group: Mutex<Group>,
    weather: Mutex<Weather>,
    dice: Mutex<Dice>,
    observed: Mutex<Observed>,
    violation: Mutex<Option<Violation>>,
    requests: Mutex<u64>,
    /// For each worker, whether it is told to stop.
    pub stops: Vec<watch::Sender<bool>>,
    triggered: mpsc::UnboundedSender<(usize, Caller)>,
}

/// What is wrong at the moment.
struct Weather {
    dice: Dice,
    /// By the fault's place in the plan.
    active: BTreeMap<usize, Fault>,
    /// Faults that wait for a point, and how often it has yet to come.
    waiting: BTreeMap<usize, (Point, u64)>,
    /// Where the log ended for those who see it lagging.
    lagging_ends: BTreeMap<i32, i64>,
    /// Windows by what each life of a worker wrote: for telling evictions.
    written: BTreeMap<(Caller, i32), std::collections::BTreeSet<exactlyonce::store::WindowKey>>,
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fate {
    pub lost: bool,
    pub delay_ms: Option<u64>,
    pub doubled_after_ms: Option<u64>,
    pub answer_lost: bool,
    pub error: bool,
    pub torn: bool,
    pub forgotten: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stage {
    pub fn new(
        seed: u64,
        world: World,
        keep_trace: bool,
        triggered: mpsc::UnboundedSender<(usize, Caller)>,
    ) -> Self {
        let group = Group::new(&world);
        let stops = (0..world.workers).map(|_| watch::Sender::new(false)).collect();
        Self {
            seed,
            trace: Trace::new(keep_trace),
            tables: MemoryStore::with_layout(world.layout),
            log: MemoryBroker::new(world.fetch_records as usize),
            group: Mutex::new(group),
            weather: Mutex::new(Weather {
                dice: Dice::new(seed, Stream::Fates),
                active: BTreeMap::new(),
                waiting: BTreeMap::new(),
                lagging_ends: BTreeMap::new(),
                written: BTreeMap::new(),
            }),
            dice: Mutex::new(Dice::new(seed, Stream::Services)),
            observed: Mutex::default(),
            violation: Mutex::default(),
            requests: Mutex::default(),
            stops,
            triggered,
            world,
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

    /// The first violation stays.
    pub fn violate(&self, violation: Violation) {
        self.note(format_args!("VIOLATION {violation:?}"));
        lock(&self.violation).get_or_insert(violation);
    }

    pub fn violation(&self) -> Option<Violation> {
        lock(&self.violation).clone()
    }

    /// Chance for what services and clients may do at any time.
    pub fn dice(&self) -> MutexGuard<'_, Dice> {
        lock(&self.dice)
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

    // The weather.

    pub fn begin_fault(&self, number: usize, fault: Fault, ends: BTreeMap<i32, i64>) {
        let mut weather = lock(&self.weather);
        if fault.kind == Kind::LogEndLags {
            weather.lagging_ends = ends;
        }
        weather.active.insert(number, fault);
    }

    pub fn end_fault(&self, number: usize) -> Option<Fault> {
        lock(&self.weather).active.remove(&number)
    }

    pub fn active_faults(&self) -> Vec<usize> {
        lock(&self.weather).active.keys().copied().collect()
    }

    /// What a question says of a fault that is active; false for others.
    pub fn with_fault(&self, number: usize, question: &dyn Fn(&Fault) -> bool) -> bool {
        lock(&self.weather).active.get(&number).is_some_and(question)
    }

    /// From now on, points in meaning are counted.
    pub fn arm(&self, plan: &[Fault]) {
        lock(&self.weather).waiting = plan
            .iter()
            .enumerate()
            .filter_map(|(number, fault)| match fault.trigger {
                Trigger::When { point, nth } => Some((number, (point, nth))),
                Trigger::At { .. } => None,
            })
            .collect();
    }

    /// No fault begins any more.
    pub fn disarm(&self) {
        lock(&self.weather).waiting.clear();
    }

    /// A worker's request has come to this point. If a fault waited for it, the fault begins before this
    /// returns.
    pub async fn reached(&self, point: Point, caller: Caller) {
        let mut due = Vec::new();
        lock(&self.weather).waiting.retain(|number, (awaited, left)| {
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

    /// True if the request (or the answer to it) would not come through.
    pub fn is_cut(&self, caller: Caller, service: Service, answers: bool) -> bool {
        let weather = lock(&self.weather);
        weather.active.values().any(|fault| match (fault.kind, fault.target) {
            (Kind::LinkCut { service: cut, direction }, crate::faults::Target::Worker(worker)) => {
                cut == service
                    && caller.worker == Some(worker)
                    && match direction {
                        Direction::Both => true,
                        Direction::Requests => !answers,
                        Direction::Answers => answers,
                    }
            }
            _ => false,
        })
    }

    /// What becomes of a request that arrived.
    pub fn fate(&self, at: Service) -> Fate {
        let weather = &mut *lock(&self.weather);
        let dice = &mut weather.dice;
        let mut fate = Fate::default();
        for fault in weather.active.values() {
            match fault.kind {
                Kind::RequestsLost { service, per_mille } if service == at => {
                    fate.lost |= dice.chance(per_mille);
                }
                Kind::RequestsDelayed { service, per_mille, up_to_ms }
                    if service == at && dice.chance(per_mille) =>
                {
                    fate.delay_ms = Some(dice.within(1..=up_to_ms));
                }
                Kind::RequestsDoubled { service, per_mille, up_to_ms }
                    if service == at && dice.chance(per_mille) =>
                {
                    fate.doubled_after_ms = Some(dice.within(1..=up_to_ms));
                }
                Kind::AnswersLost { service, per_mille } if service == at => {
                    fate.answer_lost |= dice.chance(per_mille);
                }
                Kind::ErrorsAnswered { service, per_mille } if service == at => {
                    fate.error |= dice.chance(per_mille);
                }
                Kind::CallsTorn { per_mille } if at == Service::Store => {
                    fate.torn |= dice.chance(per_mille);
                }
                Kind::AcknowledgedWritesDropped { per_mille } if at == Service::Store => {
                    fate.forgotten |= dice.chance(per_mille);
                }
                _ => {}
            }
        }
        fate
    }

    /// Where readers see a partition's log end, if that is not where it does.
    pub fn lagging_end(&self, partition: i32) -> Option<i64> {
        let weather = lock(&self.weather);
        let lags = weather.active.values().any(|fault| fault.kind == Kind::LogEndLags);
        lags.then(|| weather.lagging_ends.get(&partition).copied().unwrap_or(0))
    }

    /// Time between two deals of the group, if it is being shuffled.
    pub fn shuffle_every_ms(&self) -> Option<u64> {
        lock(&self.weather).active.values().find_map(|fault| match fault.kind {
            Kind::GroupShuffled { every_ms } => Some(every_ms),
            _ => None,
        })
    }

    /// Notes which windows a life of a worker wrote.
    pub fn wrote(&self, caller: Caller, partition: i32, key: &exactlyonce::store::WindowKey) {
        lock(&self.weather).written.entry((caller, partition)).or_default().insert(key.clone());
    }

    /// True if it wrote one of these since it was assigned the partition.
    pub fn has_written(
        &self,
        caller: Caller,
        partition: i32,
        keys: &[exactlyonce::store::WindowKey],
    ) -> bool {
        let weather = lock(&self.weather);
        let written = weather.written.get(&(caller, partition));
        written.is_some_and(|written| keys.iter().any(|key| written.contains(key)))
    }

    /// A partition begins anew in a worker, with nothing in memory.
    pub fn forget_written(&self, caller: Caller, partition: i32) {
        lock(&self.weather).written.remove(&(caller, partition));
    }
}
