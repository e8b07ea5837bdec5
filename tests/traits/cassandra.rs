//! The store on a real Cassandra: its schema, concurrent bindings, and the rows that it writes.

mod binding;
mod rows;
mod schema;

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
