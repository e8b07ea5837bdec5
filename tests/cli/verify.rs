//! `verify`: exact tables, changed tables, and damaged rows.

use crate::harness::{Folder, assert_output};

#[test]
fn an_unbound_keyspace_is_an_error() {
    let folder = Folder::new();
    folder.succeed("topic create");
    folder.succeed("schema apply");
    assert_output!(&folder, "verify-unbound", folder.run("verify"));
}

#[test]
fn exact_tables_have_no_differences() {
    let folder = Folder::bound();
    folder.succeed("generate --preset mixed --events 2000 --start-ms 0 --seed 3");
    folder.succeed("run --until-end");
    assert_output!(&folder, "verify-exact", folder.succeed("verify"));
    let report: serde_json::Value = serde_json::from_str(&folder.succeed("verify --json")).expect("JSON");
    assert_eq!((&report["clean"], &report["complete"]), (&true.into(), &true.into()));
    assert_eq!(report["counts"]["lost"], 0);
    assert_eq!(report["partitions"].as_array().map(Vec::len), Some(3));
}

#[test]
fn records_that_are_not_processed_yet_are_not_judged() {
    let folder = Folder::bound();
    folder.succeed("generate --events-per-key 5 --seed 3");
    let report: serde_json::Value = serde_json::from_str(&folder.succeed("verify --json")).expect("JSON");
    assert_eq!((&report["clean"], &report["events"]), (&true.into(), &0.into()));
}

#[test]
fn lost_rows_are_listed_up_to_the_requested_number() {
    let folder = Folder::bound();
    folder.succeed("generate --events-per-key 5 --seed 3");
    folder.succeed("run --until-end");
    let store = rusqlite::Connection::open(folder.data().join("store.sqlite")).expect("the store opens");
    assert_eq!(store.execute("DELETE FROM events WHERE partition = 2", []).expect("rows are deleted"), 10);
    drop(store);
    assert_output!(&folder, "verify-lost", folder.run("verify --list 3"));
}

/// A folder whose log is processed, and a connection to its store.
fn processed() -> (Folder, rusqlite::Connection) {
    let folder = Folder::bound();
    folder.succeed("generate --preset mixed --events 2000 --start-ms 0 --seed 3");
    folder.succeed("run --until-end");
    let store = rusqlite::Connection::open(folder.data().join("store.sqlite")).expect("the store opens");
    (folder, store)
}

/// The differences that the program reports after a change of the store, with exit code 1.
fn differences_after(sql: &str) -> Vec<serde_json::Value> {
    let (folder, store) = processed();
    store.execute_batch(sql).expect("the store is changed");
    drop(store);
    let ended = folder.run("verify --json");
    assert_eq!(ended.code, 1, "{sql}: {}", ended.stderr);
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    report["differences"].as_array().expect("a list").clone()
}

#[test]
fn a_damaged_row_is_reported_and_all_other_rows_are_checked() {
    let found = differences_after(
        "UPDATE events SET health = 9 WHERE partition = 0 AND offset = 5;
         DELETE FROM events WHERE partition = 0 AND offset = 6;",
    );
    let damaged = serde_json::json!({
        "difference": "damaged", "table": "events", "partition": 0, "offset": 5, "column": "health",
        "what": "9 is not a health",
    });
    assert!(found.contains(&damaged), "{found:?}");
    let lost = |difference: &serde_json::Value| {
        (&difference["difference"], &difference["offset"]) == (&"lost".into(), &6.into())
    };
    assert!(found.iter().any(lost), "{found:?}");
}

#[test]
fn rows_of_partition_numbers_that_no_topic_has_are_reported_and_all_other_rows_are_checked() {
    let found = differences_after(
        "INSERT INTO progress VALUES (2147483648, 1, 2, 0, 1);
         INSERT INTO events VALUES (2147483648, 0, 1, 1, 's', 'c', 1), (2147483648, 1, 1, 1, 's', 'c', 1);
         INSERT INTO dead_letters VALUES (9223372036854775807, 0, 'not_json', 0, NULL, NULL, NULL, NULL, NULL);
         INSERT INTO window_counts VALUES (-2147483649, 5000, 's', 1, 1, 2), (2147483648, 5000, 's', 1, 1, 2);
         INSERT INTO events VALUES (-1, 0, 1, 1, 's', 'c', 1);
         DELETE FROM events WHERE partition = 0 AND offset = 6;",
    );
    let invalid = |table: &str, partition: i64| {
        serde_json::json!({
            "difference": "damaged", "table": table, "partition": partition, "column": "partition",
            "what": format!("{partition} is out of range"),
        })
    };
    let expected = [
        invalid("progress", 2_147_483_648),
        invalid("events", 2_147_483_648),
        invalid("dead_letters", i64::MAX),
        invalid("window_counts", -2_147_483_649),
        invalid("window_counts", 2_147_483_648),
    ];
    assert_eq!(found[..expected.len()], expected);
    let others: Vec<_> = found[expected.len()..]
        .iter()
        .map(|one| (one["difference"].as_str(), one["partition"].as_i64()))
        .collect();
    assert_eq!(others, [(Some("lost"), Some(0)), (Some("foreign"), Some(-1))]);
}

