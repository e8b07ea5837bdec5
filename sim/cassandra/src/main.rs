//! `simulated-cassandra`: a cluster on loopback addresses, for any client. See the README.

use std::fmt;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser;
use simulated_cassandra::cluster::{HostFault, Recovery};
use simulated_cassandra::serve::{LocalError, LocalNodes, LocalOptions};
use simulated_hosts::HostCommand;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tracing_subscriber::filter::LevelFilter;

/// Serves a simulated Cassandra cluster to any client.
///
/// It serves on 127.0.0.1, 127.0.0.2 and so on until it gets SIGINT or SIGTERM or the command exit. It prints a line when
/// every node serves clients, and a line for each command on standard input, `ok` or `error: ...`.
#[derive(Debug, Parser)]
#[command(name = "simulated-cassandra", after_help = help_of_commands())]
struct Arguments {
    /// Number of nodes
    #[arg(long, value_name = "N", default_value_t = 3)]
    nodes: u8,
    /// Port of all nodes; 0 for one that is free
    #[arg(long, default_value_t = 9042)]
    port: u16,
    /// What is random inside depends on it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Least level of the messages on standard error: off, error, warn, info, debug (with every refused statement) or
    /// trace
    #[arg(long, value_name = "LEVEL", env = "SIMULATED_CASSANDRA_LOG", default_value = "info", value_parser = level)]
    log: LevelFilter,
}

/// A command on standard input.
#[derive(Clone, Copy)]
enum Command {
    /// To one node.
    Node(HostCommand),
    /// Prints which nodes run.
    Status,
    /// Ends the program.
    Exit,
}

impl Command {
    fn all() -> impl Iterator<Item = Command> {
        HostCommand::all().map(Command::Node).chain([Command::Status, Command::Exit])
    }

    fn named(name: &str) -> Result<Command, CommandError> {
        let command = match name {
            "status" => Some(Command::Status),
            "exit" => Some(Command::Exit),
            name => name.parse().ok().map(Command::Node),
        };
        command.ok_or_else(|| CommandError::Unknown(name.to_owned()))
    }

    fn help(self) -> &'static str {
        match self {
            Command::Node(HostCommand::Fault(fault)) => match fault {
                HostFault::Kill => "end its process: the commit log reaches the disk, hints in memory do not",
                HostFault::PowerLoss => "end its process, and lose what was not synced",
                HostFault::Stop => "end its process gracefully",
                HostFault::Pause => "stop it as SIGSTOP does",
            },
            Command::Node(HostCommand::Recovery(recovery)) => match recovery {
                Recovery::Start => "start it again on its disk, and wait until the others see it",
                Recovery::Resume => "let it continue",
            },
            Command::Status => "the nodes that run",
            Command::Exit => "end the program",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Node(command) => command.fmt(f),
            Command::Status => f.pad("status"),
            Command::Exit => f.pad("exit"),
        }
    }
}

fn help_of_commands() -> String {
    let mut help = "Commands on standard input, which may be closed or empty:".to_owned();
    for command in Command::all() {
        let node = if matches!(command, Command::Node(_)) { " NODE" } else { "" };
        help.push_str(&format!("\n  {:<17}{}", format!("{command}{node}"), command.help()));
    }
    help
}

