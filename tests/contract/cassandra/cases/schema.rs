//! The schema: statements that change it, schema tables, and invalid statements.

use std::time::Duration;

use exactlyonce::store::{Layout, cql};
use scylla::statement::Consistency;
use simulated_hosts::{HostFault::Pause, Recovery::Resume};
use tokio::time::{Instant, sleep};

use super::{EVENTS, ROWS, events};
use crate::cassandra::backend::{Backend, Verb};
use crate::cassandra::client::{Keyspace, ending};
use crate::suite::{Case, Observations, case};

pub fn cases<W: Backend>() -> Vec<Case<W>> {
    vec![
        case!(
            each_wrong_statement_has_its_kind_of_error,
            [],
            "Syntax_error 0x2000, Invalid 0x2200, Config_error 0x2300, Already_exists 0x2400 (native_protocol_v4, 9)",
        ),
        case!(
            an_existing_keyspace_or_table_is_reported,
            [],
            "CREATE of what exists is Already_exists with keyspace and table; with IF NOT EXISTS it changes nothing, whatever it says (CQL: CREATE TABLE)",
        ),
        case!(
            the_schema_tables_list_columns_kinds_types_and_order,
            [],
            "system_schema.columns has a row for each column (CQL: system_schema)",
        ),
        case!(
            the_schema_tables_list_the_options_of_a_table,
            [],
            "system_schema.tables has a column for each option (CQL: system_schema)",
        ),
        case!(
            names_are_lower_case_unless_quoted_and_those_of_the_pipeline_require_no_quotes,
            [],
            "Unquoted identifiers are case-insensitive; reserved words need quotes (CQL: Identifiers, Appendix A)",
        ),
        case!(
            system_tables_describe_the_cluster,
            [],
            "system.local and system.peers_v2 list the nodes, their tokens and schema versions (virtual and system tables)",
        ),
        case!(a_new_column_is_null_in_old_rows, [], "ALTER TABLE ADD does not touch rows (CQL: ALTER TABLE)",),
        case!(
            a_column_dropped_and_added_again_shadows_small_timestamps,
            [Compact],
            "Data written before the drop does not reappear: cells with a timestamp before the time of the drop are ignored (CQL: ALTER TABLE)",
        ),
        case!(
            a_recreated_table_is_a_different_one,
            [],
            "DROP TABLE removes its data; a table has an id of its own (CQL: DROP TABLE)",
        ),
        case!(
            a_prepared_statement_is_updated_after_a_change_of_its_table,
            [],
            "A change of a table drops its prepared statements; an execution is answered Unprepared, and the driver prepares again (native_protocol_v4, 9)",
        ),
        case!(
            a_statement_prepared_at_one_node_is_prepared_again_at_another,
            [],
            "Prepared statements belong to a node; another returns Unprepared, and the driver prepares again (native_protocol_v4, 4.1.5 and 9)",
        ),
        case!(
            a_new_table_is_unknown_to_a_paused_node_until_it_is_resumed,
            [Host(Pause)],
            "Schema changes spread by messages and gossip; drivers wait until all schema_version are equal (architecture; drivers)",
        ),
    ]
}

