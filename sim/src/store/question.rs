//! What is asked of the store, and what it answers.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use exactlyonce::event::{DeadLetter, Event, Row};
use exactlyonce::store::{Alert, Binding, Bound, Count, Cursor, Page, Progress, WindowKey};

use crate::faults::Point;
use crate::network::{Question, Service};

/// A call of [`exactlyonce::store::Store`].
#[derive(Clone)]
pub(crate) enum Ask {
    Binding,
    Bind(Binding),
    HoldsRows,
    ProgressOfAll,
    Progress(i32),
    WriteProgress(i32, Progress),
    Register(i32),
    Registered,
    Counts(i32, Vec<WindowKey>),
    WriteCounts(i32, Vec<(WindowKey, Count)>),
    WriteAlerts(Vec<Alert>),
    WriteRows(i32, Vec<(i64, Row)>),
    RowsBelow(i32, i64, i64, usize),
    Events(i32, i64, i64, usize),
    DeadLetters(i32, i64, i64, usize),
    Partitions,
    Alerts(Option<Cursor>, usize),
}

pub(crate) enum Answer {
    Binding(Option<Binding>),
    Bind(Bound),
    HoldsRows(bool),
    ProgressOfAll(BTreeMap<i32, Progress>),
    Progress(Option<Progress>),
    Registered(i32),
    Counts(Vec<Option<Count>>),
    RowsBelow(Vec<(i64, Row)>),
    Events(Vec<(i64, Event)>),
    DeadLetters(Vec<(i64, DeadLetter)>),
    Partitions(Vec<i32>),
    Alerts(Page<Alert>),
    Written,
}

impl Ask {
    /// The rows of a write, each a write of its own.
    pub fn rows(&self) -> Vec<Ask> {
        match self {
            Ask::WriteProgress(..) | Ask::Register(_) => vec![self.clone()],
            Ask::WriteCounts(partition, counts) => {
                counts.iter().map(|count| Ask::WriteCounts(*partition, vec![count.clone()])).collect()
            }
            Ask::WriteAlerts(alerts) => {
                alerts.iter().map(|alert| Ask::WriteAlerts(vec![alert.clone()])).collect()
            }
            Ask::WriteRows(partition, rows) => {
                rows.iter().map(|row| Ask::WriteRows(*partition, vec![row.clone()])).collect()
            }
            _ => Vec::new(),
        }
    }

    pub fn is_write(&self) -> bool {
        matches!(
            self,
            Ask::WriteProgress(..)
                | Ask::Register(_)
                | Ask::WriteCounts(..)
                | Ask::WriteAlerts(..)
                | Ask::WriteRows(..)
        )
    }

    /// The partition that a write belongs to.
    pub fn written_partition(&self) -> Option<i32> {
        match self {
            Ask::WriteProgress(partition, _)
            | Ask::Register(partition)
            | Ask::WriteCounts(partition, _)
            | Ask::WriteRows(partition, _) => Some(*partition),
            _ => None,
        }
    }
}

impl Question for Ask {
    type Answer = Answer;
    const SERVICE: Service = Service::Store;

    fn point_on_arrival(&self) -> Option<Point> {
        self.is_write().then_some(Point::WriteArrived)
    }

    fn point_before_answer(&self) -> Option<Point> {
        match self {
            Ask::Progress(_) => Some(Point::ProgressRead),
            Ask::Counts(..) => Some(Point::CountsRead),
            Ask::Register(_) => Some(Point::Registered),
            Ask::WriteCounts(..) => Some(Point::CountsWritten),
            Ask::Registered => Some(Point::RegistryRead),
            Ask::WriteAlerts(_) => Some(Point::AlertsWritten),
            Ask::WriteRows(..) => Some(Point::RowsWritten),
            Ask::WriteProgress(..) => Some(Point::ProgressWritten),
            _ => None,
        }
    }

