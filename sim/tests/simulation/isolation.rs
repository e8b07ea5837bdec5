//! Runs in processes of their own have the results of runs in threads, and a process that crashes is a result.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use simulation::campaign::{Campaign, Isolation, Limits, play};
use simulation::explain::{explain, record};
use simulation::oracle::Violation;
use simulation::scenario::fault::{Kind, Target};
use simulation::scenario::profile::Profile;
use simulation::scenario::{Scenario, World};
use simulation::shrink::shrink;
use simulation::{Report, Seed, run};

const PROGRAM: &str = env!("CARGO_BIN_EXE_simulation");

/// Longer than any run takes, and than a test that fails may take.
const LONG: Duration = Duration::from_secs(120);

fn processes(program: impl Into<PathBuf>) -> Isolation {
    Isolation::Processes { program: program.into(), time_limit: LONG }
}

/// Scenarios with a violation and without, with faults of all kinds, and on all services.
fn scenarios() -> impl Iterator<Item = Scenario> {
    let of = |world, profile, seeds: std::ops::Range<Seed>| {
        seeds.map(move |seed| Scenario::draw(seed, world, profile))
    };
    of(World::Simple, Profile::Standard, 0..12)
        .chain(of(World::Simple, Profile::Sabotaged, 0..12))
        .chain(of(World::Cassandra, Profile::Standard, 0..2))
        .chain(of(World::Cassandra, Profile::Sabotaged, 0..3))
}

/// Writes an executable script. Another process does: while this one had the file open, a child that another test starts
/// could inherit it, and what is open for writing cannot be executed.
fn script(name: &str, text: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("isolation-{name}"));
    let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod +x "$0""#;
    let written = Command::new("sh").args(["-c", write]).arg(&file).arg(text).status();
    assert!(written.is_ok_and(|status| status.success()), "{} is not written", file.display());
    file
}

/// How the only run of a program crashed.
#[track_caller]
fn how(isolation: &Isolation) -> String {
    let report = play(Scenario::draw(3, World::Simple, Profile::Tiny), isolation);
    match report.violations.as_slice() {
        [Violation::Crashed { how }] => how.clone(),
        violations => panic!("{violations:?}"),
    }
}

#[test]
fn a_report_is_what_its_json_contains() {
    let (mut passed, mut failed) = (0, 0);
    for scenario in scenarios() {
        let report = run(scenario, true);
        let json = serde_json::to_vec(&report).expect("a report is written");
        let read: Report = serde_json::from_slice(&json).expect("a report is read");
        assert_eq!(read, report, "seed {}", report.scenario.seed);
        assert!(!read.trace.lines.is_empty() && read.observed != Default::default());
        match report.violation {
            None => passed += 1,
            Some(_) => failed += 1,
        }
    }
    assert!(passed > 3 && failed > 3, "{passed} passed and {failed} failed");
}

#[test]
fn a_run_in_a_process_has_the_report_of_a_run_in_a_thread() {
    for scenario in scenarios() {
        let report = play(scenario.clone(), &processes(PROGRAM));
        assert_eq!(report, play(scenario, &Isolation::Threads), "seed {}", report.scenario.seed);
    }
}

#[test]
fn the_results_of_a_campaign_do_not_depend_on_where_its_runs_take_place() {
    for (profile, until_first) in
        [(Profile::Standard, false), (Profile::Sabotaged, false), (Profile::Sabotaged, true)]
    {
        let of = |isolation, jobs| {
            let limits = Limits { jobs, isolation, until_first, ..Limits::seeds(248..272) };
            Campaign::run(World::Simple, profile, &limits, |_, _| {})
        };
        let (one, other) = (of(Isolation::Threads, 2), of(processes(PROGRAM), 3));
        assert_eq!(one.failures, other.failures, "{profile}");
        assert_eq!(one.failures.is_empty(), profile == Profile::Standard);
        if !until_first {
            assert_eq!(one.observed, other.observed, "{profile}");
            assert_eq!(
                (one.runs, one.events, one.simulated_ms),
                (other.runs, other.events, other.simulated_ms),
                "{profile}"
            );
        }
    }
}

