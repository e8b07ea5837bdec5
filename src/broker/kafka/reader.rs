//! Describes topics and reads from them, outside any group.
//!
//! One client serves all clones of a broker. After a read, the partition continues to be fetched for a while, so that
//! a read that continues where the last one ended need not wait.

mod failures;
mod position;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use failures::{CREDENTIALS, LOGIN, LOGIN_HINT_AFTER};
use position::ReadPosition;
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::broker::kafka::error::{Class, KafkaError};
use crate::broker::kafka::guarantee;
use crate::broker::kafka::options::KafkaOptions;
use crate::broker::kafka::probe::{self, Listener};
use crate::broker::kafka::raw::{Client, Event, Queue, Resource};
use crate::broker::{BrokerError, Fetched, LogOffsets, Topic};
use crate::guarantee::Finding;

/// For how long appends do not look for a new topic id after the cluster has not responded with one.
const DESCRIBE_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// A partition is no longer fetched if it was not read for this time.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Attempts for a topic that is reported as unknown: a new topic, or the topics of a broker that restarted, become
/// known to the brokers one by one.
const UNKNOWN_ATTEMPTS: u32 = 10;
const UNKNOWN_WAIT: Duration = Duration::from_millis(200);

type Key = (String, i32);

/// A client and the partitions that it fetches.
#[derive(Debug)]
pub(super) struct Reader {
    client: Arc<Client>,
    queue: Mutex<Queue>,
    last_error: Mutex<Option<KafkaError>>,
    /// True after the first response.
    established: AtomicBool,
    servers: String,
    encrypted: bool,
    logs_in: bool,
    /// The listener's protocol, if it was probed.
    listener: OnceLock<Listener>,
    wait: Duration,
    /// By topic, how many partitions it has at least.
    known: Mutex<HashMap<String, i32>>,
    positions: Mutex<HashMap<Key, Arc<Mutex<Option<ReadPosition>>>>>,
    /// When a topic was last not described for an append.
    not_described_at: Mutex<Option<Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All functions block, so none may be called on a thread of the async runtime.
impl Reader {
    pub(super) fn new(client: Client, options: &KafkaOptions) -> Result<Self, KafkaError> {
        let client = Arc::new(client);
        let queue = Mutex::new(Queue::main(&client)?);
        Ok(Self {
            client,
            queue,
            last_error: Mutex::default(),
            established: AtomicBool::new(false),
            servers: options.bootstrap_servers.clone(),
            encrypted: options.security.tls.is_some(),
            logs_in: options.security.sasl.is_some(),
            listener: OnceLock::new(),
            wait: options.request_timeout,
            known: Mutex::default(),
            positions: Mutex::default(),
            not_described_at: Mutex::default(),
        })
    }

    /// Records that the cluster has responded, so listener and credentials are right.
    pub(super) fn establish(&self) {
        self.established.store(true, Ordering::Relaxed);
    }

    /// Why the cluster will never accept this client, if that is known while a request is in flight: librdkafka
    /// reports it long before the request times out. `None` after the first response: later errors may be transient.
    pub(super) fn permanent_failure(&self) -> Option<(KafkaError, &'static str)> {
        if self.established.load(Ordering::Relaxed) {
            return None;
        }
        if let Some(error) = self.last_error().filter(failures::is_final) {
            return Some((error, CREDENTIALS));
        }
        let failure = self.client.failure()?;
        let mismatch = match self.listener.get() {
            Some(Listener::Tls) if !self.encrypted => Some("the listener uses TLS, but this client does not"),
            Some(Listener::Plain | Listener::Login) if self.encrypted => {
                Some("the listener does not use TLS, but this client does")
            }
            Some(Listener::Login) if !self.logs_in => Some(LOGIN),
            // The probe speaks no TLS. librdkafka retries, but does not log the same failure again; one that it has logged for so
            // long is mostly what it says.
            _ if self.encrypted
                && !self.logs_in
                && failures::may_require_login(&failure.text)
                && failure.at.elapsed() >= LOGIN_HINT_AFTER =>
            {
                Some(LOGIN)
            }
            _ => None,
        };
        mismatch.map(|reason| (failures::connection(failure.text), reason))
    }

