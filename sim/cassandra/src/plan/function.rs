//! Functions of values: those of time, of bytes and of the ring.

use bytes::{Bytes, BytesMut};

use super::Context;
use crate::cql::value::{date_of_millis, millis_of_date, time_uuid, time_uuid_millis, validate, whole};
use crate::cql::{type_name, type_named};
use crate::protocol::ServerError;
use crate::storage::DecoratedKey;
use crate::types::DataType;

/// A function with its types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Function {
    /// `now()`, `currenttimeuuid()`
    Now,
    /// `uuid()`
    Uuid,
    /// `currenttimestamp()`
    CurrentTimestamp,
    /// `currentdate()`
    CurrentDate,
    /// `currenttime()`
    CurrentTime,
    /// `totimestamp(a)`
    ToTimestamp(DataType),
    /// `todate(a)`
    ToDate(DataType),
    /// `tounixtimestamp(a)`
    ToUnixTimestamp(DataType),
    /// `mintimeuuid(a)`
    MinTimeUuid,
    /// `maxtimeuuid(a)`
    MaxTimeUuid,
    /// `intasblob(a)` and its like
    AsBlob(DataType),
    /// `blobasint(a)` and its like
    BlobAs(DataType),
    /// `token(a, b)`
    Token(Vec<DataType>),
    /// `cast(a AS b)`
    Cast(DataType, DataType),
}

const MILLIS_OF_DAY: i64 = 86_400_000;

impl Function {
    /// The token of a partition key of these types.
    pub fn token(types: &[DataType]) -> Function {
        Function::Token(types.to_vec())
    }

    /// The function of this name for arguments of these types, as far as they are known.
    pub fn named(name: &str, types: &[Option<DataType>]) -> Option<Function> {
        let first = types.first().cloned().flatten();
        Some(match name {
            "now" | "currenttimeuuid" | "current_timeuuid" => Function::Now,
            "uuid" => Function::Uuid,
            "currenttimestamp" | "current_timestamp" => Function::CurrentTimestamp,
            "currentdate" | "current_date" => Function::CurrentDate,
            "currenttime" | "current_time" => Function::CurrentTime,
            "totimestamp" | "to_timestamp" => Function::ToTimestamp(first.unwrap_or(DataType::TimeUuid)),
            "todate" | "to_date" => Function::ToDate(first.unwrap_or(DataType::TimeUuid)),
            "tounixtimestamp" | "to_unix_timestamp" => {
                Function::ToUnixTimestamp(first.unwrap_or(DataType::TimeUuid))
            }
            "mintimeuuid" | "min_timeuuid" => Function::MinTimeUuid,
            "maxtimeuuid" | "max_timeuuid" => Function::MaxTimeUuid,
            other => {
                let other = other.replace('_', "");
                if let Some(native) = other.strip_suffix("asblob").and_then(type_named) {
                    Function::AsBlob(native)
                } else {
                    Function::BlobAs(other.strip_prefix("blobas").and_then(type_named)?)
                }
            }
        })
    }

    /// The types of its arguments.
    pub fn arguments(&self) -> Vec<DataType> {
        match self {
            Function::Now
            | Function::Uuid
            | Function::CurrentTimestamp
            | Function::CurrentDate
            | Function::CurrentTime => Vec::new(),
            Function::ToTimestamp(from) | Function::ToDate(from) | Function::ToUnixTimestamp(from) => {
                vec![from.clone()]
            }
            Function::MinTimeUuid | Function::MaxTimeUuid => vec![DataType::Timestamp],
            Function::AsBlob(from) | Function::Cast(from, _) => vec![from.clone()],
            Function::BlobAs(_) => vec![DataType::Blob],
            Function::Token(types) => types.clone(),
        }
    }

    /// The type of its result.
    pub fn returns(&self) -> DataType {
        match self {
            Function::Now | Function::MinTimeUuid | Function::MaxTimeUuid => DataType::TimeUuid,
            Function::Uuid => DataType::Uuid,
            Function::CurrentTimestamp | Function::ToTimestamp(_) => DataType::Timestamp,
            Function::CurrentDate | Function::ToDate(_) => DataType::Date,
            Function::CurrentTime => DataType::Time,
            Function::ToUnixTimestamp(_) | Function::Token(_) => DataType::BigInt,
            Function::AsBlob(_) => DataType::Blob,
            Function::BlobAs(to) | Function::Cast(_, to) => to.clone(),
        }
    }

