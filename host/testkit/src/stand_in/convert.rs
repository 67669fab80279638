//! CAST, CONVERT and the implicit conversions: one value of one type to another. It decides no result types; that is
//! the binder's.

use super::calendar::{
    self, DATETIME_PER_DAY, DAYS_TO_1900, TICKS_PER_DAY, datetime_of_ticks, rounded,
    ticks_of_datetime,
};
use super::collation::CollationRef;
use super::datum::{
    Datum, from_utf16, guid_text, hex, pack_decimal, pack_guid, pack_offset, parse_guid, parse_hex,
    unpack_decimal, unpack_guid, unpack_offset, utf16,
};
use super::error::{SqlError, SqlResult};
use super::types::SqlType as T;
use super::variant;

/// How to convert.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// The third argument of CONVERT; 0 without one.
    pub style: i64,
    /// What is too long is an error and not cut.
    pub assign: bool,
    /// Of the text on either side.
    pub collation: CollationRef,
}

/// A number on its way from one type to another.
#[derive(Debug, Clone, Copy)]
enum Number {
    Exact(i128, u8),
    Float(f64),
}

pub fn convert(value: &Datum, from: T, to: T, how: How) -> SqlResult<Datum> {
    if value.is_null() || (from == to && !matches!(to, T::Real)) {
        return Ok(value.clone());
    }
    if from == T::Variant {
        let (inner, value) = variant::open(value, how.collation)?;
        return convert(&value, inner, to, how);
    }
    match to {
        T::Variant => variant::wrap(value, from, how.collation),
        T::Char(_) | T::VarChar(_) | T::Text | T::NChar(_) | T::NVarChar(_) | T::NText | T::Xml => {
            to_text(value, from, to, how)
        }
        T::Binary(_) | T::VarBinary(_) | T::Image | T::RowVersion => to_bytes(value, from, to, how),
        T::Guid => to_guid(value, from, how),
        _ if to.is_temporal() => to_instant(value, from, to),
        _ => to_number(value, from, to),
    }
}

// --- numbers --------------------------------------------------------------------------------------------------

pub const TEN: [i128; 39] = {
    let mut powers = [1; 39];
    let mut n = 1;
    #[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
    while n < 39 {
        powers[n] = powers[n - 1] * 10;
        n += 1;
    }
    powers
};

fn ten(exponent: u8) -> i128 {
    TEN.get(usize::from(exponent)).copied().unwrap_or(i128::MAX)
}

/// Other digits after the point; half away from zero.
pub fn rescale(unscaled: i128, from: u8, to: u8) -> Option<i128> {
    if to >= from {
        return unscaled.checked_mul(ten(to - from));
    }
    let unit = ten(from - to);
    let half = if unscaled < 0 { -(unit / 2) } else { unit / 2 };
    Some((unscaled + half) / unit)
}

fn number(value: &Datum, from: T, to: T) -> SqlResult<Number> {
    Ok(match (from, value) {
        (T::Decimal(_, s) | T::Numeric(_, s), Datum::Bytes(bytes)) => {
            Number::Exact(unpack_decimal(bytes), s)
        }
        (T::Money | T::SmallMoney, Datum::Int(it)) => Number::Exact(i128::from(*it), 4),
        (_, Datum::Int(it)) if from.is_integer() => Number::Exact(i128::from(*it), 0),
        (T::Real | T::Float, Datum::Float(it)) => Number::Float(*it),
        (T::Real | T::Float, Datum::Int(it)) => Number::Float(*it as f64),
        (_, Datum::Text(text)) => parse_number(text, from, to)?,
        (_, Datum::Bytes(bytes)) if from.is_bytes() => {
            let tail = bytes
                .get(bytes.len().saturating_sub(8)..)
                .unwrap_or_default();
            Number::Exact(
                i128::from(
                    tail.iter()
                        .fold(0_i64, |sum, byte| sum << 8 | i64::from(*byte)),
                ),
                0,
            )
        }
        (T::DateTime, Datum::Int(it)) => Number::Float(*it as f64 / DATETIME_PER_DAY as f64),
        _ => return Err(not_allowed(from, to)),
    })
}

fn not_allowed(from: T, to: T) -> SqlError {
    SqlError::new(
        529,
        format!(
            "Explicit conversion from data type {} to {} is not allowed.",
            from.base_name(),
            to.base_name()
        ),
    )
}

