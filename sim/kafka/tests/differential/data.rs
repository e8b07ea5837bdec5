//! Records and offsets.

use bytes::Bytes;
use proto_kafka::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use proto_kafka::messages::describe_producers_request::TopicRequest;
use proto_kafka::messages::fetch_request::{FetchPartition, FetchTopic};
use proto_kafka::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use proto_kafka::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use proto_kafka::messages::produce_request::{PartitionProduceData, TopicProduceData};
use proto_kafka::messages::*;
use simulated_kafka::error::ErrorCode;
use simulated_kafka::protocol::batch::Batch;
use simulated_kafka::protocol::builder::BatchBuilder;
use simulated_kafka::protocol::records::{EndMarker, records};

use crate::side::{Place, Producer, Side, text, topic_name};
use crate::steps::{Damage, IDEMPOTENT, Produce, Step, Who};

/// Times that brokers set are later than this after the begin of the test, as its records see it.
const CLOCK: i64 = 3_000_000;

/// Where the fields of a batch are.
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const COUNT: usize = 57;

/// A time as it is compared: that of a broker's clock is only known to be one.
fn time(millis: i64, base: i64) -> String {
    if millis < 0 {
        return millis.to_string();
    }
    let after = millis - base;
    if (CLOCK..9_000_000).contains(&after) { "clock".to_owned() } else { format!("+{after}") }
}

fn damaged(mut bytes: Vec<u8>, damage: Damage) -> Vec<u8> {
    let mut set = |place: usize, number: i32| bytes[place..place + 4].copy_from_slice(&number.to_be_bytes());
    match damage {
        Damage::None => return bytes,
        Damage::Checksum => {
            set(CRC, 7);
            return bytes;
        }
        Damage::Cut => {
            bytes.truncate(bytes.len() - 1);
            return bytes;
        }
        Damage::Twice => return bytes.repeat(2),
        Damage::Count(count) => set(COUNT, count),
        Damage::LastOffset(delta) => set(LAST_OFFSET_DELTA, delta),
        Damage::Control => bytes[ATTRIBUTES + 1] |= 0x20,
    }
    let crc = crc32c::crc32c(&bytes[ATTRIBUTES..]).to_be_bytes();
    bytes[CRC..CRC + 4].copy_from_slice(&crc);
    bytes
}

impl Side {
    pub fn producer(&self, place: usize) -> Producer {
        // One that was never initialized has an id that nobody has.
        let unknown = Producer { id: 4_000_000_000 + place as i64, ..Producer::default() };
        self.producers.get(&place).cloned().unwrap_or(unknown)
    }

    pub fn transaction_of(&self, place: usize) -> Option<TransactionalId> {
        (place >= IDEMPOTENT).then(|| TransactionalId(text(&self.name("x", place))))
    }

    /// The first record of a plain batch that only makes sure that what was sent before is appended.
    fn flush(&self, topic: &str, partition: i32, now: i64) -> ProduceRequest {
        let batch = BatchBuilder::new(now).record(now, Some(b"flush"), Some(b"")).build();
        request(topic, partition, -1, None, batch.bytes().clone())
    }

    pub async fn produce(&mut self, step: &Produce, now: i64) -> Vec<String> {
        let name = self.name("t", step.topic);
        let mut builder = BatchBuilder::new(now + step.times[0]);
        let mut transaction = None;
        let mut sequence = 0;
        if let Who::Producer { place, epoch, sequence: delta } = step.who {
            let producer = self.producer(place);
            sequence = producer.sequences.get(&(step.topic, step.partition)).copied().unwrap_or(0) + delta;
            // Below 0 Kafka fails with an exception that it does not expect if it has to compress the batch itself.
            builder = builder.producer(producer.id, (producer.epoch + epoch).max(0), sequence);
            transaction = self.transaction_of(place);
            if transaction.is_some() {
                builder = builder.transactional();
            }
        }
        let value = vec![b'v'; step.size];
        for (place, time) in step.times.iter().enumerate() {
            let key = format!("k{place}");
            builder = builder.record(now + time, step.keyed.then_some(key.as_bytes()), Some(&value));
        }
        let bytes = damaged(builder.build_compressed(step.compression).bytes().to_vec(), step.damage);
        let produce = request(&name, step.partition, step.acks, transaction, bytes.into());
        let leader = self.leader(&name, step.partition).await;
        if step.acks == 0 {
            let _ = self.write(leader, &produce, step.version).await;
            let flush = self.flush(&name, step.partition, now);
            let Some(response) = self.send(leader, &flush, 9).await else { return vec!["closed".to_owned()] };
            let answer = &response.responses[0].partition_responses[0];
            self.count(step, sequence, answer.error_code);
            return vec![format!("{} {}", answer.error_code, answer.base_offset)];
        }
        // A leader that cannot ask the coordinator of a transaction yet says so, too (`ReplicaManager.handleProduceAppend`).
        let unverified =
            (self.kills && produce.transactional_id.is_some()).then_some(ErrorCode::NotEnoughReplicas.code());
        let response = self
            .settled_beside(
                unverified,
                async |side| {
                    let leader = side.leader(&name, step.partition).await;
                    side.send(leader, &produce, step.version).await
                },
                |response| response.responses[0].partition_responses[0].error_code,
            )
            .await;
        let Some(response) = response else { return vec!["closed".to_owned()] };
        let answer = response.responses[0].partition_responses[0].clone();
        self.count(step, sequence, answer.error_code);
        if answer.error_code == 0 && step.acks == 1 {
            self.wait_for_high_watermark(&name, step.partition, answer.base_offset + i64::from(step.count))
                .await;
        }
        let start = if step.version >= 5 { answer.log_start_offset } else { 0 };
        let appended = time(answer.log_append_time_ms, now);
        vec![format!("{} {} from {start}, {appended}", answer.error_code, answer.base_offset)]
    }

