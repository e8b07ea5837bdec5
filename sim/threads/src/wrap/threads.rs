//! Threads: `pthread_*` and C11's `thrd_*`.
//!
//! What callers get as `pthread_t` is a number of the simulation, so that it is the same in each run of a seed, and never
//! used twice.

use std::ffi::{CStr, c_char, c_int, c_void};

use libc::{ESRCH, pthread_attr_t, pthread_t, timespec};

use super::{duration, wrap};
use crate::worker::{self, FIRST_ID, Worker};
use crate::world::{Call, EXECUTOR, Life, Wait, World};

/// A thread's function.
pub(crate) type Start = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;

/// What `thrd_*` return (`threads.h` of glibc).
const THRD_SUCCESS: c_int = 0;
const THRD_ERROR: c_int = 2;

unsafe extern "C" {
    fn pthread_attr_getdetachstate(attributes: *const pthread_attr_t, state: *mut c_int) -> c_int;
    fn __real_dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

unsafe extern "C-unwind" {
    fn __real_pthread_exit(result: *mut c_void) -> !;
    fn __real_thrd_exit(result: c_int) -> !;
}

/// The C library's `pthread_attr_init`: the simulator defines one that refuses to.
fn attr_init(attributes: *mut pthread_attr_t) -> c_int {
    type Function = unsafe extern "C" fn(*mut pthread_attr_t) -> c_int;
    // SAFETY: the name is a string.
    let original = unsafe { __real_dlsym(libc::RTLD_NEXT, c"pthread_attr_init".as_ptr()) };
    if original.is_null() {
        return libc::ENOSYS;
    }
    // SAFETY: the function of this name has this type.
    let original = unsafe { std::mem::transmute::<*mut c_void, Function>(original) };
    // SAFETY: the caller passes memory for attributes.
    unsafe { original(attributes) }
}

/// Starts a real thread with a stack of this size (0: the default).
pub(crate) fn real_pthread_create(
    stack: usize,
    start: Start,
    argument: *mut c_void,
) -> Result<pthread_t, c_int> {
    let mut attributes = std::mem::MaybeUninit::<pthread_attr_t>::uninit();
    let code = attr_init(attributes.as_mut_ptr());
    if code != 0 {
        return Err(code);
    }
    let mut thread = 0;
    // SAFETY: the attributes were initialized, and are destroyed once; whoever passes the function vouches for it.
    unsafe {
        if stack > 0 {
            libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), stack);
        }
        let code = __real_pthread_create(&raw mut thread, attributes.as_ptr(), start, argument);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        if code == 0 { Ok(thread) } else { Err(code) }
    }
}

/// Waits for the end of a real thread.
pub(crate) fn real_pthread_join(thread: pthread_t) {
    // SAFETY: each thread of a simulation is joinable, and only its world joins it, once.
    unsafe { __real_pthread_join(thread, std::ptr::null_mut()) };
}

/// The number of a thread by what its creator got.
fn number(thread: pthread_t) -> Option<usize> {
    usize::try_from(thread.checked_sub(FIRST_ID)?).ok()
}

impl World {
    /// The C library's `pthread_t` of a thread.
    fn real_id(&self, thread: pthread_t) -> Option<pthread_t> {
        let Some(number) = number(thread) else { return Some(thread) };
        if number == EXECUTOR {
            // SAFETY: it has no preconditions.
            return Worker::current().is_none().then(|| unsafe { __real_pthread_self() });
        }
        Some(self.lock().threads.get(number)?.worker.as_ref()?.id())
    }

    /// A thread that may still be joined.
    fn joinable(&self, thread: pthread_t) -> Option<usize> {
        let number = number(thread).filter(|number| *number != EXECUTOR)?;
        self.lock().threads.get(number).is_some_and(|thread| !thread.detached).then_some(number)
    }

    fn join_thread(&self, thread: pthread_t) -> Option<usize> {
        let number = self.joinable(thread)?;
        while self.lock().threads[number].life == Life::Alive {
            self.wait(Wait::End(number), None);
        }
        let thread = &mut self.lock().threads[number];
        thread.detached = true;
        Some(thread.result)
    }

    fn detach(&self, thread: pthread_t) -> bool {
        let Some(number) = self.joinable(thread) else { return false };
        self.lock().threads[number].detached = true;
        true
    }

    pub(crate) fn sleep(&self, time: std::time::Duration) {
        let until = self.now() + time;
        while self.now() < until {
            self.wait(Wait::Time, Some(until));
        }
    }
}

