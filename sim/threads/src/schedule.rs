//! Which thread runs next, and for how long.
//!
//! The simulator chooses at random among tasks, and so among machines. What is here decides among the threads of one
//! machine, which stand still together while it is paused.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::options::Strategy;
use crate::world::{Life, State, Thread};

/// A thread gives way after at most so many calls.
const LONGEST_TURN: u64 = 400;
/// With priorities, a thread that has called so often without waiting spins.
const SPINNING: u32 = 2_000;

/// What the strategy keeps.
#[derive(Default)]
pub(crate) struct Scheduler {
    strategy: Strategy,
    /// The calls, counted over all threads, at which the running thread gets the lowest priority.
    points: BTreeSet<u64>,
    /// The last priority that was lower than all others.
    lowest: i64,
    /// The thread that runs, and whether one of a higher priority was woken meanwhile.
    running: usize,
    preempt: bool,
}

impl Scheduler {
    /// Draws what is drawn in advance. Returns whether there is any point at which a priority changes.
    pub(crate) fn begin(&mut self, strategy: Strategy, mut draw: impl FnMut(u64) -> u64) -> bool {
        self.strategy = strategy;
        if let Strategy::Priorities { changes, calls } = strategy {
            self.points = (0..changes).map(|_| 1 + draw(calls)).collect();
        }
        !self.points.is_empty()
    }

    /// The priority of a new thread.
    pub(crate) fn priority(&self, draw: impl FnOnce(u64) -> u64) -> i64 {
        match self.strategy {
            Strategy::Random => 0,
            Strategy::Priorities { .. } => 1 + draw(1 << 62) as i64,
        }
    }

    /// How many calls the thread's next turn lasts.
    pub(crate) fn turn(&mut self, number: usize, draw: impl FnOnce(u64) -> u64) -> u32 {
        (self.running, self.preempt) = (number, false);
        match self.strategy {
            Strategy::Random => 1 + draw(LONGEST_TURN) as u32,
            Strategy::Priorities { .. } => u32::MAX,
        }
    }

    /// A thread was woken.
    pub(crate) fn woken(&mut self, threads: &[Thread], number: usize) {
        let (woken, running) = (&threads[number], &threads[self.running]);
        self.preempt |= woken.machine == running.machine && woken.priority > running.priority;
    }

    fn demote(&mut self) -> i64 {
        self.lowest -= 1;
        self.lowest
    }
}

impl State {
    /// Whether the running thread is to give way before its next call. `spent` if its turn is over; it has called so often
    /// since it waited.
    pub(crate) fn gives_way(&mut self, number: usize, spent: bool, calls: u32) -> bool {
        match self.scheduler.strategy {
            Strategy::Random => spent,
            Strategy::Priorities { .. } => {
                let spins = calls % SPINNING == SPINNING - 1;
                let changes = self.scheduler.points.remove(&self.figures.calls);
                if spins || changes {
                    self.threads[number].priority = self.scheduler.demote();
                }
                spins || changes || self.scheduler.preempt
            }
        }
    }

    /// The running thread lets others run. With priorities, it would be the next one again.
    pub(crate) fn yields(&mut self, number: usize) {
        if self.scheduler.strategy != Strategy::Random {
            self.threads[number].priority = self.scheduler.demote();
        }
    }

    /// The thread of the same machine that is to run before this one, if there is one.
    pub(crate) fn preferred(&self, number: usize, now: Duration) -> Option<usize> {
        if self.scheduler.strategy == Strategy::Random {
            return None;
        }
        let this = &self.threads[number];
        let can = |other: &usize| {
            let thread = &self.threads[*other];
            thread.machine == this.machine
                && thread.life == Life::Alive
                && thread.priority > this.priority
                && self.is_ready(*other, now)
        };
        (1..self.threads.len()).filter(can).max_by_key(|other| self.threads[*other].priority)
    }
}
