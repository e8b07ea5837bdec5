//! The binding of a keyspace: the row of the table `pipeline`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::store::Layout;
use crate::window::WindowSpec;

/// The version of the tables, part of the binding.
pub const SCHEMA_VERSION: i32 = 2;

/// The consistency at which all workers of a keyspace read and write.
///
/// It is part of the binding because the sums are only right if every read of a count sees every acknowledged
/// write of one: workers that use a quorum of different datacenters miss each other's counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BoundConsistency {
    /// The store has a single copy of everything: a file, or memory.
    Single,
    /// A quorum of all replicas, in any datacenters.
    Quorum,
    /// A quorum of the replicas of one datacenter.
    LocalQuorum {
        /// Its name in the cluster. Not empty.
        datacenter: String,
    },
}

/// The error of a stored value or a text that is not a consistency.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a consistency: it must be quorum, or local_quorum:DATACENTER")]
pub struct ConsistencyError(String);

impl BoundConsistency {
    const LOCAL_QUORUM: &'static str = "local_quorum";

    /// The values of the columns `consistency` and `datacenter`; the second is empty where there is none.
    pub fn columns(&self) -> (&'static str, &str) {
        match self {
            BoundConsistency::Single => ("single", ""),
            BoundConsistency::Quorum => ("quorum", ""),
            BoundConsistency::LocalQuorum { datacenter } => (Self::LOCAL_QUORUM, datacenter),
        }
    }

    /// The inverse of [`BoundConsistency::columns`].
    ///
    /// # Errors
    /// [`ConsistencyError`] if the columns contain anything that [`BoundConsistency::columns`] does not return.
    pub fn from_columns(consistency: &str, datacenter: &str) -> Result<Self, ConsistencyError> {
        match (consistency, datacenter) {
            ("single", "") => Ok(BoundConsistency::Single),
            ("quorum", "") => Ok(BoundConsistency::Quorum),
            (Self::LOCAL_QUORUM, name) if !name.is_empty() => {
                Ok(BoundConsistency::LocalQuorum { datacenter: name.to_owned() })
            }
            _ => Err(ConsistencyError(format!("{consistency}:{datacenter}"))),
        }
    }
}

/// As on the command line: `quorum`, `local_quorum:oslo`.
impl fmt::Display for BoundConsistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.columns() {
            (consistency, "") => f.write_str(consistency),
            (consistency, datacenter) => write!(f, "{consistency}:{datacenter}"),
        }
    }
}

impl std::str::FromStr for BoundConsistency {
    type Err = ConsistencyError;

    /// `single` cannot be parsed: only a store that has one copy uses it.
    fn from_str(text: &str) -> Result<Self, ConsistencyError> {
        let (consistency, datacenter) = text.split_once(':').unwrap_or((text, ""));
        match Self::from_columns(consistency, datacenter) {
            Ok(parsed) if parsed != BoundConsistency::Single && parsed.to_string() == text => Ok(parsed),
            _ => Err(ConsistencyError(text.to_owned())),
        }
    }
}

/// Everything that the result depends on besides the log: the row of the table `pipeline`. `init` writes it once, and a
/// worker whose parameters differ refuses to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Name of the topic.
    pub topic: String,
    /// Id of the topic: a recreated topic has a different one.
    pub topic_id: String,
    /// Windows and alerts.
    pub window: WindowSpec,
    /// A record larger than this, key and value together, is a dead letter without its bytes.
    pub max_mutation_bytes: i64,
    /// See [`crate::decode::DECODER_VERSION`].
    pub decoder_version: i32,
    /// How the tables that grow are keyed.
    pub layout: Layout,
    /// See [`SCHEMA_VERSION`].
    pub schema_version: i32,
    /// Consistency and datacenter of every worker's reads and writes.
    pub consistency: BoundConsistency,
    /// Where the pipeline started in each partition that existed then; partitions that were added later start at 0.
    pub origins: BTreeMap<i32, i64>,
}

impl Binding {
    /// The first offset of a partition that is part of the result.
    pub fn origin(&self, partition: i32) -> i64 {
        self.origins.get(&partition).copied().unwrap_or(0)
    }
}

/// The result of [`Store::bind`](crate::store::Store::bind).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The binding is written.
    Now,
    /// There was a binding already; it was not changed.
    Before(Binding),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consistency_is_read_back_from_its_columns_and_from_its_text() {
        let local = BoundConsistency::LocalQuorum { datacenter: "oslo-2".to_owned() };
        for (consistency, text) in [(BoundConsistency::Quorum, "quorum"), (local, "local_quorum:oslo-2")] {
            let (level, datacenter) = consistency.columns();
            assert_eq!(BoundConsistency::from_columns(level, datacenter).as_ref(), Ok(&consistency));
            assert_eq!(consistency.to_string(), text);
            assert_eq!(text.parse().as_ref(), Ok(&consistency));
        }
        assert_eq!(BoundConsistency::from_columns("single", ""), Ok(BoundConsistency::Single));
    }

    #[test]
    fn a_text_that_is_not_a_consistency_is_an_error_that_quotes_it() {
        for bad in ["", "single", "one", "quorum:", "quorum:oslo", "local_quorum", "local_quorum:", "QUORUM"]
        {
            let error = bad.parse::<BoundConsistency>().unwrap_err();
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
        for (level, datacenter) in [("quorum", "oslo"), ("local_quorum", ""), ("single", "x"), ("", "")] {
            assert!(BoundConsistency::from_columns(level, datacenter).is_err(), "{level} {datacenter}");
        }
    }
}
