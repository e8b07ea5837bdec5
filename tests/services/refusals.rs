//! Log and tables that contradict each other: exit code 3, a message about the contradiction, and no cell is changed.

use crate::harness::{Harness, shared};

/// Runs a worker and expects a refusal with these texts in the message and without any change of the tables.
fn refused(harness: &Harness, arguments: &str, texts: &[&str]) {
    let before = harness.dump();
    let output = harness.run(format!("{arguments} run --until-end").trim_start());
    assert_eq!((output.code, output.stdout.as_str()), (3, ""), "{output}");
    for text in texts {
        assert!(output.stderr.contains(text), "{text:?} is not in the message: {output}");
    }
    let after = harness.dump();
    for (table, rows) in &before {
        assert_eq!(rows, &after[table], "the table {table} was changed");
    }
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn retention_past_the_resume_point_is_refused() {
    let _shared = shared();
    let harness = Harness::processed();
    // Not every partition has records, because the generator has few keys.
    let line = harness.succeed("show progress --json");
    let row = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
    let row = line.lines().map(row).find(|row| row["next_offset"].as_i64() > Some(0)).expect("a partition");
    let (partition, next_offset) = (row["partition"].as_i64().unwrap(), row["next_offset"].as_i64().unwrap());
    harness.succeed("generate --events-per-key 10 --seed 2");
    harness.delete_below(partition as i32, next_offset + 5);
    let texts = format!("topic {} partition {partition}", harness.name());
    let offsets = [next_offset.to_string(), (next_offset + 5).to_string()];
    refused(&harness, "", &[&texts, "the log starts", &offsets[0], &offsets[1]]);
    harness.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn a_recreated_topic_is_refused() {
    let _shared = shared();
    let harness = Harness::processed();
    harness.delete_topic();
    harness.succeed("topic create");
    harness.succeed("generate --events-per-key 10 --seed 1");
    refused(&harness, "", &[harness.name(), "was recreated", "a different keyspace"]);
    let verify = harness.run("verify");
    assert_eq!(verify.code, 3, "{verify}");
    harness.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn windows_that_differ_from_the_binding_are_refused() {
    let _shared = shared();
    let harness = Harness::processed();
    let size = "--set window.size_ms=10000";
    refused(&harness, size, &["bound with window.size_ms = 5000, not 10000"]);
    refused(&harness, "--set window.threshold=5", &["bound with window.threshold = 10, not 5"]);
    let init = harness.run(&format!("{size} init"));
    assert_eq!(init.code, 3, "{init}");
    harness.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn every_command_refuses_a_consistency_that_differs_from_the_binding_until_the_binding_is_changed() {
    let _shared = shared();
    let harness = Harness::processed();
    let local = "--set cassandra.consistency=local_quorum --set cassandra.datacenter=dc1";
    let both = ["bound to consistency quorum", "opened with local_quorum:dc1"];
    refused(&harness, local, &both);
    for command in ["init", "verify", "show events", "show progress"] {
        let output = harness.run(&format!("{local} {command}"));
        assert_eq!(output.code, 3, "{output}");
        for texts in both {
            assert!(output.stderr.contains(texts), "{command}: {output}");
        }
    }
    let change = |arguments: &str| harness.run(&format!("{local} change-consistency {arguments}"));
    let unconfirmed = change("--from quorum --workers-are-stopped");
    assert_eq!(unconfirmed.code, 2, "{unconfirmed}");
    assert!(unconfirmed.stderr.contains("--keyspace-is-repaired"), "{unconfirmed}");
    let confirmed = "--workers-are-stopped --keyspace-is-repaired";
    let wrong = change(&format!("--from local_quorum:dc2 {confirmed}"));
    assert_eq!(wrong.code, 3, "{wrong}");
    assert!(wrong.stderr.contains("bound to consistency quorum, and not to local_quorum:dc2"), "{wrong}");
    for expected in
        ["is now bound to consistency local_quorum:dc1", "was already bound to consistency local_quorum:dc1"]
    {
        let changed = change(&format!("--from quorum {confirmed}"));
        assert_eq!(changed.code, 0, "{changed}");
        assert!(changed.stdout.contains(expected), "{changed}");
    }
    let former = harness.run("run --until-end");
    assert_eq!(former.code, 3, "{former}");
    harness.succeed(&format!("{local} run --until-end"));
    harness.succeed(&format!("{local} verify"));
    harness.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn schema_check_lists_the_requirements_of_the_guarantee_with_the_settings_of_the_cluster() {
    let _shared = shared();
    let harness = Harness::processed();
    let listed = harness.succeed("schema check");
    println!("{listed}");
    for line in [
        "ok        cassandra user_timestamps_enabled is true",
        "ok        cassandra minimum_timestamp_fail_threshold is not set",
        "ok        cassandra write at timestamp 1",
        "unchecked cassandra repairs: ",
        "kafka topic ",
    ] {
        assert!(listed.contains(line), "{line:?} is missing: {listed}");
    }
    assert!(listed.contains(" cassandra commitlog_sync is "), "{listed}");
    harness.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn a_keyspace_of_another_topic_is_refused() {
    let _shared = shared();
    let harness = Harness::processed();
    let other = Harness::processed();
    let topic = format!("--topic {}", other.name());
    refused(&harness, &topic, &["bound with topic = ", harness.name(), other.name()]);
    harness.end();
    other.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn tables_that_were_changed_by_hand_are_refused() {
    let _shared = shared();
    let harness = Harness::processed();
    let twcs = "WITH compaction = {'class': 'TimeWindowCompactionStrategy'}";
    let stcs = "WITH compaction = {'class': 'SizeTieredCompactionStrategy'}";
    for (change, texts, undo) in [
        (
            format!("ALTER TABLE KS.events {twcs}"),
            ["events", "TimeWindowCompactionStrategy"],
            format!("ALTER TABLE KS.events {stcs}"),
        ),
        (
            "ALTER TABLE KS.window_counts WITH default_time_to_live = 600".to_owned(),
            ["window_counts", "default_time_to_live"],
            "ALTER TABLE KS.window_counts WITH default_time_to_live = 0".to_owned(),
        ),
        ("ALTER TABLE KS.alerts ADD note text".to_owned(), ["alerts column note", "text"], String::new()),
    ] {
        harness.cql(&change);
        refused(&harness, "", &texts);
        let check = harness.run("schema check");
        assert!(check.code == 1 && texts.iter().all(|text| check.stdout.contains(text)), "{check}");
        let init = harness.run("init");
        assert_eq!(init.code, 3, "{init}");
        match undo.as_str() {
            "" => {}
            undo => {
                harness.cql(undo);
                harness.succeed("schema check");
            }
        }
    }
    harness.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn a_column_of_a_different_type_and_a_different_layout_are_refused() {
    let _shared = shared();
    let harness = Harness::processed();
    harness.cql("DROP TABLE KS.alerts");
    harness.cql(
        "CREATE TABLE KS.alerts (ts timestamp, source text, event_count bigint, PRIMARY KEY (source, ts))",
    );
    refused(&harness, "", &["alerts column event_count", "int", "bigint"]);
    let bucketed = "--set store.layout=bucketed";
    refused(&harness, bucketed, &["bucket"]);
    let init = harness.run(&format!("{bucketed} init"));
    assert_eq!(init.code, 3, "{init}");
    harness.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn commands_that_read_rows_refuse_a_bucket_size_that_differs_from_the_binding() {
    let _shared = shared();
    let harness = Harness::new();
    let (bound, other) = (
        "--set store.layout=bucketed --set store.bucket_rows=10",
        "--set store.layout=bucketed --set store.bucket_rows=20",
    );
    harness.succeed("topic create");
    harness.succeed(&format!("{bound} init"));
    harness.succeed("generate --events-per-key 10 --seed 1");
    harness.succeed(&format!("{bound} run --until-end"));
    let texts = r#"bound with layout = "bucketed:10", not "bucketed:20""#;
    refused(&harness, other, &[texts]);
    for command in ["verify", "show events", "show dead-letters", "init"] {
        let output = harness.run(&format!("{other} {command}"));
        assert!(output.code == 3 && output.stderr.contains(texts), "{command}: {output}");
    }
    assert_eq!(harness.verified(bound).0, 30);
    harness.end();
}
