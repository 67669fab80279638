//! Whether the server will take a text for JSON. One that it refuses in the middle of a COPY would fail all rows, and
//! would not say which one it was.

use serde::de::IgnoredAny;

/// Fails unless the text is JSON. What is nested deeper than 128 levels is not looked through.
pub fn check(text: &str) -> Result<(), &'static str> {
    serde_json::from_str::<IgnoredAny>(text)
        .map(|_| ())
        .map_err(|_| "text that is no JSON")
}

/// Fails for escapes of JSON that `jsonb` cannot hold: U+0000, and half of a pair of surrogates.
pub fn check_escapes(json: &str) -> Result<(), &'static str> {
    const HALF: &str = "JSON with half of a surrogate pair, which jsonb cannot hold";
    let mut rest = json;
    let mut high = false;
    while let Some(at) = rest.find('\\') {
        // Only an escape directly behind the first half is its second one.
        if high && at > 0 {
            return Err(HALF);
        }
        let escape = rest.get(at + 1..).unwrap_or_default();
        let Some(digits) = escape.strip_prefix('u') else {
            if high {
                return Err(HALF);
            }
            rest = escape.get(1..).unwrap_or_default();
            continue;
        };
        let code = digits
            .get(..4)
            .and_then(|digits| u16::from_str_radix(digits, 16).ok());
        match code.unwrap_or_default() {
            0 => return Err("JSON with U+0000, which jsonb cannot hold"),
            0xd800..=0xdbff if !high => high = true,
            0xdc00..=0xdfff if high => high = false,
            0xd800..=0xdfff => return Err(HALF),
            _ if high => return Err(HALF),
            _ => {}
        }
        rest = digits.get(4..).unwrap_or_default();
    }
    if high { Err(HALF) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_server_refuses_is_refused_here() {
        for fine in ["null", r#"{"a": [1, 1e9, "é\u00e9\ud83d\ude00\\u0000\n"]}"#] {
            assert_eq!(check(fine).and(check_escapes(fine)), Ok(()), "{fine}");
        }
        for no in ["", "{", "nope", "{'a': 1}", "[1,]", "1 2"] {
            assert!(check(no).is_err(), "{no}");
        }
        for no in [
            r#""\u0000""#,
            r#""\\\u0000""#,
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ud83dx\ude00""#,
            r#""\ud83d\n""#,
            r#""\ud83d\ud83d""#,
        ] {
            assert_eq!(check(no), Ok(()), "{no}");
            assert!(check_escapes(no).is_err(), "{no}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[\\\\u0d8é\"]{0,20}\\PC*") {
            let _ = (check(&text), check_escapes(&text));
        }
    }
}
