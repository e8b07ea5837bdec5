//! The history of the cells of a violation: who wrote them, which replicas were sent what, who read them, and what is true.

use std::fmt::{self, Display};

use exactlyonce::event::Row;
use exactlyonce::store::WindowKey;
use serde::{Deserialize, Serialize};

use crate::context::SimContext;
use crate::oracle::cell::{Cell, Seen, Value};
use crate::oracle::truth::Truth;
use crate::timeline::recording::short;
use crate::timeline::{ItemId, Party};

/// Characters of a value that are kept.
const VALUE: usize = 200;

/// Something that happened to a cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Touch {
    /// The place of the cell in [`Timeline::cells`](super::Timeline::cells).
    pub cell: u16,
    /// When, in simulated microseconds.
    pub at: u64,
    /// The event of the trace.
    pub event: u64,
    /// Who.
    pub lane: u16,
    /// The same with its life, if it has several.
    pub who: String,
    /// What it does with the cell.
    pub does: String,
    /// To whom a message with the cell is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u16>,
    /// The value that is written, sent or read.
    pub value: String,
    /// The timestamp of the write, as far as it is visible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// What each replica has at that moment; nothing where they cannot be looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<String>,
    /// What is true of the log at that moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truth: Option<String>,
    /// True if the value is not one that the log ever had.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_wrong: bool,
    /// The call or message that does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
}

/// A cell, in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CellKey {
    /// [`Cell::Progress`].
    Progress(i32),
    /// [`Cell::Registry`].
    Registry,
    /// [`Cell::Count`]: partition, source, and the window's end.
    Count(i32, String, i64),
    /// [`Cell::Alert`]: source, and the window's end.
    Alert(String, i64),
    /// [`Cell::Row`]: partition, offset, and whether it is a dead letter.
    Row(i32, i64, bool),
}

impl From<&Cell> for CellKey {
    fn from(cell: &Cell) -> Self {
        match cell {
            Cell::Progress(partition) => CellKey::Progress(*partition),
            Cell::Registry => CellKey::Registry,
            Cell::Count(partition, window) => {
                CellKey::Count(*partition, window.source.as_ref().to_owned(), window.end)
            }
            Cell::Alert(window) => CellKey::Alert(window.source.as_ref().to_owned(), window.end),
            Cell::Row { partition, offset, is_dead_letter } => {
                CellKey::Row(*partition, *offset, *is_dead_letter)
            }
        }
    }
}

impl From<Cell> for CellKey {
    fn from(cell: Cell) -> Self {
        Self::from(&cell)
    }
}

impl From<CellKey> for Cell {
    fn from(key: CellKey) -> Self {
        Self::from(&key)
    }
}

impl From<&CellKey> for Cell {
    fn from(key: &CellKey) -> Self {
        let window = |source: &str, end: i64| WindowKey { source: source.into(), end };
        match key {
            CellKey::Progress(partition) => Cell::Progress(*partition),
            CellKey::Registry => Cell::Registry,
            CellKey::Count(partition, source, end) => Cell::Count(*partition, window(source, *end)),
            CellKey::Alert(source, end) => Cell::Alert(window(source, *end)),
            CellKey::Row(partition, offset, is_dead_letter) => {
                Cell::Row { partition: *partition, offset: *offset, is_dead_letter: *is_dead_letter }
            }
        }
    }
}

/// What a party does with a cell.
#[derive(Clone, Copy)]
pub(crate) struct Touched<'a> {
    /// Who, with its life.
    pub who: &'a dyn Display,
    /// Its lane.
    pub party: Party,
    /// What.
    pub does: &'a str,
    /// To whom it sends the cell.
    pub to: Option<Party>,
    /// The write timestamp, where it is visible.
    pub timestamp: Option<i64>,
    /// The call or message.
    pub item: Option<ItemId>,
    /// False while the replicas must not be looked at.
    pub can_look: bool,
}

impl<'a> Touched<'a> {
    /// A party does something while the replicas can be looked at.
    pub fn new(who: &'a dyn Display, party: impl Into<Party>, does: &'a str) -> Self {
        let party = party.into();
        Self { who, party, does, to: None, timestamp: None, item: None, can_look: true }
    }
}

/// A write timestamp at the end of a line, if it is visible.
struct At(Option<i64>);

impl Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |timestamp| write!(f, ", at timestamp {timestamp}"))
    }
}

impl SimContext {
    /// Something happens to these cells, with these values.
    pub(crate) fn touch_all(&self, cells: &[(Cell, Value)], touched: Touched<'_>) {
        for (cell, value) in cells {
            self.touch(cell, Some(*value), value, touched);
        }
    }

