#![doc = include_str!("../README.md")]
//!
//! # Layers
//!
//! From below; each knows only those above it in this list:
//!
//! - [`types`]: the native types of CQL, as bytes, and their order.
//! - [`schema`]: keyspaces, tables and columns.
//! - [`storage`]: cells, rows and partitions, how they merge, what a node keeps in memory and on its disk.
//! - [`coordinator`]: what a node offers to its CQL clients, and the errors of requests.
//! - [`cluster`]: nodes, replicas and the messages between them; it implements [`coordinator::Coordinator`].
//!
//! Nothing here reads a wall clock, uses randomness of the operating system or depends on the order of a hash
//! map. Time passes on `tokio::time`; clocks, randomness, disks and links are the caller's.

pub mod cluster;
pub mod coordinator;
pub mod cql;
pub mod plan;
pub mod protocol;
pub mod schema;
pub mod serve;
pub mod server;
pub mod storage;
pub mod system;
pub mod types;
