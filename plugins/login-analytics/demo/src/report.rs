//! Shows what the pipeline has put into the sink: logins by country and by device. It reads the sink as any
//! other program would and knows nothing of the host.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OpenFlags};

const LINES: usize = 12;
const WIDEST_BAR: i64 = 30;

/// Shows logins by country and by device.
#[derive(Debug, clap::Args)]
pub struct Report {
    /// The sink
    #[arg(long, default_value = "data/warehouse.db")]
    db: PathBuf,
    /// Fail unless the table holds this many rows
    #[arg(long)]
    expect: Option<i64>,
    /// Only the number of rows
    #[arg(long)]
    brief: bool,
}

impl Report {
    /// The report as text.
    pub fn text(&self) -> Result<String> {
        let sink = open(&self.db)?;
        let rows: i64 = sink
            .query_row("SELECT count(*) FROM login_analytics", [], |row| row.get(0))
            .with_context(|| format!("{} has no table login_analytics", self.db.display()))?;
        if let Some(expected) = self.expect
            && expected != rows
        {
            bail!("login_analytics holds {rows} rows, expected {expected}");
        }
        let mut text = format!("login_analytics holds {rows} rows\n");
        if !self.brief {
            for (title, column) in [("country", "location"), ("device", "device")] {
                let _ = writeln!(text, "\nLogins by {title}\n");
                text += &table(&counts(&sink, column)?, rows);
            }
        }
        Ok(text)
    }
}

fn open(file: &Path) -> Result<Connection> {
    // A report must not make the file that it reports on.
    Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| format!("cannot read the sink {}", file.display()))
}

/// Rows per value, most first; a missing value counts as "(unknown)".
fn counts(sink: &Connection, column: &str) -> Result<Vec<(String, i64)>> {
    let query = format!(
        "SELECT coalesce(nullif(\"{column}\", ''), '(unknown)'), count(*) FROM login_analytics \
         GROUP BY 1 ORDER BY 2 DESC, 1"
    );
    let mut statement = sink
        .prepare(&query)
        .with_context(|| format!("login_analytics has no column {column}"))?;
    let counts = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(counts.collect::<Result<_, _>>()?)
}

/// One line each for the most frequent values, and one for all others together.
fn table(counts: &[(String, i64)], rows: i64) -> String {
    let (shown, others) = counts.split_at(counts.len().min(LINES));
    let mut lines = shown.to_vec();
    if !others.is_empty() {
        let rest = others.iter().map(|(_, count)| count).sum();
        lines.push((format!("({} others)", others.len()), rest));
    }
    let width = lines.iter().map(|(name, _)| name.chars().count()).max();
    let width = width.unwrap_or_default();
    let most = lines.iter().map(|(_, count)| *count).max().unwrap_or(1);
    let mut text = String::new();
    for (name, count) in lines {
        let tenths = count.saturating_mul(1000) / rows.max(1);
        let bar = usize::try_from(count.saturating_mul(WIDEST_BAR) / most.max(1)).unwrap_or(0);
        let _ = writeln!(
            text,
            "  {name:<width$} {count:>9} {:>3}.{} %  {}",
            tenths / 10,
            tenths % 10,
            "█".repeat(bar)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_come_first_and_the_rest_is_one_line() {
        let many: Vec<(String, i64)> = (0..15).map(|n| (format!("c{n}"), 20 - n)).collect();
        let rows = many.iter().map(|(_, count)| count).sum();
        let text = table(&many, rows);
        assert_eq!(text.lines().count(), LINES + 1);
        assert!(text.lines().next().unwrap().starts_with("  c0 "), "{text}");
        assert!(
            text.lines().last().unwrap().starts_with("  (3 others)"),
            "{text}"
        );
    }

    #[test]
    fn an_empty_sink_makes_an_empty_table() {
        assert_eq!(table(&[], 0), "");
    }

    #[test]
    fn missing_values_are_counted_together() {
        let sink = Connection::open_in_memory().unwrap();
        sink.execute_batch(
            "CREATE TABLE login_analytics (location TEXT, device TEXT);
             INSERT INTO login_analytics VALUES ('Japan', 'bot'), (NULL, 'bot'), ('', NULL);",
        )
        .unwrap();
        let expected = [("(unknown)".to_owned(), 2), ("Japan".to_owned(), 1)];
        assert_eq!(counts(&sink, "location").unwrap(), expected);
    }
}
