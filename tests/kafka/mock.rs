//! The pipeline on librdkafka's mock cluster with injected faults.
//!
//! The mock supports the classic group protocol with heartbeats and sessions. It can move leaders and coordinators, close
//! connections, delay responses, and return any error. It aborts its process at a produce request for a partition without
//! a leader, has no transactions and no retention, and does not return a topic's settings, so the test describes the
//! topic.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use exactlyonce::binding::{self, BindingSpec, Origin};
#[cfg(feature = "tls")]
use exactlyonce::broker::kafka::Tls;
use exactlyonce::broker::kafka::{KafkaBroker, KafkaConsumer, KafkaOptions, Sasl, SaslMechanism};
use exactlyonce::broker::{
    Assignment, Broker, BrokerError, Consumer, Delivery, Fetched, LogOffsets, NewRecord, Producer, Topic,
};
use exactlyonce::event::Record;
use exactlyonce::pipeline::{self, Options};
use exactlyonce::secret::Secret;
use exactlyonce::store::memory::MemoryStore;
use exactlyonce::store::{Binding, Store};
use exactlyonce::truth;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Error};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

pub const TOPIC: &str = "exactlyonce.events";
pub const GROUP: &str = "exactlyonce";
pub const PARTITIONS: i32 = 3;
const BROKERS: i32 = 3;
const RECORDS: i64 = 3_000;

pub type Cluster = MockCluster<'static, DefaultProducerContext>;

/// A cluster with the topic, and options for it.
pub fn cluster() -> (Cluster, KafkaOptions) {
    let cluster = MockCluster::new(BROKERS).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS, BROKERS).unwrap();
    // The mock reports a truncated log if a leader has not written anything.
    cluster.apiversion(Api::OffsetForLeaderEpoch, None, None).unwrap();
    let mut options = KafkaOptions::new(cluster.bootstrap_servers());
    options.session_timeout = Duration::from_secs(3);
    options.request_timeout = Duration::from_secs(1);
    (cluster, options)
}

/// The driver with a fixed description of the topic.
#[derive(Clone)]
struct WithTopic(KafkaBroker);

impl Broker for WithTopic {
    type Consumer = KafkaConsumer;

    async fn topic(&self, topic: &str) -> Result<Topic, BrokerError> {
        let (name, id) = (topic.to_owned(), "the only one".to_owned());
        Ok(Topic { name, id, partitions: PARTITIONS, replication: 3, compacted: false })
    }

    async fn offsets(&self, topic: &str, partition: i32) -> Result<LogOffsets, BrokerError> {
        self.0.offsets(topic, partition).await
    }

    async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        records: usize,
        bytes: usize,
    ) -> Result<Fetched, BrokerError> {
        self.0.fetch(topic, partition, offset, records, bytes).await
    }

    async fn subscribe(&self, group: &str, topic: &str) -> Result<KafkaConsumer, BrokerError> {
        self.0.subscribe(group, topic).await
    }
}

fn below(rng: &mut ChaCha8Rng, limit: usize) -> usize {
    (rng.next_u64() % limit as u64) as usize
}

fn events(rng: &mut ChaCha8Rng, count: i64) -> Vec<NewRecord> {
    let record = |id: i64| {
        let (source, health) = (below(rng, 5), below(rng, 3));
        let value = match below(rng, 20) {
            0 => "no json".to_owned(),
            _ => format!(
                r#"{{"id":{id},"ts":{},"source":"s{source}","client":"c","health":{health}}}"#,
                id * 50
            ),
        };
        let (value, partition) = (Some(value.into_bytes()), Some(below(rng, PARTITIONS as usize) as i32));
        NewRecord { key: None, value, timestamp: 1 + id, partition }
    };
    (0..count).map(record).collect()
}

