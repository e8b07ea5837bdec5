//! A virtual environment with the clients, made once and kept.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Brokers, Client, run};

/// What is installed, with versions.
const REQUIREMENTS: &str = include_str!("requirements.txt");

/// Names that a Python 3 may have on the path.
const PYTHONS: [&str; 2] = ["python3", "python"];

/// Written when everything is installed.
const MARK: &str = "installed";

pub struct Environment {
    programs: PathBuf,
}

fn said(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|error| format!("{shown}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{shown}: {}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr)))
    }
}

impl Environment {
    /// The environment, made first if there is none for these requirements.
    ///
    /// # Errors
    /// If there is no Python 3 with `venv`, or the clients cannot be installed from the package index that pip is
    /// configured with.
    pub fn prepare() -> Result<Environment, String> {
        // Requirements of another time have another folder.
        let name = REQUIREMENTS.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kafka-clients-{name:016x}"));
        let programs = folder.join("bin");
        if folder.join(MARK).exists() {
            return Ok(Environment { programs });
        }
        let mut reasons = String::new();
        let python = PYTHONS.iter().find(|python| match said(Command::new(python).arg("--version")) {
            Ok(version) if version.starts_with("Python 3") => true,
            Ok(version) => {
                let _ = write!(reasons, "\n{python}: {version}");
                false
            }
            Err(reason) => {
                let _ = write!(reasons, "\n{reason}");
                false
            }
        });
        let Some(python) = python else {
            return Err(format!("no Python 3 was found, which the Python client needs:{reasons}"));
        };
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        if folder.exists() {
            // Left half-way.
            fs::remove_dir_all(&folder).map_err(failed)?;
        }
        fs::create_dir_all(&folder).map_err(failed)?;
        said(Command::new(python).args(["-m", "venv"]).arg(&folder))
            .map_err(|reason| format!("no virtual environment could be made: {reason}"))?;
        let list = folder.join("requirements.txt");
        fs::write(&list, REQUIREMENTS).map_err(failed)?;
        let mut install = Command::new(programs.join("python"));
        install.args(["-m", "pip", "install", "--disable-pip-version-check", "--requirement"]).arg(list);
        said(&mut install).map_err(|reason| format!("the clients could not be installed: {reason}"))?;
        fs::write(folder.join(MARK), "").map_err(failed)?;
        Ok(Environment { programs })
    }

    /// A program of the environment.
    pub fn command(&self, program: &str) -> Command {
        Command::new(self.programs.join(program))
    }
}

/// Runs the script, and executes the commands that it asks for.
#[test]
#[ignore = "needs Python and the network"]
fn confluent_kafka_works_in_both_group_protocols_and_transactions_while_brokers_die_and_leaders_move() {
    let environment = Environment::prepare().unwrap_or_else(|reason| panic!("{reason}"));
    let mut brokers = Brokers::start();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/confluent.py");
    let process = environment
        .command("python")
        .arg(script)
        .arg(&brokers.address)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let mut client = Client(process);
    let mut responses = client.0.stdin.take().expect("a pipe");
    let lines = BufReader::new(client.0.stdout.take().expect("a pipe")).lines();
    let mut checked = 0;
    for line in lines {
        let line = line.expect("text");
        println!("{line}");
        if let Some(command) = line.strip_prefix("DO ") {
            let response = brokers.ask(command);
            // A script that has failed reads no response; its exit status shows it.
            let _ = writeln!(responses, "{response}").and_then(|()| responses.flush());
        }
        checked += usize::from(line.starts_with("checked: "));
    }
    let status = client.0.wait().expect("it ends");
    assert!(status.success(), "{status}");
    assert_eq!(checked, 5, "a part of the script was left out");
    brokers.end();
}

/// Runs the script, whose clients all have to authenticate.
#[test]
#[ignore = "needs Python and the network"]
fn confluent_kafka_authenticates_with_plain_and_scram_and_reports_wrong_passwords() {
    let environment = Environment::prepare().unwrap_or_else(|reason| panic!("{reason}"));
    let brokers = Brokers::start_with(&["--user", "anna:pencil"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/security.py");
    let mut command = environment.command("python");
    command.arg(script).arg(&brokers.address);
    let printed = run(&mut command, Duration::from_secs(300));
    assert_eq!(printed.lines().filter(|line| line.starts_with("checked: ")).count(), 8, "{printed}");
    brokers.end();
}
