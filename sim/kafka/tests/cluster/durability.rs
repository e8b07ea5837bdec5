//! What crashes and power failures lose.

use simulated_kafka::cluster::HostFault::{Kill, PowerLoss, Stop};
use simulated_kafka::types::NodeId;

use crate::harness::{Testbed, seconds};

async fn all(bed: &Testbed, fault: simulated_kafka::cluster::HostFault) {
    for node in 1..=3 {
        bed.fault(node, fault);
    }
    tokio::time::sleep(seconds(1)).await;
    for node in 1..=3 {
        bed.recover(node);
    }
    bed.cluster.settled().await;
}

#[tokio::test(start_paused = true)]
async fn acknowledged_records_survive_a_kill_of_all_brokers() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.produce("t", &["a", "b"], -1).await.unwrap();
    all(&bed, Kill).await;
    bed.until("the records", async || bed.end("t").await == Ok(2)).await;
    assert_eq!(bed.fetch("t", 0).await.unwrap().texts(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn acknowledged_records_are_lost_when_all_lose_their_power_and_their_offsets_are_used_again() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.produce("t", &["a", "b"], -1).await.unwrap();
    all(&bed, PowerLoss).await;
    bed.until("a leader", async || bed.leader("t").is_some()).await;
    bed.cluster.settled().await;
    assert_eq!(bed.end("t").await, Ok(0));
    assert_eq!(bed.produce("t", &["other"], -1).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn records_that_were_flushed_survive_a_power_failure() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[("flush.messages", "1")]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    all(&bed, PowerLoss).await;
    bed.until("the records", async || bed.end("t").await == Ok(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_graceful_end_syncs_everything() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1], &[]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    bed.fault(1, Stop);
    bed.cluster.ended(NodeId(1)).await;
    bed.cluster.disk(NodeId(1)).unwrap().lose_unsynced();
    bed.recover(1);
    bed.until("the records", async || bed.end("t").await == Ok(1)).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_known_leader_leads_again_although_it_lost_its_tail() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2], &[]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    bed.fault(2, Kill);
    bed.until("the shrink", async || bed.in_sync("t") == [1]).await;
    bed.produce("t", &["b"], -1).await.unwrap();
    // Only broker 1 has the second record, and it loses both.
    bed.fault(1, PowerLoss);
    tokio::time::sleep(seconds(20)).await;
    bed.recover(1);
    bed.until("a leader", async || bed.leader("t") == Some(1)).await;
    bed.cluster.settled().await;
    assert_eq!(bed.end("t").await, Ok(0));
    assert!(bed.cluster.metadata().topic("t").unwrap().partitions[0].recovering);
    // Who returns must follow it, and loses what it had.
    bed.recover(2);
    bed.until("its return", async || bed.in_sync("t") == [1, 2]).await;
    assert_eq!(bed.cluster.replica(NodeId(2), "t", 0).unwrap().end, 0);
    assert!(!bed.cluster.metadata().topic("t").unwrap().partitions[0].recovering);
}

#[tokio::test(start_paused = true)]
async fn one_replica_that_lost_its_tail_copies_it_again() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.produce("t", &["a", "b"], -1).await.unwrap();
    bed.fault(1, PowerLoss);
    bed.until("another leader", async || bed.leader("t").is_some_and(|leader| leader != 1)).await;
    bed.recover(1);
    bed.until("its return", async || bed.in_sync("t") == [1, 2, 3]).await;
    assert_eq!(bed.cluster.replica(NodeId(1), "t", 0).unwrap().end, 2);
    bed.until("the records", async || bed.end("t").await == Ok(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_lost_its_tail_and_starts_at_once_leads_no_more_before_others_ask_it() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.produce("t", &["a", "b"], -1).await.unwrap();
    bed.fault(1, PowerLoss);
    // Its session has not ended: by the metadata it still leads.
    bed.recover(1);
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(bed.leader("t"), Some(1));
    bed.until("another leader", async || bed.leader("t").is_some_and(|leader| leader != 1)).await;
    bed.until("its return", async || bed.in_sync("t") == [1, 2, 3]).await;
    for node in 1..=3 {
        assert_eq!(bed.cluster.replica(NodeId(node), "t", 0).unwrap().end, 2, "of broker {node}");
    }
    bed.until("the records", async || bed.end("t").await == Ok(2)).await;
}

#[tokio::test(start_paused = true)]
async fn the_high_watermark_begins_at_its_checkpoint_which_lags() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2], &[]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    tokio::time::sleep(seconds(12)).await;
    bed.produce("t", &["b"], -1).await.unwrap();
    let id = bed.cluster.partition("t", 0).unwrap();
    let on_disk = || bed.cluster.disk(NodeId(1)).unwrap().checkpoints().high_watermarks.get(&id).copied();
    assert_eq!((on_disk(), bed.end("t").await), (Some(1), Ok(2)));
    tokio::time::sleep(seconds(6)).await;
    assert_eq!(on_disk(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn deleted_records_are_readable_again_after_a_crash_before_the_checkpoint() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1], &[]).await;
    bed.produce("t", &["a", "b"], -1).await.unwrap();
    tokio::time::sleep(seconds(10)).await;
    assert_eq!(delete_before(&bed, "t", 1).await, 1);
    assert_eq!(bed.offset_at(1, "t", -2).await, Ok(1));
    bed.fault(1, Kill);
    tokio::time::sleep(seconds(20)).await;
    bed.recover(1);
    bed.until("a leader", async || bed.leader("t") == Some(1)).await;
    bed.cluster.settled().await;
    assert_eq!(bed.offset_at(1, "t", -2).await, Ok(0));
    assert_eq!(delete_before(&bed, "t", 1).await, 1);
    tokio::time::sleep(seconds(70)).await;
    bed.fault(1, Kill);
    tokio::time::sleep(seconds(20)).await;
    bed.recover(1);
    bed.until("a leader", async || bed.leader("t") == Some(1)).await;
    bed.cluster.settled().await;
    assert_eq!(bed.offset_at(1, "t", -2).await, Ok(1));
}

async fn delete_before(bed: &Testbed, topic: &str, offset: i64) -> i64 {
    use proto_kafka::messages::DeleteRecordsRequest;
    use proto_kafka::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
    let partition = DeleteRecordsPartition::default().with_offset(offset);
    let wanted = DeleteRecordsTopic::default()
        .with_name(crate::harness::topic_name(topic))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![wanted]).with_timeout_ms(5_000);
    let response = bed.send(bed.leader(topic).unwrap(), request, 1).await.unwrap();
    response.topics[0].partitions[0].low_watermark
}
