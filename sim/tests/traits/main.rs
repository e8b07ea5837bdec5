//! The contract of every store, tested with the production store on simulated Cassandra: the cases of `tests/traits`.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use exactlyonce::store::Layout;
use exactlyonce::store::cassandra::{CassandraOptions, CassandraStore, ConnectError, Tls, apply_schema};
use exactlyonce::store::cql::{Keyspace, Replication};
use simulation::service::cassandra::{Notes, SimulatedCassandra};
use tokio::network::Network;
use tokio::time::sleep;

/// Makes each case a test on the simulated cluster, in both layouts; the implementations that the list names are
/// tested where it stands.
macro_rules! on_every_implementation {
    ($implementations:tt, [$($case:ident),* $(,)?]) => {
        mod on_simulated_cassandra {
            $(
                #[test]
                fn $case() {
                    crate::on_a_cluster(stringify!($case), crate::Layout::ORIGINAL, async |store| {
                        super::$case(store).await;
                    });
                }
            )*
        }
        mod on_simulated_cassandra_in_buckets {
            $(
                #[test]
                fn $case() {
                    crate::on_a_cluster(stringify!($case), crate::BUCKETED, async |store| {
                        super::$case(store).await;
                    });
                }
            )*
        }
    };
}
pub(crate) use on_every_implementation;

#[path = "../../../tests/traits/store.rs"]
#[allow(dead_code)] // what other files there need
mod store;

/// Few offsets in a bucket, so that rows lie in several.
const BUCKETED: Layout = Layout::bucketed(NonZeroU32::new(4).unwrap());

/// Runs a case on a store in a cluster of its own.
fn on_a_cluster(case: &str, layout: Layout, body: impl AsyncFnOnce(CassandraStore) + Send) {
    let seed = case.bytes().fold(1, |seed: u64, byte| seed.wrapping_mul(31) + u64::from(byte));
    let ran = simulation::simulate(seed, async || {
        Network::current().plug_in(madsim::plugin::node(), [10, 0, 1, 1].into());
        let notes: Notes = Arc::new(|_: fmt::Arguments<'_>| {});
        let cluster = SimulatedCassandra::start(3, seed, notes.clone(), |_| {});
        cluster.cluster.settled().await;
        // Until all nodes listen.
        sleep(Duration::from_millis(100)).await;
        let nodes = cluster.addresses().iter().map(ToString::to_string).collect();
        let keyspace = Keyspace::try_from("traits".to_owned()).expect("a valid name");
        let options = CassandraOptions::new(nodes, keyspace);
        let replication = Replication::anywhere(3).expect("three nodes");
        apply_schema(&options, &replication, layout).await.expect("the tables can be made");
        let store = CassandraStore::connect(&options, layout).await.expect("they are as they should be");
        body(store).await;
        cluster.shut_down();
    });
    if let Err(panic) = ran {
        std::panic::resume_unwind(panic);
    }
}

/// This workspace builds the library without TLS.
#[test]
fn encryption_is_refused_by_a_program_that_is_built_without_it() {
    let ran = simulation::simulate(1, async || {
        let keyspace = Keyspace::try_from("traits".to_owned()).expect("a valid name");
        let options = CassandraOptions {
            tls: Some(Tls::default()),
            ..CassandraOptions::new(vec!["10.0.0.1:9042".to_owned()], keyspace)
        };
        match CassandraStore::connect(&options, Layout::ORIGINAL).await {
            Err(ConnectError::Refused { what, .. }) => {
                assert_eq!(what, "TLS is configured, but this program was built without the feature `tls`");
            }
            other => panic!("{:?}", other.map(drop)),
        }
    });
    if let Err(panic) = ran {
        std::panic::resume_unwind(panic);
    }
}
