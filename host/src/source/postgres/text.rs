//! Values without an Arrow type of their own as text, from their binary form
//! (the `…_send` functions in the server's `src/backend/utils/adt`).

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::decode::{Fit, fixed};

/// The longest scale and precision of numeric stay far below this.
const GROUP: i32 = 4;

/// The parts of a numeric: digits to the base 10,000, and the power of that base that the first of them counts.
pub struct Numeric<'a> {
    /// Two bytes each.
    groups: &'a [u8],
    weight: i32,
    negative: bool,
    /// Digits behind the point.
    places: usize,
}

impl<'a> Numeric<'a> {
    /// Reads the parts. NaN and the infinities are not numbers.
    pub fn read(raw: &'a [u8]) -> Fit<Self> {
        let (head, groups) = raw.split_at_checked(8).ok_or("a numeric that is cut")?;
        let word = |index: usize| head.get(index..index + 2).map_or(Ok([0, 0]), fixed::<2>);
        let (weight, sign, places) = (word(2)?, word(4)?, word(6)?);
        let negative = match u16::from_be_bytes(sign) {
            0 => false,
            0x4000 => true,
            0xc000 => return Err("NaN, which no decimal can hold"),
            _ => return Err("an infinite number, which no decimal can hold"),
        };
        Ok(Self {
            groups,
            weight: i16::from_be_bytes(weight).into(),
            negative,
            places: u16::from_be_bytes(places).into(),
        })
    }

    fn groups(&self) -> impl Iterator<Item = i32> {
        self.groups
            .chunks_exact(2)
            .map(|pair| pair.iter().fold(0, |sum, byte| sum << 8 | i32::from(*byte)))
    }

    /// The number times ten to the `scale`, if that is whole and has no more than so many digits.
    pub fn decimal(&self, precision: u8, scale: i8) -> Fit<i128> {
        const TOO_LONG: &str = "a number with more digits than its column";
        let mut value = 0i128;
        // Tens that the group's last digit counts.
        let mut power = GROUP * self.weight + i32::from(scale);
        let mut rest = 0;
        for group in self.groups() {
            // Whole groups as long as they are before the last place, then a part of one, then nothing.
            let digits = (GROUP + power).clamp(0, GROUP).unsigned_abs();
            let cut = 10i32.pow(GROUP.unsigned_abs() - digits);
            if group % cut != 0 {
                return Err(TOO_LONG);
            }
            value = value
                .checked_mul(10i128.pow(digits))
                .and_then(|value| value.checked_add((group / cut).into()))
                .ok_or(TOO_LONG)?;
            rest = power.max(0);
            power -= GROUP;
        }
        if value != 0 {
            value = 10i128
                .checked_pow(rest.unsigned_abs())
                .and_then(|tens| value.checked_mul(tens))
                .ok_or(TOO_LONG)?;
        }
        let beyond = 10i128.checked_pow(precision.into()).unwrap_or(i128::MAX);
        if value >= beyond {
            return Err(TOO_LONG);
        }
        Ok(if self.negative { -value } else { value })
    }

    /// All of its digits.
    pub fn write(&self) -> String {
        let mut digits = String::with_capacity(self.groups.len() * 2 + 8);
        for group in self.groups() {
            // Writing to a String cannot fail.
            let _ = write!(digits, "{group:04}");
        }
        // Where the point is; groups of zeros are not sent.
        let point = (self.weight + 1) * GROUP;
        let before = usize::try_from(point).unwrap_or(0);
        let leading = usize::try_from(-point).unwrap_or(0);
        let digits = format!("{}{digits}", "0".repeat(leading));
        let whole = digits
            .get(..before)
            .map_or_else(|| format!("{digits:0<before$}"), str::to_owned);
        let fraction = digits.get(before..).unwrap_or("");
        let fraction = fraction.get(..self.places).unwrap_or(fraction);
        let whole = match whole.trim_start_matches('0') {
            "" => "0",
            whole => whole,
        };
        let sign = if self.negative { "-" } else { "" };
        let places = self.places;
        if places == 0 {
            format!("{sign}{whole}")
        } else {
            format!("{sign}{whole}.{fraction:0<places$}")
        }
    }
}

