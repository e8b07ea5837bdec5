//! Groups, compression and settings on a real Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use exactlyonce::broker::kafka::{GroupProtocol, KafkaConsumer, KafkaOptions};
use exactlyonce::broker::{Assignment, Broker, BrokerError, Consumer, Delivery, NewRecord, Producer};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::{Instant, timeout, timeout_at};

use crate::services::{self, TestBroker};

const TOPIC: &str = "events";
const GROUP: &str = "group";

fn options(protocol: GroupProtocol) -> KafkaOptions {
    let mut options = services::options();
    options.group_protocol = protocol;
    // The brokers' session timeout of the protocol `consumer`. On a busy machine a shorter session sometimes expires.
    options.session_timeout = Duration::from_secs(6);
    options.metadata_interval = Duration::from_secs(1);
    options
}

fn admin(options: &KafkaOptions) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &options.bootstrap_servers).create().unwrap()
}

fn values(partition: i32, numbers: std::ops::Range<i64>) -> Vec<NewRecord> {
    let value = |n: i64| Some(n.to_string().into_bytes());
    // A timestamp of 0 means the current time: the brokers delete old records.
    numbers
        .map(|n| NewRecord { value: value(n), partition: Some(partition), ..NewRecord::default() })
        .collect()
}

async fn next(consumer: &mut KafkaConsumer) -> Delivery {
    loop {
        match timeout(Duration::from_secs(60), consumer.poll()).await.expect("no further delivery") {
            Ok(delivery) => return delivery,
            Err(error) => assert!(error.is_retriable(), "{error:?}"),
        }
    }
}

async fn assigned(consumer: &mut KafkaConsumer, partitions: usize) -> BTreeSet<i32> {
    let mut all = BTreeSet::new();
    while all.len() < partitions {
        match next(consumer).await {
            Delivery::Assigned(more) => all.extend(more),
            other => panic!("{other:?}"),
        }
    }
    all
}

/// Reads partitions until each is at this end, and returns the delivered offsets.
async fn read(consumer: &mut KafkaConsumer, ends: &[(i32, i64)]) -> BTreeMap<i32, Vec<i64>> {
    let mut open: BTreeMap<i32, i64> = ends.iter().copied().collect();
    let mut all: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    while !open.is_empty() {
        match next(consumer).await {
            Delivery::Records { assignment, records, .. } => {
                let offsets = records.iter().map(|record| record.offset);
                all.entry(assignment.partition).or_default().extend(offsets);
            }
            Delivery::End { assignment, offset } => {
                if open.get(&assignment.partition) == Some(&offset) {
                    open.remove(&assignment.partition);
                }
            }
            Delivery::Assigned(none) if none.is_empty() => {}
            other => panic!("{other:?}"),
        }
    }
    all
}

macro_rules! in_both_protocols {
    ($($case:ident),* $(,)?) => {
        mod classic {
            $(
                #[tokio::test]
                #[ignore = "needs services: docker/local/cluster up --kafka 3"]
                async fn $case() {
                    super::$case(super::options(super::GroupProtocol::Classic)).await;
                }
            )*
        }

        mod consumer {
            $(
                #[tokio::test]
                #[ignore = "needs services: docker/local/cluster up --kafka 3"]
                async fn $case() {
                    super::$case(super::options(super::GroupProtocol::Consumer)).await;
                }
            )*
        }
    };
}

in_both_protocols!(
    a_partition_that_is_started_long_after_its_assignment_is_still_its_members,
    a_revoked_partition_is_not_reassigned_until_it_is_released_however_long_that_takes,
    partitions_of_a_member_that_is_dropped_or_leaves_are_reassigned,
    a_member_that_gets_no_partition_receives_an_empty_assignment,
    an_added_partition_is_assigned_and_read_from_its_first_record,
    offsets_removed_by_retention_are_out_of_range_for_a_start_and_for_a_fetch,
    the_committed_position_is_reported_and_never_used_as_a_start,
);

/// Simulated outage of the store, during which positions are unknown: `EXACTLYONCE_TEST_STORE_AWAY_SECONDS`, or 15 s,
/// which is longer than the session timeout of either protocol.
fn store_outage() -> Duration {
    let seconds = match std::env::var("EXACTLYONCE_TEST_STORE_AWAY_SECONDS") {
        Ok(seconds) => seconds.parse().expect("EXACTLYONCE_TEST_STORE_AWAY_SECONDS is a number of seconds"),
        Err(_) => 15,
    };
    Duration::from_secs(seconds)
}

