//! The command line: flags, and one file per command.
//!
//! A command reads its settings, opens its services (`services`), calls the library and prints the result to
//! stdout (`output`); messages go to stderr (`logging`, `stderr`). The library makes all decisions.
//! The result of a command is a `Code` or a `Failure`.

mod change_consistency;
mod completions;
mod config;
mod demo;
mod failure;
mod generate;
mod init;
mod logging;
mod output;
// Only a broker over the network is retried.
#[cfg_attr(not(feature = "kafka"), allow(dead_code))]
mod retrying;
mod run;
mod schema;
mod services;
mod show;
mod signals;
mod stderr;
mod topic;
mod verify;
#[cfg(any(feature = "kafka", feature = "cassandra"))]
mod waiting;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::Settings;
use crate::config::layers::{DEFAULT_FILE, FILE_VARIABLE, Layers, Sources};
use failure::{Code, Failure};

const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  differences found
  2  wrong usage or configuration, including refused passwords and certificates and missing
     permissions, or `init` has not run
  3  refused: log and tables contradict each other, or the tables contain a row that this
     program did not write; nothing was changed
  4  a service or resource is not available: no response until the deadline, a lock that another
     process holds, a full disk, a result that cannot be written
  5  damaged data: a file of the embedded services is damaged, or is not an SQLite database
  129, 130, 131, 143  ended by SIGHUP, SIGINT, SIGQUIT or SIGTERM (`run`, which stops gracefully,
     by a second SIGINT or SIGTERM); nothing is lost
  141  `generate --json` stopped because the reader of its output ended";

const CONFIGURATION: &str = "\
Configuration sources, of which later ones override earlier ones: defaults, a TOML file, environment variables \
EXACTLYONCE_<SECTION>_<KEY>, flags. `exactlyonce config keys` prints all keys, `exactlyonce config show` the effective values and their sources.";

/// Writes the events of a log into tables, exactly once, regardless of crashes.
///
/// Reads health events from a topic, writes each as a row, and raises an alert if a source has too many of them in a
/// window. However often it is killed, the tables equal the result of a single pass over the log.
#[derive(Debug, Parser)]
#[command(
    name = "exactlyonce",
    version,
    max_term_width = 100,
    after_help = "Use `--help` for details of this or any command.",
    after_long_help = format!("{CONFIGURATION}\n\n{EXIT_CODES}"),
)]
struct CommandLine {
    #[command(flatten)]
    context: Context,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Arguments),
    Topic(topic::Arguments),
    Init(init::Arguments),
    Generate(generate::Arguments),
    Run(run::Arguments),
    Verify(verify::Arguments),
    Show(show::Arguments),
    Schema(schema::Arguments),
    ChangeConsistency(change_consistency::Arguments),
    Config(config::Arguments),
    Completions(completions::Arguments),
}

/// The flags that set keys of the configuration; every command has them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Configuration")]
struct Context {
    /// Configuration file [default: exactlyonce.toml in the working directory, if it exists]
    #[arg(long, global = true, value_name = "FILE", env = FILE_VARIABLE, hide_env_values = true)]
    config: Option<PathBuf>,
    /// Folder of the embedded broker and store; sets embedded.data
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Topic; sets topic
    #[arg(long, global = true, value_name = "TOPIC")]
    topic: Option<String>,
    /// Sets any key, for example window.size_ms=60000; may be repeated
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl Context {
    /// Every key's value and its source.
    fn layers(&self) -> Result<Layers, Failure> {
        let mut flags: Vec<_> = self.set.iter().map(|text| ("--set", text.clone())).collect();
        flags.extend(self.topic.iter().map(|topic| ("--topic", format!("topic={topic}"))));
        let sources = Sources {
            file: self.config.clone(),
            default_file: Some(DEFAULT_FILE.into()),
            environment: std::env::vars_os().collect(),
            flags,
            data: self.data.clone(),
        };
        Layers::read(&sources).map_err(Failure::Configuration)
    }

    /// The effective settings.
    fn settings(&self) -> Result<Settings, Failure> {
        Settings::new(&self.layers()?).map_err(Failure::Configuration)
    }

    /// The effective settings, if this build has their services. Starts logging.
    fn start(&self) -> Result<Settings, Failure> {
        let settings = self.settings()?;
        services::check_kinds(&settings)?;
        logging::start(&settings.log);
        Ok(settings)
    }
}

impl Command {
    async fn run(self, context: &Context) -> Result<Code, Failure> {
        match self {
            Command::Demo(arguments) => demo::run(arguments, context).await,
            Command::Topic(arguments) => topic::run(arguments, context).await,
            Command::Init(arguments) => init::run(arguments, context).await,
            Command::Generate(arguments) => generate::run(arguments, context).await,
            Command::Run(arguments) => run::run(arguments, context).await,
            Command::Verify(arguments) => verify::run(arguments, context).await,
            Command::Show(arguments) => show::run(arguments, context).await,
            Command::ChangeConsistency(arguments) => change_consistency::run(arguments, context).await,
            Command::Schema(arguments) => schema::run(arguments, context).await,
            Command::Config(arguments) => config::run(arguments, context),
            Command::Completions(arguments) => completions::run(arguments, CommandLine::command()),
        }
    }
}

/// Runs the command of the process; prints its result, or its error once.
pub fn main() -> ExitCode {
    let CommandLine { context, command } = match CommandLine::try_parse() {
        Ok(parsed) => parsed,
        Err(error) => return usage(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::Runtime(error).report(),
    };
    let result = runtime.block_on(command.run(&context));
    // Tasks that still run in the background may be dropped at any point.
    runtime.shutdown_background();
    match result {
        Ok(code) => code.into(),
        Err(failure) => failure.report(),
    }
}

/// Prints clap's output: a page of help or the version to stdout, errors of the flags to stderr.
fn usage(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| std::io::Write::flush(&mut std::io::stdout()));
    match printed {
        _ if error.use_stderr() => Code::Usage.into(),
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Failure::Output(error).report(),
        _ => Code::Fine.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
