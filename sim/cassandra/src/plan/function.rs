//! Functions of values: those of time, of bytes and of the ring.

use bytes::{Bytes, BytesMut};

use super::Context;
use super::json::json;
use super::math::{Math, NUMBERS};
use super::term::{could_be, data_type_of, shown};
use crate::cql::ast;
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
    /// `blobasint(a)` and its like, by its name
    BlobAs(DataType, String),
    /// `token(a, b)`
    Token(Vec<DataType>),
    /// `cast(a AS b)`
    Cast(DataType, DataType),
    /// `abs(a)` and its like
    Math(Math, DataType),
    /// `mask_default(a)`
    MaskDefault(DataType),
    /// `mask_null(a)`
    MaskNull(DataType),
    /// `mask_replace(a, b)`
    MaskReplace(DataType),
    /// `to_json(a)`
    ToJson(DataType),
}

/// What a function is called with.
pub(super) enum Argument<'a> {
    /// A value of this type.
    Typed(DataType),
    /// A literal, whose type may depend on the function.
    Written(&'a ast::Term),
}

/// How well an argument fits a type (`AssignmentTestable.TestResult`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Not,
    Weakly,
    Exactly,
}

impl Argument<'_> {
    fn fit(&self, data_type: &DataType) -> Fit {
        match self {
            Argument::Typed(own) if own == data_type => Fit::Exactly,
            Argument::Typed(own) if data_type.takes(own) => Fit::Weakly,
            Argument::Typed(_) => Fit::Not,
            Argument::Written(_) if self.preferred().as_ref() == Some(data_type) => Fit::Exactly,
            Argument::Written(term) if could_be(term, data_type) => Fit::Weakly,
            Argument::Written(_) => Fit::Not,
        }
    }

    /// The type that it has where nothing else decides (`Constants.Literal.getPreferedTypeFor`).
    fn preferred(&self) -> Option<DataType> {
        let term = match self {
            Argument::Typed(data_type) => return Some(data_type.clone()),
            Argument::Written(term) => term,
        };
        match term {
            ast::Term::Literal(kind, text) => Some(match kind {
                ast::LiteralKind::Integer if text.parse::<i32>().is_ok() => DataType::Int,
                ast::LiteralKind::Integer if text.parse::<i64>().is_ok() => DataType::BigInt,
                ast::LiteralKind::Integer => DataType::VarInt,
                ast::LiteralKind::Float => DataType::Double,
                ast::LiteralKind::Boolean => DataType::Boolean,
                ast::LiteralKind::Hex => DataType::Blob,
                ast::LiteralKind::Duration => DataType::Duration,
                ast::LiteralKind::String => DataType::Text,
                ast::LiteralKind::Uuid => DataType::Uuid,
            }),
            ast::Term::Cast(to, _) => data_type_of(to),
            _ => None,
        }
    }
}

/// Functions of Cassandra 5.0 that are not simulated: without these, theirs would be the names of no functions.
const NOT_SIMULATED: [&str; 18] = [
    "collection_avg",
    "collection_count",
    "collection_max",
    "collection_min",
    "collection_sum",
    "floor",
    "from_json",
    "fromjson",
    "map_keys",
    "map_values",
    "mask_hash",
    "mask_inner",
    "mask_outer",
    "similarity_cosine",
    "similarity_dot_product",
    "similarity_euclidean",
    "random_float_vector",
    "normalize_l2",
];

const MILLIS_OF_DAY: i64 = 86_400_000;

impl Function {
    /// The token of a partition key of these types.
    pub fn token(types: &[DataType]) -> Function {
        Function::Token(types.to_vec())
    }

