//! How the simulated Cassandra behaves.

#[path = "../../../../tests/contract/cassandra/cases/mod.rs"]
pub mod cases;
#[path = "../../../../tests/contract/cassandra/client.rs"]
pub mod client;
pub mod simulated;
#[path = "../../../../tests/contract/cassandra/world.rs"]
pub mod world;