fn parse_number(text: &str, from: T, to: T) -> SqlResult<Number> {
    let trimmed = text.trim();
    let failed = || {
        if to.is_integer() {
            SqlError::new(
                245,
                format!(
                    "Conversion failed when converting the {} value '{text}' to data type {}.",
                    from.base_name(),
                    to.base_name()
                ),
            )
        } else if matches!(to, T::Money | T::SmallMoney) {
            SqlError::new(
                235,
                "Cannot convert a char value to money. The char value has incorrect syntax.",
            )
        } else {
            let to = if matches!(to, T::Decimal(..) | T::Numeric(..)) {
                "numeric"
            } else {
                to.base_name()
            };
            SqlError::new(
                8114,
                format!("Error converting data type {} to {to}.", from.base_name()),
            )
        }
    };
    if matches!(to, T::Real | T::Float) {
        return if trimmed.is_empty() {
            Ok(Number::Float(0.0))
        } else {
            trimmed.parse().map(Number::Float).map_err(|_| failed())
        };
    }
    if to == T::Bit {
        match trimmed.to_ascii_lowercase().as_str() {
            "true" => return Ok(Number::Exact(1, 0)),
            "false" => return Ok(Number::Exact(0, 0)),
            _ => {}
        }
    }
    if trimmed.is_empty() && (to.is_integer() || matches!(to, T::Money | T::SmallMoney)) {
        return Ok(Number::Exact(0, 0));
    }
    let trimmed = if matches!(to, T::Money | T::SmallMoney) {
        trimmed.trim_start_matches('$')
    } else {
        trimmed
    };
    let (unscaled, scale) = exact(trimmed).ok_or_else(failed)?;
    if to.is_integer() && scale > 0 {
        return Err(failed());
    }
    Ok(Number::Exact(unscaled, scale))
}

/// Digits with a sign and a point.
pub fn exact(text: &str) -> Option<(i128, u8)> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // More digits than a decimal has are rounded away where they come after the point.
    let kept = fraction
        .len()
        .min(38_usize.saturating_sub(whole.trim_start_matches('0').len()));
    let mut unscaled: i128 = 0;
    for byte in whole.bytes().chain(fraction.bytes().take(kept)) {
        if !byte.is_ascii_digit() {
            return None;
        }
        unscaled = unscaled
            .checked_mul(10)?
            .checked_add(i128::from(byte - b'0'))?;
    }
    if !fraction.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    if fraction.as_bytes().get(kept).is_some_and(|it| *it >= b'5') {
        unscaled = unscaled.checked_add(1)?;
    }
    (unscaled < ten(38)).then_some((sign * unscaled, kept as u8))
}

pub fn exact_text(unscaled: i128, scale: u8) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = unscaled.unsigned_abs().to_string();
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let scale = usize::from(scale);
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

fn to_number(value: &Datum, from: T, to: T) -> SqlResult<Datum> {
    let number = number(value, from, to)?;
    let overflow = || match to {
        T::TinyInt | T::SmallInt if from.is_integer() => SqlError::new(
            220,
            format!(
                "Arithmetic overflow error for data type {}, value = {}.",
                to.base_name(),
                shown(number)
            ),
        ),
        T::Decimal(..) | T::Numeric(..) => SqlError::new(
            8115,
            format!(
                "Arithmetic overflow error converting {} to data type numeric.",
                from.base_name()
            ),
        ),
        _ => SqlError::overflow(to.base_name()),
    };
    match to {
        T::Bit => Ok(Datum::flag(match number {
            Number::Exact(it, _) => it != 0,
            Number::Float(it) => it != 0.0,
        })),
        T::Real | T::Float => {
            let float = match number {
                Number::Exact(it, s) => exact_text(it, s).parse().unwrap_or(f64::NAN),
                Number::Float(it) => it,
            };
            if to == T::Real {
                let narrow = float as f32;
                if narrow.is_infinite() {
                    return Err(overflow());
                }
                return Ok(Datum::Float(f64::from(narrow)));
            }
            Ok(Datum::Float(float))
        }
        T::Decimal(p, s) | T::Numeric(p, s) => {
            let unscaled = as_exact(number, s).ok_or_else(overflow)?;
            if unscaled.abs() >= ten(p) {
                return Err(overflow());
            }
            Ok(Datum::Bytes(pack_decimal(unscaled)))
        }
        T::Money | T::SmallMoney => {
            let unscaled = as_exact(number, 4).ok_or_else(overflow)?;
            let fits = to == T::Money || i32::try_from(unscaled).is_ok();
            i64::try_from(unscaled)
                .ok()
                .filter(|_| fits)
                .map(Datum::Int)
                .ok_or_else(overflow)
        }
        _ => {
            // The fraction is cut, not rounded, on the way to an integer.
            let whole = match number {
                Number::Exact(it, s) => Some(it / ten(s)),
                Number::Float(it) => (it.abs() < 1e19).then_some(it as i128),
            };
            let (least, greatest) = to.integer_range().ok_or_else(|| not_allowed(from, to))?;
            whole
                .and_then(|it| i64::try_from(it).ok())
                .filter(|it| (least..=greatest).contains(it))
                .map(Datum::Int)
                .ok_or_else(overflow)
        }
    }
}

