//! A broker in memory, for tests and as a reference for the contract of [`crate::broker`].
//!
//! It has those behaviours of the real one that break consumers and that need no processes: gaps between offsets,
//! retention, truncation, recreated and compacted topics, groups that revoke partitions and that lose them. Network
//! errors are left to wrappers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::broker::{
    Assignment, Broker, BrokerError, Consumer, Delivery, Fetched, LogOffsets, NewRecord, Producer, Topic,
    partition_of_key,
};
use crate::event::Record;

/// A cluster of topics and groups.
#[derive(Clone, Debug)]
pub struct MemoryBroker {
    shared: Arc<MemoryCluster>,
    /// Maximum records of one delivery.
    fetch_records: usize,
}

#[derive(Debug, Default)]
struct MemoryCluster {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    topics: BTreeMap<String, TopicState>,
    groups: BTreeMap<String, Group>,
    ids: u64,
}

#[derive(Debug)]
struct TopicState {
    description: Topic,
    partitions: Vec<Log>,
}

#[derive(Clone, Debug, Default)]
struct Log {
    start: i64,
    end: i64,
    records: BTreeMap<i64, Record>,
}

#[derive(Debug, Default)]
struct Group {
    topic: String,
    /// By member id; what is to be delivered to each.
    members: BTreeMap<u64, VecDeque<Delivery>>,
    /// Owner of each partition, and whether it is being revoked.
    owners: BTreeMap<i32, (u64, bool)>,
}

impl Group {
    /// Spreads the partitions over the members, moving only those that must move.
    fn rebalance(&mut self, partitions: i32) {
        let ids: Vec<u64> = self.members.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        for partition in 0..partitions {
            let target = ids[partition as usize % ids.len()];
            match self.owners.get_mut(&partition) {
                None => {
                    self.owners.insert(partition, (target, false));
                    self.deliver(target, Delivery::Assigned(vec![partition]));
                }
                Some((owner, revoking)) if *owner != target && !*revoking => {
                    *revoking = true;
                    let owner = *owner;
                    self.deliver(owner, Delivery::Revoked(vec![partition]));
                }
                Some(_) => {}
            }
        }
    }

    fn deliver(&mut self, member: u64, delivery: Delivery) {
        if let Some(inbox) = self.members.get_mut(&member) {
            inbox.push_back(delivery);
        }
    }
}

impl Log {
    fn fetch(&self, topic: &str, partition: i32, offset: i64, limit: usize) -> Result<Fetched, BrokerError> {
        if offset < self.start || offset > self.end {
            return Err(BrokerError::OutOfRange { topic: topic.to_owned(), partition, offset });
        }
        let mut stored = self.records.range(offset..);
        let records: Vec<Record> = stored.by_ref().take(limit).map(|(_, record)| record.clone()).collect();
        let next_offset = match (stored.next(), records.last()) {
            (Some(_), Some(last)) => last.offset + 1,
            _ => self.end,
        };
        Ok(Fetched { records, next_offset })
    }
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new(500)
    }
}

impl MemoryBroker {
    /// A broker whose consumers get at most `fetch_records` records at once.
    pub fn new(fetch_records: usize) -> Self {
        Self { shared: Arc::default(), fetch_records: fetch_records.max(1) }
    }