#[test]
fn a_crash_is_a_result_of_its_seed_and_the_campaign_goes_on() {
    let crashing = script(
        "crashing",
        &format!(
            r#"
scenario=$(cat)
case $scenario in
    '{{"seed":5,'*) echo 'free(): invalid pointer' >&2; kill -SEGV $$ ;;
esac
printf %s "$scenario" | {PROGRAM} "$@""#
        ),
    );
    let limits = Limits { isolation: processes(crashing), jobs: 2, ..Limits::seeds(0..9) };
    let campaign = |limits: &Limits| Campaign::run(World::Simple, Profile::Tiny, limits, |_, _| {});
    let all = campaign(&limits);
    assert_eq!(all.runs, 9);
    let [report] = all.failures.as_slice() else { panic!("{:?}", all.failures) };
    assert_eq!(report.scenario, Scenario::draw(5, World::Simple, Profile::Tiny));
    let Some(violation @ Violation::Crashed { how }) = &report.violation else { panic!("{report}") };
    assert!(how.contains("signal: 11") && how.contains("free(): invalid pointer"), "{how}");
    assert_eq!((violation.name(), report.has("crashed")), ("crashed", true));
    // The others have run.
    let others = Limits::seeds(0..9);
    let events: u64 = campaign(&others).events - run(report.scenario.clone(), false).trace.events;
    assert_eq!(all.events, events);
    let first = campaign(&Limits { until_first: true, ..limits });
    assert_eq!(first.failures, all.failures);
    assert!((6..9).contains(&first.runs), "{} runs", first.runs);
}

#[test]
fn every_end_of_a_process_but_a_report_is_a_crash() {
    let cases = [
        ("aborted", "kill -ABRT $$", "signal: 6"),
        ("refused", "cat >&2; exit 3", "exit status: 3; its standard error ends with: {\"seed\":3,"),
        ("silent", "cat > /dev/null", "the output is not a report: EOF"),
        ("echo", "cat", "the output is not a report: "),
        ("cut", &format!("{PROGRAM} \"$@\" | head -c 1000"), "the output is not a report: EOF"),
        // After the report, at the end of the process.
        ("late", &format!("{PROGRAM} \"$@\"; kill -SEGV $$"), "signal: 11"),
    ];
    for (name, text, expected) in cases {
        let how = how(&processes(script(name, text)));
        assert!(how.starts_with(expected), "{name}: {how}");
    }
    let how = how(&processes("/missing/program"));
    assert!(how.starts_with("/missing/program cannot be run: "), "{how}");
}

#[test]
fn of_a_long_standard_error_the_end_is_kept() {
    let text = "cat > /dev/null; yes 0123456789 | head -c 3000000 >&2; echo the end >&2; exit 1";
    let how = how(&processes(script("verbose", text)));
    assert!(how.ends_with("the end") && (60_000..70_000).contains(&how.len()), "{} bytes", how.len());
}

#[test]
fn a_process_that_does_not_end_is_killed_and_is_a_crash() {
    let pid = Path::new(env!("CARGO_TARGET_TMPDIR")).join("isolation-endless.pid");
    // One that still has its standard output, and one that does not.
    for (name, close) in [("endless", ""), ("closed", "exec >&-")] {
        let text = format!("echo $$ > '{}'; {close}\nexec sleep 1000", pid.display());
        let program = script(name, &text);
        let began = Instant::now();
        let how = how(&Isolation::Processes { program, time_limit: Duration::from_secs(2) });
        assert_eq!(how, "killed, because it has not ended within 2s", "{name}");
        assert!(began.elapsed() < LONG, "{name}: {:?}", began.elapsed());
        let pid = std::fs::read_to_string(&pid).expect("the process wrote its id");
        let is_running = Command::new("sh").args(["-c", &format!("kill -0 {}", pid.trim())]).output();
        assert!(!is_running.expect("a shell starts").status.success(), "{name}: {pid} still runs");
    }
}

