//! Rows as a table for people: types below the names, NULL told from empty text, long values cut.

use std::fmt::Write;
use std::io::IsTerminal;

use rustix::termios::tcgetwinsize;
use serde_json::Value;

use super::table::thousands;
use crate::sample::{Shown, ShownColumn, ShownLetter, ShownTable};

/// Characters of a value that are shown where there is room for them.
const LONGEST: usize = 60;
/// A column is not made narrower than this to get others beside it.
const NARROWEST: usize = 12;
const INDENT: &str = "  ";
const GAP: &str = "  ";

/// How much of the values is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// All of them.
    Whole,
    /// Each up to a length.
    Cut,
    /// As much as fits into lines of so many characters.
    Line(usize),
}

impl Room {
    /// What stdout has room for.
    pub fn of_stdout(wide: bool) -> Self {
        let stdout = std::io::stdout();
        match (wide, stdout.is_terminal()) {
            (true, _) => Self::Whole,
            (false, false) => Self::Cut,
            (false, true) => match tcgetwinsize(&stdout) {
                Ok(size) if size.ws_col > 0 => Self::Line(size.ws_col.into()),
                _ => Self::Cut,
            },
        }
    }

    fn longest(self) -> usize {
        match self {
            Self::Whole => usize::MAX,
            Self::Cut | Self::Line(_) => LONGEST,
        }
    }

    /// A line of text by itself.
    fn line(self, text: &str) -> String {
        match self {
            Self::Line(width) => cut(text, width.max(NARROWEST)),
            Self::Cut => cut(text, 2 * LONGEST),
            Self::Whole => text.to_owned(),
        }
    }
}

/// All tables, and below them the rows that were set aside.
pub fn to_text(shown: &Shown, room: Room) -> String {
    let mut text = String::new();
    for table in &shown.tables {
        let kept = table.rows.len() as u64;
        // Writing to a String cannot fail, here and below.
        let _ = match (table.total, kept) {
            (total, kept) if total > kept => writeln!(
                text,
                "\n{}: {}, the first {}",
                table.table,
                rows(total),
                thousands(kept)
            ),
            (total, _) => writeln!(text, "\n{}: {}", table.table, rows(total)),
        };
        text.push_str(&table_to_text(table, room));
    }
    if shown.set_aside_total > 0 {
        let kept = shown.set_aside.len() as u64;
        let first = if shown.set_aside_total > kept {
            format!(", the first {}", thousands(kept))
        } else {
            String::new()
        };
        let _ = writeln!(text, "\nset aside: {}{first}", rows(shown.set_aside_total));
        for letter in &shown.set_aside {
            text.push_str(&letter_to_text(letter, room));
        }
    }
    text
}

/// 1 row, 2 rows.
pub fn rows(count: u64) -> String {
    match count {
        1 => "1 row".to_owned(),
        many => format!("{} rows", thousands(many)),
    }
}

fn letter_to_text(letter: &ShownLetter, room: Room) -> String {
    let column = match &letter.column {
        Some(column) => format!(", column {}", plain(column)),
        None => String::new(),
    };
    let reason = plain(&letter.reason);
    let row = room.line(&format!("{INDENT}  {}", letter.row));
    format!("{INDENT}{}{column}: {reason}\n{row}\n", letter.stage)
}

/// The table of columns alone, without a heading.
pub fn table_to_text(table: &ShownTable, room: Room) -> String {
    let longest = room.longest();
    let declared = table
        .columns
        .iter()
        .any(|column| column.source_type.is_some());
    let heads: Vec<Vec<String>> = table
        .columns
        .iter()
        .map(|column| head(column, declared))
        .collect();
    let body: Vec<Vec<String>> = table
        .rows
        .iter()
        .map(|row| {
            let cells = row.iter().zip(&table.columns);
            let cells = cells.map(|(value, column)| cut(&cell(value, column.numeric), longest));
            cells.collect()
        })
        .collect();
    let mut widths: Vec<usize> = heads
        .iter()
        .enumerate()
        .map(|(index, head)| {
            let cells = body.iter().filter_map(|row| row.get(index));
            let lengths = head.iter().chain(cells).map(|text| text.chars().count());
            lengths.max().unwrap_or_default()
        })
        .collect();
    if let Room::Line(line) = room {
        widths = fit(&widths, line);
    }
    let mut text = String::new();
    for line in 0..heads.first().map_or(0, Vec::len) {
        let cells = heads
            .iter()
            .map(|head| head.get(line).map_or("", String::as_str));
        push_line(&mut text, cells, table, &widths);
    }
    let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    push_line(&mut text, rules.iter().map(String::as_str), table, &widths);
    for row in &body {
        push_line(&mut text, row.iter().map(String::as_str), table, &widths);
    }
    let left_out: Vec<String> = table
        .columns
        .iter()
        .skip(widths.len())
        .map(|column| plain(&column.name))
        .collect();
    if !left_out.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{INDENT}… and {}; --wide shows them",
            left_out.join(", ")
        );
    }
    text
}

fn head(column: &ShownColumn, declared: bool) -> Vec<String> {
    let mut lines = vec![plain(&column.name), column.data_type.clone()];
    if declared {
        let declared = column.source_type.as_deref();
        lines.push(declared.unwrap_or("-").to_owned());
    }
    lines
}

