//! SASL: how clients prove who they are, with PLAIN (RFC 4616) and SCRAM (RFC 5802, RFC 7677).
//!
//! An exchange evaluates the tokens of a client and responds with challenges; the connection sends them. It knows neither
//! the cluster nor the time: the caller has the passwords, the keys and what is random.

mod plain;
mod scram;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

pub(crate) use scram::MIN_ITERATIONS;
pub use scram::{Credential, Hash};

/// A mechanism of SASL that is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mechanism {
    /// The password, as it is.
    Plain,
    /// A proof that the client knows the password.
    Scram(Hash),
}

impl Mechanism {
    /// All of them.
    pub const ALL: [Mechanism; 3] =
        [Mechanism::Plain, Mechanism::Scram(Hash::Sha256), Mechanism::Scram(Hash::Sha512)];

    /// Its name, as in `sasl.enabled.mechanisms`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram(Hash::Sha256) => "SCRAM-SHA-256",
            Self::Scram(Hash::Sha512) => "SCRAM-SHA-512",
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No mechanism that is simulated has this name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0} is not one of PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512")]
pub struct UnknownMechanism(String);

impl FromStr for Mechanism {
    type Err = UnknownMechanism;

    fn from_str(name: &str) -> Result<Self, UnknownMechanism> {
        let mechanism = Self::ALL.into_iter().find(|mechanism| mechanism.name() == name);
        mechanism.ok_or_else(|| UnknownMechanism(name.to_owned()))
    }
}

/// How clients must authenticate at listeners that require it, and the users that there are from the start.
#[derive(Clone, PartialEq, Eq)]
pub struct SaslOptions {
    /// The mechanisms that may be used (`sasl.enabled.mechanisms`). Kafka's default is GSSAPI, which is not simulated;
    /// here it is all.
    pub mechanisms: Vec<Mechanism>,
    /// The users and their passwords. For PLAIN, these are all: Kafka has them in the configuration of the listener. For
    /// SCRAM they are what `kafka-storage format --add-scram` adds, and clients may add others.
    pub users: BTreeMap<String, String>,
    /// How long a client may go on without authenticating again (`connections.max.reauth.ms`); without end if there is
    /// none, as by default.
    pub max_reauth: Option<Duration>,
}

impl Default for SaslOptions {
    fn default() -> Self {
        Self { mechanisms: Mechanism::ALL.to_vec(), users: BTreeMap::new(), max_reauth: None }
    }
}

// Without the passwords.
impl fmt::Debug for SaslOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslOptions")
            .field("mechanisms", &self.mechanisms)
            .field("users", &self.users.keys())
            .field("max_reauth", &self.max_reauth)
            .finish()
    }
}

/// What a broker knows of users.
pub(crate) trait Users {
    /// The password of a user, for PLAIN.
    fn password(&self, name: &str) -> Option<&str>;
    /// What a user is verified with by SCRAM.
    fn credential(&self, hash: Hash, name: &str) -> Option<Credential>;
    /// A random text of printable ASCII characters without a comma.
    fn nonce(&self) -> String;
}

/// Why a client is not who it says it is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    /// The client may know why (`SaslAuthenticationException`).
    #[error("{0}")]
    Shown(String),
    /// The client must not learn whether there is such a user (`SaslException`).
    #[error("{0}")]
    Hidden(&'static str),
}

/// What a client gets for its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) token: Bytes,
    /// The user, if this is the end.
    pub(crate) user: Option<String>,
}

/// One authentication (`SaslServer`).
#[derive(Debug)]
pub(crate) enum Exchange {
    Plain,
    Scram(scram::Exchange),
}

impl Exchange {
    pub(crate) fn new(mechanism: Mechanism) -> Self {
        match mechanism {
            Mechanism::Plain => Self::Plain,
            Mechanism::Scram(hash) => Self::Scram(scram::Exchange::new(hash)),
        }
    }

    pub(crate) fn mechanism(&self) -> Mechanism {
        match self {
            Self::Plain => Mechanism::Plain,
            Self::Scram(exchange) => Mechanism::Scram(exchange.hash()),
        }
    }

    /// Evaluates a token of the client. After a refusal, or when the user is known, the exchange is over.
    pub(crate) fn evaluate(&mut self, token: &[u8], users: &impl Users) -> Result<Challenge, Refusal> {
        match self {
            Self::Plain => {
                let user = plain::verify(token, users)?;
                Ok(Challenge { token: Bytes::new(), user: Some(user) })
            }
            Self::Scram(exchange) => exchange.evaluate(token, users),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mechanisms_are_read_by_the_names_that_they_are_shown_with() {
        for mechanism in Mechanism::ALL {
            assert_eq!(mechanism.to_string().parse(), Ok(mechanism));
        }
        assert_eq!("plain".parse::<Mechanism>(), Err(UnknownMechanism("plain".to_owned())));
    }

    #[test]
    fn passwords_are_not_shown() {
        let users = BTreeMap::from([("anna".to_owned(), "pencil".to_owned())]);
        let shown = format!("{:?}", SaslOptions { users, ..SaslOptions::default() });
        assert!(shown.contains("anna") && !shown.contains("pencil"), "{shown}");
    }
}
