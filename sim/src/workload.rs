//! The records of a run: events, late ones, repeated ids, and everything that is no event.
//!
//! A record names a lane, not a partition: it goes to the partition that its lane has when it is appended, so
//! that partitions added during the run get records, too. A source writes to all lanes, so that its windows
//! are counted in several partitions.

use exactlyonce::broker::NewRecord;

use crate::dice::{Dice, Stream};
use crate::world::World;

/// A record to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// When, in simulated milliseconds after the workers start; `None` for before.
    pub at_ms: Option<u64>,
    /// Modulo the number of partitions of that moment, the partition.
    pub lane: u64,
    /// Offsets without a record that follow it.
    pub gap: i64,
    /// The record.
    pub record: NewRecord,
}

/// The records of a run, in the order of appending.
pub fn draw(seed: u64, world: &World) -> Vec<Item> {
    let dice = &mut Dice::new(seed, Stream::Workload);
    let at_start = world.records * world.records_at_start_per_mille / 1_000;
    let mut times: Vec<Option<u64>> =
        (0..world.records).map(|n| (n >= at_start).then(|| dice.below(world.stormy_ms))).collect();
    times.sort_unstable();
    let sources: Vec<String> = (0..world.sources).map(|n| source(n, world.source_bytes)).collect();
    let mut ts = world.first_ts_ms;
    let mut items = Vec::new();
    for (n, at_ms) in times.into_iter().enumerate() {
        ts = ts.saturating_add(dice.below(world.step_ms + 1) as i64);
        let event = EventText::draw(dice, world, n as i64, ts, &sources);
        let value = match dice.chance(world.malformed_per_mille) {
            true => malformed(dice, event),
            false => Some(event.json().into_bytes()),
        };
        let key = dice.coin().then(|| format!("client {}", dice.below(3)).into_bytes());
        let timestamp = dice.pick(&[-1, 0, 1_700_000_000_000 + n as i64]);
        let gap = if dice.chance(world.gap_per_mille) { dice.magnitude(1..=20) as i64 } else { 0 };
        let record = NewRecord { key, value, timestamp, partition: None };
        items.push(Item { at_ms, lane: dice.below(6), gap, record });
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

/// An event's fields as JSON texts, to be put together, or spoilt one by one.
struct EventText {
    id: String,
    ts: String,
    source: String,
    client: String,
    health: String,
}

impl EventText {
    fn draw(dice: &mut Dice, world: &World, n: i64, ts: i64, sources: &[String]) -> Self {
        let late = if dice.chance(world.late_per_mille) { dice.below(20) as i64 } else { 0 };
        let ts = ts.saturating_sub(world.window.size_ms.saturating_mul(late));
        let id = if dice.chance(world.repeated_id_per_mille) { dice.below(n as u64 + 1) as i64 } else { n };
        Self {
            id: id.to_string(),
            ts: ts.to_string(),
            source: format!("{:?}", dice.pick(sources)),
            client: format!("{:?}", dice.pick(&["", "Undersea", "Größe"])),
            // Mostly what counts.
            health: dice.pick(&["0", "1", "2", "2", "2", "2", "2"]).to_owned(),
        }
    }

    fn json(&self) -> String {
        let Self { id, ts, source, client, health } = self;
        format!(r#"{{"id":{id},"ts":{ts},"source":{source},"client":{client},"health":{health}}}"#)
    }
}

/// Something that is no event, one kind after the other.
fn malformed(dice: &mut Dice, good: EventText) -> Option<Vec<u8>> {
    let text = good.json();
    let spoilt = |event: EventText| Some(event.json().into_bytes());
    let other = |text: String| Some(text.into_bytes());
    match dice.below(20) {
        0 => None,
        1 => Some(Vec::new()),
        2 => Some(b"\xff\xfe".to_vec()),
        3 => other("\0".to_owned()),
        4 => other(text[..text.len() - 1].to_owned()),
        5 => other(format!("[{text}]")),
        6 => other(format!("{text} {text}")),
        7 => other(text.replace(r#""id":"#, r#""ts":1,"id":"#)),
        8 => other(text.replace(r#""client""#, r#""customer""#)),
        9 => spoilt(EventText { ts: r#""now""#.to_owned(), ..good }),
        10 => spoilt(EventText { id: "1.5".to_owned(), ..good }),
        11 => spoilt(EventText { id: "9223372036854775808".to_owned(), ..good }),
        12 => spoilt(EventText { health: "3".to_owned(), ..good }),
        13 => spoilt(EventText { health: "-1".to_owned(), ..good }),
        14 => spoilt(EventText { source: r#""""#.to_owned(), ..good }),
        15 => spoilt(EventText { source: format!("{:?}", "s".repeat(1_025)), ..good }),
        16 => spoilt(EventText { client: format!("{:?}", "c".repeat(1_025)), ..good }),
        17 => spoilt(EventText { source: r#""\ud800""#.to_owned(), ..good }),
        18 => spoilt(EventText { ts: i64::MAX.to_string(), ..good }),
        // Too large in a world with a small limit, and an event in the others.
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
            let world = World::of(seed);
            let decoder = Decoder { window: world.window, max_mutation_bytes: world.max_mutation_bytes };
            for Item { record: NewRecord { key, value, timestamp, .. }, .. } in draw(seed, &world) {
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