    /// The function of this name that takes these arguments and, if a receiver is known, returns what that takes; `None`
    /// if none has this name (`FunctionResolver.get`).
    ///
    /// # Errors
    /// If those of this name take other arguments, or more than one takes these, or they are not simulated.
    pub fn resolve(
        name: &str,
        arguments: &[Argument<'_>],
        receiver: Option<&DataType>,
    ) -> Result<Option<Function>, ServerError> {
        if NOT_SIMULATED.contains(&name) {
            return Err(ServerError::invalid(format!("the function {name} is not simulated")));
        }
        if let Some((at_least, make)) = of_any(name) {
            let [argument, ..] = arguments else { return Err(of_any_arguments(name)) };
            if arguments.len() != at_least {
                return Err(of_any_arguments(name));
            }
            return match argument.preferred() {
                Some(data_type) => Ok(Some(make(data_type))),
                None => Err(ServerError::invalid(format!(
                    "Cannot infer type of argument {} in call to function system.{name}: use type casts to disambiguate",
                    match argument {
                        Argument::Written(term) => shown(term),
                        Argument::Typed(data_type) => type_name(data_type),
                    }
                ))),
            };
        }
        let all = overloads(name);
        let mut candidates = all.clone();
        candidates.retain(|function| receiver.is_none_or(|receiver| receiver.takes(&function.returns())));
        let fit = |function: &Function| {
            let types = function.arguments();
            if types.len() != arguments.len() {
                return Fit::Not;
            }
            let fits = types.iter().zip(arguments).map(|(data_type, argument)| argument.fit(data_type));
            fits.min().unwrap_or(Fit::Exactly)
        };
        if all.len() < 2 {
            // With a single candidate, the error names the argument that is wrong.
            return Ok(all.into_iter().next());
        }
        let signatures = |functions: &[Function]| {
            let shown = functions.iter().map(|function| {
                let types: Vec<_> = function.arguments().iter().map(type_name).collect();
                format!("system.{name} : ({}) -> {}", types.join(", "), type_name(&function.returns()))
            });
            shown.collect::<Vec<_>>().join(", ")
        };
        if let [only] = candidates.as_slice() {
            return match fit(only) {
                Fit::Not => Err(no_signature(name, &signatures(&all))),
                Fit::Weakly | Fit::Exactly => Ok(Some(only.clone())),
            };
        }
        if let Some(exact) = candidates.iter().find(|function| fit(function) == Fit::Exactly) {
            return Ok(Some(exact.clone()));
        }
        candidates.retain(|function| fit(function) == Fit::Weakly);
        match candidates.as_slice() {
            [] => Err(no_signature(name, &signatures(&all))),
            [only] => Ok(Some(only.clone())),
            several => Err(ServerError::invalid(format!(
                "Ambiguous call to function {name} (can be matched by following signatures: {}): use type casts to \
                 disambiguate",
                signatures(several)
            ))),
        }
    }

    /// The name that results show, where it is another.
    pub fn shown_name(name: &str) -> &str {
        match name {
            "tojson" => "to_json",
            name => name,
        }
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
            Function::AsBlob(of)
            | Function::Cast(of, _)
            | Function::Math(_, of)
            | Function::MaskDefault(of)
            | Function::MaskNull(of)
            | Function::ToJson(of) => vec![of.clone()],
            Function::MaskReplace(of) => vec![of.clone(), of.clone()],
            Function::BlobAs(..) => vec![DataType::Blob],
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
            Function::BlobAs(to, _) | Function::Cast(_, to) => to.clone(),
            Function::Math(_, of)
            | Function::MaskDefault(of)
            | Function::MaskNull(of)
            | Function::MaskReplace(of) => of.clone(),
            Function::ToJson(_) => DataType::Text,
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
        match self {
            Function::MaskNull(_) => return Ok(None),
            Function::MaskDefault(of) => return Ok(Some(masked(of))),
            Function::MaskReplace(_) => return Ok(arguments.get(1).cloned().flatten()),
            Function::ToJson(of) => {
                let text = arguments
                    .first()
                    .cloned()
                    .flatten()
                    .map_or_else(|| "null".to_owned(), |it| json(of, &it));
                return Ok(Some(Bytes::from(text)));
            }
            _ => {}
        }
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
            Function::BlobAs(to, name) => {
                validate(to, &first).map_err(|_| {
                    ServerError::invalid(format!(
                        "In call to function system.{name}, value 0x{} is not a valid binary representation for type {}",
                        hex::encode(&first),
                        type_name(to)
                    ))
                })?;
                Ok(Some(first))
            }
            Function::Token(_) => fixed(&DecoratedKey::of_components(&values).token().0.to_be_bytes()),
            Function::Cast(from, to) => cast(from, to, &first).map(Some),
            Function::Math(math, of) => math.call(of, &first),
            // Null arguments make a difference to them: they are done with above.
            Function::MaskDefault(_)
            | Function::MaskNull(_)
            | Function::MaskReplace(_)
            | Function::ToJson(_) => Ok(None),
        }
    }
}

