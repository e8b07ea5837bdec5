//! What an assignment has been sent and has not taken yet, bounded in bytes.
//!
//! The worker never waits for an assignment: it must go on polling to stay in its group. Instead a partition
//! whose inbox is full is paused at the consumer, and resumed when half of it is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::event::Record;

/// A piece of the log, as the consumer delivered it.
#[derive(Debug)]
pub(super) enum Piece {
    /// Records, and where the consumer reads on.
    Records { records: Vec<Record>, next_offset: i64 },
    /// The end of the partition.
    End { offset: i64 },
}

#[derive(Debug, Default)]
struct Level {
    bytes: AtomicUsize,
    paused: AtomicBool,
}

/// The worker's side.
#[derive(Debug)]
pub(super) struct Sender {
    pieces: mpsc::UnboundedSender<(usize, Piece)>,
    level: Arc<Level>,
    limit: usize,
}

/// The assignment's side.
#[derive(Debug)]
pub(super) struct Inbox {
    pieces: mpsc::UnboundedReceiver<(usize, Piece)>,
    level: Arc<Level>,
    limit: usize,
    /// Records of the piece that was taken last, and where it ends.
    open: std::vec::IntoIter<Record>,
    open_end: i64,
}

/// What comes out of an inbox.
#[derive(Debug)]
pub(super) enum Next {
    /// A record, and the position behind it: past the gap that follows, where one is known.
    Record(Record, i64),
    /// The end of the partition, at this offset.
    End(i64),
    /// Nothing came in time.
    Nothing,
    /// Nothing will come any more.
    Closed,
}

/// What a record costs in memory beside its bytes.
const RECORD_BYTES: usize = 96;

/// An inbox that is full with `limit` bytes.
pub(super) fn inbox(limit: usize) -> (Sender, Inbox) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let level = Arc::new(Level::default());
    let open = Vec::new().into_iter();
    let inbox = Inbox { pieces: receiver, level: level.clone(), limit, open, open_end: 0 };
    (Sender { pieces: sender, level, limit }, inbox)
}

impl Sender {
    /// Adds a piece. True if the partition must be paused now.
    pub(super) fn send(&self, piece: Piece) -> bool {
        let bytes = match &piece {
            Piece::Records { records, .. } => records.iter().map(|r| r.len() + RECORD_BYTES).sum(),
            Piece::End { .. } => RECORD_BYTES,
        };
        let level = self.level.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // An assignment that is gone takes nothing; the worker hears of its end elsewhere.
        let _ = self.pieces.send((bytes, piece));
        level > self.limit && !self.level.paused.swap(true, Ordering::Relaxed)
    }
}

impl Inbox {
    /// Takes the next thing, waiting until `deadline` at most.
    pub(super) async fn next(&mut self, deadline: Option<Instant>) -> Next {
        loop {
            if let Some(record) = self.open.next() {
                let next_offset = match self.open.len() {
                    0 => self.open_end,
                    _ => record.offset + 1,
                };
                return Next::Record(record, next_offset);
            }
            let received = match (self.pieces.try_recv(), deadline) {
                (Ok(received), _) => Some(received),
                (Err(_), None) => self.pieces.recv().await,
                (Err(_), Some(deadline)) => match timeout_at(deadline, self.pieces.recv()).await {
                    Ok(received) => received,
                    Err(_) => return Next::Nothing,
                },
            };
            match received {
                None => return Next::Closed,
                Some((bytes, piece)) => {
                    self.level.bytes.fetch_sub(bytes, Ordering::Relaxed);
                    match piece {
                        Piece::End { offset } => return Next::End(offset),
                        Piece::Records { records, next_offset } => {
                            self.open = records.into_iter();
                            self.open_end = next_offset;
                        }
                    }
                }
            }
        }
    }

    /// True, once, when a paused partition should be resumed.
    pub(super) fn wants_more(&self) -> bool {
        self.level.bytes.load(Ordering::Relaxed) <= self.limit / 2
            && self.level.paused.swap(false, Ordering::Relaxed)
    }
}
