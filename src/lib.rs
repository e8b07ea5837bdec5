//! Writes health events from a log into tables, exactly once, regardless of crashes.
//!
//! The pipeline ([`pipeline`]) is written against two traits, [`broker::Broker`] and [`store::Store`], and takes time,
//! tasks and random numbers from outside, so that the same code runs on production services and in a deterministic
//! simulation. [`truth`] computes independently what the tables must contain. `ARCHITECTURE.md` describes the modules.

mod backoff;
pub mod binding;
pub mod broker;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod config;
pub mod decode;
#[cfg(feature = "cli")]
pub mod demo;
pub mod error;
pub mod event;
pub mod generate;
pub mod guarantee;
mod milliseconds;
pub mod pipeline;
mod random;
pub mod secret;
#[cfg(feature = "embedded")]
pub mod sqlite;
pub mod store;
pub mod truth;
#[cfg(feature = "embedded")]
pub mod verify;
pub mod window;