/// As during an outage of the store, when positions are loaded after more than the session timeout.
async fn a_partition_that_is_started_long_after_its_assignment_is_still_its_members(options: KafkaOptions) {
    let broker = TestBroker::new(&options);
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    broker.append(TOPIC, values(0, 0..10)).await.unwrap();
    broker.append(TOPIC, values(1, 0..10)).await.unwrap();
    let mut consumer = broker.subscribe(GROUP, TOPIC).await.unwrap();
    assert_eq!(assigned(&mut consumer, 2).await.len(), 2);
    consumer.start(Assignment { partition: 0, incarnation: 1 }, 0);
    assert_eq!(read(&mut consumer, &[(0, 10)]).await[&0], (0..10).collect::<Vec<_>>());
    // Meanwhile this partition is paused, and the other one is not started.
    consumer.pause(0);
    let until = Instant::now() + store_outage();
    while let Ok(delivery) = timeout_at(until, consumer.poll()).await {
        match delivery {
            Ok(Delivery::End { .. }) | Err(_) => {}
            other => panic!("{other:?}"),
        }
    }
    consumer.start(Assignment { partition: 1, incarnation: 2 }, 4);
    assert_eq!(read(&mut consumer, &[(1, 10)]).await[&1], (4..10).collect::<Vec<_>>());
}

async fn a_revoked_partition_is_not_reassigned_until_it_is_released_however_long_that_takes(
    options: KafkaOptions,
) {
    let broker = TestBroker::new(&options);
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    for partition in 0..2 {
        broker.append(TOPIC, values(partition, 0..10)).await.unwrap();
    }
    let mut first = broker.subscribe(GROUP, TOPIC).await.unwrap();
    for partition in assigned(&mut first, 2).await {
        first.start(Assignment { partition, incarnation: 1 }, 0);
    }
    read(&mut first, &[(0, 10), (1, 10)]).await;
    let mut second = broker.subscribe(GROUP, TOPIC).await.unwrap();
    let mut revoked = Vec::new();
    while revoked.is_empty() {
        tokio::select! {
            delivery = next(&mut first) => match delivery {
                Delivery::Revoked(partitions) => revoked = partitions,
                Delivery::End { .. } => {}
                other => panic!("{other:?}"),
            },
            delivery = next(&mut second) => assert!(matches!(&delivery, Delivery::Assigned(none) if none.is_empty()), "{delivery:?}"),
        }
    }
    assert_eq!(revoked.len(), 1);
    let kept = 1 - revoked[0];
    broker.append(TOPIC, values(revoked[0], 10..12)).await.unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let delivery = async {
            tokio::select! {
                delivery = next(&mut first) => (1, delivery),
                delivery = next(&mut second) => (2, delivery),
            }
        };
        match timeout_at(until, delivery).await {
            Err(_) => break,
            Ok((2, Delivery::Assigned(none))) if none.is_empty() => {}
            Ok((1, Delivery::End { assignment, .. })) if assignment.partition == kept => {}
            Ok(other) => panic!("{other:?}"),
        }
    }
    first.release(revoked[0]);
    let both = async {
        let got = async {
            let got = assigned(&mut second, 1).await;
            assert_eq!(got, BTreeSet::from_iter(revoked.clone()));
            second.start(Assignment { partition: revoked[0], incarnation: 9 }, 10);
            assert_eq!(read(&mut second, &[(revoked[0], 12)]).await[&revoked[0]], [10, 11]);
        };
        tokio::select! {
            () = got => {}
            _ = async { loop { next(&mut first).await; } } => {}
        }
    };
    both.await;
    // The partition that the first member kept continues at its position.
    broker.append(TOPIC, values(kept, 10..11)).await.unwrap();
    assert_eq!(read(&mut first, &[(kept, 11)]).await[&kept], [10]);
}

async fn partitions_of_a_member_that_is_dropped_or_leaves_are_reassigned(options: KafkaOptions) {
    let broker = TestBroker::new(&options);
    broker.create_topic(TOPIC, 2, 1).await.unwrap();
    let mut first = broker.subscribe(GROUP, TOPIC).await.unwrap();
    assigned(&mut first, 2).await;
    let mut second = broker.subscribe(GROUP, TOPIC).await.unwrap();
    // A dropped member does not leave the group, so its session must expire first.
    drop(first);
    let dropped = Instant::now();
    assigned(&mut second, 2).await;
    assert!(dropped.elapsed() > Duration::from_secs(1), "reassigned before the session expired");
    // The second member leaves the group.
    let mut third = broker.subscribe(GROUP, TOPIC).await.unwrap();
    second.leave().await;
    assigned(&mut third, 2).await;
}

