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

    /// Whether the running thread gets the lowest priority now. A point is passed even if no thread could give way at it.
    fn passes_point(&mut self, calls: u64) -> bool {
        let mut passes = false;
        while self.points.first().is_some_and(|point| *point <= calls) {
            self.points.pop_first();
            passes = true;
        }
        passes
    }
}

impl Thread {
    /// Whether it has called so often without waiting, the last time it was asked and since, that it spins.
    fn spins(&mut self, calls: u32) -> bool {
        // It has waited since.
        if calls < self.spun_until {
            self.spun_until = 0;
        }
        let spins = calls - self.spun_until >= SPINNING;
        if spins {
            self.spun_until = calls;
        }
        spins
    }
}

impl State {
    /// Whether the running thread is to give way before its next call. `spent` if its turn is over; it has called so often
    /// since it waited.
    pub(crate) fn gives_way(&mut self, number: usize, spent: bool, calls: u32) -> bool {
        match self.scheduler.strategy {
            Strategy::Random => spent,
            Strategy::Priorities { .. } => {
                let spins = self.threads[number].spins(calls);
                let changes = self.scheduler.passes_point(self.figures.calls);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_passed_once_also_by_a_later_call() {
        let mut scheduler = Scheduler { points: BTreeSet::from([3, 5, 9]), ..Scheduler::default() };
        let passed = [2, 4, 4, 20, 21].map(|calls| scheduler.passes_point(calls));
        assert_eq!(passed, [false, true, false, true, false]);
    }

    #[test]
    fn a_thread_spins_again_and_again_after_so_many_calls_until_it_waits() {
        let mut thread = Thread::new(None, None);
        let spins = |thread: &mut Thread, calls: u32| thread.spins(calls);
        let first = [SPINNING - 1, SPINNING + 1, SPINNING + 3, 2 * SPINNING, 2 * SPINNING + 1];
        assert_eq!(first.map(|calls| spins(&mut thread, calls)), [false, true, false, false, true]);
        // It has waited.
        let again = [1, SPINNING - 1, SPINNING];
        assert_eq!(again.map(|calls| spins(&mut thread, calls)), [false, false, true]);
    }
}
