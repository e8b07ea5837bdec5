//! Conditions and semaphores. A condition's own memory is not used; a semaphore's is.

use std::ffi::{c_int, c_void};
use std::time::Duration;

use libc::{EAGAIN, EINVAL, ETIMEDOUT, clockid_t, timespec};

use super::{duration, failed, wrap};
use crate::locks::{Held, Kind};
use crate::worker::Worker;
use crate::world::{EXECUTOR, Signal, Wait, World};

/// What `cnd_*` return (`threads.h` of glibc).
const THRD_SUCCESS: c_int = 0;
const THRD_ERROR: c_int = 2;
const THRD_TIMED_OUT: c_int = 4;

impl World {
    /// Waits to be woken. Returns whether it was, or the deadline has passed.
    pub(super) fn await_signal(&self, address: usize, signal: Signal, deadline: Option<Duration>) -> bool {
        self.wait(Wait::Signal { address, signal, woken: false }, deadline);
        let me = Worker::current().map_or(EXECUTOR, |me| me.number);
        let thread = &mut self.lock().threads[me];
        matches!(std::mem::replace(&mut thread.wait, Wait::Nothing), Wait::Signal { woken: true, .. })
    }

    /// Wakes one that waits for a signal. False if nobody does.
    pub(super) fn wake_one(&self, address: usize) -> bool {
        self.lock().signal(address, |count| self.draw(count))
    }

    /// Waits for a condition, and gets the mutex again. Returns 0, `ETIMEDOUT`, or why the mutex cannot be freed.
    fn await_condition(&self, condition: usize, mutex: usize, deadline: Option<Duration>) -> c_int {
        let code = self.unlock_mutex(mutex);
        if code != 0 {
            return code;
        }
        let woken = self.await_signal(condition, Signal::Condition, deadline);
        let code = self.lock_until(Held { address: mutex, kind: Kind::Mutex }, None);
        match code {
            0 if !woken => ETIMEDOUT,
            code => code,
        }
    }

    /// The deadline of a time on one of the clocks.
    fn deadline(&self, until: Duration, monotonic: bool) -> Duration {
        if monotonic { until } else { self.now() + until.saturating_sub(self.wall()) }
    }

    fn await_condition_until(
        &self,
        condition: usize,
        mutex: usize,
        until: Duration,
        monotonic: bool,
    ) -> c_int {
        let deadline = self.deadline(until, monotonic);
        self.point("timedwait", deadline.saturating_sub(self.now()).as_nanos() as u64);
        self.await_condition(condition, mutex, Some(deadline))
    }

    fn wake_all(&self, address: usize) {
        while self.wake_one(address) {}
    }
}

fn c11(code: c_int) -> c_int {
    match code {
        0 => THRD_SUCCESS,
        ETIMEDOUT => THRD_TIMED_OUT,
        _ => THRD_ERROR,
    }
}

unsafe extern "C" {
    fn pthread_condattr_getclock(attributes: *const c_void, clock: *mut clockid_t) -> c_int;
}

