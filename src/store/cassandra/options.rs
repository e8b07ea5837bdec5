//! Options of the connection to Cassandra.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;
use crate::store::cql::Keyspace;

/// How many replicas take part in every read and write of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// More than half of all replicas.
    #[default]
    Quorum,
    /// More than half of the replicas of the configured datacenter. All workers must then use the same one.
    LocalQuorum,
}

/// An encrypted connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of the authorities that are trusted, in PEM; `None` for the system's own.
    pub ca_file: Option<PathBuf>,
    /// The client's own certificate and its chain, in PEM.
    pub certificate_file: Option<PathBuf>,
    /// The key of the client's certificate, in PEM.
    pub key_file: Option<PathBuf>,
}

/// A name and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// How the bytes of requests and responses are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4.
    Lz4,
    /// Snappy.
    Snappy,
}

/// Everything about the connection and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CassandraOptions {
    /// Some of the cluster's nodes, `host:port` or `host` (port 9042).
    pub contact_points: Vec<String>,
    /// The keyspace of the tables.
    pub keyspace: Keyspace,
    /// The datacenter whose nodes are used; must be set for [`Consistency::LocalQuorum`].
    pub datacenter: Option<String>,
    /// See [`Consistency`].
    pub consistency: Consistency,
    /// See [`Compression`].
    pub compression: Compression,
    /// See [`Tls`]; `None` for a plain connection.
    pub tls: Option<Tls>,
    /// See [`Credentials`].
    pub credentials: Option<Credentials>,
    /// How long connecting to one node may take.
    pub connect_timeout: Duration,
    /// How long the client waits for a response; the request may still be carried out later.
    pub request_timeout: Duration,
    /// Bytes of rows in one request, at which a batch of one partition's rows is closed.
    pub request_bytes: usize,
    /// Bytes of rows that may be in flight, over all requests.
    pub in_flight_bytes: usize,
    /// Requests that may be in flight.
    pub in_flight_requests: usize,
    /// With [`crate::store::Layout::ORIGINAL`]: a warning is logged when a partition exceeds this many rows.
    pub warn_rows: i64,
}

impl CassandraOptions {
    /// The defaults, for these nodes and this keyspace.
    pub fn new(contact_points: Vec<String>, keyspace: Keyspace) -> Self {
        Self {
            contact_points,
            keyspace,
            datacenter: None,
            consistency: Consistency::default(),
            compression: Compression::default(),
            tls: None,
            credentials: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(12),
            request_bytes: 64 << 10,
            in_flight_bytes: 3 << 19,
            in_flight_requests: 64,
            warn_rows: 1_000_000,
        }
    }
}