async fn each_wrong_statement_has_its_kind_of_error<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let [a, ..] = keyspace.clients();
    for (cql, expected) in [
        ("SELEC * FROM KS.t", "SyntaxError"),
        ("SELECT * FROM KS.t WHERE", "SyntaxError"),
        ("SELECT * FROM KS.t;;", "no rows"),
        ("SELECT * FROM KS.t USING TIMESTAMP 1", "SyntaxError"),
        ("INSERT INTO KS.t (p, c) VALUES (1, 2", "SyntaxError"),
        ("INSERT INTO KS.t (p, c) VALUES (1)", "Invalid"),
        ("", "SyntaxError"),
        ("SELECT * FROM KS.missing", "Invalid"),
        ("SELECT * FROM missing_keyspace.t", "Invalid"),
        ("SELECT * FROM t", "Invalid"),
        ("SELECT missing FROM KS.t", "Invalid"),
        ("SELECT missing(v) FROM KS.t", "Invalid"),
        ("SELECT * FROM KS.t WHERE missing = 1", "Invalid"),
        ("INSERT INTO KS.t (p, v) VALUES (1, 2)", "Invalid"),
        ("INSERT INTO KS.t (p, c, missing) VALUES (1, 2, 3)", "Invalid"),
        ("INSERT INTO KS.t (p, c, c) VALUES (1, 2, 3)", "Invalid"),
        ("UPDATE KS.t SET c = 1 WHERE p = 1 AND c = 1", "Invalid"),
        ("UPDATE KS.t SET v = 1 WHERE p = 1", "Invalid"),
        ("UPDATE KS.t SET v = v + 1 WHERE p = 1 AND c = 1", "Invalid"),
        ("UPDATE KS.t SET v = 1 WHERE p = 1 AND c = 1 AND v = 1", "Invalid"),
        ("DELETE FROM KS.t WHERE c = 1", "Invalid"),
        ("DELETE v FROM KS.t WHERE p = 1", "Invalid"),
        ("DELETE p FROM KS.t WHERE p = 1 AND c = 1", "Invalid"),
        ("INSERT INTO KS.t (p, c, v) VALUES (?, 1, 1)", "Invalid"),
        ("CREATE TABLE KS.x (a int)", "Invalid"),
        ("CREATE TABLE KS.x (a int PRIMARY KEY, a int)", "Invalid"),
        ("CREATE TABLE KS.x (a missing PRIMARY KEY)", "Invalid"),
        ("CREATE TABLE KS.x (a int PRIMARY KEY) WITH missing = 1", "SyntaxError"),
        ("CREATE TABLE KS.x (a int PRIMARY KEY, b set<int>) WITH CLUSTERING ORDER BY (b DESC)", "Invalid"),
        ("CREATE TABLE missing_keyspace.x (a int PRIMARY KEY)", "Invalid"),
        ("CREATE KEYSPACE missing_keyspace", "SyntaxError"),
        ("CREATE KEYSPACE missing_keyspace WITH replication = {'class': 'Missing'}", "ConfigError"),
        ("ALTER TABLE KS.t DROP c", "Invalid"),
        ("ALTER TABLE KS.t DROP missing", "Invalid"),
        ("ALTER TABLE KS.t ADD v int", "Invalid"),
        ("ALTER TABLE KS.t ALTER v TYPE text", "Invalid"),
        ("DROP TABLE KS.missing", "Invalid"),
        ("DROP KEYSPACE missing_keyspace", "Invalid"),
        ("TRUNCATE KS.missing", "Invalid"),
        ("USE missing_keyspace", "Invalid"),
    ] {
        a.expect(seen, &format!("`{cql}`"), cql, expected).await;
    }
}

async fn an_existing_keyspace_or_table_is_reported<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let [a, ..] = keyspace.clients();
    let create = format!(
        "KEYSPACE IF NOT EXISTS {} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}",
        keyspace.name
    );
    a.expect(
        seen,
        "a keyspace",
        &format!("CREATE {}", create.replace("IF NOT EXISTS ", "")),
        "AlreadyExists(keyspace)",
    )
    .await;
    a.expect(seen, "if not exists, with another replication", &format!("CREATE {create}"), "ok").await;
    let read =
        format!("SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = '{}'", keyspace.name);
    seen.note(format!("its replication: {}", a.rows(&read).await));
    a.ok("DROP KEYSPACE IF EXISTS contract_without_factor").await;
    let create = "CREATE KEYSPACE contract_without_factor WITH replication = {'class': 'SimpleStrategy'}";
    a.expect(seen, "another without a replication factor", create, "ok").await;
    a.ok("DROP KEYSPACE contract_without_factor").await;
    a.expect(seen, "a table", "CREATE TABLE KS.t (a int PRIMARY KEY)", "AlreadyExists(table t)").await;
    a.expect(
        seen,
        "if not exists, with other columns",
        "CREATE TABLE IF NOT EXISTS KS.t (a int PRIMARY KEY)",
        "ok",
    )
    .await;
    a.expect(seen, "its columns", "SELECT p, c, v FROM KS.t", "no rows").await;
    a.expect(seen, "drop if exists, of nothing", "DROP TABLE IF EXISTS KS.missing", "ok").await;
}

