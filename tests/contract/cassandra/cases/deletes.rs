//! Deletions: which writes they shadow.

use std::time::Duration;

use scylla::statement::Consistency;
use tokio::time::sleep;

use super::{EVENTS, ROWS, events};
use crate::cassandra::backend::{Backend, Verb};
use crate::cassandra::client::Keyspace;
use crate::suite::{Case, Observations, case};

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(
            a_delete_without_a_timestamp_shadows_later_writes_with_small_timestamps,
            [],
            "A deletion covers what has a timestamp not greater than its own, also what is written later (operating/compaction/tombstones)",
        ),
        case!(
            a_deletion_does_not_cover_newer_writes,
            [],
            "A deletion covers what has a timestamp not greater than its own (DeletionTime.deletes)",
        ),
        case!(
            a_range_deletion_covers_its_bounds_and_no_more,
            [],
            "DELETE takes a range of clustering values (CQL: DELETE)",
        ),
        case!(
            a_deletion_of_a_missing_row_is_acknowledged,
            [],
            "DELETE does not look at what is there (CQL: DELETE)",
        ),
        case!(
            a_truncated_table_accepts_small_timestamps_again,
            [],
            "TRUNCATE drops the data files of all nodes; it leaves no tombstone (CQL: TRUNCATE)",
        ),
        case!(
            after_gc_grace_and_a_compaction_older_writes_are_visible,
            [Compact],
            "A compaction drops tombstones that are older than gc_grace_seconds, 10 days by default (operating/compaction/tombstones)",
        ),
        case!(
            flushed_and_unflushed_writes_are_resolved_together,
            [Compact],
            "A read merges memtable and data files by timestamp (architecture/storage_engine)",
        ),
    ]
}

async fn a_delete_without_a_timestamp_shadows_later_writes_with_small_timestamps<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, b, _] = keyspace.clients();
    a.ok(&events(0, 0..3)).await;
    a.ok("DELETE FROM KS.events WHERE partition = 0").await;
    a.ok(&events(0, 0..3)).await;
    b.expect(
        seen,
        "rows written at 1 to 3, acknowledged, after it",
        "SELECT offset FROM KS.events WHERE partition = 0",
        "no rows",
    )
    .await;
    a.ok(&events(1, 0..3)).await;
    a.ok("UPDATE KS.events SET source = null WHERE partition = 1 AND offset = 1").await;
    a.ok(&events(1, 0..3)).await;
    let read = "SELECT offset, source FROM KS.events WHERE partition = 1";
    b.expect(seen, "the same after one cell", read, "(2, 's') (1, null) (0, 's')").await;
}

async fn a_deletion_does_not_cover_newer_writes<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, b, _] = keyspace.clients();
    a.ok(&events(0, 0..6)).await;
    const READ: &str = "SELECT offset FROM KS.events WHERE partition = 0";
    a.ok("DELETE FROM KS.events USING TIMESTAMP 3 WHERE partition = 0").await;
    b.expect(seen, "rows at 1 to 6, the partition deleted at 3", READ, "(5) (4) (3)").await;
    a.ok("DELETE FROM KS.events USING TIMESTAMP 4 WHERE partition = 0 AND offset = 4").await;
    b.expect(seen, "then row 4, which is at 5, deleted at 4", READ, "(5) (4) (3)").await;
    a.ok("DELETE FROM KS.events USING TIMESTAMP 5 WHERE partition = 0 AND offset = 4").await;
    b.expect(seen, "then at 5", READ, "(5) (3)").await;
    a.ok("DELETE source FROM KS.events USING TIMESTAMP 6 WHERE partition = 0 AND offset = 5").await;
    b.expect(
        seen,
        "then a cell",
        "SELECT offset, source FROM KS.events WHERE partition = 0",
        "(5, null) (3, 's')",
    )
    .await;
}

