//! `${NAME}` in the strings of a configuration.
//!
//! - `${NAME}` is the variable's value; an unset one is an error, an empty one is empty.
//! - `${NAME:-default}` is the default when the variable is unset or empty.
//! - `$$` is a `$`; any other `$` stands for itself, so `pa$word` and `$5` need no escape.
//!
//! What is put in is not looked at again: neither as another `${…}` nor as YAML. Names are
//! `[A-Za-z_][A-Za-z0-9_]*`. Error messages hold names of variables, never the rest of the string.

use std::cell::RefCell;

/// How a variable is looked up.
pub(super) type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// A string after interpolation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Interpolated {
    /// The text with every variable put in.
    pub text: String,
    /// Whether there was a variable at all.
    pub substituted: bool,
}

/// One thing wrong with the variables of a string.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InterpolationError {
    #[error("environment variable {0} is not set")]
    Unset(String),
    #[error("`${{` without a closing `}}`")]
    Unclosed,
    #[error("`${{…}}` holds no variable name")]
    BadName,
    #[error("the default in `${{…:-…}}` holds another `${{`")]
    Nested,
}

impl InterpolationError {
    /// What to do about it.
    pub fn fix(&self) -> String {
        match self {
            Self::Unset(name) => format!("set {name}, or write ${{{name}:-default}}"),
            Self::Unclosed => "write ${NAME}, or $${ for the two characters themselves".into(),
            Self::BadName => "a name is letters, digits and _, such as ${POSTGRES_HOST}".into(),
            Self::Nested => "a default is plain text".into(),
        }
    }
}

/// The names of the variables in `text`, in its order.
pub(super) fn variables(text: &str) -> Vec<String> {
    let names = RefCell::new(Vec::new());
    let note = |name: &str| {
        names.borrow_mut().push(name.to_owned());
        Some(String::new())
    };
    // Mistakes were told when it was read.
    let _ = interpolate(text, &note);
    names.into_inner()
}

/// Puts the variables into `text`, or tells all that is wrong with them.
pub(super) fn interpolate(
    text: &str,
    env: &Env<'_>,
) -> Result<Interpolated, Vec<InterpolationError>> {
    let mut result = Interpolated {
        text: String::with_capacity(text.len()),
        substituted: false,
    };
    let mut errors = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.text.push_str(before);
        if let Some(tail) = after.strip_prefix('$') {
            result.text.push('$');
            rest = tail;
        } else if let Some(tail) = after.strip_prefix('{') {
            let Some((inside, tail)) = tail.split_once('}') else {
                errors.push(InterpolationError::Unclosed);
                break;
            };
            match variable(inside, env) {
                Ok(value) => result.text.push_str(&value),
                Err(error) => errors.push(error),
            }
            result.substituted = true;
            rest = tail;
        } else {
            result.text.push('$');
            rest = after;
        }
    }
    result.text.push_str(rest);
    if errors.is_empty() {
        Ok(result)
    } else {
        Err(errors)
    }
}

/// The value of what stands between the braces.
fn variable(inside: &str, env: &Env<'_>) -> Result<String, InterpolationError> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if !is_name(name) {
        return Err(InterpolationError::BadName);
    }
    match (env(name), default) {
        (_, Some(default)) if default.contains("${") => Err(InterpolationError::Nested),
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.replace("$$", "$")),
        (None, None) => Err(InterpolationError::Unset(name.to_owned())),
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("db1".into()),
            "EMPTY" => Some(String::new()),
            "TRICKY" => Some("${HOST} $$ a: [b".into()),
            _ => None,
        }
    }

    fn ok(text: &str) -> String {
        interpolate(text, &env).unwrap().text
    }

    #[test]
    fn puts_values_in() {
        assert_eq!(ok("${HOST}"), "db1");
        assert_eq!(ok("tcp://${HOST}:${PORT:-5432}/"), "tcp://db1:5432/");
        assert_eq!(ok("[${EMPTY}]"), "[]");
        assert_eq!(ok("${EMPTY:-x}${UNSET:-}"), "x");
        assert_eq!(ok("${HOST:-x}"), "db1");
    }

    #[test]
    fn values_are_not_looked_at_again() {
        assert_eq!(ok("${TRICKY}"), "${HOST} $$ a: [b");
    }

    #[test]
    fn dollars_stand_for_themselves() {
        assert_eq!(ok("pa$word $5 $"), "pa$word $5 $");
        assert_eq!(ok("$${HOST} $$$$ $$${HOST}"), "${HOST} $$ $db1");
        assert_eq!(ok("${UNSET:-a$$b}"), "a$b");
    }

    #[test]
    fn tells_everything_that_is_wrong() {
        use InterpolationError::{BadName, Nested, Unclosed, Unset};
        let errors =
            interpolate("${A} ${B} ${} ${1A} ${my-name} ${C:-${D}} ${E", &env).unwrap_err();
        assert_eq!(
            errors,
            [
                Unset("A".into()),
                Unset("B".into()),
                BadName,
                BadName,
                BadName,
                Nested,
                Unclosed
            ]
        );
    }

    #[test]
    fn knows_whether_there_was_a_variable() {
        assert!(interpolate("a${HOST}", &env).unwrap().substituted);
        assert!(interpolate("${UNSET:-1}", &env).unwrap().substituted);
        assert!(!interpolate("$$a$", &env).unwrap().substituted);
    }

    proptest! {
        #[test]
        fn any_text_survives_escaping(text in any::<String>()) {
            prop_assert_eq!(ok(&text.replace('$', "$$")), text);
        }

        #[test]
        fn any_value_arrives_as_it_is(value in any::<String>()) {
            let env = |_: &str| Some(value.clone());
            prop_assert_eq!(interpolate("${V}", &env).unwrap().text, value.clone());
        }

        #[test]
        fn never_panics(text in "[${}:A-]{0,20}") {
            let _ = interpolate(&text, &env);
        }
    }
}
