//! The operations on a Kafka cluster that a case may use.
//!
//! A [`Backend`] is a cluster of three brokers (numbered 1, 2 and 3), with clients of the project's own driver
//! ([`Backend::broker`]), other producers ([`Backend::producer`]), administration of topics, faults of nodes, and links:
//! a client on a [`Link`] can be cut off, or lose responses, while all others continue. All waits use `tokio::time`, so
//! the same cases can run in simulated time. A case lists the verbs that it needs, see [`suite::Backend::VERBS`].

use std::time::Duration;

use exactlyonce::broker::Broker;
use proto_kafka::protocol::Request as WireRequest;
use simulated_hosts::{HostFault, LinkFaultName, Recovery};

use crate::suite;

/// Operations that not every backend supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// [`Backend::apply`] and [`Backend::recover`]. [`HostFault::Stop`] is a controlled shutdown of a broker.
    Host(HostFault),
    /// Faults of a [`Link`]: [`LinkFaultName::Cut`] is [`Link::cut`] in both directions and [`Link::restore`],
    /// [`LinkFaultName::LoseResponses`] is [`Link::lose_responses`].
    Link(LinkFaultName),
    /// Transactional and idempotent producers.
    Transactions,
    /// Compaction (`cleanup.policy=compact`) within seconds.
    Compaction,
    /// Members that use [`Protocol::Consumer`].
    ConsumerProtocol,
    /// Producers that compress.
    Compression,
    /// [`Backend::elect_preferred`].
    PreferredElection,
    /// `unclean.leader.election.enable`.
    UncleanElection,
}

/// How the partitions of a group are assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The group's leader assigns, in two rounds (`cooperative-sticky`).
    Classic,
    /// The broker assigns (KIP-848).
    Consumer,
}

impl Protocol {
    /// The session timeout of members with this protocol: the minimum of the cluster.
    pub fn session(self) -> Duration {
        match self {
            Protocol::Classic => Duration::from_secs(3),
            Protocol::Consumer => Duration::from_secs(6),
        }
    }
}

/// Options of a client of the project's driver.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// See [`Protocol`].
    pub protocol: Protocol,
    /// Overrides [`Protocol::session`]; with [`Protocol::Consumer`] the cluster sets the timeout.
    pub session: Option<Duration>,
    /// Interval of the check for added partitions.
    pub metadata_interval: Duration,
    /// See [`Backend::broker`].
    pub commit_offsets: bool,
    /// Where it is (`client.rack`). Node `n` is in `rack-n`.
    pub rack: Option<&'static str>,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            protocol: Protocol::Classic,
            session: None,
            metadata_interval: Duration::from_secs(2),
            commit_offsets: false,
            rack: None,
        }
    }
}

/// The guarantee of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// A retry may append twice.
    Plain,
    /// Within a session, retries append once.
    Idempotent,
}

/// Options of a producer.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// See [`Guarantee`].
    pub guarantee: Guarantee,
    /// -1 for all in-sync replicas, else 1.
    pub acks: i32,
    /// The compression, if any: `gzip`, `snappy`, `lz4`, `zstd`.
    pub compression: Option<&'static str>,
    /// The timeout after which the request is retried.
    pub request_timeout: Duration,
    /// Maximum retries of a request.
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

/// A record for partition 0 with this value and nothing else.
pub fn value(text: impl ToString) -> NewRecord {
    NewRecord { value: Some(text.to_string().into_bytes()), partition: Some(0), ..NewRecord::default() }
}

/// An error of a producer or of an administrative request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// NOT_ENOUGH_REPLICAS: not appended.
    NotEnoughReplicas,
    /// No response before the timeout: appended or not.
    TimedOut,
    /// The connection closed before the response: appended or not.
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
    /// Any other error, with the client's message.
    Other(String),
}

/// A producer that is not the project's own.
pub trait TestProducer {
    /// Sends one record and waits for the response: partition and offset.
    async fn send(&self, topic: &str, record: NewRecord) -> Result<(i32, i64), ClientError>;
    /// Sends all records in order without waiting in between, and then waits for all responses.
    async fn send_all(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<(i32, i64)>, ClientError>;
}

/// A producer with a transactional id. It has been initialized, which fences earlier producers of the same id.
pub trait TransactionalProducer: TestProducer {
    async fn begin(&self) -> Result<(), ClientError>;
    async fn commit(&self) -> Result<(), ClientError>;
    async fn abort(&self) -> Result<(), ClientError>;
}

/// The traffic of a link that is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// All traffic; data in flight is delivered when the link is restored.
    All,
    /// Requests of a member to the coordinator of its group.
    Group,
}