#[test]
fn changes_of_counts_progress_and_registry_are_reported() {
    for (sql, name) in [
        ("UPDATE window_counts SET count = count + 1 WHERE partition = 0", "wrong_count"),
        ("UPDATE window_counts SET through_offset = through_offset - 1 WHERE partition = 0", "wrong_count"),
        ("DELETE FROM window_counts WHERE partition = 0", "missing_count"),
        ("INSERT INTO window_counts VALUES (0, 5000, 'nobody', 1, 1, 2)", "foreign_count"),
        ("UPDATE progress SET origin = 1 WHERE partition = 2", "wrong_progress"),
        ("UPDATE progress SET next_offset = -1 WHERE partition = 2", "wrong_progress"),
        ("DELETE FROM progress WHERE partition = 2", "wrong_progress"),
        ("UPDATE registry SET partitions = 1", "wrong_registry"),
        ("UPDATE registry SET partitions = 9", "wrong_registry"),
    ] {
        let found = differences_after(sql);
        assert!(!found.is_empty() && found.iter().all(|one| one["difference"] == name), "{sql}: {found:?}");
    }
}

#[test]
fn show_reports_a_damaged_row_and_continues() {
    let (folder, store) = processed();
    store.execute_batch("UPDATE events SET health = 9 WHERE partition = 0 AND offset = 0").expect("changed");
    drop(store);
    let ended = folder.run("show events --partition 0");
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stdout.contains("damaged: events partition 0 offset 0: column health: 9 is not a health"));
    assert!(ended.stdout.lines().count() > 10, "{}", ended.stdout);
}

#[test]
fn a_worker_refuses_a_damaged_row_and_reports_it() {
    let (folder, store) = processed();
    store
        .execute_batch(
            "UPDATE events SET health = 9 WHERE (partition, offset) IN \
             (SELECT partition, max(offset) FROM events GROUP BY partition)",
        )
        .expect("changed");
    drop(store);
    let ended = folder.run("run --until-end");
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert!(ended.stderr.contains("column health: 9 is not a health"), "{}", ended.stderr);
}

/// Every cell of the tables, to check that nothing was changed.
fn tables(folder: &Folder) -> Vec<String> {
    let store = rusqlite::Connection::open(folder.data().join("store.sqlite")).expect("the store opens");
    let mut rows = Vec::new();
    for table in ["events", "alerts", "window_counts", "registry", "progress", "dead_letters", "pipeline"] {
        let mut query = store.prepare(&format!("SELECT * FROM {table}")).expect("a query");
        let columns = query.column_count();
        let mut found = query.query([]).expect("rows");
        while let Some(row) = found.next().expect("a row") {
            let cell = |column| format!("{:?}", row.get_ref(column).expect("a cell"));
            rows.push(format!("{table} {:?}", (0..columns).map(cell).collect::<Vec<_>>()));
        }
    }
    rows
}

