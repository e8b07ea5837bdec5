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
}

impl DataType {
    /// The order of two serialized values of this type. Empty values come first.
    pub fn compare(&self, left: &[u8], right: &[u8]) -> Ordering {
        left.cmp(right)
    }
}
