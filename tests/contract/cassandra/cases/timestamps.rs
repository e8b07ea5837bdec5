//! Write timestamps: which write of a cell wins.

use std::time::Duration;

use scylla::statement::Consistency;
use scylla::value::CqlTimestamp;
use simulated_hosts::ClockFault;
use tokio::time::sleep;

use super::{COUNTS, ROWS, batch};
use crate::cassandra::backend::{Backend, Verb};
use crate::cassandra::client::{Keyspace, ending};
use crate::suite::{Case, Observations, case};

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(
            the_greater_timestamp_wins_whatever_the_order,
            [],
            "Of two writes of a cell the one with the greater timestamp is kept (architecture/dynamo: Last-Write-Wins)",
        ),
        case!(
            each_cell_of_a_row_resolves_on_its_own,
            [],
            "Timestamps belong to cells, not to rows: two writes of a row at one timestamp may merge into a row that was never written (Cells.reconcile)",
        ),
        case!(
            at_equal_timestamps_the_larger_bytes_win,
            [],
            "Equal timestamps: the values are compared as unsigned bytes, and the larger is kept (Cells.resolveRegular)",
        ),
        case!(
            at_equal_timestamps_a_tombstone_beats_a_value,
            [],
            "Equal timestamps: a deletion is kept over a value (Cells.resolveRegular; DeletionTime.deletes: timestamp <= markedForDeleteAt)",
        ),
        case!(
            at_equal_timestamps_an_expiring_value_beats_a_permanent_one,
            [],
            "Equal timestamps: a cell that expires is kept over one that does not, for it becomes a tombstone (Cells.resolveRegular, CASSANDRA-14592)",
        ),
        case!(
            writetime_and_ttl_return_what_was_written,
            [],
            "WRITETIME and TTL give a cell's timestamp and what is left of its time to live, null if it has none; not for key columns (CQL: SELECT)",
        ),
        case!(
            any_timestamp_but_the_least_may_be_used,
            [],
            "USING TIMESTAMP accepts a signed 64-bit number; the least one means none (Attributes.getTimestamp)",
        ),
        case!(
            without_a_timestamp_the_coordinator_uses_its_clock,
            [],
            "Without USING TIMESTAMP and without one in the request, the coordinator's clock is taken, in microseconds (CQL: INSERT; ClientState.getTimestamp)",
        ),
        case!(
            a_coordinator_gives_ascending_timestamps_to_the_requests_of_a_connection,
            [],
            "A connection's stamps grow even if the clock does not: last + 1 (ClientState.getTimestamp)",
        ),
        case!(
            a_timestamp_in_the_statement_overrides_one_in_the_request,
            [],
            "The request's default timestamp replaces the coordinator's, and USING TIMESTAMP replaces both (native_protocol_v4, 4.1.4)",
        ),
        case!(
            an_acknowledged_write_is_shadowed_by_an_older_one_from_a_fast_clock,
            [Clock(Step)],
            "Coordinators stamp with their own clocks: clocks must be synchronized (architecture/dynamo: Last-Write-Wins)",
        ),
        case!(
            the_timestamp_of_a_batch_is_that_of_each_statement,
            [],
            "USING TIMESTAMP stands on the batch or on its statements, not on both; within a batch order does not matter (CQL: BATCH)",
        ),
        case!(
            an_expired_value_is_null_and_does_not_reveal_an_older_one,
            [],
            "A cell past its time to live is a tombstone with the cell's own timestamp (operating/compaction/tombstones)",
        ),
        case!(
            a_time_to_live_of_zero_is_none_and_an_invalid_one_is_refused,
            [],
            "TTL 0 is none; at most 20 years (Attributes.MAX_TTL), not negative, and not beyond 2038 while files are as in 4.x (CQL: INSERT; ExpirationDateOverflowHandling)",
        ),
        case!(
            a_tables_default_time_to_live_is_that_of_every_write,
            [],
            "default_time_to_live applies to writes that set none; TTL 0 overrides it (CQL: CREATE TABLE)",
        ),
    ]
}

