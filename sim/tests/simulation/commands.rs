//! The program, as its users run it: what each command prints, writes, and exits with.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use simulation::scenario::options::Begin;
use simulation::scenario::profile::Profile;
use simulation::scenario::{Draft, Scenario, World};
use strum::IntoEnumIterator;

/// An empty folder for a test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("commands").join(name);
    // It may not exist.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder is created");
    folder
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder exists");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// Runs the program in a folder.
fn run_in(folder: &Path, arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_simulation"));
    program.args(arguments).current_dir(folder).output().expect("the simulation's own program starts")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("stdout is text")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("stderr is text")
}

#[track_caller]
fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}{}", out(output), err(output));
}

#[track_caller]
fn assert_contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// A seed of the sabotaged profile that fails with wrong data, on simple services.
const SABOTAGED: &str = "3";

#[test]
fn a_run_without_a_violation_ends_with_0_and_writes_no_file() {
    let folder = folder("good");
    let output = run_in(&folder, &["run", "--seed", "3", "--profile", "tiny"]);
    assert_code(&output, 0);
    let again = "to repeat it with its trace: cargo sim run --seed 3 --world simple --profile tiny --trace";
    assert_contains(&out(&output), &["seed 3 (simple, tiny)", "the tables equal the ground truth", again]);
    assert!(!out(&output).contains("fault 0 starts"), "the trace was not asked for");
    assert!(files(&folder).is_empty());
}

#[test]
fn a_trace_has_every_event() {
    let folder = folder("trace");
    let output =
        run_in(&folder, &["run", "--seed", "3", "--world", "cassandra", "--profile", "tiny", "--trace"]);
    assert_code(&output, 0);
    assert_contains(&out(&output), &["all faults have ended", "drained"]);
}

#[test]
fn a_failed_run_prints_what_repeats_it_and_its_file_fails_in_the_same_way() {
    let folder = folder("failed");
    let output = run_in(&folder, &["run", "--seed", SABOTAGED, "--profile", "sabotaged"]);
    assert_code(&output, 1);
    let expected = format!("simple-sabotaged-{SABOTAGED}.toml");
    let text = out(&output);
    assert_contains(
        &text,
        &[
            &format!("seed {SABOTAGED} (simple, sabotaged) of commit {}", simulation::COMMIT),
            " after ",
            " ms: ",
            &format!("its scenario is in ./{expected}"),
            &format!("cargo sim run --seed {SABOTAGED} --world simple --profile sabotaged --trace"),
        ],
    );
    let replayed = run_in(&folder, &["replay", &expected]);
    assert_code(&replayed, 1);
    let violation = |text: &str| text.lines().next().map(str::to_owned);
    assert_eq!(violation(&text), violation(&out(&replayed)));
    assert_contains(&out(&replayed), &[&format!("cargo sim replay {expected} --trace")]);
}

#[test]
fn the_scenario_of_a_seed_is_printed_as_the_file_that_replays_it() {
    let folder = folder("scenario");
    let output = run_in(&folder, &["scenario", "--seed", "4", "--profile", "tiny"]);
    assert_code(&output, 0);
    let read: Scenario = out(&output).parse().expect("a scenario");
    assert_eq!(read, Scenario::draw(4, World::Simple, Profile::Tiny));
    std::fs::write(folder.join("4.toml"), out(&output)).expect("a file is written");
    assert_code(&run_in(&folder, &["replay", "4.toml"]), 0);
}

