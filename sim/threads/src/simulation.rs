//! A simulation with threads.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, resume_unwind};
use std::sync::{Arc, Once};

use madsim::plugin;
use madsim::runtime::Runtime;

use crate::options::{Busiest, Figures, Options};
use crate::worker::Worker;
use crate::world::{Call, Hook, Life, World, set_world, world};

/// What the simulator panics with when nothing can happen any more.
const NO_EVENTS: &str = "all tasks will block forever";

/// What Rust panics with where a panic would leave a function that cannot unwind, as C code cannot.
const CANNOT_UNWIND: &str = "panic in a function that cannot unwind";

/// The threads of the calling simulation.
#[derive(Clone, Copy)]
pub struct Threads {
    world: &'static World,
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Threads").field("figures", &self.figures()).finish_non_exhaustive()
    }
}

/// Runs a future in a simulation with threads until it ends, and ends all threads that are left.
///
/// The runtime is madsim's, with the network installed. From now on each thread that a task or a thread of the simulation
/// starts, in C or in Rust, is one of the simulation, on the machine of whoever starts it. `spawn_blocking` of the simulation's
/// tokio starts one, too. See the crate's documentation for what threads can do.
///
/// A thread belongs to one simulation; several may run in several threads of a process at the same time.
///
/// # Panics
/// If the future panics, or the simulation cannot go on: a deadlock, `abort()`, a panic below C code, a function that is not
/// supported. The message has the seed, the time and the thread.
pub fn play<T>(runtime: Runtime, options: Options, run: impl Future<Output = T>) -> (T, Figures) {
    assert!(world().is_none(), "a simulation in a simulation");
    report_panics();
    let pinned = pin(None);
    let seed = runtime.handle().seed();
    runtime.add_simulator::<Hook>();
    let begun = RefCell::new(None);
    let result = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let world = plugin::simulator::<Hook>().0.clone();
            world.begin(seed, options);
            set_world(Some(&world));
            tokio::task::set_threads(true);
            begun.replace(Some(world));
            run.await
        })
    }));
    let world: Option<Arc<World>> = begun.take();
    let report = world.as_ref().map(|world| world.report()).unwrap_or_default();
    let figures = world.as_ref().map(|world| world.end()).unwrap_or_default();
    tokio::task::set_threads(false);
    // What tasks drop may still be C clients, whose threads are no more.
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(runtime)));
    set_world(None);
    pin(Some(pinned));
    match (result, dropped) {
        (Ok(result), Ok(())) => (result, figures),
        (Err(panic), _) if message(panic.as_ref()).contains(NO_EVENTS) => {
            panic!("seed {seed}: deadlock: nothing can happen any more, every thread waits:\n{report}")
        }
        (Err(panic), _) | (_, Err(panic)) => resume_unwind(panic),
    }
}

impl Threads {
    /// Those of the simulation that the calling thread or task belongs to, if it belongs to one of [`play`].
    pub fn current() -> Option<Threads> {
        world().map(|world| Threads { world })
    }

    /// What the threads did so far.
    pub fn figures(&self) -> Figures {
        self.world.figures()
    }

    /// The thread that has called most often without waiting, of those that have not ended: it may spin.
    pub fn busiest(&self) -> Option<Busiest> {
        let state = &*self.world.lock();
        let alive = state.threads.iter().enumerate().filter(|(_, thread)| thread.life == Life::Alive);
        let (number, thread) = alive.max_by_key(|(_, thread)| thread.most_calls.0)?;
        let (calls, time) = thread.most_calls;
        (calls > 0).then(|| Busiest { thread: number, name: thread.name.clone(), calls, time })
    }

    /// All threads that have not ended, and what each waits for: a line for each.
    pub fn report(&self) -> String {
        self.world.report()
    }

    /// Has a name lead to these addresses, in this order, instead of those before. Connections that exist stay.
    pub fn set_name(&self, name: &str, addresses: &[Ipv4Addr]) {
        self.world.lock().names.set(name, addresses.to_vec());
        if let (Some(first), Ok(_)) = (addresses.first(), madsim::runtime::Handle::try_current()) {
            // For what asks the simulator itself.
            madsim::net::NetSim::current().add_dns_record(name, (*first).into());
        }
    }

    /// There is no such name any more.
    pub fn remove_name(&self, name: &str) {
        self.world.lock().names.remove(name);
    }

    /// Whether names can be resolved at all. If not, `getaddrinfo` asks the caller to try again.
    pub fn set_names_available(&self, available: bool) {
        self.world.lock().names.set_available(available);
    }
}

impl World {
    fn figures(&self) -> Figures {
        let figures = self.lock().figures;
        Figures { heap_growth: crate::heap::in_use().saturating_sub(self.setup().heap), ..figures }
    }

    /// Ends all threads. None can be started any more.
    fn end(&self) -> Figures {
        let figures = self.figures();
        self.lock().over = true;
        self.kill(|_| true);
        Figures { killed: figures.killed, ..figures }
    }
}

/// The message of a panic.
fn message(panic: &dyn Any) -> &str {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "",
    }
}

thread_local! {
    /// The last panic of this thread, and whether the process is to end by it.
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
    static ENDS: Cell<bool> = const { Cell::new(false) };
}

/// What the calling thread has panicked with if C code, through which no panic can unwind, has called what panicked: Rust's
/// standard library then calls `abort`.
pub(crate) fn panic_below_c() -> Option<String> {
    ENDS.get().then(|| LAST.with_borrow(String::clone))
}

/// Has each panic in a simulation name its seed, its time and its thread.
fn report_panics() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // What is printed is no call of the simulation. No thread may wait, or end, in here: the hook is locked.
            let call = Call::begin();
            let ends = world().is_some_and(|world| report(world, info));
            // Before a process ends, the hook of Rust's tests locks standard output for good; this one does not end.
            if !ends {
                before(info);
            }
            drop(call);
        }));
    });
}

/// Names the place of a panic. Returns whether it is of a thread that cannot unwind: `abort` follows.
fn report(world: &World, info: &PanicHookInfo<'_>) -> bool {
    let text = match message(info.payload()) {
        "" => "a panic without a message",
        text => text,
    };
    if text.contains(CANNOT_UNWIND) && Worker::current().is_some() {
        ENDS.set(true);
        return true;
    }
    LAST.with_borrow_mut(|last| {
        last.clear();
        last.push_str(text);
    });
    if let Some(place) = world.try_place() {
        eprintln!("panic in a simulation: {place}");
    }
    false
}

/// Has the calling thread, and those that it starts, run on one processor: only one of them runs at a time, and the next one
/// then starts faster. Returns what was before, to be restored.
fn pin(to: Option<libc::cpu_set_t>) -> libc::cpu_set_t {
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: sets of processors are plain data, for which zero is valid; all pointers are valid during the calls.
    unsafe {
        let mut before = std::mem::zeroed::<libc::cpu_set_t>();
        let known = libc::sched_getaffinity(0, size, &raw mut before) == 0;
        let mut wanted = std::mem::zeroed::<libc::cpu_set_t>();
        if let (None, Ok(processor)) = (&to, usize::try_from(libc::sched_getcpu())) {
            libc::CPU_SET(processor, &mut wanted);
        }
        let wanted = to.unwrap_or(wanted);
        if known {
            // If it fails, it is only slower.
            libc::sched_setaffinity(0, size, &raw const wanted);
        }
        before
    }
}
