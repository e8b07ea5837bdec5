//! The real threads, and whose turn it is.
//!
//! A thread of the simulation is a real one that runs only while the executor waits for it. When it must wait, it gives
//! its turn back and says what it waits for. So at any time one thread at most runs, and which one is the simulation's
//! decision.

use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use libc::{pthread_key_t, pthread_t};

use crate::locks::Held;
use crate::world::{World, set_world};
use crate::wrap::threads::{Start, real_pthread_create, real_pthread_join};
use crate::wrap::{exit_thread, real_futex};

/// Whose turn it is.
const EXECUTORS: u32 = 0;
const THREADS: u32 = 1;
/// The thread is to free its locks, and give its turn back.
const FREE: u32 = 2;
/// The thread is to end at once.
const END: u32 = 3;

/// How often glibc calls the destructors of a thread's specific data (`PTHREAD_DESTRUCTOR_ITERATIONS`).
const DESTRUCTOR_ROUNDS: u32 = 4;

/// What is added to a thread's number for its `pthread_t`: no address has this bit.
pub(crate) const FIRST_ID: u64 = 1 << 62;

thread_local! {
    static ME: Cell<*const Worker> = const { Cell::new(std::ptr::null()) };
}

/// A real thread.
pub(crate) struct Worker {
    pub(crate) number: usize,
    world: Arc<World>,
    turn: AtomicU32,
    /// The C library's own `pthread_t`.
    id: AtomicU64,
    /// Calls until it gives way.
    calls_left: AtomicU32,
    /// Calls since it has waited.
    pub(crate) calls_since_wait: AtomicU32,
    /// It does not give way.
    undisturbed: AtomicBool,
    /// How often the destructor of its specific data was called.
    rounds: AtomicU32,
    /// The locks that it frees when its machine is killed.
    last_locks: Mutex<Vec<Held>>,
    result: AtomicU64,
}

/// What a new thread gets.
struct Beginning {
    worker: Arc<Worker>,
    start: Start,
    argument: *mut c_void,
}

/// The function of every thread.
extern "C-unwind" fn begin(beginning: *mut c_void) -> *mut c_void {
    let beginning = beginning.cast::<Beginning>();
    // Before its first turn it must not touch the heap: where things lie would depend on chance.
    // SAFETY: `Worker::start` made it for this thread, and does not touch it again.
    unsafe { &*beginning }.worker.await_turn();
    // SAFETY: as above, and it came from a box.
    let Beginning { worker, start, argument } = *unsafe { Box::from_raw(beginning) };
    set_world(Some(&worker.world));
    ME.set(Arc::as_ptr(&worker));
    // The world keeps another reference until the real thread has ended. With none here, nothing is left to drop if the
    // thread ends in the middle (`pthread_exit`).
    drop(worker);
    // SAFETY: whoever started the thread vouches for the function and its argument.
    let result = unsafe { start(argument) };
    returned(result);
    result
}

/// The thread's function has returned, or is about to end. Destructors of its own data come next, in the simulation.
pub(crate) fn returned(result: *mut c_void) {
    if let Some(me) = Worker::current() {
        me.result.store(result as u64, Ordering::Relaxed);
        me.call_destructor_again();
    }
}

/// Called by the C library after the destructors of thread-local data, together with those of specific data, as long as
/// there is some: the last time, the thread leaves the simulation.
extern "C" fn destructor(_: *mut c_void) {
    let Some(me) = Worker::current() else { return };
    if me.rounds.fetch_add(1, Ordering::Relaxed) + 1 < DESTRUCTOR_ROUNDS {
        me.call_destructor_again();
        return;
    }
    me.world.ended(me.number, me.result.load(Ordering::Relaxed));
    ME.set(std::ptr::null());
    set_world(None);
    me.hand_back();
}

fn destructor_key() -> pthread_key_t {
    static KEY: OnceLock<pthread_key_t> = OnceLock::new();
    *KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: the key is valid, and the destructor may be called on any thread.
        let code = unsafe { libc::pthread_key_create(&raw mut key, Some(destructor)) };
        assert_eq!(code, 0, "no key for thread-specific data is left");
        key
    })
}

