//! The real services, which `docker/local/cluster` runs, for the tests and benchmarks that need them.

// Not every program uses all of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use simulated_hosts::HostCommand;

/// `docker/local/cluster`, in the environment of this process.
pub struct Cluster {
    script: PathBuf,
    /// The variables that `docker/local/cluster env` prints: `KAFKA`, `CASSANDRA`, `DIR`.
    pub env: BTreeMap<String, String>,
}

impl Cluster {
    /// Finds the running cluster.
    pub fn find() -> Result<Self, String> {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut scripts = package.ancestors().map(|folder| folder.join("docker/local/cluster"));
        let script = scripts.find(|path| path.exists()).ok_or("docker/local/cluster is missing")?;
        let mut cluster = Self { script, env: BTreeMap::new() };
        let start = "no services run; docker/local/cluster up starts them";
        let env = cluster.run(&["env"]).map_err(|error| format!("{error}\n{start}"))?;
        let lines = env.lines().filter_map(|line| line.split_once('='));
        cluster.env = lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(cluster)
    }

    /// Finds the running cluster. Panics if there is none, so that a test without services fails.
    pub fn running() -> Self {
        Self::find().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The addresses of a service's nodes; an error if there are fewer than `minimum`.
    pub fn addresses(&self, variable: &str, minimum: usize) -> Result<Vec<String>, String> {
        let all = self
            .env
            .get(variable)
            .map_or("", String::as_str)
            .split(',')
            .filter(|address| !address.is_empty());
        let all: Vec<_> = all.map(str::to_owned).collect();
        if all.len() < minimum {
            let option = variable.to_lowercase();
            return Err(format!(
                "{minimum} nodes of {variable} are needed: docker/local/cluster up --{option} {minimum}"
            ));
        }
        Ok(all)
    }

    /// As [`Cluster::run`], without blocking the thread.
    pub async fn call(self: &Arc<Self>, arguments: &[&str]) -> Result<String, String> {
        let (cluster, arguments) =
            (self.clone(), arguments.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        let call = move || cluster.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        tokio::task::spawn_blocking(call).await.map_err(|error| error.to_string())?
    }

    /// Applies a fault to nodes, or ends it: the script's commands have the vocabulary's names. Blocks the thread.
    pub fn apply(&self, command: impl Into<HostCommand>, nodes: &[&str]) -> Result<(), String> {
        let command = command.into().to_string();
        self.run(&[&[command.as_str()], nodes].concat()).map(drop)
    }

    /// As [`Cluster::apply`], without blocking the thread.
    pub async fn call_apply(
        self: &Arc<Self>,
        command: impl Into<HostCommand>,
        nodes: &[&str],
    ) -> Result<(), String> {
        let command = command.into().to_string();
        self.call(&[&[command.as_str()], nodes].concat()).await.map(drop)
    }

    /// Runs the script and returns its output. Blocks the thread.
    pub fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let called = || format!("docker/local/cluster {}", arguments.join(" "));
        let output = Command::new(&self.script)
            .args(arguments)
            .output()
            .map_err(|error| format!("{}: {error}", called()))?;
        if !output.status.success() {
            return Err(format!("{}: {}", called(), String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
