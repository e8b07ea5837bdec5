//! Batches: atomicity, limits, and timeouts.

use std::time::Duration;

use futures_util::future::join;
use scylla::response::query_result::QueryResult;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchType};
use simulated_hosts::{HostFault::Pause, Recovery::Resume};
use tokio::time::sleep;

use super::{EVENTS, ROWS, batch};
use crate::cassandra::backend::{Backend, Verb};
use crate::cassandra::client::{Keyspace, ending};
use crate::suite::{Case, Observations, case};

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(
            a_batch_of_one_partition_is_read_completely_or_not_at_all,
            [],
            "Updates of one partition in a batch are one mutation, applied in isolation (CQL: BATCH)",
        ),
        case!(
            the_size_of_a_batch_counts_only_beyond_one_mutation,
            [],
            "batch_size_warn_threshold 5 KiB and batch_size_fail_threshold 50 KiB; a batch that is one mutation is not measured (cassandra.yaml; BatchStatement.verifyBatchSize, CASSANDRA-10876)",
        ),
        case!(
            an_unlogged_batch_of_many_partitions_returns_a_warning,
            [],
            "unlogged_batch_across_partitions_warn_threshold 10 (cassandra.yaml; BatchStatement.verifyBatchType)",
        ),
        case!(
            a_mutation_larger_than_half_a_segment_is_refused,
            [],
            "max_mutation_size is half of commitlog_segment_size; a larger mutation is rejected (cassandra.yaml; Mutation.validateSize)",
        ),
        case!(
            a_batch_of_the_protocol_equals_one_in_cql,
            [],
            "BATCH carries prepared and unprepared statements (native_protocol_v4, 4.1.7)",
        ),
        case!(
            a_batch_holds_writes_only_and_may_be_empty,
            [],
            "A batch groups INSERT, UPDATE and DELETE (CQL: BATCH)",
        ),
        case!(
            a_timeout_of_a_batch_contains_the_write_type,
            [Host(Pause)],
            "Write_timeout has a write type: SIMPLE, BATCH, UNLOGGED_BATCH, BATCH_LOG, CAS; a batch of one mutation is SIMPLE (native_protocol_v4, 9)",
        ),
        case!(
            a_logged_batch_whose_log_timed_out_is_written_later,
            [Host(Pause)],
            "The batchlog is written to two nodes first, and replayed from there if the coordinator does not delete it (architecture/dynamo; BatchlogManager)",
        ),
        case!(
            unavailable_may_follow_a_batch_that_was_written_in_part,
            [Silence],
            "Mutations of an unlogged batch are sent one after another, each after a look at who is up (StorageProxy.mutate)",
        ),
    ]
}

async fn a_batch_of_one_partition_is_read_completely_or_not_at_all<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let [a, b, _] = keyspace.clients();
    let a = a.at(Consistency::All);
    let writing = async {
        for v in 1..=60 {
            let rows: Vec<_> = (0..20)
                .map(|c| format!("INSERT INTO KS.t (p, c, v) VALUES (1, {c}, {v}) USING TIMESTAMP {v};"))
                .collect();
            a.ok(&batch("UNLOGGED", &rows.join(" "))).await;
        }
    };
    let one = b.at(Consistency::One);
    let reading = async {
        for _ in 0..120 {
            let rows = one.rows("SELECT v FROM KS.t WHERE p = 1").await;
            let mut values: Vec<_> = rows.split(' ').collect();
            values.dedup();
            assert!(values.len() == 1 || rows == "no rows", "torn: {rows}");
        }
    };
    join(writing, reading).await;
    seen.note("60 batches of 20 rows, read 120 times at ONE meanwhile: none in part");
    b.expect(seen, "then", "SELECT count(*), min(v), max(v) FROM KS.t WHERE p = 1", "(20, 60, 60)").await;
}

/// Inserts with values of some length, each into a table and partition.
fn inserts(places: &[(&str, i32)], length: usize) -> String {
    let text = "x".repeat(length);
    let insert =
        |(table, p): &(&str, i32)| format!("INSERT INTO KS.{table} (p, c, w) VALUES ({p}, 1, '{text}');");
    places.iter().map(insert).collect()
}

