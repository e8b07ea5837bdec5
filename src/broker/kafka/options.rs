//! The options of the connection to Kafka.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::secret::{Secret, is_secret};

/// How the members of a group share the partitions among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupProtocol {
    /// The group's leader assigns partitions; a rebalance revokes only those that move (`cooperative-sticky`).
    #[default]
    Classic,
    /// The broker assigns partitions (KIP-848); requires Kafka 4.0 or later.
    Consumer,
}

/// Encryption and authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// TLS; `None` for an unencrypted connection.
    pub tls: Option<Tls>,
    /// SASL; `None` for no authentication by password.
    pub sasl: Option<Sasl>,
}

/// An encrypted connection. The server's certificate and its name are always checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Trusted CA certificates, in PEM; `None` for those of the system.
    pub ca_file: Option<PathBuf>,
    /// The client certificate and its chain, in PEM.
    pub certificate_file: Option<PathBuf>,
    /// The private key of the client certificate, in PEM.
    pub key_file: Option<PathBuf>,
    /// The password of that key.
    pub key_password: Option<Secret>,
}

/// How the user name and password are sent to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// In plain text: secure only over TLS.
    Plain,
    /// SCRAM with SHA-256.
    ScramSha256,
    /// SCRAM with SHA-512.
    ScramSha512,
}

/// Authentication by user name and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sasl {
    /// The mechanism.
    pub mechanism: SaslMechanism,
    /// The user name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// The options of a connection to Kafka.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaOptions {
    /// Some of the cluster's brokers, `host:port`, separated by commas.
    pub bootstrap_servers: String,
    /// See [`GroupProtocol`].
    pub group_protocol: GroupProtocol,
    /// A member without a heartbeat for this time is considered dead. For [`GroupProtocol::Classic`] only: with
    /// [`GroupProtocol::Consumer`] the broker decides.
    pub session_timeout: Duration,
    /// A member without a poll for this time is considered stuck and loses its partitions.
    pub max_poll_interval: Duration,
    /// Timeout of one request.
    pub request_timeout: Duration,
    /// Interval of metadata refreshes, which detect new partitions.
    pub metadata_interval: Duration,
    /// Maximum bytes in librdkafka's queues, over all partitions.
    pub queued_bytes: usize,
    /// True if durable positions are also committed to the group, for lag dashboards. This program never reads them.
    pub commit_offsets: bool,
    /// See [`Security`].
    pub security: Security,
    /// Other librdkafka properties, by name. Those that would break the protocol are refused.
    pub properties: BTreeMap<String, String>,
}

impl KafkaOptions {
    /// The defaults, for these brokers.
    pub fn new(bootstrap_servers: impl Into<String>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            group_protocol: GroupProtocol::default(),
            session_timeout: Duration::from_secs(45),
            max_poll_interval: Duration::from_secs(300),
            request_timeout: Duration::from_secs(10),
            metadata_interval: Duration::from_secs(30),
            queued_bytes: 4 << 20,
            commit_offsets: true,
            security: Security::default(),
            properties: BTreeMap::new(),
        }
    }
}

impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value): (&String, &String)| {
            let hidden = is_secret(name);
            (name.clone(), if hidden { "***".to_owned() } else { value.clone() })
        };
        f.debug_struct("KafkaOptions")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("group_protocol", &self.group_protocol)
            .field("session_timeout", &self.session_timeout)
            .field("max_poll_interval", &self.max_poll_interval)
            .field("request_timeout", &self.request_timeout)
            .field("metadata_interval", &self.metadata_interval)
            .field("queued_bytes", &self.queued_bytes)
            .field("commit_offsets", &self.commit_offsets)
            .field("security", &self.security)
            .field("properties", &self.properties.iter().map(shown).collect::<BTreeMap<_, _>>())
            .finish()
    }
}

/// Why options are invalid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// There is no bootstrap server.
    #[error("no bootstrap server is set")]
    NoServers,
    /// A property with an option of its own.
    #[error("property {property} is set by the option {option}")]
    HasOption {
        /// The property.
        property: String,
        /// The option.
        option: &'static str,
    },
    /// A property that would break the protocol.
    #[error("property {property} must not be set: {reason}")]
    Refused {
        /// The property.
        property: String,
        /// What would break.
        reason: &'static str,
    },
    /// A number that would cause too long waits, or break the protocol.
    #[error("property {property} must be from {least} to {most}: {reason}")]
    OutOfBounds {
        /// The property.
        property: String,
        /// The least value.
        least: i64,
        /// The greatest value.
        most: i64,
        /// What would go wrong.
        reason: &'static str,
    },
    /// A property or value that librdkafka does not know.
    #[error("librdkafka rejected property {property}: {reason}")]
    Invalid {
        /// The property.
        property: String,
        /// librdkafka's message, unless it contains a secret.
        reason: String,
    },
    /// The program was built without this feature.
    #[error("{0} requires a build with the feature `tls`")]
    WithoutTls(&'static str),
    /// A certificate without its key, or a key without its certificate.
    #[error("a client certificate and its key must be set together, but only {0} is set")]
    HalfCertificate(&'static str),
}
