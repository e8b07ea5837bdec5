//! The log in a folder: topics in one SQLite file, `log.sqlite`.
//!
//! Guarantees, beyond the contract of [`crate::broker`]:
//! - an append is one transaction: either all of its records are appended or none. When it returns, they are as durable
//!   as [`Synchronous`](crate::sqlite::Synchronous) specifies. Producers of several processes wait for each other;
//!   readers never wait;
//! - offsets are dense, and every record has a checksum: a record that is missing or was altered on the disk
//!   is an error, never skipped;
//! - each creation of a topic gives it a new UUID as its id.
//!
//! A group has one member, because a folder has one worker at a time
//! ([`WorkerLock`](crate::sqlite::WorkerLock)), and that member gets all partitions. Nothing is ever revoked.

mod consumer;
mod log;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::Connection;

pub use consumer::EmbeddedConsumer;

use crate::broker::{Broker, BrokerError, Fetched, LogOffsets, NewRecord, Producer, Topic};
use crate::sqlite::{self, Connected, FileError, Options, Panicked};
use log::Failure;

/// The log of a folder. The file is closed when the last clone and the last consumer are dropped, which waits
/// for a request in flight.
#[derive(Clone, Debug)]
pub struct EmbeddedBroker {
    shared: Arc<LogFile>,
}

#[derive(Debug)]
struct LogFile {
    folder: PathBuf,
    path: Arc<Path>,
    options: Options,
    reader: Connected,
    writer: Connected,
    /// Records without a key and a partition so far: they are distributed round-robin over the partitions.
    keyless: AtomicU32,
}

impl EmbeddedBroker {
    /// Creates the folder and an empty log where they do not exist yet. An existing log is not changed.
    ///
    /// # Errors
    /// See [`FileError`]; a file of another program is not changed.
    pub fn create(folder: impl AsRef<Path>, options: &Options) -> Result<(), FileError> {
        sqlite::create(folder.as_ref(), &schema::format(), options)
    }

    /// Opens the log of a folder.
    ///
    /// # Errors
    /// See [`FileError`]; [`FileError::Missing`] before [`EmbeddedBroker::create`].
    pub fn open(folder: impl AsRef<Path>, options: &Options) -> Result<Self, FileError> {
        let folder = folder.as_ref().to_owned();
        let path: Arc<Path> = folder.join(schema::NAME).into();
        let connected = |name| {
            let connection = sqlite::open(&folder, &schema::format(), options)?;
            Connected::with(name, connection)
                .map_err(|source| FileError::Thread { path: path.to_path_buf(), source })
        };
        let (reader, writer) = (connected("log reader")?, connected("log writer")?);
        let (options, keyless) = (options.clone(), AtomicU32::new(0));
        Ok(Self { shared: Arc::new(LogFile { folder, path, options, reader, writer, keyless }) })
    }

    /// Retention: deletes the records below `start` (all of them if the log ends before it) and moves the log's start
    /// there. Space in the file is reused, but the file does not shrink.
    ///
    /// # Errors
    /// As [`Broker::offsets`].
    pub async fn delete_below(&self, topic: &str, partition: i32, start: i64) -> Result<(), BrokerError> {
        let name = topic.to_owned();
        let what = || format!("delete records below {start} of topic {topic} partition {partition}");
        self.write(what, move |file| log::delete_below(file, &name, partition, start)).await
    }

    /// Deletes a topic with its records.
    ///
    /// # Errors
    /// As [`Broker::topic`].
    pub async fn delete_topic(&self, topic: &str) -> Result<(), BrokerError> {
        let name = topic.to_owned();
        self.write(|| format!("delete topic {topic}"), move |file| log::delete_topic(file, &name)).await
    }

    /// Increases a topic's number of partitions; a number that is not greater changes nothing. As with Kafka, keys then
    /// map to other partitions.
    ///
    /// # Errors
    /// As [`Broker::topic`].
    pub async fn add_partitions(&self, topic: &str, partitions: i32) -> Result<(), BrokerError> {
        let name = topic.to_owned();
        let what = || format!("add partitions to topic {topic}");
        self.write(what, move |file| log::add_partitions(file, &name, partitions)).await
    }

