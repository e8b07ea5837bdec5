//! Records of many sources, with late, repeated and malformed ones.

use std::collections::VecDeque;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use thiserror::Error;

use super::{CLIENTS, NotAShare, SOURCE, Share, can_occur, happens, malformed, record};
use crate::broker::NewRecord;
use crate::event::{Event, Health, Reason};
use crate::random::{below, seeded};

/// A producer repeats recent records: a duplicate is one of this many events before it.
const RECENT: usize = 64;

/// One of this many malformed records is oversized, if oversized ones are requested.
const HUGE_ONE_IN: u64 = 1_000;

/// Shares of the health levels among the events; their sum is 100 percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthMix {
    /// Share of Nominal.
    pub nominal: Share,
    /// Share of Warning.
    pub warning: Share,
    /// Share of Critical.
    pub critical: Share,
}

impl Default for HealthMix {
    /// 80, 10 and 10 percent.
    fn default() -> Self {
        Self { nominal: Share::percent(80), warning: Share::percent(10), critical: Share::percent(10) }
    }
}

impl HealthMix {
    fn total(&self) -> u32 {
        [self.nominal, self.warning, self.critical].iter().map(|share| share.per_million()).sum()
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> Health {
        let at = below(rng, 1_000_000);
        let nominal = u64::from(self.nominal.per_million());
        if at < nominal {
            Health::Nominal
        } else if at < nominal + u64::from(self.warning.per_million()) {
            Health::Warning
        } else {
            Health::Critical
        }
    }
}

impl std::fmt::Display for HealthMix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{},{}", self.nominal, self.warning, self.critical)
    }
}

impl std::str::FromStr for HealthMix {
    type Err = NotAHealthMix;

    /// Three percentages, separated by commas: nominal, warning, critical.
    fn from_str(text: &str) -> Result<Self, NotAHealthMix> {
        let shares: Result<Vec<Share>, NotAShare> =
            text.split(',').map(|share| share.trim().parse()).collect();
        match shares.as_deref() {
            Ok(&[nominal, warning, critical]) => {
                let mix = Self { nominal, warning, critical };
                if mix.total() == Share::ALL.per_million() { Ok(mix) } else { Err(NotAHealthMix) }
            }
            _ => Err(NotAHealthMix),
        }
    }
}

/// The error of a text that is not a [`HealthMix`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not three percentages NOMINAL,WARNING,CRITICAL that add up to 100")]
pub struct NotAHealthMix;

/// Options of the mixed records.
///
/// Sources have very unequal rates: the first is the busiest, the next two are half as busy each, the
/// next four a quarter, and so on. Any source reports for any of the three [`CLIENTS`], so its windows
/// spread over the partitions of all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mixed {
    /// Number of records, of all kinds together.
    pub records: u64,
    /// Number of sources, at least 1.
    pub sources: u32,
    /// Health of the events.
    pub health: HealthMix,
    /// Share of the events that are late: their event time is before their send time.
    pub late: Share,
    /// Maximum lateness in milliseconds, at least 1. (Uniform from 1 to this.)
    pub late_by_ms: i64,
    /// Share of the records that are duplicates: same id, same bytes.
    pub duplicates: Share,
    /// Share of the records that are invalid, uniformly over all [`Reason`]s except [`Reason::TooLarge`].
    pub malformed: Share,
    /// If set, one in a thousand malformed records is longer than this many bytes; set it to the pipeline's
    /// `max_mutation_bytes`.
    pub huge_bytes: Option<usize>,
    /// Records per second of event time, at least 1.
    pub rate: u32,
    /// Event time of the first record, in milliseconds since the epoch.
    pub start_ms: i64,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for Mixed {
    fn default() -> Self {
        Self {
            records: 10_000,
            sources: 1_000,
            health: HealthMix::default(),
            late: Share::percent(2),
            late_by_ms: 60_000,
            duplicates: Share::percent(1),
            malformed: Share::percent(1),
            huge_bytes: None,
            rate: 10_000,
            start_ms: 0,
            seed: 0,
        }
    }
}