    /// The same broker, seen by consumers that get at most `fetch_records` records at once.
    pub fn with_fetch_records(&self, fetch_records: usize) -> Self {
        Self { shared: self.shared.clone(), fetch_records: fetch_records.max(1) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a topic, if it exists, and wakes all waiting consumers.
    fn change(&self, topic: &str, change: impl FnOnce(&mut TopicState)) {
        if let Some(topic) = self.state().topics.get_mut(topic) {
            change(topic);
        }
        self.shared.changed.notify_waiters();
    }

    fn change_log(&self, topic: &str, partition: i32, change: impl FnOnce(&mut Log)) {
        self.change(topic, |topic| {
            if let Some(log) = topic.partitions.get_mut(partition as usize) {
                change(log);
            }
        });
    }

    /// Waits for the next change of any topic, from the call on.
    pub fn changed(&self) -> impl Future<Output = ()> + Send + '_ {
        self.shared.changed.notified()
    }

    /// Skips `offsets` offsets without records, as transaction markers and aborted records do.
    pub fn skip(&self, topic: &str, partition: i32, offsets: i64) {
        self.change_log(topic, partition, |log| log.end += offsets);
    }

    /// Retention: deletes records below `start`.
    pub fn delete_below(&self, topic: &str, partition: i32, start: i64) {
        self.change_log(topic, partition, |log| {
            log.start = log.start.max(start.min(log.end));
            log.records = log.records.split_off(&log.start);
        });
    }

    /// Truncates: the log ends at `end`, as after an unclean election.
    pub fn truncate(&self, topic: &str, partition: i32, end: i64) {
        self.change_log(topic, partition, |log| {
            log.end = log.end.min(end);
            log.records.split_off(&log.end);
        });
    }

    /// Deletes the topic and creates one of the same name and number of partitions, empty and with another id.
    pub fn recreate(&self, topic: &str) {
        let mut state = self.state();
        state.ids += 1;
        let id = state.ids;
        if let Some(topic) = state.topics.get_mut(topic) {
            topic.description.id = format!("memory-{id}");
            topic.partitions.fill(Log::default());
        }
        drop(state);
        self.shared.changed.notify_waiters();
    }

    /// Sets or clears `cleanup.policy=compact`. (Nothing is compacted.)
    pub fn set_compacted(&self, topic: &str, compacted: bool) {
        self.change(topic, |topic| topic.description.compacted = compacted);
    }

    /// Adds partitions.
    pub fn grow(&self, topic: &str, partitions: i32) {
        self.change(topic, |topic| {
            topic.description.partitions = partitions.max(topic.description.partitions);
            topic.partitions.resize(topic.description.partitions as usize, Log::default());
        });
        let mut state = self.state();
        for group in state.groups.values_mut().filter(|group| group.topic == topic) {
            group.rebalance(partitions);
        }
        drop(state);
        self.shared.changed.notify_waiters();
    }
}

impl State {
    fn topic(&self, topic: &str) -> Result<&TopicState, BrokerError> {
        self.topics.get(topic).ok_or_else(|| BrokerError::UnknownTopic(topic.to_owned()))
    }

    fn log(&self, topic: &str, partition: i32) -> Result<&Log, BrokerError> {
        let logs = &self.topic(topic)?.partitions;
        usize::try_from(partition).ok().and_then(|p| logs.get(p)).ok_or_else(|| BrokerError::Fatal {
            what: format!("topic {topic} has no partition {partition}"),
            cause: None,
        })
    }

    fn rebalance(&mut self, group: &str) {
        if let Some(group) = self.groups.get_mut(group) {
            let partitions = self.topics.get(&group.topic).map_or(0, |t| t.description.partitions);
            group.rebalance(partitions);
        }
    }

    fn leave(&mut self, group: &str, member: u64) {
        if let Some(state) = self.groups.get_mut(group)
            && state.members.remove(&member).is_some()
        {
            state.owners.retain(|_, (owner, _)| *owner != member);
            self.rebalance(group);
        }
    }
}

impl Broker for MemoryBroker {
    type Consumer = MemoryConsumer;

    async fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        Ok(self.state().topic(topic)?.description.clone())
    }

    async fn offsets(&self, topic: &str, partition: i32) -> Result<LogOffsets, BrokerError> {
        let state = self.state();
        let log = state.log(topic, partition)?;
        Ok(LogOffsets { start: log.start, end: log.end })
    }

    async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_records: usize,
        _max_bytes: usize,
    ) -> Result<Fetched, BrokerError> {
        self.state().log(topic, partition)?.fetch(topic, partition, offset, max_records)
    }

    async fn subscribe(&self, group: &str, topic: &str) -> Result<MemoryConsumer, BrokerError> {
        let mut state = self.state();
        state.topic(topic)?;
        state.ids += 1;
        let member = state.ids;
        let members = state.groups.entry(group.to_owned()).or_default();
        members.topic = topic.to_owned();
        members.members.insert(member, VecDeque::new());
        state.rebalance(group);
        let inbox = state.groups.get_mut(group).and_then(|group| group.members.get_mut(&member));
        if let Some(inbox) = inbox.filter(|inbox| inbox.is_empty()) {
            inbox.push_back(Delivery::Assigned(Vec::new()));
        }
        drop(state);
        self.shared.changed.notify_waiters();
        Ok(MemoryConsumer {
            broker: self.clone(),
            group: group.to_owned(),
            topic: topic.to_owned(),
            member,
            positions: BTreeMap::new(),
            last: -1,
        })
    }
}

/// A member of a group. Dropping it is a crash that the group detects immediately.
#[derive(Debug)]
pub struct MemoryConsumer {
    broker: MemoryBroker,
    group: String,
    topic: String,
    member: u64,
    positions: BTreeMap<i32, Position>,
    /// The partition that was served last.
    last: i32,
}

#[derive(Debug)]
struct Position {
    assignment: Assignment,
    offset: i64,
    paused: bool,
    failed: bool,
    reported_end: Option<i64>,
}

