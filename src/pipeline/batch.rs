//! A batch on its way from the fold loop to the writers, in parts.
//!
//! A batch's counts, sums and alerts are a few small requests for each window that it touched, so the more records
//! it covers, the fewer there are of them. Its rows need not wait for that: they are handed on as soon as there are
//! enough for a request or two, so that memory does not grow with the batch.

use tokio::sync::mpsc;

use crate::event::Row;
use crate::store::{Count, WindowKey};

/// Rows with their offsets, in the order of the log.
pub(super) type Rows = Vec<(i64, Row)>;

/// What the writers get of a batch.
#[derive(Debug)]
pub(super) enum Part {
    /// Some of its rows.
    Rows(Rows),
    /// Every window that it touched, with its count as of this batch. The last part: a batch that ends without
    /// was given up.
    Counts(Vec<(WindowKey, Count)>),
}

/// A batch as the writers see it.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) parts: mpsc::Receiver<Part>,
}

/// A batch as the fold loop sees it.
#[derive(Debug)]
pub(super) struct OpenBatch<'a> {
    pub(super) number: u64,
    /// It covers the log up to here.
    pub(super) next_offset: i64,
    /// Records that it has taken.
    pub(super) records: usize,
    /// Rows that were not handed on yet, and the bytes of their records.
    rows: Rows,
    bytes: usize,
    writers: &'a mpsc::Sender<Batch>,
    /// There since something was handed on.
    parts: Option<mpsc::Sender<Part>>,
}

impl<'a> OpenBatch<'a> {
    /// A batch that covers nothing yet; it gathers its first rows in `room`.
    pub(super) fn new(number: u64, position: i64, room: Rows, writers: &'a mpsc::Sender<Batch>) -> Self {
        Self { number, next_offset: position, records: 0, rows: room, bytes: 0, writers, parts: None }
    }

    /// Adds a row, whose record had so many bytes.
    pub(super) fn add(&mut self, offset: i64, row: Row, bytes: usize) {
        self.records += 1;
        self.bytes += bytes;
        self.rows.push((offset, row));
    }

    /// True if there are rows enough to hand on.
    pub(super) fn has_rows_for(&self, records: usize, bytes: usize) -> bool {
        self.rows.len() >= records || self.bytes >= bytes
    }

    /// Waits until the writers have room for this batch, if they have not taken it already.
    pub(super) async fn has_room(&self) {
        if self.parts.is_none() {
            // Writers that are gone have failed, and that ends this loop, too.
            let _ = self.writers.reserve().await;
        }
    }

    /// Hands on the rows so far and gathers the next ones in `room`.
    pub(super) async fn hand_on(&mut self, room: Rows) {
        self.bytes = 0;
        let rows = std::mem::replace(&mut self.rows, room);
        if !rows.is_empty() {
            self.send(Part::Rows(rows)).await;
        }
    }

    /// Hands on the counts, after all rows.
    pub(super) async fn close(mut self, counts: Vec<(WindowKey, Count)>) {
        self.send(Part::Counts(counts)).await;
    }

    /// Hands a part on, and the batch with its first one. Of writers that are gone, see `has_room`.
    async fn send(&mut self, part: Part) {
        if self.parts.is_none() {
            let (sender, parts) = mpsc::channel(1);
            let _ = self.writers.send(Batch { number: self.number, parts }).await;
            self.parts = Some(sender);
        }
        if let Some(parts) = &self.parts {
            let _ = parts.send(part).await;
        }
    }
}
