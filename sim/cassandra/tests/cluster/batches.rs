//! Batches: atomic with a batch log, and what remains of them without one.

use simulated_cassandra::cluster::{HostFault, Misbehaviour, Verb};
use simulated_cassandra::coordinator::{Consistency, Coordinator, RequestError, WriteMode, WriteType};
use simulated_cassandra::schema::Replication;

use crate::harness::{A, B, C, test_cluster, with_hints};

#[tokio::test(start_paused = true)]
async fn a_batch_of_one_partition_in_two_tables_is_one_message_to_each_replica() {
    let test = test_cluster(|_| {}).await;
    let seen = test.watch();
    let batch =
        vec![test.insert(1, 1, 1, 1), test.in_other(test.insert(1, 1, 1, 1)), test.insert(1, 2, 2, 1)];
    test.on(A).write(batch, WriteMode::LoggedBatch, Consistency::All).await.expect("written");
    let verbs: Vec<Verb> = seen
        .lock()
        .expect("not poisoned")
        .iter()
        .filter(|seen| seen.from == A)
        .map(|seen| seen.verb)
        .collect();
    assert_eq!(verbs, [Verb::Write, Verb::Write]);
    assert_eq!(test.peek(B, 1), [(1, 1), (2, 2)]);
    assert!(test.cluster.peek(B, test.other.id, &test.key(1)).is_some());
}

#[tokio::test(start_paused = true)]
async fn an_unlogged_batch_of_several_partitions_may_be_unavailable_after_a_part_was_written() {
    let test = test_cluster(|settings| settings.replication = Replication::Simple { factor: 1 }).await;
    let (on_a, on_c) = (test.owned_by(A), test.owned_by(C));
    test.end_and_notice(C, HostFault::Kill).await;
    let batch = vec![test.insert(on_a, 1, 1, 1), test.insert(on_c, 1, 1, 1)];
    let unlogged = test.on(A).write(batch.clone(), WriteMode::UnloggedBatch, Consistency::One).await;
    let consistency = Consistency::One;
    assert_eq!(unlogged, Err(RequestError::Unavailable { consistency, required: 1, alive: 0 }));
    test.pass(1.0).await;
    assert_eq!(test.peek(A, on_a), [(1, 1)]);
    // A logged one looks at all before it sends any.
    let (on_b, on_c) = (test.owned_by(B), on_c);
    let batch = vec![test.insert(on_b, 1, 1, 1), test.insert(on_c, 1, 1, 1)];
    let logged = test.on(A).write(batch, WriteMode::LoggedBatch, Consistency::One).await;
    assert_eq!(logged, Err(RequestError::Unavailable { consistency, required: 1, alive: 0 }));
    test.pass(30.0).await;
    assert_eq!(test.peek(B, on_b), []);
}

