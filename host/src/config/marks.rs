//! Where every key of a YAML text stands.
//!
//! It walks the parser's events without recursion and refuses what a configuration must not hold: several
//! documents, keys given twice, anchors, aliases, merge keys, tags and nesting without end. The values
//! themselves are read in `document.rs`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::error::{ConfigProblem, Position};

/// Deeper than any settings need, and shallow enough for every recursive reader after this one.
const MAX_DEPTH: usize = 32;

/// Line breaks in YAML 1.1, ordinary characters in YAML 1.2: one parser sees another document than the other.
const OTHER_LINE_BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// Where a key and its value begin. A list's item has no key; its value stands for both.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub key: Position,
    pub value: Position,
}

/// Marks by dotted key, such as `source.shards[1].port`.
pub(super) type Marks = BTreeMap<String, Mark>;

/// The dotted key of an entry of a mapping. Names that would be ambiguous are quoted.
pub(super) fn entry_key(parent: &str, name: &str) -> String {
    let plain = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let name = if plain {
        name.to_owned()
    } else {
        format!("{name:?}")
    };
    if parent.is_empty() {
        name
    } else {
        format!("{parent}.{name}")
    }
}

/// The dotted key of a list's item.
pub(super) fn item_key(parent: &str, index: usize) -> String {
    format!("{parent}[{index}]")
}

/// Finds the marks of `text`, or all that is wrong with it as YAML.
pub(super) fn scan(file: &str, text: &str) -> Result<Marks, Vec<ConfigProblem>> {
    let mut scan = Scan {
        file,
        marks: Marks::new(),
        problems: Vec::new(),
        open: Vec::new(),
        documents: 0,
    };
    if let Some((before, _)) = text.split_once(OTHER_LINE_BREAKS) {
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        let at = Marker::new(0, before.matches('\n').count() + 1, column);
        let message = "found an invisible line break, one of U+0085, U+2028, U+2029";
        scan.problem(
            at,
            message,
            "remove it, or write it as \\N, \\L or \\P in double quotes",
        );
        return Err(scan.problems);
    }
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let flow = match event {
            Ok((event, place)) => scan.event(&event, place.start),
            Err(error) => {
                let fix = "check indentation and quotes here and on the line above; within { } and [ ] a ${NAME} needs quotes";
                scan.problem(*error.marker(), error.info(), fix);
                ControlFlow::Break(())
            }
        };
        if flow.is_break() {
            break;
        }
    }
    if scan.problems.is_empty() {
        Ok(scan.marks)
    } else {
        Err(scan.problems)
    }
}

struct Scan<'a> {
    file: &'a str,
    marks: Marks,
    problems: Vec<ConfigProblem>,
    /// The mappings and lists that are not closed yet, outermost first.
    open: Vec<Open>,
    documents: usize,
}

enum Open {
    Mapping {
        key: String,
        /// The key whose value comes next.
        pending: Option<(String, Position)>,
        /// The line of every key so far.
        seen: BTreeMap<String, usize>,
    },
    List {
        key: String,
        next: usize,
    },
}

impl Scan<'_> {
    fn event(&mut self, event: &Event<'_>, at: Marker) -> ControlFlow<()> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.problem(
                        at,
                        "the file holds more than one YAML document",
                        "remove the line `---`",
                    );
                    return ControlFlow::Break(());
                }
            }
            Event::Alias(_) => {
                self.problem(at, "aliases are not supported", ANCHOR_FIX);
                return self.value(at).map_continue(drop);
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(at, *anchor, tag.is_some());
                if self.expects_key() {
                    self.key(text, *style, at);
                } else {
                    return self.value(at).map_continue(drop);
                }
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(at, *anchor, tag.is_some());
                let key = self.value(at)?;
                self.open.push(Open::Mapping {
                    key,
                    pending: None,
                    seen: BTreeMap::new(),
                });
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(at, *anchor, tag.is_some());
                let key = self.value(at)?;
                self.open.push(Open::List { key, next: 0 });
            }
            Event::MappingEnd | Event::SequenceEnd => {
                self.open.pop();
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        ControlFlow::Continue(())
    }

    fn expects_key(&self) -> bool {
        matches!(self.open.last(), Some(Open::Mapping { pending: None, .. }))
    }

    fn key(&mut self, text: &str, style: ScalarStyle, at: Marker) {
        if text == "<<" && style == ScalarStyle::Plain {
            self.problem(at, "merge keys are not supported", ANCHOR_FIX);
        }
        let position = self.position(at);
        let Some(Open::Mapping { key, pending, seen }) = self.open.last_mut() else {
            return;
        };
        let child = entry_key(key, text);
        let first = seen.insert(text.to_owned(), position.line);
        *pending = Some((child.clone(), position.clone()));
        if let Some(line) = first {
            let message = format!("is given twice, first on line {line}");
            self.problems.push(ConfigProblem {
                position,
                key: child,
                message,
                fix: Some("remove one".into()),
            });
        }
    }

    /// Marks the value that begins here and tells its dotted key.
    fn value(&mut self, at: Marker) -> ControlFlow<(), String> {
        if self.expects_key() {
            self.problem(at, "a key must be plain text", "write it as name: value");
            return ControlFlow::Break(());
        }
        if self.open.len() >= MAX_DEPTH {
            self.problem(
                at,
                &format!("is nested more than {MAX_DEPTH} levels deep"),
                "flatten it",
            );
            return ControlFlow::Break(());
        }
        let value = self.position(at);
        let (key, mark) = match self.open.last_mut() {
            Some(Open::Mapping { pending, .. }) => match pending.take() {
                Some((key, position)) => (
                    key,
                    Mark {
                        key: position,
                        value,
                    },
                ),
                None => return ControlFlow::Break(()),
            },
            Some(Open::List { key, next }) => {
                let item = item_key(key, *next);
                *next += 1;
                (
                    item,
                    Mark {
                        key: value.clone(),
                        value,
                    },
                )
            }
            None => (
                String::new(),
                Mark {
                    key: value.clone(),
                    value,
                },
            ),
        };
        self.marks.insert(key.clone(), mark);
        ControlFlow::Continue(key)
    }

    fn refuse_extras(&mut self, at: Marker, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.problem(at, "anchors are not supported", ANCHOR_FIX);
        }
        if tagged {
            self.problem(
                at,
                "tags are not supported",
                "put the value in quotes if the `!` belongs to it",
            );
        }
    }

    fn position(&self, at: Marker) -> Position {
        Position {
            file: self.file.to_owned(),
            line: at.line(),
            column: at.col() + 1,
        }
    }

    fn problem(&mut self, at: Marker, message: &str, fix: &str) {
        let key = match self.open.last() {
            Some(
                Open::Mapping {
                    pending: Some((key, _)),
                    ..
                }
                | Open::Mapping { key, .. },
            ) => key.clone(),
            Some(Open::List { key, next }) => item_key(key, *next),
            None => String::new(),
        };
        let position = self.position(at);
        self.problems.push(ConfigProblem {
            position,
            key,
            message: message.to_owned(),
            fix: Some(fix.to_owned()),
        });
    }
}

