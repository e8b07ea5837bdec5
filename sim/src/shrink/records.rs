//! Simpler records: without their times, gaps and keys, and with simple events.

use serde::{Deserialize, Serialize};

use super::{Shrinker, Shrunk};
use crate::scenario::Scenario;
use crate::scenario::workload::{Bytes, Item};

/// An event, with its fields in the order of the workload.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    id: i64,
    ts: i64,
    source: String,
    client: String,
    health: u8,
}

/// Changes the event of a record, if it has one.
fn change_event(item: &mut Item, change: impl FnOnce(&mut Event)) {
    let Some(mut event) = event(item) else { return };
    change(&mut event);
    // Numbers and texts are always serialized.
    if let Ok(text) = serde_json::to_vec(&event) {
        item.value = Some(Bytes(text));
    }
}

fn event(item: &Item) -> Option<Event> {
    item.value.as_ref().and_then(|value| serde_json::from_slice(&value.0).ok())
}

/// Changes of one record, by its number, the most useful first.
const SIMPLER: [fn(&mut Item, usize); 10] = [
    |item, _| item.at_ms = None,
    |item, _| item.gap = 0,
    |item, _| item.key = None,
    |item, _| item.timestamp = 0,
    |item, _| item.lane = 0,
    |item, _| change_event(item, |event| event.client.clear()),
    |item, _| change_event(item, |event| event.source = "0".to_owned()),
    // Names differ in their first digits, and are filled with a letter.
    |item, _| change_event(item, |event| event.source.retain(|c| c.is_ascii_digit())),
    |item, _| change_event(item, |event| event.health = 2),
    |item, number| change_event(item, |event| event.id = number as i64),
];

impl<P: FnMut(&Shrunk) -> bool> Shrinker<'_, P> {
    pub(super) fn with_simpler_records(&mut self) {
        self.keep_with(|scenario| {
            for (number, item) in scenario.records.iter_mut().enumerate() {
                SIMPLER.iter().for_each(|simplify| simplify(item, number));
            }
        });
        let numbers: Vec<usize> = (0..self.scenario().records.len()).collect();
        for simplify in SIMPLER {
            self.simplify(&numbers, &|scenario: &mut Scenario, numbers: &[usize]| {
                for number in numbers {
                    simplify(&mut scenario.records[*number], *number);
                }
            });
        }
        self.keep_with(begin_at_zero);
    }
}

/// Moves all events, so that the earliest is at 0.
fn begin_at_zero(scenario: &mut Scenario) {
    let Some(first) = scenario.records.iter().filter_map(event).map(|event| event.ts).min() else { return };
    for item in &mut scenario.records {
        change_event(item, |event| event.ts = event.ts.saturating_sub(first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::profile::Profile;
    use crate::scenario::{Draft, World};

    #[test]
    fn simple_events_are_still_events_and_other_records_keep_their_values() {
        let mut draft = Draft::new(1, World::Simple, Profile::Standard);
        (draft.shape.records, draft.shape.malformed_per_mille) = (200, 300);
        let before = draft.without_faults().records;
        let mut after = before.clone();
        for (number, item) in after.iter_mut().enumerate() {
            SIMPLER.iter().for_each(|simplify| simplify(item, number));
        }
        let mut events = 0;
        for (number, (before, after)) in before.iter().zip(&after).enumerate() {
            assert_eq!((after.at_ms, after.gap, &after.key, after.lane), (None, 0, &None, 0));
            match event(after) {
                Some(event) => {
                    assert_eq!((event.id, event.source.as_str(), event.health), (number as i64, "0", 2));
                    events += 1;
                }
                None => assert_eq!(before.value, after.value),
            }
        }
        assert!((100..200).contains(&events), "{events}");
    }
}
