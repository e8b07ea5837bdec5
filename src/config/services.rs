//! Kafka and Cassandra: their settings, contradictions among them, and the options that the drivers take. All of it
//! is used only with that kind of broker or store.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Deserialize;

#[cfg(feature = "cassandra")]
use crate::config::endpoint::with_port;
use crate::config::layers::{Layers, Origin, Problem};
use crate::config::{BrokerKind, Settings, StoreKind};
use crate::secret::Secret;

/// The largest file that may hold a secret, in bytes.
const SECRET_BYTES: u64 = 64 << 10;

/// `[services]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicesSettings {
    /// `services.start_deadline_ms`
    pub start_deadline_ms: u64,
}

/// `[kafka]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    /// `kafka.bootstrap_servers`
    pub bootstrap_servers: String,
    /// `kafka.group_protocol`
    pub group_protocol: GroupProtocolName,
    /// `kafka.session_timeout_ms`
    pub session_timeout_ms: u64,
    /// `kafka.max_poll_interval_ms`
    pub max_poll_interval_ms: u64,
    /// `kafka.request_timeout_ms`
    pub request_timeout_ms: u64,
    /// `kafka.metadata_interval_ms`
    pub metadata_interval_ms: u64,
    /// `kafka.queued_bytes`
    pub queued_bytes: usize,
    /// `kafka.commit_offsets`
    pub commit_offsets: bool,
    /// `kafka.tls`
    pub tls: bool,
    /// `kafka.tls_ca_file`
    pub tls_ca_file: PathBuf,
    /// `kafka.tls_certificate_file`
    pub tls_certificate_file: PathBuf,
    /// `kafka.tls_key_file`
    pub tls_key_file: PathBuf,
    /// `kafka.tls_key_password`
    pub tls_key_password: Secret,
    /// `kafka.tls_key_password_file`
    pub tls_key_password_file: PathBuf,
    /// `kafka.sasl_mechanism`
    pub sasl_mechanism: SaslMechanismName,
    /// `kafka.sasl_username`
    pub sasl_username: String,
    /// `kafka.sasl_password`
    pub sasl_password: Secret,
    /// `kafka.sasl_password_file`
    pub sasl_password_file: PathBuf,
    /// `kafka.properties`, whose values may be secret.
    pub properties: Properties,
}

/// Properties of librdkafka by name. `{:?}` shows the names only.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Properties(pub std::collections::BTreeMap<String, String>);

impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// `kafka.group_protocol`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupProtocolName {
    /// The members' leader assigns.
    Classic,
    /// The broker assigns.
    Consumer,
}

/// `kafka.sasl_mechanism`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum SaslMechanismName {
    /// No name, no password.
    #[serde(rename = "none")]
    None,
    /// The password as it is.
    #[serde(rename = "plain")]
    Plain,
    /// SCRAM with SHA-256.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// SCRAM with SHA-512.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

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
    /// Of all replicas.
    Quorum,
    /// Of the datacenter's.
    LocalQuorum,
}

/// `cassandra.compression`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompressionName {
    /// Not at all.
    None,
    /// LZ4.
    Lz4,
    /// Snappy.
    Snappy,
}

/// Reads the secrets from their files, and returns what contradicts each other.
pub(super) fn complete(settings: &mut Settings, layers: &Layers) -> Vec<Problem> {
    let mut check = Check { layers, problems: Vec::new() };
    if settings.broker.kind == BrokerKind::Kafka {
        check.kafka(&mut settings.kafka);
    }
    if settings.store.kind == StoreKind::Cassandra {
        check.cassandra(&mut settings.cassandra);
    }
    check.problems
}

struct Check<'a> {
    layers: &'a Layers,
    problems: Vec<Problem>,
}

fn is_set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

fn is_given(secret: &Secret) -> bool {
    !secret.expose().is_empty()
}

