//! When a record is visible, and who is in sync.

use simulated_kafka::cluster::HostFault::{Kill, Pause};
use simulated_kafka::error::ErrorCode;
use simulated_kafka::types::NodeId;

use crate::harness::{Testbed, checked, seconds, wanted};

#[tokio::test(start_paused = true)]
async fn a_record_is_visible_when_every_in_sync_replica_has_it() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    assert_eq!(bed.produce("t", &["a", "b", "c"], -1).await, Ok(0));
    bed.fault(3, Pause);
    assert_eq!(bed.produce("t", &["d"], 1).await, Ok(3));
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(bed.end("t").await, Ok(3));
    assert_eq!(bed.fetch("t", 0).await.unwrap().texts(), ["a", "b", "c"]);
    // Between the high watermark and the end there is nothing, and it is in range.
    assert_eq!(bed.fetch("t", 3).await.unwrap().texts(), [""; 0]);
    assert_eq!(bed.fetch("t", 4).await.unwrap().texts(), [""; 0]);
    assert_eq!(bed.fetch("t", 5).await, Err(ErrorCode::OffsetOutOfRange));
    // Fenced after 9 s, and so not in sync.
    let waited = bed.until("the end", async || bed.end("t").await == Ok(4)).await;
    assert!(waited < seconds(5), "{waited:?}");
    assert_eq!(bed.in_sync("t"), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_does_not_fetch_is_dropped_from_the_in_sync_set_after_30_s() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    // Its heartbeats arrive, its fetches do not.
    bed.links.rule(|envelope| {
        (envelope.from == NodeId(3)
            && envelope.to == NodeId(1)
            && envelope.verb == simulated_kafka::cluster::Verb::Replicate)
            .then(Vec::new)
    });
    bed.produce("t", &["b"], 1).await.unwrap();
    let waited = bed.until("the shrink", async || bed.in_sync("t") == [1, 2]).await;
    assert!((seconds(29)..seconds(47)).contains(&waited), "{waited:?}");
    bed.links.restore_all();
    bed.until("the return", async || bed.in_sync("t") == [1, 2, 3]).await;
}

#[tokio::test(start_paused = true)]
async fn too_few_in_sync_replicas_refuse_a_write_and_hold_the_high_watermark() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2], &[("min.insync.replicas", "2")]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    bed.fault(2, Kill);
    bed.until("the shrink", async || bed.in_sync("t") == [1]).await;
    bed.cluster.settled().await;
    assert_eq!(bed.produce("t", &["b"], -1).await, Err(ErrorCode::NotEnoughReplicas));
    assert_eq!(bed.produce("t", &["c"], 1).await, Ok(1));
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(bed.end("t").await, Ok(1));
    bed.recover(2);
    bed.until("the end", async || bed.end("t").await == Ok(2)).await;
    assert_eq!(bed.fetch("t", 0).await.unwrap().texts(), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_appended_before_the_set_shrank_is_reported_as_such() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[("min.insync.replicas", "3")]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    bed.fault(3, Pause);
    // Appended while three are in sync; the third never gets it.
    let result = bed.produce("t", &["b"], -1).await;
    assert!(
        matches!(result, Err(ErrorCode::RequestTimedOut | ErrorCode::NotEnoughReplicasAfterAppend)),
        "{result:?}"
    );
    assert_eq!(bed.cluster.replica(NodeId(1), "t", 0).unwrap().end, 2);
}

#[tokio::test(start_paused = true)]
async fn a_leader_tells_who_knows_another_epoch() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    assert!(bed.cluster.move_leader("t", 0, NodeId(2)));
    bed.cluster.settled().await;
    let at = async |node: i32, epoch: i32| {
        let data = bed.fetch_with(node, "t", wanted(0).with_current_leader_epoch(epoch), 0).await.unwrap();
        checked(data.error_code, ())
    };
    assert_eq!(at(2, 1).await, Ok(()));
    assert_eq!(at(2, 0).await, Err(ErrorCode::FencedLeaderEpoch));
    assert_eq!(at(2, 2).await, Err(ErrorCode::UnknownLeaderEpoch));
    assert_eq!(
        bed.produce_to(1, "t", &crate::harness::batch_of(&["x"]), 1).await,
        Err(ErrorCode::NotLeaderOrFollower)
    );
}

#[tokio::test(start_paused = true)]
async fn a_follower_serves_consumers_up_to_its_own_high_watermark() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    let follower = bed.fetch_from(2, "t", 0).await.unwrap();
    // It learns the high watermark with its next fetch, up to half a second later.
    assert!(follower.texts().is_empty() && follower.high_watermark == 0, "{follower:?}");
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(bed.fetch_from(2, "t", 0).await.unwrap().texts(), ["a"]);
    assert_eq!(bed.offset_at(2, "t", -1).await, Err(ErrorCode::NotLeaderOrFollower));
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_is_dropped_from_the_in_sync_set_by_hand_is_eligible_and_returns() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2], &[("min.insync.replicas", "2")]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    assert!(!bed.cluster.drop_from_in_sync("t", 0, NodeId(1)), "the leader");
    assert!(!bed.cluster.drop_from_in_sync("t", 0, NodeId(3)), "it has no replica");
    // Its fetch waits at the leader, and is the last one.
    tokio::time::sleep(seconds(1)).await;
    bed.links.cut(NodeId(2), NodeId(1));
    assert!(bed.cluster.drop_from_in_sync("t", 0, NodeId(2)));
    let partition = bed.cluster.metadata().topic("t").unwrap().partitions[0].clone();
    assert_eq!((partition.leader, partition.leader_epoch), (Some(NodeId(1)), 0));
    assert_eq!((partition.in_sync, partition.eligible), (vec![NodeId(1)], vec![NodeId(2)]));
    assert!(!bed.cluster.drop_from_in_sync("t", 0, NodeId(2)), "once");
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(bed.produce("t", &["b"], -1).await, Err(ErrorCode::NotEnoughReplicas));
    bed.links.restore_all();
    bed.until("its return", async || bed.in_sync("t") == [1, 2]).await;
    bed.until("the write", async || bed.produce("t", &["b"], -1).await.is_ok()).await;
}
