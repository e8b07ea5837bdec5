//! gocql, the driver for Go, with its default settings.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::Nodes;

/// The program's files; its dependencies are fetched through the module proxy that Go is configured with.
const FILES: [(&str, &str); 3] = [
    ("main.go", include_str!("go/main.go")),
    ("go.mod", include_str!("go/go.mod")),
    ("go.sum", include_str!("go/go.sum")),
];

fn run(command: &mut Command) -> Output {
    let shown = format!("{command:?}");
    let output = command.output().unwrap_or_else(|error| panic!("{shown}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{shown}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}

#[test]
#[ignore = "needs Go and the network"]
fn gocql_negotiates_the_version_writes_reads_pages_and_batches() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cassandra-clients-go");
    fs::create_dir_all(&folder).expect("a folder");
    for (name, text) in FILES {
        fs::write(folder.join(name), text).expect("a file");
    }
    let program = folder.join("client");
    run(Command::new("go").args(["build", "-o"]).arg(&program).arg(".").current_dir(&folder));
    let nodes = Nodes::start(&["--port", "0"]);
    let output = run(Command::new(&program).args(["127.0.0.1", &nodes.port]));
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.lines().filter(|line| line.starts_with("checked: ")).count(), 5, "{said}");
    nodes.end();
}
