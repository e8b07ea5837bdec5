//! The keys of the tables that grow: `events` and `window_counts`.
//!
//! The layout is chosen when the tables are created and is part of the binding: with a different layout, rows are not
//! found.

use std::fmt;
use std::num::{NonZeroI64, NonZeroU16, NonZeroU32};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::store::WindowKey;

/// The layout of a keyspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The layout of `events`.
    pub events: EventLayout,
    /// The layout of `window_counts`.
    pub counts: CountLayout,
}

impl Layout {
    /// `events` as in the original, counts with the defaults.
    pub const ORIGINAL: Self = Self { events: EventLayout::Original, counts: CountLayout::DEFAULT };

    /// `events` in buckets of `rows` offsets, counts with the defaults.
    pub const fn bucketed(rows: NonZeroU32) -> Self {
        Self { events: EventLayout::Bucketed { rows }, counts: CountLayout::DEFAULT }
    }
}

/// The key of `events`. As text it is `original`, or `bucketed:` and the rows of a bucket, for example
/// `bucketed:500000`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EventLayout {
    /// As in the original of 2016: `(partition, offset)`. All rows of a partition of the log are in one partition of
    /// the store, which grows without bound.
    #[default]
    Original,
    /// `((partition, bucket), offset)`, with `bucket` = `offset` / `rows`.
    Bucketed {
        /// Offsets that share a bucket, at least 1.
        rows: NonZeroU32,
    },
}

impl EventLayout {
    /// The bucket of an offset, for [`EventLayout::Bucketed`].
    pub fn bucket(&self, offset: i64) -> Option<i64> {
        match self {
            EventLayout::Original => None,
            EventLayout::Bucketed { rows } => Some(offset.div_euclid(i64::from(rows.get()))),
        }
    }
}

impl fmt::Display for EventLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventLayout::Original => f.write_str("original"),
            EventLayout::Bucketed { rows } => write!(f, "bucketed:{rows}"),
        }
    }
}

/// The error of a text that is not a layout.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a layout: it must be original, or bucketed:N with N rows in a bucket, 1 to 4294967295")]
pub struct LayoutError(String);

impl FromStr for EventLayout {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Self, LayoutError> {
        match text.strip_prefix("bucketed:").map(str::parse) {
            None if text == "original" => Ok(EventLayout::Original),
            Some(Ok(rows)) => Ok(EventLayout::Bucketed { rows }),
            _ => Err(LayoutError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for EventLayout {
    type Error = LayoutError;

    fn try_from(text: String) -> Result<Self, LayoutError> {
        text.parse()
    }
}

impl From<EventLayout> for String {
    fn from(layout: EventLayout) -> String {
        layout.to_string()
    }
}

/// The key of `window_counts` in Cassandra: `((partition, block, shard), window_end, source)`. So the counts of one
/// partition of the log are in partitions of the store that only its own worker writes, and one request reads or writes
/// many of them. (The other stores have no partitions whose size must be bounded: they bind this layout without using
/// it.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountLayout {
    /// Milliseconds of window ends that share a block, at least 1: `block` = `window_end` / `block_ms`, floored.
    pub block_ms: NonZeroI64,
    /// Shards of a block, at least 1: `shard` is a checksum of the source modulo this.
    pub shards: NonZeroU16,
}

/// The block and the shard of a count: with the partition of the log they are its partition key in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CountPlace {
    /// See [`CountLayout::block_ms`].
    pub block: i64,
    /// See [`CountLayout::shards`].
    pub shard: i32,
}

impl CountLayout {
    /// Default number of windows per block: with [`CountLayout::SHARDS`] and 100,000 sources, each with a count in
    /// every window, a partition of the store has 75,000 rows.
    pub const BLOCK_WINDOWS: u32 = 3;
    /// Default number of shards.
    pub const SHARDS: u16 = 4;

    /// Blocks of 3 windows of 5 seconds, 4 shards.
    pub const DEFAULT: Self = match (NonZeroI64::new(15_000), NonZeroU16::new(Self::SHARDS)) {
        (Some(block_ms), Some(shards)) => Self { block_ms, shards },
        _ => unreachable!(),
    };

    /// The block of the windows with this end.
    pub fn block(&self, window_end: i64) -> i64 {
        // The block's length is at least 1, so this cannot overflow.
        window_end.div_euclid(self.block_ms.get().max(1))
    }

    /// The block and shard of a window's count.
    pub fn place(&self, window: &WindowKey) -> CountPlace {
        let block = self.block(window.end);
        let shard = crc32fast::hash(window.source.as_bytes()) % u32::from(self.shards.get());
        CountPlace { block, shard: shard as i32 }
    }
}

impl Default for CountLayout {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(block_ms: i64, shards: u16) -> CountLayout {
        CountLayout { block_ms: NonZeroI64::new(block_ms).unwrap(), shards: NonZeroU16::new(shards).unwrap() }
    }

    fn place(layout: CountLayout, source: &str, end: i64) -> (i64, i32) {
        let CountPlace { block, shard } = layout.place(&WindowKey { source: source.into(), end });
        (block, shard)
    }

    #[test]
    fn blocks_are_spans_of_window_ends_also_before_the_epoch() {
        let block = |block_ms, end| place(layout(block_ms, 1), "a", end).0;
        assert_eq!(
            [-60_001, -60_000, -1, 0, 59_999, 60_000].map(|end| block(60_000, end)),
            [-2, -1, -1, 0, 0, 1]
        );
        assert_eq!((block(1, i64::MIN), block(1, i64::MAX)), (i64::MIN, i64::MAX));
        assert_eq!((block(i64::MAX, i64::MIN), block(i64::MAX, i64::MAX)), (-2, 1));
    }

    /// Stored rows keep their shard, so the function may never change.
    #[test]
    fn shards_never_change() {
        let shards =
            ["", "a", "b", "My Router", "Router 1", "ü"].map(|source| place(layout(1, 16), source, 0).1);
        assert_eq!(shards, [0, 3, 9, 9, 4, 5]);
        assert_eq!(place(layout(1, 1), "Router 1", 0).1, 0);
    }

    #[test]
    fn a_hundred_thousand_sources_fill_the_default_shards_evenly() {
        let mut rows = [0u32; CountLayout::SHARDS as usize];
        for source in 0..100_000 {
            rows[place(CountLayout::DEFAULT, &format!("device-{source}"), 0).1 as usize] +=
                CountLayout::BLOCK_WINDOWS;
        }
        assert!(rows.iter().all(|rows| (60_000..100_000).contains(rows)), "{rows:?}");
    }
}
