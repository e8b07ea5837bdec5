//! Opening the broker and the store that the settings name.
//!
//! The library is generic over both, so a command's work is compiled once for each pair. [`with_broker`] and
//! [`with_store`] (one inside the other for both) run a block with the service of the kind that is set, in an
//! async function that returns `Result<_, Failure>`. A new kind is a new arm in each of the `match`es on the
//! kind here, and nothing elsewhere.
//!
//! Opening Kafka or Cassandra waits until the service responds ([`super::waiting`]), except after errors that a retry
//! cannot fix.

use std::path::PathBuf;

use super::failure::Failure;
use crate::broker::embedded::EmbeddedBroker;
use crate::config::{BrokerKind, Settings, StoreKind};
use crate::sqlite::{Options, WorkerLock};
use crate::store::embedded::EmbeddedStore;

/// The keyspace whose tables the embedded store keeps in the folder itself.
pub(super) const FIRST_KEYSPACE: &str = "exactlyonce";

/// Evaluates a block, which ends in a `Result<_, Failure>`, with the broker of the settings.
macro_rules! with_broker {
    ($settings:expr, |$broker:ident| $block:expr) => {
        match $settings.broker.kind {
            $crate::config::BrokerKind::Embedded => {
                let $broker = $crate::cli::services::embedded_broker($settings)?;
                $block
            }
            #[cfg(feature = "kafka")]
            $crate::config::BrokerKind::Kafka => {
                let $broker = $crate::cli::services::kafka_broker($settings).await?;
                $block
            }
            #[cfg(not(feature = "kafka"))]
            $crate::config::BrokerKind::Kafka => Err($crate::cli::services::NO_KAFKA),
        }
    };
}

/// Evaluates a block, which ends in a `Result<_, Failure>`, with the store of the settings.
macro_rules! with_store {
    ($settings:expr, |$store:ident| $block:expr) => {
        match $settings.store.kind {
            $crate::config::StoreKind::Embedded => {
                let $store = $crate::cli::services::embedded_store($settings)?;
                $block
            }
            #[cfg(feature = "cassandra")]
            $crate::config::StoreKind::Cassandra => {
                let $store = $crate::cli::services::cassandra_store($settings).await?;
                $block
            }
            #[cfg(not(feature = "cassandra"))]
            $crate::config::StoreKind::Cassandra => Err($crate::cli::services::NO_CASSANDRA),
        }
    };
}

pub(super) use {with_broker, with_store};

/// See [`with_broker`].
pub(super) fn embedded_broker(settings: &Settings) -> Result<EmbeddedBroker, Failure> {
    Ok(EmbeddedBroker::open(&settings.embedded.data, &options(settings))?)
}

/// See [`with_store`].
pub(super) fn embedded_store(settings: &Settings) -> Result<EmbeddedStore, Failure> {
    Ok(EmbeddedStore::open(store_folder(settings), &options(settings), settings.layout())?)
}

/// See [`with_broker`]. Waits until the cluster responds, and retries later requests.
#[cfg(feature = "kafka")]
pub(super) async fn kafka_broker(
    settings: &Settings,
) -> Result<super::retrying::Retrying<crate::broker::kafka::KafkaBroker>, Failure> {
    use super::retrying::Retrying;
    use super::waiting::{Attempt, wait};
    use crate::broker::kafka::KafkaBroker;
    use crate::broker::{Broker, BrokerError};
    let servers = &settings.kafka.bootstrap_servers;
    let unusable = |source| Failure::Kafka { servers: servers.clone(), source };
    let broker = KafkaBroker::connect(&settings.kafka()).map_err(unusable)?;
    let request = || async {
        match broker.topic(&settings.topic).await {
            // The command decides whether a topic must exist.
            Ok(_) | Err(BrokerError::UnknownTopic(_)) => Attempt::Available(()),
            Err(error) if error.is_retriable() => Attempt::Unavailable(error.into()),
            Err(error) => Attempt::Failed(unusable(error)),
        }
    };
    wait(settings, &format!("kafka at {servers}"), request, || broker.last_error()).await?;
    let deadline = std::time::Duration::from_millis(settings.services.start_deadline_ms);
    Ok(Retrying::new(broker, deadline))
}

/// See [`with_store`]. Waits until the cluster responds, and checks its tables.
#[cfg(feature = "cassandra")]
pub(super) async fn cassandra_store(
    settings: &Settings,
) -> Result<crate::store::cassandra::CassandraStore, Failure> {
    use crate::store::cassandra::CassandraStore;
    let options = &settings.cassandra();
    with_cassandra(settings, || CassandraStore::connect(options, settings.layout())).await
}

/// Warnings about a store's setup, logged once by the commands that bind it or write to it.
pub(super) trait Advice {
    /// Warns about a setup that is allowed but rarely intended.
    fn advise(&self) {}
}

impl Advice for EmbeddedStore {}

#[cfg(feature = "cassandra")]
impl Advice for crate::store::cassandra::CassandraStore {
    fn advise(&self) {
        let replicas = self.replicas();
        if replicas < 3 {
            tracing::warn!(
                keyspace = self.keyspace(),
                replicas,
                "with fewer than 3 replicas a quorum is all of them: any node down makes requests fail, and a lost disk \
                 loses data"
            );
        }
    }
}