/// What is wrong with [`Mixed`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MixedError {
    /// No sources.
    #[error("sources is 0, it must be at least 1")]
    Sources,
    /// No records per second.
    #[error("rate is 0 per second, it must be at least 1")]
    Rate,
    /// A maximum lateness of 0.
    #[error("late events are late by up to {0} ms, it must be at least 1")]
    LateBy(i64),
    /// The shares of the levels do not add up to 100 percent.
    #[error("health mix {0} does not add up to 100 percent")]
    Health(HealthMix),
    /// Duplicates and malformed records together are more than 100 percent.
    #[error(
        "{duplicates} percent duplicates and {malformed} percent malformed records are more than 100 percent"
    )]
    Shares {
        /// As given.
        duplicates: Share,
        /// As given.
        malformed: Share,
    },
    /// The last record's time is out of range (i64).
    #[error(
        "{records} records at {rate} per second from {start_ms} ms on exceed the range of timestamps (i64)"
    )]
    Time {
        /// As given.
        records: u64,
        /// As given.
        rate: u32,
        /// As given.
        start_ms: i64,
    },
}

impl Mixed {
    /// Checks the ranges of the fields.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn check(&self) -> Result<(), MixedError> {
        if self.sources == 0 {
            return Err(MixedError::Sources);
        }
        if self.rate == 0 {
            return Err(MixedError::Rate);
        }
        if self.late_by_ms < 1 {
            return Err(MixedError::LateBy(self.late_by_ms));
        }
        if self.health.total() != Share::ALL.per_million() {
            return Err(MixedError::Health(self.health));
        }
        let (duplicates, malformed) = (self.duplicates, self.malformed);
        if duplicates.per_million() + malformed.per_million() > Share::ALL.per_million() {
            return Err(MixedError::Shares { duplicates, malformed });
        }
        let (records, rate, start_ms) = (self.records, self.rate, self.start_ms);
        if i64::try_from(self.time(records)).is_err() {
            return Err(MixedError::Time { records, rate, start_ms });
        }
        Ok(())
    }

    /// Milliseconds of event time from the first record to the end; at least 1 record a second.
    pub fn duration_ms(&self) -> u64 {
        let ms = u128::from(self.records) * 1_000 / u128::from(self.rate.max(1));
        u64::try_from(ms).unwrap_or(u64::MAX)
    }

    /// The send time of the record with this index.
    fn time(&self, index: u64) -> i128 {
        i128::from(self.start_ms) + i128::from(index) * 1_000 / i128::from(self.rate)
    }

    /// The records. The timestamp of each is its send time, which never decreases.
    ///
    /// # Errors
    /// As [`Mixed::check`].
    pub fn records(self) -> Result<MixedRecords, MixedError> {
        self.check()?;
        let reasons = Reason::all().filter(|r| can_occur(*r) && *r != Reason::TooLarge).collect();
        Ok(MixedRecords { rng: seeded(self.seed), options: self, reasons, recent: VecDeque::new(), index: 0 })
    }
}

/// See [`Mixed::records`].
pub struct MixedRecords {
    options: Mixed,
    rng: ChaCha8Rng,
    reasons: Vec<Reason>,
    recent: VecDeque<Event>,
    index: u64,
}

impl MixedRecords {
    fn event(&mut self, now: i64) -> Event {
        let rng = &mut self.rng;
        let client = CLIENTS[below(rng, CLIENTS.len() as u64) as usize].to_owned();
        let source = source_name(skewed(rng, self.options.sources));
        let health = self.options.health.draw(rng);
        let late = match happens(rng, self.options.late) {
            true => 1 + below(rng, self.options.late_by_ms.unsigned_abs()) as i64,
            false => 0,
        };
        Event { id: rng.next_u64() as i64, ts: now.saturating_sub(late), source, client, health }
    }

    fn malformed(&mut self, now: i64) -> NewRecord {
        let event = self.event(now);
        let huge = self.options.huge_bytes.filter(|_| below(&mut self.rng, HUGE_ONE_IN) == 0);
        let reason = match huge {
            Some(_) => Reason::TooLarge,
            None => self.reasons[below(&mut self.rng, self.reasons.len() as u64) as usize],
        };
        let value = malformed(reason, &event, huge.unwrap_or(0), &mut self.rng);
        NewRecord { value, ..record(&event, now) }
    }
}

impl Iterator for MixedRecords {
    type Item = NewRecord;

    fn next(&mut self) -> Option<NewRecord> {
        if self.index >= self.options.records {
            return None;
        }
        // The options were checked for the last record, too.
        let now = self.options.time(self.index) as i64;
        self.index += 1;
        let kind = below(&mut self.rng, 1_000_000);
        let malformed = u64::from(self.options.malformed.per_million());
        let repeated = malformed + u64::from(self.options.duplicates.per_million());
        if kind < malformed {
            return Some(self.malformed(now));
        }
        if kind < repeated && !self.recent.is_empty() {
            let which = below(&mut self.rng, self.recent.len() as u64) as usize;
            return Some(record(&self.recent[which], now));
        }
        let event = self.event(now);
        let record = record(&event, now);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(event);
        Some(record)
    }
}

