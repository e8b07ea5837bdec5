//! Anti-entropy repair.

use std::time::Duration;

use simulated_cassandra::cluster::{CommitLogSync, Ending, RepairError, Verb};
use simulated_cassandra::coordinator::{Consistency, Coordinator, RequestError};

use crate::world::{A, B, C, Settings, world};

fn periodic(settings: &mut Settings) {
    settings.options.commit_log_sync = CommitLogSync::Periodic(Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn with_periodic_syncs_a_power_loss_makes_a_quorum_miss_an_acknowledged_write() {
    let syncs = [
        (CommitLogSync::Periodic(Duration::from_secs(10)), Ending::PowerLoss, vec![]),
        (CommitLogSync::Periodic(Duration::from_secs(10)), Ending::Kill, vec![(1, Some(1))]),
        (CommitLogSync::Batch(Duration::from_millis(2)), Ending::PowerLoss, vec![(1, Some(1))]),
        (CommitLogSync::Group(Duration::from_millis(15)), Ending::PowerLoss, vec![(1, Some(1))]),
    ];
    for (sync, ending, found) in syncs {
        let world = world(|settings| settings.options.commit_log_sync = sync).await;
        world.pass(8.0).await;
        world.lose(Verb::Write, C);
        world.write(A, world.insert(1, 1, 1, 1), Consistency::Quorum).await.expect("acknowledged by A and B");
        world.cluster.end(B, ending);
        world.start(B).await;
        world.end_and_notice(A, Ending::Kill).await;
        assert_eq!(world.read(C, 1, Consistency::Quorum).await, Ok(found), "{sync:?}, {ending:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_synced_write_waits_for_its_sync() {
    let world =
        world(|settings| settings.options.commit_log_sync = CommitLogSync::Group(Duration::from_secs(1)))
            .await;
    let began = tokio::time::Instant::now();
    world.write(A, world.insert(1, 1, 1, 1), Consistency::All).await.expect("written");
    let took = began.elapsed();
    assert!(took > Duration::from_millis(10) && took < Duration::from_millis(1100), "{took:?}");
    assert_eq!(world.cluster.disk(B).expect("a disk").unsynced(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_on_an_empty_disk_serves_holes_unless_it_gets_its_data_first() {
    for (how, found) in [("start", vec![]), ("replace", vec![(1, Some(1))]), ("repair", vec![(1, Some(1))])] {
        let world = world(periodic).await;
        world.lose(Verb::Write, C);
        world.write(A, world.insert(1, 1, 1, 1), Consistency::Quorum).await.expect("on A and B");
        world.links.restore_all();
        world.end_and_notice(B, Ending::Kill).await;
        world.cluster.disk(B).expect("a disk").wipe();
        if how == "replace" {
            world.cluster.replace(B);
        } else {
            world.cluster.start_node(B);
        }
        world.cluster.settled().await;
        world.pass(5.0).await;
        assert_eq!(world.on(B).schema().version, world.on(A).schema().version);
        if how == "repair" {
            world.cluster.repair(C, "ks").await.expect("repaired");
        }
        // A replaced node may have streamed from C, which missed the write, too: Cassandra takes one replica.
        if how == "replace" && world.peek(B, 1).is_empty() {
            continue;
        }
        world.end_and_notice(A, Ending::Kill).await;
        assert_eq!(world.read(C, 1, Consistency::Quorum).await, Ok(found), "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_joins_refuses_reads_and_takes_writes() {
    let world = world(|_| {}).await;
    for p in 0..10 {
        world.write(A, world.insert(p, 1, p, 1), Consistency::All).await.expect("written");
    }
    world.end_and_notice(B, Ending::Kill).await;
    world.cluster.disk(B).expect("a disk").wipe();
    let rule = world.lose(Verb::RepairRead, A);
    let other = world.lose(Verb::RepairRead, C);
    world.cluster.replace(B);
    // Long enough for every attempt to get its data to have timed out.
    world.pass(600.0).await;
    assert_eq!(world.read(B, 1, Consistency::One).await, Err(RequestError::IsBootstrapping));
    // It is one more node to wait for, and not one to read from.
    world.write(A, world.insert(1, 2, 2, 1), Consistency::Quorum).await.expect("written");
    assert_eq!(world.peek(B, 1), [(2, 2)]);
    let lost = world.lose(Verb::Write, C);
    let error = world.write(A, world.insert(1, 2, 2, 1), Consistency::Quorum).await;
    assert!(matches!(error, Err(RequestError::WriteTimeout { received: 2, block_for: 3, .. })), "{error:?}");
    world.links.remove(lost);
    let error = world.read(A, 1, Consistency::All).await;
    assert!(matches!(error, Err(RequestError::Unavailable { required: 3, alive: 2, .. })), "{error:?}");
    world.links.remove(rule);
    world.links.remove(other);
    world.cluster.settled().await;
    world.cluster.end(B, Ending::PowerLoss);
    world.start(B).await;
    // What was streamed was on the disk at once.
    assert_eq!(world.peek(B, 1), [(1, 1), (2, 2)]);
    assert_eq!(world.read(B, 3, Consistency::One).await, Ok(vec![(1, Some(3))]));
}

#[tokio::test(start_paused = true)]
async fn an_anti_entropy_repair_makes_replicas_equal_tombstones_and_all() {
    let world = world(|_| {}).await;
    world.write(A, world.insert(1, 1, 1, 1), Consistency::All).await.expect("written");
    let lost = [world.lose(Verb::Write, B), world.lose(Verb::Write, C)];
    world.write(A, world.delete(1, 1, 2), Consistency::One).await.expect("deleted on A");
    world.write(A, world.insert(1, 2, 2, 2), Consistency::One).await.expect("written on A");
    world.pass(3.0).await;
    for rule in lost {
        world.links.remove(rule);
    }
    world.cluster.repair(B, "ks").await.expect("repaired");
    let on = |node| world.cluster.peek(node, world.table.id, &world.key(1));
    assert_eq!(on(A), on(B));
    assert_eq!(on(A), on(C));
    assert_eq!(world.peek(C, 1), [(2, 2)]);
    world.end_and_notice(A, Ending::Kill).await;
    assert_eq!(world.cluster.repair(B, "ks").await, Err(RepairError::NoAnswer(A)));
    assert!(matches!(world.cluster.repair(B, "no").await, Err(RepairError::UnknownKeyspace(_))));
    assert_eq!(world.cluster.repair(A, "ks").await, Err(RepairError::NotRunning));
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_purged_before_a_repair_lets_the_deleted_row_return() {
    let world = world(|settings| settings.table.gc_grace_seconds = 50).await;
    world.write(A, world.insert(1, 1, 1, 1), Consistency::All).await.expect("written");
    let lost = world.lose(Verb::Write, C);
    world.write(A, world.delete(1, 1, 2), Consistency::Quorum).await.expect("deleted on A and B");
    world.pass(3.0).await;
    world.links.remove(lost);
    assert_eq!(world.read(A, 1, Consistency::One).await, Ok(vec![]));
    world.pass(100.0).await;
    for node in [A, B, C] {
        world.cluster.compact(node);
    }
    world.cluster.repair(A, "ks").await.expect("repaired");
    assert_eq!(world.read(A, 1, Consistency::One).await, Ok(vec![(1, Some(1))]), "it is back");
}