#[test]
fn a_scenario_is_reduced_in_processes_to_what_it_is_reduced_to_in_threads() {
    let scenario = Scenario::draw(1, World::Simple, Profile::Sabotaged);
    let reduced = |isolation: &Isolation| {
        let shrunk = shrink(scenario.clone(), isolation, |shrunk| shrunk.runs < 30).expect("it fails");
        (shrunk.scenario, shrunk.violation, shrunk.runs)
    };
    assert_eq!(reduced(&processes(PROGRAM)), reduced(&Isolation::Threads));
}

#[test]
fn a_crash_is_reduced_and_explained_without_a_crash_of_this_process() {
    let crashing = processes(script("always", "cat > /dev/null; kill -ABRT $$"));
    let scenario = Scenario::draw(3, World::Simple, Profile::Tiny);
    let shrunk = shrink(scenario.clone(), &crashing, |_| true).expect("it crashes");
    assert_eq!((shrunk.violation, shrunk.scenario.records.len()), ("crashed", 0));
    let explanation = explain(scenario.clone(), &crashing).expect("it crashes");
    assert!(explanation.to_string().starts_with("crashed: "), "{explanation}");
    let (explanation, timeline) = record(scenario, &[], &crashing);
    assert!(explanation.is_some_and(|explanation| explanation.report.has("crashed")));
    assert_eq!(
        timeline.violations.iter().map(|judged| judged.name.as_str()).collect::<Vec<_>>(),
        ["crashed"]
    );
}

/// Runs the hidden command.
fn play_command(input: &[u8]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.arg("play").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the simulation's own program starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input).expect("it is read");
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

#[test]
fn the_command_writes_nothing_but_a_report_and_ends_with_0_if_the_run_fails() {
    let scenario = Scenario::draw(3, World::Simple, Profile::Sabotaged);
    let output = play_command(&serde_json::to_vec(&scenario).expect("a scenario is written"));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Report = serde_json::from_slice(&output.stdout).expect("stdout is one report");
    assert!(report.violation.is_some());
    assert_eq!(report, run(scenario, false));
}

#[test]
fn the_command_refuses_what_is_not_a_scenario() {
    let mut impossible = Scenario::draw(1, World::Simple, Profile::Standard);
    let fault = &mut impossible.faults[0];
    (fault.kind, fault.target) = (Kind::CallsTorn { per_mille: 1 }, Target::AllNodes);
    let expected = format!("error: standard input: fault {} cannot happen to its target", fault.id);
    let impossible = serde_json::to_vec(&impossible).expect("a scenario is written");
    let cases: [(&[u8], &str); 3] = [
        (b"", "error: standard input: not a scenario: EOF"),
        (b"{\"seed\":1,\"colour\":2}", "error: standard input: not a scenario: unknown field `colour`"),
        (&impossible, &expected),
    ];
    for (input, expected) in cases {
        let output = play_command(input);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{stderr}");
        assert!(stderr.starts_with(expected), "{stderr}");
    }
}

#[test]
fn a_process_ends_when_its_campaign_is_killed() {
    // The shell is the parent of the program, which waits for its scenario, and ends a second later. Both have the standard
    // output, which is closed when both have ended.
    let text = r#"exec 3<&0; "$0" play <&3 & sleep 1"#;
    let mut command = Command::new("sh");
    command.args(["-c", text, PROGRAM]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = command.spawn().expect("a shell starts");
    let (stdin, stdout) = (shell.stdin.take(), shell.stdout.take());
    let (ended, end) = mpsc::channel();
    thread::spawn(move || ended.send(stdout.map(|mut stdout| stdout.read_to_end(&mut Vec::new()).ok())));
    assert_eq!(end.recv_timeout(LONG), Ok(Some(Some(0))), "the process still runs");
    // It did not end because its input had.
    drop(stdin);
    assert!(shell.wait().is_ok_and(|status| status.success()));
}