async fn the_greater_timestamp_wins_whatever_the_order<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[COUNTS]).await;
    let [a, b, c] = keyspace.clients();
    a.ok("INSERT INTO KS.counts (id, count) VALUES (1, 5) USING TIMESTAMP 2").await;
    b.ok("INSERT INTO KS.counts (id, count) VALUES (1, 9) USING TIMESTAMP 1").await;
    const READ: &str = "SELECT count, writetime(count) FROM KS.counts WHERE id = 1";
    c.expect(seen, "5 at 2, then 9 at 1", READ, "(5, 2)").await;
    c.ok("UPDATE KS.counts USING TIMESTAMP 3 SET count = 4 WHERE id = 1").await;
    a.expect(seen, "then 4 at 3", READ, "(4, 3)").await;
}

async fn each_cell_of_a_row_resolves_on_its_own<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[COUNTS]).await;
    let [a, b, c] = keyspace.clients();
    a.ok("INSERT INTO KS.counts (id, count, through) VALUES (1, 12, 90) USING TIMESTAMP 7").await;
    b.ok("INSERT INTO KS.counts (id, count, through) VALUES (1, 10, 100) USING TIMESTAMP 7").await;
    const READ: &str = "SELECT count, through FROM KS.counts WHERE id = ";
    c.expect(seen, "(12, 90) and (10, 100) at one timestamp", &format!("{READ}1"), "(12, 100)").await;
    b.ok("INSERT INTO KS.counts (id, count, through) VALUES (2, 10, 100) USING TIMESTAMP 101").await;
    a.ok("INSERT INTO KS.counts (id, count, through) VALUES (2, 12, 90) USING TIMESTAMP 91").await;
    c.expect(seen, "each at its position + 1", &format!("{READ}2"), "(10, 100)").await;
}

async fn at_equal_timestamps_the_larger_bytes_win<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace =
        Keyspace::with(backend, seen, &["t (id int PRIMARY KEY, n bigint, w text, y boolean, b blob)"]).await;
    let [a, b, c] = keyspace.clients();
    let pairs = [
        ("n", "9", "10", "(10)"),
        ("n", "255", "256", "(256)"),
        ("n", "-1", "1", "(-1)"),
        ("w", "'b'", "'ab'", "('b')"),
        ("w", "'a'", "'ab'", "('ab')"),
        ("w", "''", "'a'", "('a')"),
        ("w", "'Z'", "'a'", "('a')"),
        ("y", "true", "false", "(true)"),
        ("b", "0x80", "0x7fff", "(0x80)"),
    ];
    for (id, (column, one, other, expected)) in (0..).step_by(2).zip(pairs) {
        for (id, first, second) in [(id, one, other), (id + 1, other, one)] {
            a.ok(&format!("INSERT INTO KS.t (id, {column}) VALUES ({id}, {first}) USING TIMESTAMP 1")).await;
            b.ok(&format!("INSERT INTO KS.t (id, {column}) VALUES ({id}, {second}) USING TIMESTAMP 1")).await;
            let read = format!("SELECT {column} FROM KS.t WHERE id = {id}");
            c.expect(seen, &format!("{first}, then {second}"), &read, expected).await;
        }
    }
}

