//! Polls of the consumer that fail while nothing is appended, so that nothing is delivered.

use std::future::pending;
use std::time::Duration;

use exactlyonce::binding::{self, Origin};
use exactlyonce::broker::BrokerError;
use exactlyonce::pipeline::{self, Options, PipelineError, Summary};
use exactlyonce::store::memory::MemoryStore;
use exactlyonce::window::WindowSpec;
use tokio::time::timeout;

use crate::altered::Altered;
use crate::harness::{binding_spec, block_on, broker_with, rng};

fn options() -> Options {
    Options {
        retry_deadline: Some(Duration::from_secs(25)),
        ..Options::new(binding_spec(WindowSpec::default()))
    }
}

/// Runs a worker on an empty log for five minutes, with a consumer whose polls fail at these times. Also returns how long it
/// was not polled after each failure.
fn run(
    options: &Options,
    failures: impl IntoIterator<Item = u64>,
) -> (Option<Result<Summary, PipelineError>>, Vec<Duration>) {
    block_on(async {
        let broker = Altered::new(broker_with(&[], 5).await);
        let broker = broker.failing_after(failures.into_iter().map(Duration::from_secs));
        let store = MemoryStore::new();
        binding::init(&broker, &store, &options.binding_spec, &Origin::Start).await.unwrap();
        let run = pipeline::run(&broker, &store, options, rng(1), pending());
        let ended = timeout(Duration::from_secs(300), run).await.ok();
        (ended, broker.pauses())
    })
}

#[test]
fn errors_that_are_minutes_apart_do_not_add_up_to_the_retry_deadline() {
    let (ended, pauses) = run(&options(), [10, 120, 240]);
    assert!(ended.is_none(), "{ended:?}");
    assert_eq!(pauses.len(), 3);
}

#[test]
fn errors_that_come_every_ten_seconds_end_the_worker_at_the_retry_deadline() {
    let (ended, pauses) = run(&options(), (1..30).map(|number| 10 * number));
    match ended {
        Some(Err(PipelineError::Broker { source: BrokerError::Retriable { .. }, .. })) => {}
        other => panic!("{other:?}"),
    }
    // At 10 s, 20 s, 30 s, and 40 s, which is past the deadline; then it polls until its assignments have ended.
    assert_eq!(pauses.len(), 4);
}

#[test]
fn a_consumer_is_polled_again_within_a_second_however_long_the_backoff_is() {
    let day = Duration::from_secs(86_400);
    let options = Options { backoff_min: day, backoff_max: day, retry_deadline: None, ..options() };
    let (ended, pauses) = run(&options, 5..250);
    assert!(ended.is_none(), "{ended:?}");
    assert!(pauses.len() > 100, "{}", pauses.len());
    assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(1)), "{pauses:?}");
}
