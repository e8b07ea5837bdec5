//! The native types of CQL, and the order of their serialized values.

use std::cmp::Ordering;

/// The type of a column's values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DataType {
    /// ASCII text.
    Ascii,
    /// A signed integer of 8 bytes.
    BigInt,
    /// Bytes.
    Blob,
    /// True or false.
    Boolean,
    /// A counter. Known by name, so that it can be refused.
    Counter,
    /// Days, with 2^31 as 1970-01-01.
    Date,
    /// A varint scaled by a power of ten.
    Decimal,
    /// A floating-point number of 8 bytes.
    Double,
    /// Months, days and nanoseconds.
    Duration,
    /// A floating-point number of 4 bytes.
    Float,
    /// An IP address, of 4 or 16 bytes.
    Inet,
    /// A signed integer of 4 bytes.
    Int,
    /// A signed integer of 2 bytes.
    SmallInt,
    /// UTF-8 text; `varchar` is the same.
    Text,
    /// Nanoseconds since midnight.
    Time,
    /// Milliseconds since 1970.
    Timestamp,
    /// A UUID of version 1.
    TimeUuid,
    /// A signed integer of 1 byte.
    TinyInt,
    /// A UUID.
    Uuid,
    /// A signed integer of any size.
    VarInt,
    /// A frozen list.
    List(Box<DataType>),
    /// A frozen set.
    Set(Box<DataType>),
    /// A frozen map.
    Map(Box<DataType>, Box<DataType>),
    /// A tuple: the type of a marker for several columns. No column has this type.
    Tuple(Vec<DataType>),
}

impl DataType {
    /// Whether a value of another type is allowed where this one is required: any value of that type is one of this
    /// (`AbstractType.isValueCompatibleWith`).
    pub fn takes(&self, other: &DataType) -> bool {
        self == other
            || matches!(
                (self, other),
                (Self::Blob, _)
                    | (Self::Text, Self::Ascii)
                    | (Self::Uuid, Self::TimeUuid)
                    | (Self::VarInt, Self::Int | Self::BigInt | Self::Timestamp)
                    | (Self::BigInt, Self::Timestamp)
                    | (Self::Timestamp | Self::Time, Self::BigInt)
                    | (Self::Date, Self::Int)
            )
    }

    /// Whether cells that were written as another type are values of this one, as long ones as it has
    /// (`AbstractType.isSerializationCompatibleWith`).
    pub fn reads_cells_of(&self, other: &DataType) -> bool {
        match (self, other) {
            (Self::List(element), Self::List(before)) => {
                element.takes(before) && element.reads_cells_of(before)
            }
            (Self::Set(element), Self::Set(before)) => element.is_ordered_as(before),
            (Self::Map(key, value), Self::Map(key_before, value_before)) => {
                key.is_ordered_as(key_before)
                    && value.takes(value_before)
                    && value.reads_cells_of(value_before)
            }
            _ => self.takes(other) && self.fixed_length() == other.fixed_length(),
        }
    }

    /// Whether values of another type are values of this one, in the same order (`AbstractType.isCompatibleWith`).
    fn is_ordered_as(&self, other: &DataType) -> bool {
        self == other
            || matches!((self, other), (Self::Text, Self::Ascii) | (Self::Blob, Self::Ascii | Self::Text))
    }

    /// The bytes that each value has, where Cassandra counts on it (`AbstractType.valueLengthIfFixed`).
    fn fixed_length(&self) -> Option<usize> {
        match self {
            Self::Boolean => Some(1),
            Self::Float | Self::Int => Some(4),
            Self::BigInt | Self::Double | Self::Timestamp => Some(8),
            Self::TimeUuid | Self::Uuid => Some(16),
            _ => None,
        }
    }

    /// The order of two serialized values of this type, as Cassandra's `AbstractType.compare`. Empty values come
    /// first. Bytes that are no value of the type are compared as bytes.
    pub fn compare(&self, left: &[u8], right: &[u8]) -> Ordering {
        if left.is_empty() || right.is_empty() {
            return left.len().cmp(&right.len());
        }
        match self {
            Self::Ascii | Self::Blob | Self::Date | Self::Duration | Self::Inet | Self::Text | Self::Time => {
                left.cmp(right)
            }
            Self::Boolean => (left[0] != 0).cmp(&(right[0] != 0)),
            // Longer ones are possible, and no different: `ByteType` looks at one byte.
            Self::TinyInt => (left[0] ^ 0x80).cmp(&(right[0] ^ 0x80)),
            Self::BigInt | Self::Counter | Self::Int | Self::SmallInt | Self::Timestamp => {
                // Two's complement: flipping the sign bit makes the order that of the bytes.
                (left[0] ^ 0x80).cmp(&(right[0] ^ 0x80)).then_with(|| left[1..].cmp(&right[1..]))
            }
            Self::VarInt => compare_integers(left, right),
            Self::Decimal => match (Decimal::read(left), Decimal::read(right)) {
                (Some(left), Some(right)) => left.compare(&right),
                _ => left.cmp(right),
            },
            Self::Double => match (left.try_into(), right.try_into()) {
                (Ok(left), Ok(right)) => compare_floats(f64::from_be_bytes(left), f64::from_be_bytes(right)),
                _ => left.cmp(right),
            },
            Self::Float => match (left.try_into(), right.try_into()) {
                (Ok(left), Ok(right)) => {
                    compare_floats(f32::from_be_bytes(left).into(), f32::from_be_bytes(right).into())
                }
                _ => left.cmp(right),
            },
            Self::Uuid => match (left.try_into(), right.try_into()) {
                (Ok(left), Ok(right)) => compare_uuids(u128::from_be_bytes(left), u128::from_be_bytes(right)),
                _ => left.cmp(right),
            },
            Self::TimeUuid => match (left.try_into(), right.try_into()) {
                (Ok(left), Ok(right)) => {
                    compare_time_uuids(u128::from_be_bytes(left), u128::from_be_bytes(right))
                }
                _ => left.cmp(right),
            },
            Self::List(element) | Self::Set(element) => compare_collections(&[element], left, right),
            Self::Map(key, value) => compare_collections(&[key, value], left, right),
            Self::Tuple(_) => left.cmp(right),
        }
    }
}