#[tokio::test(start_paused = true)]
async fn a_logged_batch_whose_coordinator_died_half_way_is_completed_by_another_node() {
    for (mode, completed) in [(WriteMode::LoggedBatch, true), (WriteMode::UnloggedBatch, false)] {
        let test = test_cluster(|settings| settings.replication = Replication::Simple { factor: 1 }).await;
        let (on_b, on_c) = (test.owned_by(B), test.owned_by(C));
        let batch = vec![test.insert(on_b, 1, 1, 1), test.insert(on_c, 1, 1, 1)];
        // The second message of the batch itself is never sent: the coordinator dies before.
        test.lose(Verb::Write, C);
        let error = test.on(A).write(batch, mode, Consistency::One).await.expect_err("timed out");
        let RequestError::WriteTimeout { write_type, .. } = error else { panic!("{error:?}") };
        assert_eq!(write_type, if completed { WriteType::Batch } else { WriteType::UnloggedBatch });
        test.cluster.apply(A, HostFault::Kill);
        test.links.restore_all();
        assert_eq!((test.peek(B, on_b), test.peek(C, on_c)), (vec![(1, 1)], vec![]));
        test.pass(60.0).await;
        assert_eq!(!test.peek(C, on_c).is_empty(), completed, "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_log_that_is_not_acknowledged_has_its_own_write_type() {
    let test = test_cluster(|_| {}).await;
    for node in [B, C] {
        test.lose(Verb::StoreBatch, node);
    }
    let batch = vec![test.insert(1, 1, 1, 1), test.insert(2, 1, 1, 1)];
    let error =
        test.on(A).write(batch, WriteMode::LoggedBatch, Consistency::Quorum).await.expect_err("timed out");
    assert!(
        matches!(error, RequestError::WriteTimeout { write_type: WriteType::BatchLog, received: 0, .. }),
        "{error:?}"
    );
    assert_eq!(test.peek(A, 1), [], "nothing is sent before the log is written");
}

#[tokio::test(start_paused = true)]
async fn size_limits_are_for_batches_of_more_than_one_mutation() {
    let test = test_cluster(|settings| settings.options.max_mutation_size = 200_000).await;
    // Each row takes some 20 bytes.
    let rows = |p: i32, count: i32| (0..count).map(move |c| (p, c)).collect::<Vec<_>>();
    let batch =
        |rows: Vec<(i32, i32)>| rows.into_iter().map(|(p, c)| test.insert(p, c, c, 1)).collect::<Vec<_>>();
    let write = |rows| {
        let batch = batch(rows);
        let node = test.on(A);
        async move { node.write(batch, WriteMode::UnloggedBatch, Consistency::Quorum).await }
    };
    assert_eq!(write(rows(1, 5000)).await, Ok(Vec::new()), "one partition of one table is exempt");
    let two = [rows(1, 2500), rows(2, 2500)].concat();
    assert_eq!(write(two).await, Err(RequestError::Invalid("Batch too large".to_owned())));
    let warned = write([rows(1, 200), rows(2, 200)].concat()).await.expect("written");
    assert!(warned.len() == 1 && warned[0].starts_with("Batch for [ks.t] is of size "), "{warned:?}");
    let oversized = write(rows(1, 20_000)).await;
    assert!(matches!(oversized, Err(RequestError::Invalid(_))), "{oversized:?}");
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_with_too_many_hints_calls_itself_overloaded_after_a_part_was_written() {
    for mode in [WriteMode::UnloggedBatch, WriteMode::LoggedBatch] {
        let mut partly = 0;
        for seed in 0..8 {
            let test = test_cluster(|settings| {
                with_hints(settings);
                settings.seed = seed;
                settings.replication = Replication::Simple { factor: 2 };
            })
            .await;
            let is_on_c = |p: &i32| test.cluster.replicas("ks", &test.key(*p)).contains(&C);
            let without = (0..).find(|p| !is_on_c(p)).expect("some key");
            let with = (0..).find(is_on_c).expect("some key");
            test.end_and_notice(C, HostFault::Kill).await;
            let overloaded = Misbehaviour { overloaded_by_hints: true, ..Misbehaviour::default() };
            test.cluster.misbehave(A, overloaded);
            let batch = vec![test.insert(without, 1, 1, 1), test.insert(with, 1, 1, 1)];
            let error = test.on(A).write(batch, mode, Consistency::One).await;
            assert!(matches!(error, Err(RequestError::Overloaded(_))), "{error:?}");
            test.pass(60.0).await;
            let found = |p| !test.peek(A, p).is_empty() || !test.peek(B, p).is_empty();
            partly += usize::from(found(without));
            assert_eq!(found(with), mode == WriteMode::LoggedBatch, "from the batch log");
        }
        assert!(partly > 0, "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_logged_batch_of_a_table_without_grace_is_never_replayed() {
    for (gc_grace_seconds, replayed) in [(0, false), (600, true)] {
        let test = test_cluster(|settings| {
            settings.replication = Replication::Simple { factor: 1 };
            settings.table.gc_grace_seconds = gc_grace_seconds;
        })
        .await;
        let (on_b, on_c) = (test.owned_by(B), test.owned_by(C));
        let lost = test.lose(Verb::Write, C);
        let timestamp = test.on(A).timestamp();
        let batch = vec![test.insert(on_b, 1, 1, timestamp), test.insert(on_c, 1, 1, timestamp)];
        test.on(A).write(batch, WriteMode::LoggedBatch, Consistency::One).await.expect_err("timed out");
        test.links.remove(lost);
        test.pass(60.0).await;
        assert_eq!(!test.peek(C, on_c).is_empty(), replayed);
    }
}
