//! Read repair and anti-entropy repair.

use std::time::Duration;

use futures_util::future::join_all;
use scylla::statement::Consistency;
use simulated_hosts::{
    HostFault::{Kill, Pause},
    Recovery::Resume,
};
use tokio::time::sleep;

use super::{EVENTS, UNHURRIED, events};
use crate::cassandra::backend::{Backend, Verb};
use crate::cassandra::client::Keyspace;
use crate::suite::{Case, Observations, case};

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(
            a_read_at_one_is_stale_and_repairs_nothing,
            [Silence, HintedHandoff],
            "At ONE a single replica responds, there is nothing to compare; consistency requires R + W > RF (architecture/dynamo: tunable consistency)",
        ),
        case!(
            a_read_at_one_that_reads_a_second_replica_may_repair_the_first,
            [Silence, HintedHandoff],
            "speculative_retry, 99p by default: if a replica is slow, another is read, and responses that differ are repaired at any level (CQL: CREATE TABLE; AbstractReadExecutor.awaitResponses)",
        ),
        case!(
            a_quorum_read_repairs_the_replicas_that_it_reads,
            [Silence, HintedHandoff],
            "Replicas whose responses differ are repaired before the read returns: read_repair BLOCKING (operating/read_repair)",
        ),
        case!(
            with_read_repair_none_the_result_is_merged_and_nothing_is_repaired,
            [Silence, HintedHandoff],
            "read_repair NONE: the coordinator reconciles what it read and writes nothing (operating/read_repair)",
        ),
        case!(
            a_quorum_read_merges_cells_and_deletions_of_its_replicas,
            [Silence, HintedHandoff],
            "Rows are merged cell by cell, deletions included (DataResolver)",
        ),
        case!(
            a_limit_is_filled_although_a_replica_missed_deletions,
            [Silence, HintedHandoff],
            "If rows of one replica are deleted in another, more are requested (ShortReadPartitionsProtection)",
        ),
        case!(
            a_repair_writes_missed_data_to_a_replica,
            [Silence, HintedHandoff, AntiEntropy],
            "nodetool repair compares Merkle trees and streams what differs (operating/repair)",
        ),
        case!(
            a_quorum_read_with_limit_repairs_only_the_rows_it_returned,
            [Host(Pause), Host(Kill), HintedHandoff],
            "A blocking read repair writes what the read covered, not what else the replicas lack (operating/read_repair; DataResolver)",
        ),
        case!(
            a_read_whose_repair_is_lost_times_out_and_has_repaired_others,
            [Link(Cut)],
            "A blocking repair is waited for; the read times out although enough replicas answered it (BlockingReadRepair.awaitWrites)",
        ),
    ]
}

const READ: &str = "SELECT offset FROM KS.events WHERE partition = 0";

async fn a_read_at_one_is_stale_and_repairs_nothing<W: Backend>(backend: &W, seen: &Observations) {
    backend.hinted_handoff(false).await;
    let keyspace = Keyspace::with(backend, seen, &[UNHURRIED]).await;
    let [a, _, c] = keyspace.clients();
    backend.silence(&[2]).await;
    a.expect(seen, "rows 0 to 2 at QUORUM, the third replica down", &events(0, 0..3), "ok").await;
    backend.end_silence().await;
    let one = c.at(Consistency::One);
    one.expect(seen, "ONE at the third, when it is up again", READ, "no rows").await;
    a.at(Consistency::One).expect(seen, "ONE at the first", READ, "(2) (1) (0)").await;
    one.expect(seen, "ONE at the third, again", READ, "no rows").await;
    c.expect(seen, "QUORUM at the third", READ, "(2) (1) (0)").await;
}

async fn a_read_at_one_that_reads_a_second_replica_may_repair_the_first<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    backend.hinted_handoff(false).await;
    let keyspace = Keyspace::with(backend, seen, &[UNHURRIED]).await;
    let [a, _, c] = keyspace.clients();
    backend.silence(&[2]).await;
    a.ok(&events(0, 0..3)).await;
    backend.end_silence().await;
    let one = c.at(Consistency::One);
    one.expect(seen, "ONE at a replica that lacks rows 0 to 2", READ, "no rows").await;
    // It is repaired by a read whose second response is available when it processes the first one. Concurrent reads make
    // this likely; they are repeated until it has happened.
    let mut repaired = String::new();
    for _ in 0..60 {
        a.ok("ALTER TABLE KS.events WITH speculative_retry = 'ALWAYS'").await;
        keyspace.agree().await;
        for _ in 0..5 {
            join_all((0..64).map(|_| one.ok(READ))).await;
        }
        a.ok("ALTER TABLE KS.events WITH speculative_retry = 'NEVER'").await;
        keyspace.agree().await;
        repaired = one.rows(READ).await;
        if repaired != "no rows" {
            break;
        }
    }
    seen.check("ONE at it, after reads at ONE that each read a second one, too", &repaired, "(2) (1) (0)");
}