const TEXTS: &str = "(p int, c int, w text, PRIMARY KEY (p, c))";

/// How it ended, with the start of the warning.
fn warned(result: Result<QueryResult, scylla::errors::ExecutionError>) -> String {
    let warnings: Vec<_> = match &result {
        Ok(result) => result.warnings().map(str::to_owned).collect(),
        Err(_) => Vec::new(),
    };
    let warnings: Vec<_> = warnings
        .iter()
        .map(|text| {
            text.split(" for ").next().and_then(|text| text.split(" against ").next()).unwrap_or_default()
        })
        .collect();
    let ending = ending(result);
    if warnings.is_empty() {
        ending
    } else {
        format!("{ending}, with the warning \"{}...\"", warnings.join(" / "))
    }
}

async fn the_size_of_a_batch_counts_only_beyond_one_mutation<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[&format!("t {TEXTS}"), &format!("u {TEXTS}")]).await;
    let [a, ..] = keyspace.clients();
    for (what, kind, places, length, expected) in [
        ("two partitions, 2 KiB", "UNLOGGED", vec![("t", 1), ("t", 2)], 1 << 10, "ok"),
        (
            "two partitions, 8 KiB",
            "UNLOGGED",
            vec![("t", 1), ("t", 2)],
            4 << 10,
            "ok, with the warning \"Batch...\"",
        ),
        (
            "two partitions, 8 KiB, logged",
            "",
            vec![("t", 1), ("t", 2)],
            4 << 10,
            "ok, with the warning \"Batch...\"",
        ),
        ("two partitions, 60 KiB", "UNLOGGED", vec![("t", 1), ("t", 2)], 30 << 10, "Invalid"),
        ("two partitions, 60 KiB, logged", "", vec![("t", 1), ("t", 2)], 30 << 10, "Invalid"),
        ("one partition, 60 KiB", "UNLOGGED", vec![("t", 1), ("t", 1)], 30 << 10, "ok"),
        ("one partition, 60 KiB, logged", "", vec![("t", 1), ("t", 1)], 30 << 10, "ok"),
        ("one key in two tables, 60 KiB", "UNLOGGED", vec![("t", 1), ("u", 1)], 30 << 10, "ok"),
        ("one partition, 1 MiB", "UNLOGGED", vec![("t", 1), ("t", 1)], 512 << 10, "ok"),
    ] {
        let ended = warned(a.run(&batch(kind, &inserts(&places, length))).await);
        seen.check(what, &ended, expected);
    }
    let refused = a.refusal(&batch("UNLOGGED", &inserts(&[("t", 1), ("t", 2)], 30 << 10))).await;
    seen.note(format!("its message: {refused}"));
}

async fn an_unlogged_batch_of_many_partitions_returns_a_warning<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[&format!("t {TEXTS}")]).await;
    let [a, ..] = keyspace.clients();
    let places: Vec<_> = (0..11).map(|p| ("t", p)).collect();
    seen.check("10 partitions", &warned(a.run(&batch("UNLOGGED", &inserts(&places[..10], 1))).await), "ok");
    let many = warned(a.run(&batch("UNLOGGED", &inserts(&places, 1))).await);
    seen.check(
        "11 partitions",
        &many,
        "ok, with the warning \"Unlogged batch covering 11 partitions detected...\"",
    );
    seen.check("11 partitions, logged", &warned(a.run(&batch("", &inserts(&places, 1))).await), "ok");
}

