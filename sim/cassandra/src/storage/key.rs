//! Partition keys and their place on the ring.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// A place on the ring: Murmur3 of the partition key, as Cassandra's partitioner computes it.
///
/// `i64::MIN` is no key's token; it is the beginning (and the end) of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub i64);

impl Token {
    /// Before every key.
    pub const MIN: Self = Self(i64::MIN);

    /// The token of a serialized partition key; of none, the beginning of the ring.
    pub fn of(key: &[u8]) -> Self {
        if key.is_empty() {
            return Self::MIN;
        }
        match murmur3(key) {
            // Cassandra keeps the smallest for the beginning of the ring.
            (i64::MIN, _) => Self(i64::MAX),
            (token, _) => Self(token),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition key with its token; ordered as partitions are: by token, then by bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecoratedKey {
    token: Token,
    key: Bytes,
}

impl DecoratedKey {
    /// A serialized partition key.
    pub fn new(key: Bytes) -> Self {
        Self { token: Token::of(&key), key }
    }

    /// A partition key of one or more columns. One column is serialized as it is; several each with a length of
    /// two bytes before and a zero after it (`CompositeType`). Components over 65535 bytes do not fit; the
    /// statement's planner refuses them.
    pub fn of_components(values: &[Bytes]) -> Self {
        match values {
            [value] => Self::new(value.clone()),
            values => {
                let mut key = BytesMut::new();
                for value in values {
                    key.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
                    key.put_slice(&value[..value.len().min(usize::from(u16::MAX))]);
                    key.put_u8(0);
                }
                Self::new(key.freeze())
            }
        }
    }

    /// The columns of a key that has this many; none if the bytes are not such a key.
    pub fn components(&self, columns: usize) -> Option<Vec<Bytes>> {
        if columns == 1 {
            return Some(vec![self.key.clone()]);
        }
        let mut rest = self.key.clone();
        let mut values = Vec::with_capacity(columns);
        while !rest.is_empty() {
            let length = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
            if rest.len() < length + 3 {
                return None;
            }
            values.push(rest.slice(2..2 + length));
            rest = rest.slice(length + 3..);
        }
        (values.len() == columns).then_some(values)
    }

    /// The place on the ring.
    pub fn token(&self) -> Token {
        self.token
    }

    /// The serialized key.
    pub fn bytes(&self) -> &Bytes {
        &self.key
    }
}

impl fmt::Debug for DecoratedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{}", self.key, self.token)
    }
}

/// Both halves of Murmur3 of these parts one after another, each with its length: an identity that is the same in
/// every process. Not for secrets.
pub fn fingerprint(parts: &[&[u8]]) -> u128 {
    let mut all = BytesMut::new();
    for part in parts {
        all.put_u64(part.len() as u64);
        all.put_slice(part);
    }
    let (high, low) = murmur3(&all);
    (u128::from(high as u64) << 64) | u128::from(low as u64)
}

/// Murmur3 (x64, 128 bits, seed 0) as Cassandra has it: the bytes of the tail are taken as signed
/// (`MurmurHash.hash3_x64_128`), so that bytes of 128 and more give another result than the original algorithm.
fn murmur3(data: &[u8]) -> (i64, i64) {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    let mut h1 = 0u64;
    let mut h2 = 0u64;
    let (blocks, tail) = data.as_chunks::<16>();
    for block in blocks {
        let whole = u128::from_le_bytes(*block);
        let k1 = whole as u64;
        let k2 = (whole >> 64) as u64;
        h1 ^= k1.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
        h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 ^= k2.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
        h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let signed = |part: &[u8]| {
        part.iter().enumerate().fold(0u64, |sum, (at, byte)| sum ^ ((*byte as i8 as i64 as u64) << (8 * at)))
    };
    if tail.len() > 8 {
        h2 ^= signed(&tail[8..]).wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    }
    if !tail.is_empty() {
        h1 ^= signed(&tail[..tail.len().min(8)]).wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    }
    h1 ^= data.len() as u64;
    h2 ^= data.len() as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    h1 = mix(h1);
    h2 = mix(h2);
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    (h1 as i64, h2 as i64)
}

fn mix(mut k: u64) -> u64 {
    k ^= k >> 33;
    k = k.wrapping_mul(0xff51_afd7_ed55_8ccd);
    k ^= k >> 33;
    k = k.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ (k >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_that_drivers_compute() {
        // From the tests of the Rust driver's partitioner; the last has bytes of 128 and more.
        for (key, token) in [
            ("test", -6017608668500074083),
            ("xd", 4507812186440344727),
            ("primary_key", -1632642444691073360),
            ("kremówki", 4354931215268080151),
        ] {
            assert_eq!(Token::of(key.as_bytes()), Token(token), "{key}");
        }
    }

    #[test]
    fn a_key_of_several_columns_gives_them_back() {
        let values = [Bytes::from_static(b"a"), Bytes::new(), Bytes::from_static(b"\0b")];
        let key = DecoratedKey::of_components(&values);
        assert_eq!(key.bytes(), &b"\0\x01a\0\0\0\0\0\x02\0b\0"[..]);
        assert_eq!(key.components(3), Some(values.to_vec()));
        assert_eq!(key.components(2), None);
        assert_eq!(DecoratedKey::new(Bytes::from_static(b"\0\x09a")).components(2), None);
    }
}
