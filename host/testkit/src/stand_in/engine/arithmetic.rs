//! Arithmetic on values: its result types, and its overflows where `SQLite` would go on with a float.

use crate::stand_in::calendar::{self, TICKS_PER_DAY, TICKS_PER_SECOND};
use crate::stand_in::collation;
use crate::stand_in::convert::{How, TEN, convert, instant_as, rescale};
use crate::stand_in::datum::{Datum, pack_decimal, unpack_decimal};
use crate::stand_in::error::{SqlError, SqlResult};
use crate::stand_in::types::SqlType as T;

fn by_zero() -> SqlError {
    SqlError::new(8134, "Divide by zero error encountered.")
}

/// The type of a sum, product or quotient of two decimals.
pub fn decimal_result(sign: &str, (p1, s1): (u8, u8), (p2, s2): (u8, u8)) -> T {
    let (p1, s1, p2, s2) = (i64::from(p1), i64::from(s1), i64::from(p2), i64::from(s2));
    let (precision, scale) = match sign {
        "*" => (p1 + p2 + 1, s1 + s2),
        "/" => {
            let scale = 6.max(s1 + p2 + 1);
            (p1 - s1 + s2 + scale, scale)
        }
        "%" => ((p1 - s1).min(p2 - s2) + s1.max(s2), s1.max(s2)),
        _ => (s1.max(s2) + (p1 - s1).max(p2 - s2) + 1, s1.max(s2)),
    };
    // What is beyond 38 digits is taken from the fraction, but not below 6.
    let over = precision - 38;
    let scale = if over > 0 {
        (scale - over).max(scale.min(6))
    } else {
        scale
    };
    T::Decimal(precision.min(38) as u8, scale as u8)
}

/// Both values and the result are of one type: integers, money, floats.
pub fn apply(sign: &str, a: &Datum, b: &Datum, ty: T) -> SqlResult<Datum> {
    match (a, b) {
        (Datum::Int(a), Datum::Int(b)) => integers(sign, *a, *b, ty),
        (Datum::Float(a), Datum::Float(b)) => {
            let result = match sign {
                "+" => a + b,
                "-" => a - b,
                "*" => a * b,
                "/" if *b == 0.0 => return Err(by_zero()),
                "/" => a / b,
                _ => return Err(SqlError::unknown(format!("{sign} of floats"))),
            };
            if result.is_finite() {
                Ok(Datum::Float(result))
            } else {
                Err(SqlError::overflow(ty.base_name()))
            }
        }
        _ => Ok(Datum::Null),
    }
}

fn integers(sign: &str, a: i64, b: i64, ty: T) -> SqlResult<Datum> {
    let money = matches!(ty, T::Money | T::SmallMoney);
    let (a, b) = (i128::from(a), i128::from(b));
    let result = match sign {
        "+" => a + b,
        "-" => a - b,
        "*" if money => rescale(a * b, 8, 4).unwrap_or(i128::MAX),
        "*" => a * b,
        "/" | "%" if b == 0 => return Err(by_zero()),
        "/" if money => a * 10_000 / b,
        "/" => a / b,
        "%" => a % b,
        "&" => a & b,
        "|" => a | b,
        "^" => a ^ b,
        _ => return Err(SqlError::unknown(sign)),
    };
    let (least, greatest) = match ty {
        T::SmallMoney => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => ty.integer_range().unwrap_or((i64::MIN, i64::MAX)),
    };
    i64::try_from(result)
        .ok()
        .filter(|it| (least..=greatest).contains(it))
        .map(Datum::Int)
        .ok_or_else(|| SqlError::overflow(ty.base_name()))
}

/// Decimals of two types to one of a third.
pub fn decimals(
    sign: &str,
    a: &Datum,
    b: &Datum,
    left: T,
    right: T,
    result: T,
) -> SqlResult<Datum> {
    let (Datum::Bytes(a), Datum::Bytes(b)) = (a, b) else {
        return Ok(Datum::Null);
    };
    let (Some((_, s1)), Some((_, s2)), Some((precision, scale))) =
        (left.as_exact(), right.as_exact(), result.as_exact())
    else {
        return Err(SqlError::unknown("decimals of other types"));
    };
    let overflow = || SqlError::overflow("numeric");
    let (a, b) = (unpack_decimal(a), unpack_decimal(b));
    let common = s1.max(s2);
    let both = || Some((rescale(a, s1, common)?, rescale(b, s2, common)?));
    let unscaled = match sign {
        "+" | "-" => {
            let (a, b) = both().ok_or_else(overflow)?;
            let sum = if sign == "+" {
                a.checked_add(b)
            } else {
                a.checked_sub(b)
            };
            sum.and_then(|it| rescale(it, common, scale))
        }
        "*" => a.checked_mul(b).and_then(|it| rescale(it, s1 + s2, scale)),
        "/" | "%" if b == 0 => return Err(by_zero()),
        "/" => {
            // a / 10^s1 over b / 10^s2, with `scale` digits, cut.
            let up = i32::from(scale) + i32::from(s2) - i32::from(s1);
            if up >= 0 {
                TEN.get(up as usize)
                    .and_then(|power| a.checked_mul(*power))
                    .map(|it| it / b)
            } else {
                TEN.get(up.unsigned_abs() as usize)
                    .and_then(|power| b.checked_mul(*power))
                    .map(|it| a / it)
            }
        }
        "%" => {
            let (a, b) = both().ok_or_else(overflow)?;
            rescale(a % b, common, scale)
        }
        _ => return Err(SqlError::unknown(sign)),
    };
    unscaled
        .filter(|it| {
            TEN.get(usize::from(precision))
                .is_some_and(|most| it.abs() < *most)
        })
        .map(|it| Datum::Bytes(pack_decimal(it)))
        .ok_or_else(overflow)
}

