//! The program without an open input: in containers, in CI steps, in the background.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The longest that starting and ending may take.
const LONGEST: Duration = Duration::from_secs(30);

struct Program {
    process: Child,
    address: String,
}

impl Program {
    /// The program, serving clients.
    fn start(command: &mut Command) -> Program {
        let mut process = command
            .args(["--port", "0", "--nodes", "1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut first = String::new();
        let output = process.stdout.as_mut().expect("a pipe");
        BufReader::new(output).read_line(&mut first).expect("a line");
        let address = first.trim().rsplit(' ').next().expect("an address").to_owned();
        Program { process, address }
    }

    fn is_serving(&mut self) -> bool {
        self.process.try_wait().expect("it can be asked").is_none()
            && TcpStream::connect(&self.address).is_ok()
    }

    /// Sends a signal; how the program ended, and its log.
    #[cfg(unix)]
    fn signal(mut self, name: &str) -> (ExitStatus, String) {
        let sent = Command::new("kill").args([format!("-{name}"), self.process.id().to_string()]).status();
        assert!(sent.expect("a signal is sent").success());
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait().expect("it can be asked") {
                break status;
            }
            assert!(start.elapsed() < LONGEST, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut log = String::new();
        self.process.stderr.take().expect("a pipe").read_to_string(&mut log).expect("text");
        (status, log)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Gone already, if all succeeded.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simulated-cassandra"));
    command.env_remove("SIMULATED_CASSANDRA_LOG");
    command
}

#[cfg(unix)]
#[test]
fn it_serves_until_a_signal_though_its_input_is_empty_or_closed() {
    for (input, signal) in [(Stdio::null(), "TERM"), (Stdio::piped(), "INT")] {
        let mut program = Program::start(program().stdin(input));
        // A pipe is closed here.
        drop(program.process.stdin.take());
        std::thread::sleep(Duration::from_millis(300));
        assert!(program.is_serving());
        let (status, log) = program.signal(signal);
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("serving clients") && log.contains(&format!("SIG{signal}")), "{log}");
    }
}

#[cfg(unix)]
#[test]
fn it_ends_at_a_signal_though_its_input_is_open() {
    let mut program = Program::start(program().stdin(Stdio::piped()));
    let input = program.process.stdin.take();
    let (status, log) = program.signal("TERM");
    assert_eq!(status.code(), Some(0), "{log}");
    drop(input);
}

#[cfg(unix)]
#[test]
fn the_level_of_the_log_is_set_by_option_or_environment() {
    let log = |command: &mut Command| Program::start(command.stdin(Stdio::null())).signal("TERM").1;
    assert_eq!(log(program().args(["--log", "off"])), "");
    assert_eq!(log(program().env("SIMULATED_CASSANDRA_LOG", "error")), "");
    let debug = log(program().env("SIMULATED_CASSANDRA_LOG", "error").args(["--log", "debug"]));
    assert!(debug.contains("DEBUG") && debug.contains("started"), "{debug}");
}
