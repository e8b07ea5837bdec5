//! librdkafka's own tests, from the sources that the crate rdkafka-sys has with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::brokers;
use super::brokers::Brokers;
use super::clients::{folder, run};

const LONGEST: Duration = Duration::from_secs(900);
const VERSION: &str = "4.10.0+2.12.1";

/// The folder of librdkafka's tests, built first if they are not.
fn tests() -> PathBuf {
    let folder = folder("kafka-clients-librdkafka-2.12.1");
    let tests = folder.join("librdkafka/tests");
    let mark = folder.join("built");
    if mark.exists() {
        return tests;
    }
    let copied = folder.join("librdkafka");
    if copied.exists() {
        // Left half-way.
        fs::remove_dir_all(&copied).expect("it can be removed");
    }
    run(Command::new("cp").arg("-r").arg(source(&folder)).arg(&copied), LONGEST);
    let options =
        ["--disable-ssl", "--disable-gssapi", "--disable-curl", "--disable-zstd", "--disable-optimization"];
    run(Command::new("./configure").args(options).current_dir(&copied), LONGEST);
    for (place, targets) in [("src", &[][..]), ("src-cpp", &[]), ("tests", &["test-runner"])] {
        run(Command::new("make").args(["-j2", "-C", place]).args(targets).current_dir(&copied), LONGEST);
    }
    fs::write(mark, "").expect("a file");
    tests
}

/// Where cargo has unpacked the sources, after it has fetched them.
fn source(folder: &Path) -> PathBuf {
    let package = folder.join("package");
    fs::create_dir_all(package.join("src")).expect("a folder");
    fs::write(package.join("src/lib.rs"), "").expect("a file");
    let manifest = format!(
        "[package]\nname = \"sources\"\nedition = \"2024\"\n\n[dependencies]\nrdkafka-sys = {{ version = \"={VERSION}\", \
         default-features = false }}\n\n[workspace]\n"
    );
    fs::write(package.join("Cargo.toml"), manifest).expect("a file");
    let mut metadata = Command::new(env!("CARGO"));
    metadata.args(["metadata", "--quiet", "--format-version", "1"]).current_dir(&package);
    let description = run(&mut metadata, LONGEST);
    let wanted = format!("/rdkafka-sys-{VERSION}/Cargo.toml");
    let end = description.find(&wanted).expect("cargo has the package");
    let start = description[..end].rfind('"').expect("a quoted path") + 1;
    Path::new(&description[start..end]).join(format!("rdkafka-sys-{VERSION}/librdkafka"))
}

fn pass(numbers: &[&str], protocol: &str) {
    // Kafka's default: the tests of groups expect that members that begin together are assigned together.
    let brokers = brokers(&["--set", "group.initial.rebalance.delay.ms=3000"]);
    pass_with(brokers, numbers, protocol, "default");
}

/// A part of a test: its functions whose names contain one of these.
fn pass_parts(number: &str, parts: &[&str], protocol: &str) {
    let brokers = brokers(&[]);
    for part in parts {
        pass_one(&brokers, number, protocol, "default", Some(part));
    }
    brokers.end();
}

fn pass_with(brokers: Brokers, numbers: &[&str], protocol: &str, scenario: &str) {
    for number in numbers {
        pass_one(&brokers, number, protocol, scenario, None);
    }
    brokers.end();
}

fn pass_one(brokers: &Brokers, number: &str, protocol: &str, scenario: &str, part: Option<&str>) {
    let tests = tests();
    let configuration =
        folder("clients-output").join(format!("{}-{number}-{protocol}.conf", std::process::id()));
    let lines = format!("metadata.broker.list={}\ntest.topic.random=true\n", brokers.address);
    fs::write(&configuration, lines).expect("a file");
    let mut command = Command::new("./test-runner");
    command.args(["-p1", "-s", scenario]).current_dir(&tests);
    command.env("TESTS", number).env("TEST_CONSUMER_GROUP_PROTOCOL", protocol);
    command.env("RDKAFKA_TEST_CONF", &configuration);
    command.env("LD_LIBRARY_PATH", "../src:../src-cpp");
    if let Some(part) = part {
        command.env("SUBTESTS", part);
    }
    let said = run(&mut command, LONGEST);
    let passed = said.lines().any(|line| line.contains(&format!("{number}_")) && line.contains("PASSED"));
    assert!(passed, "test {number} did not run: {said}");
    let _ = fs::remove_file(configuration);
}

#[test]
#[ignore = "needs a C compiler, make and the network"]
fn the_tests_of_librdkafka_for_producing_consuming_offsets_and_compression_pass() {
    pass(&["0012", "0017", "0030", "0054", "0130"], "classic");
}

#[test]
#[ignore = "needs a C compiler, make and the network"]
fn the_tests_of_librdkafka_for_groups_pass_with_the_classic_protocol() {
    pass(&["0045", "0102", "0113"], "classic");
}

#[test]
#[ignore = "needs a C compiler, make and the network"]
fn the_tests_of_librdkafka_for_groups_pass_with_the_consumer_protocol() {
    // All of it but subscribe_many_updates, which often fails on real brokers, too: see docs/clients.md.
    pass_parts("0045", &["non_exist", "regex", "topic_remove"], "consumer");
    pass(&["0113"], "consumer");
}

#[test]
#[ignore = "needs a C compiler, make and the network"]
fn the_tests_of_librdkafka_for_transactions_and_recreated_topics_pass() {
    pass(&["0103"], "classic");
    let brokers = brokers(&["--set", "auto.create.topics.enable=false"]);
    pass_with(brokers, &["0107"], "classic", "noautocreate");
}