#[test]
fn wrong_usage_and_files_that_are_not_scenarios_end_with_2() {
    let folder = folder("usage");
    std::fs::write(folder.join("no.toml"), "seed = 1\ncolour = 2\n").expect("a file is written");
    let cases: [(&[&str], &str); 9] = [
        (&["run"], "--seed"),
        (&["run", "--seed", "1", "--profile", "stormy"], "possible values: standard, swarm"),
        (&["replay", "missing.toml"], "missing.toml: "),
        (&["replay", "no.toml"], "colour"),
        (&["shrink"], "<FILE"),
        (&["shrink", "no.toml", "--seed", "1"], "cannot be used with"),
        (&["campaign", "--seeds", "5..5"], "at least one seed"),
        (&["campaign", "--seeds", "0..1", "--minutes", "0"], "a positive number"),
        (&["campaign", "--seeds", "0..1", "--world", "kafka"], "there is no such value"),
    ];
    for (arguments, text) in cases {
        let output = run_in(&folder, arguments);
        assert_code(&output, 2);
        assert_contains(&err(&output), &[text]);
    }
}

#[test]
fn workers_that_do_not_drain_the_log_end_with_3() {
    let folder = folder("stuck");
    let mut draft = Draft::new(3, World::Simple, Profile::Standard);
    (draft.options.settle_limit_ms, draft.options.begin) = (20, Begin::Start);
    let mut scenario = draft.without_faults();
    // The last record is appended when no time is left for it.
    scenario.records.iter_mut().for_each(|item| item.at_ms = Some(scenario.options.chaos_ms));
    std::fs::write(folder.join("stuck.toml"), scenario.to_toml()).expect("a file is written");
    let output = run_in(&folder, &["replay", "stuck.toml"]);
    assert_code(&output, 3);
    assert_contains(&out(&output), &["Stuck {"]);
}

#[test]
fn a_panic_of_the_simulation_ends_with_5() {
    let folder = folder("panic");
    let mut scenario = Scenario::draw(1, World::Simple, Profile::Tiny);
    scenario.options.partitions = 0;
    std::fs::write(folder.join("panic.toml"), scenario.to_toml()).expect("a file is written");
    let output = run_in(&folder, &["replay", "panic.toml"]);
    assert_code(&output, 5);
    assert_contains(&out(&output), &["Panicked {"]);
}

#[test]
fn a_campaign_prints_its_progress_its_tables_and_its_speed() {
    let folder = folder("campaign");
    let output = run_in(&folder, &["campaign", "--seeds", "0..8", "--profile", "tiny", "--jobs", "2"]);
    assert_code(&output, 0);
    assert_contains(&err(&output), &["simple, tiny: 8 of 8 seeds, ", " seeds/s, 0 failed, 0 s left"]);
    assert_contains(
        &out(&output),
        &["effective   effects  fault", "8 seeds (simple, tiny) in ", " per second; ", "; 0 failed"],
    );
    assert!(files(&folder).is_empty());
}

#[test]
fn a_campaign_writes_each_failure_and_describes_it_as_json() {
    let folder = folder("json");
    let arguments =
        ["campaign", "--seeds", "3..6", "--profile", "sabotaged", "--json", "--failures", "failed"];
    let output = run_in(&folder, &arguments);
    let document: Value = serde_json::from_slice(&output.stdout).expect("stdout is one JSON document");
    let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (text("world"), text("profile"), text("seeds")),
        ("simple".into(), "sabotaged".into(), "3..6".into())
    );
    assert_eq!(text("commit"), simulation::COMMIT);
    assert_eq!(document["runs"], 3);
    for number in ["seconds", "seeds_per_second", "simulated_seconds"] {
        assert!(document[number].as_f64().is_some_and(|number| number > 0.0), "{number}: {document}");
    }
    let dropped = &document["faults"]["acknowledged_writes_dropped"];
    assert_eq!((&dropped["planned"], &dropped["begun"]), (&3.into(), &3.into()), "{document}");
    assert!(dropped["effects"].as_u64() > dropped["effective"].as_u64(), "{document}");
    assert!(document["situations"]["replay"].is_u64(), "{document}");
    let failures = document["failures"].as_array().expect("a list");
    assert!(!failures.is_empty(), "a store that loses writes is found");
    for failure in failures {
        let of = |key: &str| failure[key].as_str().unwrap_or_default().to_owned();
        let seed = failure["seed"].as_u64().expect("a number");
        assert_eq!(of("file"), format!("failed/simple-sabotaged-{seed}.toml"));
        let scenario: Scenario = read(&folder.join(of("file"))).parse().expect("a scenario");
        assert_eq!(scenario, Scenario::draw(seed, World::Simple, Profile::Sabotaged));
        assert!(of("evidence").len() > of("violation").len() && !of("violation").is_empty(), "{failure}");
        assert_contains(&err(&output), &[&format!("failed: seed {seed} after "), &of("evidence")]);
    }
    assert!(matches!(output.status.code(), Some(1 | 3)), "{:?}", output.status);
}