impl MemoryConsumer {
    /// The next delivery that is ready, if any.
    fn next(&mut self) -> Option<Delivery> {
        let mut state = self.broker.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let inbox = state.groups.get_mut(&self.group).and_then(|group| group.members.get_mut(&self.member));
        if let Some(delivery) = inbox.and_then(VecDeque::pop_front) {
            if let Delivery::Revoked(partitions) | Delivery::Lost(partitions) = &delivery {
                self.positions.retain(|partition, _| !partitions.contains(partition));
            }
            return Some(delivery);
        }
        let (after, before): (Vec<i32>, Vec<i32>) =
            self.positions.keys().partition(|partition| **partition > self.last);
        for partition in after.into_iter().chain(before) {
            let position = self.positions.get_mut(&partition)?;
            if position.paused || position.failed {
                continue;
            }
            let fetched = state.log(&self.topic, partition).and_then(|log| {
                log.fetch(&self.topic, partition, position.offset, self.broker.fetch_records)
            });
            let assignment = position.assignment;
            match fetched {
                Err(error) => {
                    position.failed = true;
                    return Some(Delivery::Failed { assignment, offset: position.offset, error });
                }
                Ok(Fetched { records, next_offset }) if !records.is_empty() => {
                    position.offset = next_offset;
                    self.last = partition;
                    return Some(Delivery::Records { assignment, records, next_offset });
                }
                Ok(Fetched { next_offset, .. }) => {
                    position.offset = next_offset;
                    if position.reported_end != Some(next_offset) {
                        position.reported_end = Some(next_offset);
                        return Some(Delivery::End { assignment, offset: next_offset });
                    }
                }
            }
        }
        None
    }
}

impl Consumer for MemoryConsumer {
    async fn poll(&mut self) -> Result<Delivery, BrokerError> {
        let shared = self.broker.shared.clone();
        loop {
            let mut changed = std::pin::pin!(shared.changed.notified());
            changed.as_mut().enable();
            if let Some(delivery) = self.next() {
                return Ok(delivery);
            }
            changed.await;
        }
    }

    fn start(&mut self, assignment: Assignment, offset: i64) {
        let position = Position { assignment, offset, paused: false, failed: false, reported_end: None };
        self.positions.insert(assignment.partition, position);
    }

    fn pause(&mut self, partition: i32) {
        if let Some(position) = self.positions.get_mut(&partition) {
            position.paused = true;
        }
    }

    fn resume(&mut self, partition: i32) {
        if let Some(position) = self.positions.get_mut(&partition) {
            position.paused = false;
        }
    }

    fn release(&mut self, partition: i32) {
        let mut state = self.broker.state();
        if let Some(group) = state.groups.get_mut(&self.group)
            && group.owners.get(&partition) == Some(&(self.member, true))
        {
            group.owners.remove(&partition);
            state.rebalance(&self.group);
        }
        drop(state);
        self.broker.shared.changed.notify_waiters();
    }

    fn report(&mut self, _partition: i32, _next_offset: i64) {}

    async fn leave(self) {}
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        self.broker.state().leave(&self.group, self.member);
        self.broker.shared.changed.notify_waiters();
    }
}

impl Producer for MemoryBroker {
    async fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        replication: i16,
    ) -> Result<Topic, BrokerError> {
        let mut state = self.state();
        if state.topics.contains_key(topic) {
            return Err(BrokerError::TopicExists(topic.to_owned()));
        }
        state.ids += 1;
        let id = format!("memory-{}", state.ids);
        let description = Topic { name: topic.to_owned(), id, partitions, replication, compacted: false };
        let logs = vec![Log::default(); partitions.max(0) as usize];
        state
            .topics
            .insert(topic.to_owned(), TopicState { description: description.clone(), partitions: logs });
        Ok(description)
    }

    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<(i32, i64)>, BrokerError> {
        let mut state = self.state();
        let partitions = state.topic(topic)?.description.partitions;
        let mut positions = Vec::with_capacity(records.len());
        for record in records {
            let by_key = record.key.as_deref().map_or(0, |key| partition_of_key(key, partitions));
            let partition = record.partition.unwrap_or(by_key);
            let offset = state.log(topic, partition)?.end;
            if let Some(topic) = state.topics.get_mut(topic) {
                let log = &mut topic.partitions[partition as usize];
                let NewRecord { key, value, timestamp, .. } = record;
                log.records.insert(offset, Record { partition, offset, timestamp, key, value });
                log.end = offset + 1;
            }
            positions.push((partition, offset));
        }
        drop(state);
        self.shared.changed.notify_waiters();
        Ok(positions)
    }
}
