//! `exactlyonce show`

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::Context;
use super::failure::{Code, Failure};
use super::output::{Bytes, Column, Output, escaped, escaped_bytes, or_dash};
use super::services::{with_broker, with_store};
use crate::binding;
use crate::broker::{Broker, BrokerError, LogOffsets};
use crate::config::Settings;
use crate::event::{Body, DeadLetter, Event, Health, Reason, Record};
use crate::store::{Alert, Damaged, Progress, Store};

/// Events (of 2 KiB at most) and alerts of one read.
const PAGE: usize = 1_000;
/// Records and dead letters of one read; each may be large.
const LARGE_PAGE: usize = 16;
/// Bytes of records of one read, after the first.
const PAGE_BYTES: usize = 1 << 20;

/// Shows the log or the tables.
///
/// Rows are written as they are read, so output of any length takes little memory. In text, control
/// characters are escaped (\n, \u{1b}) and bytes that are not UTF-8 are printed as \x.. . With --json each row is
/// one line of JSON; there, bytes that are not UTF-8 are an object with their hexadecimal, for example
/// "value": {"hex": "ff00"}. Safe while workers run; the output is then not a snapshot. A row
/// that this program did not write and cannot read is shown as damaged, with its column; the exit code is then 1.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  exactlyonce show records --partition 0 --from 100 --limit 5
  exactlyonce show events --health critical --source \"My Router\"
  exactlyonce show alerts --json
  exactlyonce show progress")]
pub(super) struct Arguments {
    #[command(subcommand)]
    table: Table,
}

#[derive(Debug, Subcommand)]
enum Table {
    /// Records of the log, by partition and offset
    Records {
        #[command(flatten)]
        range: Range,
        #[command(flatten)]
        form: Form,
    },
    /// Rows of events, by partition and offset
    Events {
        #[command(flatten)]
        range: Range,
        /// Only rows of this source
        #[arg(long)]
        source: Option<String>,
        /// Only rows of this client
        #[arg(long)]
        client: Option<String>,
        /// Only rows of this health
        #[arg(long)]
        health: Option<HealthName>,
        #[command(flatten)]
        form: Form,
    },
    /// Rows of alerts, in the order of the store
    Alerts {
        /// Only rows of this source
        #[arg(long)]
        source: Option<String>,
        /// Only windows that end at this time or later, in milliseconds since the epoch
        #[arg(long, value_name = "MS", allow_negative_numbers = true)]
        from: Option<i64>,
        /// Only windows that end before this time, in milliseconds since the epoch
        #[arg(long, value_name = "MS", allow_negative_numbers = true)]
        to: Option<i64>,
        #[command(flatten)]
        form: Form,
    },
    /// Rows of dead_letters, by partition and offset
    DeadLetters {
        #[command(flatten)]
        range: Range,
        /// Only rows with this reason, for example missing_field:source
        #[arg(long, value_parser = reason)]
        reason: Option<Reason>,
        #[command(flatten)]
        form: Form,
    },
    /// Progress of each partition, and the start and end of its log
    Progress {
        /// Only this partition
        #[arg(long, value_name = "N")]
        partition: Option<i32>,
        #[command(flatten)]
        form: Form,
    },
}

/// A range of positions of the log.
#[derive(Clone, Copy, Debug, Args)]
struct Range {
    /// Only this partition
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Only offsets from this one on, of each partition
    #[arg(long, value_name = "OFFSET", default_value_t = 0, hide_default_value = true,
          value_parser = clap::value_parser!(i64).range(0..))]
    from: i64,
    /// Only offsets before this one, of each partition
    #[arg(long, value_name = "OFFSET", default_value_t = i64::MAX, hide_default_value = true,
          value_parser = clap::value_parser!(i64).range(0..))]
    to: i64,
}

