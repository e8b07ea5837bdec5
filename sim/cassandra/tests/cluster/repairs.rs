//! Anti-entropy repair.

use std::time::Duration;

use simulated_cassandra::cluster::{CommitLogSync, HostFault, Recovery, RepairError, Verb};
use simulated_cassandra::coordinator::{Consistency, Coordinator, RequestError};

use crate::harness::{A, B, C, Settings, test_cluster};

fn periodic(settings: &mut Settings) {
    settings.options.commit_log_sync = CommitLogSync::Periodic(Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn with_periodic_syncs_a_power_loss_makes_a_quorum_miss_an_acknowledged_write() {
    let syncs = [
        (CommitLogSync::Periodic(Duration::from_secs(10)), HostFault::PowerLoss, vec![]),
        (CommitLogSync::Periodic(Duration::from_secs(10)), HostFault::Kill, vec![(1, Some(1))]),
        (CommitLogSync::Batch(Duration::from_millis(2)), HostFault::PowerLoss, vec![(1, Some(1))]),
        (CommitLogSync::Group(Duration::from_millis(15)), HostFault::PowerLoss, vec![(1, Some(1))]),
    ];
    for (sync, fault, found) in syncs {
        let test = test_cluster(|settings| settings.options.commit_log_sync = sync).await;
        test.pass(8.0).await;
        test.lose(Verb::Write, C);
        test.write(A, test.insert(1, 1, 1, 1), Consistency::Quorum).await.expect("acknowledged by A and B");
        test.cluster.apply(B, fault);
        test.start(B).await;
        test.end_and_notice(A, HostFault::Kill).await;
        assert_eq!(test.read(C, 1, Consistency::Quorum).await, Ok(found), "{sync:?}, {fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_synced_write_waits_for_its_sync() {
    let test = test_cluster(|settings| {
        settings.options.commit_log_sync = CommitLogSync::Group(Duration::from_secs(1))
    })
    .await;
    let began = tokio::time::Instant::now();
    test.write(A, test.insert(1, 1, 1, 1), Consistency::All).await.expect("written");
    let took = began.elapsed();
    assert!(took > Duration::from_millis(10) && took < Duration::from_millis(1100), "{took:?}");
    assert_eq!(test.cluster.disk(B).expect("a disk").unsynced(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_on_an_empty_disk_serves_holes_unless_it_gets_its_data_first() {
    for (how, found) in [("start", vec![]), ("replace", vec![(1, Some(1))]), ("repair", vec![(1, Some(1))])] {
        let test = test_cluster(periodic).await;
        test.lose(Verb::Write, C);
        test.write(A, test.insert(1, 1, 1, 1), Consistency::Quorum).await.expect("on A and B");
        test.links.restore_all();
        test.end_and_notice(B, HostFault::Kill).await;
        test.cluster.disk(B).expect("a disk").wipe();
        if how == "replace" {
            test.cluster.replace(B);
        } else {
            test.cluster.recover(B, Recovery::Start);
        }
        test.cluster.settled().await;
        test.pass(5.0).await;
        assert_eq!(test.on(B).schema().version, test.on(A).schema().version);
        if how == "repair" {
            test.cluster.repair(C, "ks").await.expect("repaired");
        }
        // A replaced node may have streamed from C, which missed the write, too: Cassandra takes one replica.
        if how == "replace" && test.peek(B, 1).is_empty() {
            continue;
        }
        test.end_and_notice(A, HostFault::Kill).await;
        assert_eq!(test.read(C, 1, Consistency::Quorum).await, Ok(found), "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_joins_refuses_reads_and_takes_writes() {
    let test = test_cluster(|_| {}).await;
    for p in 0..10 {
        test.write(A, test.insert(p, 1, p, 1), Consistency::All).await.expect("written");
    }
    test.end_and_notice(B, HostFault::Kill).await;
    test.cluster.disk(B).expect("a disk").wipe();
    let rule = test.lose(Verb::RepairRead, A);
    let other = test.lose(Verb::RepairRead, C);
    test.cluster.replace(B);
    // Long enough for every attempt to get its data to have timed out.
    test.pass(600.0).await;
    assert_eq!(test.read(B, 1, Consistency::One).await, Err(RequestError::IsBootstrapping));
    // It is one more node to wait for, and not one to read from.
    test.write(A, test.insert(1, 2, 2, 1), Consistency::Quorum).await.expect("written");
    assert_eq!(test.peek(B, 1), [(2, 2)]);
    let lost = test.lose(Verb::Write, C);
    let error = test.write(A, test.insert(1, 2, 2, 1), Consistency::Quorum).await;
    assert!(matches!(error, Err(RequestError::WriteTimeout { received: 2, block_for: 3, .. })), "{error:?}");
    test.links.remove(lost);
    let error = test.read(A, 1, Consistency::All).await;
    assert!(matches!(error, Err(RequestError::Unavailable { required: 3, alive: 2, .. })), "{error:?}");
    test.links.remove(rule);
    test.links.remove(other);
    test.cluster.settled().await;
    test.cluster.apply(B, HostFault::PowerLoss);
    test.start(B).await;
    // What was streamed was on the disk at once.
    assert_eq!(test.peek(B, 1), [(1, 1), (2, 2)]);
    assert_eq!(test.read(B, 3, Consistency::One).await, Ok(vec![(1, Some(3))]));
}

#[tokio::test(start_paused = true)]
async fn an_anti_entropy_repair_makes_replicas_equal_tombstones_and_all() {
    let test = test_cluster(|_| {}).await;
    test.write(A, test.insert(1, 1, 1, 1), Consistency::All).await.expect("written");
    let lost = [test.lose(Verb::Write, B), test.lose(Verb::Write, C)];
    test.write(A, test.delete(1, 1, 2), Consistency::One).await.expect("deleted on A");
    test.write(A, test.insert(1, 2, 2, 2), Consistency::One).await.expect("written on A");
    test.pass(3.0).await;
    for rule in lost {
        test.links.remove(rule);
    }
    test.cluster.repair(B, "ks").await.expect("repaired");
    let on = |node| test.cluster.peek(node, test.table.id, &test.key(1));
    assert_eq!(on(A), on(B));
    assert_eq!(on(A), on(C));
    assert_eq!(test.peek(C, 1), [(2, 2)]);
    test.end_and_notice(A, HostFault::Kill).await;
    assert_eq!(test.cluster.repair(B, "ks").await, Err(RepairError::NoResponse(A)));
    assert!(matches!(test.cluster.repair(B, "no").await, Err(RepairError::UnknownKeyspace(_))));
    assert_eq!(test.cluster.repair(A, "ks").await, Err(RepairError::NotRunning));
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_purged_before_a_repair_lets_the_deleted_row_return() {
    let test = test_cluster(|settings| settings.table.gc_grace_seconds = 50).await;
    test.write(A, test.insert(1, 1, 1, 1), Consistency::All).await.expect("written");
    let lost = test.lose(Verb::Write, C);
    test.write(A, test.delete(1, 1, 2), Consistency::Quorum).await.expect("deleted on A and B");
    test.pass(3.0).await;
    test.links.remove(lost);
    assert_eq!(test.read(A, 1, Consistency::One).await, Ok(vec![]));
    test.pass(100.0).await;
    for node in [A, B, C] {
        test.cluster.compact(node);
    }
    test.cluster.repair(A, "ks").await.expect("repaired");
    assert_eq!(test.read(A, 1, Consistency::One).await, Ok(vec![(1, Some(1))]), "it is back");
}
