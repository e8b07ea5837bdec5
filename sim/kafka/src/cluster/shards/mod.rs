//! The runtime of the coordinators: hosts the state machines of [`crate::group`] and [`crate::transaction`] on the leaders
//! of the partitions that hold their records.
//!
//! A shard exists while this broker leads its partition. It is loaded from the log, its records are appended to it, and
//! responses wait until the high watermark has passed them.

mod groups;
mod markers;
mod transactions;
mod verify;

pub(crate) use markers::MarkerToWrite;
pub(crate) use transactions::ProducerIdsOf;
pub(crate) use verify::{ToVerify, Verification, Verified};

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::broker::Broker;
use super::observe::{CoordinatorKind, Event};
use crate::coordinator::{Batch as NewBatch, BatchId, Effects, Record, Token, Topics};
use crate::error::{ErrorCode, Result};
use crate::log::{Origin, Proof};
use crate::metadata::Image;
use crate::protocol::batch::Batch;
use crate::protocol::builder::BatchBuilder;
use crate::protocol::records::records;
use crate::types::{Offset, PartitionId};

/// A state machine that the runtime can host.
pub(crate) trait Shard: Sized + Send + 'static {
    /// Its responses.
    type Response: Send + 'static;
    /// The topic that holds its records.
    const TOPIC: &'static str;
    /// What it is for an observer.
    const KIND: CoordinatorKind;

    fn create(broker: &Broker, epoch: i32, topics: Arc<Topics>) -> Self;
    /// Takes a batch of the log.
    fn replay(&mut self, batch: &Batch);
    /// What comes now is not below the high watermark. A batch stands for it, if the shard waits for that.
    fn high_watermark_reached(&mut self) -> Option<BatchId> {
        None
    }
    fn loaded(&mut self, now: i64) -> Effects<Self::Response>;
    fn tick(&mut self, broker: &Arc<Broker>, now: i64) -> Effects<Self::Response>;
    fn next_deadline(&self) -> Option<i64>;
    fn committed(&mut self, now: i64, batch: BatchId) -> Effects<Self::Response>;
    fn failed(&mut self, now: i64, batch: BatchId, error: ErrorCode) -> Effects<Self::Response>;
    fn topics_changed(&mut self, now: i64, topics: Arc<Topics>) -> Effects<Self::Response>;
    fn unload(self) -> Vec<(Token, Self::Response)>;
    /// The shards of this kind on a broker.
    fn hosts(broker: &Broker) -> &Mutex<Hosts<Self>>;
}

/// A shard and what it waits for.
pub(crate) struct Host<S: Shard> {
    /// The epoch of the leader that it is for.
    epoch: i32,
    /// None until it is loaded.
    shard: Option<S>,
    /// When it is loaded.
    loads_at: Instant,
    /// What was appended, by its last offset, and is not below the high watermark yet.
    open: VecDeque<(Offset, BatchId)>,
    replies: BTreeMap<Token, oneshot::Sender<S::Response>>,
    next_token: u64,
}

/// The shards of one kind that a broker hosts.
pub(crate) struct Hosts<S: Shard> {
    hosts: BTreeMap<PartitionId, Host<S>>,
    /// The metadata that they know.
    version: i64,
}

impl<S: Shard> Default for Hosts<S> {
    fn default() -> Self {
        Self { hosts: BTreeMap::new(), version: -1 }
    }
}

impl<S: Shard> Hosts<S> {
    /// The shard of a partition, once it is loaded.
    pub(crate) fn loaded(&self, id: PartitionId) -> Option<&S> {
        self.hosts.get(&id)?.shard.as_ref()
    }
}

pub(crate) fn lock<S: Shard>(broker: &Broker) -> MutexGuard<'_, Hosts<S>> {
    S::hosts(broker).lock().unwrap_or_else(PoisonError::into_inner)
}

fn topics_of(image: &Image) -> Arc<Topics> {
    let topics = image.topics.values();
    Arc::new(topics.map(|topic| (topic.name.clone(), topic.id.0, topic.partitions.len() as i32)).collect())
}

impl Broker {
    /// The time that coordinators know: this broker's clock as it was at its start, and the time since then.
    pub(crate) fn coordinator_now(&self) -> i64 {
        let since = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.started_at.saturating_add(since)
    }

