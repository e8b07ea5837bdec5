//! What works for sockets, pipes and files: files are the real system's.

use std::ffi::{c_int, c_ulong, c_void};

use libc::{EBADF, EINVAL, iovec};

use super::transfer::{receive, send};
use super::{failed, wrap};
use crate::descriptors::{Kind, is_simulated};
use crate::world::Call;

fn one(bytes: *const c_void, count: usize) -> iovec {
    iovec { iov_base: bytes.cast_mut(), iov_len: count }
}

/// Memory of the caller in several pieces.
///
/// # Safety
/// It is the caller's, and there are so many.
unsafe fn several<'a>(pieces: *const iovec, count: c_int) -> &'a [iovec] {
    match usize::try_from(count) {
        Ok(count) if count > 0 => {
            // SAFETY: see above.
            unsafe { std::slice::from_raw_parts(pieces, count) }
        }
        _ => &[],
    }
}

/// Creates a pipe.
///
/// # Safety
/// There is memory for two descriptors.
unsafe fn pipe(call: &Call, places: *mut c_int, flags: c_int) -> c_int {
    call.world.note("pipe", 0);
    let machine = call.world.machine();
    let [reads, writes] = call.world.lock().descriptors.add_pipe(machine, flags & libc::O_NONBLOCK != 0);
    // SAFETY: see above.
    unsafe {
        *places = reads;
        *places.add(1) = writes;
    }
    0
}

fn control(call: &Call, descriptor: c_int, command: c_int, argument: usize) -> c_int {
    let state = &mut *call.world.lock();
    let Some(entry) = state.descriptors.get_mut(descriptor) else { return failed(EBADF) };
    match command {
        libc::F_GETFL => libc::O_RDWR | if entry.nonblocking { libc::O_NONBLOCK } else { 0 },
        libc::F_SETFL => {
            entry.nonblocking = argument as c_int & libc::O_NONBLOCK != 0;
            0
        }
        libc::F_GETFD => libc::FD_CLOEXEC,
        libc::F_SETFD => 0,
        _ => failed(EINVAL),
    }
}

wrap! {
    __wrap_pipe, __real_pipe(places: *mut c_int) -> c_int = |call| {
        // SAFETY: the caller's memory.
        unsafe { pipe(&call, places, 0) }
    }

    __wrap_pipe2, __real_pipe2(places: *mut c_int, flags: c_int) -> c_int = |call| {
        // SAFETY: the caller's memory.
        unsafe { pipe(&call, places, flags) }
    }

    __wrap_read, __real_read(descriptor: c_int, bytes: *mut c_void, count: usize) -> isize = |call| {
        if !is_simulated(descriptor) {
            // SAFETY: the arguments are the caller's, unchanged.
            return unsafe { __real_read(descriptor, bytes, count) };
        }
        // SAFETY: the caller's memory.
        unsafe { receive(&call, descriptor, &[one(bytes, count)], 0) }
    }

    __wrap___read_chk, __real___read_chk(descriptor: c_int, bytes: *mut c_void, count: usize, size: usize) -> isize = |call| {
        if !is_simulated(descriptor) {
            // SAFETY: the arguments are the caller's, unchanged.
            return unsafe { __real___read_chk(descriptor, bytes, count, size) };
        }
        // SAFETY: the caller's memory.
        unsafe { receive(&call, descriptor, &[one(bytes, count)], 0) }
    }

    __wrap_readv, __real_readv(descriptor: c_int, pieces: *const iovec, count: c_int) -> isize = |call| {
        if !is_simulated(descriptor) {
            // SAFETY: the arguments are the caller's, unchanged.
            return unsafe { __real_readv(descriptor, pieces, count) };
        }
        // SAFETY: the caller's memory.
        unsafe { receive(&call, descriptor, several(pieces, count), 0) }
    }

    __wrap_write, __real_write(descriptor: c_int, bytes: *const c_void, count: usize) -> isize = |call| {
        if !is_simulated(descriptor) {
            // SAFETY: the arguments are the caller's, unchanged.
            return unsafe { __real_write(descriptor, bytes, count) };
        }
        // SAFETY: the caller's memory.
        unsafe { send(&call, descriptor, &[one(bytes, count)], 0) }
    }

    __wrap_writev, __real_writev(descriptor: c_int, pieces: *const iovec, count: c_int) -> isize = |call| {
        if !is_simulated(descriptor) {
            // SAFETY: the arguments are the caller's, unchanged.
            return unsafe { __real_writev(descriptor, pieces, count) };
        }
        // SAFETY: the caller's memory.
        unsafe { send(&call, descriptor, several(pieces, count), 0) }
    }

    __wrap_close, __real_close(descriptor: c_int) -> c_int = |call| {
        if !is_simulated(descriptor) {
            // SAFETY: the argument is the caller's, unchanged.
            return unsafe { __real_close(descriptor) };
        }
        call.world.point("close", 0);
        let state = &mut *call.world.lock();
        let Some(entry) = state.descriptors.get_mut(descriptor) else { return failed(EBADF) };
        match &mut entry.kind {
            // Its task sends what is left, and removes it.
            Kind::Connection(connection) if connection.error.is_none() => {
                connection.closed = true;
                connection.wake();
            }
            _ => {
                if let Some(other) = state.descriptors.remove(descriptor) {
                    state.wake_descriptor(other);
                }
            }
        }
        0
    }

    __wrap_fcntl, __real_fcntl(descriptor: c_int, command: c_int, argument: usize) -> c_int = |call| {
        if !is_simulated(descriptor) {
            // SAFETY: the arguments are the caller's, unchanged.
            return unsafe { __real_fcntl(descriptor, command, argument) };
        }
        control(&call, descriptor, command, argument)
    }

    __wrap_fcntl64, __real_fcntl64(descriptor: c_int, command: c_int, argument: usize) -> c_int = |call| {
        if !is_simulated(descriptor) {
            // SAFETY: the arguments are the caller's, unchanged.
            return unsafe { __real_fcntl64(descriptor, command, argument) };
        }
        control(&call, descriptor, command, argument)
    }

    __wrap_ioctl, __real_ioctl(descriptor: c_int, request: c_ulong, argument: *mut c_int) -> c_int = |call| {
        if !is_simulated(descriptor) {
            // SAFETY: the arguments are the caller's, unchanged.
            return unsafe { __real_ioctl(descriptor, request, argument) };
        }
        let state = &mut *call.world.lock();
        let Some(entry) = state.descriptors.get_mut(descriptor) else { return failed(EBADF) };
        match request {
            libc::FIONBIO => {
                // SAFETY: the caller's memory.
                entry.nonblocking = unsafe { *argument } != 0;
                0
            }
            libc::FIONREAD => {
                let count = match &entry.kind {
                    Kind::Connection(connection) => connection.received.len(),
                    _ => 0,
                };
                // SAFETY: the caller's memory.
                unsafe { *argument = count as c_int };
                0
            }
            _ => failed(EINVAL),
        }
    }
}
