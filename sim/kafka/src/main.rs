//! `simulated-kafka`: a cluster on loopback addresses, for any client. See the README.

use std::fmt;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use clap::Parser;
use simulated_hosts::HostCommand;
use simulated_kafka::cluster::{HostFault, Options, PropertyError, Recovery};
use simulated_kafka::serve::{LocalBrokers, LocalError, LocalOptions};
use simulated_kafka::types::NodeId;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tracing_subscriber::filter::LevelFilter;

/// Serves a simulated Kafka cluster to any client.
///
/// It serves on 127.0.0.1, 127.0.0.2 and so on until it gets SIGINT or SIGTERM or the command exit. It prints a line when
/// every broker serves clients, and a line for each command on standard input, `ok` or `error: ...`.
#[derive(Debug, Parser)]
#[command(name = "simulated-kafka", after_help = help_of_commands())]
struct Arguments {
    /// Number of brokers
    #[arg(long, value_name = "N", default_value_t = 3)]
    brokers: u8,
    /// Port of all brokers; 0 for one that is free
    #[arg(long, default_value_t = 9092)]
    port: u16,
    /// A setting of all brokers, by its name in server.properties; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
    /// What is random inside depends on it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Least level of the messages on standard error: off, error, warn, info, debug (with every connection that breaks) or
    /// trace
    #[arg(long, value_name = "LEVEL", env = "SIMULATED_KAFKA_LOG", default_value = "info", value_parser = level)]
    log: LevelFilter,
}

/// A command on standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    /// To one broker.
    Broker(HostCommand),
    /// Replaces a broker's disk.
    Wipe,
    /// Loses the messages from one broker to another.
    Cut,
    /// Ends all cuts.
    RestoreLinks,
    /// Delays the metadata that reach a broker.
    Lag,
    /// Lets an in-sync replica lead a partition.
    Move,
    /// Applies retention.
    Retain,
    /// Closes the active segments of a topic.
    Roll,
    /// Compacts a topic.
    Compact,
    /// Forgets an idempotent producer.
    Expire,
    /// Prints which brokers run.
    Status,
    /// Ends the program.
    Exit,
}

impl Command {
    const OTHERS: [Command; 11] = [
        Command::Wipe,
        Command::Cut,
        Command::RestoreLinks,
        Command::Lag,
        Command::Move,
        Command::Retain,
        Command::Roll,
        Command::Compact,
        Command::Expire,
        Command::Status,
        Command::Exit,
    ];

    fn all() -> impl Iterator<Item = Command> {
        HostCommand::all().map(Command::Broker).chain(Command::OTHERS)
    }

    fn named(name: &str) -> Result<Command, CommandError> {
        if let Ok(command) = name.parse() {
            return Ok(Command::Broker(command));
        }
        let command = Command::OTHERS.into_iter().find(|command| command.to_string() == name);
        command.ok_or_else(|| CommandError::Unknown(name.to_owned()))
    }

    /// What follows its name.
    fn arguments(self) -> &'static str {
        match self {
            Command::Broker(_) | Command::Wipe => "BROKER",
            Command::Cut => "FROM TO",
            Command::Lag => "BROKER MILLISECONDS",
            Command::Move => "TOPIC PARTITION BROKER",
            Command::Roll | Command::Compact => "TOPIC",
            Command::Expire => "TOPIC PRODUCER",
            Command::RestoreLinks | Command::Retain | Command::Status | Command::Exit => "",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Command::Broker(HostCommand::Fault(fault)) => match fault {
                HostFault::Kill => "end its process: what it wrote is kept",
                HostFault::PowerLoss => "end its process, and lose what was not synced",
                HostFault::Stop => "end it gracefully, after others lead what it led",
                HostFault::Pause => "stop it as SIGSTOP does",
            },
            Command::Broker(HostCommand::Recovery(recovery)) => match recovery {
                Recovery::Start => "start it again on its disk, and wait until the others see it",
                Recovery::Resume => "let it continue",
            },
            Command::Wipe => "replace its disk by an empty one",
            Command::Cut => "lose all messages from one broker to another",
            Command::RestoreLinks => "end all cuts",
            Command::Lag => "delay all metadata that reach it",
            Command::Move => "let an in-sync replica lead a partition",
            Command::Retain => "apply retention on all brokers now",
            Command::Roll => "close the active segments of a topic",
            Command::Compact => "compact a topic now, whatever is configured",
            Command::Expire => "forget an idempotent producer in a topic",
            Command::Status => "the brokers that run",
            Command::Exit => "end the program",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Command::Broker(command) => return command.fmt(f),
            Command::Wipe => "wipe",
            Command::Cut => "cut",
            Command::RestoreLinks => "restore-links",
            Command::Lag => "lag",
            Command::Move => "move",
            Command::Retain => "retain",
            Command::Roll => "roll",
            Command::Compact => "compact",
            Command::Expire => "expire",
            Command::Status => "status",
            Command::Exit => "exit",
        };
        f.pad(name)
    }
}

