//! The input that is being run, so that it is known when it takes too long or panics.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The message of the last panic, of any thread.
static PANICKED: Mutex<Option<String>> = Mutex::new(None);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From here on panics are kept instead of printed.
pub fn keep_panics() {
    panic::set_hook(Box::new(|info| {
        // The first is the cause.
        lock(&PANICKED).get_or_insert_with(|| info.to_string());
    }));
}

/// Runs a target on an input.
///
/// # Errors
/// The message of its panic.
pub fn run(target: fn(&[u8]), input: &[u8]) -> Result<(), String> {
    let result = panic::catch_unwind(AssertUnwindSafe(|| target(input)));
    let message = lock(&PANICKED).take();
    result.map_err(|_| message.unwrap_or_else(|| "a panic without a message".to_owned()))
}

/// What runs now.
#[derive(Default)]
pub struct Watch(Mutex<Option<(Instant, Vec<u8>)>>);

impl Watch {
    /// An input is about to be run.
    pub fn begin(&self, input: &[u8]) {
        let mut current = lock(&self.0);
        let (since, bytes) = current.get_or_insert_with(|| (Instant::now(), Vec::new()));
        *since = Instant::now();
        bytes.clear();
        bytes.extend_from_slice(input);
    }

    /// Nothing runs.
    pub fn end(&self) {
        *lock(&self.0) = None;
    }

    /// The input that has been running for longer than this.
    pub fn exceeded(&self, limit: Duration) -> Option<Vec<u8>> {
        lock(&self.0).as_ref().filter(|(since, _)| since.elapsed() > limit).map(|(_, input)| input.clone())
    }
}
