//! The schema in CQL: `schema/exactlyonce.cql`, with the keyspace and the replication of the configuration.
//!
//! The file is valid CQL as it stands, for the original's keyspace and one replica. What is put into it
//! comes from types that can hold nothing but a valid name or number, so it cannot say anything else.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::store::{EventLayout, Layout};

const TEMPLATE: &str = include_str!("../schema/exactlyonce.cql");
/// What stands before the dot of every table's name in the file, and is the keyspace's.
const NAMED: &str = "IF NOT EXISTS exactlyonce";
/// The keyspace's replication in the file.
const REPLICATION: &str = "{'class': 'SimpleStrategy', 'replication_factor': 1}";

/// What the file says about `events`, and their key, which are other ones in [`EventLayout::Bucketed`].
const EVENTS_COMMENT: &str =
    "-- One row per record that holds an event, as in the original of 2016. Written at offset + 1.\n";
const EVENTS_KEY: &str =
    "    health int,       -- 0 nominal, 1 warning, 2 critical\n    PRIMARY KEY (partition, offset)\n";
const BUCKETED_KEY: &str = "    health int,       -- 0 nominal, 1 warning, 2 critical\n    bucket bigint,    -- offset / rows of a bucket\n    PRIMARY KEY ((partition, bucket), offset)\n";

fn bucketed_comment(rows: NonZeroU32) -> String {
    format!(
        "-- One row per record that holds an event, in buckets of {rows} offsets, so that no partition grows without\n\
         -- bound. Written at offset + 1.\n"
    )
}

/// Cassandra's limit for the name of a keyspace, in characters.
pub const KEYSPACE_LENGTH: usize = 48;

/// Copies of each row that can be asked for, per datacenter.
pub const REPLICAS: RangeInclusive<i64> = 1..=99;

/// What a keyspace may be called.
pub const KEYSPACE_RULE: &str = "1 to 48 characters a-z, 0-9 and _, beginning with a letter, and neither a reserved \
                                 word of CQL nor a keyspace of Cassandra's own";

/// What a replication may be.
pub const REPLICATION_RULE: &str = "1 to 99 replicas, or as many for each named datacenter, for example 3 or \
                                    {paris = 3, oslo = 3}; the names have 1 to 64 characters A-Z, a-z, 0-9, _, - and dot";

/// Words that CQL does not take as a name without quotes, in any version from 3.11 on (Cassandra's
/// `reserved_keywords.txt`).
const RESERVED: &str = "add allow alter and apply asc authorize batch begin by check columnfamily constraint create \
                        default delete desc describe drop entries execute from full grant if in index infinity \
                        insert into is keyspace length limit materialized mbean mbeans modify nan norecursive not \
                        null of on or order primary rename replace revoke schema select set table to token truncate \
                        unlogged unset update use using view where with";

/// Keyspaces that Cassandra keeps for itself.
const SYSTEM: &str =
    "system system_auth system_distributed system_schema system_traces system_views system_virtual_schema";

/// What is wrong with a name or a number that should go into the schema.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SchemaError {
    /// Not a name that Cassandra takes without quotes.
    #[error("{0:?} is no name of a keyspace: it must be {KEYSPACE_RULE}")]
    Keyspace(String),
    /// Not a replication.
    #[error("the replication must be {REPLICATION_RULE}")]
    Replication,
}

/// The name of a keyspace, which CQL takes without quotes.
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

/// How many copies of each row a keyspace has, and where.
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
    /// So many copies, wherever (`SimpleStrategy`).
    ///
    /// # Errors
    /// [`SchemaError::Replication`] outside [`REPLICAS`].
    pub fn anywhere(replicas: i64) -> Result<Self, SchemaError> {
        Replicas::Anywhere(replicas).try_into()
    }

    /// So many copies in each datacenter (`NetworkTopologyStrategy`).
    ///
    /// # Errors
    /// [`SchemaError::Replication`] if there is no datacenter, one's name is not valid, or a number lies
    /// outside [`REPLICAS`].
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
    /// As a map of CQL.
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

