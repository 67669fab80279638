//! Plain tables and numbers for people.

use comfy_table::{CellAlignment, Table, presets};

/// A table with these headings, ready for rows. Columns in `right` hold numbers.
pub fn table(headings: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headings.iter().map(|heading| heading.to_uppercase()));
    for index in right {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A table's text, indented, without blanks at the ends of lines.
pub fn indented(table: &Table) -> String {
    table
        .to_string()
        .lines()
        .fold(String::new(), |mut text, line| {
            text.push_str(&format!(" {line}").trim_end().replace('\t', " "));
            text.push('\n');
            text
        })
}

/// Most characters of a position in a table.
const MOST: usize = 64;

/// A position as a table shows it: those that plugins make may be of any length, and JSON has them whole.
pub fn shortened(position: &str) -> String {
    if position.chars().count() <= MOST {
        return position.to_owned();
    }
    position.chars().take(MOST - 1).chain(['…']).collect()
}

/// 1234567 as 1,234,567.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_positions_are_cut() {
        let long = "é".repeat(MOST);
        assert_eq!(shortened(&long), long);
        assert_eq!(
            shortened(&(long + "x")),
            format!("{}…", "é".repeat(MOST - 1))
        );
    }

    #[test]
    fn long_numbers_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(thousands(number), text);
        }
    }
}
