//! The process: its number, and its end.

use std::ffi::{CStr, c_char, c_int, c_uint};

use super::wrap;
use crate::simulation::panic_below_c;
use crate::world::Call;

/// Larger than the number of any process, so that no signal is ever sent to one by mistake (Linux has at most 2^22).
const PROCESS: c_int = 1 << 23;

wrap! {
    __wrap_getpid, __real_getpid() -> c_int = |call| { PROCESS }
}

unsafe extern "C" {
    fn __real_abort() -> !;
    fn __real___assert_fail(
        assertion: *const c_char,
        file: *const c_char,
        line: c_uint,
        function: *const c_char,
    ) -> !;
}

/// Ends the simulation, not the process.
#[unsafe(no_mangle)]
extern "C" fn __wrap_abort() -> ! {
    match Call::begin() {
        // One of a task ends the process all the same.
        Some(call) => match panic_below_c() {
            Some(panic) => call.world.fail(&format!("a panic reached C code, which cannot unwind: {panic}")),
            None => call.world.fail("abort() was called"),
        },
        // SAFETY: it has no preconditions.
        None => unsafe { __real_abort() },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap___assert_fail(
    assertion: *const c_char,
    file: *const c_char,
    line: c_uint,
    function: *const c_char,
) -> ! {
    let Some(call) = Call::begin() else {
        // SAFETY: the arguments are the caller's, unchanged.
        unsafe { __real___assert_fail(assertion, file, line, function) }
    };
    let text = |text: *const c_char| {
        if text.is_null() {
            return "?".into();
        }
        // SAFETY: the caller's string.
        unsafe { CStr::from_ptr(text) }.to_string_lossy()
    };
    let (assertion, file, function) = (text(assertion), text(file), text(function));
    call.world.fail(&format!("assertion failed: {assertion}, in {function} ({file}:{line})"))
}
