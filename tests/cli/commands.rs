//! What each command prints when it succeeds.

use crate::harness::{Folder, assert_output, ten_critical};

#[test]
fn a_topic_is_created_once_and_described() {
    let folder = Folder::new();
    assert_output!(&folder, "topic-create", folder.run("topic create --partitions 2"));
    assert_output!(&folder, "topic-create-again", folder.run("topic create"));
    folder.append_events(1, &["{}"]);
    assert_output!(&folder, "topic-describe", folder.run("topic describe"));
    assert_output!(&folder, "topic-describe-json", folder.run("topic describe --json"));
    assert_output!(&folder, "topic-describe-none", folder.run("--topic other topic describe"));
}

#[test]
fn init_reports_what_it_bound_and_whether_it_was_bound_before() {
    let folder = Folder::new();
    folder.succeed("topic create --partitions 2");
    folder.append_events(1, &["{}", "{}", "{}"]);
    assert_output!(&folder, "init", folder.run("init --from 1=2"));
    assert_output!(&folder, "init-again", folder.run("init"));
    assert_output!(&folder, "init-again-elsewhere", folder.run("init --from end"));
}

#[test]
fn an_origin_that_the_log_does_not_have_is_refused_and_binds_nothing() {
    let folder = Folder::new();
    folder.succeed("topic create --partitions 2");
    assert_output!(&folder, "init-out-of-range", folder.run("init --from 1=5"));
    assert_output!(&folder, "init-no-partition", folder.run("init --from 2=0"));
    let output = folder.run("run --until-end");
    assert_eq!(output.code, 2, "{output}");
}

#[test]
fn init_can_bind_to_the_end_of_the_log() {
    let folder = Folder::new();
    folder.succeed("topic create --partitions 1");
    folder.append_events(0, &["{}", "{}"]);
    let output = folder.succeed("init --from end");
    assert!(output.contains("partition 0 starts at offset 2\n"), "{output}");
    assert!(folder.succeed("--set log.level=off run --until-end").starts_with("records       0\n"));
}

/// A folder with ten events that make an alert, and one dead letter of each form.
fn filled() -> Folder {
    let folder = Folder::bound();
    let events = ten_critical();
    folder.append_events(0, &events.iter().map(String::as_str).collect::<Vec<_>>());
    let control =
        "{\"id\":1,\"ts\":-5,\"source\":\"a\\u001b[31m\\u009b\",\"client\":\"\u{202e}x\",\"health\":1}";
    folder.append(
        1,
        &[
            (None, None),
            (Some(b"k\n"), Some(b"")),
            (Some(b"\xff"), Some(b"not \xff\x00 utf8")),
            (Some(b"k"), Some(b"{\"id\":1}")),
            (Some(b"k"), Some(control.as_bytes())),
            (Some(b"k"), Some(&[b'x'; 3_000])),
        ],
    );
    folder
}

#[test]
fn a_run_to_the_end_prints_its_summary_and_a_second_one_has_nothing_to_do() {
    let folder = filled();
    assert_output!(&folder, "run", folder.run("--set log.level=warn run --until-end"));
    let again = folder.succeed("--set log.level=off run --until-end --json");
    let again: serde_json::Value = serde_json::from_str(&again).expect("JSON");
    assert_eq!(again["records"], 0);
    assert_eq!(again["next_offsets"], serde_json::json!({"0": 10, "1": 6, "2": 0}));
}

#[test]
fn show_prints_log_and_tables_and_no_control_character() {
    let folder = Folder::new();
    let limit = "--set pipeline.max_mutation_bytes=2000";
    let filled = filled();
    // The same log, bound so that one record is too large.
    std::fs::create_dir(folder.data()).expect("a folder");
    std::fs::copy(filled.data().join("log.sqlite"), folder.data().join("log.sqlite")).expect("a copy");
    folder.succeed(&format!("{limit} init"));
    folder.succeed(&format!("{limit} --set log.level=off run --until-end"));
    for table in ["records", "events", "alerts", "dead-letters", "progress"] {
        for form in ["", " --json"] {
            let output = folder.run(&format!("show {table}{form}"));
            assert!(!output.stdout.contains(|c: char| c.is_control() && c != '\n'), "{table}");
            assert_output!(&folder, format!("show-{table}{}", form.replace(" -", "")), output);
        }
        for line in folder.succeed(&format!("show {table} --json")).lines() {
            serde_json::from_str::<serde_json::Value>(line).expect("each line is JSON");
        }
    }
}

