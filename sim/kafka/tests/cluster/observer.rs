//! What an observer learns of a cluster.

use std::sync::Arc;

use simulated_kafka::cluster::HostFault::{Kill, Pause, PowerLoss};
use simulated_kafka::cluster::observe::{CoordinatorKind, Event};
use simulated_kafka::cluster::{Options, Verb};
use simulated_kafka::error::ErrorCode;
use simulated_kafka::protocol::builder::BatchBuilder;
use simulated_kafka::protocol::messages::ApiKey;
use simulated_kafka::server::ServerOptions;
use simulated_kafka::types::NodeId;

use crate::committed::delete_below;
use crate::harness::{START, Testbed, batch_of, seconds, wanted};
use crate::recorder::Recorder;
use crate::{groups, racks, transactions};

async fn start(recorder: &Arc<Recorder>) -> Testbed {
    start_with(recorder, |_| {}).await
}

async fn start_with(recorder: &Arc<Recorder>, change: impl FnOnce(&mut Options)) -> Testbed {
    Testbed::start_with(1, |options| {
        options.observer = Some(recorder.clone());
        change(options);
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn the_controller_reports_where_it_is_and_which_brokers_it_fences() {
    let recorder = Recorder::new(|event| match event {
        Event::ControllerMoved { to } => Some(format!("controller {:?}", to.map(|node| node.0))),
        Event::BrokerFenced { broker } => Some(format!("fenced {broker}")),
        Event::BrokerUnfenced { broker } => Some(format!("unfenced {broker}")),
        _ => None,
    });
    let bed = start(&recorder).await;
    let mut begun = recorder.take();
    begun[1..].sort();
    assert_eq!(begun, ["controller Some(1)", "unfenced 1", "unfenced 2", "unfenced 3"]);
    bed.fault(1, Kill);
    tokio::time::sleep(seconds(20)).await;
    assert_eq!(recorder.take(), ["controller None", "controller Some(2)", "fenced 1"]);
    bed.recover(1);
    bed.cluster.settled().await;
    assert_eq!(recorder.take(), ["unfenced 1"]);
}

#[tokio::test(start_paused = true)]
async fn topics_are_reported_with_the_leaders_of_their_partitions() {
    let recorder = Recorder::new(|event| match event {
        Event::TopicCreated { topic, partitions, .. } => Some(format!("created {topic} {partitions}")),
        Event::TopicDeleted { topic, .. } => Some(format!("deleted {topic}")),
        Event::LeaderElected { topic, partition, leader, epoch, is_clean } => {
            Some(format!("{topic} {partition} {:?} {epoch} {is_clean}", leader.map(|node| node.0)))
        }
        _ => None,
    });
    let bed = start(&recorder).await;
    bed.topic("t", &[2, 1], &[]).await;
    bed.delete("t").await;
    assert_eq!(recorder.take(), ["created t 1", "t 0 Some(2) 0 true", "deleted t"]);
}

#[tokio::test(start_paused = true)]
async fn elections_are_reported_as_clean_or_not_and_in_sync_sets_as_they_shrink_and_grow() {
    let recorder = Recorder::new(|event| match event {
        Event::LeaderElected { topic: "t", leader, epoch, is_clean, .. } => {
            Some(format!("leader {:?} {epoch} {is_clean}", leader.map(|node| node.0)))
        }
        Event::InSyncChanged { topic: "t", in_sync, shrunk, .. } => {
            Some(format!("{:?} {shrunk}", in_sync.iter().map(|node| node.0).collect::<Vec<_>>()))
        }
        _ => None,
    });
    let bed = start(&recorder).await;
    bed.topic("t", &[1, 2], &[("unclean.leader.election.enable", "true")]).await;
    assert!(bed.cluster.move_leader("t", 0, NodeId(2)));
    assert!(bed.cluster.move_leader("t", 0, NodeId(1)));
    assert_eq!(recorder.take(), ["leader Some(1) 0 true", "leader Some(2) 1 true", "leader Some(1) 2 true"]);
    bed.fault(2, Pause);
    bed.until("the shrink", async || bed.in_sync("t") == [1]).await;
    assert_eq!(recorder.take(), ["[1] true"]);
    bed.fault(1, Kill);
    bed.resume(2);
    bed.until("another leader", async || bed.leader("t") == Some(2)).await;
    assert_eq!(recorder.take(), ["leader Some(2) 3 false", "[2] true"]);
    bed.recover(1);
    bed.until("its return", async || bed.in_sync("t") == [1, 2]).await;
    assert_eq!(recorder.take(), ["[1, 2] false"]);
}

#[tokio::test(start_paused = true)]
async fn leaders_report_what_they_append_and_how_far_it_is_replicated() {
    let recorder = Recorder::new(|event| match event {
        Event::LeaderBegan { broker, topic: "t", epoch, high_watermark, end, .. } => {
            Some(format!("{broker} leads {epoch} {high_watermark} {end}"))
        }
        Event::Appended { broker, topic: "t", first_offset, next_offset, leader_epoch, .. } => {
            Some(format!("{broker} appends {first_offset}..{next_offset} {leader_epoch}"))
        }
        Event::HighWatermarkAdvanced { broker, topic: "t", offset, .. } => {
            Some(format!("{broker} replicates {offset}"))
        }
        Event::LogStartAdvanced { broker, topic: "t", offset, .. } => {
            Some(format!("{broker} starts at {offset}"))
        }
        _ => None,
    });
    let bed = start(&recorder).await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.produce("t", &["a", "b"], -1).await.unwrap();
    delete_below(&bed, 1).await;
    assert_eq!(recorder.take(), ["1 leads 0 0 0", "1 appends 0..2 0", "1 replicates 2", "1 starts at 1"]);
    // The followers get a record, and do not learn that both have it.
    bed.links.rule(|envelope| (envelope.response_to == Some(Verb::Replicate)).then(Vec::new));
    tokio::time::sleep(seconds(2)).await;
    bed.links.restore_all();
    bed.produce("t", &["c"], -1).await.unwrap();
    bed.fault(1, Kill);
    bed.until("another leader", async || bed.leader("t").is_some_and(|leader| leader != 1)).await;
    bed.cluster.settled().await;
    bed.until("its end", async || bed.end("t").await == Ok(3)).await;
    let expected = ["1 appends 2..3 0", "1 replicates 3", "2 leads 1 2 3", "2 replicates 3"];
    assert_eq!(recorder.take(), expected, "the new leader begins behind the old one");
}

#[tokio::test(start_paused = true)]
async fn logs_that_are_cut_are_reported_with_both_ends() {
    let recorder = Recorder::new(|event| match event {
        Event::Truncated { broker, topic, partition: 0, from_end, to_end } => {
            Some(format!("{broker} {topic} {from_end} {to_end}"))
        }
        _ => None,
    });
    let bed = start(&recorder).await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    // Only the leader has the second record, and is not the leader when it returns.
    bed.links.rule(|envelope| (envelope.response_to == Some(Verb::Replicate)).then(Vec::new));
    bed.produce("t", &["b", "c"], 1).await.unwrap();
    bed.fault(1, Kill);
    bed.links.restore_all();
    bed.until("another leader", async || bed.leader("t").is_some_and(|leader| leader != 1)).await;
    bed.recover(1);
    bed.until("its return", async || bed.in_sync("t") == [1, 2, 3]).await;
    assert_eq!(recorder.take(), ["1 t 3 1"]);
    let leader = bed.leader("t").unwrap();
    bed.fault(leader, PowerLoss);
    assert_eq!(recorder.take(), [format!("{leader} t 1 0")]);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_is_reported_from_its_producer_to_its_last_marker() {
    let recorder = Recorder::new(|event| match event {
        Event::ProducerInitialized { transactional_id: transactions::ID, epoch, .. } => {
            Some(format!("producer {epoch}"))
        }
        Event::TransactionBegan { transactional_id: transactions::ID, epoch, .. } => {
            Some(format!("began {epoch}"))
        }
        Event::TransactionPrepared {
            transactional_id: transactions::ID,
            epoch,
            commits,
            by,
            partitions,
            ..
        } => Some(format!("prepared {epoch} {commits} {by:?} {partitions}")),
        Event::MarkerWritten { broker, topic, partition: 0, commits, .. } => {
            Some(format!("marker {broker} {topic} {commits}"))
        }
        Event::TransactionCompleted { transactional_id: transactions::ID, epoch, commits, .. } => {
            Some(format!("completed {epoch} {commits}"))
        }
        _ => None,
    });
    let bed = transactions::start(|options| {
        options.observer = Some(recorder.clone());
        options.transactions.abort_check_interval = 1_000;
    })
    .await;
    let first = transactions::init(&bed).await;
    transactions::add(&bed, first, &["a", "b"]).await.unwrap();
    transactions::produce(&bed, first, "a", 0, "1").await.unwrap();
    transactions::end(&bed, first, true).await.unwrap();
    tokio::time::sleep(seconds(1)).await;
    let mut reported = recorder.take();
    reported[3..5].sort();
    let expected = [
        "producer 0",
        "began 0",
        "prepared 0 true Producer 2",
        "marker 1 a true",
        "marker 2 b true",
        "completed 0 true",
    ];
    assert_eq!(reported, expected);
    transactions::add(&bed, first, &["a"]).await.unwrap();
    let second = transactions::init(&bed).await;
    let expected =
        ["began 0", "prepared 1 false NewProducer 1", "marker 1 a false", "completed 1 false", "producer 2"];
    assert_eq!(recorder.take(), expected);
    transactions::add(&bed, second, &["a"]).await.unwrap();
    tokio::time::sleep(seconds(70)).await;
    let expected = ["began 2", "prepared 3 false Timeout 1", "marker 1 a false", "completed 3 false"];
    assert_eq!(recorder.take(), expected);
}

#[tokio::test(start_paused = true)]
async fn coordinators_are_reported_as_they_load_serve_and_end_and_commits_as_they_are_refused() {
    let recorder = Recorder::new(|event| {
        let named = |kind: &CoordinatorKind, what: &str, broker: &NodeId, epoch: &i32| {
            (*kind == CoordinatorKind::Groups).then(|| format!("{what} {broker} {epoch}"))
        };
        match event {
            Event::CoordinatorLoading { broker, kind, partition: 0, epoch } => {
                named(kind, "loading", broker, epoch)
            }
            Event::CoordinatorLoaded { broker, kind, partition: 0, epoch } => {
                named(kind, "loaded", broker, epoch)
            }
            Event::CoordinatorUnloaded { broker, kind, partition: 0, epoch } => {
                named(kind, "unloaded", broker, epoch)
            }
            Event::CommitRefused { broker, group: "group", topic: "t", error, epoch: -1, .. } => {
                Some(format!("{broker} {error:?}"))
            }
            Event::OffsetCommitted { broker, group: "group", topic: "t", offset, .. } => {
                Some(format!("{broker} {offset}"))
            }
            _ => None,
        }
    });
    let bed = start_with(&recorder, |options| {
        options.offsets_partitions = 1;
        options.coordinator_load_time = seconds(3);
    })
    .await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    let old = groups::coordinator(&bed).await;
    bed.until("the coordinator", async || groups::committed(&bed, old).await == Ok(-1)).await;
    groups::commit(&bed, old, 7).await.unwrap();
    let other = 1 + old % 3;
    let _ = groups::commit(&bed, other, 9).await;
    let expected = [
        format!("loading {old} 0"),
        format!("loaded {old} 0"),
        format!("{old} 7"),
        format!("{other} NotCoordinator"),
    ];
    assert_eq!(recorder.take(), expected);
    assert!(bed.cluster.move_leader("__consumer_offsets", 0, NodeId(other)));
    bed.cluster.settled().await;
    let _ = groups::commit(&bed, other, 9).await;
    tokio::time::sleep(seconds(4)).await;
    let mut reported = recorder.take();
    reported.sort();
    let expected = [
        format!("{other} CoordinatorLoadInProgress"),
        format!("loaded {other} 1"),
        format!("loading {other} 1"),
        format!("unloaded {old} 0"),
    ];
    assert_eq!(reported, expected);
}

#[tokio::test(start_paused = true)]
async fn connections_are_reported_with_their_requests_and_the_first_errors_in_the_responses() {
    let recorder = Recorder::new(|event| match event {
        Event::ConnectionOpened { broker, connection, client: "127.0.0.1" } => {
            Some(format!("opened {broker} {connection}"))
        }
        Event::ConnectionClosed { broker, connection } => Some(format!("closed {broker} {connection}")),
        Event::Request {
            broker,
            connection,
            client: "127.0.0.1",
            api: ApiKey::Produce,
            version: 9,
            correlation_id: 77,
            client_id: Some("test"),
        } => Some(format!("request {broker} {connection}")),
        Event::Response { broker, connection, api: ApiKey::Produce, correlation_id: 77, error, micros } => {
            Some(format!("response {broker} {connection} {error:?} {}", *micros > 0))
        }
        _ => None,
    });
    let bed = start(&recorder).await;
    bed.topic("t", &[1, 2], &[]).await;
    bed.produce_to(1, "t", &batch_of(&["a"]), -1).await.unwrap();
    assert!(bed.produce_to(2, "t", &batch_of(&["a"]), -1).await.is_err());
    // It waits for the process, which ends.
    let connection = bed.connect(3, ServerOptions::default()).unwrap();
    tokio::time::sleep(seconds(1)).await;
    bed.fault(3, Kill);
    tokio::time::sleep(seconds(1)).await;
    drop(connection);
    let reported = recorder.take();
    // The first connection created the topic.
    let expected = [
        "opened 1 0",
        "closed 1 0",
        "opened 1 1",
        "request 1 1",
        "response 1 1 None true",
        "closed 1 1",
        "opened 2 2",
        "request 2 2",
        "response 2 2 Some(NotLeaderOrFollower) false",
        "closed 2 2",
        "opened 3 3",
        "closed 3 3",
    ];
    assert_eq!(reported, expected);
}

#[tokio::test(start_paused = true)]
async fn produced_batches_are_reported_with_duplicates_and_errors() {
    let recorder = Recorder::new(|event| match event {
        Event::ProduceAnswered { broker, topic: "t", first_offset, duplicate, error, .. } => {
            Some(format!("{broker} {first_offset:?} {duplicate} {error:?}"))
        }
        _ => None,
    });
    let bed = start(&recorder).await;
    bed.topic("t", &[1, 2], &[("min.insync.replicas", "2")]).await;
    let batch = BatchBuilder::new(START).producer(5, 0, 0).record(START, None, Some(b"x")).build();
    for _ in 0..2 {
        bed.produce_to(1, "t", &batch, -1).await.unwrap();
    }
    let later = BatchBuilder::new(START).producer(5, 0, 7).record(START, None, Some(b"x")).build();
    bed.produce_to(1, "t", &later, -1).await.unwrap_err();
    bed.links.rule(|envelope| (envelope.verb == Verb::Replicate).then(Vec::new));
    bed.produce_to(1, "t", &batch_of(&["x"]), -1).await.unwrap_err();
    let expected = [
        "1 Some(0) false None",
        "1 Some(0) true None",
        "1 None false Some(OutOfOrderSequenceNumber)",
        "1 Some(1) false Some(RequestTimedOut)",
    ];
    assert_eq!(recorder.take(), expected);
}

#[tokio::test(start_paused = true)]
async fn fetched_partitions_are_reported_with_what_a_client_learns_of_them() {
    let recorder = Recorder::new(|event| match event {
        Event::FetchAnswered {
            broker,
            topic: "t",
            partition: 0,
            fetch_offset,
            bytes,
            error,
            high_watermark,
            last_stable,
            preferred,
            aborted,
            is_follower,
        } => {
            let preferred = preferred.map(|node| node.0);
            let error = error.map(|error| error.code());
            Some(format!(
                "{broker} {fetch_offset} {} {error:?} {high_watermark} {last_stable} {preferred:?} {aborted} {is_follower}",
                *bytes > 0
            ))
        }
        _ => None,
    });
    let bed = start_with(&recorder, |options| {
        options.rack_aware = true;
        options.verify_transactions = false;
    })
    .await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    let batch = BatchBuilder::new(START).producer(7, 0, 0).transactional();
    let batch = batch.record(START, None, Some(b"x")).build();
    crate::committed::append(&bed, &batch).await;
    crate::committed::end(&bed, 7, false).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    tokio::time::sleep(seconds(2)).await;
    bed.fetch_with(1, "t", wanted(0), 1).await.unwrap();
    bed.fetch_with(1, "t", wanted(9), 0).await.unwrap();
    assert_eq!(racks::fetch(&bed, 1, "rack3", 0, 12).await.0, 3);
    bed.fetch_from(3, "t", 2).await.unwrap();
    let out_of_range = ErrorCode::OffsetOutOfRange.code();
    let expected = [
        "1 0 true None 3 3 None 1 false".to_owned(),
        format!("1 9 false Some({out_of_range}) -1 -1 None 0 false"),
        "1 0 false None 3 3 Some(3) 0 false".to_owned(),
        "3 2 true None 3 3 None 0 true".to_owned(),
    ];
    assert_eq!(recorder.take(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_a_new_leader_does_not_know_yet_is_reported() {
    let recorder = Recorder::new(|event| match event {
        Event::ListOffsetsAnswered { broker, topic: "t", partition: 0, timestamp, offset, error } => {
            Some(format!("{broker} {timestamp} {offset} {error:?}"))
        }
        _ => None,
    });
    let bed = start(&recorder).await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    bed.produce("t", &["a"], -1).await.unwrap();
    assert_eq!(bed.end("t").await, Ok(1));
    assert_eq!(bed.offset_at(1, "t", START + 1).await, Ok(-1));
    assert_eq!(recorder.take(), ["1 -1 1 None", format!("1 {} -1 None", START + 1).as_str()]);
    bed.fault(1, Kill);
    // The new leader does not know yet that the others have the record.
    bed.links.rule(|envelope| (envelope.verb == Verb::Replicate).then(Vec::new));
    bed.until("another leader", async || bed.leader("t") == Some(2)).await;
    bed.cluster.settled().await;
    assert_eq!(bed.end("t").await, Err(ErrorCode::OffsetNotAvailable));
    assert_eq!(recorder.take(), ["2 -1 -1 Some(OffsetNotAvailable)"]);
}
