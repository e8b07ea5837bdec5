//! Options of the connection to Cassandra.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;
use crate::store::cql::Keyspace;

/// The consistency of every read and write of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// A quorum of all replicas.
    #[default]
    Quorum,
    /// A quorum of the replicas in the configured datacenter. All workers must then use the same one.
    LocalQuorum,
}

/// Encryption.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Trusted CA certificates, in PEM; `None` for those of the system.
    pub ca_file: Option<PathBuf>,
    /// The client certificate and its chain, in PEM.
    pub certificate_file: Option<PathBuf>,
    /// The private key of the client certificate, in PEM.
    pub key_file: Option<PathBuf>,
}

/// User name and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// Compression of requests and responses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// No compression.
    #[default]
    None,
    /// LZ4.
    Lz4,
    /// Snappy.
    Snappy,
}

/// The options of the connection.
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
    /// See [`Tls`]; `None` for an unencrypted connection.
    pub tls: Option<Tls>,
    /// See [`Credentials`].
    pub credentials: Option<Credentials>,
    /// Timeout of connecting to one node.
    pub connect_timeout: Duration,
    /// Timeout of a response; the request may still be applied later.
    pub request_timeout: Duration,
    /// Bytes of rows at which a request is closed, which is a batch of rows of one partition.
    pub request_bytes: usize,
    /// Maximum bytes of rows in flight, over all requests.
    pub in_flight_bytes: usize,
    /// Maximum requests in flight.
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
