//! `simulated-cassandra`: a cluster on loopback addresses, for any client. See the README.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::SystemTime;

use simulated_cassandra::cluster::Ending;
use simulated_cassandra::serve::{LocalError, LocalNodes, LocalOptions};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

const USAGE: &str = "\
usage: simulated-cassandra [--nodes N] [--port PORT] [--seed SEED]

Serves a simulated Cassandra cluster of N nodes (3) on 127.0.0.1, 127.0.0.2 and so on, port PORT (9042; 0 for one that
is free), until standard input ends. SEED (1) decides the delays between the nodes. Prints a line when every node
answers, and a line for each command on standard input, `ok` or `error: ...`:

  kill NODE        end its process: the commit log reaches the disk, hints in memory do not
  power-loss NODE  end its process, and lose what was not synced
  stop NODE        end its process in an orderly way
  start NODE       start it again on its disk, and wait until the others know
  pause NODE       stop it as SIGSTOP does
  resume NODE      let it go on
  status           the nodes that run
";

#[derive(Debug, Error)]
enum CommandError {
    #[error("unknown command '{0}'; there are kill, power-loss, stop, start, pause, resume and status")]
    Unknown(String),
    #[error("'{0}' is no node: nodes are counted from 1")]
    Node(String),
    #[error("{0} needs one node")]
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
    #[error("the system's clock shows no time since 1970")]
    Clock,
}

const LONGEST_COMMAND: usize = 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let options = match options(&arguments) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("simulated-cassandra: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let nodes = match LocalNodes::start(options, |_| {}).await {
        Ok(nodes) => nodes,
        Err(error) => {
            match std::error::Error::source(&error) {
                Some(source) => eprintln!("simulated-cassandra: {error}: {source}"),
                None => eprintln!("simulated-cassandra: {error}"),
            }
            return ExitCode::FAILURE;
        }
    };
    say(&format!("{} nodes answer, the first on {}", nodes.count(), nodes.address(1)));
    match commands(&nodes, tokio::io::stdin()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("simulated-cassandra: cannot read commands: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(arguments: &[String]) -> Result<LocalOptions, StartError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(|_| StartError::Clock)?;
    let mut options = LocalOptions::new(i64::try_from(now.as_micros()).map_err(|_| StartError::Clock)?);
    let mut arguments = arguments.iter();
    while let Some(option) = arguments.next() {
        let given = arguments.next().map_or("", String::as_str);
        let number = || StartError::Number { option: option.clone(), given: given.to_owned() };
        match option.as_str() {
            "--nodes" => options.nodes = given.parse().map_err(|_| number())?,
            "--port" => options.port = given.parse().map_err(|_| number())?,
            "--seed" => options.seed = given.parse().map_err(|_| number())?,
            other => return Err(StartError::Option(other.to_owned())),
        }
    }
    Ok(options)
}

/// A line on standard output, at once. Whoever reads none any more needs none.
fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

/// Does what is read from `input`, line by line, to its end.
async fn commands(nodes: &LocalNodes, input: impl AsyncRead + Unpin) -> std::io::Result<()> {
    let mut input = BufReader::new(input);
    loop {
        let mut line = Vec::new();
        let read = (&mut input).take(LONGEST_COMMAND as u64 + 1).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Ok(());
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
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        match command(nodes, &words).await {
            Ok(answer) => say(&answer),
            Err(CommandError::Nodes(LocalError::Listen { address, source })) => {
                say(&format!("error: cannot listen on {address}: {source}"));
            }
            Err(error) => say(&format!("error: {error}")),
        }
    }
}

async fn command(nodes: &LocalNodes, words: &[&str]) -> Result<String, CommandError> {
    let node = || match words {
        [_, node] => node.parse::<u8>().map_err(|_| CommandError::Node((*node).to_owned())),
        _ => Err(CommandError::Arguments(words[0].to_owned())),
    };
    match words[0] {
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
