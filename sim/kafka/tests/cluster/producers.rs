//! Producers: retries, idempotence, expiry.

use proto_kafka::messages::{InitProducerIdRequest, TransactionalId};
use simulated_kafka::cluster::HostFault::Kill;
use simulated_kafka::error::ErrorCode;
use simulated_kafka::protocol::batch::Batch;
use simulated_kafka::protocol::builder::BatchBuilder;

use crate::harness::{START, Testbed, batch_of, checked, seconds, text};

fn sent(epoch: i16, sequence: i32, value: &str) -> Batch {
    BatchBuilder::new(START).producer(9, epoch, sequence).record(START, None, Some(value.as_bytes())).build()
}

#[tokio::test(start_paused = true)]
async fn a_retry_appends_twice_without_idempotence_and_once_with_it() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    for expected in [0, 1] {
        assert_eq!(bed.produce_to(1, "t", &batch_of(&["plain"]), -1).await, Ok(expected));
    }
    for _ in 0..2 {
        assert_eq!(bed.produce_to(1, "t", &sent(0, 0, "once"), -1).await, Ok(2));
    }
    assert_eq!(bed.fetch("t", 0).await.unwrap().texts(), ["plain", "plain", "once"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_knows_the_sequences_of_the_old_one() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.produce_to(1, "t", &sent(0, 0, "a"), -1).await.unwrap();
    bed.fault(1, Kill);
    bed.until("another leader", async || bed.leader("t").is_some_and(|leader| leader != 1)).await;
    bed.cluster.settled().await;
    let leader = bed.leader("t").unwrap();
    assert_eq!(bed.produce_to(leader, "t", &sent(0, 0, "a"), -1).await, Ok(0));
    assert_eq!(
        bed.produce_to(leader, "t", &sent(0, 2, "c"), -1).await,
        Err(ErrorCode::OutOfOrderSequenceNumber)
    );
    assert_eq!(bed.produce_to(leader, "t", &sent(0, 1, "b"), -1).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn an_idempotent_producer_that_slept_too_long_appends_twice() {
    // A day by default.
    let bed = Testbed::start_with(1, |options| options.producer_expiration = seconds(1_800)).await;
    bed.topic("t", &[1], &[]).await;
    assert_eq!(bed.produce_to(1, "t", &sent(0, 0, "a"), -1).await, Ok(0));
    tokio::time::sleep(seconds(1_700)).await;
    assert_eq!(bed.produce_to(1, "t", &sent(0, 0, "a"), -1).await, Ok(0));
    tokio::time::sleep(seconds(500)).await;
    assert_eq!(bed.produce_to(1, "t", &sent(0, 0, "a"), -1).await, Ok(1));
    bed.cluster.expire_producer("t", 9);
    assert_eq!(bed.produce_to(1, "t", &sent(0, 40, "any sequence"), -1).await, Ok(2));
}

/// An id for an idempotent producer from a broker.
async fn init(bed: &Testbed, node: i32) -> Result<i64, ErrorCode> {
    let request = InitProducerIdRequest::default().with_transactional_id(None);
    let response = bed.send(node, request, 4).await.unwrap();
    checked(response.error_code, response.producer_id.0)
}

/// The same, asked for until the broker has ids.
pub async fn new_id(bed: &Testbed, node: i32) -> i64 {
    loop {
        match init(bed, node).await {
            Ok(id) => return id,
            Err(error) => assert_eq!(error, ErrorCode::CoordinatorLoadInProgress),
        }
        tokio::time::sleep(seconds(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_has_started_gives_producer_ids_only_when_it_has_some_from_the_controller() {
    let bed = Testbed::start().await;
    for _ in 0..2 {
        assert_eq!(init(&bed, 1).await, Err(ErrorCode::CoordinatorLoadInProgress));
        tokio::time::sleep(seconds(1)).await;
        init(&bed, 1).await.unwrap();
        bed.fault(1, Kill);
        tokio::time::sleep(seconds(20)).await;
        bed.recover(1);
        bed.cluster.settled().await;
    }
    // Of a transaction in the same way.
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(text(crate::transactions::ID))))
        .with_transaction_timeout_ms(60_000);
    let coordinator = crate::transactions::coordinator(&bed).await;
    bed.cluster.settled().await;
    let response = bed.send(coordinator, request.clone(), 4).await.unwrap();
    assert_eq!(response.error_code, ErrorCode::CoordinatorLoadInProgress.code());
    tokio::time::sleep(seconds(1)).await;
    let response = bed.send(coordinator, request, 4).await.unwrap();
    assert_eq!(response.error_code, 0);
}

#[tokio::test(start_paused = true)]
async fn producer_ids_are_never_given_twice() {
    let bed = Testbed::start().await;
    let mut ids = std::collections::BTreeSet::new();
    for place in 0..9 {
        assert!(ids.insert(new_id(&bed, 1 + place % 3).await), "{ids:?}");
    }
    bed.fault(1, Kill);
    tokio::time::sleep(seconds(20)).await;
    bed.recover(1);
    bed.cluster.settled().await;
    assert!(ids.insert(new_id(&bed, 1).await));
}
