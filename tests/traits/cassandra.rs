//! The store on a real Cassandra, and what only it can do: a schema of its own, rivals for the binding.

mod binding;
mod rows;
mod schema;

use std::num::NonZeroU32;

use exactlyonce::store::Layout;

#[path = "../common/cassandra.rs"]
pub(crate) mod services;

use services::Kept;

/// Few offsets in a bucket, so that rows lie in several.
pub(crate) const BUCKETED: Layout = Layout::bucketed(NonZeroU32::new(4).unwrap());

pub(crate) async fn kept() -> Kept {
    Kept::new(Layout::ORIGINAL).await
}

pub(crate) async fn kept_in_buckets() -> Kept {
    Kept::new(BUCKETED).await
}