/// A log-uniform number below `limit`: the number of binary digits is uniform, and so is the number among those with that
/// many digits.
fn skewed(rng: &mut ChaCha8Rng, limit: u32) -> u32 {
    let limit = u64::from(limit.max(1));
    let octaves = u64::from(limit.ilog2()) + 1;
    let first = (1 << below(rng, octaves)) - 1;
    let past = (2 * first + 1).min(limit);
    // Below `limit`, which is a u32.
    (first + below(rng, past - first)) as u32
}

fn source_name(number: u32) -> String {
    match number {
        0 => SOURCE.to_owned(),
        number => format!("Router {number}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use sha2::Digest;

    use super::*;
    use crate::decode::Decoder;
    use crate::event::{Record, Row};
    use crate::window::WindowSpec;

    fn rows(options: Mixed) -> Vec<(i64, Row)> {
        let decoder = Decoder { window: WindowSpec::default(), max_mutation_bytes: 4_096 };
        let row = |NewRecord { key, value, timestamp, .. }| {
            (timestamp, decoder.row(Record { partition: 0, offset: 0, timestamp, key, value }))
        };
        options.records().unwrap().map(row).collect()
    }

    fn events(options: Mixed) -> Vec<(i64, Event)> {
        let event = |(sent, row)| match row {
            Row::Event(event) => Some((sent, event)),
            Row::DeadLetter(_) => None,
        };
        rows(options).into_iter().filter_map(event).collect()
    }

    /// True if `count` of `total` is this percentage, plus or minus a tenth of it.
    fn about(count: usize, total: usize, percent: usize) -> bool {
        count.abs_diff(total * percent / 100) * 1_000 <= total * percent
    }

    #[test]
    fn a_seed_determines_the_records_and_another_seed_makes_different_ones() {
        let options = Mixed { records: 2_000, ..Mixed::default() };
        let text = |r: NewRecord| format!("{} {}", r.timestamp, r.value.unwrap_or_default().escape_ascii());
        let records: Vec<String> = options.clone().records().unwrap().map(text).collect();
        let all = sha2::Sha256::digest(records.join("\n"));
        insta::assert_snapshot!(format!("{}\n{:x?}", records[..3].join("\n"), &all[..]), @r#"
        0 {\"id\":121745463539026481,\"ts\":0,\"source\":\"Router 3\",\"client\":\"Spongebob\'s Undersea Adventure Network\",\"health\":0}
        0 {\"id\":7289787979372891374,\"ts\":0,\"source\":\"Router 105\",\"client\":\"Airmiles Rewards Network\",\"health\":0}
        0 {\"id\":7276931580985129301,\"ts\":0,\"source\":\"Router 126\",\"client\":\"Spongebob\'s Undersea Adventure Network\",\"health\":0}
        [e, 93, ff, 20, 2c, 8f, 39, 8c, 9f, 60, fb, cb, b6, f6, b8, bc, f6, fe, f6, a3, db, 94, b2, da, d5, f5, 93, aa, 6, c4, 7d, 26]
        "#);
        let other = Mixed { seed: 1, ..options.clone() };
        assert_ne!(options.records().unwrap().next(), other.records().unwrap().next());
    }

    #[test]
    fn the_shares_are_the_requested_ones() {
        let options = Mixed {
            records: 50_000,
            malformed: Share::percent(5),
            duplicates: Share::percent(4),
            late: Share::percent(10),
            late_by_ms: 1_000,
            ..Mixed::default()
        };
        let events = events(options);
        assert!(about(50_000 - events.len(), 50_000, 5), "{} dead letters", 50_000 - events.len());
        let ids: BTreeSet<i64> = events.iter().map(|(_, event)| event.id).collect();
        assert!(about(events.len() - ids.len(), 50_000, 4), "{} duplicates", events.len() - ids.len());
        for (health, percent) in [(Health::Nominal, 80), (Health::Warning, 10), (Health::Critical, 10)] {
            let count = events.iter().filter(|(_, event)| event.health == health).count();
            assert!(about(count, events.len(), percent), "{count} {health:?}");
        }
        // Duplicates are sent up to a few milliseconds after their event time.
        let late = events.iter().filter(|(sent, event)| sent - event.ts > 20).count();
        assert!(about(late, events.len(), 10), "{late} late");
        assert!(events.iter().all(|(sent, event)| (0..=1_100).contains(&(sent - event.ts))));
    }

    #[test]
    fn every_kind_of_malformed_record_occurs_and_huge_ones_only_if_requested() {
        let kinds = |options: Mixed| {
            let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
            for (_, row) in rows(options) {
                if let Row::DeadLetter(letter) = row {
                    *kinds.entry(letter.reason.kind()).or_default() += 1;
                }
            }
            kinds
        };
        let options =
            Mixed { records: 10_000, malformed: Share::ALL, duplicates: Share::NONE, ..Mixed::default() };
        let huge = kinds(Mixed { huge_bytes: Some(4_096), ..options.clone() });
        let all: BTreeSet<&str> = Reason::all().map(Reason::kind).collect();
        assert_eq!(huge.keys().copied().collect::<BTreeSet<_>>(), all);
        assert!((1..=30).contains(&huge["too_large"]), "{huge:?}");
        assert!(!kinds(options).contains_key("too_large"));
    }

    #[test]
    fn sources_have_unequal_rates_and_windows_lie_on_both_sides_of_the_threshold() {
        let events = events(Mixed { records: 100_000, ..Mixed::default() });
        let mut sources: BTreeMap<&str, usize> = BTreeMap::new();
        let mut windows: BTreeMap<(&str, i64), i32> = BTreeMap::new();
        let spec = WindowSpec::default();
        for (_, event) in &events {
            *sources.entry(&event.source).or_default() += 1;
            if spec.health.contains(event.health) {
                for end in spec.ends(event.ts).unwrap() {
                    *windows.entry((&event.source, end)).or_default() += 1;
                }
            }
        }
        assert!(sources.len() > 990, "{} sources", sources.len());
        assert!(about(sources["My Router"], events.len(), 10), "{}", sources["My Router"]);
        assert!(about(sources["Router 1"], events.len(), 5), "{}", sources["Router 1"]);
        let over = windows.values().filter(|count| **count >= spec.threshold).count();
        assert!(over > 50 && windows.len() - over > 50, "{over} of {} windows", windows.len());
    }

    #[test]
    fn event_time_advances_by_the_rate() {
        let options = Mixed { records: 1_000, rate: 100, start_ms: -5_000, ..Mixed::default() };
        assert_eq!(options.duration_ms(), 10_000);
        let sent: Vec<i64> = options.records().unwrap().map(|record| record.timestamp).collect();
        assert_eq!((sent[0], sent[1], sent[999]), (-5_000, -4_990, 4_990));
        assert!(sent.is_sorted());
    }

    #[test]
    fn few_sources_all_have_events_and_a_single_one_is_allowed() {
        let names = |sources| -> BTreeSet<String> {
            let events = events(Mixed { sources, records: 1_000, ..Mixed::default() });
            events.into_iter().map(|(_, event)| event.source).collect()
        };
        assert_eq!(names(1), [SOURCE.to_owned()].into());
        assert_eq!(names(3), ["My Router", "Router 1", "Router 2"].map(str::to_owned).into());
        assert_eq!(names(4).len(), 4);
    }

    #[test]
    fn bad_options_are_refused() {
        let good = Mixed::default();
        assert_eq!(good.check(), Ok(()));
        assert_eq!(Mixed { sources: 0, ..good.clone() }.check(), Err(MixedError::Sources));
        assert_eq!(Mixed { rate: 0, ..good.clone() }.check(), Err(MixedError::Rate));
        assert_eq!(Mixed { late_by_ms: 0, ..good.clone() }.check(), Err(MixedError::LateBy(0)));
        let health = HealthMix { nominal: Share::ALL, ..HealthMix::default() };
        assert_eq!(Mixed { health, ..good.clone() }.check(), Err(MixedError::Health(health)));
        let (duplicates, malformed) = (Share::percent(51), Share::percent(50));
        let both = Mixed { duplicates, malformed, ..good.clone() };
        assert_eq!(both.check(), Err(MixedError::Shares { duplicates, malformed }));
        let late = Mixed { start_ms: i64::MAX, ..good };
        assert!(matches!(late.check(), Err(MixedError::Time { .. })));
    }

    #[test]
    fn a_health_mix_is_read_and_written_as_three_percentages() {
        let mix: HealthMix = "70, 20.5,9.5".parse().unwrap();
        assert_eq!(mix.to_string(), "70,20.5,9.5");
        for text in ["", "100", "50,50", "50,50,1", "33,33,33", "25,25,25,25", "a,b,c"] {
            assert_eq!(text.parse::<HealthMix>(), Err(NotAHealthMix), "{text}");
        }
    }
}