impl Check<'_> {
    fn together(&mut self, what: impl Into<String>, keys: &[&str]) {
        self.problems.push(Problem::Together { what: what.into(), origins: self.layers.origins(keys) });
    }

    fn kafka(&mut self, kafka: &mut KafkaSettings) {
        let before = self.problems.len();
        self.secret(&mut kafka.tls_key_password, &kafka.tls_key_password_file, "kafka.tls_key_password");
        self.secret(&mut kafka.sasl_password, &kafka.sasl_password_file, "kafka.sasl_password");
        self.tls("kafka", kafka.tls, &kafka.tls_ca_file, &kafka.tls_certificate_file, &kafka.tls_key_file);
        if is_given(&kafka.tls_key_password) && !is_set(&kafka.tls_key_file) {
            let key = self.given("kafka.tls_key_password");
            self.together(format!("{key} is set, but kafka.tls_key_file is not"), &[key]);
        }
        let (named, with_password) = (!kafka.sasl_username.is_empty(), is_given(&kafka.sasl_password));
        let password = self.given("kafka.sasl_password");
        if kafka.sasl_mechanism == SaslMechanismName::None {
            for (_, key) in
                [(named, "kafka.sasl_username"), (with_password, password)].iter().filter(|set| set.0)
            {
                let what = format!("{key} is set, but kafka.sasl_mechanism is none");
                self.together(what, &[key, "kafka.sasl_mechanism"]);
            }
        } else {
            for (_, key) in
                [(named, "kafka.sasl_username"), (with_password, password)].iter().filter(|set| !set.0)
            {
                let what = format!("kafka.sasl_mechanism needs {key}, which is not set");
                self.together(what, &[key, "kafka.sasl_mechanism"]);
            }
        }
        match kafka.group_protocol {
            GroupProtocolName::Classic if kafka.max_poll_interval_ms < kafka.session_timeout_ms => {
                let what = format!(
                    "kafka.max_poll_interval_ms is {}, it must be at least kafka.session_timeout_ms, {}",
                    kafka.max_poll_interval_ms, kafka.session_timeout_ms
                );
                self.together(what, &["kafka.max_poll_interval_ms", "kafka.session_timeout_ms"]);
            }
            GroupProtocolName::Consumer if !self.layers.is_default("kafka.session_timeout_ms") => {
                let what = "kafka.session_timeout_ms is set, but with kafka.group_protocol = consumer the broker decides";
                self.together(what, &["kafka.session_timeout_ms", "kafka.group_protocol"]);
            }
            _ => {}
        }
        // The driver's own check, unless it would repeat a problem above.
        #[cfg(feature = "kafka")]
        if self.problems.len() == before
            && let Err(error) = kafka.options().check()
        {
            self.together(error.to_string(), &["kafka.properties"]);
        }
        #[cfg(not(feature = "kafka"))]
        let _ = before;
    }

    fn cassandra(&mut self, cassandra: &mut CassandraSettings) {
        self.secret(&mut cassandra.password, &cassandra.password_file, "cassandra.password");
        let CassandraSettings { tls, tls_ca_file, tls_certificate_file, tls_key_file, .. } = &*cassandra;
        self.tls("cassandra", *tls, tls_ca_file, tls_certificate_file, tls_key_file);
        let password = self.given("cassandra.password");
        match (cassandra.username.is_empty(), is_given(&cassandra.password)) {
            (true, true) => {
                self.together(format!("{password} is set, but cassandra.username is not"), &[password]);
            }
            (false, false) => {
                let what = "cassandra.username is set, but cassandra.password is not";
                self.together(what, &["cassandra.username", "cassandra.password"]);
            }
            _ => {}
        }
        if cassandra.consistency == ConsistencyName::LocalQuorum && cassandra.datacenter.is_empty() {
            let what = "cassandra.consistency is local_quorum, but cassandra.datacenter is not set";
            self.together(what, &["cassandra.consistency", "cassandra.datacenter"]);
        }
        if cassandra.in_flight_bytes < cassandra.request_bytes {
            let what = format!(
                "cassandra.in_flight_bytes is {}, it must be at least cassandra.request_bytes, {}",
                cassandra.in_flight_bytes, cassandra.request_bytes
            );
            self.together(what, &["cassandra.in_flight_bytes", "cassandra.request_bytes"]);
        }
    }

    fn tls(&mut self, section: &str, tls: bool, ca: &Path, certificate: &Path, key: &Path) {
        let name = |rest: &str| format!("{section}.tls{rest}");
        let files =
            [(ca, name("_ca_file")), (certificate, name("_certificate_file")), (key, name("_key_file"))];
        if !tls {
            for (_, file) in files.iter().filter(|(path, _)| is_set(path)) {
                self.together(format!("{file} is set, but {section}.tls is false"), &[file, &name("")]);
            }
        }
        let [_, (certificate, certificate_file), (key, key_file)] = &files;
        let (set, other) = match (is_set(certificate), is_set(key)) {
            (true, false) => (certificate_file, key_file),
            (false, true) => (key_file, certificate_file),
            _ => return,
        };
        self.together(format!("{set} is set, but {other} is not"), &[set, other]);
    }

    /// The name of the key that gave a secret: its own, or that of the file.
    fn given(&self, key: &'static str) -> &'static str {
        let file = match key {
            "kafka.tls_key_password" => "kafka.tls_key_password_file",
            "kafka.sasl_password" => "kafka.sasl_password_file",
            _ => "cassandra.password_file",
        };
        if self.layers.is_default(key) && !self.layers.is_default(file) { file } else { key }
    }

    /// Reads a secret from its file, if one is named.
    fn secret(&mut self, secret: &mut Secret, path: &Path, key: &str) {
        if !is_set(path) {
            return;
        }
        let file = format!("{key}_file");
        if is_given(secret) {
            return self
                .together(format!("{key} and {file} are both set: remove one of them"), &[key, &file]);
        }
        match read_secret(path) {
            Ok(text) => *secret = Secret::new(text),
            Err(source) => {
                let origin = self.layers.origin(&file).cloned().unwrap_or(Origin::Default);
                self.problems.push(Problem::Secret { key: file, path: path.to_owned(), origin, source });
            }
        }
    }
}