async fn a_quorum_read_repairs_the_replicas_that_it_reads<W: Backend>(backend: &W, seen: &Observations) {
    backend.hinted_handoff(false).await;
    let keyspace = Keyspace::with(backend, seen, &[UNHURRIED]).await;
    let [a, _, c] = keyspace.clients();
    backend.silence(&[2]).await;
    a.ok(&events(0, 0..3)).await;
    a.ok(&events(1, 0..3)).await;
    a.ok(&events(2, 0..3)).await;
    backend.end_silence().await;
    let one = c.at(Consistency::One);
    c.expect(
        seen,
        "row 1 at QUORUM through a replica that lacks 0 to 2",
        &format!("{READ} AND offset = 1"),
        "(1)",
    )
    .await;
    one.expect(seen, "what it has then", READ, "(1)").await;
    c.expect(
        seen,
        "count(*) of another partition",
        "SELECT count(*) FROM KS.events WHERE partition = 1",
        "(3)",
    )
    .await;
    one.expect(seen, "what it has then", "SELECT offset FROM KS.events WHERE partition = 1", "(2) (1) (0)")
        .await;
    let source = "SELECT writetime(source) FROM KS.events WHERE partition = 2 AND offset = 2";
    c.expect(seen, "writetime of a row of a third", source, "(3)").await;
    one.expect(seen, "that, repaired", source, "(3)").await;
    c.expect(
        seen,
        "the table",
        "SELECT partition, offset FROM KS.events",
        "(1, 2) (1, 1) (1, 0) (0, 2) (0, 1) (0, 0) (2, 2) (2, 1) (2, 0)",
    )
    .await;
    one.expect(seen, "what it has then", "SELECT count(*) FROM KS.events", "(9)").await;
}

async fn with_read_repair_none_the_result_is_merged_and_nothing_is_repaired<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    backend.hinted_handoff(false).await;
    let none = format!("{UNHURRIED} AND read_repair = 'NONE'");
    let keyspace = Keyspace::with(backend, seen, &[&none]).await;
    let [a, _, c] = keyspace.clients();
    backend.silence(&[2]).await;
    a.ok(&events(0, 0..3)).await;
    backend.end_silence().await;
    c.expect(seen, "QUORUM through a replica that lacks the rows", READ, "(2) (1) (0)").await;
    c.at(Consistency::One).expect(seen, "what it has then", READ, "no rows").await;
}

async fn a_quorum_read_merges_cells_and_deletions_of_its_replicas<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    backend.hinted_handoff(false).await;
    let keyspace = Keyspace::with(
        backend,
        seen,
        &["t (p int, c int, v int, w int, PRIMARY KEY (p, c)) WITH speculative_retry = 'NEVER'"],
    )
    .await;
    let [a, _, c] = keyspace.clients();
    let all = a.at(Consistency::All);
    for row in 1..=4 {
        all.ok(&format!("INSERT INTO KS.t (p, c, v, w) VALUES (1, {row}, 1, 1) USING TIMESTAMP 10")).await;
    }
    backend.silence(&[2]).await;
    for change in [
        "UPDATE KS.t USING TIMESTAMP 20 SET v = 2 WHERE p = 1 AND c = 1",
        "DELETE w FROM KS.t USING TIMESTAMP 20 WHERE p = 1 AND c = 2",
        "DELETE FROM KS.t USING TIMESTAMP 20 WHERE p = 1 AND c = 3",
        "INSERT INTO KS.t (p, c, v) VALUES (1, 5, 5) USING TIMESTAMP 20",
    ] {
        a.ok(change).await;
    }
    backend.end_silence().await;
    const READ: &str = "SELECT c, v, w FROM KS.t WHERE p = 1";
    let one = c.at(Consistency::One);
    one.expect(seen, "the replica that missed the changes", READ, "(1, 1, 1) (2, 1, 1) (3, 1, 1) (4, 1, 1)")
        .await;
    c.expect(seen, "QUORUM through it", READ, "(1, 2, 1) (2, 1, null) (4, 1, 1) (5, 5, null)").await;
    one.expect(seen, "what it has then", READ, "(1, 2, 1) (2, 1, null) (4, 1, 1) (5, 5, null)").await;
}

