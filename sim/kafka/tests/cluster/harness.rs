//! A cluster in paused time, and a client that speaks the protocol to one broker at a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use proto_kafka::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use proto_kafka::messages::fetch_request::{FetchPartition, FetchTopic};
use proto_kafka::messages::fetch_response::PartitionData;
use proto_kafka::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use proto_kafka::messages::produce_request::{PartitionProduceData, TopicProduceData};
use proto_kafka::messages::{
    BrokerId, CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, ListOffsetsRequest, ProduceRequest,
    RequestHeader, ResponseHeader, TopicName,
};
use proto_kafka::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use simulated_kafka::cluster::{
    AdjustableClock, BrokerOptions, Cluster, HostFault, Links, Options, Recovery, RuledLinks,
};
use simulated_kafka::error::ErrorCode;
use simulated_kafka::log::Disk;
use simulated_kafka::protocol::batch::Batch;
use simulated_kafka::protocol::builder::BatchBuilder;
use simulated_kafka::protocol::records::records;
use simulated_kafka::serve::{connect, exchange};
use simulated_kafka::server::ServerOptions;
use simulated_kafka::types::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// What the clocks show at the start, in milliseconds.
pub const START: i64 = 1_767_225_600_000;
/// The version of Fetch that names topics.
pub const BY_NAME: i16 = 12;

pub struct Testbed {
    pub cluster: Cluster,
    pub links: Arc<RuledLinks>,
    pub clocks: Vec<Arc<AdjustableClock>>,
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// A batch of records without keys.
pub fn batch_of(values: &[&str]) -> Batch {
    let builder = BatchBuilder::new(START);
    values.iter().fold(builder, |builder, value| builder.record(START, None, Some(value.as_bytes()))).build()
}

/// What a fetch returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub values: Vec<(i64, String)>,
    pub high_watermark: i64,
    pub last_stable: i64,
    pub log_start: i64,
    pub diverging: Option<(i32, i64)>,
}

impl Read {
    pub fn texts(&self) -> Vec<&str> {
        self.values.iter().map(|(_, value)| value.as_str()).collect()
    }
}

/// A connection of a client.
pub struct Connection(DuplexStream);

impl Connection {
    /// Sends a request and returns the response. None if the connection breaks, or nothing comes for a minute.
    pub async fn send<R: Request>(&mut self, request: R, version: i16) -> Option<R::Response>
    where
        R::Response: HeaderVersion,
    {
        let mut frame = BytesMut::new();
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(77)
            .with_client_id(Some(text("test")));
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        let mut response = self.send_frame(&frame).await?;
        let header = ResponseHeader::decode(&mut response, R::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, 77);
        let body = R::Response::decode(&mut response, version).unwrap();
        assert!(!response.has_remaining(), "bytes after a response");
        Some(body)
    }

    /// Sends a frame and returns the next one, in the same way.
    pub async fn send_frame(&mut self, frame: &[u8]) -> Option<Bytes> {
        self.0.write_all(&(frame.len() as u32).to_be_bytes()).await.ok()?;
        self.0.write_all(frame).await.ok()?;
        let read = async {
            let length = self.0.read_u32().await.ok()?;
            let mut response = vec![0; length as usize];
            self.0.read_exact(&mut response).await.ok()?;
            Some(Bytes::from(response))
        };
        tokio::time::timeout(Duration::from_secs(60), read).await.ok()?
    }

    /// Whether the broker has closed it, or does so within a second, without sending anything.
    pub async fn is_closed(&mut self) -> bool {
        let read = tokio::time::timeout(Duration::from_secs(1), self.0.read_u8()).await;
        matches!(read, Ok(Err(_)))
    }
}

impl Testbed {
    /// Three brokers with Kafka's own defaults, 1, 2 and 3.
    pub async fn start() -> Self {
        Self::start_with(1, |_| {}).await
    }

    pub async fn start_with(seed: u64, change: impl FnOnce(&mut Options)) -> Self {
        Self::start_on(seed, change, |links| links).await
    }

