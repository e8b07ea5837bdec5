//! Workers: the partitions that they have, what is delivered to them, and their calls to the tables.

use std::sync::Arc;

use exactlyonce::error::chain;
use exactlyonce::event::{Record, Row};
use exactlyonce::store::{self, Alert, Count, WindowKey};

use crate::context::SimContext;
use crate::parties::Caller;
use crate::timeline::recording::Open;
use crate::timeline::{ItemId, Kind, Outcome, Party, Recording};

/// Lines of a detail that are kept.
const LINES: usize = 12;

/// What a call is about.
#[derive(Debug, Default)]
pub(crate) struct Described {
    text: String,
    partitions: Vec<i32>,
    sources: Vec<String>,
    lines: Vec<String>,
}

impl Described {
    /// A call with this short text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// A read of something of each window.
    pub fn of_windows(does: &str, what: &str, windows: &[WindowKey]) -> Self {
        let text = match windows {
            [window] => format!("{does} {what} of window {}", window.end),
            _ => format!("{does} {} {what}s", windows.len()),
        };
        Self::new(text).windows(windows)
    }

    /// Of this partition.
    pub fn of(mut self, partition: i32) -> Self {
        self.partitions = vec![partition];
        self
    }

    /// Of these partitions.
    pub fn of_all(mut self, partitions: &[i32]) -> Self {
        self.partitions = partitions.to_vec();
        self
    }

    /// With what it writes or reads, line by line.
    pub fn with(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.lines = lines.into_iter().collect();
        self
    }

    /// About these windows.
    fn windows<'a>(mut self, windows: impl IntoIterator<Item = &'a WindowKey>) -> Self {
        for window in windows {
            self.sources.push(window.source.to_string());
        }
        self
    }

    /// A write of counts.
    pub fn counts(partition: i32, counts: &[(WindowKey, Count)]) -> Self {
        let line = |(window, count): &(WindowKey, Count)| {
            let Count { count, through_offset } = count;
            format!("{:?} at {}: {count} through offset {through_offset}", window.source, window.end)
        };
        let text = match counts {
            [(window, count)] => format!("count {} of window {}", count.count, window.end),
            _ => format!("{} counts", counts.len()),
        };
        let windows = counts.iter().map(|(window, _)| window);
        Self::new(text).of(partition).windows(windows).with(counts.iter().map(line))
    }

    /// A write of rows.
    pub fn rows(partition: i32, rows: &[(i64, Row)]) -> Self {
        let line = |(offset, row): &(i64, Row)| match row {
            Row::Event(event) => {
                format!("{offset}: event {} of {:?} at {}", event.id, event.source, event.ts)
            }
            Row::DeadLetter(letter) => format!("{offset}: dead letter, {}", letter.reason),
        };
        let text = match rows {
            [(offset, _)] => format!("row {offset}"),
            [(first, _), .., (last, _)] => format!("rows {first}..={last}"),
            [] => "no rows".to_owned(),
        };
        let mut described = Self::new(text).of(partition).with(rows.iter().map(line));
        described.sources = rows
            .iter()
            .filter_map(|(_, row)| match row {
                Row::Event(event) => Some(event.source.clone()),
                Row::DeadLetter(_) => None,
            })
            .collect();
        described
    }

    /// A write of alerts.
    pub fn alerts(alerts: &[Alert]) -> Self {
        let line = |alert: &Alert| format!("{:?} at {}: {}", alert.source, alert.ts, alert.event_count);
        let text = match alerts {
            [alert] => format!("alert {} of window {}", alert.event_count, alert.ts),
            _ => format!("{} alerts", alerts.len()),
        };
        let mut described = Self::new(text).with(alerts.iter().map(line));
        described.sources = alerts.iter().map(|alert| alert.source.to_string()).collect();
        described
    }
}

/// The first of many lines, and how many more there are.
fn joined(lines: Vec<String>) -> String {
    let more = lines.len().saturating_sub(LINES);
    let mut text = lines.into_iter().take(LINES).collect::<Vec<_>>().join("\n");
    if more > 0 {
        text += &format!("\n... {more} more");
    }
    text
}

/// A call that has begun, if it is recorded. One that is dropped before it ends was abandoned.
pub(crate) struct Call(Option<(Arc<SimContext>, ItemId)>);

