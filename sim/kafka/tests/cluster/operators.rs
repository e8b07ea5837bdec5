//! What an administrator does without a client.

use std::time::Duration;

use proto_kafka::messages::MetadataRequest;
use simulated_kafka::cluster::HostFault::{Kill, Pause, PowerLoss};
use simulated_kafka::cluster::{OperatorError, Recovery, Verb};
use simulated_kafka::error::ErrorCode;
use simulated_kafka::protocol::builder::BatchBuilder;
use simulated_kafka::types::NodeId;

use crate::harness::{START, Testbed, batch_of, seconds};

/// The error that the controller or a leader refuses with.
fn refusal<T>(result: Result<T, OperatorError>) -> ErrorCode {
    match result {
        Err(OperatorError::Refused { error, message }) if !message.is_empty() => error,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it is not refused"),
    }
}

fn unknown() -> OperatorError {
    OperatorError::Unknown { topic: "u".to_owned(), partition: 0 }
}

#[tokio::test(start_paused = true)]
async fn topics_are_created_configured_extended_and_deleted() {
    let bed = Testbed::start().await;
    let cluster = &bed.cluster;
    let id = cluster.create_topic("t", 2, 3, &[("retention.ms", "60000")]).unwrap();
    let created = cluster.metadata().topic("t").cloned().unwrap();
    assert_eq!((created.id, created.partitions.len()), (id, 2));
    assert_eq!(created.configs.get("retention.ms").map(String::as_str), Some("60000"));
    assert_eq!(refusal(cluster.create_topic("t", 1, 1, &[])), ErrorCode::TopicAlreadyExists);
    cluster.add_partitions("t", 4).unwrap();
    assert_eq!(refusal(cluster.add_partitions("t", 3)), ErrorCode::InvalidPartitions);
    cluster.configure_topic("t", "cleanup.policy", Some("compact")).unwrap();
    cluster.configure_topic("t", "retention.ms", None).unwrap();
    assert_eq!(refusal(cluster.configure_topic("t", "cleanup.policy", Some("x"))), ErrorCode::InvalidConfig);
    cluster.settled().await;
    let changed = cluster.metadata_of(NodeId(2)).unwrap().topic("t").cloned().unwrap();
    assert_eq!(changed.partitions.len(), 4);
    let configs: Vec<_> =
        changed.configs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(configs, [("cleanup.policy", "compact")]);
    cluster.delete_topic("t").unwrap();
    assert_eq!(refusal(cluster.delete_topic("t")), ErrorCode::UnknownTopicOrPartition);
    assert!(cluster.metadata().topic("t").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_recreated_has_its_replicas_and_configuration_and_another_id() {
    let bed = Testbed::start().await;
    bed.topic("t", &[3, 1], &[("min.insync.replicas", "2")]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    let before = bed.cluster.metadata().topic("t").cloned().unwrap();
    let id = bed.cluster.recreate_topic("t").unwrap();
    let after = bed.cluster.metadata().topic("t").cloned().unwrap();
    assert!(after.id == id && after.id != before.id);
    assert_eq!(
        (&after.configs, &after.partitions[0].replicas),
        (&before.configs, &before.partitions[0].replicas)
    );
    bed.cluster.settled().await;
    assert_eq!((bed.end("t").await, bed.produce("t", &["b"], -1).await), (Ok(0), Ok(0)));
    assert_eq!(refusal(bed.cluster.recreate_topic("u")), ErrorCode::UnknownTopicOrPartition);
}

#[tokio::test(start_paused = true)]
async fn without_a_controller_nothing_is_decided() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.fault(1, Kill);
    bed.fault(2, Kill);
    bed.until("the end of the controller", async || bed.cluster.active_controller().is_none()).await;
    let refused = Err(OperatorError::NoController);
    assert_eq!(bed.cluster.delete_topic("t"), refused);
    assert_eq!(bed.cluster.elect_unclean("t", 0, NodeId(3)), refused);
    assert_eq!(bed.cluster.create_topic("u", 1, 1, &[]).map(|_| ()), refused);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_not_in_sync_leads_when_it_is_elected_uncleanly_and_others_copy_from_it() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2], &[]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    bed.links.rule(|envelope| {
        (envelope.response_to == Some(Verb::Replicate) && envelope.to == NodeId(2)).then(Vec::new)
    });
    bed.produce("t", &["lost"], 1).await.unwrap();
    bed.until("the shrink", async || bed.in_sync("t") == [1]).await;
    assert_eq!(refusal(bed.cluster.elect_unclean("t", 0, NodeId(3))), ErrorCode::EligibleLeadersNotAvailable);
    assert_eq!(bed.cluster.elect_unclean("u", 0, NodeId(2)), Err(unknown()));
    bed.cluster.elect_unclean("t", 0, NodeId(2)).unwrap();
    assert_eq!((bed.leader("t"), bed.in_sync("t")), (Some(2), vec![2]));
    bed.cluster.settled().await;
    bed.links.restore_all();
    assert_eq!(bed.produce("t", &["other"], -1).await, Ok(1));
    bed.until("the return of the old leader", async || bed.in_sync("t") == [1, 2]).await;
    assert_eq!(bed.cluster.batches(NodeId(1), "t", 0), bed.cluster.batches(NodeId(2), "t", 0));
    assert_eq!(bed.fetch("t", 0).await.unwrap().texts(), ["a", "other"]);
}

#[tokio::test(start_paused = true)]
async fn deleted_records_are_gone_on_all_replicas() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2], &[]).await;
    bed.produce("t", &["a", "b", "c"], -1).await.unwrap();
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(bed.cluster.delete_records("t", 0, 2), Ok(2));
    assert_eq!(bed.cluster.delete_records("t", 0, 1), Ok(2));
    assert_eq!(refusal(bed.cluster.delete_records("t", 0, 4)), ErrorCode::OffsetOutOfRange);
    assert_eq!(bed.cluster.delete_records("u", 0, 1), Err(unknown()));
    tokio::time::sleep(seconds(2)).await;
    for node in [1, 2] {
        assert_eq!(bed.cluster.replica(NodeId(node), "t", 0).unwrap().start, 2, "{node}");
    }
    assert_eq!(bed.cluster.delete_records("t", 0, -1), Ok(3));
    bed.cluster.configure_topic("t", "cleanup.policy", Some("compact")).unwrap();
    bed.cluster.settled().await;
    assert_eq!(refusal(bed.cluster.delete_records("t", 0, 1)), ErrorCode::PolicyViolation);
    bed.fault(1, Pause);
    let no_leader = OperatorError::NoLeader { topic: "t".to_owned(), partition: 0 };
    assert_eq!(bed.cluster.delete_records("t", 0, 1), Err(no_leader));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_transaction_stops_readers_of_committed_records_until_it_is_aborted() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2], &[]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    let hanging = bed.cluster.hang_transaction("t", 0).unwrap();
    let other = bed.cluster.hang_transaction("t", 0).unwrap();
    assert!(hanging.offset == 1 && other.offset == 2 && hanging.producer_id != other.producer_id);
    bed.produce("t", &["b"], -1).await.unwrap();
    tokio::time::sleep(seconds(3600)).await;
    let state = bed.cluster.replica(NodeId(2), "t", 0).unwrap();
    assert_eq!((state.last_stable, state.high_watermark), (1, 4));
    assert_eq!(bed.cluster.abort_transaction("t", 0, hanging.producer_id), Ok(4));
    assert_eq!(
        refusal(bed.cluster.abort_transaction("t", 0, hanging.producer_id)),
        ErrorCode::InvalidTxnState
    );
    bed.cluster.abort_transaction("t", 0, other.producer_id).unwrap();
    tokio::time::sleep(seconds(2)).await;
    let committed = bed.cluster.committed("t", 0, 0).unwrap();
    let offsets: Vec<i64> = committed.records.iter().map(|record| record.offset).collect();
    assert_eq!((offsets, committed.next_offset), (vec![0, 3], 6));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_transaction_is_possible_in_a_compacted_topic_and_has_a_producer_that_no_client_gets() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1], &[("cleanup.policy", "compact")]).await;
    let hanging = bed.cluster.hang_transaction("t", 0).unwrap();
    assert_ne!(crate::producers::new_id(&bed, 1).await, hanging.producer_id);
    let batch = BatchBuilder::new(START).record(START, Some(b"k"), Some(b"v")).build();
    assert_eq!(bed.produce_to(1, "t", &batch, -1).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_does_not_know_that_it_leads_serves_no_administrator() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2], &[]).await;
    bed.produce_to(1, "t", &batch_of(&["a"]), -1).await.unwrap();
    bed.cluster.lag_metadata(NodeId(2), seconds(5));
    assert!(bed.cluster.move_leader("t", 0, NodeId(2)));
    let no_leader = OperatorError::NoLeader { topic: "t".to_owned(), partition: 0 };
    assert_eq!(bed.cluster.hang_transaction("t", 0), Err(no_leader));
    // Clients are sent there all the same.
    bed.cluster.settled().await;
    let metadata = bed.send(1, MetadataRequest::default().with_topics(None), 9).await.unwrap();
    assert_eq!(metadata.topics[0].partitions[0].leader_id.0, 2);
    assert!(bed.cluster.hang_transaction("t", 0).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_has_lost_its_power_and_started_again_serves_nobody_until_it_is_unfenced() {
    let bed = Testbed::start().await;
    let cluster = &bed.cluster;
    cluster.create_topic("t", 1, 3, &[]).unwrap();
    cluster.settled().await;
    let leader = cluster.leader("t", 0).unwrap();
    assert!(cluster.committed("t", 0, 0).is_some());
    cluster.apply(leader, PowerLoss);
    cluster.recover(leader, Recovery::Start);
    // Metadata of its last run reach it before the controller has noticed that it was down.
    tokio::time::sleep(Duration::from_millis(500)).await;
    if cluster.leader("t", 0) == Some(leader) {
        let refused = cluster.hang_transaction("t", 0).unwrap_err();
        assert_eq!(refused, OperatorError::NoLeader { topic: "t".to_owned(), partition: 0 });
        assert_eq!(cluster.committed("t", 0, 0), None);
    } else {
        panic!("the controller has noticed at once");
    }
    cluster.settled().await;
    while cluster.hang_transaction("t", 0).is_err() {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(cluster.open_transactions("t", 0).unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_cannot_read_fails_fetches_of_consumers_and_serves_its_followers() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.cluster.fail_reads(NodeId(1), true);
    assert_eq!(bed.produce("t", &["a"], -1).await, Ok(0), "the followers have it");
    assert_eq!(bed.fetch("t", 0).await.err(), Some(ErrorCode::UnknownServerError));
    bed.cluster.fail_reads(NodeId(1), false);
    assert_eq!(bed.fetch("t", 0).await.map(|read| read.values.len()), Ok(1));
}
