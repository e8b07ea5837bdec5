//! The reads. None keeps more in memory than the requested rows and one page.

use std::collections::BTreeMap;
use std::sync::Arc;

use scylla::deserialize::row::DeserializeRow;
use scylla::response::PagingState;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlTimestamp;

use super::counts::stored_count;
use super::execute::rows_of;
use super::{Connection, Failed, RequestKind};
use crate::event::{DeadLetter, Event, Health, Row};
use crate::store::cell::DeadLetterCells;
use crate::store::{
    CountPlace, Cursor, EventLayout, Flaw, Page, Progress, RowKey, Stored, StoredCount, WindowKey,
    event_count,
};

/// Buckets that a read queries one after another before it lists the existing buckets, which reads the keys of the whole
/// table.
const NEAR_BUCKETS: usize = 8;

/// Maximum rows of a page of a scan.
const MOST_SCANNED: usize = 10_000;

/// The prefix of a cursor, by which one of another store is recognised.
const CURSOR: &[u8] = b"cassandra:";

type ProgressColumns = (i32, Option<i64>, Option<i64>);
type CountColumns = (i32, i64, i32, CqlTimestamp, Arc<str>, Option<i64>, Option<i64>);
type EventColumns = (i64, Option<i64>, Option<CqlTimestamp>, Option<String>, Option<String>, Option<i32>);
type DeadLetterColumns = (
    i64,
    Option<String>,
    Option<CqlTimestamp>,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<i64>,
    Option<i64>,
    Option<Vec<u8>>,
);

/// The end of a range at which a read starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    First,
    Last,
}