/// The tables of the pipeline, each after `CREATE TABLE KS.`.
fn tables_of_the_pipeline() -> Vec<String> {
    let keyspace = cql::Keyspace::try_from("k".to_owned()).expect("a name");
    let replication = cql::Replication::anywhere(1).expect("a number of replicas");
    let statements = cql::statements(&keyspace, &replication, Layout::ORIGINAL);
    let tables = statements.iter().filter_map(|one| one.strip_prefix("CREATE TABLE IF NOT EXISTS k."));
    tables.map(str::to_owned).collect()
}

async fn the_schema_tables_list_columns_kinds_types_and_order<W: Backend>(backend: &W, seen: &Observations) {
    let tables = tables_of_the_pipeline();
    let keyspace =
        Keyspace::with(backend, seen, &tables.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let [_, b, _] = keyspace.clients();
    assert_eq!(tables.len(), 7);
    for (table, expected) in [
        (
            "events",
            "('client', 'regular', -1, 'text', 'none') ('health', 'regular', -1, 'int', 'none') ('id', 'regular', -1, 'bigint', 'none') \
             ('offset', 'clustering', 0, 'bigint', 'desc') ('partition', 'partition_key', 0, 'int', 'none') \
             ('source', 'regular', -1, 'text', 'none') ('ts', 'regular', -1, 'timestamp', 'none')",
        ),
        (
            "window_counts",
            "('block', 'partition_key', 1, 'bigint', 'none') ('count', 'regular', -1, 'bigint', 'none') \
             ('partition', 'partition_key', 0, 'int', 'none') ('shard', 'partition_key', 2, 'int', 'none') \
             ('source', 'clustering', 1, 'text', 'asc') ('through_offset', 'regular', -1, 'bigint', 'none') \
             ('window_end', 'clustering', 0, 'timestamp', 'asc')",
        ),
    ] {
        let read = format!(
            "SELECT column_name, kind, position, type, clustering_order FROM system_schema.columns \
             WHERE keyspace_name = '{}' AND table_name = '{table}'",
            keyspace.name
        );
        b.expect(seen, table, &read, expected).await;
    }
    let read = format!(
        "SELECT type FROM system_schema.columns WHERE keyspace_name = '{}' AND table_name = 'pipeline' AND column_name IN ('health', 'origins')",
        keyspace.name
    );
    b.expect(seen, "frozen collections", &read, "('frozen<set<int>>') ('frozen<map<int, bigint>>')").await;
}

async fn the_schema_tables_list_the_options_of_a_table<W: Backend>(backend: &W, seen: &Observations) {
    let tables = [
        ROWS.to_owned(),
        format!(
            "u{} WITH default_time_to_live = 60 AND gc_grace_seconds = 5 AND read_repair = 'NONE' AND comment = 'it''s' \
                 AND compaction = {{'class': 'TimeWindowCompactionStrategy'}}",
            &ROWS[1..]
        ),
    ];
    let keyspace = Keyspace::with(backend, seen, &tables.each_ref().map(String::as_str)).await;
    let [_, b, _] = keyspace.clients();
    for (table, what) in [("t", "nothing said"), ("u", "all said")] {
        let read = format!(
            "SELECT default_time_to_live, gc_grace_seconds, read_repair, comment, compaction, speculative_retry \
             FROM system_schema.tables WHERE keyspace_name = '{}' AND table_name = '{table}'",
            keyspace.name
        );
        seen.note(format!("{what}: {}", b.rows(&read).await));
    }
}

async fn names_are_lower_case_unless_quoted_and_those_of_the_pipeline_require_no_quotes<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &["T (Partition int PRIMARY KEY, \"Upper\" int, offset int, timestamp int, key int, value int, count int)"]).await;
    let [a, ..] = keyspace.clients();
    a.ok("INSERT INTO KS.t (PARTITION, \"Upper\", offset, timestamp, key, value, count) VALUES (1, 2, 3, 4, 5, 6, 7)").await;
    let read = "SELECT partition, \"Upper\", Offset, timestamp, key, value, count FROM KS.T";
    a.expect(seen, "read back", read, "(1, 2, 3, 4, 5, 6, 7)").await;
    a.expect(seen, "Upper without quotes", "SELECT Upper FROM KS.t", "Invalid").await;
    a.expect(seen, "a reserved word", "CREATE TABLE KS.x (token int PRIMARY KEY, order int)", "SyntaxError")
        .await;
}

