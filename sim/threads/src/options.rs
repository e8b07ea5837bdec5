//! What a simulation's threads are configured with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use madsim::task::NodeId;

/// How the next thread is chosen where several of a machine can run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// Each time at random. A thread runs for a random number of calls at most, then others get their turn.
    #[default]
    Random,
    /// Each thread has a random priority; of the threads of a machine the one with the highest runs. At a few points, drawn
    /// in advance, the running thread gets the lowest priority. Finds what needs few, but long, preemptions: see
    /// Burckhardt and others, "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs" (ASPLOS 2010).
    /// Different from there, a thread that spins gets the lowest priority, too, so that what it waits for can happen.
    Priorities {
        /// How many such points there are.
        changes: u32,
        /// The points are drawn from this many first calls of all threads together.
        calls: u64,
    },
}

/// What a call costs in simulated time. A client that spins until a point in time would never reach it without.
///
/// A thread pays what a call costs on a real machine: code that compares two readings of the clock depends on it. One that has
/// called often without waiting pays for a pause now and then, as if it had lost its processor, each twice as long as the one
/// before: so it need not call a thousand times for each millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallCost {
    /// What a call costs.
    pub call: Duration,
    /// How many calls a thread makes without waiting until it pays for the first pause.
    pub calls: u32,
    /// How many calls are between two pauses.
    pub every: u32,
    /// The first pause.
    pub pause: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl CallCost {
    /// What a call costs after so many since the thread has waited.
    pub(crate) fn after(&self, calls: u32) -> Duration {
        let Some(over) = calls.checked_sub(self.calls) else { return self.call };
        let every = self.every.max(1);
        if !over.is_multiple_of(every) {
            return self.call;
        }
        let factor = 1_u32.checked_shl(over / every).unwrap_or(u32::MAX);
        self.call + self.pause.saturating_mul(factor).min(self.longest)
    }
}

impl Default for CallCost {
    fn default() -> Self {
        let (nanos, micros) = (Duration::from_nanos, Duration::from_micros);
        Self { call: nanos(50), calls: 200, every: 50, pause: micros(10), longest: micros(1_000) }
    }
}

/// A thread that has called often without waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Busiest {
    /// Its number.
    pub thread: usize,
    /// Its name, or nothing.
    pub name: String,
    /// How often it called.
    pub calls: u32,
    /// The simulated time of its last call.
    pub time: Duration,
}

/// One call of a thread, for [`Options::observer`].
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Simulated time since the start.
    pub time: Duration,
    /// The thread's machine.
    pub machine: NodeId,
    /// The thread's number: the first of a simulation is 1.
    pub thread: usize,
    /// The thread's name, or nothing.
    pub name: &'a str,
    /// The function that was called.
    pub call: &'a str,
    /// What it is about: bytes, a timeout in nanoseconds, a descriptor's number in the simulation, or 0.
    pub size: u64,
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { time, machine, thread, name, call, size } = self;
        write!(f, "{:12.6} machine {machine} thread {thread} {name:?}: {call} {size}", time.as_secs_f64())
    }
}

/// Is called with each event. It runs on the thread that calls, and must neither wait nor draw random numbers.
pub type Observer = Arc<dyn Fn(&Event<'_>) + Send + Sync>;

/// What a simulation's threads are configured with.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// How threads are chosen.
    pub strategy: Strategy,
    /// What calls cost.
    pub cost: CallCost,
    /// How long it takes to resolve a name.
    pub lookup: Duration,
    /// How many bytes the C library's heap may grow by during the simulation (`None`: without bound). It is looked at when a
    /// machine is killed, whose threads leave theirs behind; more ends the simulation with a panic.
    pub heap_growth: Option<usize>,
    /// Gets each call. If the environment has the variable `SIMULATED_THREADS_TRACE`, each is printed on standard error.
    pub observer: Option<Observer>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            cost: CallCost::default(),
            lookup: Duration::from_millis(1),
            heap_growth: None,
            observer: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { strategy, cost, lookup, heap_growth, observer: _ } = self;
        f.debug_struct("Options")
            .field("strategy", strategy)
            .field("cost", cost)
            .field("lookup", lookup)
            .field("heap_growth", heap_growth)
            .finish_non_exhaustive()
    }
}

/// What the threads of a simulation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// A hash of all calls of threads: who, what, when, how much, and the bytes that were sent.
    pub trace: u64,
    /// Calls of threads.
    pub calls: u64,
    /// How often a thread got its turn and gave it back.
    pub turns: u64,
    /// Threads that were started.
    pub threads: u64,
    /// Those that were killed with their machine.
    pub killed: u64,
    /// By how many bytes the C library's heap has grown since the start. What one simulation leaves is part of the next one's
    /// start. It depends on the rest of the process, so it may differ between two runs of a seed.
    pub heap_growth: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_spins_pays_for_longer_and_longer_pauses() {
        let cost = CallCost::default();
        let pause = |calls| cost.after(calls) - cost.call;
        let micros = Duration::from_micros;
        assert_eq!([0, 1, 199, 201, 249].map(pause), [Duration::ZERO; 5]);
        assert_eq!([200, 250, 300].map(pause), [10, 20, 40].map(micros));
        assert_eq!([600, 200 + 50 * 31, 200 + 50 * 32, 200 + 50 * 1_000].map(pause), [micros(1_000); 4]);
    }
}
