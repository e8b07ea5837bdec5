//! The bare loop: consume, decode, write single-partition unlogged batches. It guarantees nothing: no progress,
//! no counts, no alerts, no retries.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchType};
use scylla::value::CqlTimestamp;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::load::Load;
use crate::services::Services;
use crate::{Measured, Outcome};

/// Maximum batches queued between the consumer's thread and the writers.
const WAITING: usize = 8;

#[derive(Deserialize)]
struct Wire<'a> {
    id: i64,
    ts: i64,
    source: &'a str,
    client: &'a str,
    health: i32,
}

type Row = (i32, i64, i64, CqlTimestamp, String, String, i32, i64);

pub async fn measure(
    services: &Services,
    load: &Load,
    keyspace: &str,
    rows: usize,
    in_flight: usize,
) -> Outcome<Measured> {
    let session = SessionBuilder::new().known_nodes(&services.cassandra).build().await?;
    let mut insert = session
        .prepare(format!(
            "INSERT INTO {keyspace}.events (partition, offset, id, ts, source, client, health) \
             VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
        ))
        .await?;
    insert.set_is_idempotent(true);
    let of_size = |rows: usize| {
        let mut batch = Batch::new_with_statements(BatchType::Unlogged, vec![insert.clone().into(); rows]);
        batch.set_consistency(Consistency::Quorum);
        batch
    };
    let (session, full) = (Arc::new(session), Arc::new(of_size(rows)));
    let end = services.records(&load.topic()).await?;
    let (sender, mut batches) = mpsc::channel::<Vec<Row>>(WAITING);
    let (servers, topic) = (services.kafka.clone(), load.topic());
    let partitions = load.partitions;
    let reader = std::thread::spawn(move || read(&servers, (&topic, partitions), end, rows, &sender));
    let permits = Arc::new(Semaphore::new(in_flight));
    let mut start = None;
    while let Some(batch) = batches.recv().await {
        start.get_or_insert_with(SystemTime::now);
        let permit: OwnedSemaphorePermit = Arc::clone(&permits).acquire_owned().await?;
        let session = Arc::clone(&session);
        let statements = if batch.len() == rows { Arc::clone(&full) } else { Arc::new(of_size(batch.len())) };
        tokio::spawn(async move {
            // A real bare loop would ignore errors; here an error would falsify the result.
            if let Err(error) = session.batch(&statements, &batch).await {
                eprintln!("a batch failed: {error}");
                std::process::exit(1);
            }
            drop(permit);
        });
    }
    drop(permits.acquire_many(u32::try_from(in_flight)?).await?);
    let last = Some(SystemTime::now());
    let records = reader.join().map_err(|_| "the reader panicked")??;
    Measured::of_this_process(records, start, last)
}

/// Reads and decodes this number of records.
fn read(
    servers: &str,
    (topic, partitions): (&str, i32),
    end: u64,
    rows: usize,
    sender: &mpsc::Sender<Vec<Row>>,
) -> Outcome<u64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "exactlyonce-limit")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("fetch.queue.backoff.ms", "1")
        .set("queued.max.messages.kbytes", "8192")
        .create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Offset(0))?;
    }
    consumer.assign(&list)?;
    let mut waiting: Vec<Vec<Row>> = (0..partitions).map(|_| Vec::with_capacity(rows)).collect();
    let mut records = 0;
    while records < end {
        let Some(message) = consumer.poll(Duration::from_secs(10)) else {
            return Err(format!("no record for 10 s after {records} of {end}").into());
        };
        let message = message?;
        let wire: Wire = serde_json::from_slice(message.payload().ok_or("a record without a value")?)?;
        let (partition, offset) = (message.partition(), message.offset());
        let rows_of_partition = &mut waiting[partition as usize];
        rows_of_partition.push((
            partition,
            offset,
            wire.id,
            CqlTimestamp(wire.ts),
            wire.source.to_owned(),
            wire.client.to_owned(),
            wire.health,
            offset + 1,
        ));
        records += 1;
        if rows_of_partition.len() == rows {
            let batch = std::mem::replace(rows_of_partition, Vec::with_capacity(rows));
            sender.blocking_send(batch)?;
        }
    }
    for batch in waiting.into_iter().filter(|batch| !batch.is_empty()) {
        sender.blocking_send(batch)?;
    }
    Ok(records)
}
