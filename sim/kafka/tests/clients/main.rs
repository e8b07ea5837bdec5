//! Clients and suites that were not written for this, on three brokers that a process of its own serves: confluent-kafka,
//! franz-go's tests, librdkafka's tests, Apache's tools, kcat. Each set-up fetches what it needs by the ordinary tool of its
//! language and keeps it in the target directory. docs/clients.md has the results. The same on three real brokers:
//!
//! ```text
//! EXACTLYONCE_LOCAL_KAFKA_SETTINGS='num.partitions=4 auto.create.topics.enable=true' docker/local/cluster up --kafka 3 --cassandra 0
//! EXACTLYONCE_CLIENTS_ON=real cargo test -p simulated-kafka --test kafka_clients -- --ignored --test-threads 1
//! ```

mod brokers;
#[path = "../../../../tests/common/clients/mod.rs"]
mod clients;
#[path = "../../../../tests/common/cluster.rs"]
mod cluster;
mod faults;
mod go;
mod java;
mod kcat;
mod librdkafka;

use std::path::Path;

use brokers::Brokers;
use clients::python::Environment;

/// See [`Brokers::start`].
fn brokers(arguments: &[&str]) -> Brokers {
    Brokers::start(arguments)
}

#[test]
#[ignore = "needs Python and the network"]
fn confluent_kafka_works_in_both_group_protocols_and_transactions_while_brokers_die_and_leaders_move() {
    let environment = Environment::prepare("kafka-clients", include_str!("requirements.txt"));
    let mut brokers = brokers(&[]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/confluent.py");
    let address = brokers.address.clone();
    let checked = environment.run_script(&script, &[&address], |command| brokers.ask(command));
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
    let checked = environment.run_script(&script, &[&address], |command| brokers.ask(command));
    assert_eq!(checked, 8, "a part of the script was left out");
    brokers.end();
}
