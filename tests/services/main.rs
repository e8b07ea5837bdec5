//! The program on one Kafka broker and one Cassandra node, which `docker/local/cluster up` starts; without them these
//! tests fail. `cargo test --test services -- --ignored` takes about three minutes.

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
