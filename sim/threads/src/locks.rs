//! Locks: the C library's own, as long as nobody waits for them.
//!
//! A lock is tried with the C library's function, so its memory is always in a state that the C library knows, and locks
//! that are initialized statically, or that are recursive, need nothing special. Only who must wait for one waits here.

use std::ffi::c_int;
use std::time::Duration;

use libc::{EBUSY, ETIMEDOUT};

use crate::worker::Worker;
use crate::world::{EXECUTOR, Wait, World};
use crate::wrap::locks::{real_mutex_trylock, real_mutex_unlock, real_rwlock_trylock, real_rwlock_unlock};

/// How long a lock is waited for that a thread outside the simulation holds, in real time, and how long between two attempts.
const LONGEST_OUTSIDE: Duration = Duration::from_secs(60);
const STEP_OUTSIDE: Duration = Duration::from_micros(100);

/// Who holds a lock.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    /// Alone, and how often.
    writer: Option<(usize, u32)>,
    readers: Vec<usize>,
}

impl Holders {
    /// Whether one more may have it.
    pub(crate) fn admit(&self, shared: bool) -> bool {
        self.writer.is_none() && (shared || self.readers.is_empty())
    }

    pub(crate) fn threads(&self) -> impl Iterator<Item = usize> + '_ {
        self.writer.iter().map(|(writer, _)| *writer).chain(self.readers.iter().copied())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Mutex,
    Read,
    Write,
}

/// A lock that a thread holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) address: usize,
    pub(crate) kind: Kind,
}

impl Held {
    fn try_lock(self) -> c_int {
        match self.kind {
            Kind::Mutex => real_mutex_trylock(self.address),
            Kind::Read => real_rwlock_trylock(self.address, true),
            Kind::Write => real_rwlock_trylock(self.address, false),
        }
    }

    /// Frees it for the C library.
    pub(crate) fn unlock(self) -> c_int {
        match self.kind {
            Kind::Mutex => real_mutex_unlock(self.address),
            Kind::Read | Kind::Write => real_rwlock_unlock(self.address),
        }
    }
}

impl World {
    fn me(&self) -> usize {
        Worker::current().map_or(EXECUTOR, |me| me.number)
    }

    /// Tries to get a lock that nobody in this simulation holds. A thread outside may: one of another simulation in this
    /// process, if the lock is the process's. That one goes on by itself, so real time is waited, and none in this simulation.
    fn try_lock_outside(&self, lock: Held) -> c_int {
        for _ in 0..LONGEST_OUTSIDE.as_micros() / STEP_OUTSIDE.as_micros() {
            let code = lock.try_lock();
            if code != EBUSY || self.lock().locks.contains_key(&lock.address) {
                return code;
            }
            std::thread::sleep(STEP_OUTSIDE);
        }
        self.fail(&format!("the lock {:#x} is held by a thread outside the simulation", lock.address));
    }

    /// Tries to get a lock. Returns what the C library does.
    pub(crate) fn try_lock(&self, lock: Held) -> c_int {
        let code = self.try_lock_outside(lock);
        if code == 0 {
            let me = self.me();
            let state = &mut *self.lock();
            let holders = state.locks.entry(lock.address).or_default();
            match (lock.kind, &mut holders.writer) {
                (Kind::Read, _) => holders.readers.push(me),
                (_, Some((_, depth))) => *depth += 1,
                (_, writer) => *writer = Some((me, 1)),
            }
            state.threads[me].holds.push(lock);
        }
        code
    }

    /// Gets a lock, and waits for it at most until the deadline. Returns what the C library does.
    pub(crate) fn lock_until(&self, lock: Held, deadline: Option<Duration>) -> c_int {
        let me = self.me();
        loop {
            let code = self.try_lock(lock);
            if code != EBUSY {
                return code;
            }
            if deadline.is_some_and(|deadline| deadline <= self.now()) {
                return ETIMEDOUT;
            }
            let holders: Vec<usize> = self
                .lock()
                .locks
                .get(&lock.address)
                .map(|holders| holders.threads().collect())
                .unwrap_or_default();
            if deadline.is_none() && holders.contains(&me) {
                self.fail(&format!(
                    "deadlock: the thread waits for the lock {:#x}, which it holds",
                    lock.address
                ));
            }
            self.wait(Wait::Lock { address: lock.address, shared: lock.kind == Kind::Read }, deadline);
        }
    }

    /// Frees a mutex. Returns what the C library does.
    pub(crate) fn unlock_mutex(&self, address: usize) -> c_int {
        let code = real_mutex_unlock(address);
        if code == 0 {
            self.unlocked(address);
        }
        code
    }

    /// Frees a lock for readers and writers. Returns what the C library does.
    pub(crate) fn unlock_rwlock(&self, address: usize) -> c_int {
        let code = real_rwlock_unlock(address);
        if code == 0 {
            self.unlocked(address);
        }
        code
    }

    fn unlocked(&self, address: usize) {
        let me = self.me();
        let state = &mut *self.lock();
        // Another thread may free it, which the C library does not forbid for every kind.
        let holder = state.locks.get(&address).and_then(|holders| {
            let mine = holders.threads().find(|holder| *holder == me);
            mine.or_else(|| holders.threads().next())
        });
        if let Some(holder) = holder {
            state.release(holder, address);
        }
        state.wake_address(address);
    }
}

impl crate::world::State {
    /// A thread no longer holds a lock, or once less.
    pub(crate) fn release(&mut self, holder: usize, address: usize) {
        let holds = &mut self.threads[holder].holds;
        if let Some(place) = holds.iter().rposition(|held| held.address == address) {
            holds.remove(place);
        }
        let Some(holders) = self.locks.get_mut(&address) else { return };
        match &mut holders.writer {
            Some((writer, depth)) if *writer == holder => {
                *depth -= 1;
                if *depth == 0 {
                    holders.writer = None;
                }
            }
            _ => {
                if let Some(place) = holders.readers.iter().position(|reader| *reader == holder) {
                    holders.readers.swap_remove(place);
                }
            }
        }
        if holders.writer.is_none() && holders.readers.is_empty() {
            self.locks.remove(&address);
        }
    }
}
