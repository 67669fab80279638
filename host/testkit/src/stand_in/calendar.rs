//! Dates and times of day: numbers to text and back. All instants are ticks of 100 ns since 0001-01-01; it knows no
//! time zones but fixed offsets.

pub const TICKS_PER_SECOND: i64 = 10_000_000;
pub const TICKS_PER_DAY: i64 = 86_400 * TICKS_PER_SECOND;
/// Days from 0001-01-01 to 1900-01-01, where `datetime` begins to count.
pub const DAYS_TO_1900: i64 = 693_595;
/// Days from 0001-01-01 to 1970-01-01.
pub const DAYS_TO_1970: i64 = 719_162;
/// `datetime` counts 1/300 s.
pub const DATETIME_PER_DAY: i64 = 86_400 * 300;

const LAST_DAY: i64 = 3_652_058;

/// Ticks of a `datetime` (1/300 s since 1900): rounded to 100 ns, as from compatibility level 130 on.
pub fn ticks_of_datetime(datetime: i64) -> i64 {
    let day = datetime.div_euclid(DATETIME_PER_DAY);
    let part = datetime.rem_euclid(DATETIME_PER_DAY);
    (day + DAYS_TO_1900) * TICKS_PER_DAY + (part * 100_000 + 1) / 3
}

/// The nearest `datetime`.
pub fn datetime_of_ticks(ticks: i64) -> i64 {
    let day = ticks.div_euclid(TICKS_PER_DAY) - DAYS_TO_1900;
    let part = ticks.rem_euclid(TICKS_PER_DAY);
    day * DATETIME_PER_DAY + (part * 3 + 50_000) / 100_000
}

/// Ticks rounded to so many digits of a second; may reach the next day.
pub fn rounded(ticks: i64, scale: u8) -> i64 {
    let unit = 10_i64.pow(7 - u32::from(scale.min(7)));
    (ticks + unit / 2).div_euclid(unit) * unit
}

pub fn day_number(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if !(1..=9999).contains(&year) || !(1..=days).contains(&day) {
        return None;
    }
    // Years that begin in March make the leap day the last one.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    Some(
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day
            - 1
            - 306,
    )
}

/// Year, month and day.
pub fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 306;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * of_year + 2) / 153;
    let day = of_year - (153 * m + 2) / 5 + 1;
    let month = if m < 10 { m + 3 } else { m - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

pub fn date_text(days: i64) -> String {
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `15:04:05.123`, with so many digits.
pub fn time_text(ticks: i64, digits: u8) -> String {
    let seconds = ticks / TICKS_PER_SECOND;
    let text = format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    if digits == 0 {
        return text;
    }
    let fraction = format!("{:07}", ticks % TICKS_PER_SECOND);
    format!(
        "{text}.{}",
        fraction
            .get(..usize::from(digits.min(7)))
            .unwrap_or_default()
    )
}

pub fn offset_text(minutes: i64) -> String {
    let sign = if minutes < 0 { '-' } else { '+' };
    format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
}

/// What a text says of an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// Local ticks; the day is 1900-01-01 where there is none.
    pub ticks: i64,
    pub offset_minutes: Option<i64>,
    pub fraction_digits: usize,
}

/// Reads `2026-01-30`, `20260130`, `2026-01-30T15:04:05.1234567+02:00`, `15:04:05` and `15:04`.
pub fn parse(text: &str) -> Option<Parsed> {
    let text = text.trim();
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(at) => (text.get(..at)?, text.get(at + 1..)?.trim_start()),
        None if text.contains(':') => ("", text),
        None => (text, ""),
    };
    let day = if date.is_empty() {
        DAYS_TO_1900
    } else {
        parse_date(date)?
    };
    let (time, offset_minutes) = split_offset(time)?;
    let (of_day, fraction_digits) = if time.is_empty() {
        (0, 0)
    } else {
        parse_time(time)?
    };
    let ticks = day * TICKS_PER_DAY + of_day;
    (0..=LAST_DAY).contains(&day).then_some(Parsed {
        ticks,
        offset_minutes,
        fraction_digits,
    })
}