fn as_exact(number: Number, scale: u8) -> Option<i128> {
    match number {
        Number::Exact(it, s) => rescale(it, s, scale),
        Number::Float(it) => {
            let (unscaled, s) = exact(&format!("{it:.*}", usize::from(scale)))?;
            rescale(unscaled, s, scale)
        }
    }
}

fn shown(number: Number) -> String {
    match number {
        Number::Exact(it, s) => exact_text(it, s),
        Number::Float(it) => it.to_string(),
    }
}

// --- dates and times ------------------------------------------------------------------------------------------

/// Local ticks and the offset where there is one.
fn instant(value: &Datum, from: T) -> Option<(i64, Option<i64>)> {
    Some(match (from, value) {
        (T::Date, Datum::Int(days)) => (days * TICKS_PER_DAY, None),
        (T::Time(_), Datum::Int(ticks)) => (DAYS_TO_1900 * TICKS_PER_DAY + ticks, None),
        (T::DateTime, Datum::Int(it)) => (ticks_of_datetime(*it), None),
        (T::SmallDateTime, Datum::Int(it)) => (
            DAYS_TO_1900 * TICKS_PER_DAY + it * 60 * calendar::TICKS_PER_SECOND,
            None,
        ),
        (T::DateTime2(_), Datum::Int(ticks)) => (*ticks, None),
        (T::DateTimeOffset(_), Datum::Bytes(bytes)) => {
            let (utc, minutes) = unpack_offset(bytes);
            (
                utc + minutes * 60 * calendar::TICKS_PER_SECOND,
                Some(minutes),
            )
        }
        _ => return None,
    })
}

fn to_instant(value: &Datum, from: T, to: T) -> SqlResult<Datum> {
    let failed = || {
        SqlError::new(
            241,
            "Conversion failed when converting date and/or time from character string.",
        )
    };
    let (ticks, offset) = match (instant(value, from), value) {
        (Some(it), _) => it,
        (None, Datum::Text(text)) if text.trim().is_empty() => (DAYS_TO_1900 * TICKS_PER_DAY, None),
        (None, Datum::Text(text)) => {
            let parsed = calendar::parse(text).ok_or_else(failed)?;
            if matches!(to, T::DateTime | T::SmallDateTime) && parsed.fraction_digits > 3 {
                return Err(failed());
            }
            (parsed.ticks, parsed.offset_minutes)
        }
        (None, Datum::Int(days)) if from.is_integer() && matches!(to, T::DateTime) => {
            ((DAYS_TO_1900 + days) * TICKS_PER_DAY, None)
        }
        _ => return Err(not_allowed(from, to)),
    };
    instant_as(ticks, offset, to).ok_or_else(|| {
        SqlError::new(
            242,
            format!(
                "The conversion of a {} data type to a {} data type resulted in an out-of-range value.",
                from.base_name(),
                to.base_name()
            ),
        )
    })
}

