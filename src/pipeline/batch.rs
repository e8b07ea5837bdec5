//! A batch, which the fold loop sends to the writers in parts.
//!
//! A batch's counts, sums and alerts are a few small requests for each window that it touched, so the more records
//! a batch covers, the fewer such requests there are. Its rows need not wait for that: they are flushed to the writers
//! as soon as there are enough for a request or two, so that memory does not grow with the batch.

use tokio::sync::mpsc;

use crate::event::Row;
use crate::store::{Count, WindowKey};

/// Rows with their offsets, in the order of the log.
pub(super) type RowBuffer = Vec<(i64, Row)>;

/// A part of a batch, as the writers receive it.
#[derive(Debug)]
pub(super) enum Part {
    /// Some of its rows.
    Rows(RowBuffer),
    /// Every window that it touched, with its count as of this batch. The last part: a batch that ends without it
    /// was abandoned.
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
    /// The batch covers the log up to here.
    pub(super) next_offset: i64,
    /// Number of records in it.
    pub(super) records: usize,
    /// Rows that were not flushed yet, and the bytes of their records.
    rows: RowBuffer,
    bytes: usize,
    writers: &'a mpsc::Sender<Batch>,
    /// Set once the first part was sent.
    parts: Option<mpsc::Sender<Part>>,
}

impl<'a> OpenBatch<'a> {
    /// A batch that covers nothing yet; it collects its first rows in `buffer`.
    pub(super) fn new(
        number: u64,
        position: i64,
        buffer: RowBuffer,
        writers: &'a mpsc::Sender<Batch>,
    ) -> Self {
        Self { number, next_offset: position, records: 0, rows: buffer, bytes: 0, writers, parts: None }
    }

    /// Adds a row, whose record had `bytes` bytes.
    pub(super) fn add(&mut self, offset: i64, row: Row, bytes: usize) {
        self.records += 1;
        self.bytes += bytes;
        self.rows.push((offset, row));
    }

    /// True if there are enough rows to flush.
    pub(super) fn has_rows_to_flush(&self, records: usize, bytes: usize) -> bool {
        self.rows.len() >= records || self.bytes >= bytes
    }

    /// Waits until the writers can accept this batch, unless they have already accepted its first part.
    pub(super) async fn writers_ready(&self) {
        if self.parts.is_none() {
            // If the writers have ended they have failed, which ends the fold loop, too.
            let _ = self.writers.reserve().await;
        }
    }

    /// Sends the rows so far to the writers and collects the next ones in `buffer`.
    pub(super) async fn flush(&mut self, buffer: RowBuffer) {
        self.bytes = 0;
        let rows = std::mem::replace(&mut self.rows, buffer);
        if !rows.is_empty() {
            self.send(Part::Rows(rows)).await;
        }
    }

    /// Sends the counts, after all rows.
    pub(super) async fn close(mut self, counts: Vec<(WindowKey, Count)>) {
        self.send(Part::Counts(counts)).await;
    }

    /// Sends a part, and before the first one the batch. Errors are ignored for the reason given in `writers_ready`.
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
