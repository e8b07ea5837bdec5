//! Appending records to the log: generated ones, and lines of an input.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Folder, ProgramOutput, assert_output};

/// Runs the program on this input.
fn with_input(folder: &Folder, arguments: &str, input: &[u8]) -> ProgramOutput {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let mut command = folder.command(&arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // Fails if the program ends before it has read everything.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().expect("it ends").into()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[test]
fn the_original_preset_makes_200_critical_events_of_each_client() {
    let folder = Folder::new();
    folder.succeed("topic create");
    assert_output!(&folder, "generate-original", folder.succeed("generate --seed 7"));
    let records = lines(&folder.succeed("show records --json"));
    assert_eq!(records.len(), 600);
    for client in exactlyonce::generate::CLIENTS {
        let of_client: Vec<&Value> = records.iter().filter(|record| record["key"] == client).collect();
        assert_eq!(of_client.len(), 200, "{client}");
        for record in of_client {
            let event: Value = serde_json::from_str(record["value"].as_str().expect("text")).expect("JSON");
            assert_eq!((&event["health"], &event["source"]), (&2.into(), &"My Router".into()));
            assert_eq!(event["ts"], record["timestamp"]);
        }
    }
}

#[test]
fn json_reports_the_position_of_each_record() {
    let folder = Folder::new();
    let arguments = "generate --create-topic --preset mixed --events 3000 --malformed 20 --start-ms -5000 --seed 7 --json";
    let positions = lines(&folder.succeed(arguments));
    let records = lines(&folder.succeed("show records --json"));
    assert_eq!((positions.len(), records.len()), (3_000, 3_000));
    let mut without_id = 0;
    for position in positions {
        let record = records
            .iter()
            .find(|record| {
                record["partition"] == position["partition"] && record["offset"] == position["offset"]
            })
            .expect("the record is there");
        match position["id"].as_i64() {
            None => without_id += 1,
            Some(id) => {
                let event: Value =
                    serde_json::from_str(record["value"].as_str().expect("text")).expect("JSON");
                assert_eq!(event["id"], id);
            }
        }
    }
    assert!((500..700).contains(&without_id), "{without_id} malformed records");
}

#[test]
fn the_same_seed_generates_the_same_records() {
    let records = || {
        let folder = Folder::new();
        folder.succeed("generate --create-topic --preset mixed --events 300 --start-ms 0 --seed 9");
        folder.succeed("show records --json")
    };
    assert_eq!(records(), records());
}

#[test]
fn without_a_topic_nothing_is_created() {
    let folder = Folder::new();
    let output = folder.run("generate");
    assert_eq!(output.code, 2, "{output}");
    assert!(!folder.data().exists());
    folder.succeed("topic create");
    let output = folder.run("generate --topic other");
    assert_output!(&folder, "generate-without-topic", output);
    folder.succeed("generate --topic other --create-topic --events-per-key 1");
    folder.succeed("generate --topic other --create-topic --events-per-key 1");
    assert_eq!(folder.succeed("show records --json --topic other").lines().count(), 6);
}

#[test]
fn lines_are_appended_unchanged() {
    let folder = Folder::new();
    folder.succeed("topic create");
    let input =
        b"{\"id\":1,\"ts\":2,\"source\":\"a\",\"client\":\"b\",\"health\":0}\nnot json\n\nno line feed";
    let output = with_input(&folder, "generate --stdin --key me", input);
    assert_output!(&folder, "generate-stdin", output);
    let records = lines(&folder.succeed("show records --json"));
    let values: Vec<&str> = records.iter().map(|record| record["value"].as_str().expect("text")).collect();
    assert_eq!(values.join("\n").as_bytes(), input);
    assert!(records.iter().all(|record| record["key"] == "me"));
    assert!(with_input(&folder, "generate --stdin", b"").stdout.starts_with("appended 0 record(s)"));
}

#[test]
fn a_line_that_is_too_long_is_reported_and_those_before_it_are_appended() {
    let folder = Folder::new();
    folder.succeed("topic create");
    let mut input = b"first\nsecond\n".to_vec();
    input.resize(input.len() + (16 << 20) + 1, b'x');
    assert_output!(&folder, "generate-long-line", with_input(&folder, "generate --stdin --key k", &input));
    assert_eq!(folder.succeed("show records --json").lines().count(), 2);
}

#[test]
fn flags_that_would_have_no_effect_are_refused() {
    let folder = Folder::bound();
    for (arguments, message) in [
        ("generate --sources 5", "--sources is for --preset mixed"),
        ("generate --paced", "--paced is for --preset mixed"),
        ("generate --preset mixed --delay", "--delay is for --preset original"),
        ("generate --stdin --seed 1", "cannot be used with"),
        ("generate --stdin --rate 1", "cannot be used with"),
        ("generate --key me", "--stdin"),
        ("generate --preset mixed --health 50,50,50", "add up to 100"),
        ("generate --preset mixed --late 101", "not a percentage"),
        ("generate --preset mixed --rate 0", "rate is 0"),
        ("generate --preset mixed --duplicates 60 --malformed 60", "more than 100 percent"),
    ] {
        let output = folder.run(arguments);
        assert_eq!(output.code, 2, "{arguments}: {output}");
        assert!(output.stderr.contains(message), "{arguments}: {output}");
    }
    assert_eq!(folder.succeed("show records --json"), "");
}