fn parse_date(date: &str) -> Option<i64> {
    let number = |text: &str| -> Option<i64> {
        (!text.is_empty() && text.bytes().all(|it| it.is_ascii_digit()))
            .then(|| text.parse().ok())?
    };
    let mut parts = date.split(['-', '/', '.']);
    let first = parts.next()?;
    let Some(second) = parts.next() else {
        if first.len() != 8 {
            return None;
        }
        return day_number(
            number(first.get(..4)?)?,
            number(first.get(4..6)?)?,
            number(first.get(6..)?)?,
        );
    };
    let third = parts.next()?;
    if parts.next().is_some() {
        return None;
    }
    if first.len() == 4 {
        day_number(number(first)?, number(second)?, number(third)?)
    } else {
        day_number(number(third)?, number(first)?, number(second)?)
    }
}

fn split_offset(time: &str) -> Option<(&str, Option<i64>)> {
    if let Some(utc) = time.strip_suffix(['Z', 'z']) {
        return Some((utc.trim_end(), Some(0)));
    }
    let Some(at) = time.rfind(['+', '-']) else {
        return Some((time, None));
    };
    let (hours, minutes) = time.get(at + 1..)?.split_once(':')?;
    let total = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
    let sign = if time.get(at..)?.starts_with('-') {
        -1
    } else {
        1
    };
    (total <= 840).then_some((time.get(..at)?.trim_end(), Some(sign * total)))
}

fn parse_time(time: &str) -> Option<(i64, usize)> {
    let mut parts = time.split(':');
    let hours: i64 = parts.next()?.parse().ok()?;
    let minutes: i64 = parts.next()?.parse().ok()?;
    let (seconds, fraction) = match parts.next() {
        None => ("0", ""),
        Some(rest) => rest.split_once('.').unwrap_or((rest, "")),
    };
    let seconds: i64 = seconds.parse().ok()?;
    if parts.next().is_some()
        || !(0..24).contains(&hours)
        || !(0..60).contains(&minutes)
        || !(0..60).contains(&seconds)
    {
        return None;
    }
    if fraction.len() > 7 || !fraction.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let fraction_ticks: i64 = format!("{fraction:0<7}").parse().ok()?;
    Some((
        (hours * 3600 + minutes * 60 + seconds) * TICKS_PER_SECOND + fraction_ticks,
        fraction.len(),
    ))
}

/// Now, in UTC.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    DAYS_TO_1970 * TICKS_PER_DAY + (since.as_nanos() / 100) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_count_from_the_first_year() {
        assert_eq!(day_number(1, 1, 1), Some(0));
        assert_eq!(day_number(1900, 1, 1), Some(DAYS_TO_1900));
        assert_eq!(day_number(1970, 1, 1), Some(DAYS_TO_1970));
        assert_eq!(day_number(9999, 12, 31), Some(LAST_DAY));
        for days in (0..=LAST_DAY).step_by(97) {
            let (y, m, d) = civil(days);
            assert_eq!(day_number(y, m, d), Some(days));
        }
    }

    #[test]
    fn a_datetime_is_300ths_of_a_second() {
        let ticks = parse("2026-01-30T00:00:00.003").unwrap().ticks;
        let datetime = datetime_of_ticks(ticks);
        assert_eq!(ticks_of_datetime(datetime) - ticks, 3_333);
        assert_eq!(datetime_of_ticks(ticks_of_datetime(datetime)), datetime);
    }

    #[test]
    fn text_is_read_in_its_usual_forms() {
        let plain = parse("2026-01-30 15:04:05.1234567").unwrap();
        assert_eq!(
            time_text(plain.ticks % TICKS_PER_DAY, 7),
            "15:04:05.1234567"
        );
        assert_eq!(date_text(plain.ticks / TICKS_PER_DAY), "2026-01-30");
        assert_eq!(parse("20260130").unwrap().ticks % TICKS_PER_DAY, 0);
        assert_eq!(
            parse("2026-01-30T15:04:05-05:30").unwrap().offset_minutes,
            Some(-330)
        );
        assert_eq!(parse("2026-02-30"), None);
        assert_eq!(parse("nonsense"), None);
    }
}