/// Java's `Double.compare`: NaN is equal to itself and above all, and -0.0 is below 0.0.
fn compare_floats(left: f64, right: f64) -> Ordering {
    match (left.is_nan(), right.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => left.total_cmp(&right),
    }
}

/// Signed big-endian integers of any length.
fn compare_integers(left: &[u8], right: &[u8]) -> Ordering {
    let (left, right) = (shortest(left), shortest(right));
    let (left_negative, right_negative) = (left[0] & 0x80 != 0, right[0] & 0x80 != 0);
    match (left_negative, right_negative) {
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        // Of two without superfluous bytes the longer has the greater magnitude.
        (false, false) => left.len().cmp(&right.len()).then_with(|| left.cmp(right)),
        (true, true) => right.len().cmp(&left.len()).then_with(|| left.cmp(right)),
    }
}

/// A signed big-endian integer without the bytes that only repeat its sign.
fn shortest(mut value: &[u8]) -> &[u8] {
    while let [first, second, ..] = value {
        let superfluous = (*first == 0 && second & 0x80 == 0) || (*first == 0xff && second & 0x80 != 0);
        if !superfluous {
            break;
        }
        value = &value[1..];
    }
    value
}

/// A decimal as a sign, a power of ten and digits, so that scales need not be made equal (they can be huge).
struct Decimal {
    negative: bool,
    /// The digits without leading and trailing zeros; none for zero.
    digits: Vec<u8>,
    /// The number is `0.digits` times ten to this.
    exponent: i64,
}

impl Decimal {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (scale, unscaled) = bytes.split_first_chunk::<4>()?;
        let negative = unscaled.first()? & 0x80 != 0;
        let mut magnitude = unscaled.to_vec();
        if negative {
            let mut carry = true;
            for byte in magnitude.iter_mut().rev() {
                (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
            }
        }
        let mut digits = Vec::new();
        while magnitude.iter().any(|byte| *byte != 0) {
            let mut remainder = 0u32;
            for byte in &mut magnitude {
                let value = (remainder << 8) | u32::from(*byte);
                *byte = (value / 10) as u8;
                remainder = value % 10;
            }
            digits.push(remainder as u8);
        }
        let exponent = digits.len() as i64 - i64::from(i32::from_be_bytes(*scale));
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        digits.drain(..zeros);
        digits.reverse();
        Some(Self { negative, digits, exponent })
    }

    fn compare(&self, other: &Self) -> Ordering {
        let sign = |number: &Self| match (number.digits.is_empty(), number.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        let (left, right) = (sign(self), sign(other));
        if left != right || left == 0 {
            return left.cmp(&right);
        }
        let magnitude = self.exponent.cmp(&other.exponent).then_with(|| self.digits.cmp(&other.digits));
        if left < 0 { magnitude.reverse() } else { magnitude }
    }
}

/// `UUIDType`: by version; time-based ones by time; then by bytes.
fn compare_uuids(left: u128, right: u128) -> Ordering {
    let version = |uuid: u128| (uuid >> 76) & 0xf;
    version(left).cmp(&version(right)).then_with(|| {
        if version(left) == 1 {
            uuid_time(left).cmp(&uuid_time(right)).then((left as u64).cmp(&(right as u64)))
        } else {
            left.cmp(&right)
        }
    })
}

/// `TimeUUIDType`: by time, then by the other bytes as signed ones.
fn compare_time_uuids(left: u128, right: u128) -> Ordering {
    let signed = |uuid: u128| (uuid as u64 ^ 0x8080_8080_8080_8080).to_be_bytes();
    uuid_time(left).cmp(&uuid_time(right)).then_with(|| signed(left).cmp(&signed(right)))
}

/// The timestamp in a time-based UUID, with the version in its highest bits, as Cassandra compares it.
fn uuid_time(uuid: u128) -> u64 {
    let high = (uuid >> 64) as u64;
    (high << 48) | ((high << 16) & 0xffff_0000_0000) | (high >> 32)
}

/// Collections of elements of these types in turn: element by element, then by number.
fn compare_collections(types: &[&DataType], left: &[u8], right: &[u8]) -> Ordering {
    let (Some((left_count, mut left)), Some((right_count, mut right))) =
        (left.split_first_chunk::<4>(), right.split_first_chunk::<4>())
    else {
        return left.cmp(right);
    };
    for data_type in types.iter().cycle() {
        match (element(&mut left), element(&mut right)) {
            (Some(left), Some(right)) => {
                let order = data_type.compare(left, right);
                if order.is_ne() {
                    return order;
                }
            }
            _ => break,
        }
    }
    i32::from_be_bytes(*left_count).cmp(&i32::from_be_bytes(*right_count))
}

/// Takes the next element of a collection, if there is one.
fn element<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
    let value = after.get(..length)?;
    *rest = &after[length..];
    Some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn varint(value: i64) -> Vec<u8> {
        shortest(&value.to_be_bytes()).to_vec()
    }

