//! What waits for descriptors: `poll`. Simulated descriptors have no place in the sets of `select`, and there is no `epoll`.

use std::ffi::{c_int, c_void};
use std::time::Duration;

use libc::{EINVAL, ENOSYS, nfds_t, pollfd, timespec};

use super::{duration, failed, wrap};
use crate::descriptors::is_simulated;
use crate::world::{Call, Wait};

wrap! {
    __wrap_poll, __real_poll(places: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int = |call| {
        let timeout = u64::try_from(timeout).ok().map(Duration::from_millis);
        // SAFETY: the caller's memory.
        unsafe { poll(&call, places, count, timeout) }
    }

    __wrap___poll_chk, __real___poll_chk(
        places: *mut pollfd, count: nfds_t, timeout: c_int, size: usize,
    ) -> c_int = |call| {
        let timeout = u64::try_from(timeout).ok().map(Duration::from_millis);
        // SAFETY: the caller's memory.
        unsafe { poll(&call, places, count, timeout) }
    }

    __wrap_ppoll, __real_ppoll(
        places: *mut pollfd, count: nfds_t, timeout: *const timespec, _signals: *const c_void,
    ) -> c_int = |call| {
        // SAFETY: the caller's memory.
        let given = unsafe { duration(timeout) };
        if given.is_none() && !timeout.is_null() {
            return failed(EINVAL);
        }
        // SAFETY: as above.
        unsafe { poll(&call, places, count, given) }
    }

    __wrap_select, __real_select(
        count: c_int, reads: *mut c_void, writes: *mut c_void, fails: *mut c_void, timeout: *mut libc::timeval,
    ) -> c_int = |call| {
        // SAFETY: the caller's memory.
        let timeout = unsafe { timeout.as_ref() };
        match timeout {
            // A portable way to sleep.
            Some(time) if count == 0 => {
                let time = Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64);
                call.world.note("select", time.as_nanos() as u64);
                call.world.sleep(time);
                0
            }
            _ => call.world.fail("select is not supported, poll is: its sets have no place for simulated descriptors"),
        }
    }

    // Who can do without is to know.
    __wrap_epoll_create, __real_epoll_create(_size: c_int) -> c_int = |call| { failed(ENOSYS) }
    __wrap_epoll_create1, __real_epoll_create1(_flags: c_int) -> c_int = |call| { failed(ENOSYS) }
}

/// # Safety
/// The memory is the caller's, and has so many places.
unsafe fn poll(call: &Call, places: *mut pollfd, count: nfds_t, timeout: Option<Duration>) -> c_int {
    let world = call.world;
    let places = match count {
        0 => &mut [],
        // SAFETY: see above.
        count => unsafe { std::slice::from_raw_parts_mut(places, count as usize) },
    };
    world.point("poll", timeout.map_or(u64::MAX, |timeout| timeout.as_nanos() as u64));
    if places.iter().any(|place| place.fd >= 0 && !is_simulated(place.fd)) {
        if timeout != Some(Duration::ZERO)
            && places.iter().any(|place| place.fd >= 0 && is_simulated(place.fd))
        {
            world.fail("poll waits for both simulated descriptors and real ones");
        }
        if timeout != Some(Duration::ZERO) {
            world.fail("poll waits for a real descriptor, to which nothing happens in simulated time");
        }
        // SAFETY: the caller's memory. It does not wait.
        return unsafe { __real_poll(places.as_mut_ptr(), count, 0) };
    }
    let deadline = timeout.map(|timeout| world.now() + timeout);
    loop {
        let mut ready = 0;
        {
            let state = &*world.lock();
            for place in places.iter_mut() {
                place.revents =
                    if place.fd < 0 { 0 } else { state.descriptors.events(place.fd, place.events) };
                ready += c_int::from(place.revents != 0);
            }
        }
        if ready > 0 || deadline.is_some_and(|deadline| deadline <= world.now()) {
            world.note("polled", ready as u64);
            return ready;
        }
        let wanted =
            places.iter().filter(|place| place.fd >= 0).map(|place| (place.fd, place.events)).collect();
        world.wait(Wait::Descriptors(wanted), deadline);
    }
}