    /// Something happens to a cell; nothing is shown unless it is watched. `shown` is the value as a text.
    pub(crate) fn touch(&self, cell: &Cell, value: Option<Value>, shown: &dyn Display, touched: Touched<'_>) {
        let Some(place) = self.watch.place(cell) else { return };
        let Touched { who, party, does, to, timestamp, item, can_look } = touched;
        self.watch.add(format_args!("{who} {does} {cell:?}: {shown}{}", At(timestamp)), true);
        if !self.timeline.is_on() {
            return;
        }
        let (mut seen, mut truth) = (Vec::new(), None);
        if let Some(oracles) = self.oracles() {
            if can_look {
                seen = oracles.see(cell).iter().map(in_words).collect();
            }
            truth = is_true(&oracles.truth(), cell);
        }
        let is_wrong = self
            .oracles()
            .is_some_and(|oracles| value.is_some_and(|value| !was_true(&oracles.truth(), cell, value)));
        self.record(|recording| {
            let (at, event) = recording.now;
            let touch = Touch {
                cell: place as u16,
                at,
                event,
                lane: recording.lane(party),
                who: who.to_string().trim_end_matches(',').to_owned(),
                does: does.trim_end_matches([',', ':']).to_owned(),
                to: to.map(|to| recording.lane(to)),
                value: short(shown.to_string(), VALUE),
                timestamp: timestamp.map(|timestamp| timestamp.to_string()),
                seen,
                truth,
                is_wrong,
                item: item.map(ItemId::place),
            };
            recording.history.push(touch);
        });
    }
}

/// What a replica has, for a reader.
pub(super) fn in_words(seen: &Seen) -> String {
    match seen {
        Seen::Down => "down".to_owned(),
        Seen::Nothing => "nothing".to_owned(),
        Seen::Value(value) => value.to_string(),
    }
}

/// What the log says of a cell so far.
fn is_true(truth: &Truth, cell: &Cell) -> Option<String> {
    Some(match cell {
        Cell::Count(partition, window) => match truth.count_below(*partition, window, i64::MAX) {
            Some(count) => Value::Count(count).to_string(),
            None => "no event".to_owned(),
        },
        Cell::Alert(window) => {
            let threshold = truth.binding().window.threshold;
            format!("{} events, threshold {threshold}", truth.total(window))
        }
        Cell::Row { partition, offset, .. } => match truth.record(*partition, *offset) {
            None => "no record".to_owned(),
            Some((_, Row::Event(_))) => "an event".to_owned(),
            Some((_, Row::DeadLetter(_))) => "a dead letter".to_owned(),
        },
        Cell::Progress(partition) => {
            let last = truth.rows(*partition, i64::MIN, i64::MAX).last();
            last.map_or("no record".to_owned(), |(offset, _)| format!("last record {offset}"))
        }
        Cell::Registry => return None,
    })
}

/// False if the log never had this value, at no offset so far.
fn was_true(truth: &Truth, cell: &Cell, value: Value) -> bool {
    match (cell, value) {
        (Cell::Count(partition, window), Value::Count(count)) => {
            truth.count_below(*partition, window, count.through_offset.saturating_add(1)) == Some(count)
        }
        (Cell::Alert(window), Value::Alert(count)) => {
            (i64::from(truth.binding().window.threshold)..=truth.total(window)).contains(&count)
        }
        (Cell::Row { partition, offset, is_dead_letter }, Value::Row) => {
            let row = truth.record(*partition, *offset);
            row.is_some_and(|(_, row)| matches!(row, Row::DeadLetter(_)) == *is_dead_letter)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use exactlyonce::store::Count;

    use super::*;
    use crate::oracle::truth::tests::{binding, event, window};

    #[test]
    fn a_cell_is_the_same_after_its_key() {
        let cells = [
            Cell::Progress(1),
            Cell::Registry,
            Cell::Count(2, window(10)),
            Cell::Alert(window(5)),
            Cell::Row { partition: 0, offset: 7, is_dead_letter: true },
        ];
        for cell in cells {
            let text = serde_json::to_string(&CellKey::from(&cell)).expect("a key is written");
            let read: CellKey = serde_json::from_str(&text).expect("a key is read");
            assert_eq!(Cell::from(&read), cell);
        }
    }

    #[test]
    fn a_value_that_the_log_never_had_is_wrong() {
        let mut truth = Truth::new(binding());
        [(3, 1), (5, 2)].into_iter().for_each(|(offset, ts)| truth.add(event(0, offset, ts)));
        let count = |count, through_offset| Value::Count(Count { count, through_offset });
        let cell = Cell::Count(0, window(10));
        assert!(was_true(&truth, &cell, count(1, 3)) && was_true(&truth, &cell, count(2, 5)));
        assert!(!was_true(&truth, &cell, count(1, 5)) && !was_true(&truth, &cell, count(3, 6)));
        assert_eq!(is_true(&truth, &cell).as_deref(), Some("2 through offset 5"));
        assert!(!was_true(&truth, &Cell::Alert(window(10)), Value::Alert(2)), "below the threshold");
        let row = |offset| Cell::Row { partition: 0, offset, is_dead_letter: false };
        assert!(was_true(&truth, &row(3), Value::Row) && !was_true(&truth, &row(4), Value::Row));
    }
}
