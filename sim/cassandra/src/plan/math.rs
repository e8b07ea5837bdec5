//! `abs`, `exp`, `log`, `log10` and `round`, as `NumberType` of Cassandra 5.0 has them.

use bytes::Bytes;
use num_bigint::BigInt;

use crate::coordinator::RequestError;
use crate::cql::type_name;
use crate::cql::value::whole;
use crate::protocol::ServerError;
use crate::types::DataType;

/// The types of numbers, in no order that matters.
pub(super) const NUMBERS: [DataType; 8] = [
    DataType::Double,
    DataType::SmallInt,
    DataType::Float,
    DataType::Int,
    DataType::Decimal,
    DataType::TinyInt,
    DataType::VarInt,
    DataType::BigInt,
];

/// The most digits that a decimal is written out with.
const MAX_DIGITS: i64 = 100_000;

/// A function of a number, with a result of the same type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Math {
    Abs,
    Exp,
    Log,
    Log10,
    Round,
}

impl Math {
    pub(super) fn named(name: &str) -> Option<Math> {
        Some(match name {
            "abs" => Math::Abs,
            "exp" => Math::Exp,
            "log" => Math::Log,
            "log10" => Math::Log10,
            "round" => Math::Round,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Math::Abs => "abs",
            Math::Exp => "exp",
            Math::Log => "log",
            Math::Log10 => "log10",
            Math::Round => "round",
        }
    }

    /// Its value for a number of this type; none for an empty one.
    pub(super) fn call(self, data_type: &DataType, bytes: &Bytes) -> Result<Option<Bytes>, ServerError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let fixed = |bytes: &[u8]| Ok(Some(Bytes::copy_from_slice(bytes)));
        match data_type {
            DataType::Double => {
                let number = f64::from_be_bytes(bytes.as_ref().try_into().map_err(|_| broken(data_type))?);
                fixed(&self.of_double(number).to_be_bytes())
            }
            DataType::Float => {
                let number = f32::from_be_bytes(bytes.as_ref().try_into().map_err(|_| broken(data_type))?);
                let result = match self {
                    Math::Abs => number.abs(),
                    // `Math.round(float)` is an int.
                    Math::Round => half_up(f64::from(number)) as i32 as f32,
                    _ => self.of_double(f64::from(number)) as f32,
                };
                fixed(&result.to_be_bytes())
            }
            DataType::Decimal | DataType::VarInt => self.of_digits(data_type, bytes).map(Some),
            _ => {
                let number = whole(bytes).ok_or_else(|| broken(data_type))?;
                match (self, data_type) {
                    (Math::Abs, DataType::TinyInt) => fixed(&(number as i8).wrapping_abs().to_be_bytes()),
                    (Math::Abs, DataType::SmallInt) => fixed(&(number as i16).wrapping_abs().to_be_bytes()),
                    (Math::Abs, DataType::Int) => fixed(&(number as i32).wrapping_abs().to_be_bytes()),
                    (Math::Abs, _) => fixed(&number.wrapping_abs().to_be_bytes()),
                    (Math::Round, _) => Ok(Some(bytes.clone())),
                    // Of what does not fit a cast keeps the limit, and of an int the low bits.
                    (_, DataType::TinyInt) => {
                        fixed(&(self.of_double(number as f64) as i32 as i8).to_be_bytes())
                    }
                    (_, DataType::SmallInt) => {
                        fixed(&(self.of_double(number as f64) as i32 as i16).to_be_bytes())
                    }
                    (_, DataType::Int) => fixed(&(self.of_double(number as f64) as i32).to_be_bytes()),
                    (..) => fixed(&(self.of_double(number as f64) as i64).to_be_bytes()),
                }
            }
        }
    }

    fn of_double(self, number: f64) -> f64 {
        match self {
            Math::Abs => number.abs(),
            Math::Exp => libm::exp(number),
            Math::Log => not_a_number(number, libm::log(number)),
            Math::Log10 => not_a_number(number, libm::log10(number)),
            Math::Round => half_up(number) as i64 as f64,
        }
    }

