//! The services that are measured, and their topics and keyspaces.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use exactlyonce::binding::{self, Origin};
use exactlyonce::broker::kafka::{KafkaBroker, KafkaOptions};
use exactlyonce::broker::{Broker, BrokerError, NewRecord, Producer};
use exactlyonce::generate::{Mixed, Share};
use exactlyonce::store::Layout;
use exactlyonce::store::cassandra::{self, CassandraOptions, CassandraStore};
use exactlyonce::store::cql::{Keyspace, Replication};
use scylla::client::session_builder::SessionBuilder;

use crate::Outcome;
use crate::cluster::Cluster;
use crate::load::Load;

/// The addresses of the services.
pub struct Services {
    /// Brokers, separated by commas.
    pub kafka: String,
    /// Nodes.
    pub cassandra: Vec<String>,
}

impl Services {
    /// The addresses from the script that starts the services.
    pub fn find() -> Outcome<Self> {
        let cluster = Cluster::find()?;
        Ok(Self {
            kafka: cluster.addresses("KAFKA", 1)?.join(","),
            cassandra: cluster.addresses("CASSANDRA", 1)?,
        })
    }

    fn broker(&self) -> Outcome<KafkaBroker> {
        Ok(KafkaBroker::connect(&KafkaOptions::new(&self.kafka))?)
    }

    /// The store's options for a keyspace.
    pub fn store(&self, keyspace: &str) -> Outcome<CassandraOptions> {
        Ok(CassandraOptions::new(self.cassandra.clone(), Keyspace::try_from(keyspace.to_owned())?))
    }

    /// The topic of a load, created on first use: only events, 30 % of them Critical.
    pub async fn topic(&self, load: &Load) -> Outcome<String> {
        let (broker, topic) = (self.broker()?, load.topic());
        match broker.create_topic(&topic, load.partitions, 1).await {
            Ok(_) => {
                // The current time, because the broker's retention depends on the records' timestamps.
                let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
                let mixed = Mixed {
                    records: load.records,
                    start_ms: i64::try_from(now.as_millis())?,
                    sources: load.sources,
                    health: "50,20,30".parse()?,
                    late: Share::NONE,
                    duplicates: Share::NONE,
                    malformed: Share::NONE,
                    ..Mixed::default()
                };
                // Evenly over the partitions: the keys, three client names, would use only two of them.
                let (first, active) = (load.partitions - load.active(), load.active());
                let partition = |i: usize| Some(first + (i % active as usize) as i32);
                let mut made = mixed
                    .records()?
                    .enumerate()
                    .map(|(i, record)| NewRecord { partition: partition(i), ..record });
                loop {
                    let chunk: Vec<NewRecord> = made.by_ref().take(20_000).collect();
                    if chunk.is_empty() {
                        break;
                    }
                    broker.append(&topic, chunk).await?;
                }
            }
            Err(BrokerError::TopicExists(_)) => {}
            Err(error) => return Err(error.into()),
        }
        match self.records(&topic).await? {
            found if found == load.records => Ok(topic),
            found => {
                Err(format!("topic {topic} has {found} records, not {}: delete it", load.records).into())
            }
        }
    }

    /// The number of records of a topic.
    pub async fn records(&self, topic: &str) -> Outcome<u64> {
        let (broker, mut records) = (self.broker()?, 0);
        for partition in 0..broker.topic(topic).await?.partitions {
            let log = broker.offsets(topic, partition).await?;
            records += u64::try_from(log.end - log.start)?;
        }
        Ok(records)
    }

    /// A new keyspace with the tables.
    pub async fn keyspace(&self, name: &str, layout: Layout) -> Outcome<String> {
        self.drop_keyspace(name).await?;
        let replicas = i64::try_from(self.cassandra.len().min(3))?;
        cassandra::apply_schema(&self.store(name)?, &Replication::anywhere(replicas)?, layout).await?;
        Ok(name.to_owned())
    }

    /// A new keyspace that is bound to a load's topic.
    pub async fn bound(&self, name: &str, load: &Load) -> Outcome<String> {
        let keyspace = self.keyspace(name, load.layout()).await?;
        let store = CassandraStore::connect(&self.store(&keyspace)?, load.layout()).await?;
        binding::init(&self.broker()?, &store, &load.binding_spec(), &Origin::Start).await?;
        Ok(keyspace)
    }

    /// Drops a keyspace and lets the node settle.
    pub async fn drop_keyspace(&self, name: &str) -> Outcome {
        let session = SessionBuilder::new().known_nodes(&self.cassandra).build().await?;
        session.query_unpaged(format!("DROP KEYSPACE IF EXISTS {name}"), ()).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(())
    }
}
