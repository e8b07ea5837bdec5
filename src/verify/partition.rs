//! Verifies one partition: compares its log with its rows, offset by offset.

use std::collections::BTreeMap;

use crate::broker::Broker;
use crate::event::{DeadLetter, Event, Record, Row};
use crate::store::{Store, Stored};
use crate::truth;

use super::Verification;
use super::difference::{Difference, ForeignReason, Table, altered_dead_letter, altered_event};
use super::error::VerifyError;
use super::report::{OffsetRange, PartitionReport};
use super::requests::{self, Chunk};
use super::windows::RecordState;

/// Events of one request; a row has a few KiB at most.
const EVENTS_PAGE: usize = 1_000;

/// Range of the dead letters of one request. A row may be as large as a record, so a request is for no more rows than
/// the chunk of the log requires, within this range.
const DEAD_LETTERS_PAGE: std::ops::RangeInclusive<usize> = 16..=64;

/// Rows of a partition, from the requested offset up to `to`.
struct StoredRows {
    to: i64,
    events: Vec<(i64, Stored<Event>)>,
    dead_letters: Vec<(i64, Stored<DeadLetter>)>,
}

/// The expected row of one offset, and the stored ones.
#[derive(Default)]
struct Comparison {
    expected: Option<Row>,
    event: Option<Stored<Event>>,
    dead_letter: Option<Stored<DeadLetter>>,
}

