//! Functions of all rows.

use bytes::Bytes;
use num_bigint::BigInt;

use crate::cql::value::whole;
use crate::protocol::ServerError;
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

/// The state of an aggregate.
#[derive(Clone, Debug)]
pub(super) struct State {
    aggregate: Aggregate,
    data_type: DataType,
    count: i64,
    best: Option<Bytes>,
    /// The sum; of decimals the average so far, if that is requested.
    whole: BigInt,
    /// Digits of `whole` behind the point.
    scale: i64,
    float: f64,
}

/// The most digits that a sum of decimals may have before or behind the point: with scales of 32 bits, two short
/// values can make a sum of four billion.
const MAX_DIGITS: i64 = 10_000;

impl State {
    /// Nothing seen, of values of this type.
    pub fn new(aggregate: Aggregate, data_type: DataType) -> State {
        State { aggregate, data_type, count: 0, best: None, whole: BigInt::default(), scale: 0, float: 0.0 }
    }

    /// Adds a value; nulls are ignored.
    ///
    /// # Errors
    /// If a sum of decimals gets too long.
    pub fn add(&mut self, value: Option<&Bytes>) -> Result<(), ServerError> {
        let Some(value) = value else { return Ok(()) };
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
                DataType::Decimal => self.add_decimal(value)?,
                DataType::VarInt => self.whole += BigInt::from_signed_bytes_be(value),
                _ => self.whole += whole(value).unwrap_or_default(),
            },
        }
        Ok(())
    }

    fn add_decimal(&mut self, value: &Bytes) -> Result<(), ServerError> {
        let Some((scale, unscaled)) = value.split_first_chunk::<4>() else { return Ok(()) };
        let scale = i64::from(i32::from_be_bytes(*scale));
        let mut number = BigInt::from_signed_bytes_be(unscaled);
        // The result has the greater scale, as `BigDecimal.add` has it.
        let missing = scale - self.scale;
        if missing.abs() > MAX_DIGITS {
            return Err(ServerError::invalid(format!(
                "a sum of decimals of more than {MAX_DIGITS} digits is not simulated"
            )));
        }
        let factor = BigInt::from(10).pow(u32::try_from(missing.abs()).unwrap_or_default());
        if missing > 0 {
            self.whole *= factor;
            self.scale = scale;
        } else {
            number *= factor;
        }
        if self.aggregate == Aggregate::Avg {
            // Each step is rounded, so the average depends on the order of the rows (AggregateFcts).
            number = half_even(&(number - &self.whole), self.count);
        }
        self.whole += number;
        Ok(())
    }

    /// The result. Sums that do not fit wrap around, as in Cassandra.
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
        let decimal = |unscaled: BigInt| {
            let scale = i32::try_from(self.scale).unwrap_or_default();
            let bytes = [&scale.to_be_bytes()[..], &unscaled.to_signed_bytes_be()].concat();
            Some(Bytes::from(bytes))
        };
        if self.data_type == DataType::Decimal {
            match self.aggregate {
                Aggregate::Sum | Aggregate::Avg => return decimal(self.whole.clone()),
                Aggregate::Count | Aggregate::Min | Aggregate::Max => {}
            }
        }
        let is_float = matches!(self.data_type, DataType::Float | DataType::Double);
        match self.aggregate {
            Aggregate::Count => Some(Bytes::copy_from_slice(&self.count.to_be_bytes())),
            Aggregate::Min | Aggregate::Max => self.best.clone(),
            Aggregate::Sum if is_float => Some(float(self.float)),
            Aggregate::Sum => Some(number(self.whole.clone())),
            Aggregate::Avg if is_float => {
                Some(float(if self.count == 0 { 0.0 } else { self.float / self.count as f64 }))
            }
            // Rounded towards zero; 0 without values.
            Aggregate::Avg => Some(number(if self.count == 0 {
                BigInt::default()
            } else {
                &self.whole / BigInt::from(self.count)
            })),
        }
    }
}

/// A quotient, rounded to the nearest; halfway to the even one.
fn half_even(number: &BigInt, divisor: i64) -> BigInt {
    let divisor = BigInt::from(divisor);
    let (quotient, rest) = (number / &divisor, number % &divisor);
    let twice = BigInt::from(rest.magnitude().clone()) * 2;
    let is_odd = quotient.bit(0);
    if twice > divisor || (twice == divisor && is_odd) {
        let step = if rest.sign() == num_bigint::Sign::Minus { -1 } else { 1 };
        quotient + step
    } else {
        quotient
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_ints(aggregate: Aggregate, values: &[i32]) -> Option<i32> {
        let mut state = State::new(aggregate, DataType::Int);
        for value in values {
            state.add(Some(&Bytes::copy_from_slice(&value.to_be_bytes()))).unwrap();
        }
        state.add(None).unwrap();
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

    /// A decimal: digits, and how many of them are behind the point.
    fn decimal(digits: i64, scale: i32) -> Bytes {
        [&scale.to_be_bytes()[..], &BigInt::from(digits).to_signed_bytes_be()].concat().into()
    }

    #[test]
    fn decimals_keep_the_greatest_scale_and_averages_round_each_step_half_to_even() {
        let of = |aggregate, values: &[(i64, i32)]| {
            let mut state = State::new(aggregate, DataType::Decimal);
            values.iter().for_each(|(digits, scale)| state.add(Some(&decimal(*digits, *scale))).unwrap());
            state.finish().unwrap()
        };
        assert_eq!(of(Aggregate::Sum, &[(15, 1), (150, 2)]), decimal(300, 2));
        assert_eq!(of(Aggregate::Sum, &[(-3, -2)]), decimal(-300, 0), "the sum begins with 0 of scale 0");
        assert_eq!(of(Aggregate::Sum, &[]), decimal(0, 0));
        assert_eq!(of(Aggregate::Avg, &[(0, 1), (5, 1)]), decimal(2, 1), "0 + 0.25 is 0 + 0.2");
        assert_eq!(of(Aggregate::Avg, &[(5, 1), (0, 1)]), decimal(3, 1), "0.5 - 0.25 is 0.5 - 0.2");
        assert_eq!(of(Aggregate::Avg, &[(0, 1), (-7, 1)]), decimal(-4, 1), "0 - 0.35 is 0 - 0.4");
        assert_eq!(of(Aggregate::Avg, &[]), decimal(0, 0));
    }

    #[test]
    fn a_sum_of_two_short_decimals_cannot_take_all_memory() {
        let mut state = State::new(Aggregate::Sum, DataType::Decimal);
        state.add(Some(&decimal(1, 0))).unwrap();
        for scale in [i32::MIN, i32::MAX] {
            let error = state.add(Some(&decimal(1, scale))).unwrap_err();
            assert!(error.to_string().contains("not simulated"), "{error}");
        }
    }

    #[test]
    fn the_least_and_the_greatest_are_by_the_type_and_not_by_bytes() {
        assert_eq!(of_ints(Aggregate::Min, &[3, -1, 2]), Some(-1));
        assert_eq!(of_ints(Aggregate::Max, &[3, -1, 2]), Some(3));
        assert_eq!(of_ints(Aggregate::Max, &[]), None);
    }
}
