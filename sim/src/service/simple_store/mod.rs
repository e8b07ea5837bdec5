//! The simulated store: one service, its tables durable outside the node.
//!
//! It guarantees what [`exactlyonce::store`] requires and no more: rows of one call are applied one by one, in any order,
//! with other requests between them; a call may be applied in part and return an error; a request may be applied long
//! after its client timed out. Cells are reconciled by the production code's own in-memory store. Not simulated:
//! replicas, hints, read repair, clocks.

use super::declaration::Declaration;
use crate::observed::Sometimes;
use crate::scenario::fault::KindName;

mod client;
mod request;
mod service;

pub use client::StoreClient;
pub(crate) use service::serve;

/// What can happen to the store, besides what can happen to requests to any simple service.
pub(crate) const DECLARATION: Declaration = Declaration {
    faults: &[KindName::CallsTorn],
    damage: &[],
    steps: &[],
    situations: &[
        Sometimes::LateWrite,
        Sometimes::CallAppliedInPart,
        // Cassandra's scenarios have too few records for it.
        Sometimes::WindowCountedInSeveralPartitions,
    ],
};
