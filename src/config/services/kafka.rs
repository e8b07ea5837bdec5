//! `[kafka]`: the settings, the check for contradictions, and the conversion to the driver's options.

use std::path::PathBuf;

use serde::Deserialize;

#[cfg(feature = "kafka")]
use super::path;
use super::{Check, is_given, is_set};
#[cfg(feature = "kafka")]
use crate::broker::kafka::OptionsError;
use crate::secret::Secret;

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
    /// The group's leader assigns partitions.
    Classic,
    /// The broker assigns partitions (KIP-848).
    Consumer,
}

/// `kafka.sasl_mechanism`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum SaslMechanismName {
    /// No authentication.
    #[serde(rename = "none")]
    None,
    /// The password in clear text.
    #[serde(rename = "plain")]
    Plain,
    /// SCRAM with SHA-256.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// SCRAM with SHA-512.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

impl Check<'_> {
    /// Reads the secrets from their files, and checks for contradictions.
    pub(super) fn kafka(&mut self, kafka: &mut KafkaSettings) {
        let before = self.problems.len();
        self.secret(&mut kafka.tls_key_password, &kafka.tls_key_password_file, "kafka.tls_key_password");
        self.secret(&mut kafka.sasl_password, &kafka.sasl_password_file, "kafka.sasl_password");
        self.tls("kafka", kafka.tls, &kafka.tls_ca_file, &kafka.tls_certificate_file, &kafka.tls_key_file);
        if is_given(&kafka.tls_key_password) && !is_set(&kafka.tls_key_file) {
            let key = self.given("kafka.tls_key_password");
            self.contradiction(format!("{key} is set, but kafka.tls_key_file is not"), &[key]);
        }
        let (named, with_password) = (!kafka.sasl_username.is_empty(), is_given(&kafka.sasl_password));
        let password = self.given("kafka.sasl_password");
        if kafka.sasl_mechanism == SaslMechanismName::None {
            for (_, key) in
                [(named, "kafka.sasl_username"), (with_password, password)].iter().filter(|set| set.0)
            {
                let what = format!("{key} is set, but kafka.sasl_mechanism is none");
                self.contradiction(what, &[key, "kafka.sasl_mechanism"]);
            }
        } else {
            for (_, key) in
                [(named, "kafka.sasl_username"), (with_password, password)].iter().filter(|set| !set.0)
            {
                let what = format!("kafka.sasl_mechanism requires {key}, which is not set");
                self.contradiction(what, &[key, "kafka.sasl_mechanism"]);
            }
        }
        match kafka.group_protocol {
            GroupProtocolName::Classic if kafka.max_poll_interval_ms < kafka.session_timeout_ms => {
                let what = format!(
                    "kafka.max_poll_interval_ms is {}, it must be at least kafka.session_timeout_ms, {}",
                    kafka.max_poll_interval_ms, kafka.session_timeout_ms
                );
                self.contradiction(what, &["kafka.max_poll_interval_ms", "kafka.session_timeout_ms"]);
            }
            GroupProtocolName::Consumer if !self.layers.is_default("kafka.session_timeout_ms") => {
                let what = "kafka.session_timeout_ms is set, but with kafka.group_protocol = consumer the broker sets the timeout";
                self.contradiction(what, &["kafka.session_timeout_ms", "kafka.group_protocol"]);
            }
            _ => {}
        }
        // The driver's own check, if there is no problem yet: it would report the same problems again.
        #[cfg(feature = "kafka")]
        if self.problems.len() == before
            && let Err(error) = kafka.options().check()
        {
            let key = match error {
                OptionsError::WithoutTls("TLS") => "kafka.tls",
                OptionsError::WithoutTls(_) => "kafka.sasl_mechanism",
                _ => "kafka.properties",
            };
            self.contradiction(error.to_string(), &[key]);
        }
        #[cfg(not(feature = "kafka"))]
        let _ = before;
    }
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