/// DATEADD.
pub fn date_add(part: &str, number: &Datum, value: &Datum, ty: T) -> SqlResult<Datum> {
    let (Datum::Int(number), false) = (number, value.is_null()) else {
        return Ok(Datum::Null);
    };
    let overflow = || {
        SqlError::new(
            517,
            format!(
                "Adding a value to a '{}' column caused an overflow.",
                ty.base_name()
            ),
        )
    };
    // Everything happens in 100 ns, with the clock's own offset kept.
    let how = How {
        style: 0,
        assign: false,
        collation: collation::default(),
    };
    let wide = T::DateTimeOffset(7);
    let Datum::Bytes(bytes) = convert(value, ty, wide, how)? else {
        return Ok(Datum::Null);
    };
    let (utc, minutes) = crate::stand_in::datum::unpack_offset(&bytes);
    let local = utc + minutes * 60 * TICKS_PER_SECOND;
    let fixed = |unit: i64| {
        number
            .checked_mul(unit)
            .and_then(|it| local.checked_add(it))
    };
    let moved = match part {
        "year" | "yy" | "yyyy" => months(local, number.saturating_mul(12)),
        "quarter" | "qq" | "q" => months(local, number.saturating_mul(3)),
        "month" | "mm" | "m" => months(local, *number),
        "week" | "wk" | "ww" => fixed(7 * TICKS_PER_DAY),
        "day" | "dd" | "d" | "dayofyear" | "dy" | "y" | "weekday" | "dw" | "w" => {
            fixed(TICKS_PER_DAY)
        }
        "hour" | "hh" => fixed(3600 * TICKS_PER_SECOND),
        "minute" | "mi" | "n" => fixed(60 * TICKS_PER_SECOND),
        "second" | "ss" | "s" => fixed(TICKS_PER_SECOND),
        "millisecond" | "ms" => fixed(TICKS_PER_SECOND / 1000),
        "microsecond" | "mcs" => fixed(TICKS_PER_SECOND / 1_000_000),
        "nanosecond" | "ns" => local.checked_add((number + 50 * number.signum()) / 100),
        _ => {
            return Err(SqlError::new(
                155,
                format!("'{part}' is not a recognized dateadd option."),
            ));
        }
    };
    let moved = match (moved, ty) {
        (Some(ticks), T::Time(_)) => Some(ticks.rem_euclid(TICKS_PER_DAY)),
        (other, _) => other,
    };
    moved
        .and_then(|ticks| instant_as(ticks, Some(minutes), ty))
        .ok_or_else(overflow)
}

/// The same day of another month, or its last one.
fn months(local: i64, number: i64) -> Option<i64> {
    let (year, month, day) = calendar::civil(local.div_euclid(TICKS_PER_DAY));
    let total = (year * 12 + month - 1).checked_add(number)?;
    let (year, month) = (total.div_euclid(12), total.rem_euclid(12) + 1);
    let days = (0..4).find_map(|back| calendar::day_number(year, month, day - back))?;
    Some(days * TICKS_PER_DAY + local.rem_euclid(TICKS_PER_DAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_types_are_those_of_the_documentation() {
        assert_eq!(decimal_result("+", (5, 2), (5, 2)), T::Decimal(6, 2));
        assert_eq!(decimal_result("*", (38, 10), (38, 10)), T::Decimal(38, 6));
        assert_eq!(decimal_result("/", (10, 0), (10, 0)), T::Decimal(21, 11));
    }

    #[test]
    fn overflow_and_zero_are_errors() {
        let max = Datum::Int(i64::MAX);
        assert_eq!(
            apply("+", &max, &Datum::Int(1), T::BigInt)
                .unwrap_err()
                .number,
            8115
        );
        assert_eq!(
            apply("/", &max, &Datum::Int(0), T::BigInt)
                .unwrap_err()
                .number,
            8134
        );
        assert_eq!(
            apply("+", &Datum::Int(1), &Datum::Null, T::Int).unwrap(),
            Datum::Null
        );
    }

    #[test]
    fn months_end_where_the_shorter_one_ends() {
        let ticks = |text| Datum::Int(calendar::parse(text).unwrap().ticks);
        let moved = date_add(
            "month",
            &Datum::Int(1),
            &ticks("2024-01-31"),
            T::DateTime2(7),
        )
        .unwrap();
        assert_eq!(moved, ticks("2024-02-29"));
        let moved = date_add("ms", &Datum::Int(-1), &ticks("2024-01-01"), T::DateTime2(3)).unwrap();
        assert_eq!(moved, ticks("2023-12-31 23:59:59.999"));
    }
}
