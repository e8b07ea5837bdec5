//! Starting, killing and pausing nodes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use simulated_cassandra::cluster::{Ending, Envelope, Verb};
use simulated_cassandra::coordinator::{ChangeKind, Consistency, Coordinator, Event, RequestError};
use simulated_cassandra::schema::SchemaChange;
use tokio::time::Instant;

use crate::world::{A, B, C, next, with_hints, world};

#[tokio::test(start_paused = true)]
async fn a_request_to_a_node_that_dies_is_never_answered() {
    let world = world(|_| {}).await;
    let node = world.on(A);
    world.lose(Verb::Write, B);
    world.lose(Verb::Write, C);
    let write = world.write(A, world.insert(1, 1, 1, 1), Consistency::Quorum);
    let kill = async {
        world.pass(0.5).await;
        world.cluster.end(A, Ending::Kill);
    };
    let (answer, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(60), write), kill);
    assert!(answer.is_err(), "{answer:?}");
    node.died().await;
    assert!(node.is_dead());
}

#[tokio::test(start_paused = true)]
async fn what_a_coordinator_had_sent_when_it_died_arrives() {
    let world = world(|_| {}).await;
    let write = world.write(A, world.insert(1, 1, 1, 1), Consistency::Quorum);
    let kill = async {
        world.pass(0.0001).await;
        world.cluster.end(A, Ending::Kill);
    };
    let (answer, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(1), write), kill);
    assert!(answer.is_err());
    assert_eq!((world.peek(B, 1), world.peek(C, 1)), (vec![(1, 1)], vec![(1, 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_paused_node_answers_late_and_is_missed_meanwhile() {
    let world = world(|_| {}).await;
    world.cluster.pause(C);
    let error = world.write(A, world.insert(1, 1, 1, 1), Consistency::All).await;
    assert!(matches!(error, Err(RequestError::WriteTimeout { received: 2, .. })), "{error:?}");
    world.pass(12.0).await;
    assert!(!world.cluster.believes_alive(A, C));
    assert!(world.cluster.believes_alive(C, A), "it has noticed nothing");
    world.cluster.resume(C);
    world.pass(5.0).await;
    world.cluster.settled().await;
    assert_eq!(world.peek(C, 1), [], "by then no request waits for it, and it ignores it");
}

#[tokio::test(start_paused = true)]
async fn drivers_hear_of_nodes_and_of_the_schema() {
    let world = world(|_| {}).await;
    let mut events = world.on(A).events();
    let address = |number: u8| std::net::IpAddr::from([127, 0, 0, number]);
    world.end_and_notice(C, Ending::Kill).await;
    assert_eq!(next(&mut events).await, Event::Down(address(3), 9042));
    world.start(C).await;
    assert_eq!(next(&mut events).await, Event::Up(address(3), 9042));
    let drop = SchemaChange::DropTable { keyspace: "ks".into(), name: "u".into() };
    world.on(B).change_schema(drop.clone()).await.expect("changed");
    assert_eq!(next(&mut events).await, Event::Schema(ChangeKind::Dropped, Arc::new(drop)));
    let topology = world.on(A).topology();
    assert_eq!(topology.local.address, address(1));
    assert!(topology.peers.iter().all(|peer| peer.alive && peer.tokens.len() == 8));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_talks_but_does_not_hear_stays_down() {
    let world = world(|_| {}).await;
    for (from, to) in [(A, B), (B, A), (C, A)] {
        world.links.cut(from, to);
    }
    world.pass(15.0).await;
    world.links.restore(C, A);
    assert!(!world.cluster.believes_alive(A, B));
    world.links.restore(B, A);
    world.pass(15.0).await;
    assert!(!world.cluster.believes_alive(A, B), "A hears it, but has no echo from it");
    world.links.restore(A, B);
    world.pass(15.0).await;
    assert!(world.cluster.believes_alive(A, B));
}

#[tokio::test(start_paused = true)]
async fn a_restart_too_quick_to_be_missed_is_noticed_all_the_same() {
    let world = world(|_| {}).await;
    let mut events = world.on(A).events();
    world.cluster.end(B, Ending::Kill);
    world.cluster.start_node(B);
    assert!(world.cluster.believes_alive(A, B));
    assert_eq!(next(&mut events).await, Event::Up([127, 0, 0, 2].into(), 9042));
}

#[tokio::test(start_paused = true)]
async fn concurrent_schema_changes_end_the_same_on_every_node() {
    let world = world(|_| {}).await;
    let keyspace = |factor| SchemaChange::PutKeyspace {
        name: "new".into(),
        replication: simulated_cassandra::schema::Replication::Simple { factor },
        durable_writes: true,
    };
    world.on(A).change_schema(keyspace(1)).await.expect("changed");
    world.on(B).change_schema(keyspace(2)).await.expect("changed");
    world.pass(5.0).await;
    let schemas = [A, B, C].map(|node| world.on(node).schema());
    assert_eq!(schemas[0], schemas[1]);
    assert_eq!(schemas[1], schemas[2]);
    world.cluster.end(A, Ending::PowerLoss);
    world.start(A).await;
    assert_eq!(world.on(A).schema(), schemas[0], "it is on the disk");
}

#[tokio::test(start_paused = true)]
async fn a_truncate_needs_every_node_and_empties_each() {
    let world = world(|_| {}).await;
    world.write(A, world.insert(1, 1, 1, 1), Consistency::All).await.expect("written");
    world.on(B).truncate(world.table.id).await.expect("truncated");
    assert_eq!(world.read(A, 1, Consistency::All).await, Ok(vec![]));
    world.end_and_notice(C, Ending::Kill).await;
    let error = world.on(A).truncate(world.table.id).await;
    assert_eq!(
        error,
        Err(RequestError::Unavailable { consistency: Consistency::All, required: 3, alive: 2 })
    );
}

/// Some traffic, faults and restarts. Gives every message with its time.
async fn trace(seed: u64) -> Vec<(Duration, Envelope)> {
    let world = world(|settings| {
        with_hints(settings);
        settings.seed = seed;
    })
    .await;
    let began = Instant::now();
    let notes = Arc::new(Mutex::new(Vec::new()));
    let seen = notes.clone();
    world.links.rule(move |envelope| {
        seen.lock().expect("not poisoned").push((began.elapsed(), *envelope));
        None
    });
    let mut lost = 0u64;
    world.links.rule(move |envelope| {
        lost += 1;
        (lost.is_multiple_of(5) && envelope.verb == Verb::Write).then(Vec::new)
    });
    for round in 0..20 {
        let (first, second) = tokio::join!(
            world.write(A, world.insert(round % 3, round, 1, i64::from(round)), Consistency::Quorum),
            world.write(B, world.insert(round % 3, round, 2, i64::from(round)), Consistency::One),
        );
        let _ = (first, second, world.read(B, round % 3, Consistency::Quorum).await);
        if round == 10 {
            world.cluster.end(C, Ending::PowerLoss);
        }
        if round == 15 {
            world.cluster.start_node(C);
        }
    }
    world.pass(60.0).await;
    notes.lock().expect("not poisoned").clone()
}

#[tokio::test(start_paused = true)]
async fn a_seed_decides_every_message() {
    let first = trace(1).await;
    assert!(first.len() > 300, "{}", first.len());
    assert!(first == trace(1).await);
    assert!(first != trace(2).await);
}
