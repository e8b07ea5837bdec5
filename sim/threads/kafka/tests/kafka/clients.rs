//! librdkafka itself, through the crate `rdkafka`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use madsim::runtime::Handle;
use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use simulated_threads::{Figures, Options, Strategy};

use crate::harness::{machine, machine_with, on, simulate, sleep_ms};
use simulated_threads_kafka::Kafka;

pub const TOPIC: &str = "topic";
const RECORDS: usize = 500;

type Read = Arc<Mutex<BTreeSet<(i32, i64)>>>;

/// Appends records, and waits until they are acknowledged.
pub fn produce(bootstrap: &str, records: usize) {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .create()
        .expect("a producer");
    for number in 0..records {
        let (key, value) = (number.to_string(), [b'.'; 100]);
        let record = BaseRecord::to(TOPIC).key(&key).payload(&value);
        producer.send(record).map_err(|(error, _)| error).expect("space in the queue");
    }
    producer.flush(Duration::from_secs(120)).expect("acknowledged");
}

/// Reads as a member of a group, until its machine ends.
pub fn consume(bootstrap: &str, read: &Read) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "group")
        .set("session.timeout.ms", "6000")
        .set("auto.offset.reset", "earliest")
        .create()
        .expect("a consumer");
    consumer.subscribe(&[TOPIC]).expect("subscribed");
    loop {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(500)) {
            read.lock().expect("no panic").insert((message.partition(), message.offset()));
        }
    }
}

async fn until_read(read: &Read, count: usize) {
    while read.lock().expect("no panic").len() < count {
        sleep_ms(20).await;
    }
}

/// A producer, and a member of a group that is killed and restarted.
fn play(seed: u64, brokers: u8, strategy: Strategy) -> (Duration, Figures) {
    let began = std::time::Instant::now();
    let mut options = Options::default();
    options.strategy = strategy;
    let played = simulate(seed, options, move || async move {
        let began = tokio::time::Instant::now();
        let kafka = Kafka::start(brokers, seed, |_| {}).await;
        let read = Read::default();
        let bootstrap = kafka.bootstrap();
        let consumer = {
            let (read, bootstrap) = (read.clone(), bootstrap.clone());
            machine_with(20, move || consume(&bootstrap, &read))
        };
        let producer = machine(10);
        let servers = bootstrap.clone();
        on(&producer, move || produce(&servers, RECORDS)).await;
        until_read(&read, RECORDS).await;
        Handle::current().kill(consumer.id());
        let servers = bootstrap.clone();
        on(&producer, move || produce(&servers, RECORDS)).await;
        Handle::current().restart(consumer.id());
        until_read(&read, 2 * RECORDS).await;
        began.elapsed()
    })
    .unwrap_or_else(|panic| panic!("{panic}"));
    println!("seed {seed}, {brokers} brokers: {:?} in {:?}: {:?}", played.0, began.elapsed(), played.1);
    played
}

#[test]
fn a_producer_and_a_member_of_a_group_reach_one_broker_and_three() {
    for brokers in [1, 3] {
        let (took, figures) = play(1, brokers, Strategy::Random);
        assert!(took < Duration::from_secs(60), "{took:?}");
        assert!(figures.threads > 10 && figures.killed > 0, "{figures:?}");
    }
}

#[test]
fn a_seed_of_librdkafka_gives_the_same_trace_again_with_either_strategy() {
    for strategy in [Strategy::Random, Strategy::Priorities { changes: 10, calls: 20_000 }] {
        let [first, second, other] = [1, 1, 2].map(|seed| play(seed, 1, strategy));
        assert_eq!((first.0, first.1.trace, first.1.calls), (second.0, second.1.trace, second.1.calls));
        assert_ne!(first.1.trace, other.1.trace);
    }
}

#[test]
fn a_client_with_a_password_is_let_in_and_one_with_another_is_not() {
    for (password, fails) in [("right", false), ("wrong", true)] {
        let (error, _) = simulate(3, Options::default(), move || async move {
            let users = |options: &mut simulated_kafka::cluster::Options| {
                options.sasl.users.insert("user".to_owned(), "right".to_owned());
            };
            let bootstrap = Kafka::start(1, 3, users).await.bootstrap();
            on(&machine(10), move || {
                let consumer: BaseConsumer = ClientConfig::new()
                    .set("bootstrap.servers", &bootstrap)
                    .set("security.protocol", "sasl_plaintext")
                    .set("sasl.mechanism", "PLAIN")
                    .set("sasl.username", "user")
                    .set("sasl.password", password)
                    .create()
                    .expect("a consumer");
                consumer.fetch_metadata(None, Duration::from_secs(5)).err()
            })
            .await
        })
        .unwrap_or_else(|panic| panic!("{panic}"));
        assert_eq!(error.is_some(), fails, "{password}: {error:?}");
    }
}
