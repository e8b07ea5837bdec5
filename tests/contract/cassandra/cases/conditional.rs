//! Conditional writes (Paxos).

use futures_util::future::join_all;
use scylla::statement::{Consistency, SerialConsistency};

use super::{ROWS, batch};
use crate::cassandra::backend::Backend;
use crate::cassandra::client::{Keyspace, ending};
use crate::suite::{Case, Observations, case};

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(
            a_conditional_insert_is_applied_once_and_then_returns_the_existing_row,
            [],
            "IF NOT EXISTS returns [applied], and the existing row if it was not applied (CQL: INSERT)",
        ),
        case!(
            of_concurrent_conditional_inserts_one_is_applied,
            [],
            "Conditional writes of a partition are linearizable (architecture/guarantees)",
        ),
        case!(
            a_conditional_write_with_a_timestamp_is_refused,
            [],
            "USING TIMESTAMP is not allowed with IF (CQL: INSERT; ModificationStatement)",
        ),
        case!(
            a_conditional_write_uses_the_clock_and_shadows_small_timestamps,
            [],
            "The ballot of Paxos is the timestamp: microseconds of the coordinator's clock (StorageProxy.cas)",
        ),
        case!(
            conditions_on_values_and_on_existence,
            [],
            "UPDATE and DELETE take IF EXISTS or IF column = value; a condition that does not hold returns the values (CQL: UPDATE)",
        ),
        case!(
            a_conditional_batch_has_a_single_partition,
            [],
            "Conditional batches must be of one partition; all conditions hold or nothing is written (CQL: BATCH)",
        ),
        case!(
            serial_is_for_reads_and_conditional_writes,
            [],
            "A plain write cannot be at SERIAL; a read at SERIAL sees every applied conditional write (native_protocol_v4, 3; ConsistencyLevel.validateForWrite)",
        ),
    ]
}

const BINDING: &str = "pipeline (name text PRIMARY KEY, topic text, threshold int)";

async fn a_conditional_insert_is_applied_once_and_then_returns_the_existing_row<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[BINDING]).await;
    let [a, b, c] = keyspace.clients();
    a.expect(
        seen,
        "the first",
        "INSERT INTO KS.pipeline (name, topic) VALUES ('p', 'x') IF NOT EXISTS",
        "(true)",
    )
    .await;
    let second = "INSERT INTO KS.pipeline (name, topic, threshold) VALUES ('p', 'y', 5) IF NOT EXISTS";
    b.expect(seen, "the second: [applied], name, threshold, topic", second, "(false, 'p', null, 'x')").await;
    c.expect(seen, "the row", "SELECT topic, threshold FROM KS.pipeline WHERE name = 'p'", "('x', null)")
        .await;
    let result = a
        .ok("INSERT INTO KS.pipeline (name) VALUES ('q') IF NOT EXISTS")
        .await
        .into_rows_result()
        .expect("rows");
    let names: Vec<_> = result.column_specs().iter().map(|column| column.name().to_owned()).collect();
    seen.note(format!("columns of the first: {}", names.join(", ")));
    let result = a
        .ok("INSERT INTO KS.pipeline (name) VALUES ('q') IF NOT EXISTS")
        .await
        .into_rows_result()
        .expect("rows");
    let names: Vec<_> = result.column_specs().iter().map(|column| column.name().to_owned()).collect();
    seen.note(format!("columns of the second: {}", names.join(", ")));
}

async fn of_concurrent_conditional_inserts_one_is_applied<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[BINDING]).await;
    let mut one_each = true;
    for round in 0..5 {
        let inserts = (0..6).map(|i| {
            let client = keyspace.clients()[i % 3].clone();
            async move {
                let cql = format!(
                    "INSERT INTO KS.pipeline (name, topic) VALUES ('p{round}', 'topic {i}') IF NOT EXISTS"
                );
                client.ends(&cql).await
            }
        });
        let endings = join_all(inserts).await;
        let applied = endings.iter().filter(|ended| ended.starts_with("(true")).count();
        let refused = endings.iter().filter(|ended| ended.starts_with("(false")).count();
        // With contention, a timeout with an unknown outcome is possible; then the row shows which one was applied.
        let rows = keyspace.clients()[0]
            .rows(&format!("SELECT topic FROM KS.pipeline WHERE name = 'p{round}'"))
            .await;
        one_each &= applied <= 1 && (applied == 1 || refused < 6) && rows.starts_with("('topic ");
        assert!(endings.iter().all(|ended| ended.starts_with('(') || ended.contains("Cas")), "{endings:?}");
    }
    assert!(one_each);
    seen.note("5 times 6 at once through 3 coordinators: never two applied, and one row each");
}

