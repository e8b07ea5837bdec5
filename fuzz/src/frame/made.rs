//! Values of the protocol that are made from bytes.

use std::sync::Arc;

use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::Bytes;
use simulated_cassandra::coordinator::Consistency;
use simulated_cassandra::protocol::ColumnSpec;

use crate::types::{data_type, few};

/// The levels of reads and writes, with those of the driver.
pub const LEVELS: [(Consistency, scylla_cql::Consistency); 11] = [
    (Consistency::Any, scylla_cql::Consistency::Any),
    (Consistency::One, scylla_cql::Consistency::One),
    (Consistency::Two, scylla_cql::Consistency::Two),
    (Consistency::Three, scylla_cql::Consistency::Three),
    (Consistency::Quorum, scylla_cql::Consistency::Quorum),
    (Consistency::All, scylla_cql::Consistency::All),
    (Consistency::LocalQuorum, scylla_cql::Consistency::LocalQuorum),
    (Consistency::EachQuorum, scylla_cql::Consistency::EachQuorum),
    (Consistency::Serial, scylla_cql::Consistency::Serial),
    (Consistency::LocalSerial, scylla_cql::Consistency::LocalSerial),
    (Consistency::LocalOne, scylla_cql::Consistency::LocalOne),
];

pub fn level(source: &mut Unstructured<'_>) -> Result<Consistency> {
    Ok(source.choose(&LEVELS)?.0)
}

/// The driver's name of a level.
pub fn level_of_driver(level: Consistency) -> scylla_cql::Consistency {
    LEVELS.iter().find(|(ours, _)| *ours == level).expect("all levels are listed").1
}

pub fn bytes(source: &mut Unstructured<'_>) -> Result<Bytes> {
    <&[u8]>::arbitrary(source).map(Bytes::copy_from_slice)
}

/// Columns of one table, or of several.
pub fn columns(source: &mut Unstructured<'_>) -> Result<Vec<ColumnSpec>> {
    let table = (Arc::<str>::from(<&str>::arbitrary(source)?), Arc::<str>::from(<&str>::arbitrary(source)?));
    let is_one = bool::arbitrary(source)?;
    few(source, |source| {
        let (keyspace, table) = match is_one {
            true => table.clone(),
            false => (<&str>::arbitrary(source)?.into(), <&str>::arbitrary(source)?.into()),
        };
        Ok(ColumnSpec { keyspace, table, name: String::arbitrary(source)?, data_type: data_type(source)? })
    })
}
