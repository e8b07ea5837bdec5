//! Locks: `pthread_mutex_*`, `pthread_rwlock_*` and C11's `mtx_*`, which glibc implements by the first.

use std::ffi::c_int;

use libc::{EBUSY, EINVAL, ETIMEDOUT, timespec};

use super::{duration, wrap};
use crate::locks::{Held, Kind};
use crate::world::Call;

/// What `mtx_*` return (`threads.h` of glibc).
const THRD_SUCCESS: c_int = 0;
const THRD_BUSY: c_int = 1;
const THRD_ERROR: c_int = 2;
const THRD_TIMED_OUT: c_int = 4;

// What happens outside a simulation.
wrap! {
    __wrap_pthread_mutex_lock, __real_pthread_mutex_lock(mutex: usize) -> c_int = |call| {
        let lock = Held { address: mutex, kind: Kind::Mutex };
        call.world.note("lock", 0);
        // An allocator may take one of these while it holds another. As long as no thread stops between the two, none
        // waits for an allocator.
        if !call.holds_mutex() {
            call.world.give_way();
        }
        call.world.lock_until(lock, None)
    }

    __wrap_pthread_mutex_trylock, __real_pthread_mutex_trylock(mutex: usize) -> c_int = |call| {
        call.world.note("trylock", 0);
        call.world.try_lock(Held { address: mutex, kind: Kind::Mutex })
    }

    __wrap_pthread_mutex_timedlock, __real_pthread_mutex_timedlock(
        mutex: usize, until: *const timespec,
    ) -> c_int = |call| {
        call.world.point("timedlock", 0);
        // SAFETY: the caller's memory.
        let Some(until) = (unsafe { duration(until) }) else { return EINVAL };
        let deadline = call.world.now() + until.saturating_sub(call.world.wall());
        call.world.lock_until(Held { address: mutex, kind: Kind::Mutex }, Some(deadline))
    }

    __wrap_pthread_mutex_unlock, __real_pthread_mutex_unlock(mutex: usize) -> c_int = |call| {
        call.world.unlock_mutex(mutex)
    }

    __wrap_mtx_lock, __real_mtx_lock(mutex: usize) -> c_int = |call| {
        call.world.point("lock", 0);
        c11(call.world.lock_until(Held { address: mutex, kind: Kind::Mutex }, None))
    }

    __wrap_mtx_trylock, __real_mtx_trylock(mutex: usize) -> c_int = |call| {
        call.world.point("trylock", 0);
        c11(call.world.try_lock(Held { address: mutex, kind: Kind::Mutex }))
    }

    __wrap_mtx_timedlock, __real_mtx_timedlock(mutex: usize, until: *const timespec) -> c_int = |call| {
        call.world.point("timedlock", 0);
        // SAFETY: the caller's memory.
        let Some(until) = (unsafe { duration(until) }) else { return THRD_ERROR };
        let deadline = call.world.now() + until.saturating_sub(call.world.wall());
        c11(call.world.lock_until(Held { address: mutex, kind: Kind::Mutex }, Some(deadline)))
    }

    __wrap_mtx_unlock, __real_mtx_unlock(mutex: usize) -> c_int = |call| {
        c11(call.world.unlock_mutex(mutex))
    }

    __wrap_pthread_rwlock_rdlock, __real_pthread_rwlock_rdlock(lock: usize) -> c_int = |call| {
        call.world.point("rdlock", 0);
        call.world.lock_until(Held { address: lock, kind: Kind::Read }, None)
    }

    __wrap_pthread_rwlock_tryrdlock, __real_pthread_rwlock_tryrdlock(lock: usize) -> c_int = |call| {
        call.world.point("tryrdlock", 0);
        call.world.try_lock(Held { address: lock, kind: Kind::Read })
    }

    __wrap_pthread_rwlock_wrlock, __real_pthread_rwlock_wrlock(lock: usize) -> c_int = |call| {
        call.world.point("wrlock", 0);
        call.world.lock_until(Held { address: lock, kind: Kind::Write }, None)
    }

    __wrap_pthread_rwlock_trywrlock, __real_pthread_rwlock_trywrlock(lock: usize) -> c_int = |call| {
        call.world.point("trywrlock", 0);
        call.world.try_lock(Held { address: lock, kind: Kind::Write })
    }

    __wrap_pthread_rwlock_unlock, __real_pthread_rwlock_unlock(lock: usize) -> c_int = |call| {
        call.world.unlock_rwlock(lock)
    }
}

impl Call {
    /// Whether the calling thread holds a mutex.
    fn holds_mutex(&self) -> bool {
        let number = self.worker().map_or(crate::world::EXECUTOR, |me| me.number);
        self.world.lock().threads[number].holds.iter().any(|held| held.kind == Kind::Mutex)
    }
}

fn c11(code: c_int) -> c_int {
    match code {
        0 => THRD_SUCCESS,
        EBUSY => THRD_BUSY,
        ETIMEDOUT => THRD_TIMED_OUT,
        _ => THRD_ERROR,
    }
}

pub(crate) fn real_mutex_trylock(mutex: usize) -> c_int {
    // SAFETY: a mutex of the thread that calls, or of one that does so in its place.
    unsafe { __real_pthread_mutex_trylock(mutex) }
}

pub(crate) fn real_mutex_unlock(mutex: usize) -> c_int {
    // SAFETY: as above.
    unsafe { __real_pthread_mutex_unlock(mutex) }
}

pub(crate) fn real_rwlock_trylock(lock: usize, shared: bool) -> c_int {
    // SAFETY: as above.
    unsafe {
        if shared { __real_pthread_rwlock_tryrdlock(lock) } else { __real_pthread_rwlock_trywrlock(lock) }
    }
}

pub(crate) fn real_rwlock_unlock(lock: usize) -> c_int {
    // SAFETY: as above.
    unsafe { __real_pthread_rwlock_unlock(lock) }
}
