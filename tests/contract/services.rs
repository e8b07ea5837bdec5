//! Runs cases on services that all cases share.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use tokio::runtime::{Builder, Runtime};

use crate::runner::{CaseRunner, panic_message};
use crate::suite::{Backend, Case, Observations};

/// Timeout of a case.
const CASE_TIMEOUT: Duration = Duration::from_secs(180);

/// Services that are searched for when the first case is run.
pub struct Services<W> {
    runtime: Runtime,
    start: fn() -> Result<W, String>,
    backend: Option<Result<W, String>>,
}

impl<W> Services<W> {
    /// The services that `start` finds.
    pub fn new(start: fn() -> Result<W, String>) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { runtime, start, backend: None }
    }
}

impl<W: Backend + Send> CaseRunner for Services<W> {
    type Backend = W;

    fn run(&mut self, case: &Case<W>) -> Result<String, Failed> {
        let first = self.backend.is_none();
        let backend = match self.backend.get_or_insert_with(self.start) {
            Ok(backend) => backend,
            Err(error) => return Err(Failed::from(&*error)),
        };
        let heal = || {
            let healing = async { backend.heal(case.name).await.map_err(Failed::from) };
            block_on(&self.runtime, case.name, Box::pin(healing))
        };
        if first {
            heal()??;
        }
        println!();
        let began = Instant::now();
        let seen = Observations::printed(case.name);
        let ran = block_on(&self.runtime, case.name, (case.run)(backend, &seen));
        // Also after a failure, so that it does not affect the next case.
        let healed = heal();
        println!("    took {:.1} s", began.elapsed().as_secs_f64());
        ran?;
        seen.verdict()?;
        healed??;
        Ok(seen.text())
    }

    fn finish(&mut self) -> Result<(), String> {
        match &self.backend {
            Some(Ok(backend)) => self.runtime.block_on(backend.finish()),
            Some(Err(_)) | None => Ok(()),
        }
    }
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
