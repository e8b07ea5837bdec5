//! Clients and suites that were not written for this, on three brokers that a process of its own serves: confluent-kafka,
//! franz-go's tests, librdkafka's tests, Apache's tools. Each set-up fetches what it needs by the ordinary tool of its
//! language and keeps it in the target directory. docs/clients.md has the results.

#[path = "../../../../tests/common/clients/mod.rs"]
mod clients;
mod go;
mod java;
mod librdkafka;

use std::path::Path;
use std::process::Command;

use clients::Served;
use clients::python::Environment;

/// Three brokers, whose topics have four partitions.
fn brokers(arguments: &[&str]) -> Served {
    let mut program = Command::new(env!("CARGO_BIN_EXE_simulated-kafka"));
    program.args(["--port", "0", "--set", "num.partitions=4"]).args(arguments);
    Served::start(program.env_remove("SIMULATED_KAFKA_LOG"))
}

#[test]
#[ignore = "needs Python and the network"]
fn confluent_kafka_works_in_both_group_protocols_and_transactions_while_brokers_die_and_leaders_move() {
    let environment = Environment::prepare("kafka-clients", include_str!("requirements.txt"));
    let mut brokers = brokers(&[]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/confluent.py");
    let address = brokers.address.clone();
    let checked = environment.run_script(&script, &[&address], &mut brokers);
    assert_eq!(checked, 5, "a part of the script was left out");
    brokers.end();
}

#[test]
#[ignore = "needs Python and the network"]
fn confluent_kafka_authenticates_with_plain_and_scram_and_reports_wrong_passwords() {
    let environment = Environment::prepare("kafka-clients", include_str!("requirements.txt"));
    let mut brokers = brokers(&["--user", "anna:pencil"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/security.py");
    let address = brokers.address.clone();
    let checked = environment.run_script(&script, &[&address], &mut brokers);
    assert_eq!(checked, 8, "a part of the script was left out");
    brokers.end();
}