    /// Hosts the shards of one kind, for as long as this broker lives.
    pub(crate) async fn host<S: Shard>(self: Arc<Self>) {
        let mut progress = self.progress.watch();
        loop {
            progress.mark_unchanged();
            let next = self.drive::<S>();
            tokio::select! {
                biased;
                _ = progress.changed() => {}
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    /// Does what is due for the shards of one kind. Returns when something will be.
    fn drive<S: Shard>(self: &Arc<Self>) -> Option<Instant> {
        let image = self.image();
        let mut hosts = lock::<S>(self);
        self.follow_leaders(&mut hosts, &image);
        if hosts.version != image.version {
            hosts.version = image.version;
            let topics = topics_of(&image);
            for (id, host) in &mut hosts.hosts {
                if let Some(shard) = &mut host.shard {
                    let effects = shard.topics_changed(self.coordinator_now(), topics.clone());
                    self.perform(*id, host, effects);
                }
            }
        }
        let mut next: Option<Instant> = None;
        let mut wake_at = |at: Instant| next = Some(next.map_or(at, |next: Instant| next.min(at)));
        let ids: Vec<PartitionId> = hosts.hosts.keys().copied().collect();
        for id in ids {
            let Some(host) = hosts.hosts.get_mut(&id) else { continue };
            if host.shard.is_none() {
                if Instant::now() < host.loads_at {
                    wake_at(host.loads_at);
                    continue;
                }
                self.load(id, host, &image);
            }
            self.commit(id, host);
            let now = self.coordinator_now();
            if let Some(shard) = &mut host.shard
                && shard.next_deadline().is_some_and(|deadline| deadline <= now)
            {
                let effects = shard.tick(self, now);
                self.perform(id, host, effects);
            }
            if let Some(deadline) = host.shard.as_ref().and_then(Shard::next_deadline) {
                let wait = u64::try_from(deadline.saturating_sub(self.coordinator_now())).unwrap_or(0);
                wake_at(Instant::now() + Duration::from_millis(wait.max(1)));
            }
        }
        next
    }

    /// Creates and ends shards as this broker begins and ends to lead their partitions.
    fn follow_leaders<S: Shard>(self: &Arc<Self>, hosts: &mut Hosts<S>, image: &Image) {
        let topic = image.topic(S::TOPIC).map(|topic| topic.id);
        let led: BTreeMap<PartitionId, i32> = {
            let state = self.lock();
            let replicas = state.replicas.iter().filter(|(id, _)| Some(id.topic) == topic);
            let led = replicas.filter(|(_, replica)| replica.leader().is_ok());
            led.map(|(id, replica)| (*id, replica.leader_epoch)).collect()
        };
        let gone: Vec<PartitionId> = hosts
            .hosts
            .iter()
            .filter(|(id, host)| led.get(id) != Some(&host.epoch))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            if let Some(host) = hosts.hosts.remove(&id) {
                let (broker, kind, partition, epoch) = (self.id, S::KIND, id.index, host.epoch);
                host.end();
                let event = || Event::CoordinatorUnloaded { broker, kind, partition, epoch };
                self.cluster.witness.see(event);
            }
        }
        for (id, epoch) in led {
            hosts.hosts.entry(id).or_insert_with(|| {
                self.see_loading::<S>(id, epoch);
                Host {
                    epoch,
                    shard: None,
                    loads_at: Instant::now() + self.options().coordinator_load_time,
                    open: VecDeque::new(),
                    replies: BTreeMap::new(),
                    next_token: 0,
                }
            });
        }
    }

    fn see_loading<S: Shard>(&self, id: PartitionId, epoch: i32) {
        let (broker, kind, partition) = (self.id, S::KIND, id.index);
        self.cluster.witness.see(|| Event::CoordinatorLoading { broker, kind, partition, epoch });
    }

    /// Reads the log of a shard from its start to its end, as Kafka does (`CoordinatorLoaderImpl`,
    /// `TransactionStateManager.loadTransactionMetadata`): the end is that of the log, not the high watermark.
    fn load<S: Shard>(self: &Arc<Self>, id: PartitionId, host: &mut Host<S>, image: &Image) {
        let (batches, high_watermark) = match self.lock().replicas.get(&id) {
            Some(replica) => (replica.log.batches_from(replica.log.start()), replica.log.high_watermark()),
            None => return,
        };
        let mut shard = S::create(self, host.epoch, topics_of(image));
        let (settled, open): (Vec<_>, Vec<_>) =
            batches.into_iter().partition(|batch| batch.next_offset() <= high_watermark);
        settled.iter().for_each(|batch| shard.replay(batch));
        if let Some(last) = open.last()
            && let Some(batch) = shard.high_watermark_reached()
        {
            host.open.push_back((last.last_offset(), batch));
        }
        open.iter().for_each(|batch| shard.replay(batch));
        let (broker, kind, partition, epoch) = (self.id, S::KIND, id.index, host.epoch);
        self.cluster.witness.see(|| Event::CoordinatorLoaded { broker, kind, partition, epoch });
        let effects = shard.loaded(self.coordinator_now());
        host.shard = Some(shard);
        self.perform(id, host, effects);
    }

    /// Reports what is below the high watermark.
    fn commit<S: Shard>(self: &Arc<Self>, id: PartitionId, host: &mut Host<S>) {
        loop {
            let Some((last_offset, batch)) = host.open.front().copied() else { return };
            let below = match self.lock().replicas.get(&id) {
                Some(replica) => replica.log.high_watermark() > last_offset,
                None => false,
            };
            if !below {
                return;
            }
            host.open.pop_front();
            let now = self.coordinator_now();
            let Some(shard) = &mut host.shard else { return };
            let effects = shard.committed(now, batch);
            self.perform(id, host, effects);
        }
    }

    /// Does what a shard asks for.
    fn perform<S: Shard>(
        self: &Arc<Self>,
        id: PartitionId,
        host: &mut Host<S>,
        effects: Effects<S::Response>,
    ) {
        let mut effects = effects;
        loop {
            for (token, response) in std::mem::take(&mut effects.replies) {
                if let Some(reply) = host.replies.remove(&token) {
                    let _ = reply.send(response);
                }
            }
            for markers in std::mem::take(&mut effects.markers) {
                self.begin(move |broker| broker.send_markers(id, markers));
            }
            if effects.reload {
                if let Some(shard) = host.shard.take() {
                    host.refuse(shard);
                }
                host.open.clear();
                host.loads_at = Instant::now();
                self.see_loading::<S>(id, host.epoch);
                self.notify();
                return;
            }
            if effects.batches.is_empty() {
                return;
            }
            let mut later = Effects::default();
            for batch in std::mem::take(&mut effects.batches) {
                match self.append(id, &built(&batch), Origin::Coordinator, Proof::NotRequired, true) {
                    Ok(appended) => host.open.push_back((appended.last_offset, batch.id)),
                    Err(error) => {
                        let now = self.coordinator_now();
                        if let Some(shard) = &mut host.shard {
                            later.append(shard.failed(now, batch.id, error));
                        }
                        if later.reload {
                            break;
                        }
                    }
                }
            }
            effects = later;
        }
    }

    /// The partition that holds a key of a shard, as this broker knows it; none before the topic exists.
    pub(crate) fn shard_of<S: Shard>(&self, key: &str) -> Option<PartitionId> {
        let image = self.image();
        let topic = image.topic(S::TOPIC)?;
        let index = crate::coordinator::partition_of(key, topic.partitions.len() as i32);
        Some(PartitionId { topic: topic.id, index })
    }

    /// Runs something on the shard of a partition, and waits for the response.
    async fn on_shard<S: Shard>(
        self: &Arc<Self>,
        id: PartitionId,
        run: impl FnOnce(&mut S, Token) -> Effects<S::Response>,
    ) -> Result<S::Response> {
        let receiver = {
            let mut hosts = lock::<S>(self);
            let host = hosts.hosts.get_mut(&id).ok_or(ErrorCode::NotCoordinator)?;
            let token = Token(host.next_token);
            let shard = host.shard.as_mut().ok_or(ErrorCode::CoordinatorLoadInProgress)?;
            host.next_token += 1;
            let (sender, receiver) = oneshot::channel();
            host.replies.insert(token, sender);
            let effects = run(shard, token);
            self.perform(id, host, effects);
            receiver
        };
        // The shard may have a deadline now that is earlier than before.
        self.notify();
        receiver.await.map_err(|_| ErrorCode::NotCoordinator)
    }

    /// The partitions whose shards this broker hosts.
    fn hosted<S: Shard>(&self) -> Vec<PartitionId> {
        lock::<S>(self).hosts.keys().copied().collect()
    }
}

impl<S: Shard> Host<S> {
    fn refuse(&mut self, shard: S) {
        for (token, response) in shard.unload() {
            if let Some(reply) = self.replies.remove(&token) {
                let _ = reply.send(response);
            }
        }
        // Who is left gets the same error, because its sender is gone.
        self.replies.clear();
    }

    fn end(mut self) {
        if let Some(shard) = self.shard.take() {
            self.refuse(shard);
        }
    }
}

/// A batch of a shard's records as bytes.
fn built(batch: &NewBatch) -> Batch {
    let mut builder = BatchBuilder::new(batch.timestamp);
    if let Some(producer) = batch.producer {
        builder = builder.producer(producer.id, producer.epoch, -1).transactional();
    }
    for record in &batch.records {
        builder = builder.record(batch.timestamp, Some(&record.key), record.value.as_deref());
    }
    builder.build()
}

/// The records of a batch of the log.
fn read(batch: &Batch) -> Vec<Record> {
    let records = records(batch, crate::log::DECOMPRESSED).unwrap_or_default();
    let keyed =
        records.into_iter().filter_map(|record| Some(Record { key: record.key?, value: record.value }));
    keyed.collect()
}