    fn decimal(unscaled: i64, scale: i32) -> Vec<u8> {
        [scale.to_be_bytes().to_vec(), varint(unscaled)].concat()
    }

    fn list(values: &[i32]) -> Vec<u8> {
        let mut bytes = (values.len() as i32).to_be_bytes().to_vec();
        for value in values {
            bytes.extend(4i32.to_be_bytes());
            bytes.extend(value.to_be_bytes());
        }
        bytes
    }

    proptest! {
        #[test]
        fn integers_of_any_length_are_ordered_as_numbers(left: i64, right: i64, shift in 0u32..64) {
            let (left, right) = (left >> shift, right >> (63 - shift));
            prop_assert_eq!(DataType::VarInt.compare(&varint(left), &varint(right)), left.cmp(&right));
            prop_assert_eq!(
                DataType::BigInt.compare(&left.to_be_bytes(), &right.to_be_bytes()),
                left.cmp(&right)
            );
        }

        #[test]
        fn decimals_are_ordered_as_numbers_whatever_their_scale(
            left in -2000i64..2000, left_scale in -2i32..3, right in -2000i64..2000, right_scale in -2i32..3,
        ) {
            let number = |unscaled: i64, scale: i32| unscaled * 10i64.pow((3 - scale) as u32);
            prop_assert_eq!(
                DataType::Decimal.compare(&decimal(left, left_scale), &decimal(right, right_scale)),
                number(left, left_scale).cmp(&number(right, right_scale))
            );
        }

        #[test]
        fn lists_are_ordered_element_by_element(
            left in prop::collection::vec(-3i32..3, 0..4), right in prop::collection::vec(-3i32..3, 0..4),
        ) {
            let ints = DataType::List(Box::new(DataType::Int));
            prop_assert_eq!(ints.compare(&list(&left), &list(&right)), left.cmp(&right));
        }

        #[test]
        fn every_type_orders_any_bytes_both_ways_alike(
            left in prop::collection::vec(any::<u8>(), 0..20), right in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let types = [
                DataType::Boolean, DataType::Date, DataType::Decimal, DataType::Double, DataType::Float,
                DataType::Inet, DataType::Int, DataType::Text, DataType::TimeUuid, DataType::Uuid,
                DataType::VarInt, DataType::List(Box::new(DataType::Text)),
                DataType::Map(Box::new(DataType::Int), Box::new(DataType::Decimal)),
            ];
            for data_type in types {
                prop_assert_eq!(data_type.compare(&left, &right), data_type.compare(&right, &left).reverse());
                prop_assert_eq!(data_type.compare(&left, &left), Ordering::Equal);
            }
        }
    }

    #[test]
    fn time_uuids_are_ordered_by_time_first() {
        // The low bits of the time come first in the bytes.
        let early = 0xffff_ffff_0000_1000_8000_0000_0000_0000_u128.to_be_bytes();
        let late = 0x0000_0000_0001_1000_8000_0000_0000_0000_u128.to_be_bytes();
        assert_eq!(DataType::TimeUuid.compare(&early, &late), Ordering::Less);
        assert_eq!(DataType::Uuid.compare(&early, &late), Ordering::Less);
        let negative = 0x0000_0000_0001_1000_8000_0000_0000_00ff_u128.to_be_bytes();
        assert_eq!(DataType::TimeUuid.compare(&negative, &late), Ordering::Less, "bytes are signed here");
        assert_eq!(DataType::Uuid.compare(&negative, &late), Ordering::Greater);
    }

    #[test]
    fn not_a_number_is_above_all_numbers() {
        let nan = f64::NAN.to_be_bytes();
        let negative_nan = (-f64::NAN).to_be_bytes();
        assert_eq!(DataType::Double.compare(&nan, &f64::INFINITY.to_be_bytes()), Ordering::Greater);
        assert_eq!(DataType::Double.compare(&negative_nan, &nan), Ordering::Equal);
        assert_eq!(DataType::Double.compare(&(-0.0f64).to_be_bytes(), &0.0f64.to_be_bytes()), Ordering::Less);
    }
}