/// The text of a file, without one newline at its end.
fn read_secret(path: &Path) -> io::Result<String> {
    let invalid = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(SECRET_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SECRET_BYTES {
        return Err(invalid("it has more than 65536 bytes"));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8"))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() { Err(invalid("it is empty")) } else { Ok(text) }
}

/// A path, if there is one.
#[cfg(any(feature = "kafka", feature = "cassandra"))]
fn path(path: &Path) -> Option<PathBuf> {
    is_set(path).then(|| path.to_owned())
}

#[cfg(feature = "kafka")]
impl KafkaSettings {
    /// The driver's options.
    pub fn options(&self) -> crate::broker::kafka::KafkaOptions {
        use crate::broker::kafka::{GroupProtocol, KafkaOptions, Sasl, SaslMechanism, Security, Tls};
        use std::time::Duration;
        let mechanism = match self.sasl_mechanism {
            SaslMechanismName::None => None,
            SaslMechanismName::Plain => Some(SaslMechanism::Plain),
            SaslMechanismName::ScramSha256 => Some(SaslMechanism::ScramSha256),
            SaslMechanismName::ScramSha512 => Some(SaslMechanism::ScramSha512),
        };
        KafkaOptions {
            bootstrap_servers: self.bootstrap_servers.replace(' ', ""),
            group_protocol: match self.group_protocol {
                GroupProtocolName::Classic => GroupProtocol::Classic,
                GroupProtocolName::Consumer => GroupProtocol::Consumer,
            },
            session_timeout: Duration::from_millis(self.session_timeout_ms),
            max_poll_interval: Duration::from_millis(self.max_poll_interval_ms),
            request_timeout: Duration::from_millis(self.request_timeout_ms),
            metadata_interval: Duration::from_millis(self.metadata_interval_ms),
            queued_bytes: self.queued_bytes,
            commit_offsets: self.commit_offsets,
            security: Security {
                tls: self.tls.then(|| Tls {
                    ca_file: path(&self.tls_ca_file),
                    certificate_file: path(&self.tls_certificate_file),
                    key_file: path(&self.tls_key_file),
                    key_password: is_given(&self.tls_key_password).then(|| self.tls_key_password.clone()),
                }),
                sasl: mechanism.map(|mechanism| Sasl {
                    mechanism,
                    username: self.sasl_username.clone(),
                    password: self.sasl_password.clone(),
                }),
            },
            properties: self.properties.0.clone(),
        }
    }
}

/// Cassandra's port where none is set.
#[cfg(feature = "cassandra")]
const PORT: u16 = 9042;

#[cfg(feature = "cassandra")]
impl CassandraSettings {
    /// The driver's options, for this keyspace.
    pub fn options(&self, keyspace: &crate::schema::Keyspace) -> crate::store::cassandra::CassandraOptions {
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
