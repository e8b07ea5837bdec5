//! The pipeline from a real log into real tables.

use crate::harness::{Harness, shared};

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn thirty_events_make_at_least_ten_rows_and_an_alert_as_in_2016() {
    let _shared = shared();
    let harness = Harness::bound();
    harness.succeed("generate --events-per-key 10");
    harness.succeed("run --until-end");
    let rows = harness.dump();
    assert!(rows["events"].len() >= 10, "{rows:?}");
    assert!(!rows["alerts"].is_empty(), "{rows:?}");
    // Exactly these rows, which the original did not check.
    let (events, alerts) = harness.verified("");
    assert_eq!((events, alerts), (30, rows["alerts"].len() as u64));
    harness.end();
}

/// Kills workers while they process these records, and lets the last one finish.
fn exact_after_kills(generate: &str, records: i64, layout: &str) {
    let _shared = shared();
    let harness = Harness::new();
    let with = |command: &str| format!("{layout} {command}").trim_start().to_owned();
    harness.succeed("topic create");
    harness.succeed(&with("init"));
    harness.succeed(generate);
    let small = "--set pipeline.batch_records=7 --set pipeline.in_flight_batches=2";
    for part in 1..=3 {
        let mut worker = harness.worker(&with(&format!("{small} run")));
        harness.wait_closely_until_durable(records * part / 5);
        worker.kill();
    }
    assert!(harness.durable_records(layout) < Some(records), "the kills came too late");
    harness.succeed(&with("run --until-end"));
    assert_eq!(harness.durable_records(layout), Some(records));
    let (events, alerts) = harness.verified(layout);
    let rows = harness.dump();
    assert_eq!((rows["events"].len() as u64, rows["alerts"].len() as u64), (events, alerts));
    assert_eq!(rows["events"].len() + rows["dead_letters"].len(), records as usize);
    assert!(alerts > 0);
    harness.end();
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn the_original_events_are_exact_after_kills() {
    exact_after_kills("generate --events-per-key 400 --seed 3", 1_200, "");
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn mixed_records_in_buckets_are_exact_after_kills() {
    let layout = "--set store.layout=bucketed --set store.bucket_rows=100";
    exact_after_kills("generate --preset mixed --events 4000 --sources 20 --seed 4", 4_000, layout);
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn a_real_service_and_an_embedded_one_work_together() {
    let _shared = shared();
    for (broker, store) in [("embedded", "cassandra"), ("kafka", "embedded")] {
        let harness = Harness::of(broker, store);
        harness.succeed("topic create");
        harness.succeed("init");
        harness.succeed("generate --preset mixed --events 500 --sources 3 --seed 5");
        harness.succeed("run --until-end");
        let (events, alerts) = harness.verified("");
        assert!(events > 450 && alerts > 0);
        let shown = harness.succeed("show events --json");
        assert_eq!(shown.lines().count() as u64, events);
        harness.end();
    }
}

#[test]
#[ignore = "needs services: docker/local/cluster up"]
fn only_init_run_and_schema_check_warn_of_too_few_replicas() {
    let _shared = shared();
    let harness = Harness::new();
    harness.succeed("topic create");
    // `init` and `schema check` list it among their findings, a worker logs it.
    for (arguments, expected) in [
        ("init", 1),
        ("run --until-end", 1),
        ("verify", 0),
        ("show progress", 0),
        ("schema check", 1),
        ("schema apply", 0),
    ] {
        let output = harness.run(arguments);
        assert_eq!(output.code, 0, "{arguments}: {output}");
        let warnings = format!("{}{}", output.stdout, output.stderr).matches("fewer than 3 replicas").count();
        assert_eq!(warnings, expected, "{arguments}: {output}");
    }
    harness.end();
}
