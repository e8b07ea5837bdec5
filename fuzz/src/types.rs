//! Types of CQL that are made from bytes, and their names in the driver.

use arbitrary::{Result, Unstructured};
use scylla_cql::frame::response::result::{CollectionType, ColumnType, NativeType};
use simulated_cassandra::types::DataType;

/// Types within types, at most.
const DEEPEST: usize = 3;

/// The native types, with those of the driver.
pub const NATIVE: [(DataType, NativeType); 20] = [
    (DataType::Ascii, NativeType::Ascii),
    (DataType::BigInt, NativeType::BigInt),
    (DataType::Blob, NativeType::Blob),
    (DataType::Boolean, NativeType::Boolean),
    (DataType::Counter, NativeType::Counter),
    (DataType::Date, NativeType::Date),
    (DataType::Decimal, NativeType::Decimal),
    (DataType::Double, NativeType::Double),
    (DataType::Duration, NativeType::Duration),
    (DataType::Float, NativeType::Float),
    (DataType::Inet, NativeType::Inet),
    (DataType::Int, NativeType::Int),
    (DataType::SmallInt, NativeType::SmallInt),
    (DataType::Text, NativeType::Text),
    (DataType::Time, NativeType::Time),
    (DataType::Timestamp, NativeType::Timestamp),
    (DataType::TimeUuid, NativeType::Timeuuid),
    (DataType::TinyInt, NativeType::TinyInt),
    (DataType::Uuid, NativeType::Uuid),
    (DataType::VarInt, NativeType::Varint),
];

/// Up to four of them.
pub fn few<'a, T>(
    source: &mut Unstructured<'a>,
    mut make: impl FnMut(&mut Unstructured<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let count = source.int_in_range(0..=4)?;
    (0..count).map(|_| make(source)).collect()
}

/// A type, which may have others in it.
pub fn data_type(source: &mut Unstructured<'_>) -> Result<DataType> {
    type_within(source, DEEPEST)
}

fn type_within(source: &mut Unstructured<'_>, levels: usize) -> Result<DataType> {
    let inner = |source: &mut Unstructured<'_>| type_within(source, levels - 1);
    Ok(match source.int_in_range(0..=if levels == 0 { 0 } else { 6 })? {
        1 => DataType::List(Box::new(inner(source)?)),
        2 => DataType::Set(Box::new(inner(source)?)),
        3 => DataType::Map(Box::new(inner(source)?), Box::new(inner(source)?)),
        4 => DataType::Tuple(few(source, inner)?),
        _ => source.choose(&NATIVE)?.0.clone(),
    })
}

/// The driver's name of a type.
pub fn type_of_driver(data_type: &DataType) -> ColumnType<'static> {
    let of = |data_type| Box::new(type_of_driver(data_type));
    let collection = |typ| ColumnType::Collection { frozen: false, typ };
    match data_type {
        DataType::List(element) => collection(CollectionType::List(of(element))),
        DataType::Set(element) => collection(CollectionType::Set(of(element))),
        DataType::Map(key, value) => collection(CollectionType::Map(of(key), of(value))),
        DataType::Tuple(types) => ColumnType::Tuple(types.iter().map(type_of_driver).collect()),
        native => {
            let found = NATIVE.iter().find(|(ours, _)| ours == native);
            ColumnType::Native(found.expect("all native types are listed").1.clone())
        }
    }
}
