//! `simulated-cassandra`: a cluster on loopback addresses, for any client. See the README.

use std::process::ExitCode;
use std::time::SystemTime;

use simulated_cassandra::cluster::Ending;
use simulated_cassandra::serve::{LocalError, LocalNodes, LocalOptions};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tracing_subscriber::filter::LevelFilter;

const USAGE: &str = "\
usage: simulated-cassandra [--nodes N] [--port PORT] [--seed SEED] [--log LEVEL]

Serves a simulated Cassandra cluster of N nodes (3) on 127.0.0.1, 127.0.0.2 and so on, port PORT (9042; 0 for one that
is free), until it gets SIGINT or SIGTERM or the command exit. SEED (1) decides what is random inside. Prints a line when
every node serves clients, and a line for each command on standard input, `ok` or `error: ...`:

  kill NODE        end its process: the commit log reaches the disk, hints in memory do not
  power-loss NODE  end its process, and lose what was not synced
  stop NODE        end its process gracefully
  start NODE       start it again on its disk, and wait until the others see it
  pause NODE       stop it as SIGSTOP does
  resume NODE      let it continue
  status           the nodes that run
  exit             end the program

Standard input may be closed or empty. The log goes to standard error: messages of LEVEL (info) and above, which is off,
error, warn, info, debug (with every refused statement) or trace. The environment variable SIMULATED_CASSANDRA_LOG sets
LEVEL as well; --log takes precedence.
";

/// Sets the level of the log, where `--log` does not.
const LOG_VARIABLE: &str = "SIMULATED_CASSANDRA_LOG";

#[derive(Debug, Error)]
enum CommandError {
    #[error(
        "unknown command '{0}'; the commands are kill, power-loss, stop, start, pause, resume, status and exit"
    )]
    Unknown(String),
    #[error("'{0}' is not a node: nodes are numbered from 1")]
    Node(String),
    #[error("{0} requires one node")]
    Arguments(String),
    #[error("a command of more than {LONGEST_COMMAND} bytes")]
    TooLong,
    #[error(transparent)]
    Nodes(#[from] LocalError),
}

#[derive(Debug, Error)]
enum StartError {
    #[error("unknown option '{0}'")]
    Option(String),
    #[error("{option} needs a number, not '{given}'")]
    Number { option: String, given: String },
    #[error("{source_name} must be off, error, warn, info, debug or trace, not '{given}'")]
    Level { source_name: &'static str, given: String },
    #[error("the system's clock shows no time since 1970")]
    Clock,
    #[error("cannot handle signals")]
    Signals(#[source] std::io::Error),
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
    #[error(transparent)]
    Nodes(#[from] LocalError),
}

/// Why commands are read no more.
enum End {
    /// There are no more.
    Input,
    /// The command `exit`.
    Exit,
}

const LONGEST_COMMAND: usize = 1024;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        write_all(std::io::stdout(), USAGE);
        return ExitCode::SUCCESS;
    }
    let (options, level) = match options(&arguments) {
        Ok(options) => options,
        Err(error) => {
            complain(&error);
            write_all(std::io::stderr(), USAGE);
            return ExitCode::from(2);
        }
    };
    // Whoever reads no log loses no nodes.
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .log_internal_errors(false)
        .init();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(options: LocalOptions) -> Result<(), StartError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Runtime)?;
    let result = runtime.block_on(serve(options));
    // A read of standard input may be in progress and never end.
    runtime.shutdown_background();
    result
}

async fn serve(options: LocalOptions) -> Result<(), StartError> {
    // From here on a signal ends the program gracefully.
    let mut ended = std::pin::pin!(signal()?);
    let nodes = tokio::select! {
        name = &mut ended => {
            tracing::info!(signal = name, "ended while starting");
            return Ok(());
        }
        nodes = LocalNodes::start(options, |_| {}) => nodes?,
    };
    say(&format!("{} nodes answer, the first on {}", nodes.count(), nodes.address(1)));
    tracing::info!(nodes = nodes.count(), first = %nodes.address(1), "serving clients");
    tokio::select! {
        name = &mut ended => tracing::info!(signal = name, "ending"),
        () = until_exit(&nodes) => tracing::info!("ending at the command exit"),
    }
    Ok(())
}

/// Executes commands until one of them is `exit`. The end of the input is no reason to end.
async fn until_exit(nodes: &LocalNodes) {
    match commands(nodes, tokio::io::stdin()).await {
        Ok(End::Exit) => return,
        Ok(End::Input) => tracing::debug!("standard input has ended: there will be no more commands"),
        Err(error) => tracing::warn!(%error, "cannot read commands: there will be no more"),
    }
    std::future::pending().await
}

/// Waits for a signal that ends the program, and returns its name. What can fail has happened when this returns.
#[cfg(unix)]
fn signal() -> Result<impl Future<Output = &'static str>, StartError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    })
}

