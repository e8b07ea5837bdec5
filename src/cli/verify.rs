//! `exactlyonce verify`

use clap::Args;
use serde::Serialize;

use super::Context;
use super::failure::{Code, Failure};
use super::output::{Column, Output, escaped, or_dash};
use super::services::{with_broker, with_store};
use crate::verify::{self, PartitionReport, Report, VerifyOptions};

/// Compares the tables with the log and lists every difference.
///
/// Reads the log once, from each partition's origin up to its progress, computes what the tables must contain, and
/// compares. Rows whose records are no longer in the log are reported as unverifiable, never as correct. Changes
/// nothing and is safe while workers run. Memory is bounded: data that grows with the log goes to a temporary file.
///
/// Differences, by name: lost, duplicate, altered, foreign and missing_dead_letter name partition and offset;
/// missing_alert, wrong_alert_count and phantom_alert name source and window end; missing_count, wrong_count,
/// foreign_count and misplaced_count name partition, source and window end; wrong_progress names the partition;
/// wrong_registry; damaged is a row that cannot be parsed, with its table, key and column. damaged_binding and
/// missing_binding are differences of the row that `init` wrote (`pipeline`): the other tables are then checked against
/// the configuration. A `pipeline` row that contradicts the configuration is refused (exit code 3).
#[derive(Debug, Args)]
#[command(after_long_help = format!("\
Examples:
  exactlyonce verify
  exactlyonce verify --json | jq .counts

{}", super::EXIT_CODES))]
pub(super) struct Arguments {
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
    /// Maximum number of differences to list; all are counted
    #[arg(long, value_name = "N", default_value_t = VerifyOptions::default().listed)]
    list: usize,
}

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Code, Failure> {
    let settings = context.start()?;
    let options = VerifyOptions { listed: arguments.list, ..VerifyOptions::default() };
    let report = with_broker!(&settings, |broker| with_store!(&settings, |store| {
        Ok::<_, Failure>(verify::verify(&broker, &store, &settings.binding_spec(), &options).await?)
    }))?;
    let mut output = Output::stdout();
    match arguments.json {
        true => output.json(&Printed {
            clean: report.is_clean(),
            complete: report.is_complete(),
            report: &report,
        })?,
        false => print(&report, &mut output)?,
    }
    output.finish()?;
    Ok(if report.is_clean() { Code::Fine } else { Code::Differences })
}

#[derive(Serialize)]
struct Printed<'a> {
    /// No difference was found.
    clean: bool,
    /// The log still has all records that were to be checked.
    complete: bool,
    #[serde(flatten)]
    report: &'a Report,
}

fn print(report: &Report, output: &mut Output) -> Result<(), Failure> {
    output.line(format_args!("topic         {}, id {}", report.topic, report.topic_id))?;
    for (name, count) in [
        ("events", report.events),
        ("dead letters", report.dead_letters),
        ("alerts", report.alerts),
        ("counts", report.window_counts),
    ] {
        output.line(format_args!("{name:<12}  {count}"))?;
    }
    output.line("")?;
    let columns = [
        Column::number("partition", 9),
        Column::number("origin", 12),
        Column::number("progress", 12),
        Column::number("judged to", 12),
        Column::number("log start", 12),
        Column::number("log end", 12),
    ];
    output.header(&columns)?;
    for partition in &report.partitions {
        let PartitionReport { partition, origin, progress, judged_to, log_start, log_end, .. } = partition;
        let cells = [judged_to, log_start, log_end].map(i64::to_string);
        let [judged_to, log_start, log_end] = cells;
        let cells =
            [partition.to_string(), origin.to_string(), or_dash(*progress), judged_to, log_start, log_end];
        output.row(&columns, &cells)?;
    }
    output.line("")?;
    for PartitionReport { partition, unverifiable, .. } in &report.partitions {
        for range in unverifiable {
            output.line(format_args!(
                "unverifiable: partition {partition} offsets {} to {}: the log no longer has them",
                range.from,
                range.to.saturating_sub(1)
            ))?;
        }
    }
    if !report.is_complete() {
        output.line(format_args!(
            "unverifiable: {} row(s), and {} window(s) that could be checked only against the remaining part of the log",
            report.rows_unverifiable, report.windows_not_judged
        ))?;
    }
    for difference in &report.differences {
        output.line(escaped(&difference.to_string()))?;
    }
    let (total, listed) = (report.total(), report.differences.len() as u64);
    if total > listed {
        output.line(format_args!("and {} more", total - listed))?;
    }
    if total == 0 {
        return output.line("differences   0");
    }
    let by_name: Vec<String> = report
        .counts
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    output.line(format_args!("differences   {total} ({})", by_name.join(", ")))
}
