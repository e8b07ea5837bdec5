//! What the linker puts in the place of functions of the C library.
//!
//! Outside a simulation, and while this crate's own code runs, each is the C library's. The memory that a caller passes is
//! as the C library's function demands it; that is the reason of every `unsafe` block that reads or writes it.
//!
//! Functions with variable arguments are defined with fixed ones. On Linux, both x86-64 and AArch64 pass variable arguments
//! that are integers or pointers in the registers in which they pass fixed ones.

mod clocks;
mod conditions;
mod files;
mod futexes;
pub(crate) mod locks;
mod lookups;
mod poll;
mod process;
mod randomness;
mod sockets;
pub(crate) mod threads;
mod transfer;

use std::ffi::{c_int, c_long};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use libc::{timespec, timeval};

/// Declares a function's original, and defines what stands in its place: `call` is the call of a thread of a simulation.
macro_rules! wrap {
    ($($(#[$attribute:meta])* $wrap:ident, $real:ident
        ($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? = |$call:ident| $body:block)*) => {
        unsafe extern "C" { $( fn $real($($argument: $type),*) $(-> $result)?; )* }
        $(
            $(#[$attribute])*
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $wrap($($argument: $type),*) $(-> $result)? {
                let Some($call) = $crate::world::Call::begin() else {
                    // SAFETY: the arguments are the caller's, unchanged.
                    return unsafe { $real($($argument),*) };
                };
                let _ = &$call;
                $body
            }
        )*
    };
}
pub(crate) use wrap;

unsafe extern "C" {
    fn __real_syscall(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long;
}

/// The system's own futex.
pub(crate) fn real_futex(word: &AtomicU32, operation: c_int, value: u32) {
    let operation = (operation | libc::FUTEX_PRIVATE_FLAG) as usize;
    // SAFETY: the word is valid during the call, and there is no timeout.
    unsafe { __real_syscall(libc::SYS_futex, word.as_ptr() as usize, operation, value as usize, 0, 0, 0) };
}

/// Ends the calling thread at once: no destructor runs.
pub(crate) fn exit_thread() -> ! {
    // SAFETY: nothing of the thread is used again but its stack, which is freed only after its end.
    unsafe { __real_syscall(libc::SYS_exit, 0, 0, 0, 0, 0, 0) };
    unreachable!("the thread has ended")
}

/// Sets the calling thread's `errno`, and returns -1.
pub(crate) fn failed(code: c_int) -> c_int {
    // SAFETY: the pointer is the thread's own, and always valid.
    unsafe { *libc::__errno_location() = code };
    -1
}

/// A duration, unless it is none.
///
/// # Safety
/// The pointer is null, or points to a time.
unsafe fn duration(time: *const timespec) -> Option<Duration> {
    // SAFETY: see above.
    let time = unsafe { time.as_ref() }?;
    let nanos = u32::try_from(time.tv_nsec).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, nanos))
}

fn c_time(time: Duration) -> timespec {
    timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ }
}

fn c_time_micros(time: Duration) -> timeval {
    timeval { tv_sec: time.as_secs() as _, tv_usec: time.subsec_micros() as _ }
}