#[test]
fn a_campaign_in_processes_prints_the_document_of_one_in_threads() {
    let document = |name: &str, more: &[&str]| -> (Option<i32>, Value) {
        let arguments =
            ["campaign", "--seeds", "3..9", "--profile", "sabotaged", "--json", "--failures", "failed"];
        let output = run_in(&folder(name), &[arguments.as_slice(), more].concat());
        let mut document: Value =
            serde_json::from_slice(&output.stdout).expect("stdout is one JSON document");
        for time in ["seconds", "seeds_per_second"] {
            document[time] = Value::Null;
        }
        (output.status.code(), document)
    };
    let in_threads = document("threads", &[]);
    assert_eq!(document("processes", &["--processes"]), in_threads);
}

#[test]
fn a_scenario_is_reduced_and_explained_in_processes_as_in_threads() {
    let folder = folder("isolated");
    let explain = ["explain", "--seed", SABOTAGED, "--profile", "sabotaged"];
    let (one, other) =
        (run_in(&folder, &explain), run_in(&folder, &[explain.as_slice(), &["--processes"]].concat()));
    assert_code(&one, 1);
    assert_eq!((one.status, out(&one)), (other.status, out(&other)));
    let mut scenario = Scenario::draw(1, World::Simple, Profile::Tiny);
    scenario.options.partitions = 0;
    std::fs::write(folder.join("panic.toml"), scenario.to_toml()).expect("a file is written");
    let shrink = ["shrink", "panic.toml", "--processes", "--minutes", "0.000001"];
    let output = run_in(&folder, &shrink);
    assert_code(&output, 5);
    // What the process of the run writes to its standard error.
    assert_contains(&err(&output), &["panicked at"]);
    assert_contains(&read(&folder.join("panic.small.toml")), &["# violation: panicked: "]);
}

#[test]
fn a_campaign_until_the_first_failure_stops_at_the_least_seed_with_any_number_of_threads() {
    let folder = folder("first");
    // The first has no violation.
    let arguments = ["campaign", "--seeds", "248..262", "--profile", "sabotaged"];
    let document = |more: &[&str]| -> Value {
        let output = run_in(&folder, &[arguments.as_slice(), &["--json"], more].concat());
        serde_json::from_slice(&output.stdout).expect("stdout is one JSON document")
    };
    let all = document(&[]);
    let least = &all["failures"][0];
    let seed = least["seed"].as_u64().expect("one seed fails");
    assert!(all["first"].is_null() && all["failures"].as_array().is_some_and(|failures| failures.len() > 3));
    for jobs in ["1", "2", "5"] {
        let until = document(&["--first", "--jobs", jobs]);
        let first = &until["first"];
        assert_eq!((&first["seed"], &first["violation"]), (&least["seed"], &least["violation"]), "{until}");
        assert_eq!(first["seeds"], seed - 248 + 1, "{until}");
        assert_eq!(until["failures"].as_array().map(Vec::len), Some(1), "{until}");
        // While one thread runs that seed, others may run any number of later ones.
        assert!(jobs != "1" || until["runs"] == seed - 248 + 1, "{until}");
    }
    let text = out(&run_in(&folder, &[arguments.as_slice(), &["--first"]].concat()));
    assert_contains(&text, &[&format!("stopped at seed {seed}, the first that failed of {}", seed - 247)]);
    // Nothing fails: all are run, and kinds of faults that did not occur are no failure.
    let none = run_in(&folder, &["campaign", "--seeds", "0..160", "--profile", "tiny", "--first", "--json"]);
    assert_code(&none, 0);
    let none: Value = serde_json::from_slice(&none.stdout).expect("stdout is one JSON document");
    assert_eq!((&none["runs"], none["first"].is_null()), (&160.into(), true), "{none}");
}