async fn a_range_deletion_covers_its_bounds_and_no_more<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, b, _] = keyspace.clients();
    for (partition, range, expected) in [
        (0, "offset >= 2 AND offset < 4", "(5) (4) (1) (0)"),
        (1, "offset > 2 AND offset <= 4", "(5) (2) (1) (0)"),
        (2, "offset < 4", "(5) (4)"),
        (3, "offset IN (0, 5)", "(4) (3) (2) (1)"),
        (4, "offset > 4 AND offset < 2", "(5) (4) (3) (2) (1) (0)"),
    ] {
        a.ok(&events(partition, 0..6)).await;
        a.ok(&format!("DELETE FROM KS.events USING TIMESTAMP 100 WHERE partition = {partition} AND {range}"))
            .await;
        let read = format!("SELECT offset FROM KS.events WHERE partition = {partition}");
        b.expect(seen, &format!("of 0 to 5, {range}"), &read, expected).await;
    }
    a.ok(&events(0, 0..6)).await;
    b.expect(
        seen,
        "the first range written again",
        "SELECT offset FROM KS.events WHERE partition = 0",
        "(5) (4) (1) (0)",
    )
    .await;
    let read = "SELECT offset FROM KS.events WHERE partition = 0 AND offset < 5 ORDER BY offset ASC LIMIT 3";
    b.expect(seen, "LIMIT 3 from below, across it", read, "(0) (1) (4)").await;
}

async fn a_deletion_of_a_missing_row_is_acknowledged<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let [a, b, _] = keyspace.clients();
    a.expect(seen, "deleted at 9", "DELETE FROM KS.t USING TIMESTAMP 9 WHERE p = 1 AND c = 1", "ok").await;
    a.ok("INSERT INTO KS.t (p, c, v) VALUES (1, 1, 1) USING TIMESTAMP 8").await;
    b.expect(seen, "then inserted at 8", "SELECT * FROM KS.t", "no rows").await;
    a.ok("INSERT INTO KS.t (p, c, v) VALUES (1, 1, 1) USING TIMESTAMP 10").await;
    b.expect(seen, "then at 10", "SELECT * FROM KS.t", "(1, 1, 1)").await;
}

async fn a_truncated_table_accepts_small_timestamps_again<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, b, _] = keyspace.clients();
    // At ALL: what a replica writes after it has truncated the table is there.
    let all = a.at(Consistency::All);
    all.ok(&events(0, 0..3)).await;
    all.ok("DELETE FROM KS.events WHERE partition = 0 AND offset = 1").await;
    a.ok("TRUNCATE KS.events").await;
    const READ: &str = "SELECT offset FROM KS.events WHERE partition = 0";
    b.expect(seen, "after it", READ, "no rows").await;
    a.ok(&events(0, 0..3)).await;
    b.expect(seen, "the same rows written again, one of which had been deleted", READ, "(2) (1) (0)").await;
}

async fn after_gc_grace_and_a_compaction_older_writes_are_visible<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let tables = [ROWS.to_owned(), format!("{} WITH gc_grace_seconds = 0", ROWS.replacen('t', "u", 1))];
    let keyspace = Keyspace::with(backend, seen, &tables.each_ref().map(String::as_str)).await;
    let [a, b, _] = keyspace.clients();
    for table in ["t", "u"] {
        a.at(Consistency::All).ok(&format!("DELETE FROM KS.{table} USING TIMESTAMP 100 WHERE p = 1")).await;
    }
    // `gc_grace_seconds` has a resolution of one second.
    sleep(Duration::from_secs(2)).await;
    backend.compact(&keyspace.name, true).await;
    for (table, what, expected) in [("u", "gc_grace_seconds = 0", "(1)"), ("t", "10 days", "no rows")] {
        a.ok(&format!("INSERT INTO KS.{table} (p, c, v) VALUES (1, 1, 1) USING TIMESTAMP 50")).await;
        let read = format!("SELECT v FROM KS.{table} WHERE p = 1");
        b.expect(seen, &format!("{what}: deleted at 100, compacted, inserted at 50"), &read, expected).await;
    }
}

async fn flushed_and_unflushed_writes_are_resolved_together<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, b, _] = keyspace.clients();
    a.ok(&events(0, 0..4)).await;
    a.ok("DELETE FROM KS.events USING TIMESTAMP 50 WHERE partition = 0 AND offset = 2").await;
    backend.compact(&keyspace.name, false).await;
    a.ok("INSERT INTO KS.events (partition, offset, source) VALUES (0, 1, 'older') USING TIMESTAMP 1").await;
    a.ok("INSERT INTO KS.events (partition, offset, source) VALUES (0, 3, 'newer') USING TIMESTAMP 5").await;
    a.ok(&events(0, 2..3)).await;
    let read = "SELECT offset, source FROM KS.events WHERE partition = 0";
    b.expect(
        seen,
        "a file with 0 to 3, 2 deleted; then 1 older, 3 newer, 2 again",
        read,
        "(3, 'newer') (1, 's') (0, 's')",
    )
    .await;
}
