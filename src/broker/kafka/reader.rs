//! Looking at topics and reading from them, outside any group.
//!
//! One client does it for all clones of a broker. A partition that is being read goes on being fetched for a
//! little while, so that who reads on where the last reading ended need not wait.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::broker::kafka::error::{Class, KafkaError};
use crate::broker::kafka::raw::{Client, Event, Message, Queue};
use crate::broker::{BrokerError, Fetched, LogOffsets, Topic};
use crate::event::Record;

/// Messages that are taken at once.
const PIECE: usize = 500;
/// A partition that nobody read for so long is fetched no more.
pub(super) const REST: Duration = Duration::from_secs(5);
/// A reading that has brought nothing for so long asks whether there is anything, and again after twice as long.
const NOTHING: Duration = Duration::from_millis(250);
/// How often a topic that is said not to exist is asked for again: brokers hear of a new topic, and of
/// everything when they come up, one after another.
const UNKNOWN_ASKED: u32 = 5;
const UNKNOWN_WAIT: Duration = Duration::from_millis(200);

type Key = (String, i32);

/// The client and the partitions that it fetches.
#[derive(Debug)]
pub(super) struct Reader {
    client: Arc<Client>,
    queue: Mutex<Queue>,
    trouble: Mutex<Option<KafkaError>>,
    wait: Duration,
    places: Mutex<HashMap<Key, Arc<Mutex<Option<Place>>>>>,
}

/// A partition that is fetched.
#[derive(Debug)]
struct Place {
    queue: Queue,
    waiting: VecDeque<Record>,
    next_offset: i64,
    read: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every function waits, so none may be called on a thread of the async runtime.
impl Reader {
    pub(super) fn new(client: Client, wait: Duration) -> Result<Self, KafkaError> {
        let client = Arc::new(client);
        let queue = Mutex::new(Queue::main(&client)?);
        Ok(Self { client, queue, trouble: Mutex::default(), wait, places: Mutex::default() })
    }

    pub(super) fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        let what = || format!("describe topic {topic}");
        let described = patiently(|| self.client.describe(topic, self.wait));
        let described = described.map_err(|error| self.error(error, topic, what()))?;
        let policy = patiently(|| self.client.topic_setting(topic, "cleanup.policy", self.wait));
        let policy = policy.map_err(|error| self.error(error, topic, what()))?.unwrap_or_default();
        if described.id.is_empty() {
            let error = KafkaError::of(Code::UnsupportedVersion);
            return Err(
                error.fatal(format!("describe topic {topic}: topics have no ids (Kafka 2.8 or later)"))
            );
        }
        self.forget_trouble();
        Ok(Topic {
            name: topic.to_owned(),
            id: described.id,
            partitions: i32::try_from(described.partitions).unwrap_or(i32::MAX),
            replication: i16::try_from(described.replication).unwrap_or(i16::MAX),
            compacted: policy.split(',').any(|policy| policy.trim() == "compact"),
        })
    }

    pub(super) fn create_topic(&self, topic: &str, partitions: i32, copies: i16) -> Result<(), BrokerError> {
        let created = self.client.create_topic(topic, partitions, copies, self.wait);
        created.map_err(|error| self.error(error, topic, format!("create topic {topic}")))
    }

    /// How many partitions the topic has.
    pub(super) fn partitions(&self, topic: &str) -> Result<usize, BrokerError> {
        let what = || format!("look for topic {topic}");
        let partitions = patiently(|| self.client.partitions(topic, self.wait));
        let partitions = partitions.map_err(|error| self.error(error, topic, what()))?;
        Ok(usize::try_from(partitions).unwrap_or(0))
    }

    /// Makes sure that the partition exists.
    pub(super) fn look_for(&self, topic: &str, partition: i32) -> Result<(), BrokerError> {
        let what = || format!("look for topic {topic} partition {partition}");
        let partitions = patiently(|| self.client.partitions(topic, self.wait));
        let partitions = partitions.map_err(|error| self.error(error, topic, what()))?;
        if (0..partitions).contains(&partition) {
            return Ok(());
        }
        let what = format!("topic {topic} has {partitions} partitions, there is no partition {partition}");
        Err(BrokerError::Fatal { what, cause: None })
    }