impl Call {
    /// A worker begins a call.
    pub fn begin(
        context: &Arc<SimContext>,
        caller: Caller,
        kind: Kind,
        what: impl FnOnce() -> Described,
    ) -> Self {
        let item = context.record(|recording| recording.call_begins(caller, kind, what()));
        Self(item.map(|item| (context.clone(), item)))
    }

    /// Its item.
    pub fn item(&self) -> Option<ItemId> {
        self.0.as_ref().map(|(_, item)| *item)
    }

    /// It ends; `read` is what it has read, line by line.
    pub fn end<T>(&self, outcome: &store::Outcome<T>, read: impl FnOnce(&T) -> Vec<String>) {
        let Some((context, item)) = &self.0 else { return };
        let (outcome, name, lines) = match outcome {
            store::Outcome::Acknowledged(value) => (Outcome::Acknowledged, "read", read(value)),
            store::Outcome::Unknown(error) => (Outcome::Unknown, "error", vec![chain(error)]),
            store::Outcome::Refused(error) => (Outcome::Refused, "error", vec![chain(error)]),
        };
        context.record(|recording| recording.call_ends(*item, outcome, name, lines));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some((context, item)) = &self.0 {
            context.record(|recording| recording.end(*item, Outcome::Interrupted));
        }
    }
}

impl Recording {
    /// A worker begins a call.
    pub fn call_begins(&mut self, caller: Caller, kind: Kind, what: Described) -> ItemId {
        let Described { text, partitions, sources, lines } = what;
        let lane = self.lane(caller);
        let mut item = self.item(kind, Some(lane), text);
        item.partitions = partitions;
        self.set_sources(&mut item, sources.iter().map(String::as_str));
        item.details.push(("worker".to_owned(), caller.to_string()));
        if !lines.is_empty() {
            let name = if kind == Kind::Write { "writes" } else { "reads" };
            item.details.push((name.to_owned(), joined(lines)));
        }
        self.add(item)
    }

    /// It learns the outcome.
    pub fn call_ends(&mut self, id: ItemId, outcome: Outcome, name: &str, lines: Vec<String>) {
        if !lines.is_empty() {
            let detail = (name.to_owned(), joined(lines));
            self.get(id).details.push(detail);
        }
        self.end(id, outcome);
    }

    /// Records are delivered to a worker.
    pub fn delivered(&mut self, caller: Caller, records: &[Record]) {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return };
        let lane = self.lane(caller);
        let text = match first.offset == last.offset {
            true => format!("record {}", first.offset),
            false => format!("records {}..={}", first.offset, last.offset),
        };
        let mut item = self.item(Kind::Delivery, Some(lane), text);
        item.partitions = vec![first.partition];
        item.details.push(("records".to_owned(), records.len().to_string()));
        self.add(item);
    }

    /// A worker starts to process a partition.
    pub fn assignment_starts(&mut self, caller: Caller, partition: i32, offset: i64) {
        let lane = self.lane(caller);
        let mut item =
            self.item(Kind::Assignment, Some(lane), format!("partition {partition} from {offset}"));
        item.partitions = vec![partition];
        item.details.push(("worker".to_owned(), caller.to_string()));
        self.end_open(Open::Assignment(lane, partition), Outcome::None);
        self.begin(Open::Assignment(lane, partition), item);
    }

    /// A worker no longer has a partition.
    pub fn assignment_ends(&mut self, caller: Caller, partition: i32, why: &str) {
        let lane = self.lane(caller);
        if let Some(id) = self.end_open(Open::Assignment(lane, partition), Outcome::None) {
            self.detail(id, "ends", why);
        }
    }

    /// A worker hears from the group about partitions.
    pub fn hears(&mut self, caller: Caller, what: &str, partitions: &[i32]) {
        let lane = self.lane(caller);
        let mut item = self.item(Kind::Moment, Some(lane), format!("{what} {partitions:?}"));
        item.partitions = partitions.to_vec();
        self.add(item);
    }

    /// A record is appended to the log.
    pub fn appended(&mut self, log: Party, partition: i32, offset: i64, source: Option<&str>, text: String) {
        let lane = self.lane(log);
        let mut item =
            self.item(Kind::Append, Some(lane), format!("record {offset} of partition {partition}"));
        item.partitions = vec![partition];
        self.set_sources(&mut item, source);
        item.details.push(("value".to_owned(), super::recording::short(text, 200)));
        self.add(item);
    }
}