/// A time of day, `23:59:59.999999`, with as many digits as there are.
pub fn time_of_day(micros: i64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let mut text = format!(
        "{:02}:{:02}:{:02}",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    );
    push_fraction(&mut text, fraction);
    text
}

fn push_fraction(text: &mut String, micros: i64) {
    if micros != 0 {
        let digits = format!(".{:06}", micros.abs());
        text.push_str(digits.trim_end_matches('0'));
    }
}

/// A time of day with its offset, `23:59:59+02:00`.
pub fn time_with_zone(raw: &[u8]) -> Fit<String> {
    let (time, zone) = raw.split_at_checked(8).ok_or("a time that is cut")?;
    // Counted to the west.
    let east = i64::from(i32::from_be_bytes(fixed(zone)?)).saturating_neg();
    let sign = if east < 0 { '-' } else { '+' };
    let east = east.abs();
    let mut text = time_of_day(i64::from_be_bytes(fixed(time)?));
    let _ = write!(text, "{sign}{:02}:{:02}", east / 3_600, east / 60 % 60);
    if east % 60 != 0 {
        let _ = write!(text, ":{:02}", east % 60);
    }
    Ok(text)
}

/// An interval by ISO 8601, `P1Y2M3DT4H5M6.7S`; each part has a sign of its own.
pub fn interval(raw: &[u8]) -> Fit<String> {
    let (time, rest) = raw.split_at_checked(8).ok_or("an interval that is cut")?;
    let (days, months) = rest.split_at_checked(4).ok_or("an interval that is cut")?;
    let micros = i64::from_be_bytes(fixed(time)?);
    let days = i32::from_be_bytes(fixed(days)?);
    let months = i32::from_be_bytes(fixed(months)?);
    if matches!(
        (micros, days, months),
        (i64::MAX, i32::MAX, i32::MAX) | (i64::MIN, i32::MIN, i32::MIN)
    ) {
        return Err("an infinite interval");
    }
    let mut text = "P".to_owned();
    let part = |text: &mut String, value: i64, unit: char| {
        if value != 0 {
            let _ = write!(text, "{value}{unit}");
        }
    };
    part(&mut text, i64::from(months / 12), 'Y');
    part(&mut text, i64::from(months % 12), 'M');
    part(&mut text, days.into(), 'D');
    if micros != 0 {
        text.push('T');
        let seconds = micros / 1_000_000;
        part(&mut text, seconds / 3_600, 'H');
        part(&mut text, seconds / 60 % 60, 'M');
        let (seconds, fraction) = (seconds % 60, micros % 1_000_000);
        if seconds != 0 || fraction != 0 {
            // A fraction has no sign of its own where there are no seconds before it.
            let sign = if seconds == 0 && fraction < 0 {
                "-"
            } else {
                ""
            };
            let _ = write!(text, "{sign}{seconds}");
            push_fraction(&mut text, fraction);
            text.push('S');
        }
    }
    if text == "P" {
        text.push_str("T0S");
    }
    Ok(text)
}

/// A network address: family, bits of the mask, whether it is a network, length, address.
pub fn address(raw: &[u8]) -> Fit<String> {
    const IPV4: u8 = 2;
    const UNKNOWN: &str = "an address of an unknown family";
    let (head, address) = raw.split_at_checked(4).ok_or("an address that is cut")?;
    let [family, bits, network, _] = fixed(head)?;
    let (text, all) = if family == IPV4 {
        let address: [u8; 4] = address.try_into().map_err(|_| UNKNOWN)?;
        (Ipv4Addr::from(address).to_string(), 32)
    } else {
        let address: [u8; 16] = address.try_into().map_err(|_| UNKNOWN)?;
        (Ipv6Addr::from(address).to_string(), 128)
    };
    Ok(if network == 0 && bits == all {
        text
    } else {
        format!("{text}/{bits}")
    })
}

