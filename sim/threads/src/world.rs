//! What the threads of one simulation share: who waits for what, who holds what, and whose turn it is.
//!
//! Only one thread at a time touches it: the executor (the thread that runs the simulator's tasks), or the one that the
//! executor has given a turn.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError};
use std::task::Waker;
use std::time::Duration;

use madsim::plugin::Simulator;
use madsim::rand::{GlobalRng, Rng};
use madsim::task::NodeId;
use madsim::time::TimeHandle;

use crate::descriptors::Descriptors;
use crate::locks::{Held, Holders};
use crate::names::Names;
use crate::options::{Event, Figures, Options};
use crate::schedule::Scheduler;
use crate::worker::Worker;

/// The executor's place among the threads.
pub(crate) const EXECUTOR: usize = 0;

thread_local! {
    /// The simulation that this thread belongs to, or null.
    static WORLD: Cell<*const World> = const { Cell::new(std::ptr::null()) };
    /// Whether this crate's own code runs, whose calls of the C library are meant for the C library.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// The simulation that this thread belongs to, also while this crate's code runs.
pub(crate) fn world() -> Option<&'static World> {
    // SAFETY: who sets it keeps the world alive until it is set to null.
    unsafe { WORLD.get().as_ref() }
}

/// Makes the calling thread part of a simulation, or of none. The caller keeps the world alive meanwhile.
pub(crate) fn set_world(world: Option<&Arc<World>>) {
    WORLD.set(world.map_or(std::ptr::null(), Arc::as_ptr));
}

/// A call of the C library by a thread of a simulation. Until it is dropped, calls are the C library's.
pub(crate) struct Call {
    pub(crate) world: &'static World,
}

impl Call {
    /// `None` if the call is the C library's.
    pub(crate) fn begin() -> Option<Call> {
        if INSIDE.get() {
            return None;
        }
        let world = world()?;
        INSIDE.set(true);
        Some(Call { world })
    }

    /// The thread that calls, unless it is the executor.
    pub(crate) fn worker(&self) -> Option<&'static Worker> {
        Worker::current()
    }

    /// Runs what is not this crate's: its calls lead here again.
    pub(crate) fn outside<T>(&self, run: impl FnOnce() -> T) -> T {
        INSIDE.set(false);
        let result = run();
        INSIDE.set(true);
        result
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}

/// Whether the calling thread is in a call that leads to this crate.
pub(crate) fn is_inside() -> bool {
    INSIDE.get()
}

/// What a thread waits for to be woken by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Condition,
    Futex,
    Semaphore,
}

/// What a thread waits for.
#[derive(Debug)]
pub(crate) enum Wait {
    /// Nothing: it can run.
    Nothing,
    /// A lock, to try again to get it, shared with other readers or alone.
    Lock {
        address: usize,
        shared: bool,
    },
    Signal {
        address: usize,
        signal: Signal,
        woken: bool,
    },
    /// Any of these descriptors, for these events.
    Descriptors(Vec<(i32, i16)>),
    /// Only the deadline.
    Time,
    /// The end of another thread.
    End(usize),
    /// That another thread has done what is done once.
    Once(usize),
}