async fn a_limit_is_filled_although_a_replica_missed_deletions<W: Backend>(backend: &W, seen: &Observations) {
    backend.hinted_handoff(false).await;
    let keyspace = Keyspace::with(backend, seen, &[UNHURRIED]).await;
    let [a, _, c] = keyspace.clients();
    a.at(Consistency::All).ok(&events(0, 0..10)).await;
    backend.silence(&[2]).await;
    a.ok("DELETE FROM KS.events USING TIMESTAMP 100 WHERE partition = 0 AND offset > 5").await;
    backend.end_silence().await;
    c.at(Consistency::One)
        .expect(seen, "ONE at the replica that missed them", &format!("{READ} LIMIT 3"), "(9) (8) (7)")
        .await;
    c.expect(seen, "QUORUM through it", &format!("{READ} LIMIT 3"), "(5) (4) (3)").await;
}

async fn a_repair_writes_missed_data_to_a_replica<W: Backend>(backend: &W, seen: &Observations) {
    backend.hinted_handoff(false).await;
    let keyspace = Keyspace::with(backend, seen, &[UNHURRIED]).await;
    let [a, _, c] = keyspace.clients();
    backend.silence(&[2]).await;
    a.ok(&events(0, 0..3)).await;
    a.ok("DELETE FROM KS.events USING TIMESTAMP 100 WHERE partition = 0 AND offset = 1").await;
    backend.end_silence().await;
    let one = c.at(Consistency::One);
    one.expect(seen, "before", READ, "no rows").await;
    backend.repair(&keyspace.name).await;
    one.expect(seen, "after", READ, "(2) (0)").await;
    one.ok(&events(0, 1..2)).await;
    one.expect(seen, "a row of before the deletion, written again", READ, "(2) (0)").await;
}

async fn a_quorum_read_with_limit_repairs_only_the_rows_it_returned<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    backend.hinted_handoff(false).await;
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, b, c] = keyspace.clients();
    // A resumed node may read a clock value from before the pause, and process a message that has expired. Then the next
    // partition is used.
    let mut partition = 0;
    let ended = loop {
        a.at(Consistency::All).ok(&events(partition, 0..10)).await;
        backend.apply(Pause, &[1, 2]).await;
        let ended = a.ends(&events(partition, 10..20)).await;
        sleep(backend.write_timeout() / 2).await;
        backend.recover(Resume, &[1, 2]).await;
        sleep(Duration::from_secs(1)).await;
        let has = async |client: &crate::cassandra::client::Client| {
            client
                .at(Consistency::One)
                .rows(&format!("SELECT count(*) FROM KS.events WHERE partition = {partition}"))
                .await
        };
        if has(b).await == "(10)" && has(c).await == "(10)" {
            break ended;
        }
        partition += 1;
        assert!(partition < 20, "the replicas took every expired message");
    };
    seen.check(
        "a batch of rows 10 to 19 that reached one replica",
        &ended,
        "WriteTimeout(Quorum, received 1, required 2, Simple)",
    );
    let read = format!("SELECT offset FROM KS.events WHERE partition = {partition}");
    a.expect(seen, "LIMIT 1 at QUORUM through it", &format!("{read} LIMIT 1"), "(19)").await;
    backend.apply(Kill, &[0]).await;
    b.expect(
        seen,
        "QUORUM of the other two, when it is dead",
        &read,
        "(19) (9) (8) (7) (6) (5) (4) (3) (2) (1) (0)",
    )
    .await;
}

async fn a_read_whose_repair_is_lost_times_out_and_has_repaired_others<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[UNHURRIED]).await;
    let [a, b, c] = keyspace.clients();
    backend.hinted_handoff(false).await;
    backend.cut_mutations(0, 1).await;
    backend.cut_mutations(0, 2).await;
    a.expect(
        seen,
        "a write that stays at the first replica",
        &events(0, 0..1),
        "WriteTimeout(Quorum, received 1, required 2, Simple)",
    )
    .await;
    backend.restore_mutations(0, 2).await;
    let ended = a.at(Consistency::All).ends(READ).await;
    seen.note(format!("a read of all, whose repair of the second is lost: {ended}"));
    assert!(ended.starts_with("ReadTimeout(All, "), "{ended}");
    backend.restore_mutations(0, 1).await;
    b.at(Consistency::One).expect(seen, "the second", READ, "no rows").await;
    c.at(Consistency::One).expect(seen, "the third", READ, "(0)").await;
}
