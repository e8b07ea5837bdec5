//! Futexes, on which Rust's own locks, channels and parked threads wait, and other calls of the system by number.

use std::ffi::{c_int, c_long};

use libc::{EAGAIN, EINVAL, ENOSYS, ETIMEDOUT, timespec};

use super::{duration, failed, wrap};
use crate::world::{Call, Signal};

wrap! {
    __wrap_syscall, __real_syscall(
        number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize,
    ) -> c_long = |call| {
        match number {
            libc::SYS_futex => futex(&call, a, b as c_int, c as u32, d as *const timespec),
            libc::SYS_getrandom if call.worker().is_some() => {
                // SAFETY: the caller's memory, of this size.
                unsafe { super::randomness::fill(call.world, a as *mut u8, b) };
                b as c_long
            }
            libc::SYS_gettid => call.worker().map_or(0, |me| me.number) as c_long + 1,
            // SAFETY: the arguments are the caller's, unchanged.
            _ => unsafe { __real_syscall(number, a, b, c, d, e, f) },
        }
    }
}

fn futex(call: &Call, address: usize, operation: c_int, value: u32, time: *const timespec) -> c_long {
    let world = call.world;
    let command = operation & libc::FUTEX_CMD_MASK;
    match command {
        libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET => {
            world.point("futex_wait", 0);
            // SAFETY: the caller's word.
            if unsafe { std::ptr::read_volatile(address as *const u32) } != value {
                return failed(EAGAIN).into();
            }
            // SAFETY: the caller's memory.
            let given = unsafe { duration(time) };
            if given.is_none() && !time.is_null() {
                return failed(EINVAL).into();
            }
            let deadline = given.map(|given| match () {
                () if command == libc::FUTEX_WAIT => world.now() + given,
                () if operation & libc::FUTEX_CLOCK_REALTIME != 0 => {
                    world.now() + given.saturating_sub(world.wall())
                }
                () => given,
            });
            if is_static(address) && has_changed(address, value) {
                return failed(EAGAIN).into();
            }
            if world.await_signal(address, Signal::Futex, deadline) { 0 } else { failed(ETIMEDOUT).into() }
        }
        libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET => {
            world.point("futex_wake", 0);
            let mut woken = 0;
            // As a signed number, as in the system: all of them are `i32::MAX`.
            while woken < value.cast_signed() && world.wake_one(address) {
                woken += 1;
            }
            if is_static(address) {
                // SAFETY: it only wakes threads outside this simulation.
                unsafe {
                    __real_syscall(libc::SYS_futex, address, operation as usize, value as usize, 0, 0, 0)
                };
            }
            woken.into()
        }
        _ => {
            world.note("futex", command as u64);
            failed(ENOSYS).into()
        }
    }
}

unsafe extern "C" {
    /// Where the program's static data begins and ends, as the linker defines it.
    static __data_start: u8;
    static _end: u8;
}

/// Whether it is static data of the program, as the locks of Rust's standard output are: they are shared with threads outside
/// this simulation, for example of another one in another thread of the process.
fn is_static(address: usize) -> bool {
    (&raw const __data_start as usize..&raw const _end as usize).contains(&address)
}

/// Gives threads outside the simulation time to change a word. They hold such locks only for moments; if it does not change,
/// another thread of the simulation is to change it.
fn has_changed(address: usize, value: u32) -> bool {
    let wait = timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    let operation = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize;
    // SAFETY: the caller's word, and a time that is valid during the call.
    unsafe {
        let time = &raw const wait as usize;
        __real_syscall(libc::SYS_futex, address, operation, value as usize, time, 0, 0) == 0
            || std::ptr::read_volatile(address as *const u32) != value
    }
}