impl Wait {
    /// The address that others wake it by.
    fn address(&self) -> Option<usize> {
        match self {
            Wait::Lock { address, .. } | Wait::Signal { address, .. } | Wait::Once(address) => Some(*address),
            Wait::Nothing | Wait::Descriptors(_) | Wait::Time | Wait::End(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Alive,
    /// Its function has returned.
    Ended,
    /// Its machine was killed.
    Killed,
}

pub(crate) struct Thread {
    /// Its most calls without a wait, and the time of the last.
    pub(crate) most_calls: (u32, Duration),
    pub(crate) name: String,
    /// Its machine; the executor has none.
    pub(crate) machine: Option<NodeId>,
    pub(crate) life: Life,
    pub(crate) wait: Wait,
    pub(crate) deadline: Option<Duration>,
    /// Wakes the task that waits in its place.
    pub(crate) waker: Option<Waker>,
    /// Nobody will ask for its result.
    pub(crate) detached: bool,
    /// What its function returned.
    pub(crate) result: usize,
    /// In the order in which it got them.
    pub(crate) holds: Vec<Held>,
    /// For [`crate::Strategy::Priorities`].
    pub(crate) priority: i64,
    /// With priorities: the calls without a wait at which it was last taken for spinning.
    pub(crate) spun_until: u32,
    /// Until the real thread has ended; the executor has none.
    pub(crate) worker: Option<Arc<Worker>>,
}

impl Thread {
    pub(crate) fn new(machine: Option<NodeId>, worker: Option<Arc<Worker>>) -> Self {
        Self {
            most_calls: Default::default(),
            name: String::new(),
            machine,
            life: Life::Alive,
            wait: Wait::Nothing,
            deadline: None,
            waker: None,
            detached: false,
            result: 0,
            holds: Vec::new(),
            priority: 0,
            spun_until: 0,
            worker,
        }
    }
}

/// Something that a thread has the executor do.
pub(crate) type Errand = Box<dyn FnOnce() + Send>;

pub(crate) struct State {
    pub(crate) threads: Vec<Thread>,
    /// Locks that are held, by address.
    pub(crate) locks: BTreeMap<usize, Holders>,
    /// Who waits for an address, in the order in which they came.
    pub(crate) waiting: BTreeMap<usize, Vec<usize>>,
    /// Conditions whose deadlines are on the monotonic clock.
    pub(crate) monotonic: BTreeSet<usize>,
    /// What is being done once, and by whom.
    pub(crate) once: BTreeMap<usize, usize>,
    pub(crate) descriptors: Descriptors,
    pub(crate) names: Names,
    pub(crate) scheduler: Scheduler,
    pub(crate) figures: Figures,
    pub(crate) errand: Option<Errand>,
    /// Why the simulation cannot go on.
    pub(crate) failure: Option<String>,
    /// The simulation has ended.
    pub(crate) over: bool,
}

/// What is known when a simulation begins.
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) options: Options,
    pub(crate) shown: bool,
    pub(crate) heap: u64,
}

pub(crate) struct World {
    state: Mutex<State>,
    setup: OnceLock<Setup>,
    random: GlobalRng,
    pub(crate) time: TimeHandle,
}

/// The simulator calls it when a machine is killed.
pub(crate) struct Hook(pub(crate) Arc<World>);

impl Simulator for Hook {
    fn new(random: &GlobalRng, time: &TimeHandle, _: &madsim::Config) -> Self {
        let state = State {
            threads: vec![Thread::new(None, None)],
            locks: BTreeMap::new(),
            waiting: BTreeMap::new(),
            monotonic: BTreeSet::new(),
            once: BTreeMap::new(),
            descriptors: Descriptors::default(),
            names: Names::default(),
            scheduler: Scheduler::default(),
            figures: Figures { trace: 0x243f_6a88_85a3_08d3, ..Figures::default() },
            errand: None,
            failure: None,
            over: false,
        };
        let (state, setup) = (Mutex::new(state), OnceLock::new());
        Self(Arc::new(World { state, setup, random: random.clone(), time: time.clone() }))
    }

    fn reset_node(&self, id: NodeId) {
        self.0.kill(|thread| thread.machine == Some(id));
        self.0.lock().descriptors.forget(id);
        self.0.check_heap();
    }
}

impl World {
    pub(crate) fn begin(&self, seed: u64, options: Options) {
        let points = self.lock().scheduler.begin(options.strategy, |below| self.draw_long(below));
        debug_assert!(
            points || !matches!(options.strategy, crate::Strategy::Priorities { changes: 1.., .. })
        );
        let shown = std::env::var_os("SIMULATED_THREADS_TRACE").is_some();
        // Only once in a simulation.
        let _ = self.setup.set(Setup { seed, options, shown, heap: crate::heap::in_use() });
    }

    pub(crate) fn setup(&self) -> &Setup {
        // A thread belongs to a world only after `begin`.
        self.setup.get().unwrap_or_else(|| unreachable!("the simulation has begun"))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            // To wait for it would be to wait forever.
            Err(TryLockError::WouldBlock) => unreachable!("two threads have a turn"),
        }
    }

