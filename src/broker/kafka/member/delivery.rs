//! Delivers records from librdkafka's queues to the worker, round-robin over the partitions.
//!
//! A failure stops a partition's delivery until the worker restarts it. A transient failure is reported after a
//! backoff, so that restarts and failures do not alternate in a busy loop.

use std::thread;
use std::time::{Duration, Instant};

use tracing::debug;

use super::Member;
use crate::backoff::Backoff;
use crate::broker::kafka::error::{Class, KafkaError};
use crate::broker::kafka::raw::{Message, Queue};
use crate::broker::{Assignment, BrokerError, Delivery};

/// Maximum messages taken from one partition before the next one.
const CHUNK: usize = 1_000;
/// A transient failure of a partition's delivery is reported after this backoff, which doubles with every failure until
/// a record is received.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// A partition that the group assigned.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// The latest start.
    pub(super) start: Option<Assignment>,
    /// The next offset to deliver.
    pub(super) next_offset: i64,
    /// Receives the partition's messages; set while librdkafka fetches it.
    pub(super) queue: Option<Queue>,
    pub(super) paused: bool,
    /// True if delivery stopped after a failure.
    pub(super) failed: bool,
    /// True if the group has revoked it.
    pub(super) revoked: bool,
    /// A start that waits until the current revocation is acknowledged.
    pub(super) waiting: Option<(Assignment, i64)>,
    /// A failure to report at this time.
    pub(super) failure: Option<(Instant, Delivery)>,
    /// Set since the first failure after the last record.
    pub(super) backoff: Option<Backoff>,
}

impl Member {
    /// Starts or restarts delivery of a partition.
    pub(super) fn start(&mut self, assignment: Assignment, offset: i64) {
        let number = assignment.partition;
        if self.partitions.get(&number).is_some_and(|partition| partition.queue.is_some()) {
            // A restart acknowledges whatever revocation librdkafka has in its queue by then: the worker learns of it before.
            self.take_events();
        }
        let Some(partition) = self.partitions.get_mut(&number).filter(|partition| !partition.revoked) else {
            debug!(?assignment, "not started: the partition is no longer assigned to this worker");
            return;
        };
        partition.start = Some(assignment);
        partition.next_offset = offset;
        partition.paused = false;
        partition.failed = false;
        partition.failure = None;
        partition.waiting = None;
        if offset < 0 {
            // Negative offsets have special meanings in librdkafka.
            partition.failed = true;
            let error = self.out_of_range(number, offset);
            return self.send(Delivery::Failed { assignment, offset, error });
        }
        if partition.queue.is_some() {
            // Removing the partition from librdkafka's assignment now would acknowledge the pending revocation.
            if !self.unreleased.is_empty() {
                partition.waiting = Some((assignment, offset));
                return;
            }
            if let Err(error) = self.client.incremental_unassign(&self.topic, &[number]) {
                return self.fail(number, offset, error);
            }
            // Dropped before the new queue is created, because dropping removes the partition's waker.
            partition.queue = None;
        }
        let queue = Queue::of_partition(&self.client, &self.topic, number);
        let started = queue.and_then(|mut queue| {
            queue.wake(thread::current());
            self.client.incremental_assign(&self.topic, &[(number, offset)])?;
            Ok(queue)
        });
        match started {
            Ok(queue) => {
                if let Some(partition) = self.partitions.get_mut(&number) {
                    partition.queue = Some(queue);
                }
            }
            Err(error) => self.fail(number, offset, error),
        }
    }

    fn out_of_range(&self, partition: i32, offset: i64) -> BrokerError {
        BrokerError::OutOfRange { topic: self.topic.clone(), partition, offset }
    }

    /// Stops a partition's delivery. A transient failure is reported after a backoff.
    pub(super) fn fail(&mut self, number: i32, offset: i64, error: KafkaError) {
        let out_of_range = self.out_of_range(number, offset);
        let Some(partition) = self.partitions.get_mut(&number) else { return };
        let Some(assignment) = partition.start else { return };
        partition.failed = true;
        let what = format!("read topic {} partition {number} from offset {offset}", self.topic);
        let (wait, error) = match error.class() {
            Class::OutOfRange => {
                debug!(?assignment, offset, %error, "out of range");
                (Duration::ZERO, out_of_range)
            }
            Class::Fatal => (Duration::ZERO, error.fatal(what)),
            // The topic itself is checked when the error is reported.
            Class::Retriable | Class::UnknownTopic | Class::TopicExists => {
                let backoff = partition.backoff.get_or_insert_with(|| Backoff::new(MIN_BACKOFF, MAX_BACKOFF));
                (backoff.wait(), error.retriable(what))
            }
        };
        let failed = Delivery::Failed { assignment, offset, error };
        partition.failure = Some((Instant::now() + wait, failed));
    }

    pub(super) fn send_failures(&mut self, now: Instant) {
        let mut due = Vec::new();
        for partition in self.partitions.values_mut() {
            if partition.failure.as_ref().is_some_and(|(at, _)| *at <= now) {
                due.extend(partition.failure.take().map(|(_, failed)| failed));
            }
        }
        for failed in due {
            self.send(failed);
        }
    }

    /// Delivers messages of all partitions, round-robin. True if there may be more.
    pub(super) fn deliver(&mut self) -> bool {
        let mut worked = false;
        let numbers: Vec<i32> = self.partitions.keys().copied().collect();
        let split = numbers.partition_point(|number| *number <= self.last);
        for number in numbers[split..].iter().chain(&numbers[..split]) {
            if self.flow.is_full() {
                break;
            }
            if self.deliver_partition(*number) {
                self.last = *number;
                worked = true;
            }
        }
        worked
    }

    fn deliver_partition(&mut self, number: i32) -> bool {
        let Some(partition) = self.partitions.get_mut(&number) else { return false };
        let Partition { start: Some(assignment), queue: Some(queue), .. } = partition else { return false };
        if partition.paused || partition.failed || partition.revoked || partition.waiting.is_some() {
            return false;
        }
        let assignment = *assignment;
        let mut next_offset = partition.next_offset;
        let mut records = Vec::new();
        let mut deliveries = Vec::new();
        let mut failure = None;
        let taken = queue.take(CHUNK, Duration::ZERO, |message| match message {
            _ if failure.is_some() => {}
            // librdkafka may deliver messages twice if it pauses for a rebalance meanwhile.
            Message::Record(record) if record.offset < next_offset => {}
            Message::Record(record) => {
                next_offset = record.offset + 1;
                if records.capacity() == 0 {
                    records.reserve(CHUNK / 4);
                }
                records.push(record);
            }
            Message::End(offset) => {
                if !records.is_empty() {
                    let records = std::mem::take(&mut records);
                    deliveries.push(Delivery::Records { assignment, records, next_offset });
                }
                next_offset = next_offset.max(offset);
                deliveries.push(Delivery::End { assignment, offset });
            }
            Message::Error(error, offset) => {
                failure = Some((error, if offset < 0 { next_offset } else { offset }));
            }
        });
        if !records.is_empty() {
            deliveries.push(Delivery::Records { assignment, records, next_offset });
        }
        if next_offset > partition.next_offset {
            partition.backoff = None;
        }
        partition.next_offset = next_offset;
        for delivery in deliveries {
            self.send(delivery);
        }
        if let Some((error, offset)) = failure {
            self.fail(number, offset, error);
        }
        taken > 0
    }
}
