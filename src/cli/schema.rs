//! `exactlyonce schema`

use clap::{Args, Subcommand};

use super::Context;
#[cfg(feature = "cassandra")]
use super::failure::is_missing;
use super::failure::{Code, Failure};
use super::output::Output;
use super::services::{self, with_broker, with_store};
use crate::broker::Broker;
use crate::config::{BrokerKind, Settings};
use crate::error::chain;
use crate::guarantee::Finding;
use crate::sqlite::FileError;
use crate::store::Store;
#[cfg(feature = "cassandra")]
use crate::store::cassandra::ConnectError;
use crate::store::cql;

/// Prints, applies or checks the schema of the tables.
///
/// The tables events and alerts are those of the original; the others hold the state of the protocol. In
/// Cassandra the schema is CQL; the embedded store keeps the same tables in SQLite.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  exactlyonce --set store.replication=3 schema print > schema.cql
  exactlyonce schema apply")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints the schema in CQL, with the keyspace and the replication of the configuration
    Print,
    /// Creates the tables that are missing; never drops or truncates anything
    ///
    /// May be repeated. `init` does this, too.
    Apply,
    /// Compares the tables with the schema, and checks settings of the services
    ///
    /// Names the first difference of the tables; then each finding: ok, warning, unchecked (it could not be checked),
    /// or refused (the guarantee does not hold). Exit code 1 if there is a difference or anything is refused, 2 if
    /// there are no tables yet.
    Check,
}

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Code, Failure> {
    let mut output = Output::stdout();
    match arguments.command {
        Command::Print => {
            // Independent of whether this build has a driver for Cassandra.
            let settings = context.settings()?;
            let schema =
                cql::schema(&settings.store.keyspace, &settings.store.replication, settings.layout());
            output.line(schema.trim_end())?;
        }
        Command::Apply => {
            let settings = context.start()?;
            services::apply_schema(&settings).await?;
            output.line(format_args!("the schema is applied to {}", services::store_name(&settings)))?;
        }
        Command::Check => {
            let settings = context.start()?;
            match services::check_schema(&settings).await {
                // The file can be read, but its tables differ from the schema.
                Err(Failure::File(
                    difference @ (FileError::Damaged { source: None, .. } | FileError::Layout { .. }),
                )) => {
                    output.line(difference)?;
                    output.finish()?;
                    return Ok(Code::Differences);
                }
                #[cfg(feature = "cassandra")]
                Err(Failure::Cassandra(ConnectError::Schema(difference))) if !is_missing(&difference) => {
                    output.line(difference)?;
                    output.finish()?;
                    return Ok(Code::Differences);
                }
                checked => checked?,
            }
            output.line(format_args!("{} has the schema", services::store_name(&settings)))?;
            let findings = findings(&settings).await?;
            output.findings(&findings)?;
            if findings.iter().any(|finding| finding.verdict.is_refused()) {
                output.finish()?;
                return Ok(Code::Differences);
            }
        }
    }
    output.finish()?;
    Ok(Code::Fine)
}

/// The findings about the services.
async fn findings(settings: &Settings) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    // An embedded log meets the requirements, and need not exist yet.
    if settings.broker.kind == BrokerKind::Kafka {
        let topic = &settings.topic;
        let of_broker = with_broker!(settings, |broker| Ok::<_, Failure>(broker.guarantees(topic).await))?;
        match of_broker {
            Ok(of_broker) => findings.extend(of_broker),
            Err(error) => findings.push(Finding::unchecked(format!("kafka topic {topic}"), chain(&error))),
        }
    }
    let of_store = with_store!(settings, |store| Ok::<_, Failure>(store.guarantees().await.into_result()))?;
    findings.extend(of_store.map_err(Failure::store("check what the guarantee requires"))?);
    Ok(findings)
}
