//! The tables in Apache Cassandra or ScyllaDB.

mod options;

pub use options::{CassandraOptions, Compression, Consistency, Credentials, Tls};
