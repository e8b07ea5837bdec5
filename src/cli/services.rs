//! Opening the broker and the store that the settings name.
//!
//! The library is generic over both, so a command's work is compiled once for each pair. [`with_broker`] and
//! [`with_store`] (one inside the other for both) run a block with the service of the kind that is set. A
//! new kind is a new arm in each of the four `match`es on the kind here, and nothing elsewhere.

use std::path::PathBuf;

use super::failure::Failure;
use crate::broker::embedded::EmbeddedBroker;
use crate::config::{BrokerKind, Settings, StoreKind};
use crate::embedded::{Options, WorkerLock};
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
            $crate::config::BrokerKind::Kafka => Err($crate::cli::services::no_kafka()),
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
            $crate::config::StoreKind::Cassandra => Err($crate::cli::services::no_cassandra()),
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

/// See [`with_broker`].
pub(super) fn no_kafka() -> Failure {
    Failure::NotBuilt { key: "broker.kind", kind: "kafka" }
}

/// See [`with_store`].
pub(super) fn no_cassandra() -> Failure {
    Failure::NotBuilt { key: "store.kind", kind: "cassandra" }
}

/// Checks that this build has the kinds that the settings name.
pub(super) fn check_kinds(settings: &Settings) -> Result<(), Failure> {
    match settings.broker.kind {
        BrokerKind::Embedded => {}
        BrokerKind::Kafka => return Err(no_kafka()),
    }
    match settings.store.kind {
        StoreKind::Embedded => Ok(()),
        StoreKind::Cassandra => Err(no_cassandra()),
    }
}

/// Makes what a broker needs before it can be opened.
pub(super) fn prepare_broker(settings: &Settings) -> Result<(), Failure> {
    match settings.broker.kind {
        BrokerKind::Embedded => Ok(EmbeddedBroker::create(&settings.embedded.data, &options(settings))?),
        BrokerKind::Kafka => Err(no_kafka()),
    }
}

/// Makes the tables that are missing.
pub(super) fn apply_schema(settings: &Settings) -> Result<(), Failure> {
    match settings.store.kind {
        StoreKind::Embedded => {
            Ok(EmbeddedStore::apply_schema(store_folder(settings), &options(settings), settings.layout())?)
        }
        StoreKind::Cassandra => Err(no_cassandra()),
    }
}

/// Compares the tables with the schema.
pub(super) fn check_schema(settings: &Settings) -> Result<(), Failure> {
    match settings.store.kind {
        // Opening compares, and names the first difference.
        StoreKind::Embedded => embedded_store(settings).map(drop),
        StoreKind::Cassandra => Err(no_cassandra()),
    }
}

/// Takes what a worker must have for itself. It is held until it is dropped.
pub(super) fn lock(settings: &Settings) -> Result<Option<WorkerLock>, Failure> {
    match (settings.broker.kind, settings.store.kind) {
        (BrokerKind::Embedded, _) | (_, StoreKind::Embedded) => {
            Ok(Some(WorkerLock::acquire(&settings.embedded.data)?))
        }
        (BrokerKind::Kafka, StoreKind::Cassandra) => Ok(None),
    }
}

/// What the store is, in words.
pub(super) fn store_name(settings: &Settings) -> String {
    match settings.store.kind {
        StoreKind::Embedded => format!("the embedded store in {}", store_folder(settings).display()),
        StoreKind::Cassandra => "Cassandra".to_owned(),
    }
}

/// Each keyspace has a file of its own, so that one log can go into several.
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