async fn a_mutation_larger_than_half_a_segment_is_refused<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &["t (id int PRIMARY KEY, bytes blob)"]).await;
    let [a, ..] = keyspace.clients();
    let insert = a.prepare("INSERT INTO KS.t (id, bytes) VALUES (?, ?)").await;
    // The commit log segments of the local cluster have 8 MiB.
    for (id, what, length, expected) in
        [(1, "4 MiB less 1 KiB", (4 << 20) - 1024, "ok"), (2, "4 MiB", 4 << 20, "Invalid")]
    {
        let ended = ending(a.session.execute_unpaged(&insert, (id, vec![0_u8; length])).await);
        seen.check(what, &ended, expected);
    }
    let half = a.prepare("INSERT INTO KS.t (id, bytes) VALUES (?, ?)").await;
    let mut two = Batch::new(BatchType::Unlogged);
    two.set_consistency(Consistency::Quorum);
    two.append_statement(half.clone());
    two.append_statement(half);
    let bytes = vec![0_u8; (2 << 20) + 1];
    let ended = ending(a.session.batch(&two, ((3, &bytes), (3, &bytes))).await);
    seen.check("a batch of one partition, two values of 2 MiB and a byte for one cell", &ended, "ok");
    a.expect(seen, "rows", "SELECT id FROM KS.t", "(1) (3)").await;
}

async fn a_batch_of_the_protocol_equals_one_in_cql<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let [a, ..] = keyspace.clients();
    let insert = a.prepare("INSERT INTO KS.t (p, c, v) VALUES (?, ?, ?) USING TIMESTAMP ?").await;
    let mut mixed = Batch::new(BatchType::Unlogged);
    mixed.set_consistency(Consistency::Quorum);
    mixed.append_statement(insert.clone());
    mixed.append_statement(insert);
    mixed.append_statement(a.statement("INSERT INTO KS.t (p, c, v) VALUES (1, 3, 30)"));
    mixed.set_timestamp(Some(300));
    let ended =
        ending(a.session.batch(&mixed, ((1, 1, 10, 100_i64), (1, 2, None::<i32>, 200_i64), ())).await);
    seen.check("two prepared with their own timestamps, one text, the batch at 300", &ended, "ok");
    let read = "SELECT c, v, writetime(v) FROM KS.t WHERE p = 1";
    a.expect(seen, "rows", read, "(1, 10, 100) (2, null, null) (3, 30, 300)").await;
}

async fn a_batch_holds_writes_only_and_may_be_empty<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let [a, ..] = keyspace.clients();
    a.expect(seen, "empty", &batch("UNLOGGED", ""), "ok").await;
    a.expect(seen, "with a SELECT", &batch("UNLOGGED", "SELECT * FROM KS.t;"), "SyntaxError").await;
    let mixed = "INSERT INTO KS.t (p, c, v) VALUES (1, 1, 1); UPDATE KS.t SET v = 2 WHERE p = 1 AND c = 2; DELETE FROM KS.t WHERE p = 1 AND c = 3;";
    a.expect(seen, "insert, update, delete", &batch("UNLOGGED", mixed), "ok").await;
    a.expect(seen, "rows", "SELECT c, v FROM KS.t", "(1, 1) (2, 2)").await;
    let wrong = "INSERT INTO KS.t (p, c, v) VALUES (2, 1, 1); INSERT INTO KS.t (p, c, v) VALUES (2, 1, 'x');";
    a.expect(seen, "one of two wrong", &batch("UNLOGGED", wrong), "Invalid").await;
    a.expect(seen, "rows of it", "SELECT c, v FROM KS.t WHERE p = 2", "no rows").await;
}

