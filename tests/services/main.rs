//! The program on a real Kafka and a real Cassandra, one of each. They run as `docker/local/cluster up` starts
//! them; without them these tests fail. `cargo test --test services -- --ignored` takes about three minutes.

#[path = "../common/cluster.rs"]
mod cluster;
mod damage;
#[path = "../common/damaged_rows.rs"]
mod damaged_rows;
mod harness;
mod outages;
mod pipeline;
#[path = "../common/program.rs"]
mod program;
mod refusals;
