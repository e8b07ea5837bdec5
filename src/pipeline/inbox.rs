//! The inbox of an assignment: a queue of delivered records, bounded in bytes.
//!
//! The worker never waits for an assignment: it must keep polling to stay in its group. Instead a partition
//! whose inbox is full is paused at the consumer, and resumed when the inbox is half empty.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::event::Record;

/// A part of the log as the consumer delivered it.
#[derive(Debug)]
pub(super) enum Chunk {
    /// Records, and the offset at which the consumer continues.
    Records { records: Vec<Record>, next_offset: i64 },
    /// The end of the partition.
    End { offset: i64 },
}

#[derive(Debug, Default)]
struct Fill {
    bytes: AtomicUsize,
    paused: AtomicBool,
    /// The assignment has asked for the partition to be resumed, and the worker has not handled that yet.
    asked: AtomicBool,
}

/// The worker's side.
#[derive(Debug)]
pub(super) struct Sender {
    chunks: mpsc::UnboundedSender<(usize, Chunk)>,
    fill: Arc<Fill>,
    limit: usize,
}

/// The assignment's side.
#[derive(Debug)]
pub(super) struct Inbox {
    chunks: mpsc::UnboundedReceiver<(usize, Chunk)>,
    fill: Arc<Fill>,
    limit: usize,
    /// Remaining records of the chunk that was taken last, and the offset at which it ends.
    open: std::vec::IntoIter<Record>,
    open_end: i64,
}

/// The next item of an inbox.
#[derive(Debug)]
pub(super) enum Next {
    /// A record, and the position after it: past the gap that follows, where one is known.
    Record(Record, i64),
    /// The end of the partition, at this offset.
    End(i64),
    /// There was no item before the deadline.
    Nothing,
    /// The worker has closed the inbox.
    Closed,
}

/// What a record costs in memory in addition to its bytes.
const RECORD_BYTES: usize = 96;

/// An inbox that is full at `limit` bytes.
pub(super) fn inbox(limit: usize) -> (Sender, Inbox) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let fill = Arc::new(Fill::default());
    let open = Vec::new().into_iter();
    let inbox = Inbox { chunks: receiver, fill: fill.clone(), limit, open, open_end: 0 };
    (Sender { chunks: sender, fill, limit }, inbox)
}

impl Sender {
    /// Adds a chunk. True if the partition must be paused now.
    pub(super) fn send(&self, chunk: Chunk) -> bool {
        let bytes = match &chunk {
            Chunk::Records { records, .. } => records.iter().map(|r| r.len() + RECORD_BYTES).sum(),
            Chunk::End { .. } => RECORD_BYTES,
        };
        let fill = self.fill.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // The assignment may have ended; the worker is notified separately.
        let _ = self.chunks.send((bytes, chunk));
        fill > self.limit && !self.fill.paused.swap(true, Ordering::Relaxed)
    }

    /// The assignment has asked for the partition to be resumed. True if it must be: not if the inbox has filled again since,
    /// because nothing would pause the partition a second time. The assignment asks again when it is half empty again.
    pub(super) fn may_resume(&self) -> bool {
        self.fill.asked.store(false, Ordering::Relaxed);
        self.fill.is_half_empty(self.limit) && self.fill.paused.swap(false, Ordering::Relaxed)
    }
}

impl Fill {
    fn is_half_empty(&self, limit: usize) -> bool {
        self.bytes.load(Ordering::Relaxed) <= limit / 2
    }
}

impl Inbox {
    /// Takes the next item, waiting until `deadline` at most.
    pub(super) async fn next(&mut self, deadline: Option<Instant>) -> Next {
        loop {
            if let Some(record) = self.open.next() {
                let next_offset = match self.open.len() {
                    0 => self.open_end,
                    _ => record.offset + 1,
                };
                return Next::Record(record, next_offset);
            }
            let received = match (self.chunks.try_recv(), deadline) {
                (Ok(received), _) => Some(received),
                (Err(_), None) => self.chunks.recv().await,
                (Err(_), Some(deadline)) => match timeout_at(deadline, self.chunks.recv()).await {
                    Ok(received) => received,
                    Err(_) => return Next::Nothing,
                },
            };
            match received {
                None => return Next::Closed,
                Some((bytes, chunk)) => {
                    self.fill.bytes.fetch_sub(bytes, Ordering::Relaxed);
                    match chunk {
                        Chunk::End { offset } => return Next::End(offset),
                        Chunk::Records { records, next_offset } => {
                            self.open = records.into_iter();
                            self.open_end = next_offset;
                        }
                    }
                }
            }
        }
    }

    /// True, once, when the worker should be asked to resume a paused partition.
    pub(super) fn asks_to_resume(&self) -> bool {
        self.fill.is_half_empty(self.limit)
            && self.fill.paused.load(Ordering::Relaxed)
            && !self.fill.asked.swap(true, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chunk of one record with so many bytes, including those that are counted in addition.
    fn chunk(offset: i64, bytes: usize) -> Chunk {
        let value = Some(vec![0; bytes - RECORD_BYTES]);
        let record = Record { partition: 0, offset, timestamp: 0, key: None, value };
        Chunk::Records { records: vec![record], next_offset: offset + 1 }
    }

    #[tokio::test]
    async fn a_partition_is_paused_when_its_inbox_is_full_and_resumed_when_it_is_half_empty() {
        let (sender, mut inbox) = inbox(400);
        assert!(!sender.send(chunk(0, 200)) && !sender.send(chunk(1, 200)));
        assert!(sender.send(chunk(2, 100)), "it is full");
        assert!(!sender.send(chunk(3, 100)), "it is paused already");
        inbox.next(None).await;
        assert!(!inbox.asks_to_resume());
        inbox.next(None).await;
        assert!(inbox.asks_to_resume() && !inbox.asks_to_resume(), "it asks once");
        assert!(sender.may_resume() && !sender.may_resume());
        assert!(sender.send(chunk(4, 300)), "it is full again");
    }

    #[tokio::test]
    async fn a_partition_whose_inbox_has_filled_again_stays_paused_until_it_is_half_empty_again() {
        let (sender, mut inbox) = inbox(400);
        assert!(sender.send(chunk(0, 500)));
        inbox.next(None).await;
        assert!(inbox.asks_to_resume());
        // What was on its way when the partition was paused.
        assert!(!sender.send(chunk(1, 500)));
        assert!(!sender.may_resume());
        inbox.next(None).await;
        assert!(inbox.asks_to_resume() && sender.may_resume());
        assert!(sender.send(chunk(2, 500)), "it is paused again");
    }
}
