//! The simulated store: one service, its tables durable outside the node.
//!
//! It guarantees what [`exactlyonce::store`] requires and no more: rows of one call are applied one by one, in any order,
//! with other requests between them; a call may be applied in part and return an error; a request may be applied long
//! after its client timed out. Cells are reconciled by the production code's own in-memory store. Not simulated:
//! replicas, hints, read repair, clocks.

mod client;
mod request;
mod service;

pub use client::StoreClient;
pub(crate) use service::serve;
