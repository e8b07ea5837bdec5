//! The simulated cluster, used through the scylla driver on loopback sockets.

mod connections;
mod nodes;
mod reality;
mod statements;
