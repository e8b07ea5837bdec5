//! Types as CQL writes them.

use crate::types::DataType;

/// The native types by name, as CQL prints them; `varchar` comes last so that nothing prints as it.
const NATIVE: [(&str, DataType); 21] = [
    ("ascii", DataType::Ascii),
    ("bigint", DataType::BigInt),
    ("blob", DataType::Blob),
    ("boolean", DataType::Boolean),
    ("counter", DataType::Counter),
    ("date", DataType::Date),
    ("decimal", DataType::Decimal),
    ("double", DataType::Double),
    ("duration", DataType::Duration),
    ("float", DataType::Float),
    ("inet", DataType::Inet),
    ("int", DataType::Int),
    ("smallint", DataType::SmallInt),
    ("text", DataType::Text),
    ("time", DataType::Time),
    ("timestamp", DataType::Timestamp),
    ("timeuuid", DataType::TimeUuid),
    ("tinyint", DataType::TinyInt),
    ("uuid", DataType::Uuid),
    ("varint", DataType::VarInt),
    ("varchar", DataType::Text),
];

/// The native type of this name, in any case.
pub fn type_named(name: &str) -> Option<DataType> {
    NATIVE.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, data_type)| data_type.clone())
}

/// A type as CQL writes it, without `frozen`: `map<text, list<int>>`.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::List(element) => format!("list<{}>", nested(element)),
        DataType::Set(element) => format!("set<{}>", nested(element)),
        DataType::Map(key, value) => format!("map<{}, {}>", nested(key), nested(value)),
        DataType::Tuple(types) => {
            let types: Vec<_> = types.iter().map(nested).collect();
            format!("tuple<{}>", types.join(", "))
        }
        native => {
            let found = NATIVE.iter().find(|(_, known)| known == native);
            found.map_or("unknown", |(name, _)| name).to_owned()
        }
    }
}

/// A type within another: a collection there is always frozen, and printed so.
fn nested(data_type: &DataType) -> String {
    match data_type {
        DataType::List(_) | DataType::Set(_) | DataType::Map(..) | DataType::Tuple(_) => {
            format!("frozen<{}>", type_name(data_type))
        }
        native => type_name(native),
    }
}