/// Local ticks as a value of a type with a date or a time.
pub fn instant_as(ticks: i64, offset: Option<i64>, to: T) -> Option<Datum> {
    let end = 3_652_059 * TICKS_PER_DAY;
    if !(0..end).contains(&ticks) {
        return None;
    }
    // The last instant of all is cut, not rounded into the year 10000.
    let to_scale = |scale: u8| match rounded(ticks, scale) {
        over if over >= end => ticks - ticks % 10_i64.pow(7 - u32::from(scale.min(7))),
        it => it,
    };
    Some(match to {
        T::Date => Datum::Int(ticks / TICKS_PER_DAY),
        T::Time(scale) => Datum::Int(rounded(ticks, scale) % TICKS_PER_DAY),
        T::DateTime => {
            let datetime = datetime_of_ticks(ticks);
            // From 1753 on.
            if datetime < -53_690 * DATETIME_PER_DAY {
                return None;
            }
            Datum::Int(datetime)
        }
        T::SmallDateTime => {
            let minute = 60 * calendar::TICKS_PER_SECOND;
            let minutes = (ticks - DAYS_TO_1900 * TICKS_PER_DAY + minute / 2).div_euclid(minute);
            if !(0..65_536 * 1440).contains(&minutes) {
                return None;
            }
            Datum::Int(minutes)
        }
        T::DateTime2(scale) => Datum::Int(to_scale(scale)),
        T::DateTimeOffset(scale) => {
            let minutes = offset.unwrap_or(0);
            Datum::Bytes(pack_offset(
                to_scale(scale) - minutes * 60 * calendar::TICKS_PER_SECOND,
                minutes,
            ))
        }
        _ => return None,
    })
}

fn instant_text(ticks: i64, offset: Option<i64>, from: T, style: i64) -> SqlResult<String> {
    let digits = match from {
        T::DateTime => 3,
        T::SmallDateTime | T::Date => 0,
        T::Time(s) | T::DateTime2(s) | T::DateTimeOffset(s) => s,
        _ => 7,
    };
    let (mut ticks, mut zone) = (ticks, offset.map(calendar::offset_text).unwrap_or_default());
    // Milliseconds of a datetime are shown rounded.
    if from == T::DateTime {
        ticks = rounded(ticks, 3);
    }
    if style == 127
        && let Some(minutes) = offset
    {
        ticks -= minutes * 60 * calendar::TICKS_PER_SECOND;
        "Z".clone_into(&mut zone);
    }
    let date = calendar::date_text(ticks.div_euclid(TICKS_PER_DAY));
    let of_day = ticks.rem_euclid(TICKS_PER_DAY);
    let time = calendar::time_text(of_day, digits);
    let short = calendar::time_text(of_day, 0);
    let style = match (style, from) {
        (0 | 100 | 9 | 109, T::DateTime | T::SmallDateTime) => 0,
        (0, _) => 121,
        (other, _) => other,
    };
    Ok(match (style, from) {
        (121 | 21 | 25 | 126 | 127 | 120 | 20 | 23, T::Date) => date,
        (121 | 21 | 25 | 126 | 127, T::Time(_)) => time,
        (112, _) => date.replace('-', ""),
        (23, _) => date,
        (108, _) => short,
        (114, _) => calendar::time_text(of_day, 3).replace('.', ":"),
        (120 | 20, _) => format!("{date} {short}{}", spaced(&zone)),
        (121 | 21 | 25, T::SmallDateTime) => format!("{date} {short}.000"),
        (121 | 21 | 25, _) => format!("{date} {time}{}", spaced(&zone)),
        (126 | 127, T::DateTime) if of_day % calendar::TICKS_PER_SECOND == 0 => {
            format!("{date}T{short}")
        }
        (126 | 127, _) => format!("{date}T{time}{zone}"),
        (0, _) => {
            let (year, month, day) = calendar::civil(ticks.div_euclid(TICKS_PER_DAY));
            let name = "JanFebMarAprMayJunJulAugSepOctNovDec"
                .get((month as usize - 1) * 3..month as usize * 3);
            let hour = of_day / calendar::TICKS_PER_SECOND / 3600;
            let minute = of_day / calendar::TICKS_PER_SECOND / 60 % 60;
            let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
            let half = if hour < 12 { "AM" } else { "PM" };
            format!(
                "{} {day:>2} {year:04} {twelve:>2}:{minute:02}{half}",
                name.unwrap_or_default()
            )
        }
        (other, _) => return Err(SqlError::unknown(format!("style {other}"))),
    })
}

fn spaced(zone: &str) -> String {
    if zone.is_empty() {
        String::new()
    } else {
        format!(" {zone}")
    }
}

// --- text, bytes, guid ----------------------------------------------------------------------------------------

fn float_text(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= digits as i32 {
        let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:03}", exponent.abs());
    }
    let plain = format!("{value:.*}", (digits as i32 - 1 - exponent).max(0) as usize);
    if plain.contains('.') {
        plain.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        plain
    }
}

