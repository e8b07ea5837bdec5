//! What goes wrong between a worker and a real Cassandra: a proxy that knows the protocol loses, delays, cuts
//! and forges. Whatever it does, the tables equal the truth in the end; and the driver itself retries nothing.

#[path = "../common/cluster.rs"]
mod cluster;
mod faults;
mod harness;
mod retries;
#[path = "../common/cassandra.rs"]
mod services;