    /// Counts the sequence numbers of what was appended.
    fn count(&mut self, step: &Produce, sequence: i32, code: i16) {
        if let Who::Producer { place, epoch: 0, sequence: 0 } = step.who
            && code == 0
            && let Some(producer) = self.producers.get_mut(&place)
        {
            producer.sequences.insert((step.topic, step.partition), sequence + step.count);
        }
    }

    async fn end_offset(&mut self, topic: &str, partition: i32) -> i64 {
        let leader = self.leader(topic, partition).await;
        let request = list(topic, partition, -1, 0);
        let response = self.send(leader, &request, 7).await;
        response.map_or(-1, |response| response.topics[0].partitions[0].offset)
    }

    /// Waits until a consumer sees as much, for a while: with too few replicas in sync it never does.
    async fn wait_for_high_watermark(&mut self, topic: &str, partition: i32, end: i64) {
        for _ in 0..300 {
            if self.end_offset(topic, partition).await >= end {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    pub async fn log(&mut self, step: &Step, now: i64) -> Vec<String> {
        match step {
            Step::DescribeProducers { topic, partition } => {
                let name = self.name("t", *topic);
                let wanted = TopicRequest::default()
                    .with_name(topic_name(&name))
                    .with_partition_indexes(vec![*partition]);
                let request = DescribeProducersRequest::default().with_topics(vec![wanted]);
                let code = |response: &DescribeProducersResponse| response.topics[0].partitions[0].error_code;
                let response = self.at(Place::Leader(&name, *partition), &request, 0, code).await;
                let found = &response.topics[0].partitions[0];
                let mut lines: Vec<String> = found
                    .active_producers
                    .iter()
                    .map(|producer| {
                        let who = self.producer_of(producer.producer_id.0);
                        let (epoch, sequence) = (producer.producer_epoch, producer.last_sequence);
                        format!(
                            "  {who} epoch {epoch} sequence {sequence} since {}",
                            producer.current_txn_start_offset
                        )
                    })
                    .collect();
                lines.sort();
                lines.insert(0, format!("{} {}", found.error_code, lines.len()));
                lines
            }
            Step::DeleteRecords { topic, partition, offset } => {
                let name = self.name("t", *topic);
                let wanted =
                    DeleteRecordsPartition::default().with_partition_index(*partition).with_offset(*offset);
                let wanted =
                    DeleteRecordsTopic::default().with_name(topic_name(&name)).with_partitions(vec![wanted]);
                let request = DeleteRecordsRequest::default().with_topics(vec![wanted]).with_timeout_ms(3000);
                let code = |response: &DeleteRecordsResponse| response.topics[0].partitions[0].error_code;
                let response = self.at(Place::Leader(&name, *partition), &request, 2, code).await;
                let done = &response.topics[0].partitions[0];
                // With a replica down it cannot be done in time; what is left then is compared by fetches.
                vec![format!("{} {}", done.error_code, done.low_watermark)]
            }
            Step::Offsets { topic, partition, time: wanted, isolation, version } => {
                let name = self.name("t", *topic);
                let wanted = if *wanted < 0 { *wanted } else { now + wanted };
                let request = list(&name, *partition, wanted, if *version >= 2 { *isolation } else { 0 });
                let code = |response: &ListOffsetsResponse| response.topics[0].partitions[0].error_code;
                let response = self.at(Place::Leader(&name, *partition), &request, *version, code).await;
                let found = &response.topics[0].partitions[0];
                let epoch = if *version >= 4 && !self.kills { found.leader_epoch } else { 0 };
                vec![format!("{} {} {} {epoch}", found.error_code, found.offset, time(found.timestamp, now))]
            }
            Step::Epochs { topic, partition, epoch } => {
                let name = self.name("t", *topic);
                let wanted = OffsetForLeaderPartition::default()
                    .with_partition(*partition)
                    .with_current_leader_epoch(-1)
                    .with_leader_epoch(*epoch);
                let wanted = OffsetForLeaderTopic::default()
                    .with_topic(topic_name(&name))
                    .with_partitions(vec![wanted]);
                let request = OffsetForLeaderEpochRequest::default()
                    .with_replica_id(BrokerId(-1))
                    .with_topics(vec![wanted]);
                let code =
                    |response: &OffsetForLeaderEpochResponse| response.topics[0].partitions[0].error_code;
                let response = self.at(Place::Leader(&name, *partition), &request, 4, code).await;
                let found = &response.topics[0].partitions[0];
                if self.kills {
                    return vec![format!("{} ", found.error_code)];
                }
                vec![format!("{} {} {}", found.error_code, found.leader_epoch, found.end_offset)]
            }
            Step::Fetch { topic, partition, offset, isolation, version, bytes } => {
                let wanted = FetchPartition::default()
                    .with_partition(*partition)
                    .with_current_leader_epoch(-1)
                    .with_last_fetched_epoch(-1)
                    .with_fetch_offset(*offset)
                    .with_partition_max_bytes(*bytes);
                self.fetch((*topic, wanted), *isolation, *version, now).await
            }
            other => panic!("{other:?} is for others"),
        }
    }

    async fn fetch(
        &mut self,
        (topic, wanted): (usize, FetchPartition),
        isolation: i8,
        version: i16,
        now: i64,
    ) -> Vec<String> {
        let name = self.name("t", topic);
        let (partition, limit) = (wanted.partition, wanted.partition_max_bytes);
        let wanted = FetchTopic::default().with_topic(topic_name(&name)).with_partitions(vec![wanted]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(0)
            .with_min_bytes(1)
            .with_max_bytes(50 << 20)
            .with_isolation_level(isolation)
            .with_session_epoch(-1)
            .with_topics(vec![wanted]);
        let code = |response: &FetchResponse| response.responses[0].partitions[0].error_code;
        let response = self.at(Place::Leader(&name, partition), &request, version, code).await;
        let found = &response.responses[0].partitions[0];
        let start = if version >= 5 { found.log_start_offset } else { 0 };
        let mut lines = vec![format!(
            "{} high watermark {} stable {} start {start}",
            found.error_code, found.high_watermark, found.last_stable_offset
        )];
        let mut batches = Vec::new();
        let mut bytes = found.records.clone().unwrap_or_default();
        // The last batch may be cut.
        while let Ok(batch) = Batch::split_from(&mut bytes) {
            batches.push(batch);
        }
        // How many fit into few bytes is not the same if the brokers have compressed them.
        if self.compressed.contains(&topic) && limit < 1 << 20 {
            batches.truncate(1);
        }
        // Kafka may list transactions that begin after what it returns, up to the next entry of the offset index.
        let last = batches.last().map_or(-1, Batch::last_offset);
        let mut aborted: Vec<String> = found
            .aborted_transactions
            .iter()
            .flatten()
            .filter(|aborted| aborted.first_offset <= last)
            .map(|aborted| {
                format!("  aborted {} from {}", self.producer_of(aborted.producer_id.0), aborted.first_offset)
            })
            .collect();
        aborted.sort();
        lines.append(&mut aborted);
        lines.extend(batches.iter().map(|batch| self.show(batch, now)));
        lines
    }

    fn show(&self, batch: &Batch, now: i64) -> String {
        let who = self.producer_of(batch.producer_id());
        let (epoch, sequence) = (batch.producer_epoch(), batch.base_sequence());
        let leader = if self.kills { 0 } else { batch.leader_epoch() };
        let (first, last) = (batch.base_offset(), batch.last_offset());
        assert_eq!(batch.check(), Ok(()), "{first}");
        let content = records(batch, 1 << 24).expect("records");
        let content: Vec<String> = content
            .iter()
            .map(|record| {
                if let Some(end) = EndMarker::of(record).filter(|_| batch.is_control()) {
                    return format!("{}: {:?}", record.offset, end.marker);
                }
                let key = record.key.as_deref().map(String::from_utf8_lossy);
                let bytes = record.value.as_ref().map_or(-1, |value| value.len() as i64);
                format!("{}: {key:?} {bytes} bytes {}", record.offset, time(record.timestamp, now))
            })
            .collect();
        let kind = [
            (batch.is_transactional(), "transactional"),
            (batch.is_control(), "control"),
            (batch.is_log_append_time(), "append time"),
        ];
        let kind: Vec<&str> = kind.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
        format!(
            "  {first}..={last} of {who} {epoch} {sequence} by {leader} {kind:?} compression {} {content:?}",
            batch.compression()
        )
    }
}

fn request(
    topic: &str,
    partition: i32,
    acks: i16,
    transaction: Option<TransactionalId>,
    records: Bytes,
) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_transactional_id(transaction)
        .with_acks(acks)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic])
}

fn list(topic: &str, partition: i32, time: i64, isolation: i8) -> ListOffsetsRequest {
    let wanted = ListOffsetsPartition::default()
        .with_partition_index(partition)
        .with_current_leader_epoch(-1)
        .with_timestamp(time);
    let topic = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![wanted]);
    ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_isolation_level(isolation)
        .with_topics(vec![topic])
}