/// The text of a value, as CONVERT gives it.
pub fn text_of(value: &Datum, from: T, style: i64, collation: CollationRef) -> SqlResult<String> {
    if let Some((ticks, offset)) = instant(value, from) {
        return instant_text(ticks, offset, from, style);
    }
    Ok(match (from, value) {
        (_, Datum::Text(text)) => text.clone(),
        (T::Guid, Datum::Bytes(bytes)) => guid_text(unpack_guid(bytes)),
        (T::Decimal(_, s) | T::Numeric(_, s), Datum::Bytes(bytes)) => {
            exact_text(unpack_decimal(bytes), s)
        }
        (T::Money | T::SmallMoney, Datum::Int(it)) if style == 2 => exact_text(i128::from(*it), 4),
        (T::Money | T::SmallMoney, Datum::Int(it)) => {
            exact_text(rescale(i128::from(*it), 4, 2).unwrap_or(0), 2)
        }
        (_, Datum::Int(it)) => it.to_string(),
        (_, Datum::Float(it)) => match (style, from) {
            (3, T::Real) => format!("{:e}", *it as f32),
            (3, _) => float_text(*it, 17),
            (2, _) => float_text(*it, 16),
            _ => float_text(*it, 6),
        },
        (_, Datum::Bytes(bytes)) => match style {
            1 => format!("0x{}", hex(bytes)),
            2 => hex(bytes),
            _ => collation.decode(bytes),
        },
        (_, Datum::Null) => String::new(),
    })
}

fn to_text(value: &Datum, from: T, to: T, how: How) -> SqlResult<Datum> {
    let mut text = match (value, from.is_bytes() && how.style == 0 && to.is_unicode()) {
        (Datum::Bytes(bytes), true) => from_utf16(bytes),
        _ => text_of(value, from, how.style, how.collation)?,
    };
    if !to.is_unicode() && !how.collation.utf8 && !text.is_ascii() {
        text = how.collation.decode(&how.collation.encode(&text));
    }
    let Some(limit) = to.chars().flatten() else {
        return Ok(Datum::Text(text));
    };
    let limit = usize::from(limit);
    let length = units(&text, to, how.collation);
    if length > limit {
        // Blanks at the end are never missed.
        if how.assign && units(text.trim_end_matches(' '), to, how.collation) > limit {
            return Err(truncated());
        }
        if !from.is_text() && !from.is_bytes() {
            return Err(SqlError::overflow(to.base_name()));
        }
        text = cut(&text, limit, to, how.collation);
    }
    if matches!(to, T::Char(_) | T::NChar(_)) {
        let length = units(&text, to, how.collation);
        text.extend(std::iter::repeat_n(' ', limit.saturating_sub(length)));
    }
    Ok(Datum::Text(text))
}

fn truncated() -> SqlError {
    SqlError::new(2628, "String or binary data would be truncated.")
}

/// The length as the type counts it: UTF-16 units, or bytes of the code page.
pub fn units(text: &str, ty: T, collation: CollationRef) -> usize {
    if text.is_ascii() {
        text.len()
    } else if ty.is_unicode() {
        text.encode_utf16().count()
    } else {
        collation.encode(text).len()
    }
}

fn cut(text: &str, limit: usize, ty: T, collation: CollationRef) -> String {
    let mut kept = String::new();
    let mut length = 0;
    for character in text.chars() {
        let mut buffer = [0; 4];
        length += units(character.encode_utf8(&mut buffer), ty, collation);
        if length > limit {
            break;
        }
        kept.push(character);
    }
    kept
}