async fn system_tables_describe_the_cluster<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[]).await;
    for client in keyspace.clients() {
        let one = client.at(Consistency::One);
        let local = "SELECT key, bootstrapped, partitioner, data_center FROM system.local";
        let listed = one.rows(local).await;
        seen.note(format!("local: {listed}"));
        let peers = one
            .ok("SELECT peer, data_center, schema_version FROM system.peers")
            .await
            .into_rows_result()
            .expect("rows");
        assert_eq!(peers.rows_num(), 2);
        let version = one.rows("SELECT schema_version FROM system.local").await;
        let end = Instant::now() + Duration::from_secs(30);
        while one.rows("SELECT schema_version FROM system.peers").await != format!("{version} {version}") {
            assert!(Instant::now() < end, "system.peers does not get up to date");
            sleep(Duration::from_millis(100)).await;
        }
        seen.note(format!("peers: {}, soon with the same schema_version", peers.rows_num()));
    }
}

async fn a_new_column_is_null_in_old_rows<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let [a, b, _] = keyspace.clients();
    a.ok("INSERT INTO KS.t (p, c, v) VALUES (1, 1, 1) USING TIMESTAMP 5").await;
    a.ok("ALTER TABLE KS.t ADD w text").await;
    keyspace.agree().await;
    b.expect(seen, "old row", "SELECT v, w FROM KS.t", "(1, null)").await;
    b.ok("INSERT INTO KS.t (p, c, w) VALUES (1, 1, 'w') USING TIMESTAMP 3").await;
    a.expect(
        seen,
        "the column written at a smaller timestamp",
        "SELECT v, w, writetime(w) FROM KS.t",
        "(1, 'w', 3)",
    )
    .await;
}

async fn a_column_dropped_and_added_again_shadows_small_timestamps<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let [a, b, _] = keyspace.clients();
    a.ok("INSERT INTO KS.t (p, c, v) VALUES (1, 1, 1) USING TIMESTAMP 5").await;
    a.ok("ALTER TABLE KS.t DROP v").await;
    keyspace.agree().await;
    a.ok("ALTER TABLE KS.t ADD v int").await;
    keyspace.agree().await;
    b.expect(seen, "the old value", "SELECT c, v FROM KS.t", "(1, null)").await;
    a.ok("INSERT INTO KS.t (p, c, v) VALUES (1, 1, 2) USING TIMESTAMP 6").await;
    b.expect(seen, "a new one at a small timestamp", "SELECT c, v FROM KS.t", "(1, null)").await;
    backend.compact(&keyspace.name, false).await;
    b.expect(seen, "that, once it is flushed", "SELECT c, v FROM KS.t", "(1, null)").await;
    a.ok("INSERT INTO KS.t (p, c, v) VALUES (1, 1, 3)").await;
    backend.compact(&keyspace.name, false).await;
    b.expect(seen, "one at the clock's, once it is flushed", "SELECT c, v FROM KS.t", "(1, 3)").await;
}

async fn a_recreated_table_is_a_different_one<W: Backend>(backend: &W, seen: &Observations) {
    let keyspace = Keyspace::with(backend, seen, &[EVENTS]).await;
    let [a, b, _] = keyspace.clients();
    a.ok(&events(0, 0..2)).await;
    a.ok("DELETE FROM KS.events WHERE partition = 0 AND offset = 1").await;
    let insert = a.prepare("INSERT INTO KS.events (partition, offset, source) VALUES (0, ?, 'p')").await;
    a.ok("DROP TABLE KS.events").await;
    keyspace.agree().await;
    let ended = ending(a.session.execute_unpaged(&insert, (7_i64,)).await);
    seen.check("a prepared insert into what is dropped", &ended, "Invalid");
    a.ok(&format!("CREATE TABLE KS.{EVENTS}")).await;
    keyspace.agree().await;
    b.expect(seen, "rows", "SELECT offset FROM KS.events", "no rows").await;
    a.ok(&events(0, 0..2)).await;
    b.expect(
        seen,
        "written again at small timestamps, one had been deleted",
        "SELECT offset FROM KS.events",
        "(1) (0)",
    )
    .await;
    let ended = ending(a.session.execute_unpaged(&insert, (7_i64,)).await);
    seen.check("the statement that was prepared for the first", &ended, "ok");
    b.expect(seen, "rows", "SELECT offset FROM KS.events", "(7) (1) (0)").await;
}