async fn at_equal_timestamps_a_tombstone_beats_a_value<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let [a, b, c] = keyspace.clients();
    let deletions = [
        ("the cell", "DELETE v FROM KS.t USING TIMESTAMP 5 WHERE p = P AND c = 1", "(1, null)"),
        ("null", "UPDATE KS.t USING TIMESTAMP 5 SET v = null WHERE p = P AND c = 1", "(1, null)"),
        ("the row", "DELETE FROM KS.t USING TIMESTAMP 5 WHERE p = P AND c = 1", "no rows"),
        ("the range", "DELETE FROM KS.t USING TIMESTAMP 5 WHERE p = P AND c >= 0 AND c < 2", "no rows"),
        ("the partition", "DELETE FROM KS.t USING TIMESTAMP 5 WHERE p = P", "no rows"),
    ];
    for (p, (what, deletion, expected)) in (0..).step_by(2).zip(deletions) {
        for (p, value_first) in [(p, true), (p + 1, false)] {
            let insert = format!("INSERT INTO KS.t (p, c, v) VALUES ({p}, 1, 1) USING TIMESTAMP 5");
            let delete = deletion.replace("p = P", &format!("p = {p}"));
            let [first, second] = if value_first { [&insert, &delete] } else { [&delete, &insert] };
            a.ok(first).await;
            b.ok(second).await;
            let order = if value_first { "after" } else { "before" };
            let read = format!("SELECT c, v FROM KS.t WHERE p = {p}");
            c.expect(seen, &format!("{what}, deleted {order} the insert"), &read, expected).await;
        }
    }
}

async fn at_equal_timestamps_an_expiring_value_beats_a_permanent_one<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[COUNTS]).await;
    let [a, b, c] = keyspace.clients();
    const STAYS: &str = "UPDATE KS.counts USING TIMESTAMP 5 SET count = 9 WHERE id = ";
    const EXPIRES: &str = "UPDATE KS.counts USING TIMESTAMP 5 AND TTL 10000 SET count = 1 WHERE id = ";
    for (id, first, second) in [(1, STAYS, EXPIRES), (2, EXPIRES, STAYS)] {
        a.ok(&format!("{first}{id}")).await;
        b.ok(&format!("{second}{id}")).await;
        let what = if id == 1 { "9 that stays, then 1 that expires" } else { "the other way round" };
        c.expect(seen, what, &format!("SELECT count FROM KS.counts WHERE id = {id}"), "(1)").await;
    }
}

async fn writetime_and_ttl_return_what_was_written<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[COUNTS]).await;
    let [a, ..] = keyspace.clients();
    a.ok("INSERT INTO KS.counts (id, count) VALUES (1, 5) USING TIMESTAMP 123456789").await;
    const READ: &str =
        "SELECT writetime(count), ttl(count), writetime(through), ttl(through) FROM KS.counts WHERE id = 1";
    a.expect(seen, "a value, and none", READ, "(123456789, null, null, null)").await;
    a.ok("UPDATE KS.counts USING TIMESTAMP 7 AND TTL 5000 SET through = 1 WHERE id = 1").await;
    let result =
        a.ok("SELECT ttl(through) FROM KS.counts WHERE id = 1").await.into_rows_result().expect("rows");
    let (ttl,) = result.single_row::<(i32,)>().expect("one int");
    assert!((4000..=5000).contains(&ttl), "{ttl}");
    seen.note("TTL 5000: at most as much is left");
    a.expect(seen, "writetime of a key", "SELECT writetime(id) FROM KS.counts", "Invalid").await;
    a.expect(seen, "ttl of a key", "SELECT ttl(id) FROM KS.counts", "Invalid").await;
    a.expect(
        seen,
        "writetime in WHERE",
        "SELECT id FROM KS.counts WHERE writetime(count) = 1",
        "SyntaxError",
    )
    .await;
}

async fn any_timestamp_but_the_least_may_be_used<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[COUNTS]).await;
    let [a, ..] = keyspace.clients();
    let insert = a.prepare("INSERT INTO KS.counts (id, count) VALUES (?, 1) USING TIMESTAMP ?").await;
    for (id, timestamp) in [(1, 0), (2, -1), (3, i64::MAX), (4, i64::MIN + 1)] {
        a.execute(&insert, (id, timestamp)).await;
        let read = format!("SELECT writetime(count) FROM KS.counts WHERE id = {id}");
        a.expect(seen, "read back", &read, &format!("({timestamp})")).await;
    }
    let least = ending(a.session.execute_unpaged(&insert, (5, i64::MIN)).await);
    seen.check("the least", &least, "Invalid");
    let null = ending(a.session.execute_unpaged(&insert, (6, None::<i64>)).await);
    seen.check("null", &null, "Invalid");
    a.expect(
        seen,
        "no number",
        "INSERT INTO KS.counts (id, count) VALUES (1, 1) USING TIMESTAMP 'x'",
        "SyntaxError",
    )
    .await;
}