/// Number and format of the rows.
#[derive(Clone, Copy, Debug, Args)]
struct Form {
    /// Maximum number of rows
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
    /// JSON Lines: one object for each row
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum HealthName {
    Nominal,
    Warning,
    Critical,
}

impl From<HealthName> for Health {
    fn from(name: HealthName) -> Health {
        match name {
            HealthName::Nominal => Health::Nominal,
            HealthName::Warning => Health::Warning,
            HealthName::Critical => Health::Critical,
        }
    }
}

fn reason(code: &str) -> Result<Reason, String> {
    Reason::from_code(code).ok_or_else(|| {
        let codes: Vec<String> = Reason::all().map(Reason::code).collect();
        let nearest = crate::config::nearest::nearest(code, codes.iter().map(String::as_str));
        match nearest {
            Some(nearest) => format!("unknown reason, did you mean {nearest}?"),
            None => format!("unknown reason; the reasons are {}", codes.join(", ")),
        }
    })
}

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Code, Failure> {
    let settings = &context.start()?;
    match arguments.table {
        Table::Records { range, form } => {
            with_broker!(settings, |broker| records(&broker, &settings.topic, range, RowPrinter::new(form))
                .await)
        }
        Table::Events { range, source, client, health, form } => {
            let health = health.map(Health::from);
            let wanted = |event: &Event| {
                source.as_ref().is_none_or(|source| *source == event.source)
                    && client.as_ref().is_none_or(|client| *client == event.client)
                    && health.is_none_or(|health| health == event.health)
            };
            with_store!(settings, |store| {
                binding::check_store(&store).await?;
                events(&store, range, wanted, RowPrinter::new(form)).await
            })
        }
        Table::Alerts { source, from, to, form } => {
            let wanted = |alert: &Alert| {
                source.as_ref().is_none_or(|source| **source == *alert.source)
                    && from.is_none_or(|from| from <= alert.ts)
                    && to.is_none_or(|to| alert.ts < to)
            };
            with_store!(settings, |store| {
                binding::check_store(&store).await?;
                alerts(&store, wanted, RowPrinter::new(form)).await
            })
        }
        Table::DeadLetters { range, reason, form } => {
            let wanted = |letter: &DeadLetter| reason.is_none_or(|reason| reason == letter.reason);
            with_store!(settings, |store| {
                binding::check_store(&store).await?;
                dead_letters(&store, range, wanted, RowPrinter::new(form)).await
            })
        }
        Table::Progress { partition, form } => with_broker!(settings, |broker| with_store!(
            settings,
            |store| progress(&broker, &store, settings, partition, RowPrinter::new(form)).await
        )),
    }
}

/// Prints rows to stdout.
struct RowPrinter {
    output: Output,
    json: bool,
    left: u64,
    /// Whether a row was damaged.
    damaged: bool,
}

/// A damaged row, in JSON.
#[derive(Serialize)]
struct DamagedRow<'a> {
    damaged: &'a Damaged,
}

impl RowPrinter {
    fn new(form: Form) -> Self {
        Self { output: Output::stdout(), json: form.json, left: form.limit, damaged: false }
    }

    fn header(&mut self, columns: &[Column]) -> Result<(), Failure> {
        if self.json { Ok(()) } else { self.output.header(columns) }
    }

    fn row<T: Serialize>(
        &mut self,
        columns: &[Column],
        json: T,
        cells: impl FnOnce(T) -> Vec<String>,
    ) -> Result<(), Failure> {
        self.left = self.left.saturating_sub(1);
        match self.json {
            true => self.output.json(&json),
            false => self.output.row(columns, &cells(json)),
        }
    }

    /// Prints a damaged row.
    fn damaged(&mut self, row: &Damaged) -> Result<(), Failure> {
        self.damaged = true;
        self.left = self.left.saturating_sub(1);
        match self.json {
            true => self.output.json(&DamagedRow { damaged: row }),
            false => self.output.line(format_args!("damaged: {}", escaped(&row.to_string()))),
        }
    }

    /// True if no more rows are to be printed.
    fn is_full(&self) -> bool {
        self.left == 0 || self.output.is_closed()
    }

    fn finish(self) -> Result<Code, Failure> {
        self.output.finish()?;
        Ok(if self.damaged { Code::Differences } else { Code::Fine })
    }
}

#[derive(Serialize)]
struct RecordRow<'a> {
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<Bytes<'a>>,
    value: Option<Bytes<'a>>,
}