fn self_id() -> pthread_t {
    FIRST_ID + Worker::current().map_or(EXECUTOR, |me| me.number) as u64
}

/// What `thrd_create` gets.
struct C11 {
    start: unsafe extern "C-unwind" fn(*mut c_void) -> c_int,
    argument: *mut c_void,
}

unsafe extern "C-unwind" fn begin_c11(beginning: *mut c_void) -> *mut c_void {
    // SAFETY: `thrd_create` made it for this thread.
    let C11 { start, argument } = *unsafe { Box::from_raw(beginning.cast::<C11>()) };
    // SAFETY: whoever started the thread vouches for it.
    let result = unsafe { start(argument) };
    result as isize as *mut c_void
}

wrap! {
    __wrap_pthread_create, __real_pthread_create(
        thread: *mut pthread_t, attributes: *const pthread_attr_t, start: Start, argument: *mut c_void,
    ) -> c_int = |call| {
        call.world.note("pthread_create", 0);
        let (mut stack, mut state) = (0, libc::PTHREAD_CREATE_JOINABLE);
        if !attributes.is_null() {
            // SAFETY: the caller's attributes.
            unsafe {
                libc::pthread_attr_getstacksize(attributes, &raw mut stack);
                pthread_attr_getdetachstate(attributes, &raw mut state);
            }
        }
        match call.world.start(stack, state == libc::PTHREAD_CREATE_DETACHED, start, argument) {
            Ok(id) => {
                // SAFETY: the caller's memory.
                unsafe { *thread = id };
                call.world.give_way();
                0
            }
            Err(code) => code,
        }
    }

    __wrap_pthread_join, __real_pthread_join(thread: pthread_t, result: *mut *mut c_void) -> c_int = |call| {
        call.world.point("pthread_join", 0);
        let Some(value) = call.world.join_thread(thread) else { return ESRCH };
        if !result.is_null() {
            // SAFETY: the caller's memory.
            unsafe { *result = value as *mut c_void };
        }
        0
    }

    __wrap_pthread_detach, __real_pthread_detach(thread: pthread_t) -> c_int = |call| {
        call.world.note("pthread_detach", 0);
        if call.world.detach(thread) { 0 } else { ESRCH }
    }

    __wrap_pthread_self, __real_pthread_self() -> pthread_t = |call| { self_id() }

    __wrap_pthread_cancel, __real_pthread_cancel(_thread: pthread_t) -> c_int = |call| {
        call.world.fail("pthread_cancel is not supported")
    }

    __wrap_pthread_kill, __real_pthread_kill(thread: pthread_t, signal: c_int) -> c_int = |call| {
        // A signal would run a handler on a thread that has no turn. It interrupts nothing here.
        call.world.note("pthread_kill", signal as u64);
        let number = number(thread);
        let alive = |number: usize| call.world.lock().threads.get(number).is_some_and(|thread| thread.life == Life::Alive);
        if number.is_some_and(alive) { 0 } else { ESRCH }
    }

    __wrap_pthread_setname_np, __real_pthread_setname_np(thread: pthread_t, name: *const c_char) -> c_int = |call| {
        // SAFETY: the caller's string.
        let text = unsafe { CStr::from_ptr(name) };
        // As the system has it: 15 bytes, and the end.
        if text.count_bytes() > 15 {
            return libc::ERANGE;
        }
        let Some(number) = number(thread) else { return ESRCH };
        if number == EXECUTOR {
            // One thread is the thread of many tasks.
            return 0;
        }
        match call.world.lock().threads.get_mut(number) {
            Some(thread) => thread.name = text.to_string_lossy().into_owned(),
            None => return ESRCH,
        }
        if number == Worker::current().map_or(EXECUTOR, |me| me.number) {
            // For a debugger.
            // SAFETY: the caller's string, and the thread itself.
            unsafe { __real_pthread_setname_np(__real_pthread_self(), name) };
        }
        0
    }

    __wrap_pthread_getname_np, __real_pthread_getname_np(
        thread: pthread_t, name: *mut c_char, size: usize,
    ) -> c_int = |call| {
        let state = call.world.lock();
        let Some(thread) = number(thread).and_then(|number| state.threads.get(number)) else { return ESRCH };
        if size <= thread.name.len() {
            return libc::ERANGE;
        }
        // SAFETY: the caller's memory, of this size.
        unsafe {
            std::ptr::copy_nonoverlapping(thread.name.as_ptr().cast(), name, thread.name.len());
            *name.add(thread.name.len()) = 0;
        }
        0
    }

    __wrap_pthread_getattr_np, __real_pthread_getattr_np(
        thread: pthread_t, attributes: *mut pthread_attr_t,
    ) -> c_int = |call| {
        let Some(thread) = call.world.real_id(thread) else { return ESRCH };
        // SAFETY: the caller's memory, and a thread that has not ended.
        unsafe { __real_pthread_getattr_np(thread, attributes) }
    }

    __wrap_pthread_attr_init, __real_pthread_attr_init(attributes: *mut pthread_attr_t) -> c_int = |call| {
        attr_init(attributes)
    }

    __wrap_pthread_once, __real_pthread_once(flag: *mut c_int, work: extern "C" fn()) -> c_int = |call| {
        // SAFETY: the caller's flag and function.
        once(&call, flag as usize, || unsafe { __real_pthread_once(flag, work) })
    }

    __wrap_call_once, __real_call_once(flag: *mut c_int, work: extern "C" fn()) = |call| {
        // SAFETY: the caller's flag and function.
        once(&call, flag as usize, || unsafe { __real_call_once(flag, work) })
    }

    __wrap_thrd_create, __real_thrd_create(
        thread: *mut pthread_t, start: unsafe extern "C-unwind" fn(*mut c_void) -> c_int, argument: *mut c_void,
    ) -> c_int = |call| {
        call.world.note("thrd_create", 0);
        let beginning = Box::into_raw(Box::new(C11 { start, argument }));
        match call.world.start(0, false, begin_c11, beginning.cast()) {
            Ok(id) => {
                // SAFETY: the caller's memory.
                unsafe { *thread = id };
                call.world.give_way();
                THRD_SUCCESS
            }
            Err(_) => {
                // SAFETY: no thread has got it.
                drop(unsafe { Box::from_raw(beginning) });
                THRD_ERROR
            }
        }
    }

    __wrap_thrd_join, __real_thrd_join(thread: pthread_t, result: *mut c_int) -> c_int = |call| {
        call.world.point("thrd_join", 0);
        let Some(value) = call.world.join_thread(thread) else { return THRD_ERROR };
        if !result.is_null() {
            // SAFETY: the caller's memory.
            unsafe { *result = value as c_int };
        }
        THRD_SUCCESS
    }

    __wrap_thrd_detach, __real_thrd_detach(thread: pthread_t) -> c_int = |call| {
        call.world.note("thrd_detach", 0);
        if call.world.detach(thread) { THRD_SUCCESS } else { THRD_ERROR }
    }

    __wrap_thrd_current, __real_thrd_current() -> pthread_t = |call| { self_id() }

    __wrap_thrd_sleep, __real_thrd_sleep(time: *const timespec, _left: *mut timespec) -> c_int = |call| {
        call.world.note("thrd_sleep", 0);
        // SAFETY: the caller's memory.
        let Some(time) = (unsafe { duration(time) }) else { return -2 };
        call.world.sleep(time);
        0
    }

    __wrap_thrd_yield, __real_thrd_yield() = |call| {
        call.world.note("thrd_yield", 0);
        call.world.yields();
    }

    __wrap_sched_yield, __real_sched_yield() -> c_int = |call| {
        call.world.note("sched_yield", 0);
        call.world.yields();
        0
    }
}

