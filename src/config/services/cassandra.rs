//! `[cassandra]`: the settings, the check for contradictions, and the conversion to the driver's options.

use std::path::PathBuf;

use serde::Deserialize;

#[cfg(feature = "cassandra")]
use super::path;
use super::{Check, is_given};
#[cfg(feature = "cassandra")]
use crate::config::endpoint::with_port;
use crate::secret::Secret;

/// `[cassandra]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CassandraSettings {
    /// `cassandra.contact_points`
    pub contact_points: Vec<String>,
    /// `cassandra.datacenter`
    pub datacenter: String,
    /// `cassandra.consistency`
    pub consistency: ConsistencyName,
    /// `cassandra.compression`
    pub compression: CompressionName,
    /// `cassandra.tls`
    pub tls: bool,
    /// `cassandra.tls_ca_file`
    pub tls_ca_file: PathBuf,
    /// `cassandra.tls_certificate_file`
    pub tls_certificate_file: PathBuf,
    /// `cassandra.tls_key_file`
    pub tls_key_file: PathBuf,
    /// `cassandra.username`
    pub username: String,
    /// `cassandra.password`
    pub password: Secret,
    /// `cassandra.password_file`
    pub password_file: PathBuf,
    /// `cassandra.connect_timeout_ms`
    pub connect_timeout_ms: u64,
    /// `cassandra.request_timeout_ms`
    pub request_timeout_ms: u64,
    /// `cassandra.request_bytes`
    pub request_bytes: usize,
    /// `cassandra.in_flight_bytes`
    pub in_flight_bytes: usize,
    /// `cassandra.in_flight_requests`
    pub in_flight_requests: usize,
    /// `cassandra.warn_rows`
    pub warn_rows: i64,
}

/// `cassandra.consistency`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsistencyName {
    /// QUORUM.
    Quorum,
    /// LOCAL_QUORUM.
    LocalQuorum,
}

/// `cassandra.compression`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompressionName {
    /// No compression.
    None,
    /// LZ4.
    Lz4,
    /// Snappy.
    Snappy,
}

impl Check<'_> {
    /// Reads the secrets from their files, and checks for contradictions.
    pub(super) fn cassandra(&mut self, cassandra: &mut CassandraSettings) {
        self.secret(&mut cassandra.password, &cassandra.password_file, "cassandra.password");
        let CassandraSettings { tls, tls_ca_file, tls_certificate_file, tls_key_file, .. } = &*cassandra;
        self.tls("cassandra", *tls, tls_ca_file, tls_certificate_file, tls_key_file);
        let password = self.given("cassandra.password");
        match (cassandra.username.is_empty(), is_given(&cassandra.password)) {
            (true, true) => {
                self.contradiction(format!("{password} is set, but cassandra.username is not"), &[password]);
            }
            (false, false) => {
                let what = "cassandra.username is set, but cassandra.password is not";
                self.contradiction(what, &["cassandra.username", "cassandra.password"]);
            }
            _ => {}
        }
        if cassandra.consistency == ConsistencyName::LocalQuorum && cassandra.datacenter.is_empty() {
            let what = "cassandra.consistency is local_quorum, but cassandra.datacenter is not set";
            self.contradiction(what, &["cassandra.consistency", "cassandra.datacenter"]);
        }
        if cassandra.in_flight_bytes < cassandra.request_bytes {
            let what = format!(
                "cassandra.in_flight_bytes is {}, it must be at least cassandra.request_bytes, {}",
                cassandra.in_flight_bytes, cassandra.request_bytes
            );
            self.contradiction(what, &["cassandra.in_flight_bytes", "cassandra.request_bytes"]);
        }
    }
}

/// Cassandra's default port.
#[cfg(feature = "cassandra")]
const PORT: u16 = 9042;

#[cfg(feature = "cassandra")]
impl CassandraSettings {
    /// The driver's options, for this keyspace.
    pub fn options(
        &self,
        keyspace: &crate::store::cql::Keyspace,
    ) -> crate::store::cassandra::CassandraOptions {
        use crate::store::cassandra::{CassandraOptions, Compression, Consistency, Credentials, Tls};
        use std::time::Duration;
        CassandraOptions {
            // The driver does not add a port to an IPv6 address in brackets.
            contact_points: self
                .contact_points
                .iter()
                .map(|point| if point.starts_with('[') { with_port(point, PORT) } else { point.clone() })
                .collect(),
            keyspace: keyspace.clone(),
            datacenter: Some(self.datacenter.clone()).filter(|name| !name.is_empty()),
            consistency: match self.consistency {
                ConsistencyName::Quorum => Consistency::Quorum,
                ConsistencyName::LocalQuorum => Consistency::LocalQuorum,
            },
            compression: match self.compression {
                CompressionName::None => Compression::None,
                CompressionName::Lz4 => Compression::Lz4,
                CompressionName::Snappy => Compression::Snappy,
            },
            tls: self.tls.then(|| Tls {
                ca_file: path(&self.tls_ca_file),
                certificate_file: path(&self.tls_certificate_file),
                key_file: path(&self.tls_key_file),
            }),
            credentials: (!self.username.is_empty())
                .then(|| Credentials { username: self.username.clone(), password: self.password.clone() }),
            connect_timeout: Duration::from_millis(self.connect_timeout_ms),
            request_timeout: Duration::from_millis(self.request_timeout_ms),
            request_bytes: self.request_bytes,
            in_flight_bytes: self.in_flight_bytes,
            in_flight_requests: self.in_flight_requests,
            warn_rows: self.warn_rows,
        }
    }
}
