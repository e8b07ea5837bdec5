//! Reads at all consistency levels, and read repair.

use std::time::Duration;

use simulated_cassandra::cluster::{HostFault, Misbehaviour, Verb};
use simulated_cassandra::coordinator::{Consistency, Coordinator, RequestError};
use simulated_cassandra::schema::SpeculativeRetry;
use simulated_cassandra::storage::{PartitionRange, ReadCommand, Resume, Token};

use crate::harness::{A, B, C, Settings, TestCluster, no_read_repair, rows, test_cluster};

/// Writes rows that only A gets.
async fn only_on_a(test: &TestCluster, p: i32, rows: impl IntoIterator<Item = i32>) {
    let lost = [test.lose(Verb::Write, B), test.lose(Verb::Write, C)];
    for c in rows {
        test.write(A, test.insert(p, c, c, 1), Consistency::One).await.expect("written on A");
    }
    test.pass(3.0).await;
    for rule in lost {
        test.links.remove(rule);
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_repair_writes_back_only_what_the_read_covered_after_its_limit() {
    let test = test_cluster(|_| {}).await;
    only_on_a(&test, 1, 10..20).await;
    let last = ReadCommand { reversed: true, limit: 1, ..test.select(1) };
    let found = test.on(A).read(last, Consistency::Quorum).await.expect("read");
    assert_eq!(rows(&found, "v"), [(19, Some(19))]);
    test.end_and_notice(A, HostFault::Kill).await;
    assert_eq!(
        test.read(B, 1, Consistency::Quorum).await,
        Ok(vec![(19, Some(19))]),
        "10 to 18 are gone, silently"
    );
}

#[tokio::test(start_paused = true)]
async fn a_read_at_one_compares_nothing_and_repairs_nothing() {
    let test = test_cluster(|_| {}).await;
    only_on_a(&test, 1, [1]).await;
    assert_eq!(test.read(B, 1, Consistency::One).await, Ok(vec![]));
    assert_eq!(test.read(A, 1, Consistency::One).await, Ok(vec![(1, Some(1))]));
    test.pass(5.0).await;
    assert_eq!((test.peek(B, 1), test.peek(C, 1)), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_digest_that_differs_is_followed_by_rows_from_all_and_a_repair() {
    let test = test_cluster(|_| {}).await;
    only_on_a(&test, 1, [1]).await;
    let seen = test.watch();
    assert_eq!(test.read(A, 1, Consistency::Quorum).await, Ok(vec![(1, Some(1))]));
    let verbs: Vec<Verb> = seen
        .lock()
        .expect("not poisoned")
        .iter()
        .filter(|seen| seen.from == A)
        .map(|seen| seen.verb)
        .collect();
    assert_eq!(verbs, [Verb::ReadDigest, Verb::Read, Verb::ReadRepair]);
    // The one that was asked has it now, the other does not.
    assert_eq!(test.peek(B, 1).len() + test.peek(C, 1).len(), 1);
    seen.lock().expect("not poisoned").clear();
    assert_eq!(test.read(A, 1, Consistency::All).await, Ok(vec![(1, Some(1))]));
    assert_eq!((test.peek(B, 1), test.peek(C, 1)), (vec![(1, 1)], vec![(1, 1)]));
}

#[tokio::test(start_paused = true)]
async fn without_read_repair_reads_at_quorum_go_back_in_time() {
    let test = test_cluster(no_read_repair).await;
    only_on_a(&test, 1, [1]).await;
    assert_eq!(test.read(A, 1, Consistency::Quorum).await, Ok(vec![(1, Some(1))]));
    test.end_and_notice(A, HostFault::Kill).await;
    assert_eq!(test.read(B, 1, Consistency::Quorum).await, Ok(vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_read_may_time_out_after_all_responses_while_it_waits_for_its_repair_and_have_changed_replicas() {
    let test = test_cluster(|_| {}).await;
    only_on_a(&test, 1, [1]).await;
    test.lose_responses(Verb::ReadRepair, B);
    test.lose_responses(Verb::ReadRepair, C);
    let error = test.read(A, 1, Consistency::Quorum).await.expect_err("no acknowledgement of the repair");
    let RequestError::ReadTimeout { received, block_for, data_present, .. } = error else {
        panic!("{error:?}")
    };
    // One of the two that are needed has the row.
    assert_eq!((received, block_for, data_present), (1, 2, true));
    assert!(!test.peek(B, 1).is_empty() || !test.peek(C, 1).is_empty());
}

#[tokio::test(start_paused = true)]
async fn too_few_responses_are_counted_and_rows_among_them_distinguished_from_digests() {
    let test = test_cluster(|_| {}).await;
    for node in [B, C] {
        test.lose(Verb::ReadDigest, node);
    }
    let error = test.read(A, 1, Consistency::Quorum).await;
    let timeout = |received, data_present| {
        let consistency = Consistency::Quorum;
        Err(RequestError::ReadTimeout { consistency, received, block_for: 2, data_present })
    };
    assert_eq!(error, timeout(1, true));
    test.links.restore_all();
    test.cluster.misbehave(A, Misbehaviour { refuse_reads: true, ..Misbehaviour::default() });
    let error = test.read(A, 1, Consistency::Quorum).await.expect_err("refused");
    let RequestError::ReadFailure { failures, .. } = error else { panic!("{error:?}") };
    assert_eq!(failures.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_replica_is_passed_by_when_speculation_is_on() {
    let slow = |retry| {
        move |settings: &mut Settings| {
            settings.table.speculative_retry = retry;
        }
    };
    for (retry, succeeds) in [
        (SpeculativeRetry::Never, false),
        (SpeculativeRetry::After(50_000), true),
        (SpeculativeRetry::Percentile99, true),
        (SpeculativeRetry::Always, true),
    ] {
        let test = test_cluster(slow(retry)).await;
        test.write(A, test.insert(1, 1, 1, 1), Consistency::All).await.expect("written");
        // Whichever of the two others is asked first stays silent.
        let mut silent = None;
        test.links.rule(move |envelope| {
            let read = matches!(envelope.verb, Verb::Read | Verb::ReadDigest);
            (read && *silent.get_or_insert(envelope.to) == envelope.to).then(Vec::new)
        });
        let found = test.read(A, 1, Consistency::Quorum).await;
        assert_eq!(found.is_ok(), succeeds, "{retry:?}: {found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn pages_are_no_snapshot() {
    let test = test_cluster(|_| {}).await;
    for c in [1, 3] {
        test.write(A, test.insert(1, c, c, 1), Consistency::All).await.expect("written");
    }
    let first = ReadCommand { limit: 1, ..test.select(1) };
    let page = test.on(A).read(first.clone(), Consistency::Quorum).await.expect("a page");
    assert!(page.limited);
    assert_eq!(rows(&page, "v"), [(1, Some(1))]);
    test.write(A, test.insert(1, 2, 2, 1), Consistency::All).await.expect("written");
    let row = page.partitions[0].rows[0].0.clone();
    let resume = Some(Resume { key: test.key(1), row: Some(row), remaining_in_partition: u32::MAX });
    let page = test.on(B).read(ReadCommand { resume, ..first }, Consistency::Quorum).await.expect("a page");
    assert_eq!(rows(&page, "v"), [(2, Some(2))]);
}

#[tokio::test(start_paused = true)]
async fn a_read_of_all_partitions_goes_range_by_range_and_keeps_its_limit() {
    let test = test_cluster(|settings| {
        settings.replication = simulated_cassandra::schema::Replication::Simple { factor: 1 };
    })
    .await;
    for p in 0..20 {
        test.write(A, test.insert(p, 1, p, 1), Consistency::One).await.expect("written");
    }
    let whole = ReadCommand::of_table(test.table.id, test.on(A).now());
    let found = test.on(B).read(whole.clone(), Consistency::One).await.expect("read");
    let tokens: Vec<Token> = found.partitions.iter().map(|partition| partition.key.token()).collect();
    assert!(tokens.is_sorted());
    assert_eq!(tokens.len(), 20);
    assert!(!found.limited);
    let mut command = ReadCommand { limit: 3, ..whole.clone() };
    let mut paged = Vec::new();
    loop {
        let page = test.on(C).read(command.clone(), Consistency::One).await.expect("a page");
        assert!(page.partitions.len() <= 3);
        paged.extend(page.partitions.iter().map(|partition| partition.key.token()));
        let Some(last) = page.partitions.last().filter(|_| page.limited) else { break };
        let row = last.rows.last().map(|(position, _)| position.clone());
        command.resume = Some(Resume { key: last.key.clone(), row, remaining_in_partition: u32::MAX });
    }
    assert_eq!(paged, tokens);
    let half = ReadCommand {
        partitions: PartitionRange::Tokens { after: Token(0), up_to: Token(i64::MAX) },
        ..whole
    };
    let found = test.on(A).read(half, Consistency::One).await.expect("read");
    assert_eq!(found.partitions.len(), tokens.iter().filter(|token| token.0 > 0).count());
}

#[tokio::test(start_paused = true)]
async fn a_read_over_too_many_tombstones_fails() {
    let test = test_cluster(|settings| settings.options.tombstone_failure_threshold = 5).await;
    for c in 0..6 {
        test.write(A, test.delete(1, c, 1), Consistency::All).await.expect("deleted");
    }
    let error = test.read(A, 1, Consistency::Quorum).await;
    assert!(matches!(error, Err(RequestError::ReadFailure { .. })), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replicas_late_response_to_an_earlier_read_is_ignored() {
    let test = test_cluster(|_| {}).await;
    test.write(A, test.insert(1, 1, 1, 1), Consistency::All).await.expect("written");
    test.links.rule(|envelope| {
        (envelope.response_to == Some(Verb::ReadDigest))
            .then(|| vec![Duration::from_secs(6), Duration::from_secs(7)])
    });
    test.read(A, 1, Consistency::Quorum).await.expect_err("too late");
    test.links.restore_all();
    test.write(A, test.insert(1, 1, 2, 2), Consistency::All).await.expect("written");
    test.pass(10.0).await;
    assert_eq!(test.read(A, 1, Consistency::Quorum).await, Ok(vec![(1, Some(2))]));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_among_silences_makes_a_read_fail_rather_than_time_out() {
    let test = test_cluster(|settings| settings.table.speculative_retry = SpeculativeRetry::Always).await;
    test.cluster.misbehave(A, Misbehaviour { refuse_reads: true, ..Misbehaviour::default() });
    for verb in [Verb::Read, Verb::ReadDigest] {
        test.lose(verb, C);
    }
    let error = test.read(A, 1, Consistency::Quorum).await.expect_err("one of two");
    assert!(matches!(error, RequestError::ReadFailure { received: 1, block_for: 2, .. }), "{error:?}");
}