    /// Of a varint, or of a decimal: its scale before its digits.
    fn of_digits(self, data_type: &DataType, bytes: &Bytes) -> Result<Bytes, ServerError> {
        let (scale, unscaled) = match data_type {
            DataType::Decimal => match bytes.split_first_chunk::<4>() {
                Some((_, [])) => {
                    return Err(RequestError::internal_error(
                        "NumberFormatException: Zero length BigInteger",
                    )
                    .into());
                }
                Some((scale, digits)) => (i64::from(i32::from_be_bytes(*scale)), digits),
                None => return Err(broken(data_type)),
            },
            _ => (0, bytes.as_ref()),
        };
        let number = BigInt::from_signed_bytes_be(unscaled);
        let is_positive = number.sign() == num_bigint::Sign::Plus;
        let result = match self {
            Math::Abs => (scale, BigInt::from(number.magnitude().clone())),
            Math::Round if scale == 0 => (0, number),
            Math::Round if scale.abs() > MAX_DIGITS => {
                return Err(ServerError::invalid(format!(
                    "rounding a decimal of more than {MAX_DIGITS} digits is not simulated"
                )));
            }
            Math::Round => {
                let factor = BigInt::from(10).pow(u32::try_from(scale.abs()).unwrap_or_default());
                if scale < 0 {
                    (0, number * factor)
                } else {
                    // Half of it, away from zero.
                    let half = &factor / 2;
                    (0, if is_positive { (number + half) / factor } else { (number - half) / factor })
                }
            }
            Math::Log | Math::Log10 if !is_positive => {
                let name = if self == Math::Log { "Natural log" } else { "Log10" };
                let exception = format!("ArithmeticException: {name} of number zero or less");
                return Err(RequestError::internal_error(&exception).into());
            }
            Math::Exp | Math::Log | Math::Log10 => {
                return Err(ServerError::invalid(format!(
                    "{} of a {} is not simulated",
                    self.name(),
                    type_name(data_type)
                )));
            }
        };
        let digits = result.1.to_signed_bytes_be();
        if *data_type == DataType::VarInt {
            return Ok(Bytes::from(digits));
        }
        let scale = i32::try_from(result.0).unwrap_or_default();
        Ok(Bytes::from([&scale.to_be_bytes()[..], &digits].concat()))
    }
}

/// The result for an argument without a logarithm: Java has another not-a-number for it on the machines that it is compared with.
fn not_a_number(number: f64, result: f64) -> f64 {
    if number < 0.0 { f64::from_bits(0xfff8_0000_0000_0000) } else { result }
}

/// `Math.round`: to the nearest whole number, with ties rounded up; 0 for not-a-number.
fn half_up(number: f64) -> f64 {
    let below = number.floor();
    if number - below >= 0.5 { below + 1.0 } else { below }
}

/// Stored values have been checked, so none is like this.
fn broken(data_type: &DataType) -> ServerError {
    ServerError::invalid(format!("a {} of the wrong length", type_name(data_type)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(math: Math, number: f64) -> f64 {
        let bytes = Bytes::copy_from_slice(&number.to_be_bytes());
        let bytes = math.call(&DataType::Double, &bytes).unwrap().unwrap();
        f64::from_be_bytes(bytes.as_ref().try_into().unwrap())
    }

    fn of_int(math: Math, number: i32) -> i32 {
        let bytes =
            math.call(&DataType::Int, &Bytes::copy_from_slice(&number.to_be_bytes())).unwrap().unwrap();
        i32::from_be_bytes(bytes.as_ref().try_into().unwrap())
    }

    fn decimal(digits: i64, scale: i32) -> Bytes {
        [&scale.to_be_bytes()[..], &BigInt::from(digits).to_signed_bytes_be()].concat().into()
    }

    /// The values are those of Cassandra 5.0.5.
    #[test]
    fn numbers_are_rounded_and_cut_as_java_does() {
        assert_eq!(of(Math::Round, 2.5), 3.0);
        assert_eq!(of(Math::Round, -2.5), -2.0);
        assert_eq!(of(Math::Exp, 2.5).to_bits(), 0x4028_5d6f_d931_e0bb);
        assert_eq!(of(Math::Log, -2.5).to_bits(), 0xfff8_0000_0000_0000);
        assert_eq!(of_int(Math::Abs, i32::MIN), i32::MIN);
        assert_eq!(of_int(Math::Exp, 709), i32::MAX);
        assert_eq!(of_int(Math::Log, 0), i32::MIN);
        assert_eq!(of_int(Math::Log10, 1000), 3);
        let tiny = |number: i8| Math::Exp.call(&DataType::TinyInt, &Bytes::copy_from_slice(&[number as u8]));
        assert_eq!(tiny(7).unwrap().unwrap(), &[0x48][..], "the low bits of 1096");
    }

    #[test]
    fn decimals_keep_their_scale_and_are_rounded_away_from_zero() {
        let call = |math: Math, digits, scale| {
            math.call(&DataType::Decimal, &decimal(digits, scale)).unwrap().unwrap()
        };
        assert_eq!(call(Math::Abs, -150, 2), decimal(150, 2));
        assert_eq!(call(Math::Round, 25, 1), decimal(3, 0));
        assert_eq!(call(Math::Round, -25, 1), decimal(-3, 0));
        assert_eq!(call(Math::Round, 1, -2), decimal(100, 0));
        let error = Math::Log.call(&DataType::Decimal, &decimal(-1, 0)).unwrap_err();
        assert_eq!(error.to_string(), "java.lang.ArithmeticException: Natural log of number zero or less");
        assert!(
            Math::Exp
                .call(&DataType::Decimal, &decimal(1, 0))
                .unwrap_err()
                .to_string()
                .contains("not simulated")
        );
        assert!(Math::Round.call(&DataType::Decimal, &decimal(1, i32::MIN)).is_err());
    }
}