/// Errors that a broker may return, any number of times.
const ERRORS: &[(Api, &[Error])] = &[
    (
        Api::Fetch,
        &[
            Error::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            Error::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
            Error::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            Error::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
            Error::RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
            Error::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
            Error::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
            Error::RD_KAFKA_RESP_ERR__TRANSPORT,
        ],
    ),
    (
        Api::FindCoordinator,
        &[
            Error::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
            Error::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
            Error::RD_KAFKA_RESP_ERR__TRANSPORT,
        ],
    ),
    (
        Api::Heartbeat,
        &[
            Error::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
            Error::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
            Error::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
            Error::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
            Error::RD_KAFKA_RESP_ERR__TRANSPORT,
        ],
    ),
    (
        Api::JoinGroup,
        &[
            Error::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
            Error::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
            Error::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
            Error::RD_KAFKA_RESP_ERR__TRANSPORT,
        ],
    ),
    (
        Api::SyncGroup,
        &[
            Error::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
            Error::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
            Error::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
            Error::RD_KAFKA_RESP_ERR__TRANSPORT,
        ],
    ),
    (
        Api::OffsetCommit,
        &[
            Error::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
            Error::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
            Error::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
            Error::RD_KAFKA_RESP_ERR__TRANSPORT,
        ],
    ),
    (
        Api::ListOffsets,
        &[
            Error::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            Error::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
            Error::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            Error::RD_KAFKA_RESP_ERR__TRANSPORT,
        ],
    ),
    (
        Api::Produce,
        &[
            Error::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            Error::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            Error::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        ],
    ),
    (Api::Metadata, &[Error::RD_KAFKA_RESP_ERR__TRANSPORT]),
];

/// Injects a random fault for a while, and returns its name. With several members, only faults that the mock assert_exact:
/// it aborts if a member repeats a request while it waits for the others.
async fn fault(cluster: &Cluster, rng: &mut ChaCha8Rng, members: u64) -> String {
    let broker = 1 + below(rng, BROKERS as usize) as i32;
    let duration = Duration::from_millis(100 + below(rng, 400) as u64);
    match if members > 1 { [0, 9][below(rng, 2)] } else { below(rng, 7) } {
        0 => {
            let partition = below(rng, PARTITIONS as usize) as i32;
            cluster.partition_leader(TOPIC, partition, Some(broker)).unwrap();
            "leader".to_owned()
        }
        1 => {
            cluster.coordinator(MockCoordinator::Group(GROUP.to_owned()), broker).unwrap();
            "coordinator".to_owned()
        }
        2 => {
            cluster.broker_down(broker).unwrap();
            sleep(duration).await;
            cluster.broker_up(broker).unwrap();
            "broker".to_owned()
        }
        3 => {
            // Longer than a request may take.
            cluster.broker_round_trip_time(broker, Duration::from_millis(1_300)).unwrap();
            sleep(duration * 2).await;
            cluster.broker_round_trip_time(broker, Duration::ZERO).unwrap();
            "time".to_owned()
        }
        _ => {
            let (api, errors) = ERRORS[below(rng, ERRORS.len())];
            let groups =
                matches!(api, Api::FindCoordinator | Api::JoinGroup | Api::SyncGroup | Api::Metadata);
            if members > 1 && groups {
                return "nothing".to_owned();
            }
            let errors: Vec<_> = (0..1 + below(rng, 4)).map(|_| errors[below(rng, errors.len())]).collect();
            let name = format!("{api:?}");
            cluster.request_errors(api, &errors);
            sleep(duration).await;
            name
        }
    }
}

/// The log, read without the driver.
fn log(servers: &str) -> Vec<Record> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "ground truth")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut records = Vec::new();
    for partition in 0..PARTITIONS {
        let (_, end) = consumer.fetch_watermarks(TOPIC, partition, Duration::from_secs(10)).unwrap();
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_offset(TOPIC, partition, Offset::Beginning).unwrap();
        consumer.assign(&partitions).unwrap();
        let mut next = 0;
        while next < end {
            let message = consumer.poll(Duration::from_secs(20)).expect("a record").unwrap();
            next = message.offset() + 1;
            records.push(Record {
                partition,
                offset: message.offset(),
                timestamp: message.timestamp().to_millis().unwrap(),
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
            });
        }
    }
    records
}

async fn worker(options: &KafkaOptions, store: &MemoryStore, seed: u64, mut stop: watch::Receiver<bool>) {
    let broker = WithTopic(KafkaBroker::connect(options).unwrap());
    let mut work = Options::new(BindingSpec::new(TOPIC));
    work.group = GROUP.to_owned();
    work.batch_records = 50;
    work.prefetch_bytes = 20_000;
    work.batch_delay = Duration::from_millis(5);
    let rng = ChaCha8Rng::seed_from_u64(seed);
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    pipeline::run(&broker, store, &work, rng, stopped).await.unwrap();
}

