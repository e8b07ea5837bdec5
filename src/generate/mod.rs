//! Generates records, for demonstrations and tests.
//!
//! Three sources of records, each an iterator of [`NewRecord`]: [`Original`], the test generator of the
//! original of 2016; [`Mixed`], many sources with late, repeated and malformed records; [`Lines`], your own data.
//! The same options and seed generate the same records on every machine: the randomness is ChaCha8, the
//! arithmetic is on integers, and the time comes from the caller's clock.

mod lines;
mod malformed;
mod mixed;
mod original;

pub use lines::{LineError, Lines, MAX_LINE_BYTES};
pub use malformed::{can_occur, malformed};
pub use mixed::{HealthMix, Mixed, MixedError, MixedRecords, NotAHealthMix};
pub use original::{Original, OriginalRecords};

use std::fmt;
use std::str::FromStr;

use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use thiserror::Error;

use crate::broker::NewRecord;
use crate::event::Event;
use crate::random::below;

/// The clients of the original of 2016. Each is the key of its records.
pub const CLIENTS: [&str; 3] =
    ["Airmiles Rewards Network", "Spongebob's Undersea Adventure Network", "Dr. Evil's Secret Comms Network"];

/// The source of the original of 2016.
pub const SOURCE: &str = "My Router";

/// A share of records or events: a percentage with up to four decimals, 0 to 100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    per_million: u32,
}

impl Share {
    /// All of them.
    pub const ALL: Share = Share { per_million: 1_000_000 };
    /// None of them.
    pub const NONE: Share = Share { per_million: 0 };

    /// A whole percentage; more than 100 is 100.
    pub const fn percent(percent: u32) -> Self {
        Self { per_million: if percent > 100 { 1_000_000 } else { percent * 10_000 } }
    }

    /// Parts per million.
    pub const fn per_million(self) -> u32 {
        self.per_million
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.per_million / 10_000, self.per_million % 10_000);
        match rest {
            0 => write!(f, "{whole}"),
            _ => write!(f, "{whole}.{}", format!("{rest:04}").trim_end_matches('0')),
        }
    }
}

/// The text is not a [`Share`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a percentage from 0 to 100 with at most four decimals")]
pub struct NotAShare;

impl FromStr for Share {
    type Err = NotAShare;

    fn from_str(text: &str) -> Result<Self, NotAShare> {
        let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str, most: usize| {
            (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !digits(whole, 3) || !digits(rest, 4) {
            return Err(NotAShare);
        }
        let number = |text: &str| text.parse::<u32>().map_err(|_| NotAShare);
        let per_million = number(whole)? * 10_000 + number(&format!("{rest:0<4}"))?;
        match per_million {
            0..=1_000_000 => Ok(Self { per_million }),
            _ => Err(NotAShare),
        }
    }
}

fn happens(rng: &mut ChaCha8Rng, share: Share) -> bool {
    below(rng, 1_000_000) < u64::from(share.per_million)
}

/// The event's JSON as the producers write it: fields in this order, no whitespace, health as its code.
fn json(event: &Event) -> Vec<u8> {
    #[derive(Serialize)]
    struct Wire<'a> {
        id: i64,
        ts: i64,
        source: &'a str,
        client: &'a str,
        health: i32,
    }
    let Event { id, ts, source, client, health } = event;
    // Numbers and strings can always be written as JSON, so the default is never used.
    serde_json::to_vec(&Wire { id: *id, ts: *ts, source, client, health: health.code() }).unwrap_or_default()
}

/// The event's record: its client is the key.
fn record(event: &Event, timestamp: i64) -> NewRecord {
    let key = Some(event.client.clone().into_bytes());
    NewRecord { key, value: Some(json(event)), timestamp, partition: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_read_and_written_as_a_percentage() {
        for (text, per_million) in
            [("0", 0), ("100", 1_000_000), ("0.5", 5_000), ("12.3456", 123_456), ("1.0001", 10_001)]
        {
            let share: Share = text.parse().unwrap();
            assert_eq!(share.per_million(), per_million, "{text}");
            assert_eq!(share.to_string(), text);
        }
        for text in ["", "-1", "101", "100.0001", "1.", ".5", "1e1", "0.00001", "+1", "1.+2", "1%"] {
            assert_eq!(text.parse::<Share>(), Err(NotAShare), "{text}");
        }
    }
}
