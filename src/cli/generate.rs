//! `exactlyonce generate`

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::Context;
use super::failure::{Code, Failure};
use super::output::Output;
use super::services::{self, with_broker};
use super::stderr;
use crate::broker::{Broker, BrokerError, NewRecord, Producer};
use crate::config::Settings;
use crate::decode::Decoder;
use crate::event::Record;
use crate::generate::{HealthMix, LineError, Lines, MAX_LINE_BYTES, Mixed, Original, Share};

/// Maximum records of one append, and the bytes at which an append is sent.
const APPEND_RECORDS: usize = 1_000;
const APPEND_BYTES: usize = 1 << 20;

/// Partitions of a topic that `--create-topic` creates, as `topic create` does.
const PARTITIONS: i32 = 3;

/// Appends events to the topic: synthetic ones, or your own lines.
///
/// The preset `original` is the test generator of 2016: for each of its three clients --events-per-key
/// Critical events of the current time from "My Router". The preset `mixed` has many sources of unequal rates,
/// three levels of health, late events, duplicates and malformed records. Both use the client as the key. With --stdin
/// each line of the input becomes a record's value, unchanged.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  exactlyonce generate
  exactlyonce generate --preset mixed --events 100000 --seed 7
  exactlyonce generate --preset mixed --rate 50 --paced
  exactlyonce generate --stdin --key me < events.jsonl
  exactlyonce generate --json > positions.jsonl")]