async fn records<B: Broker>(
    broker: &B,
    topic: &str,
    range: Range,
    mut rows: RowPrinter,
) -> Result<Code, Failure> {
    let columns = [
        Column::number("partition", 9),
        Column::number("offset", 12),
        Column::number("timestamp", 14),
        Column::text("key", 24),
        Column::text("value", 0),
    ];
    let partitions = broker.topic(topic).await?.partitions;
    rows.header(&columns)?;
    for partition in (0..partitions).filter(|p| range.partition.is_none_or(|only| only == *p)) {
        let LogOffsets { start, end } = broker.offsets(topic, partition).await?;
        let (mut next, to) = (range.from.max(start), range.to.min(end));
        while next < to && !rows.is_full() {
            let fetched = broker.fetch(topic, partition, next, LARGE_PAGE, PAGE_BYTES).await;
            if let Err(BrokerError::OutOfRange { .. }) = fetched {
                // Retention may have deleted the next offset.
                let start = broker.offsets(topic, partition).await?.start;
                if start > next {
                    next = start;
                    continue;
                }
            }
            let fetched = fetched?;
            for record in fetched.records.iter().take_while(|record| record.offset < to) {
                if rows.is_full() {
                    break;
                }
                let Record { partition, offset, timestamp, key, value } = record;
                let row = RecordRow {
                    partition: *partition,
                    offset: *offset,
                    timestamp: *timestamp,
                    key: key.as_deref().map(Bytes),
                    value: value.as_deref().map(Bytes),
                };
                rows.row(&columns, row, |row| {
                    vec![
                        row.partition.to_string(),
                        row.offset.to_string(),
                        row.timestamp.to_string(),
                        escaped_bytes(key.as_deref()),
                        escaped_bytes(value.as_deref()),
                    ]
                })?;
            }
            if fetched.next_offset <= next {
                break;
            }
            next = fetched.next_offset;
        }
    }
    rows.finish()
}

/// The partitions of a range.
async fn partitions<S: Store>(store: &S, range: Range) -> Result<Vec<i32>, Failure> {
    match range.partition {
        Some(partition) => Ok(vec![partition]),
        None => store.partitions().await.into_result().map_err(Failure::store("list the partitions")),
    }
}

#[derive(Serialize)]
struct EventRow<'a> {
    partition: i32,
    offset: i64,
    id: i64,
    ts: i64,
    source: &'a str,
    client: &'a str,
    health: i32,
}

async fn events<S: Store>(
    store: &S,
    range: Range,
    wanted: impl Fn(&Event) -> bool,
    mut rows: RowPrinter,
) -> Result<Code, Failure> {
    let columns = [
        Column::number("partition", 9),
        Column::number("offset", 12),
        Column::number("id", 20),
        Column::number("ts", 14),
        Column::text("health", 8),
        Column::text("client", 24),
        Column::text("source", 0),
    ];
    rows.header(&columns)?;
    for partition in partitions(store, range).await? {
        let mut next = range.from;
        while next < range.to && !rows.is_full() {
            let page = store.stored_events(partition, next, range.to, PAGE).await.into_result();
            let page = page.map_err(Failure::store("read events"))?;
            for (offset, event) in &page {
                if rows.is_full() {
                    break;
                }
                let event = match event {
                    Ok(event) if wanted(event) => event,
                    Ok(_) => continue,
                    Err(damaged) => {
                        rows.damaged(damaged)?;
                        continue;
                    }
                };
                let Event { id, ts, ref source, ref client, health } = *event;
                let row =
                    EventRow { partition, offset: *offset, id, ts, source, client, health: health.code() };
                rows.row(&columns, row, |row| {
                    vec![
                        partition.to_string(),
                        row.offset.to_string(),
                        id.to_string(),
                        ts.to_string(),
                        format!("{health:?}").to_lowercase(),
                        escaped(row.client),
                        escaped(row.source),
                    ]
                })?;
            }
            match page.last() {
                Some((last, _)) if page.len() >= PAGE => next = last.saturating_add(1),
                _ => break,
            }
        }
    }
    rows.finish()
}

#[derive(Serialize)]
struct DeadLetterRow<'a> {
    partition: i32,
    offset: i64,
    reason: String,
    timestamp: i64,
    key: Option<Bytes<'a>>,
    value: Option<Bytes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_length: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_length: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

impl<'a> DeadLetterRow<'a> {
    fn new(partition: i32, offset: i64, letter: &'a DeadLetter) -> Self {
        let (reason, timestamp) = (letter.reason.code(), letter.timestamp);
        let (mut key, mut value, mut lengths, mut hash) = (None, None, (None, None), None);
        match &letter.body {
            Body::Whole { key: whole_key, value: whole_value } => {
                (key, value) = (whole_key.as_deref().map(Bytes), whole_value.as_deref().map(Bytes));
            }
            Body::Digest { key_length, value_length, sha256 } => {
                (lengths, hash) = ((*key_length, *value_length), Some(hex::encode(sha256)));
            }
        }
        let (key_length, value_length) = lengths;
        Self { partition, offset, reason, timestamp, key, value, key_length, value_length, sha256: hash }
    }

    fn cells(self) -> Vec<String> {
        let body = match &self.sha256 {
            Some(hash) => format!(
                "(key of {} bytes, value of {} bytes, sha256 {hash})",
                or_dash(self.key_length),
                or_dash(self.value_length)
            ),
            None => escaped_bytes(self.value.map(|bytes| bytes.0)),
        };
        let key = if self.sha256.is_some() { "-".to_owned() } else { escaped_bytes(self.key.map(|b| b.0)) };
        vec![
            self.partition.to_string(),
            self.offset.to_string(),
            self.timestamp.to_string(),
            self.reason,
            key,
            body,
        ]
    }
}

