//! Coordinators of groups on replicated partitions.

use proto_kafka::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use proto_kafka::messages::offset_fetch_request::OffsetFetchRequestTopic;
use proto_kafka::messages::{FindCoordinatorRequest, GroupId, OffsetCommitRequest, OffsetFetchRequest};
use simulated_kafka::cluster::HostFault::{Kill, PowerLoss};
use simulated_kafka::cluster::Verb;
use simulated_kafka::error::ErrorCode;
use simulated_kafka::types::NodeId;

use crate::harness::{Testbed, checked, seconds, text, topic_name};

pub async fn coordinator(bed: &Testbed) -> i32 {
    loop {
        let request = FindCoordinatorRequest::default().with_key(text("group"));
        let response = bed.send(bed.any(), request, 2).await.unwrap();
        if response.error_code == 0 {
            return response.node_id.0;
        }
        tokio::time::sleep(seconds(1)).await;
    }
}

pub async fn commit(bed: &Testbed, node: i32, offset: i64) -> Result<(), ErrorCode> {
    let partition =
        OffsetCommitRequestPartition::default().with_committed_offset(offset).with_committed_leader_epoch(-1);
    let topic =
        OffsetCommitRequestTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text("group")))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let response = bed.send(node, request, 8).await.ok_or(ErrorCode::NetworkException)?;
    checked(response.topics[0].partitions[0].error_code, ())
}

/// The committed offset; -1 without one.
pub async fn committed(bed: &Testbed, node: i32) -> Result<i64, ErrorCode> {
    fetch(bed, node, false).await
}

async fn fetch(bed: &Testbed, node: i32, stable: bool) -> Result<i64, ErrorCode> {
    let topic = OffsetFetchRequestTopic::default().with_name(topic_name("t")).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default()
        .with_group_id(GroupId(text("group")))
        .with_topics(Some(vec![topic]))
        .with_require_stable(stable);
    let response = bed.send(node, request, 7).await.ok_or(ErrorCode::NetworkException)?;
    checked(response.error_code, ())?;
    Ok(response.topics[0].partitions[0].committed_offset)
}

#[tokio::test(start_paused = true)]
async fn committed_offsets_move_with_their_coordinator() {
    let bed = Testbed::start_with(1, |options| {
        options.offsets_partitions = 1;
        options.coordinator_load_time = seconds(3);
    })
    .await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    let old = coordinator(&bed).await;
    // A group that never committed is no error.
    bed.until("the coordinator", async || committed(&bed, old).await == Ok(-1)).await;
    assert_eq!(commit(&bed, old, 7).await, Ok(()));
    assert_eq!(committed(&bed, old).await, Ok(7));
    let other = 1 + old % 3;
    assert_eq!(committed(&bed, other).await, Err(ErrorCode::NotCoordinator));
    assert_eq!(commit(&bed, other, 9).await, Err(ErrorCode::NotCoordinator));
    assert!(bed.cluster.move_leader("__consumer_offsets", 0, NodeId(other)));
    bed.cluster.settled().await;
    assert_eq!(committed(&bed, old).await, Err(ErrorCode::NotCoordinator));
    assert_eq!(committed(&bed, other).await, Err(ErrorCode::CoordinatorLoadInProgress));
    tokio::time::sleep(seconds(4)).await;
    assert_eq!(committed(&bed, other).await, Ok(7));
    bed.fault(other, Kill);
    bed.until("another coordinator", async || coordinator(&bed).await != other).await;
    let third = coordinator(&bed).await;
    bed.until("the load", async || committed(&bed, third).await == Ok(7)).await;
}

#[tokio::test(start_paused = true)]
async fn committed_offsets_go_back_when_all_lose_their_power() {
    let bed = Testbed::start_with(1, |options| options.offsets_partitions = 1).await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    let node = coordinator(&bed).await;
    bed.until("the coordinator", async || committed(&bed, node).await == Ok(-1)).await;
    commit(&bed, node, 7).await.unwrap();
    for node in 1..=3 {
        bed.fault(node, PowerLoss);
    }
    for node in 1..=3 {
        bed.recover(node);
    }
    bed.cluster.settled().await;
    bed.until("a leader", async || bed.leader("t").is_some()).await;
    bed.until("a coordinator", async || committed(&bed, coordinator(&bed).await).await == Ok(-1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_coordinator_shows_what_is_below_its_high_watermark_and_waits_for_what_it_loaded_beyond() {
    let bed = Testbed::start_with(1, |options| options.offsets_partitions = 1).await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    let old = coordinator(&bed).await;
    bed.until("the coordinator", async || commit(&bed, old, 7).await.is_ok()).await;
    tokio::time::sleep(seconds(2)).await;
    // The followers get it. Before they learn that both have it, the coordinator dies.
    commit(&bed, old, 9).await.unwrap();
    bed.fault(old, Kill);
    bed.links.rule(|envelope| (envelope.verb == Verb::Replicate).then(Vec::new));
    bed.until("another coordinator", async || coordinator(&bed).await != old).await;
    let new = coordinator(&bed).await;
    bed.until("the load", async || committed(&bed, new).await.is_ok()).await;
    assert_eq!(committed(&bed, new).await, Ok(7));
    let waiting = tokio::time::timeout(seconds(3), fetch(&bed, new, true)).await;
    assert!(waiting.is_err(), "{waiting:?}");
    bed.links.restore_all();
    assert_eq!(fetch(&bed, new, true).await, Ok(9));
    assert_eq!(committed(&bed, new).await, Ok(9));
}

#[tokio::test(start_paused = true)]
async fn a_commit_for_a_topic_that_was_recreated_lands_in_the_new_one() {
    let bed = Testbed::start_with(1, |options| options.offsets_partitions = 1).await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    let node = coordinator(&bed).await;
    bed.until("the coordinator", async || commit(&bed, node, 7).await.is_ok()).await;
    bed.delete("t").await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    // The offset of the deleted topic is gone.
    bed.until("the tombstone", async || committed(&bed, node).await == Ok(-1)).await;
    // A consumer that did not notice commits by the name.
    assert_eq!(commit(&bed, node, 8).await, Ok(()));
    assert_eq!((committed(&bed, node).await, bed.end("t").await), (Ok(8), Ok(0)));
}
