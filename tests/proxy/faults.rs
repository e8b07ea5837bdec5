//! Each fault affects some requests of a running worker; in the end nothing is lost and nothing is duplicated.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use exactlyonce::pipeline::PipelineError;
use exactlyonce::store::Layout;
use scylla_proxy::{
    Condition, Reaction, RequestReaction, ResponseFrame, ResponseOpcode, ResponseReaction, example_db_errors,
};

use crate::harness::{Harness, after, requests, response_rule, responses, rule, some};

const BUCKETED: Layout = Layout::bucketed(NonZeroU32::new(64).unwrap());

/// Runs a worker some of whose requests meet these faults.
async fn with_requests(layout: Layout, times: usize, reactions: Vec<RequestReaction>) {
    let mut harness = Harness::new(layout).await;
    let rules = reactions.into_iter().map(|reaction| rule(some(requests(), times), reaction));
    let (rules, seen): (Vec<_>, Vec<_>) = rules.unzip();
    harness.on_requests(rules);
    harness.work().await.unwrap();
    for (number, seen) in seen.into_iter().enumerate() {
        assert!(!seen.is_empty(), "fault {number} was never injected");
    }
    harness.check().await;
}

/// Runs a worker some of whose responses meet this fault.
async fn with_responses(layout: Layout, times: usize, reaction: ResponseReaction) {
    let mut harness = Harness::new(layout).await;
    // Only responses to requests that were applied.
    let condition = some(responses().and(Condition::ResponseOpcode(ResponseOpcode::Result)), times);
    let (rule, seen) = response_rule(condition, reaction);
    harness.on_responses(vec![rule]);
    harness.work().await.unwrap();
    assert!(!seen.is_empty(), "the fault was never injected");
    harness.check().await;
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1"]
async fn requests_may_be_lost() {
    with_requests(Layout::ORIGINAL, 8, vec![RequestReaction::drop_frame()]).await;
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1"]
async fn responses_may_be_lost_after_the_request_was_applied() {
    with_responses(BUCKETED, 8, ResponseReaction::drop_frame()).await;
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1"]
async fn requests_may_be_delayed_beyond_their_retries() {
    // Shorter and longer than the timeout of a request.
    let delays = [50, 1_500].map(|delay| RequestReaction::delay(Duration::from_millis(delay)));
    with_requests(BUCKETED, 10, delays.into()).await;
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1"]
async fn responses_may_be_delayed() {
    with_responses(Layout::ORIGINAL, 10, ResponseReaction::delay(Duration::from_millis(1_200))).await;
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1"]
async fn connections_may_be_closed_before_a_request_is_applied() {
    with_requests(Layout::ORIGINAL, 8, vec![RequestReaction::drop_connection()]).await;
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1"]
async fn connections_may_be_closed_after_a_request_was_applied() {
    with_responses(BUCKETED, 8, ResponseReaction::drop_connection()).await;
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1"]
async fn nodes_may_return_every_error_with_an_unknown_outcome() {
    let forged = RequestReaction::forge();
    let reactions = vec![
        forged.write_timeout(),
        forged.read_timeout(),
        forged.write_failure(),
        forged.read_failure(),
        forged.unavailable(),
        forged.overloaded(),
        forged.is_bootstrapping(),
        forged.unprepared(),
        forged.server_error(),
        forged.protocol_error(),
        forged.truncate_error(),
        forged.other(0x7777),
    ];
    with_requests(Layout::ORIGINAL, 4, reactions).await;
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1"]
async fn a_write_may_time_out_although_it_was_applied() {
    let timeout = |frame: ResponseFrame| {
        ResponseFrame::forged_error(frame.params, example_db_errors::write_timeout(), None).unwrap()
    };
    with_responses(BUCKETED, 20, ResponseReaction::transform_frame(Arc::new(timeout))).await;
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --cassandra 1"]
async fn a_refusal_stops_the_worker_and_the_next_one_completes_the_tables() {
    let forged = RequestReaction::forge();
    let mut harness = Harness::new(Layout::ORIGINAL).await;
    let refusals = [forged.invalid(), forged.syntax_error(), forged.unauthorized(), forged.config_error()];
    for (turn, refusal) in refusals.into_iter().enumerate() {
        // Each refusal after more requests than the one before.
        let (rule, seen) = rule(after(requests(), 3 + 4 * turn), refusal);
        harness.on_requests(vec![rule]);
        match harness.work().await {
            Err(PipelineError::StoreRefused { source, .. }) => {
                assert!(source.cause.unwrap().to_string().contains("Proxy-triggered error"));
                assert!(!seen.is_empty());
            }
            other => panic!("refusal {turn}: {other:?}"),
        }
    }
    harness.proxy.turn_off_rules();
    harness.work().await.unwrap();
    harness.check().await;
}
