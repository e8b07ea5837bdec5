//! The target `literal`: values of every type of CQL, as bytes and as text.

mod text;

use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::Bytes;
use scylla_cql::deserialize::FrameSlice;
use scylla_cql::deserialize::value::DeserializeValue;
use scylla_cql::serialize::value::SerializeValue;
use scylla_cql::serialize::writers::CellWriter;
use scylla_cql::value::CqlValue;
use simulated_cassandra::cql::ast::{Modification, Statement, Term};
use simulated_cassandra::cql::parse;
use simulated_cassandra::cql::value::{
    self, collection, components, elements, fits, list, nullable_elements, rewritten, validate,
};
use simulated_cassandra::types::DataType;

use crate::types::{data_type, few, type_of_driver};

/// Reads and writes values, by the first byte:
///
/// - 0: the bytes are a type and two values of it. They are ordered both ways alike, and each is checked as below;
/// - 1: the bytes are a type, and a text that is parsed as a value of it;
/// - 2: a value of a type is made from the bytes.
///
/// A value that is valid has a text, from which the parser and the conversion of constants make the same value; the driver
/// reads it, and writes the same; and what is written of it again is valid, and the same value.
///
/// # Panics
/// If it is not so.
pub fn literal(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    let source = &mut Unstructured::new(rest);
    // Bytes that make nothing are no defect.
    let _ = match mode % 3 {
        0 => any_bytes(source),
        1 => any_text(source),
        _ => a_value(source),
    };
}

fn any_bytes(source: &mut Unstructured<'_>) -> Result<()> {
    let data_type = data_type(source)?;
    let length = usize::from(u8::arbitrary(source)?).min(source.len());
    let (one, other) = (source.bytes(length)?, source.bytes(source.len())?);
    assert_eq!(data_type.compare(one, other), data_type.compare(other, one).reverse());
    check(&data_type, &Bytes::copy_from_slice(one));
    check(&data_type, &Bytes::copy_from_slice(other));
    Ok(())
}

