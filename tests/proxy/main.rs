//! Faults between a worker and a real Cassandra: a proxy that understands the protocol drops and delays frames, closes
//! connections and forges responses. The tables equal the ground truth in the end, and the driver itself retries nothing.

#[path = "../common/cluster.rs"]
mod cluster;
mod faults;
mod harness;
mod retries;
#[path = "../common/cassandra.rs"]
mod services;
