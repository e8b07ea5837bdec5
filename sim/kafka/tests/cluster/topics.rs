//! Topics: creation, deletion, more partitions, and metadata, which may arrive late.

use std::collections::BTreeSet;

use proto_kafka::messages::create_partitions_request::CreatePartitionsTopic;
use proto_kafka::messages::fetch_request::{FetchPartition, FetchTopic};
use proto_kafka::messages::metadata_request::MetadataRequestTopic;
use proto_kafka::messages::{CreatePartitionsRequest, DescribeClusterRequest, FetchRequest, MetadataRequest};
use simulated_kafka::cluster::HostFault;
use simulated_kafka::error::ErrorCode;
use simulated_kafka::types::NodeId;

use crate::harness::{Testbed, checked, seconds, topic_name};

#[tokio::test(start_paused = true)]
async fn a_recreated_topic_starts_at_zero_under_another_id() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.produce("t", &["a", "b"], -1).await.unwrap();
    let old = bed.cluster.partition("t", 0).unwrap().topic;
    bed.delete("t").await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    let new = bed.cluster.partition("t", 0).unwrap().topic;
    assert_ne!(old, new);
    assert_eq!(bed.produce("t", &["c"], -1).await, Ok(0));
    let by_id = async |id: uuid::Uuid| {
        let partition = FetchPartition::default()
            .with_partition_max_bytes(1 << 20)
            .with_current_leader_epoch(-1)
            .with_last_fetched_epoch(-1);
        let topic = FetchTopic::default().with_topic_id(id).with_partitions(vec![partition]);
        let request =
            FetchRequest::default().with_session_epoch(-1).with_max_bytes(1 << 20).with_topics(vec![topic]);
        let response = bed.send(1, request, 16).await.unwrap();
        checked(response.responses[0].partitions[0].error_code, ())
    };
    assert_eq!(by_id(old.0).await, Err(ErrorCode::UnknownTopicId));
    assert_eq!(by_id(new.0).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_created_before_every_broker_knows_it() {
    let bed = Testbed::start().await;
    bed.cluster.lag_metadata(NodeId(2), seconds(3));
    assert_eq!(bed.create("t", &[2, 1, 3], &[]).await, Ok(()));
    tokio::time::sleep(seconds(1)).await;
    // The controller has named its leader, which does not know it yet.
    assert_eq!(bed.leader("t"), Some(2));
    assert_eq!(bed.fetch("t", 0).await, Err(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(bed.produce("t", &["a"], 1).await, Err(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(bed.fetch_from(1, "t", 0).await.map(|read| read.values.len()), Ok(0));
    tokio::time::sleep(seconds(4)).await;
    assert_eq!(bed.produce("t", &["a"], -1).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_that_does_not_know_it_leads_says_so() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.cluster.lag_metadata(NodeId(2), seconds(3));
    assert!(bed.cluster.move_leader("t", 0, NodeId(2)));
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(bed.produce("t", &["a"], 1).await, Err(ErrorCode::NotLeaderOrFollower));
    tokio::time::sleep(seconds(4)).await;
    assert_eq!(bed.produce("t", &["a"], 1).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn partitions_may_be_added_and_not_removed() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    let grow = async |count: i32| {
        let topic = CreatePartitionsTopic::default().with_name(topic_name("t")).with_count(count);
        let topic = topic.with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(5_000);
        let response = bed.send(2, request, 3).await.unwrap();
        checked(response.results[0].error_code, ())
    };
    assert_eq!(grow(4).await, Ok(()));
    assert_eq!(grow(4).await, Err(ErrorCode::InvalidPartitions));
    assert_eq!(grow(2).await, Err(ErrorCode::InvalidPartitions));
    bed.cluster.settled().await;
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name("t")));
    let request = MetadataRequest::default().with_topics(Some(vec![topic]));
    let response = bed.send(3, request, 12).await.unwrap();
    assert_eq!(response.topics[0].partitions.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_topic_is_created_when_a_client_asks_for_it() {
    let bed = Testbed::start_with(1, |options| options.controller.partitions = 4).await;
    let ask = async |name: &str, create: bool| {
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request =
            MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(create);
        let response = bed.send(3, request, 12).await.unwrap();
        checked(response.topics[0].error_code, response.topics[0].partitions.len())
    };
    assert_eq!(ask("u", false).await, Err(ErrorCode::UnknownTopicOrPartition));
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(ask("u", true).await, Err(ErrorCode::UnknownTopicOrPartition));
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(ask("u", false).await, Ok(4));
    assert_eq!(ask("a b", true).await, Err(ErrorCode::InvalidTopicException));
}

/// Clients send what is for the controller to the broker that metadata name: in KRaft a random one, which forwards it.
#[tokio::test(start_paused = true)]
async fn metadata_name_a_random_broker_that_is_alive_as_the_controller() {
    let bed = Testbed::start().await;
    let named = async || {
        let mut named = BTreeSet::new();
        for _ in 0..50 {
            let metadata = bed.send(1, MetadataRequest::default().with_topics(None), 9).await.unwrap();
            let cluster = bed.send(1, DescribeClusterRequest::default(), 0).await.unwrap();
            named.extend([metadata.controller_id.0, cluster.controller_id.0]);
        }
        named
    };
    assert_eq!(named().await, BTreeSet::from([1, 2, 3]));
    bed.cluster.apply(NodeId(3), HostFault::Kill);
    tokio::time::sleep(seconds(30)).await;
    assert_eq!(named().await, BTreeSet::from([1, 2]));
}
