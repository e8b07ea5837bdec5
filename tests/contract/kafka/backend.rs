//! What a case about Kafka may ask of the backend it runs in.
//!
//! A [`Backend`] is a cluster of three brokers (named 1, 2 and 3) with these things around it: the project's own
//! driver ([`Backend::broker`]), ordinary producers ([`Backend::producer`]), administration of
//! topics, verbs on nodes, and links: a client that was made over a [`Link`] can be cut off, or lose answers,
//! while all others continue. Everything waits through `tokio::time`, so that the same cases run in simulated
//! time. A case names the verbs that it needs, see [`suite::Backend::VERBS`].

use std::time::Duration;

use exactlyonce::broker::Broker;

use crate::suite;

/// Something that not every backend can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// [`Backend::pause`] and [`Backend::resume`].
    Pause,
    /// [`Backend::kill`] and [`Backend::start`].
    Kill,
    /// [`Backend::stop`]: a broker takes its leave in order.
    Stop,
    /// [`Link::cut`] and [`Link::restore`].
    Cut,
    /// [`Link::lose_answers`].
    LoseAnswers,
    /// Transactional and idempotent producers.
    Transactions,
    /// `cleanup.policy=compact` takes effect within seconds.
    Compaction,
    /// Members that share by [`Protocol::Consumer`].
    ConsumerProtocol,
    /// Producers that compress.
    Compression,
    /// [`Backend::elect_preferred`].
    PreferredElection,
    /// `unclean.leader.election.enable`.
    UncleanElection,
}

/// How the members of a group share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The members' leader assigns, in two rounds (`cooperative-sticky`).
    Classic,
    /// The broker assigns (KIP-848).
    Consumer,
}

impl Protocol {
    /// The session timeout of members of this protocol: as short as the cluster allows.
    pub fn session(self) -> Duration {
        match self {
            Protocol::Classic => Duration::from_secs(3),
            Protocol::Consumer => Duration::from_secs(6),
        }
    }
}

/// How a driver is set up.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// See [`Protocol`].
    pub protocol: Protocol,
    /// Instead of [`Protocol::session`]; under [`Protocol::Consumer`] the cluster decides.
    pub session: Option<Duration>,
    /// How often it is looked for added partitions.
    pub metadata_interval: Duration,
    /// See [`Backend::broker`].
    pub commit_offsets: bool,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            protocol: Protocol::Classic,
            session: None,
            metadata_interval: Duration::from_secs(2),
            commit_offsets: false,
        }
    }
}

/// What a producer promises itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// Nothing: a retry may append twice.
    Plain,
    /// Retries append once, within a session.
    Idempotent,
}

/// How a producer is set up.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// See [`Guarantee`].
    pub guarantee: Guarantee,
    /// -1 for the whole in-sync set, else 1.
    pub acks: i32,
    /// Which compression, if any: `gzip`, `snappy`, `lz4`, `zstd`.
    pub compression: Option<&'static str>,
    /// The timeout after which the request is sent again.
    pub request_timeout: Duration,
    /// How often a request is sent again.
    pub retries: u32,
    /// The timeout after which the send has failed.
    pub delivery_timeout: Duration,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            guarantee: Guarantee::Plain,
            acks: -1,
            compression: None,
            request_timeout: Duration::from_secs(5),
            retries: 100,
            delivery_timeout: Duration::from_secs(30),
        }
    }
}

/// A record to be sent.
#[derive(Clone, Debug, Default)]
pub struct NewRecord {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// Milliseconds; the producer's clock if `None`.
    pub timestamp: Option<i64>,
    pub headers: Vec<(&'static str, Vec<u8>)>,
    /// The producer's own partitioner (`consistent`) chooses if `None`.
    pub partition: Option<i32>,
}

/// A record for partition 0 with nothing but this value.
pub fn value(text: impl ToString) -> NewRecord {
    NewRecord { value: Some(text.to_string().into_bytes()), partition: Some(0), ..NewRecord::default() }
}

/// Why a producer or the administration did not do it, in Kafka's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// NOT_ENOUGH_REPLICAS: not appended.
    NotEnoughReplicas,
    /// No answer in the time allowed: appended or not.
    TimedOut,
    /// The connection broke before the answer: appended or not.
    Disconnected,
    /// MESSAGE_TOO_LARGE: not appended.
    TooLarge,
    /// A newer producer has the same transactional id.
    Fenced,
    /// UNKNOWN_TOPIC_OR_PARTITION.
    UnknownTopic,
    /// TOPIC_ALREADY_EXISTS.
    TopicExists,
    /// OFFSET_OUT_OF_RANGE.
    OutOfRange,
    /// INVALID_PARTITIONS.
    InvalidPartitions,
    /// Anything else, with the client's message.
    Other(String),
}

