//! Sizes as people write them: `65536`, `64KiB`, `16MiB`, `1GiB`.
//!
//! Only powers of two, so that `MB` cannot mean two things.

const UNITS: [(&str, usize); 4] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("", 1),
];

/// The text is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(r#"expected a size such as 65536, "64KiB", "16MiB" or "1GiB""#)]
pub(super) struct NotASize;

/// Reads a size in bytes.
pub(super) fn parse(text: &str) -> Result<usize, NotASize> {
    let (digits, unit) = UNITS
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)))
        .ok_or(NotASize)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NotASize);
    }
    let count: usize = digits.parse().map_err(|_| NotASize)?;
    count.checked_mul(unit).ok_or(NotASize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_units_and_plain_bytes() {
        let sizes = ["65536", "64KiB", "16MiB", "1GiB"].map(parse);
        assert_eq!(sizes, [Ok(65_536), Ok(65_536), Ok(16 << 20), Ok(1 << 30)]);
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "MiB",
            "16MB",
            "16 MiB",
            "-1",
            "+1",
            "1.5MiB",
            "99999999999999999999GiB",
            "18446744073709551615KiB",
        ] {
            assert_eq!(parse(text), Err(NotASize), "{text}");
        }
    }
}
