//! `exactlyonce config`

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Context;
use super::failure::{Code, Failure};
use super::output::{Output, escaped};
use super::services;
use crate::config::Settings;
use crate::config::keys::{KEYS, Key};
use crate::config::layers::{Effective, Origin};

/// Checks and shows the configuration.
///
/// Values have four sources, of which later ones override earlier ones: defaults, a TOML file (--config, else the
/// variable EXACTLYONCE_CONFIG, else exactlyonce.toml in the working directory), environment variables
/// EXACTLYONCE_<SECTION>_<KEY>, flags. Unknown keys are refused in all of them.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  exactlyonce config keys > exactlyonce.toml     a file with every key, its meaning and its default
  EXACTLYONCE_WINDOW_SIZE_MS=60000 exactlyonce config show
  exactlyonce --set window.health=warning,critical config check")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints the effective values as TOML, each with its source
    ///
    /// Secrets are masked. The output is a valid configuration file.
    Show {
        /// Print one JSON object: value and source by key
        #[arg(long)]
        json: bool,
    },
    /// Checks everything that can be checked without a service, and lists what was checked
    ///
    /// All problems are reported together; exit code 2 if there is one.
    Check,
    /// Prints every key with its meaning, range, variable and default, as a configuration file
    Keys,
}

pub(super) fn run(arguments: Arguments, context: &Context) -> Result<Code, Failure> {
    let mut output = Output::stdout();
    match arguments.command {
        Command::Show { json } => show(json, context, &mut output)?,
        Command::Check => check(context, &mut output)?,
        Command::Keys => keys(&mut output)?,
    }
    output.finish()?;
    Ok(Code::Fine)
}

#[derive(Serialize)]
struct Shown<'a> {
    value: serde_json::Value,
    from: From<'a>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum From<'a> {
    Default,
    File { path: String, line: usize },
    Environment { name: &'a str },
    Flag { name: &'a str },
}

fn shown(effective: &Effective) -> Result<Shown<'_>, Failure> {
    let value = effective.key.masked(&effective.value);
    let value = serde_json::to_value(value).map_err(|error| Failure::Output(error.into()))?;
    let from = match &effective.origin {
        Origin::Default => From::Default,
        Origin::File { path, line } => From::File { path: path.display().to_string(), line: *line },
        Origin::Environment(name) => From::Environment { name },
        Origin::Flag(name) => From::Flag { name },
    };
    Ok(Shown { value, from })
}

fn show(json: bool, context: &Context, output: &mut Output) -> Result<(), Failure> {
    let layers = context.layers()?;
    Settings::new(&layers).map_err(Failure::Configuration)?;
    if json {
        let values = layers.values().iter().map(|value| Ok((value.key.name, shown(value)?)));
        return output.json(&values.collect::<Result<BTreeMap<_, _>, Failure>>()?);
    }
    let mut current = "";
    for effective in layers.values() {
        section(effective.key, &mut current, output)?;
        let (_, name) = effective.key.parts();
        let value = effective.key.shown(&effective.value);
        output.line(format_args!("{name} = {value}  # {}", escaped(&effective.origin.to_string())))?;
    }
    Ok(())
}

fn check(context: &Context, output: &mut Output) -> Result<(), Failure> {
    let layers = context.layers()?;
    let settings = Settings::new(&layers).map_err(Failure::Configuration)?;
    services::check_kinds(&settings)?;
    let count = |is: fn(&Origin) -> bool| layers.values().iter().filter(|value| is(&value.origin)).count();
    let file = match &layers.file {
        Some(path) => path.display().to_string(),
        None => "no file".to_owned(),
    };
    let from_file = count(|origin| matches!(origin, Origin::File { .. }));
    let from_environment = count(|origin| matches!(origin, Origin::Environment(_)));
    let from_flags = count(|origin| matches!(origin, Origin::Flag(_)));
    output.line("the configuration is valid")?;
    output.line(format_args!(
        "checked: {} keys, their types and ranges ({from_file} set in {file}, {from_environment} in the \
         environment, {from_flags} by flags, the others have their defaults)",
        layers.values().len(),
    ))?;
    output.line(
        "checked: that windows and timeouts are consistent, and that this build has the broker and the store",
    )?;
    output.line("not checked: that services can be reached, and that the keyspace is bound to these values")
}

fn keys(output: &mut Output) -> Result<(), Failure> {
    let mut current = "";
    for (index, key) in KEYS.iter().enumerate() {
        let new = section(key, &mut current, output)?;
        if !new && index > 0 {
            output.line("")?;
        }
        let (_, name) = key.parts();
        for line in wrapped(key.help).iter().chain(&wrapped(&format!("Must be {}.", key.kind))) {
            output.line(format_args!("# {line}"))?;
        }
        output.line(format_args!("# Environment variable {}.", key.variable()))?;
        output.line(format_args!("{name} = {}", key.shown(&key.kind.default())))?;
    }
    Ok(())
}

/// Starts a section if the key is the first of one; true if it is.
fn section(key: &Key, current: &mut &'static str, output: &mut Output) -> Result<bool, Failure> {
    let (section, _) = key.parts();
    if section == *current {
        return Ok(false);
    }
    *current = section;
    output.line(format_args!("\n[{section}]"))?;
    Ok(true)
}

/// Lines of at most 100 characters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= 100 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
