//! `simulated-cassandra`: a cluster on loopback addresses, for any client. See the README.

use std::fmt;
use std::process::ExitCode;

use clap::Parser;
use simulated_cassandra::cluster::{HostFault, Recovery};
use simulated_cassandra::serve::{LocalError, LocalNodes, LocalOptions};
use simulated_hosts::HostCommand;
use simulated_hosts::program::{self, Response, Service};
use thiserror::Error;
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
    #[arg(long, value_name = "LEVEL", env = "SIMULATED_CASSANDRA_LOG", default_value = "info", value_parser = program::level)]
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
    program::enumeration(Command::all().map(|command| command.to_string()))
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
    #[error(transparent)]
    Nodes(#[from] LocalError),
}

fn main() -> ExitCode {
    let Arguments { nodes, port, seed, log } = Arguments::parse();
    program::run("simulated-cassandra", log, async |clock| {
        let options = LocalOptions { nodes, port, seed, ..LocalOptions::new(clock) };
        let nodes = LocalNodes::start(options, |_| {}).await?;
        let (count, first) = (nodes.count(), nodes.address(1));
        program::print_line(&format!("{count} nodes serve clients, the first on {first}"));
        tracing::info!(nodes = count, %first, "serving clients");
        Ok::<_, LocalError>(Program(nodes))
    })
}

struct Program(LocalNodes);

impl Service for Program {
    type Error = CommandError;

    async fn execute(&self, command: &[&str]) -> Result<Response, CommandError> {
        execute(&self.0, command).await
    }
}

async fn execute(nodes: &LocalNodes, arguments: &[&str]) -> Result<Response, CommandError> {
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