    /// In the same way, with `wrap` around the links.
    pub async fn start_on(
        seed: u64,
        change: impl FnOnce(&mut Options),
        wrap: impl FnOnce(Arc<RuledLinks>) -> Arc<dyn Links>,
    ) -> Self {
        if std::env::var_os("SIMULATED_KAFKA_TRACE").is_some() {
            let _ =
                tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).try_init();
        }
        let clocks: Vec<_> = (0..3).map(|_| Arc::new(AdjustableClock::new(START * 1000))).collect();
        let brokers = (1..=3).zip(&clocks).map(|(id, clock)| BrokerOptions {
            id: NodeId(id),
            host: format!("broker{id}"),
            port: 9092,
            rack: Some(format!("rack{id}")),
            clock: clock.clone(),
            disk: Disk::new(),
        });
        let mut options = Options::new(brokers.collect());
        change(&mut options);
        let (short, long) = (Duration::from_micros(500), Duration::from_millis(2));
        let links = Arc::new(RuledLinks::new(short, long, ChaCha8Rng::seed_from_u64(seed)));
        let cluster = Cluster::start(options, wrap(links.clone()), ChaCha8Rng::seed_from_u64(seed + 1));
        cluster.settled().await;
        Self { cluster, links, clocks }
    }

    /// Sends a request to a broker on a connection of its own. None if the connection breaks, or nothing comes for a minute.
    pub async fn send<R: Request>(&self, node: i32, request: R, version: i16) -> Option<R::Response>
    where
        R::Response: HeaderVersion,
    {
        self.connect(node, ServerOptions::default())?.send(request, version).await
    }

    /// A connection to a broker, if that runs.
    pub fn connect(&self, node: i32, options: ServerOptions) -> Option<Connection> {
        let broker = self.cluster.broker(NodeId(node))?;
        Some(Connection(connect(&broker, options)))
    }

    /// [`exchange`] with a broker; none if it does not end the connection within a minute.
    pub async fn send_bytes(&self, node: i32, bytes: &[u8]) -> Option<Vec<u8>> {
        let broker = self.cluster.broker(NodeId(node))?;
        let received = exchange(&broker, ServerOptions::default(), bytes);
        tokio::time::timeout(Duration::from_secs(60), received).await.ok()?.ok()
    }

    /// A topic with one partition on these brokers, known to all.
    pub async fn topic(&self, name: &str, replicas: &[i32], configs: &[(&str, &str)]) {
        assert_eq!(self.create(name, replicas, configs).await, Ok(()));
        self.cluster.settled().await;
    }

    pub async fn create(
        &self,
        name: &str,
        replicas: &[i32],
        configs: &[(&str, &str)],
    ) -> Result<(), ErrorCode> {
        let assignment = CreatableReplicaAssignment::default()
            .with_partition_index(0)
            .with_broker_ids(replicas.iter().map(|id| BrokerId(*id)).collect());
        let configs = configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        });
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(vec![assignment])
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        let response = self.send(self.any(), request, 7).await.expect("a response");
        checked(response.topics[0].error_code, ())
    }

    pub async fn delete(&self, name: &str) {
        let request =
            DeleteTopicsRequest::default().with_topic_names(vec![topic_name(name)]).with_timeout_ms(10_000);
        let response = self.send(self.any(), request, 5).await.expect("a response");
        assert_eq!(response.responses[0].error_code, 0);
    }

    /// A broker that runs.
    pub fn any(&self) -> i32 {
        let image = self.cluster.metadata();
        let alive =
            self.cluster.brokers().find(|id| self.cluster.is_running(*id) && image.active(*id).is_some());
        alive.expect("a broker").0
    }

    /// The leader, as the controller knows it.
    pub fn leader(&self, topic: &str) -> Option<i32> {
        let image = self.cluster.metadata();
        image.topic(topic)?.partitions[0].leader.map(|leader| leader.0)
    }

    pub fn in_sync(&self, topic: &str) -> Vec<i32> {
        let image = self.cluster.metadata();
        let mut ids: Vec<i32> =
            image.topic(topic).unwrap().partitions[0].in_sync.iter().map(|id| id.0).collect();
        ids.sort();
        ids
    }

    /// Sends a batch to partition 0; the offset of its first record.
    pub async fn produce_to(
        &self,
        node: i32,
        topic: &str,
        batch: &Batch,
        acks: i16,
    ) -> Result<i64, ErrorCode> {
        let data = PartitionProduceData::default().with_index(0).with_records(Some(batch.bytes().clone()));
        let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
        let request =
            ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![topic]);
        let Some(response) = self.send(node, request, 9).await else {
            return Err(ErrorCode::NetworkException);
        };
        let partition = &response.responses[0].partition_responses[0];
        checked(partition.error_code, partition.base_offset)
    }

    pub async fn produce(&self, topic: &str, values: &[&str], acks: i16) -> Result<i64, ErrorCode> {
        let leader = self.leader(topic).ok_or(ErrorCode::LeaderNotAvailable)?;
        self.produce_to(leader, topic, &batch_of(values), acks).await
    }

    pub async fn fetch_with(
        &self,
        node: i32,
        topic: &str,
        change: FetchPartition,
        isolation: i8,
    ) -> Option<PartitionData> {
        let topic = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![change]);
        let request = FetchRequest::default()
            .with_max_wait_ms(0)
            .with_min_bytes(1)
            .with_max_bytes(50 << 20)
            .with_isolation_level(isolation)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let response = self.send(node, request, BY_NAME).await?;
        response.responses.into_iter().next()?.partitions.into_iter().next()
    }

    pub async fn fetch_from(&self, node: i32, topic: &str, offset: i64) -> Result<Read, ErrorCode> {
        let wanted = wanted(offset);
        let data = self.fetch_with(node, topic, wanted, 0).await.ok_or(ErrorCode::NetworkException)?;
        read(data, offset)
    }

    /// Reads committed records from the leader.
    pub async fn fetch(&self, topic: &str, offset: i64) -> Result<Read, ErrorCode> {
        let leader = self.leader(topic).ok_or(ErrorCode::LeaderNotAvailable)?;
        self.fetch_from(leader, topic, offset).await
    }

    /// ListOffsets at a broker.
    pub async fn offset_at(&self, node: i32, topic: &str, timestamp: i64) -> Result<i64, ErrorCode> {
        let partition =
            ListOffsetsPartition::default().with_current_leader_epoch(-1).with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let response = self.send(node, request, 7).await.ok_or(ErrorCode::NetworkException)?;
        let partition = &response.topics[0].partitions[0];
        checked(partition.error_code, partition.offset)
    }

    pub async fn end(&self, topic: &str) -> Result<i64, ErrorCode> {
        self.offset_at(self.leader(topic).ok_or(ErrorCode::LeaderNotAvailable)?, topic, -1).await
    }

    pub fn fault(&self, node: i32, fault: HostFault) {
        self.cluster.apply(NodeId(node), fault);
    }

    pub fn recover(&self, node: i32) {
        self.cluster.recover(NodeId(node), Recovery::Start);
    }

    pub fn resume(&self, node: i32) {
        self.cluster.recover(NodeId(node), Recovery::Resume);
    }

    /// Waits until something holds, for an hour at most; how long it took.
    pub async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) -> Duration {
        let start = tokio::time::Instant::now();
        while !condition().await {
            assert!(start.elapsed() < Duration::from_secs(3600), "{what} did not happen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    }
}

pub fn wanted(offset: i64) -> FetchPartition {
    FetchPartition::default()
        .with_current_leader_epoch(-1)
        .with_last_fetched_epoch(-1)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20)
}

pub fn read(data: PartitionData, from: i64) -> Result<Read, ErrorCode> {
    checked(data.error_code, ())?;
    let mut values = Vec::new();
    let batches = Batch::split_all(data.records.unwrap_or_default()).expect("whole batches");
    for batch in batches.iter().filter(|batch| !batch.is_control()) {
        for record in records(batch, 1 << 20).expect("records").iter().filter(|record| record.offset >= from)
        {
            let value = record.value.as_deref().unwrap_or_default();
            values.push((record.offset, String::from_utf8_lossy(value).into_owned()));
        }
    }
    let diverging = data.diverging_epoch;
    Ok(Read {
        values,
        high_watermark: data.high_watermark,
        last_stable: data.last_stable_offset,
        log_start: data.log_start_offset,
        diverging: (diverging.epoch >= 0).then_some((diverging.epoch, diverging.end_offset)),
    })
}

pub fn checked<T>(code: i16, value: T) -> Result<T, ErrorCode> {
    match ErrorCode::try_from_code(code) {
        None => Ok(value),
        Some(error) => Err(error),
    }
}

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