async fn a_conditional_write_with_a_timestamp_is_refused<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[BINDING]).await;
    let [a, ..] = keyspace.clients();
    let insert = "INSERT INTO KS.pipeline (name, topic) VALUES ('p', 'x') IF NOT EXISTS USING TIMESTAMP 5";
    a.expect(seen, "insert", insert, "Invalid").await;
    a.expect(
        seen,
        "update",
        "UPDATE KS.pipeline USING TIMESTAMP 5 SET topic = 'x' WHERE name = 'p' IF EXISTS",
        "Invalid",
    )
    .await;
    let ttl = "INSERT INTO KS.pipeline (name, topic) VALUES ('p', 'x') IF NOT EXISTS USING TTL 1000";
    a.expect(seen, "a time to live", ttl, "(true)").await;
    let mut stamped = a.statement("INSERT INTO KS.pipeline (name, topic) VALUES ('q', 'x') IF NOT EXISTS");
    stamped.set_timestamp(Some(5));
    let ended = ending(a.session.query_unpaged(stamped, ()).await);
    seen.check("a timestamp in the request", &ended, "(true)");
    let stamp = a.rows("SELECT writetime(topic) FROM KS.pipeline WHERE name = 'q'").await;
    seen.note(format!("which {}", if stamp == "(5)" { "is taken" } else { "is not taken" }));
    assert_ne!(stamp, "(5)");
}

async fn a_conditional_write_uses_the_clock_and_shadows_small_timestamps<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[BINDING]).await;
    let [a, b, _] = keyspace.clients();
    a.ok("INSERT INTO KS.pipeline (name, topic) VALUES ('p', 'x') IF NOT EXISTS").await;
    b.ok("INSERT INTO KS.pipeline (name, topic) VALUES ('p', 'y') USING TIMESTAMP 1000").await;
    a.expect(
        seen,
        "x if not exists, then y at 1000",
        "SELECT topic FROM KS.pipeline WHERE name = 'p'",
        "('x')",
    )
    .await;
    a.ok("INSERT INTO KS.pipeline (name, topic) VALUES ('q', 'y') USING TIMESTAMP 1000").await;
    b.expect(
        seen,
        "after a plain insert",
        "INSERT INTO KS.pipeline (name, topic) VALUES ('q', 'x') IF NOT EXISTS",
        "(false, 'q', null, 'y')",
    )
    .await;
}

async fn conditions_on_values_and_on_existence<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[BINDING]).await;
    let [a, b, _] = keyspace.clients();
    a.expect(
        seen,
        "update if exists, of nothing",
        "UPDATE KS.pipeline SET topic = 'x' WHERE name = 'p' IF EXISTS",
        "(false)",
    )
    .await;
    a.ok("INSERT INTO KS.pipeline (name, topic, threshold) VALUES ('p', 'x', 1)").await;
    b.expect(
        seen,
        "if threshold = 2",
        "UPDATE KS.pipeline SET topic = 'y' WHERE name = 'p' IF threshold = 2",
        "(false, 1)",
    )
    .await;
    b.expect(
        seen,
        "if threshold = 1",
        "UPDATE KS.pipeline SET topic = 'y' WHERE name = 'p' IF threshold = 1",
        "(true)",
    )
    .await;
    a.expect(
        seen,
        "delete if topic = 'x'",
        "DELETE FROM KS.pipeline WHERE name = 'p' IF topic = 'x'",
        "(false, 'y')",
    )
    .await;
    a.expect(seen, "delete if exists", "DELETE FROM KS.pipeline WHERE name = 'p' IF EXISTS", "(true)").await;
    a.expect(seen, "rows", "SELECT * FROM KS.pipeline", "no rows").await;
}

async fn a_conditional_batch_has_a_single_partition<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let [a, ..] = keyspace.clients();
    let insert = |p: i32, c: i32| format!("INSERT INTO KS.t (p, c, v) VALUES ({p}, {c}, 1) IF NOT EXISTS;");
    a.expect(seen, "two partitions", &batch("", &(insert(1, 1) + &insert(2, 1))), "Invalid").await;
    a.expect(seen, "two rows of one", &batch("", &(insert(1, 1) + &insert(1, 2))), "(true)").await;
    let third = batch("", &(insert(1, 2) + &insert(1, 3)));
    seen.note(format!("one there, one not: {}", a.ends(&third).await));
    a.expect(seen, "rows", "SELECT c FROM KS.t", "(1) (2)").await;
}

async fn serial_is_for_reads_and_conditional_writes<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[BINDING]).await;
    let [a, b, _] = keyspace.clients();
    let serial = a.at(Consistency::Serial);
    serial
        .expect(seen, "a plain write", "INSERT INTO KS.pipeline (name, topic) VALUES ('p', 'x')", "Invalid")
        .await;
    let any = b.at(Consistency::Any);
    any.expect(seen, "a read at ANY", "SELECT topic FROM KS.pipeline WHERE name = 'p'", "Invalid").await;
    a.ok("INSERT INTO KS.pipeline (name, topic) VALUES ('p', 'x') IF NOT EXISTS").await;
    b.at(Consistency::Serial)
        .expect(seen, "a read", "SELECT topic FROM KS.pipeline WHERE name = 'p'", "('x')")
        .await;
    let scan = b.at(Consistency::Serial).ends("SELECT topic FROM KS.pipeline").await;
    seen.check("a read of the table", &scan, "('x')");
    let mut local = b.statement("UPDATE KS.pipeline SET topic = 'y' WHERE name = 'p' IF EXISTS");
    local.set_serial_consistency(Some(SerialConsistency::LocalSerial));
    seen.check(
        "a conditional write at LOCAL_SERIAL",
        &ending(b.session.query_unpaged(local, ()).await),
        "(true)",
    );
}