wrap! {
    __wrap_pthread_cond_init, __real_pthread_cond_init(condition: usize, attributes: *const c_void) -> c_int = |call| {
        let mut clock = libc::CLOCK_REALTIME;
        if !attributes.is_null() {
            // SAFETY: the caller's attributes.
            unsafe { pthread_condattr_getclock(attributes, &raw mut clock) };
        }
        {
            let state = &mut *call.world.lock();
            if clock == libc::CLOCK_MONOTONIC {
                state.monotonic.insert(condition);
            } else {
                state.monotonic.remove(&condition);
            }
        }
        // SAFETY: the caller's memory, in case the condition is used outside the simulation.
        unsafe { __real_pthread_cond_init(condition, attributes) }
    }

    __wrap_pthread_cond_destroy, __real_pthread_cond_destroy(condition: usize) -> c_int = |call| {
        call.world.lock().monotonic.remove(&condition);
        // SAFETY: the caller's memory. Nobody waits for it there.
        unsafe { __real_pthread_cond_destroy(condition) }
    }

    __wrap_pthread_cond_wait, __real_pthread_cond_wait(condition: usize, mutex: usize) -> c_int = |call| {
        call.world.point("wait", 0);
        call.world.await_condition(condition, mutex, None)
    }

    __wrap_pthread_cond_timedwait, __real_pthread_cond_timedwait(
        condition: usize, mutex: usize, until: *const timespec,
    ) -> c_int = |call| {
        // SAFETY: the caller's memory.
        let Some(until) = (unsafe { duration(until) }) else { return EINVAL };
        let monotonic = call.world.lock().monotonic.contains(&condition);
        call.world.await_condition_until(condition, mutex, until, monotonic)
    }

    __wrap_pthread_cond_clockwait, __real_pthread_cond_clockwait(
        condition: usize, mutex: usize, clock: clockid_t, until: *const timespec,
    ) -> c_int = |call| {
        // SAFETY: the caller's memory.
        let Some(until) = (unsafe { duration(until) }) else { return EINVAL };
        call.world.await_condition_until(condition, mutex, until, clock == libc::CLOCK_MONOTONIC)
    }

    __wrap_pthread_cond_signal, __real_pthread_cond_signal(condition: usize) -> c_int = |call| {
        call.world.point("signal", 0);
        call.world.wake_one(condition);
        0
    }

    __wrap_pthread_cond_broadcast, __real_pthread_cond_broadcast(condition: usize) -> c_int = |call| {
        call.world.point("broadcast", 0);
        call.world.wake_all(condition);
        0
    }

    __wrap_cnd_init, __real_cnd_init(condition: usize) -> c_int = |call| {
        call.world.lock().monotonic.remove(&condition);
        // SAFETY: the caller's memory, in case the condition is used outside the simulation.
        unsafe { __real_cnd_init(condition) }
    }

    __wrap_cnd_destroy, __real_cnd_destroy(condition: usize) = |call| {
        // SAFETY: the caller's memory. Nobody waits for it there.
        unsafe { __real_cnd_destroy(condition) }
    }

    __wrap_cnd_wait, __real_cnd_wait(condition: usize, mutex: usize) -> c_int = |call| {
        call.world.point("wait", 0);
        c11(call.world.await_condition(condition, mutex, None))
    }

    __wrap_cnd_timedwait, __real_cnd_timedwait(
        condition: usize, mutex: usize, until: *const timespec,
    ) -> c_int = |call| {
        // SAFETY: the caller's memory.
        let Some(until) = (unsafe { duration(until) }) else { return THRD_ERROR };
        c11(call.world.await_condition_until(condition, mutex, until, false))
    }

    __wrap_cnd_signal, __real_cnd_signal(condition: usize) -> c_int = |call| {
        call.world.point("signal", 0);
        call.world.wake_one(condition);
        THRD_SUCCESS
    }

    __wrap_cnd_broadcast, __real_cnd_broadcast(condition: usize) -> c_int = |call| {
        call.world.point("broadcast", 0);
        call.world.wake_all(condition);
        THRD_SUCCESS
    }

    __wrap_sem_trywait, __real_sem_trywait(semaphore: usize) -> c_int = |call| {
        call.world.point("sem_trywait", 0);
        real_sem_trywait(semaphore)
    }

    __wrap_sem_wait, __real_sem_wait(semaphore: usize) -> c_int = |call| {
        call.world.point("sem_wait", 0);
        await_semaphore(call.world, semaphore, None)
    }

    __wrap_sem_timedwait, __real_sem_timedwait(semaphore: usize, until: *const timespec) -> c_int = |call| {
        call.world.point("sem_timedwait", 0);
        // SAFETY: the caller's memory.
        let Some(until) = (unsafe { duration(until) }) else { return failed(EINVAL) };
        let deadline = call.world.deadline(until, false);
        await_semaphore(call.world, semaphore, Some(deadline))
    }

    __wrap_sem_post, __real_sem_post(semaphore: usize) -> c_int = |call| {
        call.world.point("sem_post", 0);
        // SAFETY: the caller's semaphore.
        let code = unsafe { __real_sem_post(semaphore) };
        call.world.wake_one(semaphore);
        code
    }
}

fn real_sem_trywait(semaphore: usize) -> c_int {
    // SAFETY: the caller's semaphore.
    unsafe { __real_sem_trywait(semaphore) }
}

fn await_semaphore(world: &World, semaphore: usize, deadline: Option<Duration>) -> c_int {
    loop {
        if real_sem_trywait(semaphore) == 0 {
            return 0;
        }
        let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(EINVAL);
        if error != EAGAIN {
            return failed(error);
        }
        if deadline.is_some_and(|deadline| deadline <= world.now()) {
            return failed(ETIMEDOUT);
        }
        world.await_signal(semaphore, Signal::Semaphore, deadline);
    }
}