async fn dead_letters<S: Store>(
    store: &S,
    range: Range,
    wanted: impl Fn(&DeadLetter) -> bool,
    mut rows: RowPrinter,
) -> Result<Code, Failure> {
    let columns = [
        Column::number("partition", 9),
        Column::number("offset", 12),
        Column::number("timestamp", 14),
        Column::text("reason", 22),
        Column::text("key", 24),
        Column::text("value", 0),
    ];
    rows.header(&columns)?;
    for partition in partitions(store, range).await? {
        let mut next = range.from;
        while next < range.to && !rows.is_full() {
            let page = store.stored_dead_letters(partition, next, range.to, LARGE_PAGE).await.into_result();
            let page = page.map_err(Failure::store("read dead letters"))?;
            for (offset, letter) in &page {
                if rows.is_full() {
                    break;
                }
                let letter = match letter {
                    Ok(letter) if wanted(letter) => letter,
                    Ok(_) => continue,
                    Err(damaged) => {
                        rows.damaged(damaged)?;
                        continue;
                    }
                };
                rows.row(&columns, DeadLetterRow::new(partition, *offset, letter), DeadLetterRow::cells)?;
            }
            match page.last() {
                Some((last, _)) if page.len() >= LARGE_PAGE => next = last.saturating_add(1),
                _ => break,
            }
        }
    }
    rows.finish()
}

async fn alerts<S: Store>(
    store: &S,
    wanted: impl Fn(&Alert) -> bool,
    mut rows: RowPrinter,
) -> Result<Code, Failure> {
    let columns = [Column::number("ts", 14), Column::number("event_count", 11), Column::text("source", 0)];
    rows.header(&columns)?;
    let mut after = None;
    while !rows.is_full() {
        let page =
            store.stored_alerts(after, PAGE).await.into_result().map_err(Failure::store("read alerts"))?;
        for (window, count) in page.rows {
            if rows.is_full() {
                break;
            }
            let alert = match count {
                Ok(event_count) => Alert { source: window.source, ts: window.end, event_count },
                Err(damaged) => {
                    rows.damaged(&damaged)?;
                    continue;
                }
            };
            if !wanted(&alert) {
                continue;
            }
            rows.row(&columns, &alert, |alert| {
                vec![alert.ts.to_string(), alert.event_count.to_string(), escaped(&alert.source)]
            })?;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    rows.finish()
}

#[derive(Serialize)]
struct ProgressRow {
    partition: i32,
    origin: i64,
    next_offset: i64,
    log_start: Option<i64>,
    log_end: Option<i64>,
    lag: Option<i64>,
}

async fn progress<B: Broker, S: Store>(
    broker: &B,
    store: &S,
    settings: &Settings,
    only: Option<i32>,
    mut rows: RowPrinter,
) -> Result<Code, Failure> {
    let columns = [
        Column::number("partition", 9),
        Column::number("origin", 12),
        Column::number("next_offset", 12),
        Column::number("log_start", 12),
        Column::number("log_end", 12),
        Column::number("lag", 12),
    ];
    let topic = broker.topic(&settings.topic).await?;
    binding::check_store(store).await?;
    let all = store.stored_progress().await.into_result().map_err(Failure::store("read progress"))?;
    rows.header(&columns)?;
    for (partition, row) in all {
        if only.is_some_and(|only| only != partition) || rows.is_full() {
            continue;
        }
        let Progress { origin, next_offset } = match row {
            Ok(progress) => progress,
            Err(damaged) => {
                rows.damaged(&damaged)?;
                continue;
            }
        };
        let log = match (0..topic.partitions).contains(&partition) {
            true => Some(broker.offsets(&settings.topic, partition).await?),
            // The tables have a partition that the topic does not have.
            false => None,
        };
        let row = ProgressRow {
            partition,
            origin,
            next_offset,
            log_start: log.map(|log| log.start),
            log_end: log.map(|log| log.end),
            lag: log.map(|log| log.end.saturating_sub(next_offset)),
        };
        rows.row(&columns, row, |row| {
            vec![
                partition.to_string(),
                origin.to_string(),
                next_offset.to_string(),
                or_dash(row.log_start),
                or_dash(row.log_end),
                or_dash(row.lag),
            ]
        })?;
    }
    rows.finish()
}