/// The whole schema in CQL, comments included. Its statements create what is missing and change nothing that
/// is there.
pub fn cql(keyspace: &Keyspace, replication: &Replication, layout: Layout) -> String {
    let template = match layout.events {
        EventLayout::Original => TEMPLATE.to_owned(),
        EventLayout::Bucketed { rows } => {
            TEMPLATE.replace(EVENTS_COMMENT, &bucketed_comment(rows)).replace(EVENTS_KEY, BUCKETED_KEY)
        }
    };
    template
        .replace(NAMED, &format!("IF NOT EXISTS {keyspace}"))
        .replace(REPLICATION, &replication.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyspace(name: &str) -> Result<Keyspace, SchemaError> {
        Keyspace::try_from(name.to_owned())
    }

    /// The statements, without comments and with single spaces.
    fn statements(cql: &str) -> Vec<String> {
        let code: Vec<&str> = cql.lines().map(|line| line.split("--").next().unwrap_or("")).collect();
        let words = |statement: &str| statement.split_whitespace().collect::<Vec<_>>().join(" ");
        code.join(" ").split(';').map(words).filter(|statement| !statement.is_empty()).collect()
    }

    #[test]
    fn events_and_alerts_are_those_of_the_original() {
        let statements = statements(TEMPLATE);
        for original in [
            "CREATE TABLE IF NOT EXISTS exactlyonce.events ( id bigint, ts timestamp, partition int, \
             offset bigint, source text, client text, health int, PRIMARY KEY (partition, offset) ) \
             WITH CLUSTERING ORDER BY (offset DESC)",
            "CREATE TABLE IF NOT EXISTS exactlyonce.alerts ( ts timestamp, source text, event_count int, \
             PRIMARY KEY (source, ts) )",
        ] {
            assert!(statements.iter().any(|statement| statement == original), "{original}: {statements:#?}");
        }
    }

    #[test]
    fn every_statement_only_creates_what_is_missing() {
        let statements = statements(TEMPLATE);
        assert_eq!(statements.len(), 8);
        for statement in statements {
            let keyspace = statement.starts_with("CREATE KEYSPACE IF NOT EXISTS exactlyonce WITH");
            let table = statement.starts_with("CREATE TABLE IF NOT EXISTS exactlyonce.");
            assert!(keyspace || table, "{statement}");
        }
    }

    #[test]
    fn the_defaults_give_the_file_as_it_stands() {
        let defaults = (keyspace("exactlyonce"), Replication::anywhere(1));
        assert_eq!(cql(&defaults.0.unwrap(), &defaults.1.unwrap(), Layout::ORIGINAL), TEMPLATE);
    }

    #[test]
    fn in_buckets_only_the_key_of_events_is_another() {
        let rows = NonZeroU32::new(70_000).unwrap();
        let (keyspace, replication) = (keyspace("exactlyonce").unwrap(), Replication::anywhere(1).unwrap());
        let bucketed = cql(&keyspace, &replication, Layout::bucketed(rows));
        assert!(bucketed.contains("buckets of 70000 offsets"), "{bucketed}");
        let (original, bucketed) = (statements(TEMPLATE), statements(&bucketed));
        let differ: Vec<_> = original.iter().zip(&bucketed).filter(|(a, b)| a != b).collect();
        assert_eq!((original.len(), differ.len()), (bucketed.len(), 1), "{differ:#?}");
        assert_eq!(
            differ[0].1,
            "CREATE TABLE IF NOT EXISTS exactlyonce.events ( id bigint, ts timestamp, partition int, \
             offset bigint, source text, client text, health int, bucket bigint, \
             PRIMARY KEY ((partition, bucket), offset) ) WITH CLUSTERING ORDER BY (offset DESC)"
        );
    }

    #[test]
    fn keyspace_and_replication_go_into_every_statement() {
        let replicas = [("paris".to_owned(), 3), ("oslo-2".to_owned(), 2)];
        let replication = Replication::datacenters(replicas.into()).unwrap();
        let statements = statements(&cql(&keyspace("other").unwrap(), &replication, Layout::ORIGINAL));
        assert_eq!(
            statements[0],
            "CREATE KEYSPACE IF NOT EXISTS other WITH replication = \
             {'class': 'NetworkTopologyStrategy', 'oslo-2': 2, 'paris': 3}"
        );
        for statement in &statements[1..] {
            assert!(statement.starts_with("CREATE TABLE IF NOT EXISTS other."), "{statement}");
        }
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
