//! Elections, clean and unclean, and what they do to the log.

use simulated_kafka::cluster::HostFault::{Kill, Pause, Stop};
use simulated_kafka::cluster::Verb;
use simulated_kafka::error::ErrorCode;
use simulated_kafka::types::NodeId;

use crate::harness::{Testbed, batch_of, seconds, wanted};

#[tokio::test(start_paused = true)]
async fn a_record_that_only_its_leader_has_is_lost_with_it_and_its_offset_is_used_again() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    bed.links.rule(|envelope| {
        (envelope.response_to == Some(Verb::Replicate) && envelope.from == NodeId(1)).then(Vec::new)
    });
    assert_eq!(bed.produce("t", &["lost"], 1).await, Ok(1));
    bed.fault(1, Kill);
    bed.until("another leader", async || bed.leader("t").is_some_and(|leader| leader != 1)).await;
    bed.cluster.settled().await;
    bed.links.restore_all();
    assert_eq!(bed.produce("t", &["other"], -1).await, Ok(1));
    // The old leader truncates what the others never had.
    bed.recover(1);
    bed.until("its return", async || bed.in_sync("t") == [1, 2, 3]).await;
    let batches = bed.cluster.batches(NodeId(1), "t", 0).unwrap();
    assert_eq!(batches, bed.cluster.batches(NodeId(2), "t", 0).unwrap());
    assert_eq!(bed.fetch("t", 0).await.unwrap().texts(), ["a", "other"]);
}

#[tokio::test(start_paused = true)]
async fn after_an_election_the_end_is_unknown_until_the_high_watermark_reaches_the_new_epoch() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    tokio::time::sleep(seconds(2)).await;
    // Both followers get a record, and none of them learns that both have it.
    bed.produce("t", &["b"], 1).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    bed.fault(1, Kill);
    let between = |from: NodeId, to: NodeId| from != NodeId(1) && to != NodeId(1);
    bed.links.rule(move |envelope| {
        (envelope.verb == Verb::Replicate && between(envelope.from, envelope.to)).then(Vec::new)
    });
    bed.until("another leader", async || bed.leader("t").is_some_and(|leader| leader != 1)).await;
    tokio::time::sleep(seconds(1)).await;
    let leader = bed.leader("t").unwrap();
    assert_eq!(bed.offset_at(leader, "t", -1).await, Err(ErrorCode::OffsetNotAvailable));
    let read = bed.fetch_from(leader, "t", 1).await.unwrap();
    assert_eq!((read.texts().len(), read.high_watermark), (0, 1));
    bed.links.restore_all();
    bed.until("the end", async || bed.offset_at(leader, "t", -1).await == Ok(2)).await;
    assert_eq!(bed.fetch_from(leader, "t", 1).await.unwrap().texts(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn an_unclean_election_puts_different_records_at_offsets_that_were_read() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2], &[("unclean.leader.election.enable", "true")]).await;
    bed.produce("t", &["0", "1"], -1).await.unwrap();
    bed.fault(2, Pause);
    bed.until("the shrink", async || bed.in_sync("t") == [1]).await;
    bed.cluster.settled().await;
    bed.produce("t", &["2", "3"], -1).await.unwrap();
    assert_eq!(bed.fetch("t", 0).await.unwrap().texts(), ["0", "1", "2", "3"]);
    bed.fault(1, Kill);
    bed.resume(2);
    bed.until("another leader", async || bed.leader("t") == Some(2)).await;
    bed.cluster.settled().await;
    assert_eq!(bed.fetch("t", 4).await, Err(ErrorCode::OffsetOutOfRange));
    bed.produce("t", &["x", "y", "z"], -1).await.unwrap();
    // A position without an epoch is not validated, one with an epoch is.
    assert_eq!(bed.fetch("t", 4).await.unwrap().texts(), ["z"]);
    let validated = wanted(4).with_last_fetched_epoch(0);
    let data = bed.fetch_with(2, "t", validated, 0).await.unwrap();
    assert_eq!((data.diverging_epoch.epoch, data.diverging_epoch.end_offset), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn without_an_unclean_election_the_partition_waits_for_who_was_in_sync() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2], &[]).await;
    bed.produce("t", &["0"], -1).await.unwrap();
    bed.fault(2, Pause);
    bed.until("the shrink", async || bed.in_sync("t") == [1]).await;
    bed.produce("t", &["1"], -1).await.unwrap();
    bed.fault(1, Kill);
    bed.resume(2);
    tokio::time::sleep(seconds(600)).await;
    assert_eq!(bed.leader("t"), None);
    bed.recover(1);
    bed.until("the old leader", async || bed.leader("t") == Some(1)).await;
    bed.cluster.settled().await;
    bed.until("the end", async || bed.end("t").await == Ok(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_ends_gracefully_hands_over_what_it_leads_first() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    bed.fault(1, Stop);
    bed.cluster.ended(NodeId(1)).await;
    assert!(!bed.cluster.is_running(NodeId(1)));
    assert_eq!(bed.leader("t"), Some(2));
    assert_eq!(bed.in_sync("t"), [2, 3]);
    assert_eq!(bed.produce("t", &["b"], -1).await, Ok(1));
    bed.recover(1);
    let waited = bed.until("its return", async || bed.in_sync("t") == [1, 2, 3]).await;
    // It need not wait for the end of its old session.
    assert!(waited < seconds(2), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn the_preferred_leader_returns_within_five_minutes() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    assert!(bed.cluster.move_leader("t", 0, NodeId(3)));
    let waited = bed.until("the preferred leader", async || bed.leader("t") == Some(1)).await;
    assert!(waited <= seconds(301), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_paused_leader_that_does_not_know_better_still_appends_and_then_loses_it() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    bed.fault(1, Pause);
    bed.until("another leader", async || bed.leader("t").is_some_and(|leader| leader != 1)).await;
    bed.cluster.settled().await;
    assert_eq!(bed.produce("t", &["new"], -1).await, Ok(1));
    // It continues as if no time had passed, and learns of the election later.
    bed.cluster.lag_metadata(NodeId(1), seconds(5));
    bed.resume(1);
    assert_eq!(bed.produce_to(1, "t", &batch_of(&["old"]), 1).await, Ok(1));
    bed.until("its return", async || bed.in_sync("t") == [1, 2, 3]).await;
    assert_eq!(bed.fetch("t", 0).await.unwrap().texts(), ["a", "new"]);
    assert_eq!(bed.cluster.batches(NodeId(1), "t", 0), bed.cluster.batches(NodeId(2), "t", 0));
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_nobody_is_elected() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.fault(1, Kill);
    bed.fault(2, Kill);
    tokio::time::sleep(seconds(120)).await;
    assert_eq!((bed.leader("t"), bed.cluster.active_controller()), (Some(1), None));
    bed.recover(2);
    bed.until("another leader", async || bed.leader("t").is_some_and(|leader| leader != 1)).await;
}