/// A hardware address, `08:00:2b:01:02:03`.
pub fn hardware_address(raw: &[u8]) -> String {
    let parts: Vec<String> = raw.iter().map(|byte| format!("{byte:02x}")).collect();
    parts.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(groups: &[i16], weight: i16, sign: u16, places: u16) -> Vec<u8> {
        let count = i16::try_from(groups.len()).unwrap();
        let mut raw = Vec::new();
        raw.extend(count.to_be_bytes());
        raw.extend(weight.to_be_bytes());
        raw.extend(sign.to_be_bytes());
        raw.extend(places.to_be_bytes());
        raw.extend(groups.iter().flat_map(|group| group.to_be_bytes()));
        raw
    }

    #[test]
    fn numbers_keep_every_digit() {
        for (raw, text, scale, value) in [
            (numeric(&[], 0, 0, 0), "0", 0, 0),
            (numeric(&[], 0, 0, 3), "0.000", 3, 0),
            (numeric(&[123, 4500], 0, 0x4000, 2), "-123.45", 2, -12_345),
            (numeric(&[1], 1, 0, 0), "10000", 0, 10_000),
            (numeric(&[500], -2, 0, 6), "0.000005", 6, 5),
            (numeric(&[1, 0, 2], 2, 0, 0), "100000002", 2, 10_000_000_200),
            (numeric(&[12], 2, 0, 0), "1200000000", 0, 1_200_000_000),
            (numeric(&[7000], -1, 0, 1), "0.7", 1, 7),
        ] {
            let number = Numeric::read(&raw).unwrap();
            assert_eq!(number.write(), text);
            assert_eq!(number.decimal(38, scale), Ok(value), "{text}");
        }
    }

    #[test]
    fn a_number_is_exact_or_refused() {
        let raw = numeric(&[123, 4500], 0, 0, 2);
        let number = Numeric::read(&raw).unwrap();
        assert!(number.decimal(10, 1).is_err());
        assert!(number.decimal(4, 2).is_err());
        assert!(number.decimal(5, 2).is_ok());
        for sign in [0xc000, 0xd000, 0xf000] {
            assert!(Numeric::read(&numeric(&[], 0, sign, 0)).is_err());
        }
        assert!(Numeric::read(&[0; 7]).is_err());
    }

    fn interval_of(micros: i64, days: i32, months: i32) -> String {
        let raw = [
            &micros.to_be_bytes()[..],
            &days.to_be_bytes(),
            &months.to_be_bytes(),
        ]
        .concat();
        interval(&raw).unwrap()
    }

    #[test]
    fn intervals_are_written_by_iso_8601() {
        assert_eq!(interval_of(0, 0, 0), "PT0S");
        assert_eq!(interval_of(14_706_700_000, 3, 14), "P1Y2M3DT4H5M6.7S");
        assert_eq!(interval_of(-500_000, -3, -14), "P-1Y-2M-3DT-0.5S");
        assert_eq!(interval_of(3_600_000_000, 0, 0), "PT1H");
        assert!(interval(&[0; 3]).is_err());
    }

    #[test]
    fn addresses_show_a_mask_that_is_not_whole() {
        assert_eq!(address(&[2, 32, 0, 4, 10, 0, 0, 1]).unwrap(), "10.0.0.1");
        assert_eq!(address(&[2, 8, 0, 4, 10, 0, 0, 1]).unwrap(), "10.0.0.1/8");
        assert_eq!(address(&[2, 32, 1, 4, 10, 0, 0, 1]).unwrap(), "10.0.0.1/32");
        let mut six = vec![3, 128, 0, 16];
        six.extend([0; 15]);
        six.push(1);
        assert_eq!(address(&six).unwrap(), "::1");
        assert!(address(&[2, 32, 0, 4, 10]).is_err());
    }

    #[test]
    fn times_with_a_zone_count_to_the_east() {
        let raw = [
            &3_661_500_000i64.to_be_bytes()[..],
            &(-7_200i32).to_be_bytes(),
        ]
        .concat();
        assert_eq!(time_with_zone(&raw).unwrap(), "01:01:01.5+02:00");
    }
}