/// A coordinator's clock, in milliseconds.
async fn clock(client: &crate::cassandra::client::Client) -> i64 {
    let result =
        client.ok("SELECT toTimestamp(now()) FROM system.local").await.into_rows_result().expect("rows");
    result.single_row::<(CqlTimestamp,)>().expect("one timestamp").0.0
}

async fn writetimes(client: &crate::cassandra::client::Client, table: &str) -> Vec<i64> {
    let result =
        client.ok(&format!("SELECT writetime(v) FROM {table}")).await.into_rows_result().expect("rows");
    result.rows::<(i64,)>().expect("bigints").map(|row| row.expect("a bigint").0).collect()
}

async fn without_a_timestamp_the_coordinator_uses_its_clock<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    for client in keyspace.clients() {
        let before = clock(client).await;
        client.ok("INSERT INTO KS.t (p, c, v) VALUES (1, 1, 1)").await;
        let after = clock(client).await;
        let stamp = writetimes(client, "KS.t").await[0];
        assert!((before * 1000..=(after + 1) * 1000).contains(&stamp), "{before} {stamp} {after}");
    }
    seen.note("each coordinator: microseconds, between its clock before and after");
}

async fn a_coordinator_gives_ascending_timestamps_to_the_requests_of_a_connection<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let [a, ..] = keyspace.clients();
    let insert = a.at(Consistency::One).prepare("INSERT INTO KS.t (p, c, v) VALUES (1, ?, 1)").await;
    for c in 0..100 {
        a.execute(&insert, (c,)).await;
    }
    let stamps = writetimes(&a.at(Consistency::All), "KS.t").await;
    assert_eq!(stamps.len(), 100);
    assert!(stamps.is_sorted_by(|one, next| one < next), "{stamps:?}");
    seen.note("100 writes one after another: each stamp greater than the one before");
}

async fn a_timestamp_in_the_statement_overrides_one_in_the_request<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[COUNTS]).await;
    let [a, ..] = keyspace.clients();
    const READ: &str = "SELECT writetime(count) FROM KS.counts WHERE id = 1";
    let mut plain = a.statement("INSERT INTO KS.counts (id, count) VALUES (1, 1)");
    plain.set_timestamp(Some(77));
    a.session.query_unpaged(plain, ()).await.expect("an insert");
    a.expect(seen, "77 in the request", READ, "(77)").await;
    let mut both = a.statement("INSERT INTO KS.counts (id, count) VALUES (1, 1) USING TIMESTAMP 99");
    both.set_timestamp(Some(88));
    a.session.query_unpaged(both, ()).await.expect("an insert");
    a.expect(seen, "88 in the request, 99 in the text", READ, "(99)").await;
}

async fn an_acknowledged_write_is_shadowed_by_an_older_one_from_a_fast_clock<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[COUNTS]).await;
    let [a, b, c] = keyspace.clients();
    let ahead = ClockFault::Step { by_ms: 60_000 };
    backend.apply_to_clock(ahead, 0).await;
    a.ok("INSERT INTO KS.counts (id, count) VALUES (1, 1)").await;
    b.ok("INSERT INTO KS.counts (id, count) VALUES (1, 2)").await;
    let read = "SELECT count FROM KS.counts WHERE id = 1";
    c.expect(seen, "1 through a clock that is 60 s ahead, then 2 through another", read, "(1)").await;
    backend.restore_clock(ahead, 0).await;
}