/// Repeats a request until Cassandra responds.
#[cfg(feature = "cassandra")]
async fn with_cassandra<T, F>(settings: &Settings, request: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, crate::store::cassandra::ConnectError>>,
{
    use super::waiting::{Attempt, wait};
    let attempt = || async {
        match request().await {
            Ok(response) => Attempt::Available(response),
            Err(error) if error.is_transient() => Attempt::Unavailable(error.into()),
            Err(error) => Attempt::Failed(error.into()),
        }
    };
    wait(settings, &cassandra_name(settings), attempt, || None).await
}

fn cassandra_name(settings: &Settings) -> String {
    format!("cassandra at {}", settings.cassandra.contact_points.join(", "))
}

/// The error for a kind that this build does not have.
#[cfg(not(feature = "kafka"))]
pub(super) const NO_KAFKA: Failure =
    Failure::NotBuilt { key: "broker.kind", value: "kafka", feature: "kafka" };

/// See [`NO_KAFKA`].
#[cfg(not(feature = "cassandra"))]
pub(super) const NO_CASSANDRA: Failure =
    Failure::NotBuilt { key: "store.kind", value: "cassandra", feature: "cassandra" };

/// Checks that this build has what the settings ask for.
pub(super) fn check_kinds(settings: &Settings) -> Result<(), Failure> {
    let (kafka, cassandra) =
        (settings.broker.kind == BrokerKind::Kafka, settings.store.kind == StoreKind::Cassandra);
    #[cfg(not(feature = "kafka"))]
    if kafka {
        return Err(NO_KAFKA);
    }
    #[cfg(not(feature = "cassandra"))]
    if cassandra {
        return Err(NO_CASSANDRA);
    }
    for (set, key) in
        [(kafka && settings.kafka.tls, "kafka.tls"), (cassandra && settings.cassandra.tls, "cassandra.tls")]
    {
        if set && !cfg!(feature = "tls") {
            return Err(Failure::NotBuilt { key, value: "true", feature: "tls" });
        }
    }
    Ok(())
}

/// Creates what a broker needs before it can be opened.
pub(super) fn prepare_broker(settings: &Settings) -> Result<(), Failure> {
    match settings.broker.kind {
        BrokerKind::Embedded => Ok(EmbeddedBroker::create(&settings.embedded.data, &options(settings))?),
        BrokerKind::Kafka => Ok(()),
    }
}

/// Creates the missing tables.
pub(super) async fn apply_schema(settings: &Settings) -> Result<(), Failure> {
    match settings.store.kind {
        StoreKind::Embedded => {
            Ok(EmbeddedStore::apply_schema(store_folder(settings), &options(settings), settings.layout())?)
        }
        #[cfg(feature = "cassandra")]
        StoreKind::Cassandra => {
            let (options, replication) = (&settings.cassandra(), &settings.store.replication);
            let apply = || crate::store::cassandra::apply_schema(options, replication, settings.layout());
            with_cassandra(settings, apply).await
        }
        #[cfg(not(feature = "cassandra"))]
        StoreKind::Cassandra => Err(NO_CASSANDRA),
    }
}

/// Compares the tables with the schema.
pub(super) async fn check_schema(settings: &Settings) -> Result<(), Failure> {
    match settings.store.kind {
        // Opening compares, and names the first difference.
        StoreKind::Embedded => embedded_store(settings).map(drop),
        #[cfg(feature = "cassandra")]
        StoreKind::Cassandra => {
            let options = &settings.cassandra();
            with_cassandra(settings, || crate::store::cassandra::check_schema(options, settings.layout()))
                .await
        }
        #[cfg(not(feature = "cassandra"))]
        StoreKind::Cassandra => Err(NO_CASSANDRA),
    }
}

/// Acquires the worker's lock, which is held until it is dropped.
pub(super) fn lock(settings: &Settings) -> Result<Option<WorkerLock>, Failure> {
    match (settings.broker.kind, settings.store.kind) {
        (BrokerKind::Embedded, _) | (_, StoreKind::Embedded) => {
            Ok(Some(WorkerLock::acquire(&settings.embedded.data)?))
        }
        (BrokerKind::Kafka, StoreKind::Cassandra) => Ok(None),
    }
}

/// The store's name in messages.
pub(super) fn store_name(settings: &Settings) -> String {
    match settings.store.kind {
        StoreKind::Embedded => format!("the embedded store in {}", store_folder(settings).display()),
        StoreKind::Cassandra => {
            format!("keyspace {} of {}", settings.store.keyspace, cassandra_name(settings))
        }
    }
}

/// Each keyspace has its own file, so that one log can be processed into several keyspaces.
fn store_folder(settings: &Settings) -> PathBuf {
    let data = &settings.embedded.data;
    match settings.store.keyspace.as_str() {
        FIRST_KEYSPACE => data.clone(),
        keyspace => data.join(keyspace),
    }
}

/// How the embedded files are opened.
pub(super) fn options(settings: &Settings) -> Options {
    Options { synchronous: settings.embedded.synchronous, ..Options::default() }
}