#[test]
fn a_campaign_that_must_reach_everything_and_does_not_ends_with_4() {
    let folder = folder("missed");
    let output = run_in(&folder, &["campaign", "--seeds", "0..2", "--profile", "tiny", "--require-all"]);
    assert_code(&output, 4);
    assert_contains(&out(&output), &["never reached: ", "evicted_count_read_back"]);
}

#[test]
fn a_campaign_of_all_worlds_and_profiles_gives_one_json_list() {
    let folder = folder("all");
    let arguments = ["campaign", "--seeds", "2..3", "--world", "all", "--profile", "all", "--json"];
    let output = run_in(&folder, &arguments);
    assert_code(&output, 0);
    let document: Value = serde_json::from_slice(&output.stdout).expect("stdout is one JSON document");
    let parts: Vec<(String, String)> = document
        .as_array()
        .expect("a list")
        .iter()
        .map(|part| (part["world"].to_string(), part["profile"].to_string()))
        .collect();
    assert_eq!(parts.len(), World::iter().count() * Profile::survivable().count());
    assert!(parts.contains(&(r#""cassandra""#.to_owned(), r#""zombies""#.to_owned())), "{parts:?}");
}

#[test]
fn a_campaign_ends_when_its_time_is_over() {
    let folder = folder("minutes");
    let arguments = ["campaign", "--seeds", "0..1000000", "--minutes", "0.05", "--json"];
    let output = run_in(&folder, &arguments);
    assert_code(&output, 0);
    let document: Value = serde_json::from_slice(&output.stdout).expect("stdout is one JSON document");
    let seconds = document["seconds"].as_f64().expect("a number");
    assert!((3.0..60.0).contains(&seconds), "{seconds}");
    assert!(err(&output).lines().count() >= 2, "a line every two seconds: {}", err(&output));
}

#[test]
fn a_seed_is_reduced_to_a_file_that_says_why_it_is_kept() {
    let folder = folder("shrink");
    let arguments =
        ["shrink", "--seed", SABOTAGED, "--profile", "sabotaged", "--reason", "A lost write is found."];
    let output = run_in(&folder, &arguments);
    assert_code(&output, 1);
    assert_contains(&err(&output), &[" faults, ", " records, ", " after ", " runs, "]);
    let file = folder.join(format!("simple-sabotaged-{SABOTAGED}.small.toml"));
    let text = read(&file);
    let scenario: Scenario = text.parse().expect("a scenario");
    let violation = scenario.expected.expect("a sabotage must be found for ever");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("# A lost write is found."));
    assert!(
        lines.next().is_some_and(|line| line.starts_with(&format!("# violation: {violation}: "))),
        "{text}"
    );
    assert!(lines.next().is_some_and(|line| line.starts_with("# faults: ")), "{text}");
    assert_eq!(lines.next(), Some(format!("# commit: {}", simulation::COMMIT).as_str()));
    assert!(scenario.faults.len() <= 3 && scenario.records.len() <= 30, "{text}");

    let name = file.file_name().and_then(|name| name.to_str()).expect("its name is text");
    let replayed = run_in(&folder, &["replay", name]);
    assert_code(&replayed, 1);
    // Ended early, and without a reason.
    let again = run_in(&folder, &["shrink", name, "--minutes", "0.000001", "--output", "again.toml"]);
    assert_code(&again, 1);
    let text = read(&folder.join("again.toml"));
    assert_contains(&text, &["# To be filled in", &format!("# violation: {violation}: ")]);
}

#[test]
fn a_scenario_without_a_violation_is_not_reduced_to_a_file() {
    let folder = folder("nothing");
    let output = run_in(&folder, &["shrink", "--seed", "3", "--profile", "tiny"]);
    assert_code(&output, 0);
    assert_contains(&out(&output), &["the scenario has no violation"]);
    assert!(files(&folder).is_empty());
}

#[test]
fn a_failure_is_explained_by_what_happened_to_its_cells() {
    let folder = folder("explain");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions/acknowledged-write-dropped.toml");
    let explained = run_in(&folder, &["explain", &file.to_string_lossy()]);
    assert_code(&explained, 1);
    let text = out(&explained);
    assert_contains(
        &text,
        &["not_durable: ", "watched: count of ", " writes count of ", " learns that it is written, "],
    );
    assert!(text.lines().count() < 80, "{text}");
    let seed = ["explain", "--seed", "2", "--world", "cassandra", "--profile", "sabotaged"];
    let on_cassandra = run_in(&folder, &seed);
    assert_code(&on_cassandra, 1);
    assert_contains(&out(&on_cassandra), &["sends a write to cassandra ", "at timestamp "]);
    let nothing = run_in(&folder, &["explain", "--seed", "1"]);
    assert_code(&nothing, 0);
    assert_contains(&out(&nothing), &["no violation"]);
}

#[test]
fn a_timeline_is_written_as_a_page_and_as_data_which_another_page_shows_beside_its_own() {
    let folder = folder("timeline");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions/acknowledged-write-dropped.toml");
    let title = "a store that drops writes";
    let arguments = ["explain", &file.to_string_lossy(), "--data", "bad.json", "--title", title];
    assert_code(&run_in(&folder, &arguments), 1);
    let data: Value = serde_json::from_str(&read(&folder.join("bad.json"))).expect("the data are JSON");
    assert_eq!(
        (&data["run"]["title"], &data["violations"][0]["name"]),
        (&title.into(), &"not_durable".into())
    );
    let mut scenario: Scenario = read(&file).parse().expect("a scenario");
    (scenario.expected, scenario.faults) = (None, Vec::new());
    std::fs::write(folder.join("good.toml"), scenario.to_toml()).expect("a file is written");
    let beside = ["explain", "good.toml", "--beside-data", "bad.json", "--out", "pages"];
    let output = run_in(&folder, &beside);
    assert_code(&output, 0);
    assert_contains(&out(&output), &["its timeline is in pages/good.html", "the scenario has no violation"]);
    // The run that fails is the first.
    let page = read(&folder.join("pages/good.html"));
    assert_contains(&page, &[&format!("<title>{title}: not_durable</title>"), "\"difference\":{"]);
    std::fs::write(folder.join("bad.json"), "{}").expect("a file is written");
    let output = run_in(&folder, &beside);
    assert_code(&output, 2);
    assert_contains(&err(&output), &["bad.json: "]);
}

#[test]
fn the_help_describes_every_command_its_options_and_the_exit_codes() {
    let folder = folder("help");
    let help = run_in(&folder, &["--help"]);
    assert_code(&help, 0);
    assert_contains(&out(&help), &["run ", "replay ", "scenario ", "shrink ", "campaign ", "Exit codes:"]);
    for command in ["run", "replay", "scenario", "shrink", "explain", "campaign"] {
        let help = out(&run_in(&folder, &[command, "--help"]));
        // An option without a text ends its line, and the next one follows.
        let mut lines = help.lines().skip_while(|line| *line != "Options:").skip(1);
        while let Some(line) = lines.next() {
            let option = line.trim_start();
            if option.starts_with("--") && !option.contains("  ") {
                let text = lines.next().unwrap_or_default().trim();
                assert!(
                    !text.is_empty() && !text.starts_with('-'),
                    "{command}: {option} has no help\n{help}"
                );
            }
        }
    }
    assert!(!out(&help).contains(" play "), "{}", out(&help));
    let campaign = run_in(&folder, &["campaign", "--help"]);
    assert_contains(&out(&campaign), &["Usage: cargo sim campaign", "full, or all", "zombies"]);
}