async fn the_timestamp_of_a_batch_is_that_of_each_statement<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[COUNTS]).await;
    let [a, ..] = keyspace.clients();
    let insert = |id: i32, count: i32, using: &str| {
        format!("INSERT INTO KS.counts (id, count) VALUES ({id}, {count}) {using};")
    };
    let both = format!("{} {}", insert(1, 5, ""), insert(1, 3, ""));
    a.ok(&format!("BEGIN UNLOGGED BATCH USING TIMESTAMP 40 {both} APPLY BATCH")).await;
    const READ: &str = "SELECT count, writetime(count) FROM KS.counts WHERE id = ";
    a.expect(seen, "5, then 3, in a batch at 40", &format!("{READ}1"), "(5, 40)").await;
    let own = format!("{} {}", insert(2, 1, "USING TIMESTAMP 9"), insert(2, 2, "USING TIMESTAMP 8"));
    a.ok(&batch("UNLOGGED", &own)).await;
    a.expect(seen, "1 at 9, then 2 at 8", &format!("{READ}2"), "(1, 9)").await;
    let twice = format!("BEGIN UNLOGGED BATCH USING TIMESTAMP 1 {own} APPLY BATCH");
    a.expect(seen, "on the batch and on its statements", &twice, "Invalid").await;
}

async fn an_expired_value_is_null_and_does_not_reveal_an_older_one<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[COUNTS]).await;
    let [a, b, _] = keyspace.clients();
    a.ok("INSERT INTO KS.counts (id, count) VALUES (1, 10) USING TIMESTAMP 10").await;
    a.ok("UPDATE KS.counts USING TIMESTAMP 20 AND TTL 1 SET count = 12 WHERE id = 1").await;
    const READ: &str = "SELECT count FROM KS.counts WHERE id = 1";
    sleep(Duration::from_millis(2500)).await;
    b.expect(seen, "10 at 10, 12 at 20 for a second, later", READ, "(null)").await;
    a.ok("INSERT INTO KS.counts (id, count) VALUES (1, 11) USING TIMESTAMP 15").await;
    b.expect(seen, "then 11 at 15", READ, "(null)").await;
    a.ok("INSERT INTO KS.counts (id, count) VALUES (1, 13) USING TIMESTAMP 20").await;
    b.expect(seen, "then 13 at 20", READ, "(null)").await;
    a.ok("INSERT INTO KS.counts (id, count) VALUES (1, 14) USING TIMESTAMP 21").await;
    b.expect(seen, "then 14 at 21", READ, "(14)").await;
    a.ok("INSERT INTO KS.counts (id, count) VALUES (2, 1) USING TTL 1").await;
    sleep(Duration::from_millis(2500)).await;
    b.expect(seen, "a row inserted for a second, later", "SELECT * FROM KS.counts WHERE id = 2", "no rows")
        .await;
}

async fn a_time_to_live_of_zero_is_none_and_an_invalid_one_is_refused<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[COUNTS]).await;
    let [a, ..] = keyspace.clients();
    for (what, ttl, expected) in [
        ("0", "0", "ok"),
        ("a year", "31536000", "ok"),
        ("20 years", "630720000", "Invalid"),
        ("a second more", "630720001", "Invalid"),
        ("-1", "-1", "Invalid"),
    ] {
        a.expect(
            seen,
            what,
            &format!("INSERT INTO KS.counts (id, count) VALUES (1, 1) USING TTL {ttl}"),
            expected,
        )
        .await;
        if ttl == "0" {
            a.expect(seen, "read back", "SELECT ttl(count) FROM KS.counts WHERE id = 1", "(null)").await;
        }
    }
}

async fn a_tables_default_time_to_live_is_that_of_every_write<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace =
        Keyspace::with(backend, seen, &["t (id int PRIMARY KEY, v int) WITH default_time_to_live = 1"]).await;
    let [a, ..] = keyspace.clients();
    a.ok("INSERT INTO KS.t (id, v) VALUES (1, 1)").await;
    a.ok("INSERT INTO KS.t (id, v) VALUES (2, 2) USING TTL 0").await;
    sleep(Duration::from_millis(2500)).await;
    a.expect(seen, "after the second of the table, and of TTL 0", "SELECT id, v FROM KS.t", "(2, 2)").await;
}
