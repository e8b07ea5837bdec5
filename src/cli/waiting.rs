//! Waits for unavailable services when a command starts.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::failure::Failure;
use crate::backoff::Backoff;
use crate::config::Settings;
use crate::error::{Cause, chain};

/// The first and the longest wait between two attempts.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Waiting is logged if it lasts longer than this, and then at this interval.
const LOG_AFTER: Duration = Duration::from_secs(1);
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Timeout of the only attempt if there is no deadline.
const SINGLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The result of one attempt to reach a service.
pub(super) enum Attempt<T> {
    /// The service responded.
    Available(T),
    /// It did not, and a retry may succeed.
    Unavailable(Cause),
    /// A retry cannot help.
    Failed(Failure),
}

/// Repeats `attempt` until the service responds, for [`start_deadline_ms`] at most. `service` is its name and address;
/// `known` returns the last known error while an attempt is in flight.
///
/// [`start_deadline_ms`]: crate::config::services::ServicesSettings::start_deadline_ms
pub(super) async fn wait<T, F: Future<Output = Attempt<T>>>(
    settings: &Settings,
    service: &str,
    attempt: impl Fn() -> F,
    known: impl Fn() -> Option<Cause>,
) -> Result<T, Failure> {
    let (started, deadline) = (Instant::now(), Duration::from_millis(settings.services.start_deadline_ms));
    let last_error: RefCell<Option<Cause>> = RefCell::new(None);
    let attempts = async {
        let mut backoff = Backoff::new(FIRST_BACKOFF, MAX_BACKOFF);
        loop {
            match attempt().await {
                Attempt::Available(answer) => return Ok(Some(answer)),
                Attempt::Failed(failure) => return Err(failure),
                Attempt::Unavailable(error) => drop(last_error.replace(Some(error))),
            }
            if deadline.is_zero() {
                return Ok(None);
            }
            sleep(backoff.wait()).await;
        }
    };
    let logged = Cell::new(false);
    let log = async || -> Infallible {
        sleep(LOG_AFTER).await;
        loop {
            let error = match (&*last_error.borrow(), known()) {
                (Some(error), _) => chain(error.as_ref()),
                (None, Some(error)) => chain(error.as_ref()),
                (None, None) => "no response yet".to_owned(),
            };
            let (waited_s, deadline_s) = (started.elapsed().as_secs(), deadline.as_secs());
            warn!(service, last_error = error, waited_s, deadline_s, "service unavailable; retrying");
            logged.set(true);
            sleep(LOG_INTERVAL).await;
        }
    };
    let answer = tokio::select! {
        biased;
        answer = timeout(if deadline.is_zero() { SINGLE_TIMEOUT } else { deadline }, attempts) => answer,
        never = log() => match never {}
    };
    match answer {
        Ok(Ok(Some(answer))) => {
            if logged.get() {
                info!(service, waited_s = started.elapsed().as_secs(), "service available");
            }
            Ok(answer)
        }
        Ok(Err(failure)) => Err(failure),
        Ok(Ok(None)) | Err(_) => {
            let (service, seconds) = (service.to_owned(), started.elapsed().as_secs());
            Err(Failure::Unavailable { service, seconds, source: last_error.take().or_else(known) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers::{Layers, Sources};
    use crate::store::StoreError;

    fn settings(deadline_ms: u64) -> Settings {
        let flags = vec![("--set", format!("services.start_deadline_ms={deadline_ms}"))];
        let layers = Layers::read(&Sources { flags, ..Sources::default() }).unwrap();
        Settings::new(&layers).unwrap()
    }

    fn unavailable() -> Attempt<u32> {
        Attempt::Unavailable(StoreError::of("connection refused").into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_is_available_again_before_the_deadline_is_used() {
        let started = Instant::now();
        let attempt = || async {
            match started.elapsed() {
                elapsed if elapsed < Duration::from_secs(40) => unavailable(),
                _ => Attempt::Available(7),
            }
        };
        assert_eq!(wait(&settings(60_000), "kafka at a:1", attempt, || None).await.unwrap(), 7);
        assert!(started.elapsed() < Duration::from_secs(46), "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_unavailable_service_is_reported_at_the_deadline() {
        for deadline_ms in [1, 900, 60_000] {
            let (started, attempts_made) = (Instant::now(), Cell::new(0));
            let attempt = || async {
                attempts_made.set(attempts_made.get() + 1);
                unavailable()
            };
            let failure = wait(&settings(deadline_ms), "kafka at a:1", attempt, || None).await.unwrap_err();
            assert!(failure.to_string().contains("kafka at a:1"), "{failure}");
            assert_eq!(chain(&failure).matches("connection refused").count(), 1, "{failure}");
            assert!(started.elapsed() <= Duration::from_millis(deadline_ms), "{:?}", started.elapsed());
            assert!((1..30).contains(&attempts_made.get()), "{}", attempts_made.get());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_hangs_ends_at_the_deadline() {
        let started = Instant::now();
        let failure = wait::<u32, _>(&settings(5_000), "cassandra at a", std::future::pending, || None)
            .await
            .unwrap_err();
        assert!(matches!(failure, Failure::Unavailable { seconds: 5, source: None, .. }), "{failure:?}");
        assert_eq!(started.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_deadline_there_is_one_attempt() {
        let attempts_made = Cell::new(0);
        let attempt = || async {
            attempts_made.set(attempts_made.get() + 1);
            sleep(Duration::from_secs(20)).await;
            if attempts_made.get() == 1 { unavailable() } else { Attempt::Available(1) }
        };
        assert!(matches!(
            wait(&settings(0), "kafka", attempt, || None).await,
            Err(Failure::Unavailable { .. })
        ));
        assert_eq!(attempts_made.get(), 1);
        assert_eq!(wait(&settings(0), "kafka", attempt, || None).await.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_a_retry_cannot_fix_is_not_retried() {
        let started = Instant::now();
        let attempt = || async { Attempt::<u32>::Failed(Failure::Usage("wrong password".to_owned())) };
        let failure = wait(&settings(60_000), "kafka", attempt, || None).await.unwrap_err();
        assert_eq!((failure.to_string().as_str(), started.elapsed()), ("wrong password", Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_while_the_first_attempt_is_in_flight_is_in_the_error() {
        let known = || Some(StoreError::of("connecting to a SSL listener?").into());
        let failure = wait::<u32, _>(&settings(5_000), "kafka at a:1", std::future::pending, known).await;
        assert!(chain(&failure.unwrap_err()).ends_with("connecting to a SSL listener?"));
    }
}