fn to_bytes(value: &Datum, from: T, to: T, how: How) -> SqlResult<Datum> {
    let limit = match to {
        T::Binary(n) | T::VarBinary(Some(n)) => Some(usize::from(n)),
        T::RowVersion => Some(8),
        _ => None,
    };
    let (mut bytes, from_left) = match (value, from) {
        (Datum::Text(text), _) if matches!(how.style, 1 | 2) => {
            let digits = if how.style == 1 {
                text.strip_prefix("0x")
            } else {
                Some(text.as_str())
            };
            let bytes = digits.filter(|it| it.len() % 2 == 0).and_then(parse_hex);
            (
                bytes.ok_or_else(|| {
                    SqlError::new(
                        8114,
                        format!(
                            "Error converting data type {} to varbinary.",
                            from.base_name()
                        ),
                    )
                })?,
                true,
            )
        }
        (Datum::Text(text), _) if from.is_unicode() => (utf16(text), true),
        (Datum::Text(text), _) => (how.collation.encode(text), true),
        (Datum::Bytes(bytes), T::Guid) => (unpack_guid(bytes).to_vec(), true),
        (Datum::Bytes(bytes), _) if from.is_bytes() => (bytes.clone(), true),
        (Datum::Int(it), _) if from.is_integer() || matches!(from, T::Money | T::SmallMoney) => {
            let size = from.sizes().0 as usize;
            (
                it.to_be_bytes()
                    .get(8 - size..)
                    .unwrap_or_default()
                    .to_vec(),
                false,
            )
        }
        _ => return Err(not_allowed(from, to)),
    };
    if let Some(limit) = limit {
        if bytes.len() > limit {
            if how.assign {
                return Err(truncated());
            }
            if from_left {
                bytes.truncate(limit);
            } else {
                bytes.drain(..bytes.len() - limit);
            }
        }
        if matches!(to, T::Binary(_) | T::RowVersion) {
            let missing = limit - bytes.len();
            if from_left {
                bytes.resize(limit, 0);
            } else {
                bytes.splice(0..0, std::iter::repeat_n(0, missing));
            }
        }
    }
    Ok(Datum::Bytes(bytes))
}

fn to_guid(value: &Datum, from: T, how: How) -> SqlResult<Datum> {
    match value {
        Datum::Text(text) => parse_guid(text).map(|it| Datum::Bytes(pack_guid(&it))).ok_or_else(|| {
            SqlError::new(8169, "Conversion failed when converting from a character string to uniqueidentifier.")
        }),
        Datum::Bytes(_) if from.is_bytes() => match to_bytes(value, from, T::Binary(16), How { assign: false, ..how })? {
            Datum::Bytes(bytes) => Ok(Datum::Bytes(pack_guid(&bytes))),
            other => Ok(other),
        },
        _ => Err(not_allowed(from, T::Guid)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::collation;
    use super::*;

    fn cast(text: &str, to: T) -> SqlResult<Datum> {
        let how = How {
            style: 0,
            assign: false,
            collation: collation::default(),
        };
        convert(&Datum::text(text), T::VarChar(Some(100)), to, how)
    }

    fn there_and_back(text: &str, ty: T, style: i64) -> String {
        text_of(&cast(text, ty).unwrap(), ty, style, collation::default()).unwrap()
    }

    #[test]
    fn values_survive_at_their_extremes() {
        for (text, ty) in [
            ("-9223372036854775808", T::BigInt),
            ("99999999999999999999999999999999999999", T::Decimal(38, 0)),
            ("-0.0000000001", T::Decimal(38, 10)),
            ("9999-12-31 23:59:59.9999999", T::DateTime2(7)),
            ("0001-01-01", T::Date),
            ("23:59:59.9999999", T::Time(7)),
            ("2026-01-30 15:04:05.1234567 -05:30", T::DateTimeOffset(7)),
            ("6F9619FF-8B86-D011-B42D-00C04FC964FF", T::Guid),
        ] {
            assert_eq!(there_and_back(text, ty, 0), text);
        }
        assert_eq!(
            there_and_back("922337203685477.5807", T::Money, 2),
            "922337203685477.5807"
        );
        assert_eq!(
            there_and_back("2026-01-30 00:00:00.004", T::DateTime, 121),
            "2026-01-30 00:00:00.003"
        );
        assert_eq!(
            there_and_back("2026-01-30T01:02:03", T::DateTime2(0), 126),
            "2026-01-30T01:02:03"
        );
        assert_eq!(there_and_back("1e10", T::Float, 0), "1e+010");
        assert_eq!(there_and_back("0.1", T::Float, 3), "0.10000000000000001");
    }

    #[test]
    fn what_does_not_fit_is_refused_by_its_number() {
        assert_eq!(cast("x", T::Int).unwrap_err().number, 245);
        assert_eq!(cast("1000", T::Decimal(3, 0)).unwrap_err().number, 8115);
        assert_eq!(cast("2026-13-01", T::DateTime2(7)).unwrap_err().number, 241);
        assert_eq!(cast("1752-01-01", T::DateTime).unwrap_err().number, 242);
        assert_eq!(cast("x", T::Guid).unwrap_err().number, 8169);
    }
}
