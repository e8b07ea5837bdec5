//! The C service and client of `tests/clients/counter.c`.

use std::ffi::{CString, c_char, c_int, c_long};
use std::ptr::NonNull;

use crate::harness::machine_with;

#[repr(C)]
struct Opaque {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn counter_serve(port: c_int) -> c_int;
    fn counter_open(host: *const c_char, port: c_int) -> *mut Opaque;
    fn counter_add(counter: *mut Opaque, number: c_int, timeout_ms: c_int) -> c_long;
    fn counter_connections(counter: *mut Opaque) -> c_int;
    fn counter_close(counter: *mut Opaque);
}

pub const PORT: u16 = 4000;

/// A client.
pub struct Counter(NonNull<Opaque>);

// SAFETY: its state is behind a lock of its own.
unsafe impl Send for Counter {}

impl Counter {
    pub fn open(host: &str) -> Counter {
        let host = CString::new(host).expect("a name");
        // SAFETY: the string is one.
        let counter = unsafe { counter_open(host.as_ptr(), PORT.into()) };
        Counter(NonNull::new(counter).expect("a thread"))
    }

    /// The sum, if there was a response within this time.
    pub fn add(&self, number: i32, timeout_ms: i32) -> Option<i64> {
        // SAFETY: it is open.
        let sum = unsafe { counter_add(self.0.as_ptr(), number, timeout_ms) };
        (sum >= 0).then_some(sum)
    }

    /// How often it has connected.
    pub fn connections(&self) -> i32 {
        // SAFETY: it is open.
        unsafe { counter_connections(self.0.as_ptr()) }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        // SAFETY: it is open, and nobody uses it afterwards.
        unsafe { counter_close(self.0.as_ptr()) };
    }
}

/// A machine that serves.
pub fn server(number: u8) -> madsim::runtime::NodeHandle {
    machine_with(number, || {
        // SAFETY: it has no preconditions.
        let code = unsafe { counter_serve(PORT.into()) };
        panic!("the server ended with {code}");
    })
}
