//! The store on a real Cassandra.

use std::num::NonZeroU32;

use exactlyonce::store::Layout;

#[path = "../common/cassandra.rs"]
pub(crate) mod services;

use services::Kept;

/// Few offsets in a bucket, so that rows lie in several.
const BUCKETED: Layout = Layout::Bucketed { rows: NonZeroU32::new(4).unwrap() };

pub(crate) async fn kept() -> Kept {
    Kept::new(Layout::Original).await
}

pub(crate) async fn kept_in_buckets() -> Kept {
    Kept::new(BUCKETED).await
}
