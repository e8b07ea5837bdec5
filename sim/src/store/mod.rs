//! The simulated store: one service, its tables durable outside the node.
//!
//! It keeps the contract of [`exactlyonce::store`] and nothing beyond it: rows of one call are applied one by
//! one, in any order, with other requests between them; a call may be applied in part and answered with an
//! error; a request may be applied long after its client gave up. Cells are resolved by the production
//! code's own reference store. Not here: replicas, hints, read repair, clocks.

mod client;
mod question;
mod service;

pub use client::StoreClient;
pub(crate) use service::serve;
