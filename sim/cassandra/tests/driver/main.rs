//! The simulated cluster, used through the scylla driver on loopback sockets.

mod connections;
mod errors;
mod frames;
#[path = "../common/nodes.rs"]
mod nodes;
#[path = "../common/raw.rs"]
mod raw;
mod refusals;
mod responses;
mod statements;