    fn describe(answer: &Answer) -> String {
        match answer {
            Answer::Binding(binding) => format!("bound: {}", binding.is_some()),
            Answer::Bind(Bound::Now) => "bound now".to_owned(),
            Answer::Bind(Bound::Before(_)) => "bound before".to_owned(),
            Answer::HoldsRows(yes) => format!("holds rows: {yes}"),
            Answer::ProgressOfAll(all) => format!("{} rows of progress", all.len()),
            Answer::Progress(None) => "no progress".to_owned(),
            Answer::Progress(Some(progress)) => format!("next offset {}", progress.next_offset),
            Answer::Registered(partitions) => format!("{partitions} partitions registered"),
            Answer::Counts(counts) => some(counts.iter(), |f: &mut String, count| match count {
                Some(Count { count, through_offset }) => write!(f, "{count} through {through_offset}"),
                None => f.write_str("none"),
            }),
            Answer::RowsBelow(rows) => format!("{} rows", rows.len()),
            Answer::Events(rows) => format!("{} events", rows.len()),
            Answer::DeadLetters(rows) => format!("{} dead letters", rows.len()),
            Answer::Partitions(partitions) => format!("partitions {partitions:?}"),
            Answer::Alerts(page) => format!("{} alerts", page.rows.len()),
            Answer::Written => "written".to_owned(),
        }
    }
}

impl fmt::Display for Ask {
    /// Short also for calls of thousands of rows: the first ones, how many, and a digest of all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ask::Binding => f.write_str("read the binding"),
            Ask::Bind(_) => f.write_str("bind"),
            Ask::HoldsRows => f.write_str("look for rows"),
            Ask::ProgressOfAll => f.write_str("read all progress"),
            Ask::Progress(partition) => write!(f, "read progress of {partition}"),
            Ask::WriteProgress(partition, progress) => {
                write!(f, "write progress of {partition}: {}", progress.next_offset)
            }
            Ask::Register(partition) => write!(f, "register {partition}"),
            Ask::Registered => f.write_str("read the registry"),
            Ask::Counts(partition, windows) => {
                write!(f, "read counts of {partition}: {}", some(windows.iter(), window))
            }
            Ask::WriteCounts(partition, counts) => {
                let counts = some(counts.iter(), |f, (key, count)| {
                    window(f, key)?;
                    write!(f, " {} through {}", count.count, count.through_offset)
                });
                write!(f, "write counts of {partition}: {counts}")
            }
            Ask::WriteAlerts(alerts) => {
                let alerts = some(alerts.iter(), |f, alert| {
                    window(f, &WindowKey { source: alert.source.clone(), end: alert.ts })?;
                    write!(f, " {}", alert.event_count)
                });
                write!(f, "write alerts: {alerts}")
            }
            Ask::WriteRows(partition, rows) => {
                let rows = some(rows.iter(), |f, (offset, row)| match row {
                    Row::Event(event) => write!(f, "{offset} event {} at {}", event.id, event.ts),
                    Row::DeadLetter(letter) => write!(f, "{offset} {}", letter.reason),
                });
                write!(f, "write rows of {partition}: {rows}")
            }
            Ask::RowsBelow(partition, from, below, limit) => {
                write!(f, "read the last {limit} rows of {partition}: {from}..{below}")
            }
            Ask::Events(partition, from, to, _) => write!(f, "read events of {partition}: {from}..{to}"),
            Ask::DeadLetters(partition, from, to, _) => {
                write!(f, "read dead letters of {partition}: {from}..{to}")
            }
            Ask::Partitions => f.write_str("read the partitions"),
            Ask::Alerts(..) => f.write_str("read alerts"),
        }
    }
}

/// Characters of a source that the trace shows.
const SOURCE_CHARS: usize = 8;

fn window(f: &mut String, key: &WindowKey) -> fmt::Result {
    let source: String = key.source.chars().take(SOURCE_CHARS).collect();
    write!(f, "{source}@{}", key.end)
}

/// Some items of many, how many there are, and a digest of all of them.
fn some<T>(
    items: impl ExactSizeIterator<Item = T>,
    mut show: impl FnMut(&mut String, T) -> fmt::Result,
) -> String {
    const SHOWN: usize = 4;
    let length = items.len();
    let (mut shown, mut item, mut digest) = (String::new(), String::new(), 0u32);
    for (number, value) in items.enumerate() {
        item.clear();
        let _ = show(&mut item, value);
        digest = item.bytes().fold(digest, |digest, byte| digest.rotate_left(5) ^ u32::from(byte));
        digest = digest.wrapping_mul(0x9e37_79b1);
        if number < SHOWN {
            shown.push_str(if number == 0 { "" } else { ", " });
            shown.push_str(&item);
        }
    }
    match length > SHOWN {
        true => format!("{shown}, ... {length} in all ({digest:08x})"),
        false => shown,
    }
}