impl Worker {
    /// The calling thread, if it is one of a simulation.
    pub(crate) fn current() -> Option<&'static Worker> {
        // SAFETY: the world keeps it until the thread has ended.
        unsafe { ME.get().as_ref() }
    }

    /// Starts a real thread, which waits for its first turn. The executor calls it.
    pub(crate) fn start(
        world: &Arc<World>,
        number: usize,
        stack: usize,
        start: Start,
        argument: *mut c_void,
    ) -> Result<Arc<Worker>, i32> {
        destructor_key();
        let worker = Arc::new(Worker {
            number,
            world: world.clone(),
            turn: AtomicU32::new(EXECUTORS),
            id: AtomicU64::new(0),
            calls_left: AtomicU32::new(1),
            calls_since_wait: AtomicU32::new(0),
            undisturbed: AtomicBool::new(false),
            rounds: AtomicU32::new(0),
            last_locks: Mutex::new(Vec::new()),
            result: AtomicU64::new(0),
        });
        let beginning = Box::into_raw(Box::new(Beginning { worker: worker.clone(), start, argument }));
        match real_pthread_create(stack, begin, beginning.cast()) {
            Ok(id) => {
                worker.id.store(id, Ordering::Relaxed);
                Ok(worker)
            }
            Err(code) => {
                // SAFETY: no thread has got it.
                drop(unsafe { Box::from_raw(beginning) });
                Err(code)
            }
        }
    }

    fn call_destructor_again(&self) {
        // SAFETY: the key exists as long as the process; the value is not looked at.
        unsafe { libc::pthread_setspecific(destructor_key(), std::ptr::from_ref(self).cast()) };
    }

    fn give(&self, turn: u32) {
        self.turn.store(turn, Ordering::Release);
        real_futex(&self.turn, libc::FUTEX_WAKE, 1);
    }

    /// The executor's: gives the thread a turn, and waits until it gives it back.
    pub(crate) fn run(&self, calls: u32) {
        self.calls_left.store(calls, Ordering::Relaxed);
        self.give_and_wait(THREADS);
    }

    fn give_and_wait(&self, turn: u32) {
        self.give(turn);
        while self.turn.load(Ordering::Acquire) != EXECUTORS {
            real_futex(&self.turn, libc::FUTEX_WAIT, turn);
        }
    }

    /// The thread's: gives its turn back.
    pub(crate) fn hand_back(&self) {
        self.give(EXECUTORS);
    }

    /// The thread's: waits for its next turn. Does not return if its machine is killed before.
    pub(crate) fn await_turn(&self) {
        loop {
            match self.turn.load(Ordering::Acquire) {
                THREADS => return,
                FREE => {
                    for lock in self.last_locks.lock().unwrap_or_else(PoisonError::into_inner).iter().rev() {
                        lock.unlock();
                    }
                    self.hand_back();
                }
                END => exit_thread(),
                _ => real_futex(&self.turn, libc::FUTEX_WAIT, EXECUTORS),
            }
        }
    }

    /// The executor's: has a thread that waits for its turn free its locks, which nobody else may.
    pub(crate) fn free(&self, locks: Vec<Held>) {
        if locks.is_empty() {
            return;
        }
        *self.last_locks.lock().unwrap_or_else(PoisonError::into_inner) = locks;
        self.give_and_wait(FREE);
    }

    /// The executor's: ends a thread that waits for its turn, in the middle of what it does.
    pub(crate) fn end(&self) {
        self.give(END);
        self.join();
    }

    /// Waits until the real thread has ended, and frees its stack.
    pub(crate) fn join(&self) {
        real_pthread_join(self.id());
    }

    /// The C library's own `pthread_t`.
    pub(crate) fn id(&self) -> pthread_t {
        self.id.load(Ordering::Relaxed)
    }

    /// Whether the thread's turn is over with this call.
    pub(crate) fn spends_call(&self) -> bool {
        self.calls_left.fetch_sub(1, Ordering::Relaxed) == 1
    }

    pub(crate) fn is_undisturbed(&self) -> bool {
        self.undisturbed.load(Ordering::Relaxed)
    }

    /// Does something without giving way, unless it must wait.
    pub(crate) fn undisturbed<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = self.undisturbed.swap(true, Ordering::Relaxed);
        let result = work();
        self.undisturbed.store(before, Ordering::Relaxed);
        result
    }
}
