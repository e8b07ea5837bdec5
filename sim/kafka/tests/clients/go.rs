//! franz-go's own tests of groups and transactions, from its module.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::brokers;
use super::clients::{folder, run};

const LONGEST: Duration = Duration::from_secs(600);

/// The program with franz-go's tests, built first if there is none.
fn tests() -> PathBuf {
    let folder = folder("kafka-clients-go-1.22.3");
    let program = folder.join("kgo.test");
    if program.exists() {
        return program;
    }
    fs::write(folder.join("go.mod"), include_str!("go/go.mod")).expect("a file");
    let mut list = Command::new("go");
    // The module itself has to be the main one, so that its tests are built with the versions that it names.
    list.args(["mod", "download", "-json", "github.com/twmb/franz-go"]).current_dir(&folder);
    list.env("GOFLAGS", "-mod=mod");
    let description = run(&mut list, LONGEST);
    let place = description.lines().find_map(|line| line.trim().strip_prefix("\"Dir\": \""));
    let place = place.and_then(|rest| rest.split('"').next()).expect("a module has a folder");
    let mut build = Command::new("go");
    build.args(["test", "-c", "-o"]).arg(&program).arg("./pkg/kgo").current_dir(place);
    run(&mut build, LONGEST);
    program
}

fn passes(test: &str, records: u32) {
    let tests = tests();
    let brokers = brokers(&[]);
    let mut command = Command::new(&tests);
    command.args(["-test.v", "-test.run", test]).current_dir(folder("kafka-clients-go-1.22.3"));
    command.env("KGO_SEEDS", &brokers.address).env("KGO_TEST_RF", "3");
    command.env("KGO_TEST_RECORDS", records.to_string()).env("KGO_LOG_LEVEL", "warn");
    let said = run(&mut command, LONGEST);
    assert!(said.contains("--- PASS: Test"), "no test ran: {said}");
    brokers.end();
}

#[test]
#[ignore = "needs Go and the network"]
fn franz_go_consumes_and_produces_in_groups_of_both_protocols() {
    passes("^TestGroupETL$/^range", 1000);
}

#[test]
#[ignore = "needs Go and the network"]
fn franz_go_consumes_and_produces_exactly_once_in_groups_of_both_protocols() {
    passes("^TestTxnEtl$/^range", 500);
}
