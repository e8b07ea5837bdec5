//! The services, through the script that starts them.

use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Services {
    script: PathBuf,
    pub kafka: String,
    pub cassandra: String,
}

impl Services {
    /// # Panics
    /// Unless three brokers and three nodes were started.
    pub fn find() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/local/cluster");
        let output = Command::new(&script).arg("env").output().expect("the script runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let value = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches(['\'', '"']).to_owned()
        };
        let (kafka, cassandra) = (value("KAFKA"), value("CASSANDRA"));
        for services in [&kafka, &cassandra] {
            assert_eq!(
                services.split(',').filter(|address| !address.is_empty()).count(),
                3,
                "needs services: docker/local/cluster up --kafka 3 --cassandra 3"
            );
        }
        Self { script, kafka, cassandra }
    }

    /// Runs the script.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, arguments: &[&str]) {
        let output = Command::new(&self.script).args(arguments).output().expect("the script runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }

    /// Starts what is down, resumes what is paused, and waits until everything answers.
    pub fn heal(&self) {
        self.run(&["up", "--kafka", "3", "--cassandra", "3"]);
    }
}
