//! Secrets: a type that is not shown, and the names of settings that hold one.

use std::fmt;

use serde::Deserialize;

/// A password, which is never shown in logs, errors or `{:?}`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Parts of the names of secrets, among the settings of this program and the properties of librdkafka.
const PARTS: [&str; 9] =
    ["password", "passwd", "passphrase", "secret", "credential", "token", "jaas", "pem", "privatekey"];

/// Last (or only) parts of a name that make it the name of a secret: `ssl_key`, `api.key`.
const LAST_PARTS: [&str; 5] = ["key", "keys", "apikey", "pass", "pwd"];

/// Last parts of a name that make it the location of a secret, not the secret: `password_file`.
const LOCATIONS: [&str; 3] = ["file", "location", "path"];

/// True if a setting of this name must neither be shown nor be given on a command line: passwords, keys, tokens,
/// credentials. Case does not matter. In doubt, a name is treated as that of a secret.
///
/// The only list of this kind: `config show`, messages and flags use it.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let last = name.rsplit(['.', '_', '-']).next().unwrap_or_default();
    if name.contains("oauthbearer") {
        return true;
    }
    !LOCATIONS.contains(&last) && (LAST_PARTS.contains(&last) || PARTS.iter().any(|part| name.contains(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Some(Secret::new("hunter2"))), "Some(***)");
    }

    #[test]
    fn names_of_secrets_are_recognized_in_upper_and_lower_case() {
        for name in [
            "password",
            "kafka.sasl_password",
            "sasl.password",
            "SSL.Key.Password",
            "ssl.keystore.password",
            "ssl.key.pem",
            "ssl_key",
            "sasl.jaas.config",
            "sasl.oauthbearer.config",
            "sasl.oauthbearer.client.secret",
            "Sasl.OAuthBearer.Assertion.Private.Key.File",
            "sasl.oauthbearer.assertion.private.key.passphrase",
            "schema.registry.basic.auth.credentials.source",
            "api.key",
            "x-auth-token",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "topic",
            "group.id",
            "client.id",
            "kafka.sasl_username",
            "kafka.sasl_password_file",
            "kafka.tls_key_file",
            "ssl.key.location",
            "ssl.keystore.location",
            "sasl.mechanism",
            "fetch.min.bytes",
            "sticky.partitioning.linger.ms",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
