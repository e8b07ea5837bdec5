//! Requests to the store, and its responses.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use exactlyonce::event::{DeadLetter, Event, Row};
use exactlyonce::store::{
    Alert, Binding, Bound, Count, Cursor, Page, Progress, Stored, StoredCount, WindowKey,
};

use crate::network::Request;
use crate::parties::Service;

/// A call of [`exactlyonce::store::Store`].
pub(crate) enum StoreRequest {
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
    AllCounts(Option<Cursor>, usize),
}

pub(crate) enum StoreResponse {
    Binding(Option<Binding>),
    Bind(Bound),
    HoldsRows(bool),
    ProgressOfAll(BTreeMap<i32, Stored<Progress>>),
    Progress(Option<Progress>),
    Registered(i32),
    Counts(Vec<Option<Count>>),
    RowsBelow(Vec<(i64, Row)>),
    Events(Vec<(i64, Stored<Event>)>),
    DeadLetters(Vec<(i64, Stored<DeadLetter>)>),
    Partitions(Vec<i32>),
    Alerts(Page<(WindowKey, Stored<i32>)>),
    AllCounts(Page<StoredCount>),
    Written,
}

impl StoreRequest {
    /// Number of rows of a write.
    pub fn rows(&self) -> usize {
        match self {
            StoreRequest::WriteProgress(..) | StoreRequest::Register(_) => 1,
            StoreRequest::WriteCounts(_, counts) => counts.len(),
            StoreRequest::WriteAlerts(alerts) => alerts.len(),
            StoreRequest::WriteRows(_, rows) => rows.len(),
            _ => 0,
        }
    }

    pub fn is_write(&self) -> bool {
        matches!(
            self,
            StoreRequest::WriteProgress(..)
                | StoreRequest::Register(_)
                | StoreRequest::WriteCounts(..)
                | StoreRequest::WriteAlerts(..)
                | StoreRequest::WriteRows(..)
        )
    }
}

impl Request for StoreRequest {
    type Response = StoreResponse;
    const SERVICE: Service = Service::Store;

    fn is_write(&self) -> bool {
        StoreRequest::is_write(self)
    }

    fn partition(&self) -> Option<i32> {
        match self {
            StoreRequest::Progress(partition)
            | StoreRequest::WriteProgress(partition, _)
            | StoreRequest::Register(partition)
            | StoreRequest::Counts(partition, _)
            | StoreRequest::WriteCounts(partition, _)
            | StoreRequest::WriteRows(partition, _)
            | StoreRequest::RowsBelow(partition, ..) => Some(*partition),
            _ => None,
        }
    }

    fn describe(response: &StoreResponse) -> String {
        match response {
            StoreResponse::Binding(binding) => format!("bound: {}", binding.is_some()),
            StoreResponse::Bind(Bound::Now) => "bound now".to_owned(),
            StoreResponse::Bind(Bound::Before(_)) => "bound before".to_owned(),
            StoreResponse::HoldsRows(yes) => format!("holds rows: {yes}"),
            StoreResponse::ProgressOfAll(all) => format!("{} rows of progress", all.len()),
            StoreResponse::Progress(None) => "no progress".to_owned(),
            StoreResponse::Progress(Some(progress)) => format!("next offset {}", progress.next_offset),
            StoreResponse::Registered(partitions) => format!("{partitions} partitions registered"),
            StoreResponse::Counts(counts) => some(counts.iter(), |f: &mut String, count| match count {
                Some(Count { count, through_offset }) => write!(f, "{count} through {through_offset}"),
                None => f.write_str("none"),
            }),
            StoreResponse::RowsBelow(rows) => format!("{} rows", rows.len()),
            StoreResponse::Events(rows) => format!("{} events", rows.len()),
            StoreResponse::DeadLetters(rows) => format!("{} dead letters", rows.len()),
            StoreResponse::Partitions(partitions) => format!("partitions {partitions:?}"),
            StoreResponse::Alerts(page) => format!("{} alerts", page.rows.len()),
            StoreResponse::AllCounts(page) => format!("{} counts", page.rows.len()),
            StoreResponse::Written => "written".to_owned(),
        }
    }
}

impl fmt::Display for StoreRequest {
    /// Short also for calls of thousands of rows: the first ones, how many, and a digest of all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreRequest::Binding => f.write_str("read the binding"),
            StoreRequest::Bind(_) => f.write_str("bind"),
            StoreRequest::HoldsRows => f.write_str("check for rows"),
            StoreRequest::ProgressOfAll => f.write_str("read all progress"),
            StoreRequest::Progress(partition) => write!(f, "read progress of {partition}"),
            StoreRequest::WriteProgress(partition, progress) => {
                write!(f, "write progress of {partition}: {}", progress.next_offset)
            }
            StoreRequest::Register(partition) => write!(f, "register {partition}"),
            StoreRequest::Registered => f.write_str("read the registry"),
            StoreRequest::Counts(partition, windows) => {
                write!(f, "read counts of {partition}: {}", some(windows.iter(), window))
            }
            StoreRequest::WriteCounts(partition, counts) => {
                let counts = some(counts.iter(), |f, (key, count)| {
                    window(f, key)?;
                    write!(f, " {} through {}", count.count, count.through_offset)
                });
                write!(f, "write counts of {partition}: {counts}")
            }
            StoreRequest::WriteAlerts(alerts) => {
                let alerts = some(alerts.iter(), |f, alert| {
                    window(f, &WindowKey { source: alert.source.clone(), end: alert.ts })?;
                    write!(f, " {}", alert.event_count)
                });
                write!(f, "write alerts: {alerts}")
            }
            StoreRequest::WriteRows(partition, rows) => {
                let rows = some(rows.iter(), |f, (offset, row)| match row {
                    Row::Event(event) => write!(f, "{offset} event {} at {}", event.id, event.ts),
                    Row::DeadLetter(letter) => write!(f, "{offset} {}", letter.reason),
                });
                write!(f, "write rows of {partition}: {rows}")
            }
            StoreRequest::RowsBelow(partition, from, below, limit) => {
                write!(f, "read the last {limit} rows of {partition}: {from}..{below}")
            }
            StoreRequest::Events(partition, from, to, _) => {
                write!(f, "read events of {partition}: {from}..{to}")
            }
            StoreRequest::DeadLetters(partition, from, to, _) => {
                write!(f, "read dead letters of {partition}: {from}..{to}")
            }
            StoreRequest::Partitions => f.write_str("read the partitions"),
            StoreRequest::Alerts(..) => f.write_str("read alerts"),
            StoreRequest::AllCounts(..) => f.write_str("read all counts"),
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