    /// Sets or clears [`Topic::compacted`]. Nothing is compacted.
    ///
    /// # Errors
    /// As [`Broker::topic`].
    pub async fn set_compacted(&self, topic: &str, compacted: bool) -> Result<(), BrokerError> {
        let name = topic.to_owned();
        let what = || format!("change topic {topic}");
        self.write(what, move |file| log::set_compacted(file, &name, compacted)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        what: impl FnOnce() -> String,
        query: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let shared = &self.shared;
        let reply = shared.reader.call(move |file| query(&*file.transaction()?)).await;
        flatten(reply, what, &shared.path)
    }

    async fn write<T: Send + 'static>(
        &self,
        what: impl FnOnce() -> String,
        change: impl FnOnce(&mut Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let reply = self.shared.writer.call(change).await;
        flatten(reply, what, &self.shared.path)
    }
}

/// The reply of a thread, or why there is none.
fn flatten<T>(
    reply: Result<Result<T, Failure>, Panicked>,
    what: impl FnOnce() -> String,
    path: &Path,
) -> Result<T, BrokerError> {
    match reply {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(failure)) => Err(failure.into_error(what, path)),
        Err(Panicked::Before | Panicked::During) => Err(panicked(what, path)),
    }
}

fn panicked(what: impl FnOnce() -> String, path: &Path) -> BrokerError {
    let what = format!("{} in {}: its thread panicked", what(), path.display());
    BrokerError::Fatal { what, cause: None }
}

impl Broker for EmbeddedBroker {
    type Consumer = EmbeddedConsumer;

    async fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        let name = topic.to_owned();
        self.read(|| format!("describe topic {topic}"), move |file| log::describe(file, &name)).await
    }

    async fn offsets(&self, topic: &str, partition: i32) -> Result<LogOffsets, BrokerError> {
        let name = topic.to_owned();
        let what = || format!("read the offsets of topic {topic} partition {partition}");
        self.read(what, move |file| log::offsets(file, &name, partition)).await
    }

    async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Fetched, BrokerError> {
        let name = topic.to_owned();
        let what = || format!("read topic {topic} partition {partition} from offset {offset}");
        let fetch =
            move |file: &Connection| log::fetch(file, &name, partition, offset, max_records, max_bytes);
        self.read(what, fetch).await
    }

    /// The group's name is ignored: every member gets all partitions.
    async fn subscribe(&self, _group: &str, topic: &str) -> Result<EmbeddedConsumer, BrokerError> {
        let partitions = self.topic(topic).await?.partitions;
        // A separate connection, so that other reads of the log do not wait for the worker.
        let LogFile { folder, path, options, reader, .. } = &*self.shared;
        let what = || format!("subscribe to topic {topic}");
        let (folder, options) = (folder.clone(), options.clone());
        let opened = reader.call(move |_| sqlite::open(&folder, &schema::format(), &options)).await;
        let connection = opened
            .map_err(|_| panicked(what, path))?
            .map_err(|error| BrokerError::Fatal { what: what(), cause: Some(error.into()) })?;
        let reader = Connected::with("log consumer", connection)
            .map_err(|error| BrokerError::Fatal { what: what(), cause: Some(error.into()) })?;
        Ok(EmbeddedConsumer::new(topic, path.clone(), reader, partitions))
    }
}

impl Producer for EmbeddedBroker {
    async fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        replication: i16,
    ) -> Result<Topic, BrokerError> {
        let description = Topic {
            name: topic.to_owned(),
            id: uuid::Uuid::new_v4().to_string(),
            partitions,
            replication,
            compacted: false,
        };
        let what = || format!("create topic {topic}");
        self.write(what, move |file| log::create_topic(file, description)).await
    }

    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<(i32, i64)>, BrokerError> {
        let keyless = records.iter().filter(|record| record.key.is_none() && record.partition.is_none());
        let keyless = u32::try_from(keyless.count()).unwrap_or(u32::MAX);
        let before = self.shared.keyless.fetch_add(keyless, Ordering::Relaxed);
        let name = topic.to_owned();
        let what = || format!("append to topic {topic}");
        self.write(what, move |file| log::append(file, &name, records, before)).await
    }
}