#[test]
fn verify_reports_a_damaged_binding_and_checks_the_tables_and_other_commands_refuse_it() {
    let (folder, store) = processed();
    store.execute_batch("DELETE FROM events WHERE partition = 0 AND offset = 6").expect("changed");
    for (column, value, what, expected, by) in [
        ("threshold", "0", "alert threshold is 0, it must be at least 1", "10", "configuration"),
        ("window_size_ms", "-5", "window size is -5 ms, it must be at least 1", "5000", "configuration"),
        ("health", "'[]'", "no health level counts towards an alert", "[Critical]", "configuration"),
        ("count_shards", "70000", "70000 is out of range", "4", "configuration"),
        ("max_mutation_bytes", "-1", "-1 is out of range", "1048576", "configuration"),
        ("topic_id", "CAST(x'ff' AS TEXT)", "invalid utf-8 sequence of 1 bytes from index 0", "", "topic"),
        ("decoder_version", "5000000000", "5000000000 is out of range", "1", "program"),
        (
            "consistency",
            "'all'",
            "\"all:\" is not a consistency: it must be quorum, or local_quorum:DATACENTER",
            "single",
            "configuration",
        ),
        ("origins", "'{\"0\":-3}'", "0: -3 is out of range", "{0: 0, 1: 0, 2: 0}", "progress"),
    ] {
        let intact: rusqlite::types::Value = store
            .query_row(&format!("SELECT {column} FROM pipeline"), [], |row| row.get(0))
            .expect("the column is there");
        store.execute_batch(&format!("UPDATE pipeline SET {column} = {value}")).expect("changed");
        let before = tables(&folder);
        let output = folder.run("verify --json");
        assert_eq!(output.code, 1, "{column}: {output}");
        let report: serde_json::Value = serde_json::from_str(&output.stdout).expect("JSON");
        let [damaged, lost] = report["differences"].as_array().expect("a list").as_slice() else {
            panic!("{column}: {output}")
        };
        assert_eq!(lost["difference"], "lost", "{column}: {output}");
        let fields = ["difference", "table", "column", "what", "by"].map(|name| damaged[name].as_str());
        let expected_fields = ["damaged_binding", "pipeline", column, what, by].map(Some);
        assert_eq!(fields, expected_fields, "{output}");
        assert!(damaged["expected"].as_str().expect("text").contains(expected), "{output}");
        let output = folder.run("verify");
        let line = format!("damaged_binding: pipeline: column {column}: {what}; ");
        assert!(output.code == 1 && output.stdout.contains(&line), "{column}: {output}");
        for command in ["run --until-end", "init", "show events", "show progress"] {
            let output = folder.run(command);
            assert_eq!(output.code, 3, "{column}, {command}: {output}");
            assert!(
                output.stderr.contains(&format!("pipeline: column {column}: {what}")),
                "{command}: {output}"
            );
        }
        assert_eq!(tables(&folder), before, "{column}");
        store.execute(&format!("UPDATE pipeline SET {column} = ?1"), [intact]).expect("restored");
    }
    drop(store);
    let output = folder.run("verify");
    assert!(output.stdout.contains("differences   1 (lost 1)"), "{output}");
}

#[test]
fn verify_reports_a_missing_binding_and_checks_the_tables_and_commands_that_write_refuse_it() {
    let (folder, store) = processed();
    store
        .execute_batch("DELETE FROM events WHERE partition = 0 AND offset = 6; DELETE FROM pipeline")
        .expect("changed");
    drop(store);
    let before = tables(&folder);
    assert_output!(&folder, "verify-without-binding", folder.run("verify"));
    for command in ["run --until-end", "init"] {
        let output = folder.run(&format!("--set log.level=off {command}"));
        assert_eq!(output.code, 3, "{command}: {output}");
        assert!(output.stderr.contains("the row of `pipeline` was deleted"), "{command}: {output}");
    }
    assert_eq!(tables(&folder), before);
}

#[test]
fn a_binding_that_differs_from_the_configuration_is_refused_with_both_values() {
    let (folder, store) = processed();
    for (column, value, bound, configured) in [
        ("threshold", "9", "window.threshold = 9", "10"),
        ("window_slide_ms", "1000", "window.slide_ms = 1000", "5000"),
        ("decoder_version", "2", "decoder_version = 2", "1"),
        ("topic", "'another'", "topic = \"another\"", "\"exactlyonce.events\""),
    ] {
        let intact: rusqlite::types::Value = store
            .query_row(&format!("SELECT {column} FROM pipeline"), [], |row| row.get(0))
            .expect("the column is there");
        store.execute_batch(&format!("UPDATE pipeline SET {column} = {value}")).expect("changed");
        for command in ["verify", "run --until-end", "init"] {
            let output = folder.run(command);
            let expected = format!("the keyspace is bound with {bound}, not {configured}");
            assert!(output.code == 3 && output.stderr.contains(&expected), "{command}: {output}");
        }
        store.execute(&format!("UPDATE pipeline SET {column} = ?1"), [intact]).expect("restored");
    }
    let output = folder.run("--set window.threshold=11 verify");
    assert!(output.code == 3 && output.stderr.contains("threshold = 10, not 11"), "{output}");
}