    /// Calls it. A null argument makes the result null.
    ///
    /// # Errors
    /// If the arguments make no sense to it.
    pub fn call(
        &self,
        arguments: &[Option<Bytes>],
        context: &Context<'_>,
    ) -> Result<Option<Bytes>, ServerError> {
        let Some(values) = arguments.iter().cloned().collect::<Option<Vec<Bytes>>>() else {
            return Ok(None);
        };
        let first = values.first().cloned().unwrap_or_default();
        let fixed = |bytes: &[u8]| Ok(Some(Bytes::copy_from_slice(bytes)));
        let millis = context.micros.div_euclid(1000);
        match self {
            Function::Now => fixed(&time_uuid(context.micros, (context.unique)() as u64).to_be_bytes()),
            Function::Uuid => {
                let random = (context.unique)();
                let uuid = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
                fixed(&uuid.to_be_bytes())
            }
            Function::CurrentTimestamp => fixed(&millis.to_be_bytes()),
            Function::CurrentDate => fixed(&date_of_millis(millis).unwrap_or_default().to_be_bytes()),
            Function::CurrentTime => {
                let nanos = context.micros.rem_euclid(MILLIS_OF_DAY * 1000) * 1000;
                fixed(&nanos.to_be_bytes())
            }
            Function::ToTimestamp(from) | Function::ToUnixTimestamp(from) => match moment(from, &first) {
                Some(millis) => fixed(&millis.to_be_bytes()),
                None => Ok(None),
            },
            Function::ToDate(from) => match moment(from, &first).and_then(date_of_millis) {
                Some(date) => fixed(&date.to_be_bytes()),
                None => Ok(None),
            },
            Function::MinTimeUuid | Function::MaxTimeUuid => {
                let Some(millis) = whole(&first) else { return Ok(None) };
                let (micros, rest) = match self {
                    Function::MinTimeUuid => (millis.saturating_mul(1000), 0x8080_8080_8080_8080u64),
                    _ => (millis.saturating_mul(1000).saturating_add(999), 0x7f7f_7f7f_7f7f_7f7f),
                };
                let mut uuid = time_uuid(micros, 0);
                if *self == Function::MaxTimeUuid {
                    // The last of the ten steps of the last microsecond.
                    uuid += 9 << 96;
                }
                fixed(&((uuid & !u128::from(u64::MAX)) | u128::from(rest)).to_be_bytes())
            }
            Function::AsBlob(_) => Ok(Some(first)),
            Function::BlobAs(to) => {
                validate(to, &first).map_err(|_| ServerError::FunctionFailure {
                    keyspace: "system".to_owned(),
                    function: format!("blobas{}", type_name(to)),
                    arguments: vec!["blob".to_owned()],
                    message: format!(
                        "In call to function system.blobas{0}, value 0x{1} is not a valid binary representation for type {0}",
                        type_name(to),
                        first.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
                    ),
                })?;
                Ok(Some(first))
            }
            Function::Token(_) => fixed(&DecoratedKey::of_components(&values).token().0.to_be_bytes()),
            Function::Cast(from, to) => cast(from, to, &first).map(Some),
        }
    }
}

/// The moment that a date, a timestamp or a time-based UUID stands for, in milliseconds since 1970.
fn moment(data_type: &DataType, bytes: &Bytes) -> Option<i64> {
    match data_type {
        DataType::TimeUuid | DataType::Uuid => {
            Some(time_uuid_millis(u128::from_be_bytes(bytes.as_ref().try_into().ok()?)))
        }
        DataType::Timestamp => whole(bytes),
        DataType::Date => Some(millis_of_date(u32::from_be_bytes(bytes.as_ref().try_into().ok()?))),
        _ => None,
    }
}

/// Whether a cast between these types is simulated.
pub(super) fn can_cast(from: &DataType, to: &DataType) -> bool {
    let is_number = |data_type: &DataType| {
        matches!(
            data_type,
            DataType::TinyInt
                | DataType::SmallInt
                | DataType::Int
                | DataType::BigInt
                | DataType::Float
                | DataType::Double
        )
    };
    from == to
        || (is_number(from) && is_number(to))
        || (matches!(to, DataType::Text | DataType::Ascii)
            && matches!(
                from,
                DataType::TinyInt
                    | DataType::SmallInt
                    | DataType::Int
                    | DataType::BigInt
                    | DataType::Boolean
                    | DataType::Text
                    | DataType::Ascii
                    | DataType::Uuid
                    | DataType::TimeUuid
            ))
}

fn cast(from: &DataType, to: &DataType, bytes: &Bytes) -> Result<Bytes, ServerError> {
    let unable = || ServerError::invalid(format!("cannot cast {} to {}", type_name(from), type_name(to)));
    if from == to || bytes.is_empty() {
        return Ok(bytes.clone());
    }
    let float = match from {
        DataType::Float => {
            Some(f64::from(f32::from_be_bytes(bytes.as_ref().try_into().map_err(|_| unable())?)))
        }
        DataType::Double => Some(f64::from_be_bytes(bytes.as_ref().try_into().map_err(|_| unable())?)),
        _ => None,
    };
    let text = |text: String| Ok(Bytes::from(text));
    if matches!(to, DataType::Text | DataType::Ascii) {
        return match from {
            DataType::Boolean => text((bytes[0] != 0).to_string()),
            DataType::Text | DataType::Ascii => Ok(bytes.clone()),
            DataType::Uuid | DataType::TimeUuid => {
                let uuid = u128::from_be_bytes(bytes.as_ref().try_into().map_err(|_| unable())?);
                text(crate::schema::TableId(uuid).to_string())
            }
            _ => text(whole(bytes).ok_or_else(unable)?.to_string()),
        };
    }
    // Narrowing keeps the low bits of a whole number, and saturates a float, as Java does.
    let number = match float {
        Some(value) => value as i64,
        None => whole(bytes).ok_or_else(unable)?,
    };
    let mut out = BytesMut::new();
    match to {
        DataType::TinyInt => out.extend_from_slice(&(number as i8).to_be_bytes()),
        DataType::SmallInt => out.extend_from_slice(&(number as i16).to_be_bytes()),
        DataType::Int => out.extend_from_slice(&(number as i32).to_be_bytes()),
        DataType::BigInt => out.extend_from_slice(&number.to_be_bytes()),
        DataType::Float => {
            out.extend_from_slice(&float.map_or(number as f32, |value| value as f32).to_be_bytes());
        }
        DataType::Double => out.extend_from_slice(&float.unwrap_or(number as f64).to_be_bytes()),
        _ => return Err(unable()),
    }
    Ok(out.freeze())
}
