//! Clocks and sleep. What the executor reads is the simulator's own.

use std::ffi::{c_int, c_uint, c_void};
use std::time::Duration;

use libc::{EINVAL, clockid_t, time_t, timespec, timeval};

use super::{c_time, c_time_micros, duration, failed, wrap};

/// What `timespec_get` takes and returns.
const TIME_UTC: c_int = 1;

wrap! {
    __wrap_clock_gettime, __real_clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int = |call| {
        if call.worker().is_none() {
            // SAFETY: the arguments are the caller's, unchanged.
            return unsafe { __real_clock_gettime(clock, time) };
        }
        call.world.point("clock_gettime", 0);
        let shown = match clock {
            libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE | libc::CLOCK_TAI => call.world.wall(),
            // Time of the processor passes as the monotonic clock does.
            _ => call.world.now(),
        };
        if !time.is_null() {
            // SAFETY: the caller's memory.
            unsafe { *time = c_time(shown) };
        }
        0
    }

    __wrap_gettimeofday, __real_gettimeofday(time: *mut timeval, zone: *mut c_void) -> c_int = |call| {
        if call.worker().is_none() {
            // SAFETY: the arguments are the caller's, unchanged.
            return unsafe { __real_gettimeofday(time, zone) };
        }
        call.world.point("gettimeofday", 0);
        if !time.is_null() {
            // SAFETY: the caller's memory.
            unsafe { *time = c_time_micros(call.world.wall()) };
        }
        0
    }

    __wrap_time, __real_time(time: *mut time_t) -> time_t = |call| {
        call.world.point("time", 0);
        let shown = call.world.wall().as_secs() as time_t;
        if !time.is_null() {
            // SAFETY: the caller's memory.
            unsafe { *time = shown };
        }
        shown
    }

    __wrap_timespec_get, __real_timespec_get(time: *mut timespec, base: c_int) -> c_int = |call| {
        if base != TIME_UTC {
            return 0;
        }
        call.world.point("timespec_get", 0);
        // SAFETY: the caller's memory.
        unsafe { *time = c_time(call.world.wall()) };
        base
    }

    __wrap_nanosleep, __real_nanosleep(time: *const timespec, _left: *mut timespec) -> c_int = |call| {
        // SAFETY: the caller's memory.
        let Some(time) = (unsafe { duration(time) }) else { return failed(EINVAL) };
        call.world.note("nanosleep", time.as_nanos() as u64);
        call.world.sleep(time);
        0
    }

    __wrap_clock_nanosleep, __real_clock_nanosleep(
        clock: clockid_t, flags: c_int, time: *const timespec, _left: *mut timespec,
    ) -> c_int = |call| {
        // SAFETY: the caller's memory.
        let Some(time) = (unsafe { duration(time) }) else { return EINVAL };
        let shown = if clock == libc::CLOCK_REALTIME { call.world.wall() } else { call.world.now() };
        let left = if flags & libc::TIMER_ABSTIME != 0 { time.saturating_sub(shown) } else { time };
        call.world.note("clock_nanosleep", left.as_nanos() as u64);
        call.world.sleep(left);
        0
    }

    __wrap_usleep, __real_usleep(micros: c_uint) -> c_int = |call| {
        call.world.note("usleep", micros.into());
        call.world.sleep(Duration::from_micros(micros.into()));
        0
    }

    __wrap_sleep, __real_sleep(seconds: c_uint) -> c_uint = |call| {
        call.world.note("sleep", seconds.into());
        call.world.sleep(Duration::from_secs(seconds.into()));
        0
    }
}
