//! Rows that were changed with plain CQL, in each table: `verify` reports every one and checks all other rows, a worker
//! refuses those that it reads, and `show` reports them. For a simulated and a real Cassandra.

use std::ops::Deref;

use exactlyonce::store::{CountLayout, CountPlace, WindowKey};
use serde_json::{Value, json};

use crate::program::WorkFolder;

/// A bound pipeline without records, with an embedded log and tables in Cassandra.
pub trait TestPipeline: Deref<Target = WorkFolder> {
    /// Runs a statement in which `KS` stands for the keyspace.
    fn cql(&self, statement: &str);
}

/// Appends the same records each time, so that a second run adds to the windows of the first one. Two windows of each
/// source have an alert.
const GENERATE: &str = "generate --preset mixed --events 600 --sources 2 --start-ms 0 --rate 60 --malformed 10 \
                        --late 0 --health 10,10,80 --seed 3";

/// Rows of one table, as `show` prints them.
fn show(pipeline: &impl TestPipeline, table: &str) -> Vec<Value> {
    pipeline
        .succeed(&format!("show {table} --json"))
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn number(row: &Value, name: &str) -> i64 {
    row[name].as_i64().unwrap_or_else(|| panic!("no {name}: {row}"))
}

/// `verify` reports exactly these differences, each with at least these fields.
fn assert_differences(pipeline: &impl TestPipeline, expected: &[Value]) {
    let output = pipeline.run("verify --json");
    assert_eq!(output.code, 1, "{output}");
    let report: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let mut found = report["differences"].as_array().expect("a list").clone();
    for one in expected {
        let fields = one.as_object().expect("an object");
        let is = |found: &Value| fields.iter().all(|(name, value)| found[name] == *value);
        let place = found.iter().position(is).unwrap_or_else(|| panic!("{one} is not found: {found:#?}"));
        found.remove(place);
    }
    assert_eq!(found, [] as [Value; 0], "not expected");
    assert!(report["events"].as_u64() > Some(100), "other rows are checked: {report}");
}

/// A worker exits with code 3, and reports the row.
fn assert_run_refuses(pipeline: &impl TestPipeline, row: &str) {
    let output = pipeline.run("run --until-end");
    assert!(output.code == 3 && output.stderr.contains(row), "{row:?} is not refused: {output}");
}

/// `show` reports the row, prints the others, and exits with code 1.
fn assert_show_reports(pipeline: &impl TestPipeline, table: &str, row: &str) {
    let output = pipeline.run(&format!("show {table}"));
    let named = output.stdout.lines().any(|line| line == format!("damaged: {row}"));
    assert!(output.code == 1 && named, "{row:?} is not reported: {output}");
    assert!(output.stdout.lines().count() > 2, "{output}");
}

/// Events, dead letters, alerts and counts.
pub fn rows_of_the_log(pipeline: &impl TestPipeline) {
    pipeline.succeed(GENERATE);
    pipeline.succeed("run --until-end");
    pipeline.succeed("verify");

    // Damages a window's alert, which no worker reads, and the count of one of its partitions, which is read when further
    // events of the window arrive.
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
    assert_show_reports(
        pipeline,
        "alerts",
        &format!("alerts source {source:?} window ending at {end}: column event_count: 0 is not a count"),
    );
    pipeline.succeed("run --until-end");

    let place = |source: &str, end| CountLayout::DEFAULT.place(&WindowKey { source: source.into(), end });
    let CountPlace { block, shard } = place(source, end);
    let key = format!("partition = {partition} AND block = {block} AND shard = {shard}");
    pipeline.cql(&format!(
        "UPDATE KS.window_counts SET count = null WHERE {key} AND window_end = {end} AND source = '{source}'"
    ));
    pipeline.succeed(GENERATE);
    assert_run_refuses(
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

    // A worker that starts compares the last rows below progress with the log.
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
    assert_show_reports(pipeline, "dead-letters", &row);
    assert_run_refuses(pipeline, &row);
    pipeline.cql(&format!("UPDATE KS.events SET health = 9 {}", of(event)));
    let row = format!("events partition {partition} offset {event}: column health: 9 is not a health");
    assert_show_reports(pipeline, "events", &row);
    assert_run_refuses(pipeline, &row);

    // Rows without a record in the log: an incomplete one, and complete ones of a partition that does not exist.
    pipeline.cql(&format!("INSERT INTO KS.events (partition, offset, id) VALUES ({partition}, 50000, 7)"));
    assert_show_reports(
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

    assert_differences(
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
pub fn rows_of_the_pipeline(pipeline: &impl TestPipeline) {
    pipeline.succeed(GENERATE);
    pipeline.succeed("run --until-end");
    pipeline.succeed("verify");
    let event = &show(pipeline, "events")[0];
    let (partition, offset) = (number(event, "partition"), number(event, "offset"));
    pipeline.cql(&format!("DELETE FROM KS.events WHERE partition = {partition} AND offset = {offset}"));
    let lost = json!({"difference": "lost", "partition": partition, "offset": offset});
    let other = (partition + 1) % 3;

    // The registry is read when a window reaches the threshold.
    pipeline.cql("UPDATE KS.registry SET partitions = null WHERE name = 'partitions'");
    let registry =
        json!({"difference": "damaged", "table": "registry", "column": "partitions", "what": "null"});
    assert_differences(pipeline, &[lost.clone(), registry]);
    pipeline.succeed(GENERATE);
    assert_run_refuses(pipeline, "registry: column partitions: null");
    pipeline.cql("UPDATE KS.registry SET partitions = 9 WHERE name = 'partitions'");
    let registry = json!({"difference": "wrong_registry", "stored": 9, "most": 3});
    assert_differences(pipeline, &[lost.clone(), registry.clone()]);

    pipeline.cql(&format!("UPDATE KS.progress SET next_offset = null WHERE partition = {other}"));
    pipeline.cql("INSERT INTO KS.progress (partition, next_offset, origin) VALUES (9, 5, 0)");
    let row = format!("progress partition {other}: column next_offset: null");
    assert_show_reports(pipeline, "progress", &row);
    assert_run_refuses(pipeline, &row);
    let progress = [
        json!({"difference": "damaged", "table": "progress", "partition": other, "column": "next_offset",
               "what": "null"}),
        json!({"difference": "wrong_progress", "partition": 9, "why": "no_partition"}),
    ];
    let others = [&[lost, registry][..], &progress].concat();
    assert_differences(pipeline, &others);

    // Without a valid binding, `show` is refused, too.
    pipeline.cql("UPDATE KS.pipeline SET threshold = 0 WHERE name = 'pipeline'");
    let what = "alert threshold is 0, it must be at least 1";
    let row = format!("pipeline: column threshold: {what}");
    assert_run_refuses(pipeline, &row);
    for command in ["init", "show events", "show progress"] {
        let output = pipeline.run(command);
        assert!(output.code == 3 && output.stderr.contains(&row), "{command}: {output}");
    }
    let binding = json!({"difference": "damaged_binding", "table": "pipeline", "column": "threshold",
                         "what": what, "expected": "10", "by": "configuration"});
    assert_differences(pipeline, &[&others[..], &[binding]].concat());
}
