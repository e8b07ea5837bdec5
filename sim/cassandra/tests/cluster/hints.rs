//! Hinted handoff.

use simulated_cassandra::cluster::{HostFault, Recovery, Verb};
use simulated_cassandra::coordinator::{Consistency, Coordinator};

use crate::harness::{A, B, C, START, TestCluster, test_cluster, with_hints};

#[tokio::test(start_paused = true)]
async fn a_replica_that_missed_a_write_gets_it_late_and_with_its_original_timestamp() {
    let test = test_cluster(with_hints).await;
    test.end_and_notice(C, HostFault::Kill).await;
    test.write(A, test.insert(1, 1, 1, START), Consistency::Quorum).await.expect("written");
    test.pass(600.0).await;
    test.start(C).await;
    assert_eq!(test.peek(C, 1), []);
    test.pass(30.0).await;
    assert_eq!(test.peek(C, 1), [(1, 1)]);
    let partition = test.cluster.peek(C, test.table.id, &test.key(1)).expect("delivered");
    let row = partition.rows.values().next().expect("a row");
    assert_eq!(row.cells["v"].timestamp, START);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_failed_appears_minutes_later() {
    let test = test_cluster(with_hints).await;
    let lost = [test.lose(Verb::Write, B), test.lose(Verb::Write, C)];
    test.write(A, test.insert(1, 1, 1, 1), Consistency::All).await.expect_err("timed out");
    for rule in lost {
        test.links.remove(rule);
    }
    assert_eq!((test.peek(B, 1), test.peek(C, 1)), (vec![], vec![]));
    test.pass(60.0).await;
    assert_eq!((test.peek(B, 1), test.peek(C, 1)), (vec![(1, 1)], vec![(1, 1)]));
}

#[tokio::test(start_paused = true)]
async fn hints_die_with_a_coordinator_that_had_not_flushed_them() {
    for (wait, delivered) in [(1.0, vec![]), (15.0, vec![(1, 1)])] {
        let test = test_cluster(with_hints).await;
        test.end_and_notice(C, HostFault::Kill).await;
        test.write(A, test.insert(1, 1, 1, 1), Consistency::Quorum).await.expect("written");
        // Nodes flush 20 s after their start next, and it takes some 12 s to get here.
        assert_eq!(test.cluster.disk(A).expect("a disk").hints(), 0);
        test.pass(wait).await;
        test.cluster.apply(A, HostFault::Kill);
        test.cluster.recover(C, Recovery::Start);
        test.start(A).await;
        test.pass(60.0).await;
        assert_eq!(test.peek(C, 1), delivered);
    }
}

/// C is down, and A has a hint of (1, 1) for it.
async fn with_a_hint_in_a_window_of_100_s() -> TestCluster {
    let test = test_cluster(|settings| {
        with_hints(settings);
        settings.options.hints.window = std::time::Duration::from_secs(100);
    })
    .await;
    test.end_and_notice(C, HostFault::Kill).await;
    test.write(A, test.insert(1, 1, 1, 1), Consistency::Quorum).await.expect("written");
    test
}

#[tokio::test(start_paused = true)]
async fn no_hints_are_kept_for_a_node_that_has_been_down_for_longer_than_the_window() {
    let test = with_a_hint_in_a_window_of_100_s().await;
    test.pass(120.0).await;
    test.write(A, test.insert(1, 2, 2, 1), Consistency::Quorum).await.expect("written");
    test.start(C).await;
    test.pass(60.0).await;
    assert_eq!(test.peek(C, 1), [(1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn at_any_a_hint_is_enough() {
    let test = test_cluster(with_hints).await;
    test.lose(Verb::Write, B);
    test.lose(Verb::Write, C);
    test.end_and_notice(C, HostFault::Kill).await;
    // RF 3 and A itself a replica: ANY is met by it, so drop A's own write, too.
    test.cluster.misbehave(
        A,
        simulated_cassandra::cluster::Misbehaviour { refuse_writes: true, ..Default::default() },
    );
    test.write(A, test.insert(1, 1, 1, 1), Consistency::One).await.expect_err("no replica has it");
    assert_eq!(test.write(A, test.insert(1, 2, 2, 1), Consistency::Any).await, Ok(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_hint_older_than_gc_grace_is_dropped() {
    for (gc_grace_seconds, delivered) in [(60, vec![]), (600, vec![(1, 1)])] {
        let test = test_cluster(|settings| {
            with_hints(settings);
            settings.table.gc_grace_seconds = gc_grace_seconds;
        })
        .await;
        test.end_and_notice(C, HostFault::Kill).await;
        test.write(A, test.insert(1, 1, 1, 1), Consistency::Quorum).await.expect("written");
        test.pass(100.0).await;
        test.start(C).await;
        test.pass(30.0).await;
        assert_eq!(test.peek(C, 1), delivered);
        assert_eq!(test.cluster.disk(A).expect("a disk").hints(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_from_before_a_truncate_is_not_applied() {
    let test = test_cluster(with_hints).await;
    let lost = test.lose(Verb::Write, C);
    test.write(A, test.insert(1, 1, 1, START), Consistency::Quorum).await.expect("written");
    test.pass(3.0).await;
    test.links.remove(lost);
    test.on(A).truncate(test.table.id).await.expect("truncated");
    let lost = test.lose(Verb::Write, C);
    test.write(A, test.insert(1, 2, 2, START), Consistency::Quorum).await.expect("written");
    test.links.remove(lost);
    test.pass(60.0).await;
    assert_eq!(test.peek(C, 1), [(2, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_coordinator_keeps_no_hints_beside_one_that_is_older_than_the_window() {
    let test = with_a_hint_in_a_window_of_100_s().await;
    test.pass(80.0).await;
    test.cluster.apply(A, HostFault::Stop);
    test.start(A).await;
    test.pass(40.0).await;
    // For A, which has just been started, C has not been down for long.
    test.write(A, test.insert(1, 2, 2, 1), Consistency::Quorum).await.expect("written");
    test.start(C).await;
    test.pass(60.0).await;
    assert_eq!(test.peek(C, 1), [(1, 1)]);
}

#[tokio::test(start_paused = true)]
async fn hints_for_a_node_are_not_for_its_successor_on_an_empty_disk() {
    let test = test_cluster(with_hints).await;
    test.end_and_notice(C, HostFault::Kill).await;
    test.write(A, test.insert(1, 1, 1, 1), Consistency::Quorum).await.expect("written");
    test.pass(20.0).await;
    assert_eq!(test.cluster.disk(A).expect("a disk").hints(), 1);
    test.cluster.disk(C).expect("a disk").wipe();
    test.start(C).await;
    test.pass(60.0).await;
    assert_eq!(test.peek(C, 1), []);
    assert_eq!(test.cluster.disk(A).expect("a disk").hints(), 0);
}
