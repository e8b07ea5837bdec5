//! The records of a run: events, late events, repeated ids, and invalid records of every kind.
//!
//! A record has a lane instead of a partition: the lane determines the partition when the record is appended, so that
//! partitions added during the run get records, too. A source uses all lanes, so that its windows are counted in
//! several partitions.

use std::borrow::Cow;

use exactlyonce::broker::NewRecord;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::random::{Random, Stream};
use crate::scenario::options::RunOptions;

/// Bytes of the largest key.
const LARGEST_KEY: usize = 4_096;

/// How many lanes there are.
const LANES: u64 = 6;

/// A record to be appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// When, in simulated milliseconds after the workers start; `None` for before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// Modulo the current number of partitions, the partition.
    pub lane: u64,
    /// Offsets without a record that follow it.
    pub gap: i64,
    /// The record's timestamp.
    pub timestamp: i64,
    /// The record's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Bytes>,
    /// The record's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Bytes>,
}

impl Item {
    /// Bytes of key and value.
    pub fn len(&self) -> usize {
        [&self.key, &self.value].into_iter().flatten().map(|bytes| bytes.0.len()).sum()
    }

    /// True if it has neither key nor value, or only empty ones.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The record, for a partition.
    pub fn record(&self, partition: i32) -> NewRecord {
        let bytes = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| bytes.0.clone());
        NewRecord {
            key: bytes(&self.key),
            value: bytes(&self.value),
            timestamp: self.timestamp,
            partition: Some(partition),
        }
    }
}

/// Bytes that are mostly text. Serialized, they are that text, or `hex:` and their digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

const HEX: &str = "hex:";

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = std::str::from_utf8(&self.0).ok().filter(|text| !text.starts_with(HEX));
        let text = text.map_or_else(|| Cow::Owned(format!("{HEX}{}", hex::encode(&self.0))), Cow::Borrowed);
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.strip_prefix(HEX) {
            None => Ok(Self(text.into_bytes())),
            Some(digits) => hex::decode(digits).map(Self).map_err(serde::de::Error::custom),
        }
    }
}

/// What the records of a run are like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadShape {
    /// Records that are appended in all.
    pub records: u64,
    /// Of these, how many per mille are there when the workers start.
    pub at_start_per_mille: u64,
    /// Different sources.
    pub sources: u64,
    /// Length of a source's name.
    pub source_bytes: u64,
    /// How many records per mille are invalid.
    pub malformed_per_mille: u64,
    /// How many events per mille are late by many windows.
    pub late_per_mille: u64,
    /// How many events per mille repeat an earlier id.
    pub repeated_id_per_mille: u64,
    /// How many records per mille are followed by offsets without records.
    pub gap_per_mille: u64,
    /// Event time of the first event, in milliseconds.
    pub first_ts_ms: i64,
    /// Largest step of event time from one event to the next, in milliseconds.
    pub step_ms: u64,
}

impl WorkloadShape {
    /// The records of a seed, in the order of appending.
    pub fn draw(&self, seed: u64, options: &RunOptions) -> Vec<Item> {
        let random = &mut Random::new(seed, Stream::Times);
        let at_start = self.records * self.at_start_per_mille / 1_000;
        let mut times: Vec<Option<u64>> =
            (0..self.records).map(|n| (n >= at_start).then(|| random.below(options.chaos_ms))).collect();
        times.sort_unstable();
        let sources: Vec<String> = (0..self.sources).map(|n| source(n, self.source_bytes)).collect();
        let begin_ms = lanes_begin_ms(seed, options);
        let mut ts = self.first_ts_ms;
        let mut items = Vec::new();
        for (n, at_ms) in (0..).zip(times) {
            let random = &mut Random::new(seed, Stream::Record(n));
            ts = ts.saturating_add(random.below(self.step_ms + 1) as i64);
            let event = EventText::draw(random, (self, options), n as i64, ts, &sources);
            let value = match random.chance(self.malformed_per_mille) {
                true => malformed(random, event),
                false => Some(event.json().into_bytes()),
            };
            let key = random.coin().then(|| format!("client {}", random.below(3)).into_bytes());
            let timestamp = random.pick(&[-1, 0, 1_700_000_000_000 + n as i64]);
            let gap = if random.chance(self.gap_per_mille) { random.log_uniform(1..=20) as i64 } else { 0 };
            let (key, value) = (key.map(Bytes), value.map(Bytes));
            let lane = random.below(LANES);
            // At the limit with its value, or one byte over it.
            let limit = options.pipeline.binding_spec.max_mutation_bytes;
            let key = match random.chance(20) && limit <= LARGEST_KEY {
                true => {
                    let bytes = value.as_ref().map_or(0, |value: &Bytes| value.0.len());
                    Some(Bytes(vec![b'k'; limit.saturating_sub(bytes) + random.below(2) as usize]))
                }
                false => key,
            };
            let has_begun = at_ms.unwrap_or(0) >= begin_ms[lane as usize];
            let lane = if has_begun { lane } else { 0 };
            items.push(Item { at_ms, lane, gap, timestamp, key, value });
        }
        items
    }
}