const ANCHOR_FIX: &str = "write the value out, in quotes if the `&` or `*` belongs to it; \
                          what all shards share goes under source itself";

#[cfg(test)]
mod tests {
    // `UPDATE_EXPECT` writes every golden with hashes.
    #![allow(clippy::unwrap_used, clippy::needless_raw_string_hashes)]

    use expect_test::expect;

    use super::*;

    fn places(text: &str) -> Vec<String> {
        let marks = scan("f", text).unwrap();
        marks
            .iter()
            .map(|(key, mark)| format!("{key} {} {}", mark.key, mark.value))
            .collect()
    }

    fn problems(text: &str) -> Vec<String> {
        scan("f", text)
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn marks_keys_and_values() {
        assert_eq!(
            places("a: 1\nb:\n  - c: x\n    d.e: { f: [ö, 2] }\n"),
            [
                " f:1:1 f:1:1",
                "a f:1:1 f:1:4",
                "b f:2:1 f:3:3",
                "b[0] f:3:5 f:3:5",
                "b[0].\"d.e\" f:4:5 f:4:10",
                "b[0].\"d.e\".f f:4:12 f:4:15",
                "b[0].\"d.e\".f[0] f:4:16 f:4:16",
                "b[0].\"d.e\".f[1] f:4:19 f:4:19",
                "b[0].c f:3:5 f:3:8",
            ]
        );
    }

    #[test]
    fn counts_lines_of_other_systems() {
        assert_eq!(
            places("a:\r\n  b: 1\r\n").last().unwrap(),
            "a.b f:2:3 f:2:6"
        );
        assert_eq!(
            places("a: |\n  x\n  y\nb: 1\n").last().unwrap(),
            "b f:4:1 f:4:4"
        );
    }

    #[test]
    fn an_empty_text_has_no_marks() {
        assert_eq!(places(""), [""; 0]);
        assert_eq!(places("# nothing\n"), [""; 0]);
    }

    #[test]
    fn refuses_what_a_configuration_must_not_hold() {
        expect!["f:3:1: a: is given twice, first on line 1 (remove one)"]
            .assert_eq(&problems("a: 1\nb: 2\na: 3\n").join("\n"));
        expect![[r#"
            f:1:4: a: anchors are not supported (write the value out, in quotes if the `&` or `*` belongs to it; what all shards share goes under source itself)
            f:2:4: b: aliases are not supported (write the value out, in quotes if the `&` or `*` belongs to it; what all shards share goes under source itself)
            f:4:3: c: merge keys are not supported (write the value out, in quotes if the `&` or `*` belongs to it; what all shards share goes under source itself)
            f:5:4: e: tags are not supported (put the value in quotes if the `!` belongs to it)"#]]
            .assert_eq(&problems("a: &x 1\nb: *x\nc:\n  <<: { d: 1 }\ne: !t 1\n").join("\n"));
        expect!["f:2:1: the file holds more than one YAML document (remove the line `---`)"]
            .assert_eq(&problems("a: 1\n---\nb: 2\n").join("\n"));
        expect![[r#"f:2:5: found an invisible line break, one of U+0085, U+2028, U+2029 (remove it, or write it as \N, \L or \P in double quotes)"#]].assert_eq(&problems("a: 1\nbö: \u{2028}\n").join("\n"));
        expect!["f:1:3: a key must be plain text (write it as name: value)"]
            .assert_eq(&problems("? [a, b]\n: 1\n").join("\n"));
        expect!["f:2:2: a: tabs disallowed within this context (block indentation) (check indentation and quotes here and on the line above; within { } and [ ] a ${NAME} needs quotes)"].assert_eq(&problems("a:\n\tb: 1\n").join("\n"));
        expect!["f:2:2: a[1]: illegal placement of ':' indicator (check indentation and quotes here and on the line above; within { } and [ ] a ${NAME} needs quotes)"].assert_eq(&problems("a: [1, 2\nb: 3\n").join("\n"));
        expect!["f:1:5: mapping values are not allowed in this context (check indentation and quotes here and on the line above; within { } and [ ] a ${NAME} needs quotes)"].assert_eq(&problems("a: b: c\n").join("\n"));
    }

    #[test]
    fn nesting_has_an_end() {
        for open in ["[", "{a: ", "- ", "? "] {
            let found = problems(&open.repeat(100_000));
            assert_eq!(found.len(), 1, "{open}");
        }
    }
}