/// Waits for a signal that ends the program, and returns its name.
#[cfg(not(unix))]
fn signal() -> Result<impl Future<Output = &'static str>, StartError> {
    Ok(async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::warn!(%error, "cannot wait for Ctrl-C");
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    })
}

/// The options, and the level of the log.
fn options(arguments: &[String]) -> Result<(LocalOptions, LevelFilter), StartError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(|_| StartError::Clock)?;
    let mut options = LocalOptions::new(i64::try_from(now.as_micros()).map_err(|_| StartError::Clock)?);
    let mut level = match std::env::var(LOG_VARIABLE) {
        Ok(given) if !given.is_empty() => log_level(LOG_VARIABLE, &given)?,
        _ => LevelFilter::INFO,
    };
    let mut arguments = arguments.iter();
    while let Some(option) = arguments.next() {
        let given = arguments.next().map_or("", String::as_str);
        let number = || StartError::Number { option: option.clone(), given: given.to_owned() };
        match option.as_str() {
            "--nodes" => options.nodes = given.parse().map_err(|_| number())?,
            "--port" => options.port = given.parse().map_err(|_| number())?,
            "--seed" => options.seed = given.parse().map_err(|_| number())?,
            "--log" => level = log_level("--log", given)?,
            other => return Err(StartError::Option(other.to_owned())),
        }
    }
    Ok((options, level))
}

fn log_level(source_name: &'static str, given: &str) -> Result<LevelFilter, StartError> {
    // Numbers are levels, too, to the parser of `tracing`.
    let is_name = given.bytes().all(|byte| byte.is_ascii_alphabetic()) && !given.is_empty();
    let level = given.parse().ok().filter(|_| is_name);
    level.ok_or_else(|| StartError::Level { source_name, given: given.to_owned() })
}

/// Writes text to standard output or error. Errors are ignored: a closed stream is not read.
fn write_all(mut to: impl std::io::Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

/// An error with its causes, to standard error.
fn complain(error: &StartError) {
    let mut text = format!("simulated-cassandra: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text.push('\n');
    write_all(std::io::stderr(), &text);
}

/// Writes a line to standard output and flushes it. Errors are ignored as above.
fn say(line: &str) {
    write_all(std::io::stdout().lock(), &format!("{line}\n"));
}

/// Executes the commands in `input`, one a line.
async fn commands(nodes: &LocalNodes, input: impl AsyncRead + Unpin) -> std::io::Result<End> {
    let mut input = BufReader::new(input);
    loop {
        let mut line = Vec::new();
        let read = (&mut input).take(LONGEST_COMMAND as u64 + 1).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Ok(End::Input);
        }
        if read > LONGEST_COMMAND {
            say(&format!("error: {}", CommandError::TooLong));
            while !line.ends_with(b"\n") && !line.is_empty() {
                line.clear();
                (&mut input).take(LONGEST_COMMAND as u64).read_until(b'\n', &mut line).await?;
            }
            continue;
        }
        let line = String::from_utf8_lossy(&line);
        let arguments: Vec<&str> = line.split_whitespace().collect();
        if arguments.is_empty() {
            continue;
        }
        if arguments == ["exit"] {
            say("ok");
            return Ok(End::Exit);
        }
        let result = command(nodes, &arguments).await;
        match &result {
            Ok(_) => tracing::info!(command = %arguments.join(" "), "executed"),
            Err(error) => tracing::warn!(command = %arguments.join(" "), %error, "refused"),
        }
        match result {
            Ok(answer) => say(&answer),
            Err(CommandError::Nodes(LocalError::Listen { address, source })) => {
                say(&format!("error: cannot listen on {address}: {source}"));
            }
            Err(error) => say(&format!("error: {error}")),
        }
    }
}

async fn command(nodes: &LocalNodes, arguments: &[&str]) -> Result<String, CommandError> {
    let node = || match arguments {
        [_, node] => node.parse::<u8>().map_err(|_| CommandError::Node((*node).to_owned())),
        _ => Err(CommandError::Arguments(arguments[0].to_owned())),
    };
    match arguments[0] {
        "kill" => nodes.end(node()?, Ending::Kill)?,
        "power-loss" => nodes.end(node()?, Ending::PowerLoss)?,
        "stop" => nodes.end(node()?, Ending::Stop)?,
        "start" => nodes.start_node(node()?).await?,
        "pause" => nodes.pause(node()?)?,
        "resume" => nodes.resume(node()?)?,
        "status" => {
            let running = (1..=nodes.count()).filter(|node| nodes.is_running(*node));
            let running: Vec<_> = running.map(|node| node.to_string()).collect();
            return Ok(format!("ok: running {}", running.join(" ")));
        }
        other => return Err(CommandError::Unknown(other.to_owned())),
    }
    Ok("ok".to_owned())
}