    /// As [`Client::connect_again`].
    pub(super) fn connect_again(&self) {
        self.client.connect_again();
    }

    /// Cancels requests in flight, or ends their cancellation.
    pub(super) fn cancel(&self, cancelled: bool) {
        self.client.cancel(cancelled);
    }

    /// True if the listener's protocol should be probed.
    pub(super) fn should_probe(&self) -> bool {
        let broken = |text: &str| {
            text.contains("SSL_HANDSHAKE")
                || text.contains("APIVERSION_QUERY")
                || text.contains("Invalid response size")
                || !self.logs_in && failures::may_require_login(text)
        };
        !self.established.load(Ordering::Relaxed)
            && self.listener.get().is_none()
            && self.client.failure().is_some_and(|failure| broken(&failure.text))
    }

    /// Probes the listener. An inconclusive response is not kept.
    pub(super) fn probe_listener(&self) {
        if let Some(listener) = probe::listener(&self.servers) {
            let _ = self.listener.set(listener);
        }
    }

    pub(super) fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        let what = || format!("describe topic {topic}");
        let described = retry_unknown(|| self.client.describe(topic, self.wait));
        let described = described.map_err(|error| self.error(error, topic, what()))?;
        let settings = retry_unknown(|| self.client.settings(Resource::Topic(topic), self.wait));
        let settings = settings.map_err(|error| self.error(error, topic, what()))?;
        if described.id.is_empty() {
            let error = KafkaError::of(Code::UnsupportedVersion);
            return Err(
                error.fatal(format!("describe topic {topic}: topics have no ids (Kafka 2.8 or later)"))
            );
        }
        self.forget_errors();
        Ok(Topic {
            name: topic.to_owned(),
            id: described.id,
            partitions: i32::try_from(described.partitions).unwrap_or(i32::MAX),
            replication: i16::try_from(described.replication).unwrap_or(i16::MAX),
            compacted: settings
                .iter()
                .any(|s| s.name == "cleanup.policy" && guarantee::is_compacted(&s.value)),
        })
    }

    /// What the guarantee requires of a topic.
    pub(super) fn guarantees(&self, topic: &str) -> Result<Vec<Finding>, BrokerError> {
        let what = || format!("read the settings of topic {topic} and its brokers");
        let described = retry_unknown(|| self.client.describe(topic, self.wait));
        let described = described.map_err(|error| self.error(error, topic, what()))?;
        // Another broker may answer, which does not know a new topic yet.
        let settings = |resource: Resource<'_>| retry_unknown(|| self.client.settings(resource, self.wait));
        let findings = guarantee::findings(topic, &described, settings);
        findings.map_err(|error| self.error(error, topic, what()))
    }