pub(super) struct Arguments {
    /// Which events to generate
    #[arg(long, value_enum, default_value_t = Preset::Original, conflicts_with = "stdin")]
    preset: Preset,
    /// Append each line of the standard input as a record's value
    #[arg(long)]
    stdin: bool,
    /// Key of the records [default: none]
    #[arg(long, requires = "stdin")]
    key: Option<String>,
    /// Create the topic, with 3 partitions, if it does not exist
    #[arg(long)]
    create_topic: bool,
    /// Print each record's partition, offset and id (null if it is not a valid event) as one line of JSON
    #[arg(long)]
    json: bool,
    /// Seed of all random choices [default: a random one, printed]
    #[arg(long, conflicts_with = "stdin")]
    seed: Option<u64>,
    #[command(flatten)]
    original: OriginalArguments,
    #[command(flatten)]
    mixed: MixedArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Preset {
    /// The test generator of 2016
    Original,
    /// Many sources, with late, repeated and malformed records
    Mixed,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Preset original")]
struct OriginalArguments {
    /// Events of each client [default: 200]
    #[arg(long, value_name = "N", conflicts_with = "stdin")]
    events_per_key: Option<u64>,
    /// Pause half a second after each event of every tenth round, as in 2016
    #[arg(long, conflicts_with = "stdin")]
    delay: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Preset mixed")]
struct MixedArguments {
    /// Records, of all kinds together [default: 10000]
    #[arg(long, value_name = "N", conflicts_with = "stdin")]
    events: Option<u64>,
    /// Sources; the first is the busiest, the next two are half as busy, and so on [default: 1000]
    #[arg(long, value_name = "N", conflicts_with = "stdin")]
    sources: Option<u32>,
    /// Percentages of the three levels of health, together 100 [default: 80,10,10]
    #[arg(long, value_name = "NOMINAL,WARNING,CRITICAL", conflicts_with = "stdin")]
    health: Option<HealthMix>,
    /// Percentage of the events that are late: their event time precedes the time of sending [default: 2]
    #[arg(long, value_name = "PERCENT", conflicts_with = "stdin")]
    late: Option<Share>,
    /// Maximum lateness of these events, in milliseconds [default: 60000]
    #[arg(long, value_name = "MS", conflicts_with = "stdin")]
    late_by_ms: Option<i64>,
    /// Percentage of the records that are sent again, with the same id [default: 1]
    #[arg(long, value_name = "PERCENT", conflicts_with = "stdin")]
    duplicates: Option<Share>,
    /// Percentage of the records that are invalid, for every possible reason [default: 1]
    #[arg(long, value_name = "PERCENT", conflicts_with = "stdin")]
    malformed: Option<Share>,
    /// Make one in a thousand of the invalid records larger than pipeline.max_mutation_bytes
    #[arg(long, conflicts_with = "stdin")]
    huge: bool,
    /// Records per second of event time [default: 10000]
    #[arg(long, value_name = "N", conflicts_with = "stdin")]
    rate: Option<u32>,
    /// Event time of the first record, in milliseconds since the epoch [default: so that the last one's is
    /// now; with --paced, now]
    #[arg(long, value_name = "MS", allow_negative_numbers = true, conflicts_with = "stdin")]
    start_ms: Option<i64>,
    /// Append at the rate of --rate, instead of as fast as possible
    #[arg(long, conflicts_with = "stdin")]
    paced: bool,
}

impl OriginalArguments {
    /// A flag that is set.
    fn first_set(&self) -> Option<&'static str> {
        let flags = [("--events-per-key", self.events_per_key.is_some()), ("--delay", self.delay)];
        first_of(&flags)
    }
}

impl MixedArguments {
    /// A flag that is set.
    fn first_set(&self) -> Option<&'static str> {
        let flags = [
            ("--events", self.events.is_some()),
            ("--sources", self.sources.is_some()),
            ("--health", self.health.is_some()),
            ("--late", self.late.is_some()),
            ("--late-by-ms", self.late_by_ms.is_some()),
            ("--duplicates", self.duplicates.is_some()),
            ("--malformed", self.malformed.is_some()),
            ("--huge", self.huge),
            ("--rate", self.rate.is_some()),
            ("--start-ms", self.start_ms.is_some()),
            ("--paced", self.paced),
        ];
        first_of(&flags)
    }

    fn options(&self, seed: u64, settings: &Settings, now_ms: i64) -> Mixed {
        let default = Mixed::default();
        let mut mixed = Mixed {
            records: self.events.unwrap_or(default.records),
            sources: self.sources.unwrap_or(default.sources),
            health: self.health.unwrap_or(default.health),
            late: self.late.unwrap_or(default.late),
            late_by_ms: self.late_by_ms.unwrap_or(default.late_by_ms),
            duplicates: self.duplicates.unwrap_or(default.duplicates),
            malformed: self.malformed.unwrap_or(default.malformed),
            huge_bytes: self.huge.then_some(settings.pipeline.max_mutation_bytes),
            rate: self.rate.unwrap_or(default.rate),
            start_ms: now_ms,
            seed,
        };
        if let Some(start_ms) = self.start_ms {
            mixed.start_ms = start_ms;
        } else if !self.paced {
            mixed.start_ms = now_ms.saturating_sub_unsigned(mixed.duration_ms());
        }
        mixed
    }
}

fn first_of(flags: &[(&'static str, bool)]) -> Option<&'static str> {
    flags.iter().find(|(_, set)| *set).map(|(flag, _)| *flag)
}

/// Refuses a preset's flags with another preset: they would have no effect.
fn check(arguments: &Arguments) -> Result<(), Failure> {
    let (flag, preset) = match arguments.preset {
        Preset::Original => (arguments.mixed.first_set(), "mixed"),
        Preset::Mixed => (arguments.original.first_set(), "original"),
    };
    match flag {
        Some(flag) if !arguments.stdin => Err(Failure::Usage(format!("{flag} is for --preset {preset}"))),
        _ => Ok(()),
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Code, Failure> {
    check(&arguments)?;
    let settings = context.start()?;
    if arguments.create_topic {
        services::prepare_broker(&settings)?;
    }
    with_broker!(&settings, |broker| generate(arguments, &settings, broker).await)
}

async fn generate<B: Broker + Producer>(
    arguments: Arguments,
    settings: &Settings,
    broker: B,
) -> Result<Code, Failure> {
    let topic = settings.topic.as_str();
    match broker.topic(topic).await {
        Err(BrokerError::UnknownTopic(_)) if arguments.create_topic => {
            broker.create_topic(topic, PARTITIONS, 1).await?;
        }
        described => drop(described?),
    }
    let decoder =
        Decoder { window: settings.window, max_mutation_bytes: settings.pipeline.max_mutation_bytes };
    let mut appender = Appender {
        broker,
        topic,
        decoder: arguments.json.then_some(decoder),
        output: Output::stdout(),
        records: Vec::new(),
        bytes: 0,
        appended: BTreeMap::new(),
    };
    let made = make(&arguments, settings, &mut appender).await;
    let flushed = match &made {
        // The lines before an invalid one are appended.
        Ok(_) | Err(Failure::Line(_)) if !appender.is_unread() => appender.flush().await,
        _ => Ok(()),
    };
    let seed = made.as_ref().ok().copied().flatten();
    let failed = made.is_err() || flushed.is_err();
    let summed_up = appender.sum_up(seed, arguments.json, failed);
    made.map(drop).and(flushed).and(summed_up)
}

/// Appends the records, until all are appended or the reader of their positions has ended. Returns the seed, if there
/// is one.
async fn make<B: Producer>(
    arguments: &Arguments,
    settings: &Settings,
    appender: &mut Appender<'_, B>,
) -> Result<Option<u64>, Failure> {
    if arguments.stdin {
        let key = arguments.key.clone().map(String::into_bytes);
        let mut chunks = read_lines(key);
        while let Some(chunk) = chunks.recv().await
            && !appender.is_unread()
        {
            for record in chunk {
                appender.push(record?).await?;
            }
            // Lines of a slow producer are appended immediately.
            appender.flush().await?;
        }
        return Ok(None);
    }
    let seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    match arguments.preset {
        Preset::Original => {
            let events_per_key = arguments.original.events_per_key.unwrap_or(Original::EVENTS_PER_KEY);
            let original = Original { events_per_key, delay: arguments.original.delay, seed };
            for (index, record) in (0..).zip(original.records(now_ms)) {
                if appender.is_unread() {
                    break;
                }
                appender.push(record).await?;
                let pause = original.pause_after(index);
                if pause > Duration::ZERO {
                    appender.flush().await?;
                    sleep(pause).await;
                }
            }
        }
        Preset::Mixed => {
            let mixed = arguments.mixed.options(seed, settings, now_ms());
            let (started, start_ms) = (Instant::now(), mixed.start_ms);
            for record in mixed.records()? {
                if appender.is_unread() {
                    break;
                }
                let due = started + Duration::from_millis(record.timestamp.abs_diff(start_ms));
                if arguments.mixed.paced && due > Instant::now() {
                    appender.flush().await?;
                    sleep_until(due).await;
                }
                appender.push(record).await?;
            }
        }
    }
    Ok(Some(seed))
}

type Chunk = Vec<Result<NewRecord, LineError>>;

/// Reads the standard input on a separate thread, because reading blocks. A chunk has the lines that are
/// available, up to the size of an append.
fn read_lines(key: Option<Vec<u8>>) -> mpsc::Receiver<Chunk> {
    let (sender, chunks) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let mut lines = Lines::new(io::stdin().lock(), key, MAX_LINE_BYTES, now_ms);
        let (mut chunk, mut bytes) = (Chunk::new(), 0);
        while let Some(line) = lines.next() {
            bytes += line.as_ref().map_or(0, size);
            chunk.push(line);
            let full = chunk.len() >= APPEND_RECORDS || bytes >= APPEND_BYTES;
            if full || !lines.has_buffered_line() {
                bytes = 0;
                if sender.blocking_send(std::mem::take(&mut chunk)).is_err() {
                    return;
                }
            }
        }
    });
    chunks
}

fn size(record: &NewRecord) -> usize {
    record.key.as_ref().map_or(0, Vec::len) + record.value.as_ref().map_or(0, Vec::len)
}

/// Appends in chunks and prints the position of each record.
struct Appender<'a, B> {
    broker: B,
    topic: &'a str,
    /// Decodes the ids, if each record is printed.
    decoder: Option<Decoder>,
    output: Output,
    records: Vec<NewRecord>,
    bytes: usize,
    /// For each partition the number of records, and the first and last offset.
    appended: BTreeMap<i32, (u64, i64, i64)>,
}

#[derive(Serialize)]
struct Appended {
    partition: i32,
    offset: i64,
    id: Option<i64>,
}

impl<B: Producer> Appender<'_, B> {
    async fn push(&mut self, record: NewRecord) -> Result<(), Failure> {
        self.bytes += size(&record);
        self.records.push(record);
        if self.records.len() >= APPEND_RECORDS || self.bytes >= APPEND_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        if self.records.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        let records = std::mem::take(&mut self.records);
        let ids: Option<Vec<_>> =
            self.decoder.map(|decoder| records.iter().map(|record| id(&decoder, record)).collect());
        let positions = self.broker.append(self.topic, records).await?;
        for &(partition, offset) in &positions {
            let (count, _, last) = self.appended.entry(partition).or_insert((0, offset, offset));
            *count += 1;
            *last = offset;
        }
        for ((partition, offset), id) in positions.into_iter().zip(ids.into_iter().flatten()) {
            self.output.json(&Appended { partition, offset, id })?;
        }
        // Flushed, so that the reader sees what was appended, and a closed pipe is noticed.
        self.output.flush()
    }

    /// True if the positions are printed, and their reader has ended.
    fn is_unread(&self) -> bool {
        self.decoder.is_some() && self.output.is_closed()
    }

    /// Prints the totals: to stdout, with JSON to stderr.
    fn sum_up(mut self, seed: Option<u64>, json: bool, failed: bool) -> Result<Code, Failure> {
        let total: u64 = self.appended.values().map(|(count, ..)| count).sum();
        let topic = self.topic;
        if json {
            tracing::info!(records = total, topic, seed, "appended");
            // Independent of log.level: nothing else reports how much was appended.
            if failed {
                stderr::line(format_args!("stopped after {total} record(s) were appended to topic {topic}"));
            } else if self.is_unread() {
                stderr::line(format_args!(
                    "stopped because the reader of the output ended: {total} record(s) were appended to topic {topic}"
                ));
                return Ok(Code::BrokenPipe);
            }
            self.output.finish()?;
            return Ok(Code::Fine);
        }
        let seed = seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
        self.output.line(format_args!("appended {total} record(s) to topic {topic}{seed}"))?;
        for (partition, (count, first, last)) in self.appended {
            self.output.line(format_args!(
                "partition {partition}: {count} record(s), from offset {first} to {last}"
            ))?;
        }
        self.output.finish()?;
        Ok(Code::Fine)
    }
}

/// The id, if the record is an event.
fn id(decoder: &Decoder, record: &NewRecord) -> Option<i64> {
    let NewRecord { key, value, timestamp, .. } = record.clone();
    decoder.event(&Record { partition: 0, offset: 0, timestamp, key, value }).ok().map(|event| event.id)
}