async fn a_timeout_of_a_batch_contains_the_write_type<W: Backend>(backend: &W, seen: &Observations) {
    backend.hinted_handoff(false).await;
    let keyspace = Keyspace::with(backend, seen, &[&format!("t {TEXTS}"), &format!("u {TEXTS}")]).await;
    let [a, ..] = keyspace.clients();
    backend.apply(Pause, &[1, 2]).await;
    let simple = "WriteTimeout(Quorum, received 1, required 2, Simple)";
    let kinds = [
        ("an insert", inserts(&[("t", 1)], 1), simple),
        ("UNLOGGED, one partition", batch("UNLOGGED", &inserts(&[("t", 2), ("t", 2)], 1)), simple),
        ("LOGGED, one partition", batch("", &inserts(&[("t", 3), ("t", 3)], 1)), simple),
        ("UNLOGGED, one key in two tables", batch("UNLOGGED", &inserts(&[("t", 4), ("u", 4)], 1)), simple),
        (
            "UNLOGGED, two partitions",
            batch("UNLOGGED", &inserts(&[("t", 5), ("t", 6)], 1)),
            "WriteTimeout(Quorum, received 1, required 2, UnloggedBatch)",
        ),
        (
            "LOGGED, two partitions",
            batch("", &inserts(&[("t", 7), ("t", 8)], 1)),
            "WriteTimeout(Two, received 0, required 2, BatchLog)",
        ),
        (
            "insert if not exists",
            inserts(&[("t", 9)], 1).replace(';', " IF NOT EXISTS"),
            "WriteTimeout(Serial, received 1, required 2, Cas)",
        ),
    ];
    let endings = kinds.iter().map(|(_, cql, _)| a.ends(cql));
    let endings = futures_util::future::join_all(endings).await;
    for ((what, _, expected), ended) in kinds.iter().zip(endings) {
        seen.check(what, &ended, expected);
    }
}

async fn a_logged_batch_whose_log_timed_out_is_written_later<W: Backend>(backend: &W, seen: &Observations) {
    backend.hinted_handoff(false).await;
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let [a, b, _] = keyspace.clients();
    backend.apply(Pause, &[1]).await;
    let logged = "INSERT INTO KS.t (p, c, v) VALUES (1, 1, 1) USING TIMESTAMP 5; INSERT INTO KS.t (p, c, v) VALUES (2, 1, 1) USING TIMESTAMP 6;";
    let ended = a.ends(&batch("", logged)).await;
    seen.check(
        "the coordinator and one log of two",
        &ended,
        "WriteTimeout(Two, received 1, required 2, BatchLog)",
    );
    a.at(Consistency::One)
        .expect(seen, "rows at once, at ONE", "SELECT p, writetime(v) FROM KS.t", "no rows")
        .await;
    backend.recover(Resume, &[1]).await;
    b.expect_within(
        seen,
        backend.delivered_within(),
        "rows later, after the last write",
        "SELECT p, writetime(v) FROM KS.t",
        "(1, 5) (2, 6)",
    )
    .await;
}

async fn unavailable_may_follow_a_batch_that_was_written_in_part<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    backend.hinted_handoff(false).await;
    let keyspace = Keyspace::with(backend, seen, &[]).await;
    let [a, ..] = keyspace.clients();
    // One replica of each row.
    a.ok(&format!(
        "ALTER KEYSPACE {} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}",
        keyspace.name
    ))
    .await;
    a.ok(&format!("CREATE TABLE KS.{EVENTS}")).await;
    keyspace.agree().await;
    backend.silence(&[2]).await;
    let one = a.at(Consistency::One);
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for partition in 0..60 {
        let result = one.ends(&format!("SELECT offset FROM KS.events WHERE partition = {partition}")).await;
        if result == "no rows" { &mut up } else { &mut down }.push(partition);
    }
    assert!(up.len() >= 10 && down.len() >= 10, "{up:?} {down:?}");
    let mut written = 0;
    let mut endings = Vec::new();
    for (living, dead) in up.iter().zip(&down).take(10) {
        let row =
            |p: &i32| format!("INSERT INTO KS.events (partition, offset, source) VALUES ({p}, 1, 's');");
        endings.push(one.ends(&batch("UNLOGGED", &(row(living) + &row(dead)))).await);
        sleep(Duration::from_millis(50)).await;
        written += i32::from(
            one.rows(&format!("SELECT offset FROM KS.events WHERE partition = {living}")).await == "(1)",
        );
    }
    endings.dedup();
    seen.check(
        "10 batches of a living and a dead partition",
        &endings.join(" / "),
        "Unavailable(One, required 1, alive 0)",
    );
    assert!(written > 0);
    seen.note(if written == 10 {
        "the living row: written, each time"
    } else {
        "the living row: written, not each time"
    });
    backend.end_silence().await;
}
