//! Texts that nobody gets to see.

use std::fmt;

use serde::Deserialize;

/// A password: shown neither in logs nor in errors nor in `{:?}`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Parts of names whose values are secret.
const SECRET_NAMES: [&str; 8] =
    ["password", "passphrase", "secret", "pem", "token", "credential", "jaas", "oauthbearer.config"];

/// True if what has this name, a setting or a driver's property, must not be shown: passwords, keys, credentials.
/// Upper and lower case are the same.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
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
        for name in
            ["sasl.password", "SSL.Key.PEM", "assertion.private.key.passphrase", "client.Credentials.id"]
        {
            assert!(is_secret(name), "{name}");
        }
        for name in ["group.id", "client.id", "ssl.ca.location"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