fn any_text(source: &mut Unstructured<'_>) -> Result<()> {
    let data_type = data_type(source)?;
    let Ok(text) = std::str::from_utf8(source.bytes(source.len())?) else { return Ok(()) };
    match value::parse(&data_type, text) {
        Ok(bytes) => {
            let valid = validate(&data_type, &bytes);
            assert!(valid.is_ok(), "{text:?} is the {data_type:?} {bytes:?}: {valid:?}");
            assert_eq!(rewritten(&data_type, &bytes), bytes, "{text:?} as {data_type:?}");
            check(&data_type, &bytes);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    Ok(())
}

fn a_value(source: &mut Unstructured<'_>) -> Result<()> {
    let data_type = data_type(source)?;
    let bytes = made(source, &data_type)?;
    check(&data_type, &bytes);
    Ok(())
}

/// Bytes of a type, mostly valid ones.
fn made(source: &mut Unstructured<'_>, data_type: &DataType) -> Result<Bytes> {
    let length = match data_type {
        DataType::Boolean | DataType::TinyInt => 1,
        DataType::SmallInt => 2,
        DataType::Date | DataType::Float | DataType::Int => 4,
        DataType::BigInt | DataType::Counter | DataType::Double | DataType::Time | DataType::Timestamp => 8,
        DataType::TimeUuid | DataType::Uuid => 16,
        DataType::Inet => *source.choose(&[4, 16])?,
        DataType::List(element) | DataType::Set(element) => {
            let all = few(source, |source| made(source, element))?;
            return Ok(collection(all.len(), &all));
        }
        DataType::Map(key, value) => {
            let all = few(source, |source| Ok([made(source, key)?, made(source, value)?]))?;
            return Ok(collection(all.len(), &all.concat()));
        }
        DataType::Tuple(types) => {
            let mut all = Vec::new();
            for data_type in types {
                all.push(if bool::arbitrary(source)? { Some(made(source, data_type)?) } else { None });
            }
            // The same as those of a list, without their number.
            return Ok(list(&all).slice(4..));
        }
        DataType::Text => {
            return <&str>::arbitrary(source).map(|text| Bytes::copy_from_slice(text.as_bytes()));
        }
        DataType::Ascii | DataType::Blob | DataType::Decimal | DataType::Duration | DataType::VarInt => {
            return <&[u8]>::arbitrary(source).map(Bytes::copy_from_slice);
        }
    };
    source.bytes(length).map(Bytes::copy_from_slice)
}

/// Whether bytes are the same value: that of a boolean, a number or a duration has several forms.
fn is_same(data_type: &DataType, one: &Bytes, other: &Bytes) -> bool {
    let all_same = |types: &[&DataType], one: &[Option<Bytes>], other: &[Option<Bytes>]| {
        let pairs = one.iter().zip(other).zip(types.iter().cycle());
        one.len() == other.len()
            && pairs.into_iter().all(|(pair, data_type)| match pair {
                (Some(one), Some(other)) => is_same(data_type, one, other),
                (one, other) => one == other,
            })
    };
    let some = |all: Option<Vec<Bytes>>| all.map(|all| all.into_iter().map(Some).collect::<Vec<_>>());
    match data_type {
        DataType::List(element) | DataType::Set(element) => {
            let all = (nullable_elements(one), nullable_elements(other));
            matches!(all, (Some(one), Some(other)) if all_same(&[element], &one, &other))
        }
        DataType::Map(key, value) => {
            let all = (some(elements(data_type, one)), some(elements(data_type, other)));
            matches!(all, (Some(one), Some(other)) if all_same(&[key, value], &one, &other))
        }
        // What is left out at the end is null.
        DataType::Tuple(types) => {
            let all = (components(types, one), components(types, other));
            let types: Vec<&DataType> = types.iter().collect();
            matches!(all, (Some(one), Some(other)) if all_same(&types, &one, &other))
        }
        DataType::Duration => rewritten(data_type, one) == rewritten(data_type, other),
        _ => data_type.compare(one, other).is_eq(),
    }
}

/// Checks a value, if it is one.
fn check(data_type: &DataType, bytes: &Bytes) {
    if let Err(error) = validate(data_type, bytes) {
        assert!(!error.to_string().is_empty());
        return;
    }
    let again = rewritten(data_type, bytes);
    assert_eq!(rewritten(data_type, &again), again, "{data_type:?} {bytes:?}");
    assert!(validate(data_type, &again).is_ok(), "{data_type:?} {again:?}");
    assert!(is_same(data_type, bytes, &again), "{data_type:?} {bytes:?} and {again:?}");
    check_text(data_type, bytes);
    check_driver(data_type, bytes);
}

/// Its text is parsed as the same value.
fn check_text(data_type: &DataType, bytes: &Bytes) {
    let Some(text) = text::of(data_type, bytes) else { return };
    let statement = format!("INSERT INTO t (a) VALUES ({text})");
    let parsed = match parse(&statement) {
        Ok(parsed) => parsed.statement,
        Err(error) => panic!("{error}: {statement}, for the {data_type:?} {bytes:?}"),
    };
    let Statement::Modification(Modification::Insert(insert)) = parsed else { panic!("{statement}") };
    let read = value_of(&insert.values[0], data_type).flatten();
    let read = read.unwrap_or_else(|| panic!("{statement} has no {data_type:?}"));
    assert!(is_same(data_type, &read, bytes), "{statement} is {read:?}, for the {data_type:?} {bytes:?}");
}

/// The value of a term, as the simulated Cassandra makes it of constants; `Some(None)` for null, `None` if it has none.
fn value_of(term: &Term, data_type: &DataType) -> Option<Option<Bytes>> {
    let of = |term: &Term, data_type: &DataType| value_of(term, data_type).flatten();
    Some(Some(match (term, data_type) {
        (Term::Null, _) => return Some(None),
        (Term::Literal(kind, text), native) => {
            assert!(fits(*kind, native), "{kind:?} for {native:?}");
            value::parse(native, text).ok()?
        }
        (Term::List(terms), DataType::List(element)) | (Term::Set(terms), DataType::Set(element)) => {
            let all = terms.iter().map(|term| of(term, element)).collect::<Option<Vec<_>>>()?;
            collection(all.len(), &all)
        }
        (Term::Set(none), DataType::Map(..)) if none.is_empty() => collection(0, &[]),
        (Term::Map(entries), DataType::Map(key, value)) => {
            let entry = |(k, v): &(Term, Term)| Some([of(k, key)?, of(v, value)?]);
            let all = entries.iter().map(entry).collect::<Option<Vec<_>>>()?;
            collection(all.len(), &all.concat())
        }
        (Term::Tuple(terms), DataType::Tuple(types)) => {
            let all = terms.iter().zip(types).map(|(term, data_type)| value_of(term, data_type));
            list(&all.collect::<Option<Vec<_>>>()?).slice(4..)
        }
        _ => return None,
    }))
}

/// What the driver reads of it and writes is the same value.
fn check_driver(data_type: &DataType, bytes: &Bytes) {
    let of_driver = type_of_driver(data_type);
    // It does not read all that Cassandra does: no null in a list, no time beyond the day.
    let Ok(value) = CqlValue::deserialize(&of_driver, Some(FrameSlice::new(bytes))) else { return };
    let mut cell = Vec::new();
    if value.serialize(&of_driver, CellWriter::new(&mut cell)).is_err() {
        return;
    }
    let written = Bytes::from(cell).slice(4..);
    let is_same = is_same(data_type, &written, bytes);
    assert!(is_same, "the driver reads {value:?} and writes {written:?}, for the {data_type:?} {bytes:?}");
}
