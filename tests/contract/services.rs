//! Runs cases in real time: on services that all cases share, or on services of their own.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use tokio::runtime::{Builder, Runtime};

use crate::runner::{CaseRunner, panic_message};
use crate::suite::{Backend, Case, Observations};

/// Timeout of a case.
const CASE_TIMEOUT: Duration = Duration::from_secs(300);

/// Services that are searched for when the first case is run. They run one case at a time.
pub struct Services<W> {
    start: fn() -> Result<W, String>,
    found: Mutex<Option<(Runtime, Result<W, String>)>>,
}

impl<W> Services<W> {
    /// The services that `start` finds.
    pub fn new(start: fn() -> Result<W, String>) -> Self {
        Self { start, found: Mutex::new(None) }
    }
}

impl<W: Backend + Send> CaseRunner for Services<W> {
    type Backend = W;

    fn run(&self, case: &Case<W>) -> Result<String, Failed> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let first = found.is_none();
        let (runtime, backend) = found.get_or_insert_with(|| (runtime(), (self.start)()));
        let backend = match backend {
            Ok(backend) => backend,
            Err(error) => return Err(Failed::from(&*error)),
        };
        let heal = || {
            let healing = async { backend.heal(case.name).await.map_err(Failed::from) };
            block_on(runtime, case.name, Box::pin(healing))
        };
        if first {
            heal()??;
        }
        println!();
        let began = Instant::now();
        let seen = Observations::printed(case.name);
        let ran = block_on(runtime, case.name, (case.run)(backend, &seen));
        // Also after a failure, so that it does not affect the next case.
        let healed = heal();
        println!("    took {:.1} s", began.elapsed().as_secs_f64());
        ran?;
        seen.verdict()?;
        healed??;
        Ok(seen.text())
    }

    fn finish(&self) -> Result<(), String> {
        match &*self.found.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((runtime, Ok(backend))) => runtime.block_on(backend.finish()),
            Some((_, Err(_))) | None => Ok(()),
        }
    }
}

/// Services of each case's own, so that cases run at the same time.
pub struct Separate<W>(pub fn() -> Result<W, String>);

impl<W: Backend> CaseRunner for Separate<W> {
    type Backend = W;

    fn run(&self, case: &Case<W>) -> Result<String, Failed> {
        let began = Instant::now();
        let backend = (self.0)()?;
        let seen = Observations::silent(case.name);
        let ran = block_on(&runtime(), case.name, (case.run)(&backend, &seen));
        println!("    {} took {:.1} s", case.name, began.elapsed().as_secs_f64());
        ran.map_err(|failed| {
            let message = failed.message().unwrap_or_default();
            Failed::from(format!("{message}\nobserved before: {}", seen.text()))
        })?;
        seen.verdict()?;
        Ok(seen.text())
    }

    fn finish(&self) -> Result<(), String> {
        Ok(())
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn block_on<T>(
    runtime: &Runtime,
    case: &str,
    future: Pin<Box<dyn Future<Output = T> + '_>>,
) -> Result<T, Failed> {
    let ran = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async { tokio::time::timeout(CASE_TIMEOUT, future).await })
    }));
    match ran {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) => Err(Failed::from(format!("{case} did not end within {} s", CASE_TIMEOUT.as_secs()))),
        Err(panic) => Err(Failed::from(panic_message(&*panic))),
    }
}