async fn covers(store: &MemoryStore, ends: &[i64]) -> bool {
    let progress = store.progress_of_all().await.into_result().unwrap();
    (0..).zip(ends).all(|(partition, end)| progress.get(&partition).is_some_and(|p| p.next_offset >= *end))
}

/// Runs workers and a producer while faults are injected; then heals them, and compares the tables with the log.
async fn run(seed: u64, workers: u64) {
    let (cluster, options) = cluster();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let store = MemoryStore::new();
    let first = KafkaBroker::connect(&options).unwrap();
    let binding_spec = BindingSpec::new(TOPIC);
    let bound =
        binding::init(&WithTopic(first.clone()), &store, &binding_spec, &Origin::Start).await.unwrap();
    let binding: Binding = bound.binding;
    let (stop, stopped) = watch::channel(false);
    let records = events(&mut rng, RECORDS);
    let produce = async {
        for chunk in records.chunks(100) {
            // Records with an unknown outcome are not repeated: only the content of the log matters.
            let _ = first.append(TOPIC, chunk.to_vec()).await;
            sleep(Duration::from_millis(60)).await;
        }
    };
    let inject = async {
        let mut injected = BTreeSet::new();
        let until = Instant::now() + Duration::from_secs(6);
        while Instant::now() < until {
            injected.insert(fault(&cluster, &mut rng, workers).await);
            sleep(Duration::from_millis(50)).await;
        }
        for (api, _) in ERRORS {
            cluster.clear_request_errors(*api);
        }
        injected
    };
    let judge = async {
        let ((), injected) = tokio::join!(produce, inject);
        let servers = options.bootstrap_servers.clone();
        let records = tokio::task::spawn_blocking(move || log(&servers)).await.unwrap();
        let ends: Vec<i64> = (0..PARTITIONS)
            .map(|partition| records.iter().filter(|r| r.partition == partition).count() as i64)
            .collect();
        let settled = async {
            while !covers(&store, &ends).await {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let settled = timeout(Duration::from_secs(60), settled).await;
        let progress = store.progress_of_all().await.into_result().unwrap();
        assert!(settled.is_ok(), "seed {seed}: not settled at {progress:?} of {ends:?} after {injected:?}");
        stop.send_replace(true);
        records
    };
    let work = async {
        let worker = |number| worker(&options, &store, seed + 1_000 * number, stopped.clone());
        futures_util::future::join_all((0..workers).map(worker)).await
    };
    let (records, _) = tokio::join!(judge, work);
    assert!(records.len() as i64 > RECORDS / 2, "only {} records were written", records.len());
    let (stored, expected) = (truth::stored(&store).await.unwrap(), truth::tables(&records, &binding));
    assert!(!expected.alerts.is_empty() && !expected.dead_letters.is_empty());
    assert_eq!(stored, expected, "seed {seed}");
}

/// Seed and number of workers, for the process that runs them.
const RUN: &str = "EXACTLYONCE_TEST_MOCK_RUN";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other process of the tests below, which start it"]
async fn the_run_of_a_seed() {
    let run = std::env::var(RUN).expect("set by the test that starts this process");
    let (seed, workers) = run.split_once(' ').expect("a seed and a number of workers");
    self::run(seed.parse().unwrap(), workers.parse().unwrap()).await;
}

/// Runs a seed in a separate process, because the mock may abort it at an assertion, for example if a member joins again
/// while the group waits for it. Then the next seed is tried.
fn assert_exact(seed: u64, workers: u64) {
    for seed in (0..10).map(|turn| seed + 100 * turn) {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "mock::the_run_of_a_seed", "--ignored", "--nocapture"])
            .env(RUN, format!("{seed} {workers}"))
            .output()
            .unwrap();
        let messages = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return;
        }
        assert!(
            messages.contains("rdkafka_mock") && messages.contains("Assertion"),
            "seed {seed}: {messages}"
        );
        println!("the mock aborted at seed {seed}: {messages}");
    }
    panic!("the mock aborted at ten seeds");
}

#[test]
fn tables_are_exact_after_faults_with_one_worker_1() {
    assert_exact(1, 1);
}

#[test]
fn tables_are_exact_after_faults_with_one_worker_2() {
    assert_exact(2, 1);
}

#[test]
fn tables_are_exact_after_faults_with_one_worker_3() {
    assert_exact(3, 1);
}

#[test]
fn tables_are_exact_after_faults_with_two_workers_4() {
    assert_exact(4, 2);
}

