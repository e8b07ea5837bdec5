//! The store on Cassandra, real and simulated: its schema, bindings, and the rows that it writes and reads. What needs
//! several datacenters or particular faults is tested on simulated nodes only.

/// Makes two tests of each case, which gets options for a keyspace of its own: on real nodes, and on simulated ones.
macro_rules! on_real_and_simulated_nodes {
    ([$($case:ident),* $(,)?]) => {
        mod on_real_nodes {
            $(
                #[tokio::test]
                #[ignore = "needs services: docker/local/cluster up --cassandra 1"]
                async fn $case() {
                    super::$case(crate::cassandra::services::options()).await;
                }
            )*
        }
        mod on_simulated_nodes {
            $(
                #[tokio::test]
                async fn $case() {
                    let nodes = crate::cassandra::simulated::Nodes::start().await;
                    super::$case(nodes.options()).await;
                }
            )*
        }
    };
}
pub(crate) use on_real_and_simulated_nodes;

mod binding;
mod consistency;
mod datacenters;
mod guarantee;
mod reads;
mod refusals;
mod rows;
mod schema;
mod simulated;

use std::num::NonZeroU32;

use exactlyonce::store::Layout;

#[path = "../common/cassandra.rs"]
pub(crate) mod services;

use services::TestKeyspace;

/// Small buckets, so that the rows of a test are in several of them.
pub(crate) const BUCKETED: Layout = Layout::bucketed(NonZeroU32::new(4).unwrap());

pub(crate) async fn test_keyspace() -> TestKeyspace {
    TestKeyspace::new(Layout::ORIGINAL).await
}

pub(crate) async fn bucketed_test_keyspace() -> TestKeyspace {
    TestKeyspace::new(BUCKETED).await
}