async fn a_prepared_statement_is_updated_after_a_change_of_its_table<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let [a, ..] = keyspace.clients();
    let insert = a.prepare("INSERT INTO KS.t (p, c, v) VALUES (?, ?, ?)").await;
    let all = a.prepare("SELECT * FROM KS.t WHERE p = ?").await;
    a.execute(&insert, (1, 1, 1)).await;
    a.ok("ALTER TABLE KS.t ADD w text").await;
    keyspace.agree().await;
    a.execute(&insert, (1, 2, 2)).await;
    let read = ending(a.session.execute_unpaged(&all, (1,)).await);
    seen.check("a column added: all columns", &read, "(1, 1, 1, null) (1, 2, 2, null)");
    a.ok("ALTER TABLE KS.t DROP v").await;
    keyspace.agree().await;
    let read = ending(a.session.execute_unpaged(&all, (1,)).await);
    seen.check("a column dropped: all columns", &read, "(1, 1, null) (1, 2, null)");
    let written = ending(a.session.execute_unpaged(&insert, (1, 3, 3)).await);
    seen.check("an insert into it", &written, "Invalid");
}

async fn a_statement_prepared_at_one_node_is_prepared_again_at_another<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[ROWS]).await;
    let [a, b, c] = keyspace.clients();
    let insert = a.prepare("INSERT INTO KS.t (p, c, v) VALUES (?, ?, ?)").await;
    for (client, i) in [(a, 1), (b, 2), (c, 3)] {
        client.execute(&insert, (1, i, i)).await;
    }
    seen.note("prepared at the first, executed at all three: ok");
    let mut mixed = scylla::statement::batch::Batch::new(scylla::statement::batch::BatchType::Unlogged);
    mixed.set_consistency(Consistency::Quorum);
    let update = a.prepare("UPDATE KS.t SET v = ? WHERE p = ? AND c = ?").await;
    mixed.append_statement(update);
    let ended = ending(b.session.batch(&mixed, ((9, 1, 2),)).await);
    seen.check("prepared at the first, in a batch at the second", &ended, "ok");
    a.expect(seen, "rows", "SELECT c, v FROM KS.t", "(1, 1) (2, 9) (3, 3)").await;
}

async fn a_new_table_is_unknown_to_a_paused_node_until_it_is_resumed<W: Backend>(
    backend: &W,
    seen: &Observations,
) {
    let keyspace = Keyspace::with(backend, seen, &[]).await;
    let [a, _, c] = keyspace.clients();
    backend.apply(Pause, &[2]).await;
    a.expect(seen, "a table made while one is paused", &format!("CREATE TABLE KS.{EVENTS}"), "ok").await;
    let versions = async || {
        let local = a.at(Consistency::One).rows("SELECT schema_version FROM system.local").await;
        let peers = a.at(Consistency::One).rows("SELECT schema_version FROM system.peers").await;
        peers.split(' ').filter(|peer| *peer == local).count()
    };
    let end = Instant::now() + Duration::from_secs(20);
    while versions().await != 1 && Instant::now() < end {
        sleep(Duration::from_millis(100)).await;
    }
    seen.check("peers of two that agree", &versions().await.to_string(), "1");
    a.expect(seen, "written at QUORUM meanwhile", &events(0, 0..2), "ok").await;
    backend.recover(Resume, &[2]).await;
    let end = Instant::now() + Duration::from_secs(60);
    while versions().await != 2 && Instant::now() < end {
        sleep(Duration::from_millis(100)).await;
    }
    seen.check("peers that agree, when it went on", &versions().await.to_string(), "2");
    c.expect(seen, "read through it", "SELECT offset FROM KS.events", "(1) (0)").await;
}
