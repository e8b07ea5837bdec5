//! Functions of all rows.

use bytes::Bytes;
use num_bigint::BigInt;

use crate::cql::value::whole;
use crate::types::DataType;

/// A function of all rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aggregate {
    /// `count(*)`, `count(1)`: rows; `count(a)`: those where it is not null.
    Count,
    /// `min(a)`
    Min,
    /// `max(a)`
    Max,
    /// `sum(a)`
    Sum,
    /// `avg(a)`
    Avg,
}

impl Aggregate {
    /// The types that `sum` and `avg` take, as errors name them.
    pub const NUMBERS: [&str; 9] =
        ["tinyint", "smallint", "int", "bigint", "counter", "float", "double", "varint", "decimal"];

    /// The function of this name.
    pub fn named(name: &str) -> Option<Aggregate> {
        Some(match name {
            "count" => Aggregate::Count,
            "min" => Aggregate::Min,
            "max" => Aggregate::Max,
            "sum" => Aggregate::Sum,
            "avg" => Aggregate::Avg,
            _ => return None,
        })
    }

    /// Its type for values of this type, if it takes them.
    pub fn returns(self, data_type: &DataType) -> Option<DataType> {
        match self {
            Aggregate::Count => Some(DataType::BigInt),
            Aggregate::Min | Aggregate::Max => Some(data_type.clone()),
            Aggregate::Sum | Aggregate::Avg => match data_type {
                DataType::TinyInt
                | DataType::SmallInt
                | DataType::Int
                | DataType::BigInt
                | DataType::Float
                | DataType::Double
                | DataType::VarInt
                | DataType::Decimal => Some(data_type.clone()),
                _ => None,
            },
        }
    }
}

/// What an aggregate has seen so far.
#[derive(Clone, Debug)]
pub(super) struct State {
    aggregate: Aggregate,
    data_type: DataType,
    count: i64,
    best: Option<Bytes>,
    whole: BigInt,
    float: f64,
}

impl State {
    /// Nothing seen, of values of this type.
    pub fn new(aggregate: Aggregate, data_type: DataType) -> State {
        State { aggregate, data_type, count: 0, best: None, whole: BigInt::default(), float: 0.0 }
    }

    /// Sees a value; a null counts for nothing.
    pub fn add(&mut self, value: Option<&Bytes>) {
        let Some(value) = value else { return };
        self.count += 1;
        match self.aggregate {
            Aggregate::Count => {}
            Aggregate::Min | Aggregate::Max => {
                let better = self.best.as_ref().is_none_or(|best| {
                    let order = self.data_type.compare(value, best);
                    if self.aggregate == Aggregate::Min { order.is_lt() } else { order.is_gt() }
                });
                if better {
                    self.best = Some(value.clone());
                }
            }
            Aggregate::Sum | Aggregate::Avg => match self.data_type {
                DataType::Float => {
                    let value = value.as_ref().try_into().map_or(0.0, f32::from_be_bytes);
                    self.float += f64::from(value);
                }
                DataType::Double => self.float += value.as_ref().try_into().map_or(0.0, f64::from_be_bytes),
                DataType::VarInt => self.whole += BigInt::from_signed_bytes_be(value),
                _ => self.whole += whole(value).unwrap_or_default(),
            },
        }
    }

    /// What it comes to. Sums that do not fit wrap around, as in Cassandra.
    pub fn finish(self) -> Option<Bytes> {
        let number = |number: BigInt| {
            // The low eight bytes, in two's complement.
            let bytes = number.to_signed_bytes_be();
            let fill = if number.sign() == num_bigint::Sign::Minus { 0xff } else { 0 };
            let mut low = [fill; 8];
            for (to, from) in low.iter_mut().rev().zip(bytes.iter().rev()) {
                *to = *from;
            }
            let low = i64::from_be_bytes(low);
            match self.data_type {
                DataType::TinyInt => Bytes::copy_from_slice(&(low as i8).to_be_bytes()),
                DataType::SmallInt => Bytes::copy_from_slice(&(low as i16).to_be_bytes()),
                DataType::Int => Bytes::copy_from_slice(&(low as i32).to_be_bytes()),
                DataType::VarInt => Bytes::from(bytes),
                _ => Bytes::copy_from_slice(&low.to_be_bytes()),
            }
        };
        let float = |value: f64| match self.data_type {
            DataType::Float => Bytes::copy_from_slice(&(value as f32).to_be_bytes()),
            _ => Bytes::copy_from_slice(&value.to_be_bytes()),
        };
        let is_float = matches!(self.data_type, DataType::Float | DataType::Double);
        match self.aggregate {
            Aggregate::Count => Some(Bytes::copy_from_slice(&self.count.to_be_bytes())),
            Aggregate::Min | Aggregate::Max => self.best.clone(),
            Aggregate::Sum if is_float => Some(float(self.float)),
            Aggregate::Sum => Some(number(self.whole.clone())),
            Aggregate::Avg if is_float => {
                Some(float(if self.count == 0 { 0.0 } else { self.float / self.count as f64 }))
            }
            // Rounded towards zero; of nothing it is 0.
            Aggregate::Avg => Some(number(if self.count == 0 {
                BigInt::default()
            } else {
                &self.whole / BigInt::from(self.count)
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_ints(aggregate: Aggregate, values: &[i32]) -> Option<i32> {
        let mut state = State::new(aggregate, DataType::Int);
        for value in values {
            state.add(Some(&Bytes::copy_from_slice(&value.to_be_bytes())));
        }
        state.add(None);
        state.finish().map(|bytes| i32::from_be_bytes(bytes.as_ref().try_into().unwrap()))
    }

    #[test]
    fn sums_wrap_and_averages_round_towards_zero() {
        assert_eq!(of_ints(Aggregate::Sum, &[i32::MAX, 1]), Some(i32::MIN));
        assert_eq!(of_ints(Aggregate::Sum, &[]), Some(0));
        assert_eq!(of_ints(Aggregate::Avg, &[-3, -4]), Some(-3));
        assert_eq!(of_ints(Aggregate::Avg, &[]), Some(0));
        assert_eq!(of_ints(Aggregate::Sum, &[-5, 3]), Some(-2));
    }

    #[test]
    fn the_least_and_the_greatest_are_by_the_type_and_not_by_bytes() {
        assert_eq!(of_ints(Aggregate::Min, &[3, -1, 2]), Some(-1));
        assert_eq!(of_ints(Aggregate::Max, &[3, -1, 2]), Some(3));
        assert_eq!(of_ints(Aggregate::Max, &[]), None);
    }
}
