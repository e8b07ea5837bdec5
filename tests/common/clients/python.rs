//! Virtual environments of Python with clients, made once and kept, and scripts in them.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::Client;

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
    /// The environment with these requirements (of pip, with versions), made first if there is none. While one is made,
    /// others wait.
    ///
    /// # Panics
    /// If there is no Python 3 with `venv`, or the clients cannot be installed from the package index that pip is
    /// configured with.
    pub fn prepare(name: &str, requirements: &str) -> Self {
        static MAKING: Mutex<()> = Mutex::new(());
        let _alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        Self::make(name, requirements).unwrap_or_else(|reason| panic!("{reason}"))
    }

    fn make(name: &str, requirements: &str) -> Result<Self, String> {
        // Requirements of another time have another folder.
        let digest = requirements.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{digest:016x}"));
        let programs = folder.join("bin");
        if folder.join(MARK).exists() {
            return Ok(Self { programs });
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
            return Err(format!("no Python 3 was found, which the clients in Python need:{reasons}"));
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
        fs::write(&list, requirements).map_err(failed)?;
        let mut install = Command::new(programs.join("python"));
        install.args(["-m", "pip", "install", "--disable-pip-version-check", "--requirement"]).arg(list);
        said(&mut install).map_err(|reason| format!("the clients could not be installed: {reason}"))?;
        fs::write(folder.join(MARK), "").map_err(failed)?;
        Ok(Self { programs })
    }

    /// A program of the environment.
    pub fn command(&self, program: &str) -> Command {
        Command::new(self.programs.join(program))
    }

    /// Runs a script to its end, and asks the cluster for what it prints (`DO kill 3`); it reads the responses.
    /// Returns the number of its parts that it has checked.
    ///
    /// # Panics
    /// If it fails.
    pub fn run_script(
        &self,
        script: &Path,
        arguments: &[&str],
        mut ask: impl FnMut(&str) -> String,
    ) -> usize {
        let process = self
            .command("python")
            .arg(script)
            .args(arguments)
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
                let response = ask(command);
                // A script that has failed reads no response; its exit status shows it.
                let _ = writeln!(responses, "{response}").and_then(|()| responses.flush());
            }
            checked += usize::from(line.starts_with("checked: "));
        }
        let status = client.0.wait().expect("it ends");
        assert!(status.success(), "{status}");
        checked
    }
}
