//! What an acknowledgement is worth when the leader dies: `cargo run --example acks`.
//!
//! Three brokers, and librdkafka, which knows nothing of their being simulated.

use std::error::Error;
use std::time::{Duration, SystemTime};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Message, Offset, TopicPartitionList};
use simulated_kafka::cluster::{HostFault, Recovery, Verb};
use simulated_kafka::serve::{LocalBrokers, LocalOptions};
use simulated_kafka::types::NodeId;

const TOPIC: &str = "orders";

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn client(brokers: &LocalBrokers) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", format!("{},{}", brokers.address(1), brokers.address(2)));
    config
}

/// The leader of the topic's only partition, waited for.
async fn leader(brokers: &LocalBrokers, other_than: Option<NodeId>) -> NodeId {
    loop {
        let metadata = brokers.cluster().metadata();
        let leader = metadata.topic(TOPIC).and_then(|topic| topic.partitions.first()?.leader);
        match leader.filter(|leader| Some(*leader) != other_than) {
            Some(leader) => return leader,
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// All that a consumer reads now, from the first record on.
fn read(brokers: &LocalBrokers) -> Result<Vec<String>> {
    let consumer: BaseConsumer =
        client(brokers).set("group.id", "reader").set("enable.partition.eof", "true").create()?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(TOPIC, 0, Offset::Beginning)?;
    consumer.assign(&from)?;
    let mut values = Vec::new();
    loop {
        match consumer.poll(Duration::from_secs(10)) {
            Some(Ok(message)) => {
                values.push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned())
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) | None => return Ok(values),
            // That a broker is down: librdkafka asks another.
            Some(Err(_)) => {}
        }
    }
}

/// Produces a record while the followers get nothing, and then kills the leader.
async fn lose_the_leader(brokers: &LocalBrokers, acks: &str, value: &'static str) -> Result<()> {
    let old = leader(brokers, None).await;
    // The followers' fetches arrive, and the leader's responses are lost.
    let rule = brokers.links().rule(move |envelope| {
        (envelope.response_to == Some(Verb::Replicate) && envelope.from == old).then(Vec::new)
    });
    let producer: FutureProducer = client(brokers).set("acks", acks).create()?;
    let sent = tokio::spawn(async move {
        let record = FutureRecord::<(), _>::to(TOPIC).payload(value);
        producer.send(record, Duration::from_secs(30)).await.map_err(|(error, _)| error)
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    println!("acks={acks}: '{value}' is acknowledged: {}", sent.is_finished());
    let number = u8::try_from(old.0)?;
    brokers.apply(number, HostFault::Kill).await?;
    let new = leader(brokers, Some(old)).await;
    brokers.links().remove(rule);
    let delivery = sent.await??;
    println!("broker {old} was killed, {new} leads; acknowledged at offset {}", delivery.offset);
    println!("a consumer reads {:?}", read(brokers)?);
    brokers.recover(Recovery::Start, &[number]).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    // The time of the clients, because records from more than an hour ahead are refused.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_micros();
    let options = LocalOptions { port: 0, ..LocalOptions::new(i64::try_from(now)?) };
    let brokers = LocalBrokers::start(options, |_| {}).await?;
    let admin: AdminClient<_> = client(&brokers).create()?;
    let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(3));
    admin.create_topics([&topic], &AdminOptions::new()).await?;
    lose_the_leader(&brokers, "1", "first order").await?;
    lose_the_leader(&brokers, "all", "second order").await
}