    pub(super) fn offsets(&self, topic: &str, partition: i32) -> Result<LogOffsets, BrokerError> {
        if partition < 0 {
            self.look_for(topic, partition)?;
        }
        let what = format!("say where the log of topic {topic} partition {partition} ends");
        match patiently(|| self.client.offsets(topic, partition, self.wait)) {
            Ok((start, end)) => Ok(LogOffsets { start, end }),
            // Whether it is the topic that is unknown, or the partition, only the topic tells.
            Err(error) if error.class() == Class::UnknownTopic || error.is(Code::UnknownPartition) => {
                self.look_for(topic, partition)?;
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
        let shared = lock(&self.places).entry(key).or_default().clone();
        let mut shared = lock(&shared);
        if shared.as_ref().is_none_or(|place| place.next_offset != offset) {
            self.stop(topic, partition, shared.take());
            self.look_for(topic, partition)?;
            if offset < 0 {
                return Err(BrokerError::OutOfRange { topic: topic.to_owned(), partition, offset });
            }
            let place = self.begin(topic, partition, offset);
            *shared = Some(place.map_err(|error| self.failed(error, topic, partition, offset))?);
        }
        let Some(place) = shared.as_mut() else {
            return Ok(Fetched { records: Vec::new(), next_offset: offset });
        };
        let nothing = |left| self.nothing_to_read(topic, partition, offset, left);
        let read = place.read(max_records.max(1), max_bytes, self.wait, nothing);
        // At the end there is nothing to go on with: the next reading begins anew and is told of the end
        // again. After an error nothing is known.
        if !matches!(read, Ok((_, false))) {
            self.stop(topic, partition, shared.take());
        }
        match read {
            Ok((fetched, _)) => Ok(fetched),
            Err(error) => Err(self.failed(error, topic, partition, offset)),
        }
    }

    /// True if the log goes up to `offset` or beyond, and nothing from there on is decided: a transaction that
    /// began before is open. librdkafka tells an end only to who stands right at it.
    fn nothing_to_read(&self, topic: &str, partition: i32, offset: i64, wait: Duration) -> bool {
        // In this order: what is decided grows, so the second answer cannot make up for the first.
        let committed = self.client.offsets(topic, partition, wait);
        let looked = committed.and_then(|(_, committed)| {
            Ok(committed <= offset && self.client.high_watermark(topic, partition, wait)? >= offset)
        });
        looked.unwrap_or_else(|error| {
            tracing::debug!(topic, partition, offset, %error, "it is not known whether there is anything to read");
            false
        })
    }

    fn begin(&self, topic: &str, partition: i32, offset: i64) -> Result<Place, KafkaError> {
        let queue = Queue::of_partition(&self.client, topic, partition)?;
        self.client.fetch_start(topic, partition, offset)?;
        Ok(Place { queue, waiting: VecDeque::new(), next_offset: offset, read: Instant::now() })
    }

    fn stop(&self, topic: &str, partition: i32, place: Option<Place>) {
        if place.is_some()
            && let Err(error) = self.client.fetch_stop(topic, partition)
        {
            tracing::debug!(topic, partition, %error, "a reading was not stopped");
        }
    }

    /// Stops what nobody has read for a while.
    pub(super) fn rest(&self) {
        let places: Vec<_> =
            lock(&self.places).iter().map(|(key, place)| (key.clone(), place.clone())).collect();
        for ((topic, partition), shared) in places {
            // One that is being read is not at rest.
            if let Ok(mut place) = shared.try_lock()
                && place.as_ref().is_some_and(|place| place.read.elapsed() >= REST)
            {
                self.stop(&topic, partition, place.take());
            }
        }
        lock(&self.places).retain(|_, shared| Arc::strong_count(shared) > 1 || lock(shared).is_some());
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

    /// An error, with its reason where librdkafka has told it apart from the answer: a client that cannot log in,
    /// does not trust the server or speaks to the wrong listener only ever sees requests time out.
    fn error(&self, error: KafkaError, topic: &str, what: String) -> BrokerError {
        match self.trouble() {
            Some(trouble) if decides(&trouble) && error.class() == Class::Retriable => {
                self.forget_trouble();
                trouble.fatal(what)
            }
            Some(trouble) if error.is(Code::OperationTimedOut) => trouble.retriable(what),
            _ => error.about(topic, what),
        }
    }

    /// What librdkafka has said of connections since something was answered. It is kept, for librdkafka says the
    /// same thing again after half a minute only.
    pub(super) fn trouble(&self) -> Option<KafkaError> {
        let queue = lock(&self.queue);
        let mut told = lock(&self.trouble);
        while let Some(event) = queue.event() {
            if let Event::Error { error, .. } = event
                && (told.is_none() || decides(&error))
            {
                *told = Some(login(error));
            }
        }
        // A failed connection is not always told as an error, and that all brokers are down is no reason.
        let failure = || self.client.failure().map(connection);
        told.clone().filter(decides).or_else(failure).or_else(|| told.clone())
    }

    fn forget_trouble(&self) {
        self.trouble();
        *lock(&self.trouble) = None;
        self.client.forget_failure();
    }
}

/// True if the trouble will not pass by itself.
fn decides(trouble: &KafkaError) -> bool {
    trouble.is(Code::Authentication) || is_certificate(trouble)
}

/// What librdkafka says of a login, and what is behind it: a listener without SASL knows no state of SASL that such a
/// request would be valid in.
fn login(error: KafkaError) -> KafkaError {
    if error.is(Code::Authentication) && error.text().contains("not valid in current SASL state") {
        let words = format!("{}: is it a listener without SASL?", error.text());
        return KafkaError::new(Code::Authentication as i32, words);
    }
    error
}

/// Why a connection failed, in librdkafka's words, and what is often behind it.
fn connection(words: String) -> KafkaError {
    let broken = words.contains("Disconnected") || words.contains("reset by peer");
    // librdkafka often asks by itself.
    let likely = if words.contains("listener?") {
        ""
    } else if broken && words.contains("in state SSL_HANDSHAKE") {
        ": is it a listener without TLS?"
    } else if broken && words.contains("in state APIVERSION_QUERY") || words.contains("Invalid response size")
    {
        ": is it a listener with TLS?"
    } else if broken && words.contains("in state UP") {
        ": is it a listener with SASL?"
    } else {
        ""
    };
    KafkaError::new(Code::BrokerTransportFailure as i32, format!("{words}{likely}"))
}

/// Asks again what is said not to exist.
fn patiently<T>(mut ask: impl FnMut() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    let mut asked = 1;
    loop {
        match ask() {
            Err(error)
                if asked < UNKNOWN_ASKED
                    && (error.class() == Class::UnknownTopic || error.is(Code::UnknownPartition)) =>
            {
                asked += 1;
                std::thread::sleep(UNKNOWN_WAIT);
            }
            answer => return answer,
        }
    }
}

/// True if a server's certificate, or the client's own, was not accepted.
fn is_certificate(error: &KafkaError) -> bool {
    error.is(Code::SSL) && error.text().contains("certificate")
}

impl Drop for Reader {
    fn drop(&mut self) {
        let places: Vec<_> = lock(&self.places).drain().collect();
        for ((topic, partition), shared) in places {
            let place = lock(&shared).take();
            self.stop(&topic, partition, place);
        }
    }
}

impl Place {
    /// Reads on, and says whether the log's end was reached. `nothing` is asked, now and then, while nothing comes,
    /// and told how long it may take.
    fn read(
        &mut self,
        max_records: usize,
        max_bytes: usize,
        wait: Duration,
        nothing: impl Fn(Duration) -> bool,
    ) -> Result<(Fetched, bool), KafkaError> {
        let until = Instant::now() + wait;
        let mut patience = NOTHING;
        let mut ask_at = Instant::now() + patience;
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
            if records.is_empty() && Instant::now() >= ask_at {
                if nothing(left) {
                    return Ok((Fetched { records, next_offset: self.next_offset }, true));
                }
                patience *= 2;
                ask_at = Instant::now() + patience;
            }
            let left = if records.is_empty() {
                left.min(ask_at.saturating_duration_since(Instant::now()))
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
            self.queue.take(PIECE, left, &mut each);
            if let Some(error) = failure {
                // What came before the error is good; who reads on meets the error again.
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
