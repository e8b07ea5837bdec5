//! The test generator of the original of 2016.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use super::{CLIENTS, SOURCE, record};
use crate::broker::NewRecord;
use crate::event::{Event, Health};
use crate::random::seeded;

/// Options of the original generator: each round has one event of each of the three [`CLIENTS`], all from
/// [`SOURCE`], all Critical, with the current time and a random id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original {
    /// Rounds: events of each client.
    pub events_per_key: u64,
    /// Pause for half a second after each event of every tenth round, the first included. (The default of the
    /// original.)
    pub delay: bool,
    /// Seed of the ids.
    pub seed: u64,
}

impl Original {
    /// The original's number of events of each client.
    pub const EVENTS_PER_KEY: u64 = 200;

    /// Duration of a pause of the original.
    pub const DELAY: Duration = Duration::from_millis(500);

    /// The number of records.
    pub fn len(&self) -> u64 {
        self.events_per_key.saturating_mul(CLIENTS.len() as u64)
    }

    /// True if there are no records.
    pub fn is_empty(&self) -> bool {
        self.events_per_key == 0
    }

    /// How long to pause after the record of this index (from 0), before the next is taken.
    pub fn pause_after(&self, index: u64) -> Duration {
        match self.delay && (index / CLIENTS.len() as u64).is_multiple_of(10) {
            true => Self::DELAY,
            false => Duration::ZERO,
        }
    }

    /// The records. `clock` returns the milliseconds since the epoch and is read once for each.
    pub fn records<C: FnMut() -> i64>(self, clock: C) -> OriginalRecords<C> {
        OriginalRecords { options: self, clock, rng: seeded(self.seed), index: 0 }
    }
}

/// See [`Original::records`].
pub struct OriginalRecords<C> {
    options: Original,
    clock: C,
    rng: ChaCha8Rng,
    index: u64,
}

impl<C: FnMut() -> i64> Iterator for OriginalRecords<C> {
    type Item = NewRecord;

    fn next(&mut self) -> Option<NewRecord> {
        if self.index >= self.options.len() {
            return None;
        }
        let client = CLIENTS[(self.index % CLIENTS.len() as u64) as usize];
        self.index += 1;
        let ts = (self.clock)();
        let id = self.rng.next_u64() as i64;
        let (source, client) = (SOURCE.to_owned(), client.to_owned());
        Some(record(&Event { id, ts, source, client, health: Health::Critical }, ts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(record: &NewRecord) -> String {
        let show = |bytes: &Option<Vec<u8>>| String::from_utf8(bytes.clone().unwrap()).unwrap();
        format!("{} {} {}", record.timestamp, show(&record.key), show(&record.value))
    }

    #[test]
    fn each_round_has_one_critical_event_of_each_client_at_the_clocks_time() {
        let mut now = 1_000;
        let original = Original { events_per_key: 2, delay: false, seed: 7 };
        let records: Vec<String> = original
            .records(|| {
                now += 1;
                now
            })
            .map(|record| text(&record))
            .collect();
        insta::assert_snapshot!(records.join("\n"), @r#"
        1001 Airmiles Rewards Network {"id":-4351420130647557517,"ts":1001,"source":"My Router","client":"Airmiles Rewards Network","health":2}
        1002 Spongebob's Undersea Adventure Network {"id":8595031940432502117,"ts":1002,"source":"My Router","client":"Spongebob's Undersea Adventure Network","health":2}
        1003 Dr. Evil's Secret Comms Network {"id":104676313501531310,"ts":1003,"source":"My Router","client":"Dr. Evil's Secret Comms Network","health":2}
        1004 Airmiles Rewards Network {"id":5559363474435486144,"ts":1004,"source":"My Router","client":"Airmiles Rewards Network","health":2}
        1005 Spongebob's Undersea Adventure Network {"id":7122767213195632515,"ts":1005,"source":"My Router","client":"Spongebob's Undersea Adventure Network","health":2}
        1006 Dr. Evil's Secret Comms Network {"id":6210347921366377116,"ts":1006,"source":"My Router","client":"Dr. Evil's Secret Comms Network","health":2}
        "#);
    }

    #[test]
    fn it_pauses_for_half_a_second_after_each_event_of_every_tenth_round() {
        let original = Original { events_per_key: 200, delay: true, seed: 0 };
        let pauses: Vec<u64> =
            (0..original.len()).filter(|i| original.pause_after(*i) == Original::DELAY).take(7).collect();
        assert_eq!(pauses, [0, 1, 2, 30, 31, 32, 60]);
        let all: Duration = (0..original.len()).map(|i| original.pause_after(i)).sum();
        assert_eq!(all, Duration::from_secs(30));
        let without_delay = Original { delay: false, ..original };
        assert!((0..without_delay.len()).all(|i| without_delay.pause_after(i).is_zero()));
    }

    #[test]
    fn the_default_size_is_the_originals() {
        let original = Original { events_per_key: Original::EVENTS_PER_KEY, delay: false, seed: 0 };
        assert_eq!(original.records(|| 0).count(), 600);
        assert!(Original { events_per_key: 0, ..original }.records(|| 0).next().is_none());
    }
}