/// From when on each lane has records. In a third of the scenarios lanes begin one by one, so that partitions are registered
/// while others are being written.
fn lanes_begin_ms(seed: u64, options: &RunOptions) -> [u64; LANES as usize] {
    let random = &mut Random::new(seed, Stream::Lanes);
    let begin_late = random.below(3) == 0;
    std::array::from_fn(|lane| {
        let begins_ms = random.below(options.chaos_ms * 7 / 10 + 1);
        if begin_late && lane > 0 { begins_ms } else { 0 }
    })
}

/// In a quarter of the scenarios all records are appended in the first half of the time, so that members that have nothing to do
/// meet faults, too.
pub(super) fn end_early(seed: u64, records: &mut [Item]) {
    let random = &mut Random::new(seed, Stream::LastRecord);
    let percent = random.within(30..=60);
    if random.below(4) == 0 {
        records.iter_mut().for_each(|item| item.at_ms = item.at_ms.map(|at_ms| at_ms * percent / 100));
    }
}

fn source(n: u64, bytes: u64) -> String {
    let mut name = n.to_string();
    while (name.len() as u64) < bytes {
        name.push('r');
    }
    name
}

/// An event's fields as JSON texts, so that each can be replaced by an invalid one.
struct EventText {
    id: String,
    ts: String,
    source: String,
    client: String,
    health: String,
}

impl EventText {
    fn draw(
        random: &mut Random,
        (shape, options): (&WorkloadShape, &RunOptions),
        n: i64,
        ts: i64,
        sources: &[String],
    ) -> Self {
        let late = if random.chance(shape.late_per_mille) { random.below(20) as i64 } else { 0 };
        let ts = ts.saturating_sub(options.pipeline.binding_spec.window.size_ms.saturating_mul(late));
        let id =
            if random.chance(shape.repeated_id_per_mille) { random.below(n as u64 + 1) as i64 } else { n };
        Self {
            id: id.to_string(),
            ts: ts.to_string(),
            // Names with blanks around them are other names.
            source: match random.pick(sources) {
                source if random.chance(30) => format!("{:?}", format!(" {source} ")),
                source => format!("{source:?}"),
            },
            client: format!("{:?}", random.pick(&["", "Undersea", "Größe"])),
            // Mostly levels that count.
            health: random.pick(&["0", "1", "2", "2", "2", "2", "2"]).to_owned(),
        }
    }

