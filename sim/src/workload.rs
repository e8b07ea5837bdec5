//! The records of a run: events, late events, repeated ids, and invalid records of every kind.
//!
//! A record has a lane instead of a partition: the lane determines the partition when the record is appended, so that
//! partitions added during the run get records, too. A source uses all lanes, so that its windows are counted in
//! several partitions.

use exactlyonce::broker::NewRecord;

use crate::config::SimConfig;
use crate::random::{Random, Stream};

/// A record to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// When, in simulated milliseconds after the workers start; `None` for before.
    pub at_ms: Option<u64>,
    /// Modulo the current number of partitions, the partition.
    pub lane: u64,
    /// Offsets without a record that follow it.
    pub gap: i64,
    /// The record.
    pub record: NewRecord,
}

/// The records of a run, in the order of appending.
pub fn draw(seed: u64, config: &SimConfig) -> Vec<Item> {
    let random = &mut Random::new(seed, Stream::Workload);
    let at_start = config.records * config.records_at_start_per_mille / 1_000;
    let mut times: Vec<Option<u64>> =
        (0..config.records).map(|n| (n >= at_start).then(|| random.below(config.chaos_ms))).collect();
    times.sort_unstable();
    let sources: Vec<String> = (0..config.sources).map(|n| source(n, config.source_bytes)).collect();
    let mut ts = config.first_ts_ms;
    let mut items = Vec::new();
    for (n, at_ms) in times.into_iter().enumerate() {
        ts = ts.saturating_add(random.below(config.step_ms + 1) as i64);
        let event = EventText::draw(random, config, n as i64, ts, &sources);
        let value = match random.chance(config.malformed_per_mille) {
            true => malformed(random, event),
            false => Some(event.json().into_bytes()),
        };
        let key = random.coin().then(|| format!("client {}", random.below(3)).into_bytes());
        let timestamp = random.pick(&[-1, 0, 1_700_000_000_000 + n as i64]);
        let gap = if random.chance(config.gap_per_mille) { random.log_uniform(1..=20) as i64 } else { 0 };
        let record = NewRecord { key, value, timestamp, partition: None };
        items.push(Item { at_ms, lane: random.below(6), gap, record });
    }
    items
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
    fn draw(random: &mut Random, config: &SimConfig, n: i64, ts: i64, sources: &[String]) -> Self {
        let late = if random.chance(config.late_per_mille) { random.below(20) as i64 } else { 0 };
        let ts = ts.saturating_sub(config.window.size_ms.saturating_mul(late));
        let id =
            if random.chance(config.repeated_id_per_mille) { random.below(n as u64 + 1) as i64 } else { n };
        Self {
            id: id.to_string(),
            ts: ts.to_string(),
            source: format!("{:?}", random.pick(sources)),
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

/// An invalid record of a random kind.
fn malformed(random: &mut Random, good: EventText) -> Option<Vec<u8>> {
    let text = good.json();
    let invalid = |event: EventText| Some(event.json().into_bytes());
    let other = |text: String| Some(text.into_bytes());
    match random.below(20) {
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
        // Too large with a small limit, otherwise an event.
        _ => other(text.replace(r#""id":"#, &format!(r#""x":{:?},"id":"#, "x".repeat(2_000)))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use exactlyonce::broker::NewRecord;
    use exactlyonce::decode::Decoder;
    use exactlyonce::event::Record;

    use super::*;

    #[test]
    fn over_the_seeds_there_are_events_and_dead_letters_of_every_kind() {
        let mut kinds = BTreeSet::new();
        for seed in 0..200 {
            let config = SimConfig::of(seed);
            let decoder = Decoder { window: config.window, max_mutation_bytes: config.max_mutation_bytes };
            for Item { record: NewRecord { key, value, timestamp, .. }, .. } in draw(seed, &config) {
                let record = Record { partition: 0, offset: 0, timestamp, key, value };
                kinds.insert(decoder.event(&record).map_or_else(|reason| reason.kind(), |_| "event"));
            }
        }
        let mut expected: BTreeSet<_> =
            exactlyonce::event::Reason::all().map(|reason| reason.kind()).collect();
        expected.insert("event");
        assert_eq!(kinds, expected);
    }
}
