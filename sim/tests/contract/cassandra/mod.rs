//! How the simulated Cassandra behaves.

#[path = "../../../../tests/contract/cassandra/backend.rs"]
pub mod backend;
#[path = "../../../../tests/contract/cassandra/cases/mod.rs"]
pub mod cases;
#[path = "../../../../tests/contract/cassandra/client.rs"]
pub mod client;
pub mod simulated;