    fn json(&self) -> String {
        let Self { id, ts, source, client, health } = self;
        format!(r#"{{"id":{id},"ts":{ts},"source":{source},"client":{client},"health":{health}}}"#)
    }
}

/// Each field invalid, in one of its ways, or not. The reason is that of one of them.
fn several_faults(random: &mut Random, good: EventText) -> EventText {
    let mut field = |good: String, ways: &[&str]| match random.coin() {
        true => random.pick(ways).to_owned(),
        false => good,
    };
    let too_long = format!("{:?}", "n".repeat(1_025));
    EventText {
        id: field(good.id, &["1.5", "null", r#""1""#, "9223372036854775808"]),
        ts: field(good.ts, &["1e3", "null", "-9223372036854775809"]),
        source: field(good.source, &["7", r#""""#, r#""\ud800""#, &too_long]),
        client: field(good.client, &["7", "[]", r#""\udc00""#, &too_long]),
        health: field(good.health, &["3", "true", "9223372036854775808"]),
    }
}

/// An invalid record of a random kind.
fn malformed(random: &mut Random, good: EventText) -> Option<Vec<u8>> {
    let text = good.json();
    let invalid = |event: EventText| Some(event.json().into_bytes());
    let other = |text: String| Some(text.into_bytes());
    match random.below(24) {
        0 => None,
        1 => Some(Vec::new()),
        2 => Some(b"\xff\xfe".to_vec()),
        3 => other("\0".to_owned()),
        4 => other(text[..text.len() - 1].to_owned()),
        5 => other(format!("[{text}]")),
        6 => other(format!("{text} {text}")),
        7 => other(text.replace(r#""id":"#, r#""ts":1,"id":"#)),
        8 => other(text.replace(r#""client""#, r#""customer""#)),
        9 => invalid(EventText { ts: r#""now""#.to_owned(), ..good }),
        10 => invalid(EventText { id: "1.5".to_owned(), ..good }),
        11 => invalid(EventText { id: "9223372036854775808".to_owned(), ..good }),
        12 => invalid(EventText { health: "3".to_owned(), ..good }),
        13 => invalid(EventText { health: "-1".to_owned(), ..good }),
        14 => invalid(EventText { source: r#""""#.to_owned(), ..good }),
        15 => invalid(EventText { source: format!("{:?}", "s".repeat(1_025)), ..good }),
        16 => invalid(EventText { client: format!("{:?}", "c".repeat(1_025)), ..good }),
        17 => invalid(EventText { source: r#""\ud800""#.to_owned(), ..good }),
        18 => invalid(EventText { ts: i64::MAX.to_string(), ..good }),
        // The limits are of bytes, not of characters.
        19 => invalid(EventText { source: format!("{:?}", "ö".repeat(600)), ..good }),
        20 => invalid(EventText { client: format!("{:?}", "ö".repeat(600)), ..good }),
        21 | 22 => invalid(several_faults(random, good)),
        // Too large with a small limit, otherwise an event.
        _ => other(text.replace(r#""id":"#, &format!(r#""x":{:?},"id":"#, "x".repeat(2_000)))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use exactlyonce::decode::Decoder;
    use exactlyonce::event::Record;

    use super::*;
    use crate::scenario::profile::Profile;
    use crate::scenario::{Scenario, World};

    #[test]
    fn over_the_seeds_there_are_events_and_dead_letters_of_every_kind() {
        let mut kinds = BTreeSet::new();
        for seed in 0..200 {
            let scenario = Scenario::draw(seed, World::Simple, Profile::Standard);
            let spec = &scenario.options.pipeline.binding_spec;
            let decoder = Decoder { window: spec.window, max_mutation_bytes: spec.max_mutation_bytes };
            for item in &scenario.records {
                let NewRecord { key, value, timestamp, .. } = item.record(0);
                let record = Record { partition: 0, offset: 0, timestamp, key, value };
                kinds.insert(decoder.event(&record).map_or_else(|reason| reason.kind(), |_| "event"));
            }
        }
        let mut expected: BTreeSet<_> =
            exactlyonce::event::Reason::all().map(|reason| reason.kind()).collect();
        expected.insert("event");
        assert_eq!(kinds, expected);
    }

    #[test]
    fn on_kafka_records_end_early_in_some_scenarios() {
        let ends_early = |seed: &u64| {
            let scenario = Scenario::draw(*seed, World::Full, Profile::Standard);
            let last = scenario.records.iter().filter_map(|item| item.at_ms).max();
            last.is_some_and(|last| last * 10 <= scenario.options.chaos_ms * 6)
        };
        let early = (0..200).filter(ends_early).count();
        assert!((30..80).contains(&early), "{early} of 200");
    }

    #[test]
    fn bytes_are_serialized_as_text_where_they_are_text() {
        for bytes in [&b"text"[..], b"", b"hex:00", b"\xff\x00", b"hex:"] {
            let item = Item {
                at_ms: None,
                lane: 0,
                gap: 0,
                timestamp: 0,
                key: None,
                value: Some(Bytes(bytes.to_vec())),
            };
            let text = toml::to_string(&item).expect("it is serialized");
            assert_eq!(toml::from_str::<Item>(&text).expect("it is read"), item, "{text}");
        }
    }
}
