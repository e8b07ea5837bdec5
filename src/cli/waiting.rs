//! Waiting at the start for a service that does not answer.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::failure::Failure;
use crate::config::Settings;
use crate::error::Cause;
use crate::error::chain;

/// The first wait between two attempts; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// After so long it is said that a service is waited for, and then so often again.
const SILENCE: Duration = Duration::from_secs(1);
const TELL: Duration = Duration::from_secs(10);

/// How long the only attempt may take where there is no deadline to wait for.
const ONLY: Duration = Duration::from_secs(30);

/// What came of one attempt to reach a service.
pub(super) enum Attempt<T> {
    /// It is there.
    Answered(T),
    /// It is not, and another attempt may find it.
    Away(Cause),
    /// Waiting helps nothing.
    Failed(Failure),
}

/// Repeats `attempt` until the service answers, for [`start_deadline_ms`] at most. `service` is its name and
/// address; `says` tells what is known of it while an attempt is under way.
///
/// [`start_deadline_ms`]: crate::config::services::ServicesSettings::start_deadline_ms
pub(super) async fn wait<T, F: Future<Output = Attempt<T>>>(
    settings: &Settings,
    service: &str,
    attempt: impl Fn() -> F,
    says: impl Fn() -> Option<Cause>,
) -> Result<T, Failure> {
    let (begun, deadline) = (Instant::now(), Duration::from_millis(settings.services.start_deadline_ms));
    let trouble: RefCell<Option<Cause>> = RefCell::new(None);
    let attempts = async {
        let mut pause = FIRST;
        loop {
            match attempt().await {
                Attempt::Answered(answer) => return Ok(Some(answer)),
                Attempt::Failed(failure) => return Err(failure),
                Attempt::Away(why) => drop(trouble.replace(Some(why))),
            }
            if deadline.is_zero() {
                return Ok(None);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
        }
    };
    let told = Cell::new(false);
    let tell = async || -> Infallible {
        sleep(SILENCE).await;
        loop {
            let why = match (&*trouble.borrow(), says()) {
                (Some(why), _) => chain(why.as_ref()),
                (None, Some(why)) => chain(why.as_ref()),
                (None, None) => "no answer yet".to_owned(),
            };
            let (waited_s, deadline_s) = (begun.elapsed().as_secs(), deadline.as_secs());
            warn!(service, trouble = why, waited_s, deadline_s, "does not answer, waiting for it");
            told.set(true);
            sleep(TELL).await;
        }
    };
    let answer = tokio::select! {
        biased;
        answer = timeout(if deadline.is_zero() { ONLY } else { deadline }, attempts) => answer,
        never = tell() => match never {}
    };
    match answer {
        Ok(Ok(Some(answer))) => {
            if told.get() {
                info!(service, waited_s = begun.elapsed().as_secs(), "answers");
            }
            Ok(answer)
        }
        Ok(Err(failure)) => Err(failure),
        Ok(Ok(None)) | Err(_) => {
            let (service, seconds) = (service.to_owned(), begun.elapsed().as_secs());
            Err(Failure::Away { service, seconds, source: trouble.take().or_else(says) })
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

    fn away() -> Attempt<u32> {
        Attempt::Away(StoreError::of("connection refused").into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_comes_back_before_the_deadline_is_waited_for() {
        let begun = Instant::now();
        let attempt = || async {
            match begun.elapsed() {
                elapsed if elapsed < Duration::from_secs(40) => away(),
                _ => Attempt::Answered(7),
            }
        };
        assert_eq!(wait(&settings(60_000), "kafka at a:1", attempt, || None).await.unwrap(), 7);
        assert!(begun.elapsed() < Duration::from_secs(46), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_stays_away_is_named_at_the_deadline() {
        for deadline_ms in [1, 900, 60_000] {
            let (begun, asked) = (Instant::now(), Cell::new(0));
            let attempt = || async {
                asked.set(asked.get() + 1);
                away()
            };
            let failure = wait(&settings(deadline_ms), "kafka at a:1", attempt, || None).await.unwrap_err();
            assert!(failure.to_string().contains("kafka at a:1"), "{failure}");
            assert_eq!(chain(&failure).matches("connection refused").count(), 1, "{failure}");
            assert!(begun.elapsed() <= Duration::from_millis(deadline_ms), "{:?}", begun.elapsed());
            assert!((1..30).contains(&asked.get()), "{}", asked.get());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_hangs_ends_at_the_deadline() {
        let begun = Instant::now();
        let failure = wait::<u32, _>(&settings(5_000), "cassandra at a", std::future::pending, || None)
            .await
            .unwrap_err();
        assert!(matches!(failure, Failure::Away { seconds: 5, source: None, .. }), "{failure:?}");
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_deadline_it_is_asked_once() {
        let asked = Cell::new(0);
        let attempt = || async {
            asked.set(asked.get() + 1);
            sleep(Duration::from_secs(20)).await;
            if asked.get() == 1 { away() } else { Attempt::Answered(1) }
        };
        assert!(matches!(wait(&settings(0), "kafka", attempt, || None).await, Err(Failure::Away { .. })));
        assert_eq!(asked.get(), 1);
        assert_eq!(wait(&settings(0), "kafka", attempt, || None).await.unwrap(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_will_not_get_better_is_not_waited_for() {
        let begun = Instant::now();
        let attempt = || async { Attempt::<u32>::Failed(Failure::Usage("wrong password".to_owned())) };
        let failure = wait(&settings(60_000), "kafka", attempt, || None).await.unwrap_err();
        assert_eq!((failure.to_string().as_str(), begun.elapsed()), ("wrong password", Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_while_the_first_attempt_is_under_way_is_in_the_error() {
        let says = || Some(StoreError::of("connecting to a SSL listener?").into());
        let failure = wait::<u32, _>(&settings(5_000), "kafka at a:1", std::future::pending, says).await;
        assert!(chain(&failure.unwrap_err()).ends_with("connecting to a SSL listener?"));
    }
}
