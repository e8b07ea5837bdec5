//! Randomness, from the simulation's seed.

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};

use super::{failed, wrap};
use crate::world::{Call, World};

/// Fills memory with random bytes.
///
/// # Safety
/// The memory is the caller's, and of this size.
pub(super) unsafe fn fill(world: &World, bytes: *mut u8, count: usize) {
    world.note("random", count as u64);
    if count > 0 {
        // SAFETY: see above. It need not have been initialized: nothing reads it before.
        unsafe {
            std::ptr::write_bytes(bytes, 0, count);
            world.fill(std::slice::from_raw_parts_mut(bytes, count));
        }
    }
}

wrap! {
    __wrap_getrandom, __real_getrandom(bytes: *mut u8, count: usize, flags: c_uint) -> isize = |call| {
        if call.worker().is_none() {
            // The simulator's own.
            // SAFETY: the arguments are the caller's, unchanged.
            return unsafe { __real_getrandom(bytes, count, flags) };
        }
        // SAFETY: the caller's memory.
        unsafe { fill(call.world, bytes, count) };
        count as isize
    }

    __wrap_getentropy, __real_getentropy(bytes: *mut u8, count: usize) -> c_int = |call| {
        if call.worker().is_none() {
            // SAFETY: the arguments are the caller's, unchanged.
            return unsafe { __real_getentropy(bytes, count) };
        }
        // As in the system.
        if count > 256 {
            return failed(libc::EIO);
        }
        // SAFETY: the caller's memory.
        unsafe { fill(call.world, bytes, count) };
        0
    }

    // The C library's generator is the process's, which may have run another simulation before. So nothing is seeded.
    __wrap_rand, __real_rand() -> c_int = |call| {
        call.world.note("rand", 0);
        call.world.draw_long(1 << 31) as c_int
    }

    __wrap_random, __real_random() -> c_long = |call| {
        call.world.note("random", 0);
        call.world.draw_long(1 << 31) as c_long
    }

    __wrap_srand, __real_srand(seed: c_uint) = |call| {
        call.world.note("srand", seed.into());
    }

    __wrap_srandom, __real_srandom(seed: c_uint) = |call| {
        call.world.note("srandom", seed.into());
    }

}

unsafe extern "C" {
    fn __real_dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// Code that knows nothing of the simulation looks functions up by name, and keeps what it finds for the process: so the
/// function leads here also outside a simulation.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void {
    // SAFETY: the caller's string.
    let text = unsafe { CStr::from_ptr(name) };
    if library == libc::RTLD_DEFAULT && text == c"getrandom" {
        return __wrap_getrandom as *mut c_void;
    }
    // SAFETY: the arguments are the caller's, unchanged.
    unsafe { __real_dlsym(library, name) }
}

// Older C libraries have none of these: there is no original to call.

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_arc4random_buf(bytes: *mut u8, count: usize) {
    match Call::begin() {
        // SAFETY: the caller's memory.
        Some(call) => unsafe { fill(call.world, bytes, count) },
        // SAFETY: as above. It fails for no size that a program has memory of.
        None => unsafe {
            __real_getrandom(bytes, count, 0);
        },
    }
}

#[unsafe(no_mangle)]
extern "C" fn __wrap_arc4random() -> u32 {
    let mut bytes = [0; 4];
    // SAFETY: the memory is of this size.
    unsafe { __wrap_arc4random_buf(bytes.as_mut_ptr(), bytes.len()) };
    u32::from_le_bytes(bytes)
}

#[unsafe(no_mangle)]
extern "C" fn __wrap_arc4random_uniform(below: u32) -> u32 {
    let mut bytes = [0; 8];
    // SAFETY: the memory is of this size.
    unsafe { __wrap_arc4random_buf(bytes.as_mut_ptr(), bytes.len()) };
    // Of 64 bits, the remainder is uniform enough for 32.
    (u64::from_le_bytes(bytes) % u64::from(below.max(1))) as u32
}

/// OpenSSL mixes the processor's time stamp into its randomness.
#[unsafe(no_mangle)]
extern "C" fn __wrap_OPENSSL_rdtsc() -> u32 {
    // Where there is none, OpenSSL expects 0, and reads a clock.
    Call::begin().map_or(0, |call| call.world.now().as_nanos() as u32)
}
