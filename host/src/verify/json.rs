//! JSON as `jsonb` sees it: keys in no order, the last of equal ones counts, numbers by their value.

use std::fmt::Write;

use serde_json::{Number, Value};

/// Whole numbers up to here may be written with an exponent and without one.
const MOST: f64 = 18_446_744_073_709_551_615.0;

/// One text for all texts that mean the same; `None` for what is no JSON. Numbers beyond 64 bits count as the nearest
/// floating point number.
pub fn canonical(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    let mut out = String::with_capacity(text.len());
    write(&value, &mut out);
    Some(out)
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Number(number) => write_number(number, out),
        Value::Array(values) => {
            out.push('[');
            for value in values {
                write(value, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (name, value) in members {
                write(&Value::String(name.clone()), out);
                out.push(':');
                write(value, out);
                out.push(',');
            }
            out.push('}');
        }
        // Writing to a String cannot fail, here and below.
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

fn write_number(number: &Number, out: &mut String) {
    let _ = match number.as_f64().filter(|_| number.is_f64()) {
        // Zero has no sign.
        Some(float) if float.fract() == 0.0 && float.abs() < MOST => {
            write!(out, "{:.0}", float + 0.0)
        }
        Some(float) => write!(out, "{float:e}"),
        None => write!(out, "{number}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_the_same_is_the_same() {
        for (a, b) in [
            (
                r#"{"b":1, "a":{"d":null,"c":true}}"#,
                r#"{"a":{"c":true,"d":null},"b":1.0}"#,
            ),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            ("1e2", "100"),
            ("1e17", "100000000000000000"),
            ("-0.0", "0"),
            ("0.10", "1e-1"),
            (r#""\u0041""#, r#""A""#),
        ] {
            assert_eq!(canonical(a), canonical(b), "{a} {b}");
        }
        for (a, b) in [
            ("9007199254740993", "9007199254740992"),
            ("0.1", "0.2"),
            ("[1,2]", "[12]"),
            (r#"{"a":"b"}"#, r#"["a","b"]"#),
        ] {
            assert_ne!(canonical(a), canonical(b), "{a} {b}");
        }
        assert_eq!(canonical("nope"), None);
    }
}
