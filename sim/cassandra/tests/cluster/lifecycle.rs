//! Starting, killing and pausing nodes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use simulated_cassandra::cluster::{Envelope, HostFault, Recovery, Verb};
use simulated_cassandra::coordinator::{ChangeKind, Consistency, Coordinator, Event, RequestError};
use simulated_cassandra::schema::SchemaChange;
use tokio::time::Instant;

use crate::harness::{A, B, C, next, test_cluster, with_hints};

#[tokio::test(start_paused = true)]
async fn a_request_to_a_node_that_dies_never_gets_a_response() {
    let test = test_cluster(|_| {}).await;
    let node = test.on(A);
    test.lose(Verb::Write, B);
    test.lose(Verb::Write, C);
    let write = test.write(A, test.insert(1, 1, 1, 1), Consistency::Quorum);
    let kill = async {
        test.pass(0.5).await;
        test.cluster.apply(A, HostFault::Kill);
    };
    let (response, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(60), write), kill);
    assert!(response.is_err(), "{response:?}");
    node.died().await;
    assert!(node.is_dead());
}

#[tokio::test(start_paused = true)]
async fn what_a_coordinator_had_sent_when_it_died_arrives() {
    let test = test_cluster(|_| {}).await;
    let write = test.write(A, test.insert(1, 1, 1, 1), Consistency::Quorum);
    let kill = async {
        test.pass(0.0001).await;
        test.cluster.apply(A, HostFault::Kill);
    };
    let (response, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(1), write), kill);
    assert!(response.is_err());
    assert_eq!((test.peek(B, 1), test.peek(C, 1)), (vec![(1, 1)], vec![(1, 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_paused_node_responds_late_and_is_considered_down_meanwhile() {
    let test = test_cluster(|_| {}).await;
    test.cluster.apply(C, HostFault::Pause);
    let error = test.write(A, test.insert(1, 1, 1, 1), Consistency::All).await;
    assert!(matches!(error, Err(RequestError::WriteTimeout { received: 2, .. })), "{error:?}");
    test.pass(12.0).await;
    assert!(!test.cluster.believes_alive(A, C));
    assert!(test.cluster.believes_alive(C, A), "it has noticed nothing");
    test.cluster.recover(C, Recovery::Resume);
    test.pass(5.0).await;
    test.cluster.settled().await;
    assert_eq!(test.peek(C, 1), [], "by then no request waits for it, and it ignores it");
}

#[tokio::test(start_paused = true)]
async fn drivers_hear_of_nodes_and_of_the_schema() {
    let test = test_cluster(|_| {}).await;
    let mut events = test.on(A).events();
    let address = |number: u8| std::net::IpAddr::from([127, 0, 0, number]);
    test.end_and_notice(C, HostFault::Kill).await;
    assert_eq!(next(&mut events).await, Event::Down(address(3), 9042));
    test.start(C).await;
    assert_eq!(next(&mut events).await, Event::Up(address(3), 9042));
    let drop = SchemaChange::DropTable { keyspace: "ks".into(), name: "u".into() };
    test.on(B).change_schema(drop.clone()).await.expect("changed");
    assert_eq!(next(&mut events).await, Event::Schema(ChangeKind::Dropped, Arc::new(drop)));
    let topology = test.on(A).topology();
    assert_eq!(topology.local.address, address(1));
    assert!(topology.peers.iter().all(|peer| peer.alive && peer.tokens.len() == 8));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_talks_but_does_not_hear_stays_down() {
    let test = test_cluster(|_| {}).await;
    for (from, to) in [(A, B), (B, A), (C, A)] {
        test.links.cut(from, to);
    }
    test.pass(15.0).await;
    test.links.restore(C, A);
    assert!(!test.cluster.believes_alive(A, B));
    test.links.restore(B, A);
    test.pass(15.0).await;
    assert!(!test.cluster.believes_alive(A, B), "A hears it, but has no echo from it");
    test.links.restore(A, B);
    test.pass(15.0).await;
    assert!(test.cluster.believes_alive(A, B));
}

#[tokio::test(start_paused = true)]
async fn a_restart_too_quick_to_be_missed_is_noticed_all_the_same() {
    let test = test_cluster(|_| {}).await;
    let mut events = test.on(A).events();
    test.cluster.apply(B, HostFault::Kill);
    test.cluster.recover(B, Recovery::Start);
    assert!(test.cluster.believes_alive(A, B));
    assert_eq!(next(&mut events).await, Event::Up([127, 0, 0, 2].into(), 9042));
}

#[tokio::test(start_paused = true)]
async fn concurrent_schema_changes_end_the_same_on_every_node() {
    let test = test_cluster(|_| {}).await;
    let keyspace = |factor| SchemaChange::PutKeyspace {
        name: "new".into(),
        replication: simulated_cassandra::schema::Replication::Simple { factor },
        durable_writes: true,
    };
    test.on(A).change_schema(keyspace(1)).await.expect("changed");
    test.on(B).change_schema(keyspace(2)).await.expect("changed");
    test.pass(5.0).await;
    let schemas = [A, B, C].map(|node| test.on(node).schema());
    assert_eq!(schemas[0], schemas[1]);
    assert_eq!(schemas[1], schemas[2]);
    test.cluster.apply(A, HostFault::PowerLoss);
    test.start(A).await;
    assert_eq!(test.on(A).schema(), schemas[0], "it is on the disk");
}

#[tokio::test(start_paused = true)]
async fn a_truncate_needs_every_node_and_empties_each() {
    let test = test_cluster(|_| {}).await;
    test.write(A, test.insert(1, 1, 1, 1), Consistency::All).await.expect("written");
    test.on(B).truncate(test.table.id).await.expect("truncated");
    assert_eq!(test.read(A, 1, Consistency::All).await, Ok(vec![]));
    test.end_and_notice(C, HostFault::Kill).await;
    let error = test.on(A).truncate(test.table.id).await;
    assert_eq!(
        error,
        Err(RequestError::Unavailable { consistency: Consistency::All, required: 3, alive: 2 })
    );
}

/// Some traffic, faults and restarts. Gives every message with its time.
async fn trace(seed: u64) -> Vec<(Duration, Envelope)> {
    let test = test_cluster(|settings| {
        with_hints(settings);
        settings.seed = seed;
    })
    .await;
    let began = Instant::now();
    let notes = Arc::new(Mutex::new(Vec::new()));
    let seen = notes.clone();
    test.links.rule(move |envelope| {
        seen.lock().expect("not poisoned").push((began.elapsed(), *envelope));
        None
    });
    let mut lost = 0u64;
    test.links.rule(move |envelope| {
        lost += 1;
        (lost.is_multiple_of(5) && envelope.verb == Verb::Write).then(Vec::new)
    });
    for round in 0..20 {
        let (first, second) = tokio::join!(
            test.write(A, test.insert(round % 3, round, 1, i64::from(round)), Consistency::Quorum),
            test.write(B, test.insert(round % 3, round, 2, i64::from(round)), Consistency::One),
        );
        let _ = (first, second, test.read(B, round % 3, Consistency::Quorum).await);
        if round == 10 {
            test.cluster.apply(C, HostFault::PowerLoss);
        }
        if round == 15 {
            test.cluster.recover(C, Recovery::Start);
        }
    }
    test.pass(60.0).await;
    notes.lock().expect("not poisoned").clone()
}

#[tokio::test(start_paused = true)]
async fn a_seed_decides_every_message() {
    let first = trace(1).await;
    assert!(first.len() > 300, "{}", first.len());
    assert!(first == trace(1).await);
    assert!(first != trace(2).await);
}