#[test]
fn show_filters_rows() {
    let folder = filled();
    folder.succeed("--set log.level=off run --until-end");
    let rows = |arguments: &str| -> Vec<(i64, i64)> {
        let lines = folder.succeed(&format!("show {arguments} --json"));
        let place = |line: &str| {
            let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
            (row["partition"].as_i64().unwrap_or(-1), row["offset"].as_i64().unwrap_or(-1))
        };
        lines.lines().map(place).collect()
    };
    assert_eq!(rows("records --from 4 --to 6"), [(0, 4), (0, 5), (1, 4), (1, 5)]);
    assert_eq!(rows("records --partition 1 --limit 2"), [(1, 0), (1, 1)]);
    assert_eq!(rows("records --partition 9"), []);
    assert_eq!(rows("events --from 4 --to 6"), [(0, 4), (0, 5), (1, 4)]);
    assert_eq!(rows("events --health warning"), [(1, 4)]);
    assert_eq!(rows("events --client x"), []);
    assert_eq!(rows("events --client \u{202e}x"), [(1, 4)]);
    assert_eq!(rows("events --source none"), []);
    assert_eq!(rows("events --limit 0"), []);
    assert_eq!(rows("dead-letters --reason not_utf8"), [(1, 2)]);
    assert_eq!(rows("dead-letters --limit 2 --from 1"), [(1, 1), (1, 2)]);
    assert_eq!(rows("alerts --from 5000 --to 5001").len(), 1);
    assert_eq!(rows("alerts --from -5 --to 5000").len(), 0);
    assert_eq!(rows("alerts --source none").len(), 0);
    assert_eq!(rows("progress --partition 1"), [(1, -1)]);
}

#[test]
fn show_reads_all_pages() {
    let folder = Folder::bound();
    let event = |id| format!(r#"{{"id":{id},"ts":{id},"source":"s{id}","client":"","health":2}}"#);
    let events: Vec<String> = (0..2_001).map(event).collect();
    folder.append_events(0, &events.iter().map(String::as_str).collect::<Vec<_>>());
    folder.append(1, &[(None, None); 33]);
    folder.succeed("--set window.threshold=10 --set log.level=off run --until-end");
    let offsets = |arguments: &str| -> Vec<i64> {
        let lines = folder.succeed(arguments);
        let offset = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).expect("JSON")["offset"]
                .as_i64()
                .expect("an offset")
        };
        lines.lines().map(offset).collect()
    };
    assert_eq!(offsets("show records --partition 0 --json"), (0..2_001).collect::<Vec<_>>());
    assert_eq!(offsets("show events --json"), (0..2_001).collect::<Vec<_>>());
    assert_eq!(offsets("show dead-letters --json"), (0..33).collect::<Vec<_>>());
}

#[test]
fn the_reader_of_a_result_may_close_the_pipe() {
    let folder = filled();
    let mut command = folder.command(["show", "records", "--json"]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the program ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}

#[test]
fn schema_is_printed_applied_and_checked() {
    let folder = Folder::new();
    let print = "--set store.keyspace=other --set store.replication={paris=3,oslo=2} schema print";
    assert_output!(&folder, "schema-print", folder.run(print));
    let bucketed = "--set store.layout=bucketed --set store.bucket_rows=70000 schema print";
    assert_output!(&folder, "schema-print-bucketed", folder.run(bucketed));
    assert_output!(&folder, "schema-check-before", folder.run("schema check"));
    assert_output!(&folder, "schema-apply", folder.run("schema apply"));
    assert_output!(&folder, "schema-apply-again", folder.run("schema apply"));
    assert_output!(&folder, "schema-check", folder.run("schema check"));
}

#[test]
fn applying_the_schema_again_keeps_every_row() {
    let folder = filled();
    folder.succeed("--set log.level=off run --until-end");
    let rows = || ["events", "alerts", "dead-letters"].map(|table| folder.succeed(&format!("show {table}")));
    let before = rows();
    folder.succeed("schema apply");
    assert_eq!(rows(), before);
}

#[test]
fn a_second_keyspace_may_process_the_same_log_with_different_windows() {
    let folder = filled();
    folder.succeed("--set log.level=off run --until-end");
    let other = "--set store.keyspace=other --set window.threshold=5";
    folder.succeed(&format!("{other} init"));
    folder.succeed(&format!("{other} --set log.level=off run --until-end"));
    assert_eq!(folder.succeed(&format!("{other} show events")), folder.succeed("show events"));
}