    pub(super) fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        replication: i16,
    ) -> Result<(), BrokerError> {
        let created = self.client.create_topic(topic, partitions, replication, self.wait);
        created.map_err(|error| self.error(error, topic, format!("create topic {topic}")))
    }

    /// The topic's number of partitions.
    pub(super) fn partitions(&self, topic: &str) -> Result<usize, BrokerError> {
        let what = || format!("read the metadata of topic {topic}");
        let partitions = retry_unknown(|| self.client.partitions(topic, self.wait));
        let partitions = partitions.map_err(|error| self.error(error, topic, what()))?;
        Ok(usize::try_from(partitions).unwrap_or(0))
    }

    /// The topic has at least so many partitions: a broker that does not know them has old metadata. Returns how many it has at
    /// least, as far as it was ever known.
    pub(super) fn knows(&self, topic: &str, partitions: i32) -> i32 {
        let mut known = lock(&self.known);
        let most = known.entry(topic.to_owned()).or_default();
        *most = partitions.max(*most);
        *most
    }

    /// Fails if the partition does not exist; with an error that is retriable if it is known to exist.
    pub(super) fn check_partition(&self, topic: &str, partition: i32) -> Result<(), BrokerError> {
        let what = || format!("read the metadata of topic {topic} partition {partition}");
        let partitions = retry_unknown(|| self.client.partitions(topic, self.wait));
        self.judge(topic, partition, partitions.map_err(|error| self.error(error, topic, what()))?)
    }

    /// As [`Reader::check_partition`], for several partitions. Returns the id of the topic, if a broker responds with it.
    pub(super) fn check_partitions(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> Result<Option<String>, BrokerError> {
        let count = i32::try_from(self.partitions(topic)?).unwrap_or(i32::MAX);
        partitions.iter().try_for_each(|partition| self.judge(topic, *partition, count))?;
        // Only a recreated topic needs the id, so a cluster that does not respond does not delay every append.
        if lock(&self.not_described_at).is_some_and(|at| at.elapsed() < DESCRIBE_AGAIN_AFTER) {
            return Ok(None);
        }
        let described = self.client.describe(topic, self.wait).ok();
        *lock(&self.not_described_at) = described.is_none().then(Instant::now);
        Ok(described.map(|described| described.id))
    }

    /// Fails if a topic of so many partitions, according to a broker, does not have this one.
    fn judge(&self, topic: &str, partition: i32, partitions: i32) -> Result<(), BrokerError> {
        let known = self.knows(topic, partitions);
        if (0..partitions).contains(&partition) {
            return Ok(());
        }
        if (0..known).contains(&partition) {
            let what = format!("read topic {topic} partition {partition}, which a broker does not know yet");
            return Err(BrokerError::Retriable { what, cause: None });
        }
        let what = format!("topic {topic} has {partitions} partitions and no partition {partition}");
        Err(BrokerError::Fatal { what, cause: None })
    }

    pub(super) fn offsets(&self, topic: &str, partition: i32) -> Result<LogOffsets, BrokerError> {
        if partition < 0 {
            self.check_partition(topic, partition)?;
        }
        let what = format!("read the offsets of topic {topic} partition {partition}");
        match retry_unknown(|| self.client.offsets(topic, partition, self.wait)) {
            Ok((start, end)) => Ok(LogOffsets { start, end }),
            // The topic's metadata shows whether the topic or only the partition is unknown.
            Err(error) if error.class() == Class::UnknownTopic || error.is(Code::UnknownPartition) => {
                self.check_partition(topic, partition)?;
                Err(error.retriable(what))
            }
            Err(error) => Err(self.error(error, topic, what)),
        }
    }

    pub(super) fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Fetched, BrokerError> {
        let key = (topic.to_owned(), partition);
        let shared = lock(&self.positions).entry(key).or_default().clone();
        let mut shared = lock(&shared);
        if shared.as_ref().is_none_or(|position| position.next_offset() != offset) {
            self.stop(topic, partition, shared.take());
            self.check_partition(topic, partition)?;
            if offset < 0 {
                return Err(BrokerError::OutOfRange { topic: topic.to_owned(), partition, offset });
            }
            let position = self.begin(topic, partition, offset);
            *shared = Some(position.map_err(|error| self.failed(error, topic, partition, offset))?);
        }
        let Some(position) = shared.as_mut() else {
            return Ok(Fetched { records: Vec::new(), next_offset: offset });
        };
        let nothing = |left| self.nothing_to_read(topic, partition, offset, left);
        let read = position.read(max_records.max(1), max_bytes, self.wait, nothing);
        // At the end of the log the fetch is stopped: the next read restarts it and gets the end again. After an error
        // the state is unknown.
        if !matches!(read, Ok((_, false))) {
            self.stop(topic, partition, shared.take());
        }
        match read {
            Ok((fetched, _)) => Ok(fetched),
            Err(error) => Err(self.failed(error, topic, partition, offset)),
        }
    }

    /// True if the log reaches `offset`, but an open transaction that started before it hides everything from there on.
    /// librdkafka reports the end only to a reader whose position equals it.
    fn nothing_to_read(&self, topic: &str, partition: i32, offset: i64, wait: Duration) -> bool {
        // In this order: the last stable offset only grows, so the second response cannot contradict the first.
        let committed = self.client.offsets(topic, partition, wait);
        let checked = committed.and_then(|(_, committed)| {
            Ok(committed <= offset && self.client.high_watermark(topic, partition, wait)? >= offset)
        });
        checked.unwrap_or_else(|error| {
            tracing::debug!(topic, partition, offset, %error, "could not determine whether there is anything to read");
            false
        })
    }

    fn begin(&self, topic: &str, partition: i32, offset: i64) -> Result<ReadPosition, KafkaError> {
        let queue = Queue::of_partition(&self.client, topic, partition)?;
        self.client.fetch_start(topic, partition, offset)?;
        Ok(ReadPosition::new(queue, offset))
    }

    fn stop(&self, topic: &str, partition: i32, position: Option<ReadPosition>) {
        if position.is_some()
            && let Err(error) = self.client.fetch_stop(topic, partition)
        {
            tracing::debug!(topic, partition, %error, "could not stop a fetch");
        }
    }

    /// Stops fetching partitions that were not read for a while.
    pub(super) fn stop_idle(&self) {
        let positions: Vec<_> =
            lock(&self.positions).iter().map(|(key, position)| (key.clone(), position.clone())).collect();
        for ((topic, partition), shared) in positions {
            // A partition that is being read is not idle.
            if let Ok(mut position) = shared.try_lock()
                && position.as_ref().is_some_and(|position| position.idle_for() >= IDLE_TIMEOUT)
            {
                self.stop(&topic, partition, position.take());
            }
        }
        lock(&self.positions).retain(|_, shared| Arc::strong_count(shared) > 1 || lock(shared).is_some());
    }

    fn failed(&self, error: KafkaError, topic: &str, partition: i32, offset: i64) -> BrokerError {
        match error.class() {
            Class::OutOfRange => BrokerError::OutOfRange { topic: topic.to_owned(), partition, offset },
            _ => {
                let what = format!("read topic {topic} partition {partition} from offset {offset}");
                self.error(error, topic, what)
            }
        }
    }

    /// The error of a request, with the reason that librdkafka reports separately: a client that cannot log in, does
    /// not trust the server or uses the wrong listener only sees its requests time out.
    fn error(&self, error: KafkaError, topic: &str, what: String) -> BrokerError {
        match self.last_error() {
            Some(last) if failures::is_final(&last) && error.class() == Class::Retriable => {
                self.forget_errors();
                last.refused(what, CREDENTIALS)
            }
            Some(last) if error.is(Code::OperationTimedOut) => last.retriable(what),
            _ => error.about(topic, what),
        }
    }

    /// The last connection error that librdkafka has reported since the last response. It is kept because librdkafka
    /// repeats an error only after 30 seconds.
    pub(super) fn last_error(&self) -> Option<KafkaError> {
        let queue = lock(&self.queue);
        let mut kept = lock(&self.last_error);
        while let Some(event) = queue.event() {
            if let Event::Error { error, .. } = event
                && (kept.is_none() || failures::is_final(&error))
            {
                *kept = Some(failures::login(error));
            }
        }
        // librdkafka does not report every failed connection as an error, and "all brokers are down" has no reason.
        let failure = || self.client.failure().map(|failure| failures::connection(failure.text));
        kept.clone().filter(failures::is_final).or_else(failure).or_else(|| kept.clone())
    }

    fn forget_errors(&self) {
        self.last_error();
        *lock(&self.last_error) = None;
        self.client.forget_failure();
    }
}

/// Retries a request for a while if the topic is reported as unknown.
fn retry_unknown<T>(mut request: impl FnMut() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    let mut attempts = 1;
    loop {
        match request() {
            Err(error)
                if attempts < UNKNOWN_ATTEMPTS
                    && (error.class() == Class::UnknownTopic || error.is(Code::UnknownPartition)) =>
            {
                attempts += 1;
                std::thread::sleep(UNKNOWN_WAIT);
            }
            result => return result,
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let positions: Vec<_> = lock(&self.positions).drain().collect();
        for ((topic, partition), shared) in positions {
            let position = lock(&shared).take();
            self.stop(&topic, partition, position);
        }
    }
}