    /// Whether nobody has locked it.
    pub(crate) fn is_free(&self) -> bool {
        !matches!(self.state.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// A random number below this one.
    pub(crate) fn draw(&self, below: usize) -> usize {
        if below < 2 { 0 } else { self.random.clone().gen_range(0..below) }
    }

    pub(crate) fn draw_long(&self, below: u64) -> u64 {
        if below < 2 { 0 } else { self.random.clone().gen_range(0..below) }
    }

    pub(crate) fn fill(&self, bytes: &mut [u8]) {
        self.random.clone().fill(bytes);
    }

    /// Simulated time since the start; the monotonic clock shows it.
    pub(crate) fn now(&self) -> Duration {
        self.time.elapsed()
    }

    /// What the wall clock shows, since 1970.
    pub(crate) fn wall(&self) -> Duration {
        self.time.now_time().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
    }

    /// Notes a call of a thread, which takes time. Calls of the executor take none, as in the simulator.
    pub(crate) fn note(&self, call: &str, size: u64) {
        let Some(me) = Worker::current() else { return };
        let Setup { options, shown, .. } = self.setup();
        let before = me.calls_since_wait.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.time.advance(options.cost.after(before));
        let time = self.now();
        let state = &mut *self.lock();
        state.figures.calls += 1;
        let thread = &mut state.threads[me.number];
        if before >= thread.most_calls.0 {
            thread.most_calls = (before + 1, time);
        }
        for word in [me.number as u64, time.as_nanos() as u64, size] {
            state.trace(word);
        }
        state.trace_bytes(call.as_bytes());
        if !shown && options.observer.is_none() {
            return;
        }
        let thread = &state.threads[me.number];
        let Some(machine) = thread.machine else { return };
        let event = Event { time, machine, thread: me.number, name: &thread.name, call, size };
        if let Some(observer) = &options.observer {
            observer(&event);
        }
        if *shown {
            eprintln!("{event}");
        }
    }

    /// Notes a call before which other threads may run.
    pub(crate) fn point(&self, call: &str, size: u64) {
        self.note(call, size);
        self.give_way();
    }

    /// Adds bytes to the trace.
    pub(crate) fn note_bytes(&self, bytes: &[u8]) {
        self.lock().trace_bytes(bytes);
    }

    /// Ends the simulation if killed machines have left too much on the C library's heap.
    fn check_heap(&self) {
        let Setup { options, heap, .. } = self.setup();
        let Some(bound) = options.heap_growth else { return };
        let growth = crate::heap::in_use().saturating_sub(*heap);
        if growth > bound as u64 {
            let killed = self.lock().figures.killed;
            self.fail(&format!(
                "the C library's heap has grown by {growth} bytes, of {bound} that are allowed, after {killed} \
                 threads were killed"
            ));
        }
    }
}

impl State {
    /// Adds a number to the trace.
    pub(crate) fn trace(&mut self, word: u64) {
        let mixed = (self.figures.trace ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.figures.trace = mixed ^ (mixed >> 29);
    }

    pub(crate) fn trace_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.trace(u64::from_le_bytes(word));
        }
        self.trace(bytes.len() as u64);
    }

    /// Whether the thread has nothing left to wait for.
    pub(crate) fn is_ready(&self, number: usize, now: Duration) -> bool {
        let thread = &self.threads[number];
        if thread.deadline.is_some_and(|deadline| deadline <= now) {
            return true;
        }
        match &thread.wait {
            Wait::Nothing => true,
            Wait::Lock { address, shared } => {
                self.locks.get(address).is_none_or(|holders| holders.admit(*shared))
            }
            Wait::Signal { woken, .. } => *woken,
            Wait::Descriptors(wanted) => {
                wanted.iter().any(|(descriptor, events)| self.descriptors.events(*descriptor, *events) != 0)
            }
            Wait::Time => false,
            Wait::End(other) => self.threads[*other].life != Life::Alive,
            Wait::Once(address) => !self.once.contains_key(address),
        }
    }

    /// The thread waits from now on.
    pub(crate) fn enter(&mut self, number: usize, wait: Wait, deadline: Option<Duration>) {
        if let Some(address) = wait.address() {
            self.waiting.entry(address).or_default().push(number);
        }
        if let Wait::Descriptors(wanted) = &wait {
            self.descriptors.watch(number, wanted);
        }
        let thread = &mut self.threads[number];
        (thread.wait, thread.deadline) = (wait, deadline);
    }

    /// The thread waits no longer. What it has waited for stays, so that it sees whether it was woken.
    pub(crate) fn leave(&mut self, number: usize) {
        self.threads[number].deadline = None;
        if let Some(address) = self.threads[number].wait.address()
            && let Some(waiting) = self.waiting.get_mut(&address)
        {
            waiting.retain(|other| *other != number);
            if waiting.is_empty() {
                self.waiting.remove(&address);
            }
        }
        match std::mem::replace(&mut self.threads[number].wait, Wait::Nothing) {
            Wait::Descriptors(wanted) => self.descriptors.unwatch(number, &wanted),
            signal @ Wait::Signal { .. } => self.threads[number].wait = signal,
            _ => {}
        }
    }

    /// Has the thread's task look again whether it can run.
    pub(crate) fn wake(&mut self, number: usize) {
        self.scheduler.woken(&self.threads, number);
        if let Some(waker) = self.threads[number].waker.take() {
            waker.wake();
        }
    }

    /// Has all look again who wait for an address.
    pub(crate) fn wake_address(&mut self, address: usize) {
        for number in self.waiting.get(&address).cloned().unwrap_or_default() {
            self.wake(number);
        }
    }

    /// Has all look again who wait for a descriptor. They go on watching: it may not be what they wait for.
    pub(crate) fn wake_descriptor(&mut self, descriptor: i32) {
        for number in self.descriptors.watchers(descriptor) {
            self.wake(number);
        }
    }

    /// Wakes one that waits for a signal at this address, chosen by `choose` of so many. False if nobody waits.
    pub(crate) fn signal(&mut self, address: usize, choose: impl FnOnce(usize) -> usize) -> bool {
        let Some(waiting) = self.waiting.get(&address) else { return false };
        let asleep: Vec<usize> = waiting
            .iter()
            .copied()
            .filter(|number| matches!(self.threads[*number].wait, Wait::Signal { woken: false, .. }))
            .collect();
        if asleep.is_empty() {
            return false;
        }
        let chosen = asleep[choose(asleep.len())];
        if let Wait::Signal { woken, .. } = &mut self.threads[chosen].wait {
            *woken = true;
        }
        self.wake(chosen);
        true
    }
}