async fn a_member_that_gets_no_partition_receives_an_empty_assignment(options: KafkaOptions) {
    let broker = TestBroker::new(&options);
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    let mut members =
        [broker.subscribe(GROUP, TOPIC).await.unwrap(), broker.subscribe(GROUP, TOPIC).await.unwrap()];
    let mut shares = [None, None];
    while shares.iter().any(Option::is_none) {
        let [first, second] = &mut members;
        let (who, delivery) = tokio::select! {
            delivery = next(first) => (0, delivery),
            delivery = next(second) => (1, delivery),
        };
        match delivery {
            Delivery::Assigned(partitions) => shares[who] = Some(partitions.len()),
            Delivery::Revoked(partitions) => {
                shares[who] = None;
                members[who].release(partitions[0]);
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn an_added_partition_is_assigned_and_read_from_its_first_record(options: KafkaOptions) {
    let broker = TestBroker::new(&options);
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    let mut consumer = broker.subscribe(GROUP, TOPIC).await.unwrap();
    assigned(&mut consumer, 1).await;
    consumer.start(Assignment { partition: 0, incarnation: 1 }, 0);
    read(&mut consumer, &[(0, 0)]).await;
    let name = broker.name(TOPIC);
    let added =
        admin(&options).create_partitions(&[NewPartitions::new(&name, 3)], &AdminOptions::new()).await;
    added.unwrap()[0].as_ref().unwrap();
    // Appended before any member detects the partition.
    while broker.topic(TOPIC).await.unwrap().partitions < 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    broker.append(TOPIC, values(2, 0..5)).await.unwrap();
    let mut added = BTreeSet::new();
    while added.len() < 2 {
        match next(&mut consumer).await {
            Delivery::Assigned(partitions) => added.extend(partitions),
            Delivery::End { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(added, BTreeSet::from([1, 2]));
    consumer.start(Assignment { partition: 2, incarnation: 2 }, 0);
    assert_eq!(read(&mut consumer, &[(2, 5)]).await[&2], [0, 1, 2, 3, 4]);
}

async fn offsets_removed_by_retention_are_out_of_range_for_a_start_and_for_a_fetch(options: KafkaOptions) {
    let broker = TestBroker::new(&options);
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    broker.append(TOPIC, values(0, 0..10)).await.unwrap();
    let mut below = TopicPartitionList::new();
    below.add_partition_offset(&broker.name(TOPIC), 0, Offset::Offset(6)).unwrap();
    admin(&options).delete_records(&below, &AdminOptions::new()).await.unwrap();
    assert_eq!(broker.offsets(TOPIC, 0).await.unwrap().start, 6);
    let mut consumer = broker.subscribe(GROUP, TOPIC).await.unwrap();
    assigned(&mut consumer, 1).await;
    for (incarnation, outside) in [(1, 5), (2, 11)] {
        let fetched = broker.fetch(TOPIC, 0, outside, 10, 1000).await;
        assert!(
            matches!(fetched, Err(BrokerError::OutOfRange { offset, .. }) if offset == outside),
            "{fetched:?}"
        );
        let start = Assignment { partition: 0, incarnation };
        consumer.start(start, outside);
        match next(&mut consumer).await {
            Delivery::Failed { assignment, offset, error: BrokerError::OutOfRange { .. } } => {
                assert_eq!((assignment, offset), (start, outside));
            }
            other => panic!("{other:?}"),
        }
    }
    consumer.start(Assignment { partition: 0, incarnation: 3 }, 6);
    assert_eq!(read(&mut consumer, &[(0, 10)]).await[&0], [6, 7, 8, 9]);
}

async fn the_committed_position_is_reported_and_never_used_as_a_start(options: KafkaOptions) {
    let broker = TestBroker::new(&options);
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    broker.append(TOPIC, values(0, 0..10)).await.unwrap();
    let mut consumer = broker.subscribe(GROUP, TOPIC).await.unwrap();
    assigned(&mut consumer, 1).await;
    consumer.start(Assignment { partition: 0, incarnation: 1 }, 0);
    read(&mut consumer, &[(0, 10)]).await;
    consumer.report(0, 8);
    consumer.leave().await;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &options.bootstrap_servers).set("group.id", broker.name(GROUP));
    let reader: rdkafka::consumer::BaseConsumer = config.create().unwrap();
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition(&broker.name(TOPIC), 0);
    use rdkafka::consumer::Consumer as _;
    let committed = reader.committed_offsets(partitions, Duration::from_secs(10)).unwrap();
    assert_eq!(committed.elements()[0].offset(), Offset::Offset(8));
    let mut again = broker.subscribe(GROUP, TOPIC).await.unwrap();
    assigned(&mut again, 1).await;
    again.start(Assignment { partition: 0, incarnation: 1 }, 3);
    assert_eq!(read(&mut again, &[(0, 10)]).await[&0], (3..10).collect::<Vec<_>>());
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --kafka 3"]
async fn records_of_every_codec_are_read() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    let options = options(GroupProtocol::Classic);
    let broker = TestBroker::new(&options);
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for codec in codecs {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &options.bootstrap_servers).set("compression.type", codec);
        let producer: BaseProducer = config.set("linger.ms", "50").create().unwrap();
        let text = codec.repeat(1_000);
        for _ in 0..20 {
            producer.send(BaseRecord::<(), str>::to(&broker.name(TOPIC)).payload(&text)).unwrap();
        }
        producer.flush(Duration::from_secs(20)).unwrap();
    }
    let expected: Vec<String> =
        codecs.iter().flat_map(|codec| std::iter::repeat_n(codec.repeat(1_000), 20)).collect();
    let fetched = broker.fetch(TOPIC, 0, 0, 1_000, usize::MAX).await.unwrap();
    let text = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap()).unwrap();
    let got: Vec<String> = fetched.records.into_iter().map(|record| text(record.value)).collect();
    assert_eq!(got, expected);
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --kafka 3"]
async fn a_group_with_a_different_assignor_is_refused_with_a_hint_to_use_another_group() {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let options = options(GroupProtocol::Classic);
    let broker = TestBroker::new(&options);
    broker.create_topic(TOPIC, 1, 1).await.unwrap();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &options.bootstrap_servers).set("group.id", broker.name(GROUP));
    let other: BaseConsumer = config.set("partition.assignment.strategy", "range").create().unwrap();
    other.subscribe(&[&broker.name(TOPIC)]).unwrap();
    while other.assignment().unwrap().count() == 0 {
        let _ = other.poll(Duration::from_millis(100));
        tokio::task::yield_now().await;
    }
    let mut consumer = broker.subscribe(GROUP, TOPIC).await.unwrap();
    let error = timeout(Duration::from_secs(30), consumer.poll()).await.unwrap().unwrap_err();
    match &error {
        BrokerError::Refused { reason, .. } => assert!(reason.contains("pipeline.group"), "{error}"),
        _ => panic!("{error:?}"),
    }
}

#[tokio::test]
#[ignore = "needs services: docker/local/cluster up --kafka 3"]
async fn settings_that_break_the_guarantee_are_detected() {
    use exactlyonce::guarantee::Verdict;
    use rdkafka::admin::{AlterConfig, ResourceSpecifier};
    let options = options(GroupProtocol::Classic);
    let broker = TestBroker::new(&options);
    broker.create_topic(TOPIC, 2, 3).await.unwrap();
    // Brokers whose machine is busy learn of a new topic late.
    let findings_of = async |topic| {
        let until_known = async {
            loop {
                match broker.guarantees(topic).await {
                    Err(BrokerError::UnknownTopic(_)) => {}
                    result => break result.unwrap(),
                }
            }
        };
        timeout(Duration::from_secs(60), until_known).await.expect("the brokers learn of the topic")
    };
    let verdicts = async || -> std::collections::BTreeMap<String, &'static str> {
        let findings = findings_of(TOPIC).await;
        let named = findings.into_iter().map(|finding| {
            let name = finding.what.replace(&broker.name(TOPIC), "t").replace("kafka ", "");
            (name, finding.verdict.label())
        });
        named.collect()
    };
    let inherited = verdicts().await;
    assert_eq!(inherited["topic t min.insync.replicas"], Verdict::Fine.label(), "{inherited:?}");
    // Two settings of each of three brokers, because the topic does not override them.
    assert_eq!(inherited.keys().filter(|name| name.starts_with("broker ")).count(), 6, "{inherited:?}");
    assert!(inherited.values().all(|verdict| *verdict == "ok"), "{inherited:?}");
    let name = broker.name(TOPIC);
    let worse = AlterConfig::new(ResourceSpecifier::Topic(&name))
        .set("min.insync.replicas", "1")
        .set("unclean.leader.election.enable", "true")
        .set("cleanup.policy", "compact,delete");
    admin(&options).alter_configs(&[worse], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    let settings = ["min.insync.replicas", "unclean.leader.election.enable", "cleanup.policy"];
    let until_seen = async {
        loop {
            let found = verdicts().await;
            if settings.iter().all(|setting| found[&format!("topic t {setting}")] == "refused") {
                break found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let found = timeout(Duration::from_secs(20), until_seen).await.expect("all three are refused");
    assert!(found.keys().all(|name| !name.starts_with("broker ")), "{found:?}");
    broker.create_topic("single", 1, 1).await.unwrap();
    let single = findings_of("single").await;
    assert_eq!(single[0].verdict.label(), "warning", "{single:?}");
}
