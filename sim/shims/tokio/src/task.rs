//! Tasks: the simulator's. What blocks runs on a thread of its own, if the simulation has threads.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

pub use madsim_tokio::task::*;

thread_local! {
    static THREADS: Cell<bool> = const { Cell::new(false) };
}

/// Whether the simulation that the calling thread runs has threads. It says so itself.
#[doc(hidden)]
pub fn set_threads(threads: bool) {
    THREADS.set(threads);
}

/// Runs what may block: on a thread of its own if the simulation has threads, otherwise as a task, where it must not block.
///
/// # Panics
/// If the system has no thread left. A panic of the work is one of the task that waits for it.
pub fn spawn_blocking<T, F>(work: F) -> JoinHandle<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    if !THREADS.get() {
        return spawn(async move { work() });
    }
    let (sender, receiver) = real::sync::oneshot::channel();
    let work = move || {
        // Nobody may wait for it any more.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
    };
    let thread = std::thread::Builder::new().name("blocking".to_owned()).spawn(work);
    if let Err(error) = thread {
        panic!("no thread for what blocks: {error}");
    }
    spawn(async move {
        match receiver.await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => resume_unwind(panic),
            // The thread was killed, and this task with it.
            Err(_) => std::future::pending().await,
        }
    })
}