/// Kinds of requests whose responses can be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Produce,
    Fetch,
    Metadata,
}

/// The network between one client and all brokers.
pub trait Link {
    /// Blocks this traffic in both directions. Connections stay open.
    fn cut(&self, what: Traffic);
    /// Ends the cut; blocked data is delivered first.
    fn restore(&self);
    /// The next `count` requests of this kind are processed, but their responses are lost: the connection is closed
    /// instead.
    fn lose_responses(&self, of: Request, count: u32);
    /// Number of responses lost so far.
    fn lost_responses(&self) -> u32;
}

/// A partition as the cluster describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// `None` if there is none.
    pub leader: Option<i32>,
    /// In order of preference.
    pub replicas: Vec<i32>,
    /// Ascending.
    pub in_sync: Vec<i32>,
}

/// See the [module](self).
pub trait Backend: suite::Backend<Verb = Verb> {
    /// The project's driver, or a stand-in for it.
    type Broker: Broker;
    type Link: Link;
    type Producer: TestProducer;
    type Transactional: TransactionalProducer;

    /// A unique name for a topic, a group or a transactional id.
    fn unique(&self, prefix: &str) -> String;

    /// A new link.
    fn link(&self) -> Self::Link;
    /// A client of the project's driver, over a link or directly connected.
    fn broker(&self, client: Client, link: Option<&Self::Link>) -> Self::Broker;
    /// A producer.
    fn producer(&self, options: &ProducerOptions, link: Option<&Self::Link>) -> Self::Producer;
    /// An initialized transactional producer. The cluster aborts a transaction of it that is open for longer than
    /// `timeout`.
    async fn transactional(&self, id: &str, timeout: Duration) -> Result<Self::Transactional, ClientError>;

    /// Creates a topic and waits until every broker knows it and every partition has a leader.
    async fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        replication: i32,
        configs: &[(&str, &str)],
    ) -> Result<(), ClientError>;
    /// Creates a topic with one partition on these replicas, the preferred leader first.
    async fn create_topic_on(
        &self,
        topic: &str,
        replicas: &[i32],
        configs: &[(&str, &str)],
    ) -> Result<(), ClientError>;
    /// Deletes a topic and waits until no broker knows it.
    async fn delete_topic(&self, topic: &str) -> Result<(), ClientError>;
    /// Increases the number of partitions of a topic to this total.
    async fn add_partitions(&self, topic: &str, total: i32) -> Result<(), ClientError>;
    /// Deletes the records below an offset (`None`: all up to the high watermark); returns the new log start.
    async fn delete_records(
        &self,
        topic: &str,
        partition: i32,
        before: Option<i64>,
    ) -> Result<i64, ClientError>;
    /// Replaces the configuration of a topic.
    async fn set_configs(&self, topic: &str, configs: &[(&str, &str)]) -> Result<(), ClientError>;
    /// A partition's leader and replicas.
    async fn partition(&self, topic: &str, partition: i32) -> Result<PartitionState, ClientError>;
    /// The high watermark: the log's end for readers of uncommitted records (`read_uncommitted`).
    async fn high_watermark(&self, topic: &str, partition: i32) -> Result<i64, ClientError>;
    /// The broker that coordinates a group.
    async fn coordinator(&self, group: &str) -> Result<i32, ClientError>;
    /// The committed offset of a group in a partition.
    async fn committed(&self, group: &str, topic: &str, partition: i32) -> Result<Option<i64>, ClientError>;
    /// Commits an offset for a group without members.
    async fn commit(&self, group: &str, topic: &str, partition: i32, offset: i64) -> Result<(), ClientError>;
    /// Sets a configuration of all brokers while they run, until the case has ended; without a value, they have their own
    /// again.
    async fn configure_brokers(&self, name: &str, value: Option<&str>);
    /// Sends a request of Kafka's protocol to a node, for what no client offers, and returns the response.
    ///
    /// # Panics
    /// If there is none.
    async fn request<R: WireRequest>(&self, node: i32, request: &R, version: i16) -> R::Response;
    /// Elects the preferred leader, the first replica.
    async fn elect_preferred(&self, topic: &str, partition: i32) -> Result<(), ClientError>;

    /// Applies a fault to the process or host of a node.
    async fn apply(&self, fault: HostFault, node: i32);
    /// Ends a fault of these nodes together. [`Recovery::Start`] returns when they respond.
    async fn recover(&self, recovery: Recovery, nodes: &[i32]);
}

/// The numbers of all nodes.
pub const NODES: [i32; 3] = [1, 2, 3];
