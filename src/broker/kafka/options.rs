//! What an operator may set about the connection to Kafka.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::secret::{Secret, is_secret};

/// How the members of a group share the partitions among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupProtocol {
    /// The members' leader assigns, in two rounds that revoke only what moves (`cooperative-sticky`).
    #[default]
    Classic,
    /// The broker assigns (KIP-848); needs Kafka 4.0 or later.
    Consumer,
}

/// Who may read along, and who one is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// Encrypted.
    pub tls: Option<Tls>,
    /// With a name and a password.
    pub sasl: Option<Sasl>,
}

/// An encrypted connection. The server's certificate and its name are always checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of the authorities that are trusted, in PEM; `None` for the system's own.
    pub ca_file: Option<PathBuf>,
    /// The client's own certificate and its chain, in PEM.
    pub certificate_file: Option<PathBuf>,
    /// The key of the client's certificate, in PEM.
    pub key_file: Option<PathBuf>,
    /// The password of that key.
    pub key_password: Option<Secret>,
}

/// How a name and a password are shown to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// As they are: only over TLS worth anything.
    Plain,
    /// SCRAM with SHA-256.
    ScramSha256,
    /// SCRAM with SHA-512.
    ScramSha512,
}

/// A name and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sasl {
    /// How they are shown.
    pub mechanism: SaslMechanism,
    /// The name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// Everything about the connection.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaOptions {
    /// Some of the cluster's brokers, `host:port` with commas between.
    pub bootstrap_servers: String,
    /// See [`GroupProtocol`].
    pub group_protocol: GroupProtocol,
    /// After so long without a heartbeat a member is dead; for [`GroupProtocol::Classic`] only, for with the
    /// other the broker says.
    pub session_timeout: Duration,
    /// After so long without a poll a member is stuck and loses its partitions.
    pub max_poll_interval: Duration,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// How often it is looked whether the topic has got more partitions.
    pub metadata_interval: Duration,
    /// Bytes that may wait in librdkafka's queues, over all partitions.
    pub queued_bytes: usize,
    /// True if durable positions are also committed to the group, for lag dashboards. Nobody reads them.
    pub commit_offsets: bool,
    /// See [`Security`].
    pub security: Security,
    /// Any other properties of librdkafka, by name. Those that would break the protocol are refused.
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
            queued_bytes: 8 << 20,
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

/// Why options cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// There is no broker to ask.
    #[error("no bootstrap server is named")]
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
    /// A number that would make it wait too long, or break the protocol.
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
    /// A property, or a value of it, that librdkafka does not know.
    #[error("property {property} is not taken by librdkafka: {reason}")]
    Invalid {
        /// The property.
        property: String,
        /// librdkafka's message, unless it contains a secret.
        reason: String,
    },
    /// The program was built without it.
    #[error("{0} needs a build with the feature `tls`")]
    WithoutTls(&'static str),
    /// A certificate without its key, or a key without its certificate.
    #[error("a client's certificate and its key come together, but only {0} is set")]
    HalfCertificate(&'static str),
}