fn help_of_commands() -> String {
    let mut help = "Commands on standard input, which may be closed or empty:".to_owned();
    for command in Command::all() {
        let usage = format!("{command} {}", command.arguments());
        help.push_str(&format!("\n  {usage:<29}{}", command.help()));
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

/// A setting and its value.
fn setting(text: &str) -> Result<(String, String), PropertyError> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    // Whether it is allowed does not depend on the brokers.
    Options::new(Vec::new()).set(name, value)?;
    Ok((name.to_owned(), value.to_owned()))
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
    #[error("'{0}' is not a number that is allowed here")]
    Number(String),
    #[error("{0} requires: {1}")]
    Arguments(Command, &'static str),
    #[error("{0} has no arguments")]
    NoArguments(Command),
    #[error("broker {broker} cannot lead partition {partition} of {topic}: it must be in sync and alive")]
    Move { topic: String, partition: i32, broker: u8 },
    #[error("a command of more than {MAX_COMMAND_BYTES} bytes")]
    TooLong,
    #[error(transparent)]
    Brokers(#[from] LocalError),
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
    Brokers(#[from] LocalError),
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
    let result = runtime.block_on(serve(options, &arguments.set));
    // A read of standard input may be in progress and never end.
    runtime.shutdown_background();
    result
}

async fn serve(options: LocalOptions, settings: &[(String, String)]) -> Result<(), StartError> {
    let change = |options: &mut Options| {
        for (name, value) in settings {
            // Checked when it was parsed.
            let _ = options.set(name, value);
        }
    };
    // From here on a signal ends the program gracefully.
    let mut ended = std::pin::pin!(signal()?);
    let brokers = tokio::select! {
        name = &mut ended => {
            tracing::info!(signal = name, "ended while starting");
            return Ok(());
        }
        brokers = LocalBrokers::start(options, change) => brokers?,
    };
    print_line(&format!("{} brokers serve clients, the first on {}", brokers.count(), brokers.address(1)));
    tracing::info!(brokers = brokers.count(), first = %brokers.address(1), "serving clients");
    tokio::select! {
        name = &mut ended => tracing::info!(signal = name, "ending"),
        () = until_exit(&brokers) => tracing::info!("ending at the command exit"),
    }
    Ok(())
}

/// Executes commands until one of them is `exit`. The end of the input is no reason to end.
async fn until_exit(brokers: &LocalBrokers) {
    match commands(brokers, tokio::io::stdin()).await {
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
    let Arguments { brokers, port, seed, .. } = *arguments;
    Ok(LocalOptions { brokers, port, seed, ..LocalOptions::new(clock) })
}

/// Writes text to standard output or error. Errors are ignored: a closed stream is not read.
fn write_all(mut to: impl std::io::Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

/// An error with its causes, to standard error.
fn print_error(error: &StartError) {
    let mut text = format!("simulated-kafka: {error}");
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
async fn commands(brokers: &LocalBrokers, input: impl AsyncRead + Unpin) -> std::io::Result<End> {
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
        let result = command(brokers, &arguments).await;
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
            Err(CommandError::Brokers(LocalError::Listen { address, source })) => {
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

async fn command(brokers: &LocalBrokers, line: &[&str]) -> Result<Response, CommandError> {
    let (name, arguments) = line.split_first().map_or(("", &[][..]), |(name, rest)| (*name, rest));
    let command = Command::named(name)?;
    let expected = command.arguments().split_whitespace().count();
    if arguments.len() != expected {
        return Err(if expected == 0 {
            CommandError::NoArguments(command)
        } else {
            CommandError::Arguments(command, command.arguments())
        });
    }
    let topic = arguments.first().copied().unwrap_or_default();
    let cluster = brokers.cluster();
    match command {
        Command::Broker(HostCommand::Fault(fault)) => brokers.apply(number(arguments, 0)?, fault).await?,
        Command::Broker(HostCommand::Recovery(recovery)) => {
            brokers.recover(recovery, &[number(arguments, 0)?]).await?;
        }
        Command::Wipe => brokers.wipe(number(arguments, 0)?)?,
        Command::Cut => {
            let (from, to) = (number(arguments, 0)?, number(arguments, 1)?);
            brokers.links().cut(NodeId(from), NodeId(to));
        }
        Command::RestoreLinks => brokers.links().restore_all(),
        Command::Lag => {
            let by = Duration::from_millis(number(arguments, 1)?);
            cluster.lag_metadata(NodeId(number(arguments, 0)?), by);
        }
        Command::Move => {
            let (partition, broker) = (number(arguments, 1)?, number::<u8>(arguments, 2)?);
            if !cluster.move_leader(topic, partition, NodeId(i32::from(broker))) {
                return Err(CommandError::Move { topic: topic.to_owned(), partition, broker });
            }
        }
        Command::Retain => cluster.retain(),
        Command::Roll => cluster.roll(topic),
        Command::Compact => cluster.compact(topic),
        Command::Expire => cluster.expire_producer(topic, number(arguments, 1)?),
        Command::Status => {
            let running = (1..=brokers.count()).filter(|broker| brokers.is_running(*broker));
            let running: Vec<_> = running.map(|broker| broker.to_string()).collect();
            return Ok(Response::Done(format!("ok: running {}", running.join(" "))));
        }
        Command::Exit => return Ok(Response::Exit),
    }
    Ok(Response::Done("ok".to_owned()))
}

/// An argument that is a number.
fn number<T: FromStr>(arguments: &[&str], place: usize) -> Result<T, CommandError> {
    let argument = arguments.get(place).copied().unwrap_or_default();
    argument.parse().map_err(|_| CommandError::Number(argument.to_owned()))
}