/// A producer that is not the project's.
pub trait TestProducer {
    /// Sends one record and waits for its answer: the partition and the offset.
    async fn send(&self, topic: &str, record: NewRecord) -> Result<(i32, i64), Refusal>;
    /// Sends all at once, in order, and waits for all answers.
    async fn send_all(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<(i32, i64)>, Refusal>;
}

/// A producer with a transactional id. It has done its `init`, which fences those before it.
pub trait TransactionalProducer: TestProducer {
    async fn begin(&self) -> Result<(), Refusal>;
    async fn commit(&self) -> Result<(), Refusal>;
    async fn abort(&self) -> Result<(), Refusal>;
}

/// What is cut of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Everything; data in flight arrives when the link is restored.
    All,
    /// What a member says to its group's coordinator.
    Group,
}

/// Kinds of requests whose answers can be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Produce,
    Fetch,
    Metadata,
}

/// The network between one client and all brokers.
pub trait Link {
    /// From now on nothing (of [`What`]) passes, in either direction. Connections stay open.
    fn cut(&self, what: What);
    /// Everything passes again, and what was held back comes first.
    fn restore(&self);
    /// The next `count` requests of this kind are carried out, but their responses are lost: the connection
    /// breaks instead.
    fn lose_answers(&self, of: Request, count: u32);
    /// How many answers were lost so far.
    fn lost_answers(&self) -> u32;
}

/// A partition as the cluster describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// `None` while there is none.
    pub leader: Option<i32>,
    /// In order of preference.
    pub replicas: Vec<i32>,
    /// Ascending.
    pub in_sync: Vec<i32>,
}

/// See the module.
pub trait Backend: suite::Backend<Verb = Verb> {
    /// The project's driver, or a stand-in for it.
    type Broker: Broker;
    type Link: Link;
    type Producer: TestProducer;
    type Transactional: TransactionalProducer;

    /// A name for a topic, a group or a transactional id that nobody had before.
    fn unique(&self, prefix: &str) -> String;

    /// A link, for clients to be made over.
    fn link(&self) -> Self::Link;
    /// A client of the project's driver, over a link or straight.
    fn broker(&self, client: Client, link: Option<&Self::Link>) -> Self::Broker;
    /// A producer.
    fn producer(&self, options: &ProducerOptions, link: Option<&Self::Link>) -> Self::Producer;
    /// A transactional producer, `init` done. A transaction of its that is open for longer than `timeout` is
    /// aborted by the cluster.
    async fn transactional(&self, id: &str, timeout: Duration) -> Result<Self::Transactional, Refusal>;

    /// Creates a topic and waits until every broker knows it and every partition has its leader.
    async fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        replication: i32,
        configs: &[(&str, &str)],
    ) -> Result<(), Refusal>;
    /// Creates a topic whose one partition has these replicas, the preferred leader first.
    async fn create_topic_on(
        &self,
        topic: &str,
        replicas: &[i32],
        configs: &[(&str, &str)],
    ) -> Result<(), Refusal>;
    /// Deletes a topic and waits until no broker knows it.
    async fn delete_topic(&self, topic: &str) -> Result<(), Refusal>;
    /// Gives a topic more partitions, this many in all.
    async fn add_partitions(&self, topic: &str, total: i32) -> Result<(), Refusal>;
    /// Deletes the records below an offset (`None`: all up to the high watermark); returns the new log start.
    async fn delete_records(&self, topic: &str, partition: i32, before: Option<i64>) -> Result<i64, Refusal>;
    /// Sets a topic's configuration: these and no others.
    async fn set_configs(&self, topic: &str, configs: &[(&str, &str)]) -> Result<(), Refusal>;
    /// A partition's leader and replicas.
    async fn partition(&self, topic: &str, partition: i32) -> Result<PartitionState, Refusal>;
    /// The high watermark: the end for a reader who does not wait for transactions (`read_uncommitted`).
    async fn high_watermark(&self, topic: &str, partition: i32) -> Result<i64, Refusal>;
    /// The broker that coordinates a group.
    async fn coordinator(&self, group: &str) -> Result<i32, Refusal>;
    /// What the group has committed of a partition.
    async fn committed(&self, group: &str, topic: &str, partition: i32) -> Result<Option<i64>, Refusal>;
    /// Commits a position for a group without members.
    async fn commit(&self, group: &str, topic: &str, partition: i32, offset: i64) -> Result<(), Refusal>;
    /// Gives the leadership back to the first replica.
    async fn elect_preferred(&self, topic: &str, partition: i32) -> Result<(), Refusal>;

    /// The process stands still, with all that it was doing.
    async fn pause(&self, node: i32);
    /// It continues.
    async fn resume(&self, node: i32);
    /// It is gone at once; what it had written to its files stays.
    async fn kill(&self, node: i32);
    /// It takes its leave and ends.
    async fn stop(&self, node: i32);
    /// They start again, together, with their files; returns when they answer.
    async fn start(&self, nodes: &[i32]);
}

/// All of them.
pub const NODES: [i32; 3] = [1, 2, 3];
