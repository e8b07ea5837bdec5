//! A partition that is being fetched, and what was fetched of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::broker::Fetched;
use crate::broker::kafka::error::KafkaError;
use crate::broker::kafka::raw::{Message, Queue};
use crate::event::Record;

/// A read that has received nothing for this time checks whether there is anything to read. The interval doubles after
/// each check.
const EMPTY_CHECK: Duration = Duration::from_millis(250);
/// Messages taken from the queue in one call.
const CHUNK: usize = 500;
/// A partition that is being fetched.
#[derive(Debug)]
pub(super) struct ReadPosition {
    queue: Queue,
    waiting: VecDeque<Record>,
    next_offset: i64,
    read: Instant,
}

impl ReadPosition {
    /// Records are read from this offset on.
    pub(super) fn new(queue: Queue, next_offset: i64) -> Self {
        Self { queue, waiting: VecDeque::new(), next_offset, read: Instant::now() }
    }

    /// The offset from which it is read on.
    pub(super) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The time since it was last read.
    pub(super) fn idle_for(&self) -> Duration {
        self.read.elapsed()
    }

    /// Continues to read, and returns whether the log's end was reached. While nothing is received, `nothing` is called
    /// periodically with its timeout.
    pub(super) fn read(
        &mut self,
        max_records: usize,
        max_bytes: usize,
        wait: Duration,
        nothing: impl Fn(Duration) -> bool,
    ) -> Result<(Fetched, bool), KafkaError> {
        let until = Instant::now() + wait;
        let mut interval = EMPTY_CHECK;
        let mut check_at = Instant::now() + interval;
        let mut records: Vec<Record> = Vec::new();
        let mut bytes = 0;
        let mut end = None;
        loop {
            while let Some(next) = self.waiting.front() {
                if records.len() >= max_records || (!records.is_empty() && bytes + next.len() > max_bytes) {
                    self.read = Instant::now();
                    return Ok((Fetched { records, next_offset: self.next_offset }, false));
                }
                bytes += next.len();
                self.next_offset = next.offset + 1;
                records.extend(self.waiting.pop_front());
            }
            self.read = Instant::now();
            if records.len() >= max_records {
                return Ok((Fetched { records, next_offset: self.next_offset }, false));
            }
            if let Some(end) = end {
                self.next_offset = self.next_offset.max(end);
                return Ok((Fetched { records, next_offset: self.next_offset }, true));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                if records.is_empty() {
                    return Err(KafkaError::of(Code::OperationTimedOut));
                }
                return Ok((Fetched { records, next_offset: self.next_offset }, false));
            }
            if records.is_empty() && Instant::now() >= check_at {
                if nothing(left) {
                    return Ok((Fetched { records, next_offset: self.next_offset }, true));
                }
                interval *= 2;
                check_at = Instant::now() + interval;
            }
            let left = if records.is_empty() {
                left.min(check_at.saturating_duration_since(Instant::now()))
            } else {
                left
            };
            let (waiting, reads_from) = (&mut self.waiting, self.next_offset);
            let mut failure = None;
            let mut each = |message| match message {
                _ if failure.is_some() || end.is_some() => {}
                Message::Record(record) if record.offset < reads_from => {}
                Message::Record(record) => waiting.push_back(record),
                Message::End(offset) => end = Some(offset),
                Message::Error(error, _) => failure = Some(error),
            };
            self.queue.take(CHUNK, left, &mut each);
            if let Some(error) = failure {
                // The records before the error are valid; the next read gets the error again.
                if records.is_empty() && self.waiting.is_empty() {
                    return Err(error);
                }
                records.extend(self.waiting.drain(..));
                let next_offset = records.last().map_or(self.next_offset, |record| record.offset + 1);
                records.truncate(max_records);
                let next_offset = records.last().map_or(next_offset, |record| record.offset + 1);
                return Ok((Fetched { records, next_offset }, true));
            }
        }
    }
}
