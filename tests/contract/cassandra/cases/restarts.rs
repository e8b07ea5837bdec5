//! Restarts of nodes: durability and failure detection.

use std::time::Duration;

use scylla::statement::Consistency;
use simulated_hosts::{
    DiskFault,
    HostFault::{Kill, PowerLoss},
    Recovery::Start,
};
use tokio::time::{Instant, sleep};

use super::{EVENTS, ROWS, events};
use crate::cassandra::backend::{Backend, Verb};
use crate::cassandra::client::{Keyspace, ending};
use crate::suite::{Case, Observations, case};

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(
            acknowledged_writes_survive_a_kill_of_all_nodes,
            [Host(Kill)],
            "A write is in the commit log before it is acknowledged; the log is a mapped file that outlives the process (architecture/storage_engine: CommitLog)",
        ),
        case!(
            a_prepared_statement_survives_a_restart_of_its_node,
            [Host(Kill)],
            "Prepared statements are stored in system.prepared_statements and prepared again at start (CASSANDRA-8831)",
        ),
        case!(
            a_killed_node_counts_as_up_until_gossip_detects_it,
            [Host(Kill)],
            "A failure detector suspects a node by the heartbeats it misses; until then writes to it time out (architecture/dynamo: Failure Detection)",
        ),
        case!(
            writes_synced_before_the_acknowledgement_survive_a_power_loss_of_all_nodes,
            [Host(PowerLoss)],
            "commitlog_sync batch: a write is acknowledged after the log was synced (cassandra.yaml)",
        ),
        case!(
            unsynced_writes_are_lost_in_a_power_loss_of_all_nodes,
            [Host(PowerLoss), PeriodicSync],
            "commitlog_sync periodic: writes are acknowledged at once, and the log is synced every commitlog_sync_period, 10 s (cassandra.yaml)",
        ),
        case!(
            an_empty_disk_makes_a_quorum_miss_acknowledged_writes,
            [Host(Kill), Disk(Wipe), HintedHandoff, Silence],
            "A replica that lost its data responds as if it had never had any, until it is repaired (operating/topo_changes; operating/repair)",
        ),
    ]
}

const READ: &str = "SELECT offset FROM KS.events WHERE partition = 0";

async fn acknowledged_writes_survive_a_kill_of_all_nodes<W: Backend>(backend: &W, seen: &Observations) {
    let mut keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let a = &keyspace.clients[0];
    a.ok(&events(0, 0..5)).await;
    a.ok("DELETE FROM KS.events USING TIMESTAMP 100 WHERE partition = 0 AND offset = 2").await;
    a.ok("INSERT INTO KS.events (partition, offset, source) VALUES (1, 1, 'if') IF NOT EXISTS").await;
    backend.apply(Kill, &[0, 1, 2]).await;
    seen.check(
        "a request meanwhile",
        &a.ends(READ).await.replace("broken connection", "no connection"),
        "no connection",
    );
    backend.recover(Start, &[0, 1, 2]).await;
    keyspace.reconnect(backend, 1).await;
    let b = &keyspace.clients[1];
    b.expect(seen, "when all are started again", READ, "(4) (3) (1) (0)").await;
    b.expect(seen, "a conditional insert", "SELECT source FROM KS.events WHERE partition = 1", "('if')")
        .await;
    b.at(Consistency::All).expect(seen, "at ALL", READ, "(4) (3) (1) (0)").await;
}

