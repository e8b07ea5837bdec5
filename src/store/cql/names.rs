//! The parameters of the schema: the name of the keyspace and its replication.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Cassandra's limit for the name of a keyspace, in characters.
pub const KEYSPACE_LENGTH: usize = 48;

/// The allowed number of replicas, per datacenter.
pub const REPLICAS: RangeInclusive<i64> = 1..=99;

/// The rule for the name of a keyspace.
pub const KEYSPACE_RULE: &str = "1 to 48 characters a-z, 0-9 and _, starting with a letter, and neither a reserved \
                                 word of CQL nor a system keyspace";

/// The rule for a replication.
pub const REPLICATION_RULE: &str = "1 to 99 replicas, or that many for each named datacenter, for example 3 or \
                                    {paris = 3, oslo = 3}; the names have 1 to 64 characters A-Z, a-z, 0-9, _, - and dot";

/// Keywords that CQL does not accept as a name without quotes, in any version from 3.11 on (Cassandra's
/// `reserved_keywords.txt`).
const RESERVED: &str = "add allow alter and apply asc authorize batch begin by check columnfamily constraint create \
                        default delete desc describe drop entries execute from full grant if in index infinity \
                        insert into is keyspace length limit materialized mbean mbeans modify nan norecursive not \
                        null of on or order primary rename replace revoke schema select set table to token truncate \
                        unlogged unset update use using view where with";

/// Cassandra's system keyspaces.
const SYSTEM: &str =
    "system system_auth system_distributed system_schema system_traces system_views system_virtual_schema";

/// An invalid name or number in the schema.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchemaError {
    /// Not a name that Cassandra accepts without quotes.
    #[error("{0:?} is not a valid name of a keyspace: it must be {KEYSPACE_RULE}")]
    Keyspace(String),
    /// Not a replication.
    #[error("the replication must be {REPLICATION_RULE}")]
    Replication,
}

/// The name of a keyspace that CQL accepts without quotes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Keyspace(String);

impl Keyspace {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Keyspace {
    type Error = SchemaError;

    fn try_from(name: String) -> Result<Self, SchemaError> {
        let characters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let begins = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        let taken = RESERVED.split(' ').chain(SYSTEM.split(' ')).any(|word| word == name);
        match characters && begins && !taken && name.len() <= KEYSPACE_LENGTH {
            true => Ok(Self(name)),
            false => Err(SchemaError::Keyspace(name)),
        }
    }
}

impl From<Keyspace> for String {
    fn from(keyspace: Keyspace) -> String {
        keyspace.0
    }
}

impl fmt::Display for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The replication of a keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Replicas")]
pub struct Replication(Replicas);

/// As written in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Replicas {
    /// Anywhere.
    Anywhere(i64),
    /// In each datacenter.
    Datacenters(BTreeMap<String, i64>),
}

impl Replication {
    /// This many replicas, in any datacenter (`SimpleStrategy`).
    ///
    /// # Errors
    /// [`SchemaError::Replication`] if the number is not in [`REPLICAS`].
    pub fn anywhere(replicas: i64) -> Result<Self, SchemaError> {
        Replicas::Anywhere(replicas).try_into()
    }

    /// These numbers of replicas in each datacenter (`NetworkTopologyStrategy`).
    ///
    /// # Errors
    /// [`SchemaError::Replication`] if there is no datacenter, a name is invalid, or a number is not in [`REPLICAS`].
    pub fn datacenters(replicas: BTreeMap<String, i64>) -> Result<Self, SchemaError> {
        Replicas::Datacenters(replicas).try_into()
    }
}

impl TryFrom<Replicas> for Replication {
    type Error = SchemaError;

    fn try_from(replicas: Replicas) -> Result<Self, SchemaError> {
        let name = |name: &String| {
            let valid = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
            (1..=64).contains(&name.len()) && name.bytes().all(valid)
        };
        let valid = match &replicas {
            Replicas::Anywhere(replicas) => REPLICAS.contains(replicas),
            Replicas::Datacenters(all) => {
                !all.is_empty() && all.iter().all(|(key, value)| name(key) && REPLICAS.contains(value))
            }
        };
        if valid { Ok(Self(replicas)) } else { Err(SchemaError::Replication) }
    }
}

impl fmt::Display for Replication {
    /// As a CQL map.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Replicas::Anywhere(replicas) => {
                write!(f, "{{'class': 'SimpleStrategy', 'replication_factor': {replicas}}}")
            }
            Replicas::Datacenters(all) => {
                f.write_str("{'class': 'NetworkTopologyStrategy'")?;
                for (name, replicas) in all {
                    write!(f, ", '{name}': {replicas}")?;
                }
                f.write_str("}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyspace(name: &str) -> Result<Keyspace, SchemaError> {
        Keyspace::try_from(name.to_owned())
    }

    #[test]
    fn a_keyspace_has_a_name_that_needs_no_quotes() {
        for good in ["a", "exactlyonce", "a_1", &"k".repeat(KEYSPACE_LENGTH)] {
            assert_eq!(keyspace(good).map(String::from), Ok(good.to_owned()));
        }
        let long = "k".repeat(KEYSPACE_LENGTH + 1);
        for bad in ["", "1a", "_a", "A", "a-b", "a b", "a;b", "ä", "a\n", "select", "system_auth", &long] {
            assert_eq!(keyspace(bad), Err(SchemaError::Keyspace(bad.to_owned())));
        }
    }

    #[test]
    fn a_replication_has_numbers_and_plain_names() {
        for bad in [0, -1, 100] {
            assert_eq!(Replication::anywhere(bad), Err(SchemaError::Replication));
        }
        assert_eq!(Replication::datacenters(BTreeMap::new()), Err(SchemaError::Replication));
        for (name, replicas) in [("", 1), ("a'", 1), ("a b", 1), ("a", 0), ("a", 100), (&"a".repeat(65), 1)] {
            let map = BTreeMap::from([(name.to_owned(), replicas)]);
            assert_eq!(Replication::datacenters(map), Err(SchemaError::Replication), "{name} {replicas}");
        }
    }
}