fn push_line<'a>(
    text: &mut String,
    cells: impl Iterator<Item = &'a str>,
    table: &ShownTable,
    widths: &[usize],
) {
    let mut line = String::from(INDENT);
    for (index, (cell, (width, column))) in cells.zip(widths.iter().zip(&table.columns)).enumerate()
    {
        let cell = cut(cell, *width);
        if index > 0 {
            line.push_str(GAP);
        }
        // Writing to a String cannot fail.
        let _ = if column.numeric {
            write!(line, "{cell:>width$}")
        } else {
            write!(line, "{cell:<width$}")
        };
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

/// The widths of the columns that fit into a line: the widest are made narrower first; then the last are left out.
fn fit(widths: &[usize], line: usize) -> Vec<usize> {
    let needed = |widths: &[usize]| -> usize {
        INDENT.len() + widths.iter().map(|width| width + GAP.len()).sum::<usize>() - GAP.len()
    };
    let narrowed =
        |most: usize| -> Vec<usize> { widths.iter().map(|width| *width.min(&most)).collect() };
    let mut fitting = (NARROWEST..=LONGEST)
        .rev()
        .map(narrowed)
        .find(|widths| widths.is_empty() || needed(widths) <= line)
        .unwrap_or_else(|| narrowed(NARROWEST));
    while fitting.len() > 1 && needed(&fitting) > line {
        fitting.pop();
    }
    fitting
}

/// A value as it stands in its cell.
fn cell(value: &Value, numeric: bool) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) if numeric => text.clone(),
        Value::String(text) => quoted_if_unclear(text),
        Value::Object(object) => match (object.len(), object.get("hex")) {
            (1, Some(Value::String(digits))) => format!("0x{digits}"),
            _ => value.to_string(),
        },
        other => other.to_string(),
    }
}

/// Text that could be taken for something else, or do something to a terminal, stands in quotes.
fn quoted_if_unclear(text: &str) -> String {
    let unclear = text.is_empty()
        || text == "NULL"
        || text.starts_with('"')
        || text.trim() != text
        || text.chars().any(char::is_control);
    if unclear {
        format!("{text:?}")
    } else {
        text.to_owned()
    }
}

/// Text without anything that a terminal would obey.
fn plain(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.escape_debug().to_string()
    } else {
        text.to_owned()
    }
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut shortened: String = text.chars().take(most.saturating_sub(1)).collect();
    shortened.push('…');
    shortened
}

#[cfg(test)]
#[allow(
    clippy::needless_raw_string_hashes,
    reason = "texts as expect-test writes them"
)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn table(columns: &[(&str, &str, bool)], rows: Value) -> ShownTable {
        let columns = columns
            .iter()
            .map(|(name, data_type, numeric)| ShownColumn {
                name: (*name).to_owned(),
                data_type: (*data_type).to_owned(),
                source_type: None,
                numeric: *numeric,
            });
        let rows: Vec<Vec<Value>> = serde_json::from_value(rows).unwrap();
        ShownTable {
            table: "t".to_owned(),
            columns: columns.collect(),
            total: rows.len() as u64,
            rows,
        }
    }

    /// With a line that is not indented, which an expected text needs.
    fn shown(table: &ShownTable, room: Room) -> String {
        format!("t\n{}", table_to_text(table, room))
    }

    #[test]
    fn null_is_told_from_text_and_terminals_are_not_told_anything() {
        let table = table(
            &[
                ("id", "Int64", true),
                ("text", "Utf8", false),
                ("bytes", "Binary", false),
            ],
            json!([
                [1, null, { "hex": "00ff" }],
                [22, "", null],
                [3, "NULL", { "hex": "" }],
                [4, " \u{1b}[31m", { "a": 1 }],
                [-5, "fine \"text\"", null],
            ]),
        );
        expect![[r#"
            t
                 id  text           bytes
              Int64  Utf8           Binary
              -----  -------------  -------
                  1  NULL           0x00ff
                 22  ""             NULL
                  3  "NULL"         0x
                  4  " \u{1b}[31m"  {"a":1}
                 -5  fine "text"    NULL
        "#]]
        .assert_eq(&shown(&table, Room::Cut));
    }

    #[test]
    fn what_does_not_fit_is_cut_and_then_left_out() {
        let long = "x".repeat(100);
        let columns = [
            ("a", "Utf8", false),
            ("b", "Utf8", false),
            ("c", "Utf8", false),
        ];
        let table = table(&columns, json!([[long, "short", long]]));
        expect![[r#"
            t
              a                         b      c
              Utf8                      Utf8   Utf8
              ------------------------  -----  ------------------------
              xxxxxxxxxxxxxxxxxxxxxxx…  short  xxxxxxxxxxxxxxxxxxxxxxx…
        "#]]
        .assert_eq(&shown(&table, Room::Line(60)));
        expect![[r#"
            t
              a             b
              Utf8          Utf8
              ------------  -----
              xxxxxxxxxxx…  short
              … and c; --wide shows them
        "#]]
        .assert_eq(&shown(&table, Room::Line(30)));
        assert!(table_to_text(&table, Room::Whole).contains(&long));
    }
}