/// Does what is done once in the process, though it may have several simulations. A thread does not give way meanwhile, so
/// that it is hardly ever killed in the middle: nobody could do it any more.
fn once<T>(call: &Call, flag: usize, work: impl FnOnce() -> T) -> T {
    let me = call.worker().map_or(EXECUTOR, |me| me.number);
    loop {
        let by = call.world.lock().once.get(&flag).copied();
        match by {
            None => break,
            Some(by) if by == me => {
                call.world.fail(&format!("deadlock: {flag:#x} is done once, by its own work"))
            }
            Some(_) => {}
        }
        call.world.wait(Wait::Once(flag), None);
    }
    call.world.lock().once.insert(flag, me);
    let result = match call.worker() {
        Some(me) => me.undisturbed(|| call.outside(work)),
        None => call.outside(work),
    };
    let state = &mut *call.world.lock();
    state.once.remove(&flag);
    state.wake_address(flag);
    result
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __wrap_pthread_exit(result: *mut c_void) -> ! {
    worker::returned(result);
    // SAFETY: the caller ends its thread. This crate has nothing on its stack that must be dropped.
    unsafe { __real_pthread_exit(result) }
}

#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn __wrap_thrd_exit(result: c_int) -> ! {
    worker::returned(result as isize as *mut c_void);
    // SAFETY: as above.
    unsafe { __real_thrd_exit(result) }
}
