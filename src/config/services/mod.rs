//! Kafka and Cassandra: a module for each service with its settings, the check for contradictions, and the conversion to
//! the driver's options. They are used only with that kind of broker or store. This module has what they share.

mod cassandra;
mod kafka;

pub use cassandra::{CassandraSettings, CompressionName, ConsistencyName};
pub use kafka::{GroupProtocolName, KafkaSettings, Properties, SaslMechanismName};

use std::io::Read;
use std::path::Path;
use std::{fs, io};

use serde::Deserialize;

use crate::config::layers::{Layers, Origin, Problem};
use crate::config::{BrokerKind, Settings, StoreKind};
use crate::secret::Secret;

/// Maximum size of a file with a secret, in bytes.
const SECRET_BYTES: u64 = 64 << 10;

/// `[services]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicesSettings {
    /// `services.start_deadline_ms`
    pub start_deadline_ms: u64,
}

/// Reads the secrets from their files, and returns the contradictions.
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

/// A check of the settings, with the problems found so far.
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
    fn contradiction(&mut self, what: impl Into<String>, keys: &[&str]) {
        self.problems.push(Problem::Contradiction { what: what.into(), origins: self.layers.origins(keys) });
    }

    fn tls(&mut self, section: &str, tls: bool, ca: &Path, certificate: &Path, key: &Path) {
        let name = |rest: &str| format!("{section}.tls{rest}");
        let files =
            [(ca, name("_ca_file")), (certificate, name("_certificate_file")), (key, name("_key_file"))];
        if !tls {
            for (_, file) in files.iter().filter(|(path, _)| is_set(path)) {
                self.contradiction(format!("{file} is set, but {section}.tls is false"), &[file, &name("")]);
            }
        }
        let [_, (certificate, certificate_file), (key, key_file)] = &files;
        let (set, other) = match (is_set(certificate), is_set(key)) {
            (true, false) => (certificate_file, key_file),
            (false, true) => (key_file, certificate_file),
            _ => return,
        };
        self.contradiction(format!("{set} is set, but {other} is not"), &[set, other]);
    }

    /// The name of the key that set a secret: its own, or that of the file.
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
                .contradiction(format!("{key} and {file} are both set: remove one of them"), &[key, &file]);
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
        return Err(invalid("it is larger than 65536 bytes"));
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
fn path(path: &Path) -> Option<std::path::PathBuf> {
    is_set(path).then(|| path.to_owned())
}