async fn a_prepared_statement_survives_a_restart_of_its_node<W: Backend>(backend: &W, seen: &Observations) {
    let mut keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let b = &keyspace.clients[1];
    let insert = b.prepare("INSERT INTO KS.t (p, c, v) VALUES (?, ?, ?)").await;
    b.execute(&insert, (1, 1, 1)).await;
    let stored = format!(
        "SELECT query_string FROM system.prepared_statements WHERE prepared_id = 0x{}",
        hex::encode(insert.get_id())
    );
    let expected = format!("('{}')", insert.get_statement());
    let note = |text: String| if text == expected { "the statement".to_owned() } else { text };
    seen.check(
        "system.prepared_statements of the node",
        &note(b.at(Consistency::One).rows(&stored).await),
        "the statement",
    );
    backend.apply(Kill, &[1]).await;
    backend.recover(Start, &[1]).await;
    keyspace.reconnect(backend, 1).await;
    let b = &keyspace.clients[1];
    seen.check("after its restart", &note(b.at(Consistency::One).rows(&stored).await), "the statement");
    let ended = ending(b.session.execute_unpaged(&insert, (1, 2, 2)).await);
    seen.check("executed by a new connection that never prepared it", &ended, "ok");
    b.expect(seen, "rows", "SELECT c FROM KS.t", "(1) (2)").await;
}

async fn a_killed_node_counts_as_up_until_gossip_detects_it<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, ..] = keyspace.clients();
    backend.apply(Kill, &[1, 2]).await;
    let first = a.ends(&events(0, 0..1)).await;
    seen.check(
        "two killed: the next write at QUORUM",
        &first,
        "WriteTimeout(Quorum, received 1, required 2, Simple)",
    );
    let end = Instant::now() + backend.death_noticed_within();
    let mut ended = first;
    while !ended.starts_with("Unavailable") && Instant::now() < end {
        sleep(Duration::from_millis(200)).await;
        ended = a.ends(&events(0, 1..2)).await;
    }
    seen.check("later", &ended, "Unavailable(Quorum, required 2, alive 1)");
    backend.recover(Start, &[1, 2]).await;
    a.expect(seen, "when they are started again", &events(0, 2..3), "ok").await;
    a.expect(seen, "rows", READ, "(2) (1) (0)").await;
}

async fn writes_synced_before_the_acknowledgement_survive_a_power_loss_of_all_nodes<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let mut keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    keyspace.clients[0].ok(&events(0, 0..5)).await;
    backend.apply(PowerLoss, &[0, 1, 2]).await;
    backend.recover(Start, &[0, 1, 2]).await;
    keyspace.reconnect(backend, 0).await;
    keyspace.clients[0].expect(seen, "rows that were acknowledged", READ, "(4) (3) (2) (1) (0)").await;
}

async fn unsynced_writes_are_lost_in_a_power_loss_of_all_nodes<W: Backend>(backend: &W, seen: &Observations) {
    backend.periodic_sync(true).await;
    let mut keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    keyspace.clients[0].ok(&events(0, 0..3)).await;
    sleep(Duration::from_secs(25)).await;
    keyspace.clients[0].ok(&events(0, 3..5)).await;
    backend.apply(PowerLoss, &[0, 1, 2]).await;
    backend.recover(Start, &[0, 1, 2]).await;
    keyspace.reconnect(backend, 0).await;
    let all = keyspace.clients[0].at(Consistency::All);
    all.expect(seen, "rows 0 to 2 of 25 s before, and 3 to 4 of just before", READ, "(2) (1) (0)").await;
    backend.periodic_sync(false).await;
}

async fn an_empty_disk_makes_a_quorum_miss_acknowledged_writes<W: Backend>(backend: &W, seen: &Observations) {
    backend.hinted_handoff(false).await;
    let mut keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    backend.silence(&[2]).await;
    keyspace.clients[0].expect(seen, "a write, the third replica down", &events(0, 0..1), "ok").await;
    backend.end_silence().await;
    backend.apply(Kill, &[1]).await;
    backend.apply_to_disk(DiskFault::Wipe, 1).await;
    backend.recover(Start, &[1]).await;
    keyspace.reconnect(backend, 1).await;
    backend.silence(&[0]).await;
    keyspace.clients[1]
        .expect(seen, "QUORUM of the second, whose disk was replaced, and the third", READ, "no rows")
        .await;
    backend.end_silence().await;
}
