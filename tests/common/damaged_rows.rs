//! Rows that were changed with plain CQL, in each table: `verify` names every one and judges the rest, a worker
//! refuses those that it reads, and `show` names them. For a simulated and a real Cassandra alike.

use std::ops::Deref;

use exactlyonce::store::{CountLayout, CountPlace, WindowKey};
use serde_json::{Value, json};

use crate::program::Workplace;

/// A pipeline whose log is embedded and whose tables are in Cassandra, bound and without records.
pub trait Damageable: Deref<Target = Workplace> {
    /// Runs a statement in which `KS` stands for the keyspace.
    fn cql(&self, statement: &str);
}

/// The same records at each call, so that the second one continues the windows of the first. Two windows of each source
/// have an alert.
const GENERATE: &str = "generate --preset mixed --events 600 --sources 2 --start-ms 0 --rate 60 --malformed 10 \
                        --late 0 --health 10,10,80 --seed 3";

/// Rows of one table, as `show` prints them.
fn show(pipeline: &impl Damageable, table: &str) -> Vec<Value> {
    pipeline
        .fine(&format!("show {table} --json"))
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn number(row: &Value, name: &str) -> i64 {
    row[name].as_i64().unwrap_or_else(|| panic!("no {name}: {row}"))
}

/// `verify` finds exactly these differences, each of which has these fields.
fn verify_names(pipeline: &impl Damageable, expected: &[Value]) {
    let said = pipeline.run("verify --json");
    assert_eq!(said.code, 1, "{said}");
    let report: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let mut found = report["differences"].as_array().expect("a list").clone();
    for one in expected {
        let fields = one.as_object().expect("an object");
        let is = |found: &Value| fields.iter().all(|(name, value)| found[name] == *value);
        let place = found.iter().position(is).unwrap_or_else(|| panic!("{one} is not found: {found:#?}"));
        found.remove(place);
    }
    assert_eq!(found, [] as [Value; 0], "not expected");
    assert!(report["events"].as_u64() > Some(100), "the rest is judged: {report}");
}

/// A worker ends with exit code 3, and names the row.
fn run_refuses(pipeline: &impl Damageable, row: &str) {
    let said = pipeline.run("run --until-end");
    assert!(said.code == 3 && said.stderr.contains(row), "{row:?} is to be refused: {said}");
}

/// `show` names the row, prints the others, and ends with exit code 1.
fn show_names(pipeline: &impl Damageable, table: &str, row: &str) {
    let said = pipeline.run(&format!("show {table}"));
    let named = said.stdout.lines().any(|line| line == format!("damaged: {row}"));
    assert!(said.code == 1 && named, "{row:?} is to be shown: {said}");
    assert!(said.stdout.lines().count() > 2, "{said}");
}

/// Events, dead letters, alerts and counts.
pub fn rows_of_the_log(pipeline: &impl Damageable) {
    pipeline.fine(GENERATE);
    pipeline.fine("run --until-end");
    pipeline.fine("verify");

    // A window's alert, which no worker reads, and the count of one of its partitions, which is read when more events
    // of the window come.
    let alert = &show(pipeline, "alerts")[0];
    let (source, end) = (alert["source"].as_str().expect("text"), number(alert, "ts"));
    let events = show(pipeline, "events");
    let counted = |event: &&Value| {
        let in_window = (end - 5_000..end).contains(&number(event, "ts"));
        event["source"] == source && event["health"] == 2 && in_window
    };
    let partition = number(events.iter().find(counted).expect("a counted event"), "partition");
    let of_partition = |rows: Vec<Value>| -> Vec<i64> {
        let rows = rows.iter().filter(|row| number(row, "partition") == partition);
        rows.map(|row| number(row, "offset")).collect()
    };
    let lost = of_partition(events)[0];
    pipeline.cql(&format!("DELETE FROM KS.events WHERE partition = {partition} AND offset = {lost}"));
    pipeline.cql(&format!("UPDATE KS.alerts SET event_count = 0 WHERE source = '{source}' AND ts = {end}"));
    show_names(
        pipeline,
        "alerts",
        &format!("alerts source {source:?} window ending at {end}: column event_count: 0 is not a count"),
    );
    pipeline.fine("run --until-end");

    let place = |source: &str, end| CountLayout::DEFAULT.place(&WindowKey { source: source.into(), end });
    let CountPlace { block, shard } = place(source, end);
    let key = format!("partition = {partition} AND block = {block} AND shard = {shard}");
    pipeline.cql(&format!(
        "UPDATE KS.window_counts SET count = null WHERE {key} AND window_end = {end} AND source = '{source}'"
    ));
    pipeline.fine(GENERATE);
    run_refuses(
        pipeline,
        &format!(
            "window_counts partition {partition} source {source:?} window ending at {end}: column count: null"
        ),
    );
    let count =
        "INSERT INTO KS.window_counts (partition, block, shard, window_end, source, count, through_offset)";
    let (other_shard, nobody) = ((shard + 1) % i32::from(CountLayout::SHARDS), place("nobody", end));
    pipeline.cql(&format!("{count} VALUES ({partition}, {block}, {other_shard}, {end}, '{source}', 1, 1)"));
    pipeline.cql(&format!(
        "{count} VALUES ({partition}, {}, {}, {end}, 'nobody', 1, 1)",
        nobody.block, nobody.shard
    ));

    // The last rows below progress are those that a worker compares with the log when it starts.
    let progress = show(pipeline, "progress");
    let row = progress.iter().find(|row| number(row, "partition") == partition).expect("progress");
    let done = number(row, "next_offset");
    let last = |table| {
        let offsets = of_partition(show(pipeline, table)).into_iter();
        offsets.filter(|offset| *offset < done).max().expect("a row")
    };
    let (event, letter) = (last("events"), last("dead-letters"));
    let of = |offset| format!("WHERE partition = {partition} AND offset = {offset}");
    pipeline.cql(&format!("UPDATE KS.dead_letters SET reason = 'no' {}", of(letter)));
    let row =
        format!("dead_letters partition {partition} offset {letter}: column reason: \"no\" is not a reason");
    show_names(pipeline, "dead-letters", &row);
    run_refuses(pipeline, &row);
    pipeline.cql(&format!("UPDATE KS.events SET health = 9 {}", of(event)));
    let row = format!("events partition {partition} offset {event}: column health: 9 is not a health");
    show_names(pipeline, "events", &row);
    run_refuses(pipeline, &row);

    // Rows that the log has no record of: one that is not complete, and complete ones of a partition that is not there.
    pipeline.cql(&format!("INSERT INTO KS.events (partition, offset, id) VALUES ({partition}, 50000, 7)"));
    show_names(
        pipeline,
        "events",
        &format!("events partition {partition} offset 50000: column health: null"),
    );
    pipeline.cql(
        "INSERT INTO KS.events (partition, offset, id, ts, source, client, health) VALUES (9, 5, 7, 1, 's', 'c', 0)",
    );
    pipeline.cql(
        "INSERT INTO KS.dead_letters (partition, offset, reason, timestamp) VALUES (9, 6, 'not_json', 1)",
    );

    verify_names(
        pipeline,
        &[
            json!({"difference": "lost", "partition": partition, "offset": lost}),
            json!({"difference": "damaged", "table": "events", "partition": partition, "offset": event,
                   "column": "health", "what": "9 is not a health"}),
            json!({"difference": "damaged", "table": "events", "partition": partition, "offset": 50_000,
                   "column": "health", "what": "null"}),
            json!({"difference": "foreign", "table": "events", "partition": partition, "offset": 50_000,
                   "why": "past_log_end"}),
            json!({"difference": "foreign", "table": "events", "partition": 9, "offset": 5, "why": "no_partition"}),
            json!({"difference": "damaged", "table": "dead_letters", "partition": partition, "offset": letter,
                   "column": "reason", "what": "\"no\" is not a reason"}),
            json!({"difference": "foreign", "table": "dead_letters", "partition": 9, "offset": 6,
                   "why": "no_partition"}),
            json!({"difference": "damaged", "table": "alerts", "source": source, "window_end": end,
                   "column": "event_count", "what": "0 is not a count"}),
            json!({"difference": "damaged", "table": "window_counts", "partition": partition, "source": source,
                   "window_end": end, "column": "count", "what": "null"}),
            json!({"difference": "misplaced_count", "partition": partition, "source": source, "window_end": end,
                   "block": block, "shard": other_shard, "expected_block": block, "expected_shard": shard}),
            json!({"difference": "foreign_count", "partition": partition, "source": "nobody", "window_end": end}),
        ],
    );
}

/// Registry, progress and the binding.
pub fn rows_of_the_pipeline(pipeline: &impl Damageable) {
    pipeline.fine(GENERATE);
    pipeline.fine("run --until-end");
    pipeline.fine("verify");
    let event = &show(pipeline, "events")[0];
    let (partition, offset) = (number(event, "partition"), number(event, "offset"));
    pipeline.cql(&format!("DELETE FROM KS.events WHERE partition = {partition} AND offset = {offset}"));
    let lost = json!({"difference": "lost", "partition": partition, "offset": offset});
    let other = (partition + 1) % 3;

    // It is read when a window reaches the threshold.
    pipeline.cql("UPDATE KS.registry SET partitions = null WHERE name = 'partitions'");
    let registry =
        json!({"difference": "damaged", "table": "registry", "column": "partitions", "what": "null"});
    verify_names(pipeline, &[lost.clone(), registry]);
    pipeline.fine(GENERATE);
    run_refuses(pipeline, "registry: column partitions: null");
    pipeline.cql("UPDATE KS.registry SET partitions = 9 WHERE name = 'partitions'");
    let registry = json!({"difference": "wrong_registry", "stored": 9, "most": 3});
    verify_names(pipeline, &[lost.clone(), registry.clone()]);

    pipeline.cql(&format!("UPDATE KS.progress SET next_offset = null WHERE partition = {other}"));
    pipeline.cql("INSERT INTO KS.progress (partition, next_offset, origin) VALUES (9, 5, 0)");
    let row = format!("progress partition {other}: column next_offset: null");
    show_names(pipeline, "progress", &row);
    run_refuses(pipeline, &row);
    let progress = [
        json!({"difference": "damaged", "table": "progress", "partition": other, "column": "next_offset",
               "what": "null"}),
        json!({"difference": "wrong_progress", "partition": 9, "why": "no_partition"}),
    ];
    let others = [&[lost, registry][..], &progress].concat();
    verify_names(pipeline, &others);

    // Without the binding nothing can be shown either.
    pipeline.cql("UPDATE KS.pipeline SET threshold = 0 WHERE name = 'pipeline'");
    let what = "alert threshold is 0, it must be at least 1";
    let row = format!("pipeline: column threshold: {what}");
    run_refuses(pipeline, &row);
    for command in ["init", "show events", "show progress"] {
        let said = pipeline.run(command);
        assert!(said.code == 3 && said.stderr.contains(&row), "{command}: {said}");
    }
    let binding = json!({"difference": "damaged_binding", "table": "pipeline", "column": "threshold",
                         "what": what, "expected": "10", "by": "configuration"});
    verify_names(pipeline, &[&others[..], &[binding]].concat());
}
