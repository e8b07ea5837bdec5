//! The simulated cluster, used through the scylla driver on loopback sockets.

mod connections;
#[path = "../common/nodes.rs"]
mod nodes;
mod reality;
mod statements;
