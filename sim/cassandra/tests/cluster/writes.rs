//! Writes at all consistency levels, with replicas that fail.

use simulated_cassandra::cluster::{HostFault, Misbehaviour, Verb};
use simulated_cassandra::coordinator::{
    Consistency, Coordinator, FailureReason, RequestError, WriteMode, WriteType,
};
use simulated_cassandra::schema::{Column, Replication, SchemaChange};
use simulated_cassandra::storage::ReadCommand;

use crate::harness::{A, B, C, START, rows, test_cluster};

#[tokio::test(start_paused = true)]
async fn a_write_that_timed_out_may_have_happened() {
    let test = test_cluster(|_| {}).await;
    test.lose_responses(Verb::Write, B);
    test.lose_responses(Verb::Write, C);
    let error =
        test.write(A, test.insert(1, 1, 1, 1), Consistency::Quorum).await.expect_err("too few responses");
    let write_type = WriteType::Simple;
    assert_eq!(
        error,
        RequestError::WriteTimeout {
            consistency: Consistency::Quorum,
            received: 1,
            block_for: 2,
            write_type
        }
    );
    for node in [A, B, C] {
        assert_eq!(test.peek(node, 1), [(1, 1)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_its_client_gave_up_goes_on() {
    let test = test_cluster(|_| {}).await;
    let node = test.on(A);
    let write = node.write(vec![test.insert(1, 1, 1, 1)], WriteMode::Single, Consistency::All);
    let gave_up = tokio::time::timeout(std::time::Duration::from_micros(200), write).await;
    assert!(gave_up.is_err());
    test.pass(1.0).await;
    assert_eq!(test.peek(C, 1), [(1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_late_duplicate_overwrites_a_newer_value_unless_timestamps_are_the_clients() {
    let test = test_cluster(|_| {}).await;
    // The same statement again, through another coordinator, after the client wrote 2.
    for (node, p, v, timestamp) in [(A, 1, 1, None), (A, 1, 2, None), (B, 1, 1, None)] {
        let timestamp = timestamp.unwrap_or_else(|| test.on(node).timestamp());
        test.write(node, test.insert(p, 1, v, timestamp), Consistency::Quorum).await.expect("written");
        test.pass(0.1).await;
    }
    assert_eq!(test.read(C, 1, Consistency::Quorum).await, Ok(vec![(1, Some(1))]));
    for (node, v, timestamp) in [(A, 1, 10), (A, 2, 20), (B, 1, 10)] {
        test.write(node, test.insert(2, 1, v, timestamp), Consistency::Quorum).await.expect("written");
    }
    assert_eq!(test.read(C, 2, Consistency::Quorum).await, Ok(vec![(1, Some(2))]));
}

#[tokio::test(start_paused = true)]
async fn unavailable_comes_only_once_gossip_has_noticed() {
    let test = test_cluster(|_| {}).await;
    test.cluster.apply(B, HostFault::Kill);
    test.cluster.apply(C, HostFault::Kill);
    let early = test.write(A, test.insert(1, 1, 1, 1), Consistency::Quorum).await;
    assert!(matches!(early, Err(RequestError::WriteTimeout { received: 1, block_for: 2, .. })), "{early:?}");
    test.pass(12.0).await;
    let late = test.write(A, test.insert(1, 1, 1, 1), Consistency::Quorum).await;
    assert_eq!(
        late,
        Err(RequestError::Unavailable { consistency: Consistency::Quorum, required: 2, alive: 1 })
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_another_hears_of_is_alive_for_those_it_cannot_reach_and_writes_to_it_time_out() {
    let test = test_cluster(|_| {}).await;
    test.links.cut(A, B);
    test.links.cut(B, A);
    test.pass(60.0).await;
    assert!(test.cluster.believes_alive(B, A));
    assert!(test.cluster.believes_alive(A, B));
    let error = test.write(A, test.insert(1, 1, 1, 1), Consistency::All).await;
    assert!(matches!(error, Err(RequestError::WriteTimeout { received: 2, block_for: 3, .. })), "{error:?}");
    // Without the one between them they lose sight of each other.
    test.links.cut(C, A);
    test.pass(15.0).await;
    assert!(!test.cluster.believes_alive(A, B));
    assert!(!test.cluster.believes_alive(A, C));
    assert!(test.cluster.believes_alive(C, A), "in one direction");
    test.links.restore(C, A);
    test.pass(15.0).await;
    assert!(test.cluster.believes_alive(A, C));
    assert!(!test.cluster.believes_alive(A, B), "there is no echo");
    test.links.restore(A, B);
    test.links.restore(B, A);
    test.cluster.settled().await;
    assert!(test.cluster.believes_alive(B, A));
}

#[tokio::test(start_paused = true)]
async fn replicas_that_refuse_are_counted_and_named() {
    let test = test_cluster(|_| {}).await;
    for node in [B, C] {
        test.cluster.misbehave(node, Misbehaviour { refuse_writes: true, ..Misbehaviour::default() });
    }
    let error = test.write(A, test.insert(1, 1, 1, 1), Consistency::Quorum).await.expect_err("refused");
    let RequestError::WriteFailure { received, block_for, failures, .. } = error else { panic!("{error:?}") };
    assert!(received <= 1 && block_for == 2);
    let named: Vec<String> = failures.keys().map(ToString::to_string).collect();
    assert_eq!(named, ["127.0.0.2", "127.0.0.3"]);
    assert!(failures.values().all(|reason| *reason == FailureReason::Unknown));
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_coordinator_says_so() {
    let test = test_cluster(|settings| settings.options.max_requests = 1).await;
    let node = test.on(A);
    let write = |c| node.write(vec![test.insert(1, c, 1, 1)], WriteMode::Single, Consistency::All);
    let (first, second) = tokio::join!(write(1), write(2));
    assert_eq!(first, Ok(Vec::new()));
    assert!(matches!(second, Err(RequestError::Overloaded(_))), "{second:?}");
    assert_eq!(test.write(A, test.insert(1, 2, 1, 1), Consistency::All).await, Ok(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_duplicated_acknowledgement_counts_once() {
    let test = test_cluster(|_| {}).await;
    test.lose(Verb::Write, C);
    test.links.rule(|envelope| {
        let delay = std::time::Duration::from_millis(1);
        (envelope.response_to == Some(Verb::Write)).then(|| vec![delay, delay, delay])
    });
    let error = test.write(A, test.insert(1, 1, 1, 1), Consistency::All).await;
    assert!(matches!(error, Err(RequestError::WriteTimeout { received: 2, block_for: 3, .. })), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replica_ignores_a_write_whose_coordinator_has_given_up() {
    let test = test_cluster(|_| {}).await;
    test.links.rule(|envelope| {
        (envelope.verb == Verb::Write && envelope.to == C).then(|| vec![std::time::Duration::from_secs(3)])
    });
    assert_eq!(test.write(A, test.insert(1, 1, 1, 1), Consistency::Quorum).await, Ok(Vec::new()));
    test.pass(10.0).await;
    assert_eq!(test.peek(C, 1), []);
}

#[tokio::test(start_paused = true)]
async fn two_writes_merge_cell_by_cell_into_a_row_that_nobody_wrote() {
    let test = test_cluster(|_| {}).await;
    for (v, w, v_at, w_at) in [(12, 90, 2, 1), (10, 100, 1, 2)] {
        test.write(A, test.set(1, 1, "v", v, v_at), Consistency::All).await.expect("written");
        test.write(A, test.set(1, 1, "w", w, w_at), Consistency::All).await.expect("written");
    }
    let result = test.on(B).read(test.select(1), Consistency::All).await.expect("read");
    assert_eq!((rows(&result, "v"), rows(&result, "w")), (vec![(1, Some(12))], vec![(1, Some(100))]));
}

#[tokio::test(start_paused = true)]
async fn without_a_clients_timestamp_a_fast_clock_shadows_later_writes() {
    let test = test_cluster(|_| {}).await;
    test.clocks[1].step(5_000_000);
    test.write(B, test.insert(1, 1, 1, test.on(B).timestamp()), Consistency::All).await.expect("written");
    test.pass(1.0).await;
    test.write(A, test.insert(1, 1, 2, test.on(A).timestamp()), Consistency::All)
        .await
        .expect("acknowledged");
    assert_eq!(test.read(C, 1, Consistency::All).await, Ok(vec![(1, Some(1))]));
}

#[tokio::test(start_paused = true)]
async fn a_nodes_timestamps_rise_even_when_its_clock_steps_back_or_stands_still() {
    let test = test_cluster(|_| {}).await;
    test.clocks[0].quantize(1_000_000);
    let first = test.on(A).timestamp();
    assert_eq!((first - START) % 1_000_000, 0);
    assert_eq!(test.on(A).timestamp(), first + 1);
    test.clocks[0].step(-60_000_000);
    assert_eq!(test.on(A).timestamp(), first + 2);
    test.cluster.apply(A, HostFault::Kill);
    test.start(A).await;
    assert!(test.on(A).timestamp() < first, "only a restart forgets");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_with_a_wall_clocks_timestamp_shadows_small_timestamps_until_it_is_purged() {
    let test = test_cluster(|settings| settings.table.gc_grace_seconds = 100).await;
    test.write(A, test.insert(1, 1, 1, 7), Consistency::All).await.expect("written");
    test.write(A, test.delete(1, 1, test.on(A).timestamp()), Consistency::All).await.expect("deleted");
    test.write(A, test.insert(1, 1, 2, 8), Consistency::All).await.expect("acknowledged");
    assert_eq!(test.read(A, 1, Consistency::All).await, Ok(vec![]));
    test.pass(110.0).await;
    for node in [A, B, C] {
        test.cluster.compact(node);
    }
    test.write(A, test.insert(1, 1, 3, 8), Consistency::All).await.expect("written");
    assert_eq!(test.read(A, 1, Consistency::All).await, Ok(vec![(1, Some(3))]));
}

#[tokio::test(start_paused = true)]
async fn an_expired_overwrite_leaves_nothing_rather_than_what_was_before() {
    let test = test_cluster(|_| {}).await;
    test.write(A, test.insert(1, 1, 1, 1), Consistency::All).await.expect("written");
    test.write(A, test.insert_ttl(1, 1, 2, 2, 10), Consistency::All).await.expect("written");
    assert_eq!(test.read(A, 1, Consistency::All).await, Ok(vec![(1, Some(2))]));
    test.pass(11.0).await;
    assert_eq!(test.read(A, 1, Consistency::All).await, Ok(vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_new_table_is_unknown_to_nodes_that_have_not_heard_of_it() {
    let test = test_cluster(|_| {}).await;
    for node in [B, C] {
        test.links.cut(A, node);
    }
    let new = std::sync::Arc::new(simulated_cassandra::schema::Table {
        id: simulated_cassandra::schema::TableId(3),
        name: "late".into(),
        ..(*test.table).clone()
    });
    test.on(A).change_schema(SchemaChange::PutTable(new.clone())).await.expect("changed here");
    assert!(test.on(A).schema().table("ks", "late").is_some());
    assert!(test.on(B).schema().table("ks", "late").is_none());
    assert_ne!(test.on(A).schema().version, test.on(B).schema().version);
    test.links.restore_all();
    let mut mutation = test.insert(1, 1, 1, 1);
    let update = mutation.updates.remove(&test.table.id).expect("its update");
    mutation.updates.insert(new.id, update);
    let error = test.write(A, mutation.clone(), Consistency::Quorum).await.expect_err("unknown to two");
    let RequestError::WriteFailure { failures, .. } = error else { panic!("{error:?}") };
    assert!(failures.values().all(|reason| *reason == FailureReason::IncompatibleSchema));
    // Gossip spreads the version, and the others request the schema.
    test.pass(3.0).await;
    assert_eq!(test.on(A).schema().version, test.on(B).schema().version);
    test.write(A, mutation, Consistency::All).await.expect("known to all");
    let read = ReadCommand::of_partition(new.id, test.key(1), test.on(A).now());
    assert_eq!(rows(&test.on(B).read(read, Consistency::All).await.expect("read"), "v"), [(1, Some(1))]);
}

#[tokio::test(start_paused = true)]
async fn quotas_of_data_centres_are_counted_apart() {
    let test = test_cluster(|settings| {
        settings.options.nodes[0].data_center = "dc2".to_owned();
        let factors = [("dc1".to_owned(), 2), ("dc2".to_owned(), 1)].into();
        settings.replication = Replication::NetworkTopology { factors };
    })
    .await;
    test.end_and_notice(C, HostFault::Kill).await;
    let write = |node, consistency| test.write(node, test.insert(1, 1, 1, 1), consistency);
    let unavailable =
        |consistency, required, alive| Err(RequestError::Unavailable { consistency, required, alive });
    // One of one in A's data centre, one of two in B's.
    assert_eq!(write(A, Consistency::LocalQuorum).await, Ok(Vec::new()));
    assert_eq!(write(B, Consistency::LocalQuorum).await, unavailable(Consistency::LocalQuorum, 2, 1));
    assert_eq!(write(B, Consistency::LocalOne).await, Ok(Vec::new()));
    assert_eq!(write(A, Consistency::EachQuorum).await, unavailable(Consistency::EachQuorum, 2, 0));
    assert_eq!(write(A, Consistency::Quorum).await, Ok(Vec::new()));
    let read = |node, consistency| test.read(node, 1, consistency);
    assert_eq!(read(A, Consistency::LocalQuorum).await, Ok(vec![(1, Some(1))]));
    assert!(matches!(
        read(B, Consistency::LocalQuorum).await,
        Err(RequestError::Unavailable { alive: 1, .. })
    ));
    assert!(matches!(
        read(A, Consistency::EachQuorum).await,
        Err(RequestError::Unavailable { required: 2, alive: 0, .. })
    ));
    test.start(C).await;
    assert_eq!(write(A, Consistency::EachQuorum).await, Ok(Vec::new()));
    test.end_and_notice(A, HostFault::Kill).await;
    // Two of three are alive, but none in one of the data centres.
    assert_eq!(write(B, Consistency::Quorum).await, Ok(Vec::new()));
    assert!(matches!(write(B, Consistency::EachQuorum).await, Err(RequestError::Unavailable { .. })));
    assert!(write(B, Consistency::LocalQuorum).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn timestamps_of_coordinators_are_whole_milliseconds_and_those_of_two_often_equal() {
    let test = test_cluster(|_| {}).await;
    test.clocks[0].step(345);
    test.clocks[1].step(678);
    let (a, b) = (test.on(A).timestamp(), test.on(B).timestamp());
    assert_eq!((a, a % 1000), (b, 0));
    for (node, v, timestamp) in [(A, 2, a), (B, 1, b)] {
        test.write(node, test.insert(1, 1, v, timestamp), Consistency::All).await.expect("written");
    }
    assert_eq!(test.read(C, 1, Consistency::All).await, Ok(vec![(1, Some(2))]), "the larger, not the later");
}

#[tokio::test(start_paused = true)]
async fn a_column_that_replicas_have_not_heard_of_fails_writes_of_it_and_all_reads() {
    let test = test_cluster(|_| {}).await;
    let old = test.insert(1, 1, 1, 1);
    test.write(A, old.clone(), Consistency::All).await.expect("written");
    for node in [B, C] {
        test.links.cut(A, node);
    }
    let mut table = (*test.table).clone();
    let column = Column { name: "x".into(), ..table.columns["v"].clone() };
    table.columns.insert("x".into(), column);
    test.on(A).change_schema(SchemaChange::PutTable(table.into())).await.expect("changed here");
    test.links.restore_all();
    let new = test.set(1, 1, "x", 1, 1);
    let error = test.write(A, new.clone(), Consistency::Quorum).await.expect_err("unknown to two");
    assert!(matches!(error, RequestError::WriteFailure { received: 1, .. }), "{error:?}");
    let error = test.read(A, 1, Consistency::Quorum).await.expect_err("unknown to two");
    assert!(matches!(error, RequestError::ReadFailure { .. }), "{error:?}");
    test.write(A, old, Consistency::All).await.expect("of known columns");
    assert_eq!(test.read(B, 1, Consistency::All).await, Ok(vec![(1, Some(1))]));
    test.pass(3.0).await;
    test.write(A, new, Consistency::All).await.expect("known to all");
    assert_eq!(test.read(A, 1, Consistency::All).await, Ok(vec![(1, Some(1))]));
}

#[tokio::test(start_paused = true)]
async fn at_any_what_nobody_has_and_nobody_hints_is_acknowledged() {
    let test = test_cluster(|_| {}).await;
    for node in [B, C] {
        test.lose(Verb::Write, node);
    }
    test.cluster.misbehave(A, Misbehaviour { refuse_writes: true, ..Misbehaviour::default() });
    assert_eq!(test.write(A, test.insert(1, 1, 1, 1), Consistency::Any).await, Ok(Vec::new()));
    test.pass(60.0).await;
    assert!([A, B, C].into_iter().all(|node| test.peek(node, 1).is_empty()));
}
