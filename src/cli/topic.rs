//! `exactlyonce topic`

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Context;
use super::failure::{Code, Failure};
use super::output::{Column, Output};
use super::services::{self, with_broker};
use crate::broker::{Broker, LogOffsets, Producer, Topic};
use crate::guarantee::Finding;

/// Creates or describes the topic.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  exactlyonce topic create --partitions 12
  exactlyonce --topic other.events topic describe --json")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Creates the topic
    ///
    /// With the embedded broker, the folder too. Exit code 2 if the topic exists already.
    Create {
        /// Number of partitions
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=10_000))]
        partitions: i32,
        /// Replication factor; the embedded broker has one replica
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i16).range(1..))]
        replication_factor: i16,
    },
    /// Prints the topic's id, the start and end of its logs, and its settings
    Describe {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Code, Failure> {
    let settings = context.start()?;
    let name = settings.topic.as_str();
    let mut output = Output::stdout();
    match arguments.command {
        Command::Create { partitions, replication_factor } => {
            services::prepare_broker(&settings)?;
            let created = with_broker!(&settings, |broker| {
                Ok::<_, Failure>(broker.create_topic(name, partitions, replication_factor).await?)
            });
            let Topic { name, id, partitions, replication, .. } = created?;
            output.line(format_args!(
                "created topic {name}, id {id}, with {partitions} partition(s), replication factor {replication}"
            ))?;
        }
        Command::Describe { json } => {
            let described = with_broker!(&settings, |broker| describe(&broker, name).await)?;
            print(&described, json, &mut output)?;
        }
    }
    output.finish()?;
    Ok(Code::Fine)
}

/// The description of a topic.
struct Known {
    topic: Topic,
    logs: Vec<LogOffsets>,
    findings: Vec<Finding>,
}

async fn describe<B: Broker>(broker: &B, name: &str) -> Result<Known, Failure> {
    let topic = broker.topic(name).await?;
    let findings = broker.guarantees(name).await?;
    let mut logs = Vec::new();
    for partition in 0..topic.partitions {
        logs.push(broker.offsets(name, partition).await?);
    }
    Ok(Known { topic, logs, findings })
}

#[derive(Serialize)]
struct Described<'a> {
    topic: &'a str,
    id: &'a str,
    replication_factor: i16,
    compacted: bool,
    partitions: Vec<Partition>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    guarantees: Vec<Checked<'a>>,
}

#[derive(Serialize)]
struct Checked<'a> {
    what: &'a str,
    value: Option<&'a str>,
    verdict: &'static str,
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct Partition {
    partition: usize,
    start: i64,
    end: i64,
}

fn print(known: &Known, json: bool, output: &mut Output) -> Result<(), Failure> {
    let Known { topic, logs, findings } = known;
    let partitions = logs.iter().enumerate();
    if json {
        return output.json(&Described {
            topic: &topic.name,
            id: &topic.id,
            replication_factor: topic.replication,
            compacted: topic.compacted,
            partitions: partitions
                .map(|(partition, log)| Partition { partition, start: log.start, end: log.end })
                .collect(),
            guarantees: findings
                .iter()
                .map(|Finding { what, value, verdict }| Checked {
                    what,
                    value: value.as_deref(),
                    verdict: verdict.label(),
                    reason: verdict.reason(),
                })
                .collect(),
        });
    }
    output.line(format_args!("topic               {}", topic.name))?;
    output.line(format_args!("id                  {}", topic.id))?;
    output.line(format_args!("replication factor  {}", topic.replication))?;
    output.line(format_args!("compacted           {}", if topic.compacted { "yes" } else { "no" }))?;
    for finding in findings {
        output.line(format_args!("{:<10}{finding}", finding.verdict.label()))?;
    }
    output.line("")?;
    let columns = [Column::number("partition", 9), Column::number("start", 12), Column::number("end", 12)];
    output.header(&columns)?;
    for (partition, log) in partitions {
        output.row(&columns, &[partition.to_string(), log.start.to_string(), log.end.to_string()])?;
    }
    Ok(())
}