impl<B: Broker, S: Store> Verification<'_, B, S> {
    /// Judges the rows of a partition and counts its windows. Returns the end of the judged log.
    pub(super) async fn judge_partition(
        &mut self,
        partition: i32,
        progress: Option<i64>,
    ) -> Result<i64, VerifyError> {
        let origin = self.binding.origin(partition);
        let log = requests::offsets(self.broker, &self.binding.topic, partition, progress.unwrap_or(origin))
            .await?;
        let judged_to = progress.unwrap_or(origin).min(log.end).max(origin);
        let mut unverifiable: Vec<OffsetRange> = Vec::new();

        self.foreign(partition, i64::MIN, origin, ForeignReason::BelowOrigin).await?;
        let mut at = origin;
        while at < judged_to {
            match requests::chunk(self.broker, &self.binding.topic, partition, at).await? {
                Chunk::Records(fetched) => {
                    let to = fetched.next_offset.min(judged_to);
                    let records = fetched.records.into_iter().filter(|record| record.offset < to).collect();
                    self.compare(partition, at, to, records, ForeignReason::NoRecord).await?;
                    at = to;
                }
                Chunk::Deleted(start) => {
                    let to = start.min(judged_to);
                    self.report.rows_unverifiable += self.mark_gone(partition, at, to).await?;
                    match unverifiable.last_mut() {
                        Some(last) if last.to == at => last.to = to,
                        _ => unverifiable.push(OffsetRange { from: at, to }),
                    }
                    at = to;
                }
                // The log was truncated since its end was requested.
                Chunk::End => {
                    self.foreign(partition, at, judged_to, ForeignReason::PastLogEnd).await?;
                    at = judged_to;
                }
            }
        }
        self.damaged_ahead(partition, judged_to, log.end).await?;
        self.foreign_past_end(partition, log.end.max(judged_to)).await?;

        self.report.partitions.push(PartitionReport {
            partition,
            origin,
            progress,
            judged_to,
            log_start: log.start,
            log_end: log.end,
            unverifiable,
        });
        Ok(judged_to)
    }

    /// Counts the events after the judged log, which workers may have counted already.
    pub(super) async fn count_after(&mut self, partition: i32, from: i64) -> Result<(), VerifyError> {
        let end = requests::offsets(self.broker, &self.binding.topic, partition, from).await?.end;
        let mut at = from;
        while at < end {
            match requests::chunk(self.broker, &self.binding.topic, partition, at).await? {
                Chunk::Records(fetched) => {
                    for record in fetched.records.iter().filter(|record| record.offset < end) {
                        if let Row::Event(event) = truth::row(record, &self.binding) {
                            self.count(&event, (partition, record.offset), RecordState::After)?;
                        }
                    }
                    at = fetched.next_offset;
                }
                Chunk::Deleted(start) => {
                    let store = self.store;
                    let request = || format!("read progress of partition {partition}");
                    let progress = requests::store(request, || store.progress(partition)).await?;
                    if progress.is_none_or(|progress| progress.next_offset < start) {
                        self.any_gone = true;
                    }
                    self.mark_gone(partition, at, start).await?;
                    at = start;
                }
                Chunk::End => break,
            }
        }
        Ok(())
    }

    /// Counts an event in each of its windows, if its health counts.
    fn count(&mut self, event: &Event, at: (i32, i64), state: RecordState) -> Result<(), VerifyError> {
        if self.binding.window.health.contains(event.health) {
            // A stored event may have any time, even one without windows; events of the log have windows.
            for end in truth::window_ends(event.ts, &self.binding.window).unwrap_or_default() {
                self.windows.add(&event.source, end, at, state)?;
            }
        }
        Ok(())
    }

    /// Compares all records of a range of the log with the rows of that range.
    async fn compare(
        &mut self,
        partition: i32,
        from: i64,
        to: i64,
        records: Vec<Record>,
        why_foreign: ForeignReason,
    ) -> Result<(), VerifyError> {
        let mut expected = BTreeMap::new();
        let mut dead_letters = 0;
        for record in records {
            let row = truth::row(&record, &self.binding);
            match &row {
                Row::Event(event) => {
                    self.report.events += 1;
                    self.count(event, (partition, record.offset), RecordState::Judged)?;
                }
                Row::DeadLetter(_) => dead_letters += 1,
            }
            expected.insert(record.offset, row);
        }
        self.report.dead_letters += dead_letters as u64;

        let mut at = from;
        while at < to {
            let rows = self.rows(partition, at, to, dead_letters).await?;
            let later = expected.split_off(&rows.to);
            let mut comparisons: BTreeMap<i64, Comparison> = BTreeMap::new();
            for (offset, row) in expected {
                comparisons.entry(offset).or_default().expected = Some(row);
            }
            for (offset, event) in rows.events {
                comparisons.entry(offset).or_default().event = Some(event);
            }
            for (offset, dead_letter) in rows.dead_letters {
                comparisons.entry(offset).or_default().dead_letter = Some(dead_letter);
            }
            for (offset, comparison) in comparisons {
                self.judge(partition, offset, comparison, why_foreign);
            }
            expected = later;
            at = rows.to;
        }
        Ok(())
    }

    /// Reports every row of a range in which the log has no records.
    pub(super) async fn foreign(
        &mut self,
        partition: i32,
        from: i64,
        to: i64,
        why: ForeignReason,
    ) -> Result<(), VerifyError> {
        self.compare(partition, from, to, Vec::new(), why).await
    }

    /// Reports rows past the log's end. A row is written after its record, so every row that is read must be below an
    /// end that is requested afterwards.
    async fn foreign_past_end(&mut self, partition: i32, from: i64) -> Result<(), VerifyError> {
        let (mut at, mut waited) = (from, false);
        while at < i64::MAX {
            let rows = self.rows(partition, at, i64::MAX, 0).await?;
            let events = rows.events.iter().map(|row| (Table::Events, row.0));
            let dead_letters = rows.dead_letters.iter().map(|row| (Table::DeadLetters, row.0));
            let positions: Vec<(Table, i64)> = events.chain(dead_letters).collect();
            let Some(last) = positions.iter().map(|position| position.1).max() else { break };
            // The wait for a lagging end applies once, not to every page.
            let expected_end = if waited { i64::MIN } else { last.saturating_add(1) };
            let log = requests::offsets(self.broker, &self.binding.topic, partition, expected_end).await?;
            waited = true;
            for (table, offset) in positions.into_iter().filter(|position| position.1 >= log.end) {
                let why = ForeignReason::PastLogEnd;
                self.report.add(Difference::Foreign { partition, offset, table, why });
            }
            let (to, end) = (rows.to, log.end);
            for damaged in rows.events.into_iter().filter_map(|(_, row)| row.err()) {
                self.report.add(Difference::Damaged(damaged));
            }
            for damaged in rows.dead_letters.into_iter().filter_map(|(_, row)| row.err()) {
                self.report.add(Difference::Damaged(damaged));
            }
            at = to.max(end);
        }
        Ok(())
    }

    /// Reports damaged rows between progress and the log's end. The other rows there may come from a worker that is
    /// ahead of its progress, but a worker writes whole rows.
    async fn damaged_ahead(&mut self, partition: i32, from: i64, to: i64) -> Result<(), VerifyError> {
        let mut at = from;
        while at < to {
            let rows = self.rows(partition, at, to, 0).await?;
            rows.events.into_iter().for_each(|(_, row)| drop(self.undamaged(row)));
            rows.dead_letters.into_iter().for_each(|(_, row)| drop(self.undamaged(row)));
            at = rows.to;
        }
        Ok(())
    }

    /// Marks the windows of stored events whose records are gone, and returns the number of rows.
    async fn mark_gone(&mut self, partition: i32, from: i64, to: i64) -> Result<u64, VerifyError> {
        let mut count = 0;
        let mut at = from;
        while at < to {
            let rows = self.rows(partition, at, to, 0).await?;
            count += (rows.events.len() + rows.dead_letters.len()) as u64;
            for (offset, event) in &rows.events {
                match event {
                    Ok(event) => self.count(event, (partition, *offset), RecordState::Gone)?,
                    Err(damaged) => {
                        self.report.add(Difference::Damaged(damaged.clone()));
                        // Its source and time are unknown.
                        self.any_gone = true;
                    }
                }
                if rows.dead_letters.binary_search_by_key(offset, |row| row.0).is_ok() {
                    self.report.add(Difference::Duplicate { partition, offset: *offset, wrong: None });
                }
            }
            for (_, row) in rows.dead_letters {
                self.undamaged(row);
            }
            at = rows.to;
        }
        Ok(count)
    }

    /// The rows of a range, or of its start if there are many.
    async fn rows(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        dead_letters: usize,
    ) -> Result<StoredRows, VerifyError> {
        let (store, mut end) = (self.store, to);
        let limit = (dead_letters + 1).clamp(*DEAD_LETTERS_PAGE.start(), *DEAD_LETTERS_PAGE.end());
        let request = || format!("read dead letters of partition {partition} offsets {from} to {to}");
        let dead_letters = requests::store(request, || store.stored_dead_letters(partition, from, to, limit));
        let mut dead_letters = dead_letters.await?;
        if let Some((last, _)) = dead_letters.get(limit - 1) {
            end = last + 1;
        }
        let request = || format!("read events of partition {partition} offsets {from} to {end}");
        let events =
            requests::store(request, || store.stored_events(partition, from, end, EVENTS_PAGE)).await?;
        if let Some((last, _)) = events.get(EVENTS_PAGE - 1) {
            end = last + 1;
            dead_letters.retain(|row| row.0 < end);
        }
        Ok(StoredRows { to: end, events, dead_letters })
    }

    fn judge(&mut self, partition: i32, offset: i64, comparison: Comparison, why_foreign: ForeignReason) {
        let Comparison { expected, event, dead_letter } = comparison;
        let (has_event, has_letter) = (event.is_some(), dead_letter.is_some());
        // `None` if there is no row, `Some(None)` if it is damaged.
        let event = event.map(|row| self.undamaged(row));
        let dead_letter = dead_letter.map(|row| self.undamaged(row));
        let report = &mut self.report;
        let wrong = match expected {
            None => {
                let why = why_foreign;
                if has_event {
                    report.add(Difference::Foreign { partition, offset, table: Table::Events, why });
                }
                if has_letter {
                    report.add(Difference::Foreign { partition, offset, table: Table::DeadLetters, why });
                }
                return;
            }
            Some(Row::Event(expected)) => {
                match event {
                    None => {
                        let dead_letter = dead_letter.flatten().map(|letter| letter.reason.code());
                        report.add(Difference::Lost { partition, offset, dead_letter });
                    }
                    Some(Some(stored)) if stored != expected => {
                        let fields = altered_event(&stored, &expected);
                        report.add(Difference::Altered { partition, offset, table: Table::Events, fields });
                    }
                    Some(_) => {}
                }
                Table::DeadLetters
            }
            Some(Row::DeadLetter(expected)) => {
                match dead_letter {
                    None => {
                        let reason = expected.reason.code();
                        let event = has_event;
                        report.add(Difference::MissingDeadLetter { partition, offset, reason, event });
                    }
                    Some(Some(stored)) if stored != expected => {
                        let table = Table::DeadLetters;
                        let fields = altered_dead_letter(stored, expected);
                        report.add(Difference::Altered { partition, offset, table, fields });
                    }
                    Some(_) => {}
                }
                Table::Events
            }
        };
        if has_event && has_letter {
            report.add(Difference::Duplicate { partition, offset, wrong: Some(wrong) });
        }
    }
}
