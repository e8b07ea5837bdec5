//! Where log and tables contradict each other: exit code 3, a message that names the contradiction, and no cell is changed.

use crate::harness::{World, shared};

/// Runs the worker and expects it to refuse with these texts in the message, without any change of the tables.
fn refused(world: &World, arguments: &str, texts: &[&str]) {
    let before = world.dump();
    let said = world.run(format!("{arguments} run --until-end").trim_start());
    assert_eq!((said.code, said.stdout.as_str()), (3, ""), "{said}");
    for text in texts {
        assert!(said.stderr.contains(text), "{text:?} is not said: {said}");
    }
    let after = world.dump();
    for (table, rows) in &before {
        assert_eq!(rows, &after[table], "the table {table} was changed");
    }
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn retention_past_the_resume_point_is_refused() {
    let _shared = shared();
    let world = World::processed();
    // The generator's keys go to some partitions, so look where records are.
    let line = world.fine("show progress --json");
    let row = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
    let row = line.lines().map(row).find(|row| row["next_offset"].as_i64() > Some(0)).expect("a partition");
    let (partition, next_offset) = (row["partition"].as_i64().unwrap(), row["next_offset"].as_i64().unwrap());
    world.fine("generate --events-per-key 10 --seed 2");
    world.delete_below(partition as i32, next_offset + 5);
    let texts = format!("topic {} partition {partition}", world.name());
    let offsets = [next_offset.to_string(), (next_offset + 5).to_string()];
    refused(&world, "", &[&texts, "the log starts", &offsets[0], &offsets[1]]);
    world.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn a_recreated_topic_is_refused() {
    let _shared = shared();
    let world = World::processed();
    world.delete_topic();
    world.fine("topic create");
    world.fine("generate --events-per-key 10 --seed 1");
    refused(&world, "", &[world.name(), "was recreated", "a different keyspace"]);
    let verify = world.run("verify");
    assert_eq!(verify.code, 3, "{verify}");
    world.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn other_windows_than_those_bound_are_refused() {
    let _shared = shared();
    let world = World::processed();
    let size = "--set window.size_ms=10000";
    refused(&world, size, &["bound with window.size_ms = 5000, not 10000"]);
    refused(&world, "--set window.threshold=5", &["bound with window.threshold = 10, not 5"]);
    let init = world.run(&format!("{size} init"));
    assert_eq!(init.code, 3, "{init}");
    world.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn another_consistency_than_the_bound_one_is_refused_by_every_command_until_the_binding_is_changed() {
    let _shared = shared();
    let world = World::processed();
    let local = "--set cassandra.consistency=local_quorum --set cassandra.datacenter=dc1";
    let both = ["bound to consistency quorum", "opened with local_quorum:dc1"];
    refused(&world, local, &both);
    for command in ["init", "verify", "show events", "show progress"] {
        let said = world.run(&format!("{local} {command}"));
        assert_eq!(said.code, 3, "{said}");
        for texts in both {
            assert!(said.stderr.contains(texts), "{command}: {said}");
        }
    }
    let change = |arguments: &str| world.run(&format!("{local} change-consistency {arguments}"));
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
    let former = world.run("run --until-end");
    assert_eq!(former.code, 3, "{former}");
    world.fine(&format!("{local} run --until-end"));
    world.fine(&format!("{local} verify"));
    world.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn what_the_guarantee_requires_is_listed_and_the_cluster_s_own_settings_are_among_it() {
    let _shared = shared();
    let world = World::processed();
    let listed = world.fine("schema check");
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
    world.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn a_keyspace_of_another_topic_is_refused() {
    let _shared = shared();
    let world = World::processed();
    let other = World::processed();
    let topic = format!("--topic {}", other.name());
    refused(&world, &topic, &["bound with topic = ", world.name(), other.name()]);
    world.end();
    other.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn tables_that_were_changed_by_hand_are_refused() {
    let _shared = shared();
    let world = World::processed();
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
        world.cql(&change);
        refused(&world, "", &texts);
        let check = world.run("schema check");
        assert!(check.code == 1 && texts.iter().all(|text| check.stdout.contains(text)), "{check}");
        let init = world.run("init");
        assert_eq!(init.code, 3, "{init}");
        match undo.as_str() {
            "" => {}
            undo => {
                world.cql(undo);
                world.fine("schema check");
            }
        }
    }
    world.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn a_column_of_another_type_and_another_layout_are_refused() {
    let _shared = shared();
    let world = World::processed();
    world.cql("DROP TABLE KS.alerts");
    world.cql(
        "CREATE TABLE KS.alerts (ts timestamp, source text, event_count bigint, PRIMARY KEY (source, ts))",
    );
    refused(&world, "", &["alerts column event_count", "int", "bigint"]);
    let bucketed = "--set store.layout=bucketed";
    refused(&world, bucketed, &["bucket"]);
    let init = world.run(&format!("{bucketed} init"));
    assert_eq!(init.code, 3, "{init}");
    world.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn buckets_of_another_size_than_those_bound_are_refused_by_whoever_reads_rows() {
    let _shared = shared();
    let world = World::new();
    let (bound, other) = (
        "--set store.layout=bucketed --set store.bucket_rows=10",
        "--set store.layout=bucketed --set store.bucket_rows=20",
    );
    world.fine("topic create");
    world.fine(&format!("{bound} init"));
    world.fine("generate --events-per-key 10 --seed 1");
    world.fine(&format!("{bound} run --until-end"));
    let texts = r#"bound with layout = "bucketed:10", not "bucketed:20""#;
    refused(&world, other, &[texts]);
    for command in ["verify", "show events", "show dead-letters", "init"] {
        let said = world.run(&format!("{other} {command}"));
        assert!(said.code == 3 && said.stderr.contains(texts), "{command}: {said}");
    }
    assert_eq!(world.verified(bound).0, 30);
    world.end();
}
