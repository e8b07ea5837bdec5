//! `exactlyonce schema`

use clap::{Args, Subcommand};

use super::Context;
#[cfg(feature = "cassandra")]
use super::failure::is_missing;
use super::failure::{Code, Failure};
use super::output::Output;
use super::services;
use crate::schema;
use crate::sqlite::FileError;
#[cfg(feature = "cassandra")]
use crate::store::cassandra::ConnectError;

/// Prints, applies or checks the schema of the tables.
///
/// The tables events and alerts are those of the original; the others keep what makes the result exact. In
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
    /// May be repeated. `init` does it, too.
    Apply,
    /// Compares the tables with the schema and names the first difference
    ///
    /// Exit code 1 if there is one, 2 if there are no tables yet.
    Check,
}

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Code, Failure> {
    let mut output = Output::stdout();
    match arguments.command {
        Command::Print => {
            // For whoever has a Cassandra, whether or not this build has a driver for it.
            let settings = context.settings()?;
            let cql = schema::cql(&settings.store.keyspace, &settings.store.replication, settings.layout());
            output.line(cql.trim_end())?;
        }
        Command::Apply => {
            let settings = context.start()?;
            services::apply_schema(&settings).await?;
            output.line(format_args!("the schema is applied to {}", services::store_name(&settings)))?;
        }
        Command::Check => {
            let settings = context.start()?;
            match services::check_schema(&settings).await {
                // The file can be read; its tables are not the schema's.
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
        }
    }
    output.finish()?;
    Ok(Code::Fine)
}
