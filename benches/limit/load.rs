//! The parameters of a measurement (records, windows, layout of the counts), and their parsing.

use std::fmt;
use std::num::{NonZeroI64, NonZeroU16};
use std::str::FromStr;

use exactlyonce::binding::BindingSpec;
use exactlyonce::broker::kafka::KafkaOptions;
use exactlyonce::pipeline::Options;
use exactlyonce::store::{CountLayout, Layout};
use exactlyonce::window::WindowSpec;

use crate::Outcome;

/// Records, windows and layout. As text: its arguments, `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Number of records of the topic.
    pub records: u64,
    /// Number of sources.
    pub sources: u32,
    /// Number of partitions of the topic.
    pub partitions: i32,
    /// Number of partitions that have records: the last ones.
    pub active: i32,
    /// Size of the windows.
    pub size_ms: i64,
    /// Slide of the windows.
    pub slide_ms: i64,
    /// Number of windows of a block of counts.
    pub block: i64,
    /// Number of shards of a block of counts.
    pub shards: u16,
    /// Number of rounds of a comparison.
    pub rounds: u64,
    /// `pipeline.write_records`; 0 for the default.
    pub write: usize,
    /// `pipeline.counts_cache_bytes`.
    pub cache: usize,
    /// `pipeline.prefetch_bytes`.
    pub prefetch: usize,
    /// `kafka.queued_bytes`.
    pub queue: usize,
}

impl Default for Load {
    fn default() -> Self {
        let options = Options::new(BindingSpec::new(""));
        Self {
            write: 0,
            cache: options.counts_cache_bytes,
            prefetch: options.prefetch_bytes,
            queue: KafkaOptions::new("").queued_bytes,
            records: 1_000_000,
            sources: 50,
            partitions: 3,
            active: i32::MAX,
            size_ms: 5_000,
            slide_ms: 5_000,
            block: CountLayout::BLOCK_WINDOWS.into(),
            shards: CountLayout::SHARDS,
            rounds: 3,
        }
    }
}

impl Load {
    /// Parses arguments; the others have their defaults.
    pub fn parse(arguments: &[String]) -> Outcome<Self> {
        let mut load = Self::default();
        for argument in arguments {
            let (name, value) =
                argument.split_once('=').ok_or(format!("{argument}: must have the form name=value"))?;
            let value = value.replace('_', "");
            fn number<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(value: &str) -> Outcome<T> {
                Ok(value.parse()?)
            }
            match name {
                "records" => load.records = number(&value)?,
                "sources" => load.sources = number(&value)?,
                "partitions" => load.partitions = number(&value)?,
                "active" => load.active = number(&value)?,
                "size" => load.size_ms = number(&value)?,
                "slide" => load.slide_ms = number(&value)?,
                "block" => load.block = number(&value)?,
                "shards" => load.shards = number(&value)?,
                "rounds" => load.rounds = number(&value)?,
                "write" => load.write = number(&value)?,
                "cache" => load.cache = number(&value)?,
                "prefetch" => load.prefetch = number(&value)?,
                "queue" => load.queue = number(&value)?,
                other => return Err(format!("no such argument: {other}").into()),
            }
        }
        Ok(load)
    }

    /// Partitions that have records.
    pub fn active(&self) -> i32 {
        self.active.clamp(1, self.partitions)
    }

    /// The topic's name.
    pub fn topic(&self) -> String {
        format!("exactlyonce.limit.{}.{}.{}.{}", self.records, self.sources, self.partitions, self.active())
    }

    /// The options of the pipeline.
    pub fn options(&self) -> Options {
        Options {
            write_records: (self.write > 0).then_some(self.write),
            counts_cache_bytes: self.cache,
            prefetch_bytes: self.prefetch,
            ..Options::new(self.binding_spec())
        }
    }

    /// The options of the brokers at these addresses.
    pub fn kafka(&self, brokers: &str) -> KafkaOptions {
        KafkaOptions { queued_bytes: self.queue, ..KafkaOptions::new(brokers) }
    }

    /// The binding of a keyspace.
    pub fn binding_spec(&self) -> BindingSpec {
        let window = WindowSpec { size_ms: self.size_ms, slide_ms: self.slide_ms, ..WindowSpec::default() };
        BindingSpec { window, ..BindingSpec::new(self.topic()) }
    }

    /// The layout of the tables.
    pub fn layout(&self) -> Layout {
        let counts = CountLayout::DEFAULT;
        let counts = CountLayout {
            block_ms: NonZeroI64::new(self.slide_ms.saturating_mul(self.block)).unwrap_or(counts.block_ms),
            shards: NonZeroU16::new(self.shards).unwrap_or(counts.shards),
        };
        Layout { counts, ..Layout::ORIGINAL }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            records, sources, partitions, size_ms, slide_ms, block, shards, rounds, write, cache, ..
        } = self;
        write!(
            f,
            "records={records} sources={sources} partitions={partitions} active={} size={size_ms} slide={slide_ms} \
             block={block} shards={shards} rounds={rounds} write={write} cache={cache} prefetch={} queue={}",
            self.active(),
            self.prefetch,
            self.queue
        )
    }
}