impl Connection {
    pub(super) async fn holds_rows(&self) -> Result<bool, Failed> {
        for (table, statement) in &self.statements.select_any {
            let what = || format!("check for rows in {}", self.of(table));
            let result = self.execute(RequestKind::Other, what, statement, ()).await?;
            let rows = rows_of(what, result)?;
            if rows.rows_num() > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) async fn stored_progress(&self) -> Result<BTreeMap<i32, Stored<Progress>>, Failed> {
        let what = || format!("read progress from {}", self.of("progress"));
        let statement = &self.statements.select_all_progress;
        let rows: Vec<ProgressColumns> = self.select(what, statement, (), usize::MAX).await?;
        Ok(rows.into_iter().map(|columns| (columns.0, stored_progress(columns))).collect())
    }

    pub(super) async fn progress(&self, partition: i32) -> Result<Option<Progress>, Failed> {
        let what = || format!("read progress of partition {partition} from {}", self.of("progress"));
        let statement = &self.statements.select_progress;
        let rows: Vec<ProgressColumns> = self.select(what, statement, (partition,), 1).await?;
        let progress = rows.first().map(|columns| stored_progress(*columns)).transpose();
        progress.map_err(|damaged| self.damaged(what, damaged))
    }

    pub(super) async fn rows_below(
        &self,
        partition: i32,
        from: i64,
        below: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Row)>, Failed> {
        let (events, letters) = tokio::try_join!(
            self.events_from(Side::Last, partition, from, below, limit),
            self.dead_letters_from(Side::Last, partition, from, below, limit),
        )?;
        let what = || format!("read rows of partition {partition} from offset {from} to {below}");
        let events = events.into_iter().map(|(offset, event)| Ok((offset, Row::Event(event?))));
        let letters = letters.into_iter().map(|(offset, letter)| Ok((offset, Row::DeadLetter(letter?))));
        let rows: Stored<Vec<(i64, Row)>> = events.chain(letters).collect();
        let mut rows = rows.map_err(|damaged| self.damaged(what, damaged))?;
        rows.sort_by_key(|row| row.0);
        Ok(rows.split_off(rows.len().saturating_sub(limit)))
    }

    pub(super) async fn events(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Stored<Event>)>, Failed> {
        self.events_from(Side::First, partition, from, to, limit).await
    }

    /// Events of `from..to`, at most `limit`, starting at that end.
    async fn events_from(
        &self,
        side: Side,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Stored<Event>)>, Failed> {
        let mut events = Vec::new();
        if from >= to || limit == 0 {
            return Ok(events);
        }
        let Some((first, last)) = self.layout.events.bucket(from).zip(self.layout.events.bucket(to - 1))
        else {
            self.events_of(side, partition, None, (from, to), limit, &mut events).await?;
            return Ok(events);
        };
        // Most reads cover few buckets, or find enough rows in the first.
        let mut bucket = Some(if side == Side::First { first } else { last });
        for _ in 0..NEAR_BUCKETS {
            let Some(near) = bucket.filter(|bucket| (first..=last).contains(bucket)) else {
                return Ok(events);
            };
            self.events_of(side, partition, Some(near), (from, to), limit, &mut events).await?;
            if events.len() >= limit {
                return Ok(events);
            }
            bucket = if side == Side::First { near.checked_add(1) } else { near.checked_sub(1) };
        }
        let Some(far) = bucket else { return Ok(events) };
        let rest = if side == Side::First { far..=last } else { first..=far };
        let mut buckets = self.buckets(partition).await?;
        buckets.retain(|bucket| rest.contains(bucket));
        if side == Side::Last {
            buckets.reverse();
        }
        for bucket in buckets {
            self.events_of(side, partition, Some(bucket), (from, to), limit, &mut events).await?;
            if events.len() >= limit {
                break;
            }
        }
        Ok(events)
    }

    /// Adds events of one partition of the store until there are `limit`.
    async fn events_of(
        &self,
        side: Side,
        partition: i32,
        bucket: Option<i64>,
        (from, to): (i64, i64),
        limit: usize,
        events: &mut Vec<(i64, Stored<Event>)>,
    ) -> Result<(), Failed> {
        let what = || {
            format!(
                "read events of partition {partition} from offset {from} to {to} from {}",
                self.of("events")
            )
        };
        let statement = match side {
            Side::First => &self.statements.select_events,
            Side::Last => &self.statements.select_last_events,
        };
        let limit = limit.saturating_sub(events.len());
        let most = i32::try_from(limit).unwrap_or(i32::MAX);
        let rows: Vec<EventColumns> = match bucket {
            None => self.select(what, statement, (partition, from, to, most), limit).await?,
            Some(bucket) => self.select(what, statement, (partition, bucket, from, to, most), limit).await?,
        };
        for columns in rows {
            let (offset, event) = stored_event(columns);
            let key = RowKey::Position { partition: partition.into(), offset };
            events.push((offset, event.map_err(|flaw| flaw.of("events", key))));
        }
        Ok(())
    }

    /// The buckets of a partition that have rows, ascending.
    async fn buckets(&self, partition: i32) -> Result<Vec<i64>, Failed> {
        let mut buckets = Vec::new();
        self.event_partitions(|of, bucket| {
            if of == partition {
                buckets.extend(bucket);
            }
        })
        .await?;
        buckets.sort_unstable();
        Ok(buckets)
    }

    /// The keys of `events`, page by page.
    async fn event_partitions(&self, mut found: impl FnMut(i32, Option<i64>)) -> Result<(), Failed> {
        let what = || format!("list the partitions of {}", self.of("events"));
        let statement = &self.statements.select_event_partitions;
        let mut next = Some(PagingState::start());
        while let Some(from) = next {
            match self.layout.events {
                EventLayout::Original => {
                    let mut rows: Vec<(i32,)> = Vec::new();
                    next = self.page(what, statement, (), from, &mut rows).await?;
                    rows.into_iter().for_each(|(partition,)| found(partition, None));
                }
                EventLayout::Bucketed { .. } => {
                    let mut rows: Vec<(i32, i64)> = Vec::new();
                    next = self.page(what, statement, (), from, &mut rows).await?;
                    rows.into_iter().for_each(|(partition, bucket)| found(partition, Some(bucket)));
                }
            }
        }
        Ok(())
    }

    pub(super) async fn dead_letters(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Stored<DeadLetter>)>, Failed> {
        self.dead_letters_from(Side::First, partition, from, to, limit).await
    }

    async fn dead_letters_from(
        &self,
        side: Side,
        partition: i32,
        from: i64,
        to: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Stored<DeadLetter>)>, Failed> {
        if from >= to || limit == 0 {
            return Ok(Vec::new());
        }
        let what = || {
            format!(
                "read dead letters of partition {partition} from offset {from} to {to} from {}",
                self.of("dead_letters")
            )
        };
        let statement = match side {
            Side::First => &self.statements.select_dead_letters,
            Side::Last => &self.statements.select_last_dead_letters,
        };
        let most = i32::try_from(limit).unwrap_or(i32::MAX);
        let rows: Vec<DeadLetterColumns> =
            self.select(what, statement, (partition, from, to, most), limit).await?;
        let mut letters = Vec::with_capacity(rows.len());
        for (offset, reason, timestamp, key, value, key_length, value_length, sha256) in rows {
            let letter = || {
                let cells = DeadLetterCells {
                    reason: reason.ok_or_else(|| Flaw::null("reason"))?,
                    timestamp: timestamp.ok_or_else(|| Flaw::null("timestamp"))?.0,
                    key,
                    value,
                    key_length,
                    value_length,
                    sha256,
                };
                DeadLetter::try_from(cells).map_err(|(column, what)| Flaw::new(column, what))
            };
            let key = RowKey::Position { partition: partition.into(), offset };
            letters.push((offset, letter().map_err(|flaw: Flaw| flaw.of("dead_letters", key))));
        }
        Ok(letters)
    }

    pub(super) async fn partitions(&self) -> Result<Vec<i32>, Failed> {
        let mut partitions = Vec::new();
        self.event_partitions(|partition, _| {
            // A partition has many buckets, which are not adjacent.
            if let Err(place) = partitions.binary_search(&partition) {
                partitions.insert(place, partition);
            }
        })
        .await?;
        let what = || format!("list the partitions of {}", self.of("dead_letters"));
        let statement = &self.statements.select_dead_letter_partitions;
        let rows: Vec<(i32,)> = self.select(what, statement, (), usize::MAX).await?;
        partitions.extend(rows.into_iter().map(|(partition,)| partition));
        partitions.sort_unstable();
        partitions.dedup();
        Ok(partitions)
    }

    /// The next page of a scan. It is a page of the response: it may be shorter than `limit` without being the last.
    async fn scan<R: for<'f, 'm> DeserializeRow<'f, 'm>>(
        &self,
        what: impl Fn() -> String,
        statement: &PreparedStatement,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<(Vec<R>, Option<Cursor>), Failed> {
        let from = match after.as_ref().map(|cursor| cursor.0.strip_prefix(CURSOR)) {
            None => PagingState::start(),
            Some(Some(state)) => PagingState::new_from_raw_bytes(state),
            Some(None) => return Err(Failed::refused(format!("{}: not a cursor of this store", what()))),
        };
        let page = match i32::try_from(limit.min(MOST_SCANNED)) {
            Ok(page) if page > 0 => page,
            _ => return Err(Failed::refused(format!("{}: a page of {limit} rows", what()))),
        };
        let mut statement = statement.clone();
        statement.set_page_size(page);
        let mut columns = Vec::new();
        let next = self.page(what, &statement, (), from, &mut columns).await?;
        let next = next.as_ref().and_then(|next| next.as_bytes_slice());
        Ok((columns, next.map(|state| Cursor([CURSOR, state].concat()))))
    }

    pub(super) async fn alerts(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<(WindowKey, Stored<i32>)>, Failed> {
        let what = || format!("read alerts from {}", self.of("alerts"));
        let (columns, next) = self.scan(what, &self.statements.select_alerts, after, limit).await?;
        let alert = |(source, CqlTimestamp(end), count): (Arc<str>, CqlTimestamp, Option<i32>)| {
            let key = RowKey::Window { source: source.clone(), window_end: end };
            let count = event_count(count.map(i64::from)).map_err(|flaw| flaw.of("alerts", key));
            (WindowKey { source, end }, count)
        };
        Ok(Page { rows: columns.into_iter().map(alert).collect(), next })
    }

    pub(super) async fn all_counts(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<StoredCount>, Failed> {
        let what = || format!("read counts from {}", self.of("window_counts"));
        let (columns, next) = self.scan(what, &self.statements.select_all_counts, after, limit).await?;
        let count = |(partition, block, shard, CqlTimestamp(end), source, count, through): CountColumns| {
            let window = WindowKey { source, end };
            let count = stored_count(partition, (window.end, &window.source), count, through);
            StoredCount { partition, place: Some(CountPlace { block, shard }), window, count }
        };
        Ok(Page { rows: columns.into_iter().map(count).collect(), next })
    }
}

fn stored_progress((partition, origin, next_offset): ProgressColumns) -> Stored<Progress> {
    let column = match (origin, next_offset) {
        (Some(origin), Some(next_offset)) => return Ok(Progress { origin, next_offset }),
        (None, _) => "origin",
        (_, None) => "next_offset",
    };
    Err(Flaw::null(column).of("progress", RowKey::Partition { partition: partition.into() }))
}

fn stored_event((offset, id, ts, source, client, code): EventColumns) -> (i64, Result<Event, Flaw>) {
    let event = || {
        let code = code.ok_or_else(|| Flaw::null("health"))?;
        Ok(Event {
            id: id.ok_or_else(|| Flaw::null("id"))?,
            ts: ts.ok_or_else(|| Flaw::null("ts"))?.0,
            source: source.ok_or_else(|| Flaw::null("source"))?,
            client: client.ok_or_else(|| Flaw::null("client"))?,
            health: Health::from_code(code.into())
                .ok_or_else(|| Flaw::new("health", format!("{code} is not a health")))?,
        })
    };
    (offset, event())
}
