//! `simulated-kafka`: a cluster on loopback addresses, for any client. See the README.

use std::fmt;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use simulated_hosts::HostCommand;
use simulated_hosts::program::{self, Response, Service};
use simulated_kafka::cluster::{HostFault, Options, PropertyError, Recovery};
use simulated_kafka::serve::{LocalBrokers, LocalError, LocalOptions};
use simulated_kafka::server::ServerOptions;
use simulated_kafka::types::NodeId;
use thiserror::Error;
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
    /// A user and the password; may be repeated. With users all clients must authenticate, by any mechanism of the
    /// setting sasl.enabled.mechanisms: PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512
    #[arg(long, value_name = "NAME:PASSWORD", value_parser = user)]
    user: Vec<(String, String)>,
    /// What is random inside depends on it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Least level of the messages on standard error: off, error, warn, info, debug (with every connection that breaks) or
    /// trace
    #[arg(long, value_name = "LEVEL", env = "SIMULATED_KAFKA_LOG", default_value = "info", value_parser = program::level)]
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
    /// Lets a broker fail to read logs for consumers, or ends that.
    FailReads,
    /// Lets an in-sync replica lead a partition.
    Move,
    /// Drops a follower from the in-sync set of a partition.
    Shrink,
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
    const OTHERS: [Command; 13] = [
        Command::Wipe,
        Command::Cut,
        Command::RestoreLinks,
        Command::Lag,
        Command::FailReads,
        Command::Move,
        Command::Shrink,
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
            Command::FailReads => "BROKER on|off",
            Command::Move | Command::Shrink => "TOPIC PARTITION BROKER",
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
            Command::FailReads => "let it fail to read logs for consumers",
            Command::Move => "let an in-sync replica lead a partition",
            Command::Shrink => "drop a follower from the in-sync set of a partition",
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
            Command::FailReads => "fail-reads",
            Command::Move => "move",
            Command::Shrink => "shrink",
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
    program::enumeration(Command::all().map(|command| command.to_string()))
}

/// A setting and its value.
fn setting(text: &str) -> Result<(String, String), PropertyError> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    // Whether it is allowed does not depend on the brokers.
    Options::new(Vec::new()).set(name, value)?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A user's name and password.
fn user(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once(':') {
        Some((name, password)) if !name.is_empty() && !password.is_empty() => {
            Ok((name.to_owned(), password.to_owned()))
        }
        _ => Err("it must be NAME:PASSWORD, with neither of them empty"),
    }
}

#[derive(Debug, Error)]
enum CommandError {
    #[error("unknown command '{0}'; the commands are {names}", names = names_of_commands())]
    Unknown(String),
    #[error("'{0}' is not a number that is allowed here")]
    Number(String),
    #[error("'{0}' is neither 'on' nor 'off'")]
    Switch(String),
    #[error("{0} requires: {1}")]
    Arguments(Command, &'static str),
    #[error("{0} has no arguments")]
    NoArguments(Command),
    #[error("broker {broker} cannot lead partition {partition} of {topic}: it must be in sync and alive")]
    Move { topic: String, partition: i32, broker: u8 },
    #[error(
        "broker {broker} cannot be dropped from the in-sync set of partition {partition} of {topic}: it must be in it, and another broker lead"
    )]
    Shrink { topic: String, partition: i32, broker: u8 },
    #[error("there is no topic '{0}'")]
    NoTopic(String),
    #[error(transparent)]
    Brokers(#[from] LocalError),
}

fn main() -> ExitCode {
    let Arguments { brokers, port, seed, set, user, log } = Arguments::parse();
    let server = ServerOptions { sasl: !user.is_empty(), ..ServerOptions::default() };
    let change = |options: &mut Options| {
        for (name, value) in &set {
            // Checked when it was parsed.
            let _ = options.set(name, value);
        }
        options.sasl.users.extend(user);
    };
    program::run("simulated-kafka", log, async |clock| {
        let options = LocalOptions { brokers, port, seed, server, ..LocalOptions::new(clock) };
        let brokers = LocalBrokers::start(options, change).await?;
        let (count, first) = (brokers.count(), brokers.address(1));
        program::print_line(&format!("{count} brokers serve clients, the first on {first}"));
        tracing::info!(brokers = count, %first, "serving clients");
        Ok::<_, LocalError>(Program(brokers))
    })
}

struct Program(LocalBrokers);

impl Service for Program {
    type Error = CommandError;

    async fn execute(&self, command: &[&str]) -> Result<Response, CommandError> {
        execute(&self.0, command).await
    }
}

async fn execute(brokers: &LocalBrokers, line: &[&str]) -> Result<Response, CommandError> {
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
    let there_is = |is_there| if is_there { Ok(()) } else { Err(CommandError::NoTopic(topic.to_owned())) };
    let cluster = brokers.cluster();
    match command {
        Command::Broker(HostCommand::Fault(fault)) => brokers.apply(number(arguments, 0)?, fault).await?,
        Command::Broker(HostCommand::Recovery(recovery)) => {
            brokers.recover(recovery, &[number(arguments, 0)?]).await?;
        }
        Command::Wipe => brokers.wipe(number(arguments, 0)?)?,
        Command::Cut => {
            let (from, to) = (number(arguments, 0)?, number(arguments, 1)?);
            brokers.links().cut(id(brokers, from)?, id(brokers, to)?);
        }
        Command::RestoreLinks => brokers.links().restore_all(),
        Command::Lag => {
            let by = Duration::from_millis(number(arguments, 1)?);
            cluster.lag_metadata(id(brokers, number(arguments, 0)?)?, by);
        }
        Command::FailReads => {
            let fail = match arguments[1] {
                "on" => true,
                "off" => false,
                other => return Err(CommandError::Switch(other.to_owned())),
            };
            cluster.fail_reads(id(brokers, number(arguments, 0)?)?, fail);
        }
        Command::Move => {
            let (partition, broker) = (number(arguments, 1)?, number::<u8>(arguments, 2)?);
            if !cluster.move_leader(topic, partition, NodeId(i32::from(broker))) {
                return Err(CommandError::Move { topic: topic.to_owned(), partition, broker });
            }
        }
        Command::Shrink => {
            let (partition, broker) = (number(arguments, 1)?, number::<u8>(arguments, 2)?);
            if !cluster.drop_from_in_sync(topic, partition, NodeId(i32::from(broker))) {
                return Err(CommandError::Shrink { topic: topic.to_owned(), partition, broker });
            }
        }
        Command::Retain => cluster.retain(),
        Command::Roll => there_is(cluster.roll(topic))?,
        Command::Compact => there_is(cluster.compact(topic))?,
        Command::Expire => there_is(cluster.expire_producer(topic, number(arguments, 1)?))?,
        Command::Status => {
            let running = (1..=brokers.count()).filter(|broker| brokers.is_running(*broker));
            let running: Vec<_> = running.map(|broker| broker.to_string()).collect();
            return Ok(Response::Done(format!("ok: running {}", running.join(" "))));
        }
        Command::Exit => return Ok(Response::Exit),
    }
    Ok(Response::Done("ok".to_owned()))
}

/// The id of a broker that exists, running or not.
fn id(brokers: &LocalBrokers, broker: u8) -> Result<NodeId, LocalError> {
    brokers.clock(broker)?;
    Ok(NodeId(i32::from(broker)))
}

/// An argument that is a number.
fn number<T: FromStr>(arguments: &[&str], place: usize) -> Result<T, CommandError> {
    let argument = arguments.get(place).copied().unwrap_or_default();
    argument.parse().map_err(|_| CommandError::Number(argument.to_owned()))
}