/// The functions of this name that take certain types.
fn overloads(name: &str) -> Vec<Function> {
    if let Some(math) = Math::named(name) {
        return NUMBERS.into_iter().map(|of| Function::Math(math, of)).collect();
    }
    let of = |make: OfType, types: &[DataType]| types.iter().cloned().map(make).collect();
    match name {
        "totimestamp" | "to_timestamp" => of(Function::ToTimestamp, &[DataType::TimeUuid, DataType::Date]),
        "todate" | "to_date" => of(Function::ToDate, &[DataType::TimeUuid, DataType::Timestamp]),
        "tounixtimestamp" | "to_unix_timestamp" => {
            of(Function::ToUnixTimestamp, &[DataType::TimeUuid, DataType::Timestamp, DataType::Date])
        }
        "now" | "currenttimeuuid" | "current_timeuuid" => vec![Function::Now],
        "uuid" => vec![Function::Uuid],
        "currenttimestamp" | "current_timestamp" => vec![Function::CurrentTimestamp],
        "currentdate" | "current_date" => vec![Function::CurrentDate],
        "currenttime" | "current_time" => vec![Function::CurrentTime],
        "mintimeuuid" | "min_timeuuid" => vec![Function::MinTimeUuid],
        "maxtimeuuid" | "max_timeuuid" => vec![Function::MaxTimeUuid],
        other => of_bytes(other).into_iter().collect(),
    }
}

/// `intasblob`, `int_as_blob`, `blobasint` and their like. There is none from blobs to blobs.
fn of_bytes(name: &str) -> Option<Function> {
    let native = |name: &str| type_named(name).filter(|data_type| *data_type != DataType::Blob);
    if let Some(of) = name.strip_suffix("_as_blob").or_else(|| name.strip_suffix("asblob")) {
        return native(of).map(Function::AsBlob);
    }
    let of = name.strip_prefix("blob_as_").or_else(|| name.strip_prefix("blobas"))?;
    native(of).map(|to| Function::BlobAs(to, name.to_owned()))
}

/// Makes a function of the type that it is for.
type OfType = fn(DataType) -> Function;

/// A function of this name that takes any type, and how many arguments it has.
fn of_any(name: &str) -> Option<(usize, OfType)> {
    Some(match name {
        "mask_default" => (1, Function::MaskDefault as OfType),
        "mask_null" => (1, Function::MaskNull),
        "mask_replace" => (2, Function::MaskReplace),
        "to_json" | "tojson" => (1, Function::ToJson),
        _ => return None,
    })
}

fn of_any_arguments(name: &str) -> ServerError {
    let types = if name == "mask_replace" { "any, any" } else { "any" };
    let name = Function::shown_name(name);
    ServerError::invalid(format!("Invalid number of arguments for function system.{name}({types})"))
}

fn no_signature(name: &str, known: &str) -> ServerError {
    ServerError::invalid(format!(
        "Invalid call to function {name}, none of its type signatures match (known type signatures: {known})"
    ))
}

/// The mask of a type's values (`AbstractType.getMaskedValue`).
fn masked(data_type: &DataType) -> Bytes {
    let zeros = |count: usize| Bytes::from(vec![0; count]);
    match data_type {
        DataType::Ascii | DataType::Text => Bytes::from_static(b"****"),
        DataType::Blob | DataType::Tuple(_) => Bytes::new(),
        DataType::Boolean | DataType::TinyInt | DataType::VarInt => zeros(1),
        DataType::SmallInt => zeros(2),
        DataType::Duration => zeros(3),
        DataType::Float | DataType::Inet | DataType::Int => zeros(4),
        DataType::List(_) | DataType::Set(_) | DataType::Map(..) => zeros(4),
        DataType::Decimal => zeros(5),
        DataType::BigInt | DataType::Counter | DataType::Double | DataType::Time | DataType::Timestamp => {
            zeros(8)
        }
        DataType::Date => Bytes::copy_from_slice(&(1u32 << 31).to_be_bytes()),
        DataType::Uuid => zeros(16),
        // The least of 1970.
        DataType::TimeUuid => {
            Bytes::copy_from_slice(&0x1381_4000_1dd2_11b2_8080_8080_8080_8080_u128.to_be_bytes())
        }
    }
}

/// The moment of a date, a timestamp or a time-based UUID, in milliseconds since 1970.
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