/// The commands, for the message about an unknown one.
fn names_of_commands() -> String {
    let names: Vec<_> = Command::all().map(|command| command.to_string()).collect();
    match names.split_last() {
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// A level of the log by its name. An empty variable is one that is not set.
fn level(name: &str) -> Result<LevelFilter, &'static str> {
    match name.to_ascii_lowercase().as_str() {
        "off" => Ok(LevelFilter::OFF),
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" | "" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err("it must be off, error, warn, info, debug or trace"),
    }
}

#[derive(Debug, Error)]
enum CommandError {
    #[error("unknown command '{0}'; the commands are {names}", names = names_of_commands())]
    Unknown(String),
    #[error("'{0}' is not a node: nodes are numbered from 1")]
    Node(String),
    #[error("{0} requires one node")]
    Arguments(String),
    #[error("{0} has no arguments")]
    NoArguments(String),
    #[error("a command of more than {MAX_COMMAND_BYTES} bytes")]
    TooLong,
    #[error(transparent)]
    Nodes(#[from] LocalError),
}

#[derive(Debug, Error)]
enum StartError {
    #[error("the system's clock shows no time since 1970")]
    Clock,
    #[error("cannot handle signals")]
    Signals(#[source] std::io::Error),
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
    #[error(transparent)]
    Nodes(#[from] LocalError),
}

/// Why no more commands are read.
enum End {
    /// There are no more.
    Input,
    /// The command `exit`.
    Exit,
}

const MAX_COMMAND_BYTES: usize = 1024;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A closed standard error must not end the program.
    tracing_subscriber::fmt()
        .with_max_level(arguments.log)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .log_internal_errors(false)
        .init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), StartError> {
    let options = options(arguments)?;
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
    print_line(&format!("{} nodes serve clients, the first on {}", nodes.count(), nodes.address(1)));
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

fn options(arguments: &Arguments) -> Result<LocalOptions, StartError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(|_| StartError::Clock)?;
    let clock = i64::try_from(now.as_micros()).map_err(|_| StartError::Clock)?;
    let Arguments { nodes, port, seed, .. } = *arguments;
    Ok(LocalOptions { nodes, port, seed, ..LocalOptions::new(clock) })
}

/// Writes text to standard output or error. Errors are ignored: a closed stream is not read.
fn write_all(mut to: impl std::io::Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

/// An error with its causes, to standard error.
fn print_error(error: &StartError) {
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
fn print_line(line: &str) {
    write_all(std::io::stdout().lock(), &format!("{line}\n"));
}

/// Executes the commands in `input`, one a line.
async fn commands(nodes: &LocalNodes, input: impl AsyncRead + Unpin) -> std::io::Result<End> {
    let mut input = BufReader::new(input);
    loop {
        let mut line = Vec::new();
        let read = (&mut input).take(MAX_COMMAND_BYTES as u64 + 1).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Ok(End::Input);
        }
        if read > MAX_COMMAND_BYTES {
            print_line(&format!("error: {}", CommandError::TooLong));
            while !line.ends_with(b"\n") && !line.is_empty() {
                line.clear();
                (&mut input).take(MAX_COMMAND_BYTES as u64).read_until(b'\n', &mut line).await?;
            }
            continue;
        }
        let line = String::from_utf8_lossy(&line);
        let arguments: Vec<&str> = line.split_whitespace().collect();
        if arguments.is_empty() {
            continue;
        }
        let result = command(nodes, &arguments).await;
        match &result {
            Ok(_) => tracing::info!(command = %arguments.join(" "), "executed"),
            Err(error) => tracing::warn!(command = %arguments.join(" "), %error, "refused"),
        }
        match result {
            Ok(Response::Done(text)) => print_line(&text),
            Ok(Response::Exit) => {
                print_line("ok");
                return Ok(End::Exit);
            }
            Err(CommandError::Nodes(LocalError::Listen { address, source })) => {
                print_line(&format!("error: cannot listen on {address}: {source}"));
            }
            Err(error) => print_line(&format!("error: {error}")),
        }
    }
}

/// What a command led to.
enum Response {
    /// It was executed; the line to print.
    Done(String),
    /// The program is to end.
    Exit,
}

async fn command(nodes: &LocalNodes, arguments: &[&str]) -> Result<Response, CommandError> {
    let node = || match arguments {
        [_, node] => node.parse::<u8>().map_err(|_| CommandError::Node((*node).to_owned())),
        _ => Err(CommandError::Arguments(arguments[0].to_owned())),
    };
    let alone = || match arguments {
        [_] => Ok(()),
        _ => Err(CommandError::NoArguments(arguments[0].to_owned())),
    };
    match Command::named(arguments[0])? {
        Command::Node(HostCommand::Fault(fault)) => nodes.apply(node()?, fault)?,
        Command::Node(HostCommand::Recovery(recovery)) => nodes.recover(node()?, recovery).await?,
        Command::Status => {
            alone()?;
            let running = (1..=nodes.count()).filter(|node| nodes.is_running(*node));
            let running: Vec<_> = running.map(|node| node.to_string()).collect();
            return Ok(Response::Done(format!("ok: running {}", running.join(" "))));
        }
        Command::Exit => return alone().map(|()| Response::Exit),
    }
    Ok(Response::Done("ok".to_owned()))
}