#[test]
fn tables_are_exact_after_faults_with_two_workers_5() {
    assert_exact(5, 2);
}

#[tokio::test]
async fn a_member_whose_session_expired_loses_its_partitions_and_gets_them_again() {
    let (cluster, options) = cluster();
    let broker = KafkaBroker::connect(&options).unwrap();
    let mut consumer = broker.subscribe(GROUP, TOPIC).await.unwrap();
    let mut next =
        async || timeout(Duration::from_secs(30), consumer.poll()).await.expect("a delivery").unwrap();
    let Delivery::Assigned(all) = next().await else { panic!("no assignment") };
    assert_eq!(all.len(), PARTITIONS as usize);
    cluster.request_errors(Api::Heartbeat, &[Error::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
    match next().await {
        Delivery::Lost(lost) => assert_eq!(BTreeSet::from_iter(lost), BTreeSet::from_iter(all.clone())),
        other => panic!("{other:?}"),
    }
    match next().await {
        Delivery::Assigned(again) => assert_eq!(BTreeSet::from_iter(again), BTreeSet::from_iter(all)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_failed_delivery_has_its_assignment_and_a_new_start_resumes_the_partition() {
    let (cluster, options) = cluster();
    let broker = KafkaBroker::connect(&options).unwrap();
    let value = |n: i64| NewRecord {
        value: Some(n.to_string().into_bytes()),
        timestamp: 1,
        partition: Some(0),
        key: None,
    };
    broker.append(TOPIC, (0..10).map(value).collect()).await.unwrap();
    let mut consumer = broker.subscribe(GROUP, TOPIC).await.unwrap();
    let next = async |consumer: &mut KafkaConsumer| {
        timeout(Duration::from_secs(30), consumer.poll()).await.expect("a delivery").unwrap()
    };
    assert!(matches!(next(&mut consumer).await, Delivery::Assigned(_)));
    cluster.request_errors(Api::Fetch, &[Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    let first = Assignment { partition: 0, incarnation: 1 };
    consumer.start(first, 4);
    match next(&mut consumer).await {
        Delivery::Failed { assignment, offset: 4, error: BrokerError::Refused { what, .. } } => {
            assert_eq!(assignment, first);
            assert!(what.contains("partition 0 from offset 4"), "{what}");
        }
        other => panic!("{other:?}"),
    }
    let second = Assignment { partition: 0, incarnation: 2 };
    consumer.start(second, 6);
    match next(&mut consumer).await {
        Delivery::Records { assignment, records, .. } => {
            assert_eq!((assignment, records[0].offset), (second, 6));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_consumer_that_does_not_poll_loses_its_partitions_and_gets_them_again_when_it_does() {
    let (_cluster, mut options) = cluster();
    options.max_poll_interval = Duration::from_secs(3);
    let broker = KafkaBroker::connect(&options).unwrap();
    let mut stuck = broker.subscribe(GROUP, TOPIC).await.unwrap();
    let mut next =
        async || timeout(Duration::from_secs(30), stuck.poll()).await.expect("a delivery").unwrap();
    assert!(matches!(next().await, Delivery::Assigned(_)));
    // The consumer's thread stops polling after five seconds; librdkafka leaves the group three seconds later.
    sleep(Duration::from_secs(11)).await;
    assert!(matches!(next().await, Delivery::Lost(lost) if lost.len() == PARTITIONS as usize));
    assert!(matches!(next().await, Delivery::Assigned(again) if again.len() == PARTITIONS as usize));
}

/// The last known error before any request ends, and the errors of two requests.
async fn errors_of_unavailable(options: &KafkaOptions) -> [String; 3] {
    let broker = KafkaBroker::connect(options).unwrap();
    let known = async {
        loop {
            match broker.last_error() {
                Some(error) if !error.to_string().contains("brokers are down") => {
                    break error.to_string();
                }
                _ => sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let known = timeout(Duration::from_secs(30), known).await.expect("librdkafka reports an error");
    let mut errors = [known, String::new(), String::new()];
    for error_text in &mut errors[1..] {
        let error = broker.topic(TOPIC).await.unwrap_err();
        assert!(error.is_retriable(), "{error:?}");
        *error_text = std::error::Error::source(&error).expect("a cause").to_string();
    }
    errors
}

#[tokio::test]
#[cfg(feature = "tls")]
async fn a_client_with_tls_at_a_listener_without_tls_is_refused_long_before_the_request_timeout() {
    let (_cluster, mut options) = cluster();
    options.security.tls = Some(Tls::default());
    options.request_timeout = Duration::from_secs(60);
    let broker = KafkaBroker::connect(&options).unwrap();
    let error = timeout(Duration::from_secs(5), broker.topic(TOPIC)).await.expect("immediately").unwrap_err();
    match &error {
        BrokerError::Refused { reason, .. } => assert!(reason.contains("does not use TLS"), "{error}"),
        _ => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_client_at_a_listener_that_closes_every_connection_suggests_a_cause_and_retries() {
    // A proxy whose broker is down behaves like this, and so does a listener with TLS that gets something else.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = KafkaOptions::new(listener.local_addr().unwrap().to_string());
    options.request_timeout = Duration::from_secs(1);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let _ = std::io::Read::read(&mut connection.unwrap(), &mut [0; 4]);
        }
    });
    for error in errors_of_unavailable(&options).await {
        let suggested = error.contains("is it a listener with TLS?");
        assert!(suggested || error.contains("connecting to a SSL listener?"), "{error}");
    }
}

/// Responds as a Kafka listener without SASL: it knows such requests, but does not expect them.
fn without_sasl(mut client: std::net::TcpStream) -> std::io::Result<()> {
    use std::io::{Read as _, Write as _};
    loop {
        let mut size = [0; 4];
        client.read_exact(&mut size)?;
        let mut request = vec![0; u32::from_be_bytes(size) as usize];
        client.read_exact(&mut request)?;
        // After the size: the API key, its version, and the correlation id, which the response repeats.
        let body: &[u8] = match request[1] {
            // SaslHandshake: ILLEGAL_SASL_STATE, and no mechanisms.
            17 => &[0, 34, 0, 0, 0, 0],
            // ApiVersions 3: two APIs in versions 0 to 1 and 0 to 3, no throttling.
            _ => &[0, 0, 3, 0, 17, 0, 0, 0, 1, 0, 0, 18, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0],
        };
        client.write_all(&(4 + body.len() as u32).to_be_bytes())?;
        client.write_all(&request[4..8])?;
        client.write_all(body)?;
    }
}

#[tokio::test]
async fn a_client_with_sasl_at_a_listener_without_sasl_is_refused_immediately_with_the_cause() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = KafkaOptions::new(listener.local_addr().unwrap().to_string());
    options.request_timeout = Duration::from_secs(1);
    let (username, password) = ("u".to_owned(), Secret::new("hunter2"));
    options.security.sasl = Some(Sasl { mechanism: SaslMechanism::Plain, username, password });
    std::thread::spawn(move || {
        for client in listener.incoming() {
            std::thread::spawn(|| without_sasl(client.unwrap()));
        }
    });
    options.request_timeout = Duration::from_secs(60);
    let broker = KafkaBroker::connect(&options).unwrap();
    let error = timeout(Duration::from_secs(5), broker.topic(TOPIC)).await.expect("immediately").unwrap_err();
    assert!(matches!(error, BrokerError::Refused { .. }), "{error:?}");
    let cause = std::error::Error::source(&error).expect("a cause").to_string();
    assert!(cause.contains("is it a listener without SASL?") && !cause.contains("hunter2"), "{cause}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_offsets_of_a_partition_are_right_or_an_error_whatever_a_broker_responds() {
    let (cluster, options) = cluster();
    let broker = KafkaBroker::connect(&options).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let records = events(&mut rng, 20).into_iter().map(|record| NewRecord { partition: Some(0), ..record });
    broker.append(TOPIC, records.collect()).await.unwrap();
    let errors = [
        Error::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Error::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        Error::RD_KAFKA_RESP_ERR_NO_ERROR,
    ];
    let mut right = 0;
    for turn in 0..200 {
        // The start of the log and its end are two requests.
        cluster.request_errors(Api::ListOffsets, &[errors[turn % 3], errors[turn / 3 % 3]]);
        match broker.offsets(TOPIC, 0).await {
            Ok(found) => {
                assert_eq!(found, LogOffsets { start: 0, end: 20 }, "turn {turn}");
                right += 1;
            }
            Err(error) => assert!(error.is_retriable(), "turn {turn}: {error}"),
        }
        cluster.clear_request_errors(Api::ListOffsets);
    }
    assert!(right > 20, "{right}");
}
