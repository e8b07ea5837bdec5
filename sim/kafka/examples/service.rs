//! A service of yours while brokers fail: `cargo run --example service`.
//!
//! The service reads orders and writes an invoice for each. What it may do wrong shows when brokers fail under it: an order
//! without an invoice, or one with two.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, SystemTime};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Message, Offset, TopicPartitionList};
use simulated_kafka::cluster::HostFault::{self, Kill, Pause, PowerLoss, Stop};
use simulated_kafka::cluster::Recovery;
use simulated_kafka::serve::{LocalBrokers, LocalOptions};

/// How many orders there are.
const ORDERS: usize = 400;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The program under test: for each order it writes an invoice, and then commits the order's offset.
async fn service(brokers: String) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    let producer: FutureProducer = config.clone().set("enable.idempotence", "true").create()?;
    let consumer: StreamConsumer = config
        .set("group.id", "invoicing")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", "6000")
        .create()?;
    consumer.subscribe(&["orders"])?;
    loop {
        let order = match consumer.recv().await {
            Ok(order) => order,
            // librdkafka retries by itself, and reports why.
            Err(error) => {
                eprintln!("service: {error}");
                continue;
            }
        };
        let invoice =
            FutureRecord::to("invoices").key(order.payload().unwrap_or_default()).payload("invoice");
        producer.send(invoice, Duration::from_secs(60)).await.map_err(|(error, _)| error)?;
        if let Err(error) = consumer.commit_message(&order, CommitMode::Async) {
            eprintln!("service: {error}");
        }
    }
}

/// How many invoices each order has.
fn invoices(brokers: &str) -> Result<BTreeMap<String, usize>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "audit")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset("invoices", 0, Offset::Beginning)?;
    consumer.assign(&from)?;
    let mut counts = BTreeMap::new();
    loop {
        match consumer.poll(Duration::from_secs(20)) {
            Some(Ok(invoice)) => {
                let order = String::from_utf8_lossy(invoice.key().unwrap_or_default()).into_owned();
                *counts.entry(order).or_default() += 1;
            }
            Some(Err(KafkaError::PartitionEOF(_))) | None => return Ok(counts),
            Some(Err(error)) => eprintln!("audit: {error}"),
        }
    }
}

/// Lets brokers fail one after another.
async fn faults(brokers: &LocalBrokers) -> Result<()> {
    let faults: [(u8, HostFault); 4] = [(1, Kill), (2, Pause), (3, PowerLoss), (1, Stop)];
    for (broker, fault) in faults {
        tokio::time::sleep(Duration::from_secs(1)).await;
        println!("broker {broker}: {fault}");
        brokers.apply(broker, fault).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let recovery = if fault == Pause { Recovery::Resume } else { Recovery::Start };
        brokers.recover(recovery, &[broker]).await?;
        println!("broker {broker}: {recovery}");
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    // The time of the clients, because records from more than an hour ahead are refused.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_micros();
    let options = LocalOptions { port: 0, ..LocalOptions::new(i64::try_from(now)?) };
    let brokers = LocalBrokers::start(options, |_| {}).await?;
    let addresses: Vec<String> =
        (1..=brokers.count()).map(|broker| brokers.address(broker).to_string()).collect();
    let addresses = addresses.join(",");
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &addresses);
    let admin: AdminClient<_> = config.create()?;
    let topics = ["orders", "invoices"]
        .map(|name| NewTopic::new(name, 1, TopicReplication::Fixed(3)).set("min.insync.replicas", "2"));
    admin.create_topics(&topics, &AdminOptions::new()).await?;

    let running = tokio::spawn(service(addresses.clone()));
    let producer: FutureProducer = config.clone().set("enable.idempotence", "true").create()?;
    let ordering = tokio::spawn(async move {
        for order in 0..ORDERS {
            let key = order.to_string();
            let record = FutureRecord::<(), _>::to("orders").payload(&key);
            producer.send(record, Duration::from_secs(60)).await.map_err(|(error, _)| error)?;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        Ok::<_, KafkaError>(())
    });
    faults(&brokers).await?;
    ordering.await??;
    let mut counts = BTreeMap::new();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let audited = addresses.clone();
        counts = tokio::task::spawn_blocking(move || invoices(&audited)).await??;
        if counts.len() == ORDERS {
            break;
        }
    }
    running.abort();
    let twice = counts.values().filter(|count| **count > 1).count();
    println!("{ORDERS} orders: {} have no invoice, {twice} have more than one", ORDERS - counts.len());
    Ok(())
}
