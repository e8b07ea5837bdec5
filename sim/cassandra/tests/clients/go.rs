//! gocql, the driver for Go, with its default settings.

use std::fs;
use std::process::Command;

use super::clients::{folder, run};
use super::{TIMEOUT, nodes, port};

/// The program's files; its dependencies are fetched through the module proxy that Go is configured with.
const FILES: [(&str, &str); 3] = [
    ("main.go", include_str!("go/main.go")),
    ("go.mod", include_str!("go/go.mod")),
    ("go.sum", include_str!("go/go.sum")),
];

#[test]
#[ignore = "needs Go and the network"]
fn gocql_negotiates_the_version_writes_reads_pages_and_batches() {
    let folder = folder("cassandra-clients-go");
    for (name, text) in FILES {
        fs::write(folder.join(name), text).expect("a file");
    }
    let program = folder.join("client");
    run(Command::new("go").args(["build", "-o"]).arg(&program).arg(".").current_dir(&folder), TIMEOUT);
    let nodes = nodes(&[]);
    let said = run(Command::new(&program).args(["127.0.0.1", &port(&nodes)]), TIMEOUT);
    assert_eq!(said.lines().filter(|line| line.starts_with("checked: ")).count(), 5, "{said}");
    nodes.end();
}
