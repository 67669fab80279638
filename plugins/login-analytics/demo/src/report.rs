//! Shows what the pipeline has put into the sink: logins by country and by device.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::sink::Sink;

const LINES: usize = 12;
const WIDEST_BAR: i64 = 30;

/// Shows logins by country and by device.
#[derive(Debug, clap::Args)]
pub struct Report {
    /// The sink, a SQLite file
    #[arg(long, default_value = "data/warehouse.db")]
    db: PathBuf,
    /// The sink is `PostgreSQL`, where `POSTGRES_HOST` and its kin say
    #[arg(long, conflicts_with = "db")]
    postgres: bool,
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
        let sink = if self.postgres {
            Sink::postgres()?
        } else {
            Sink::sqlite(&self.db)?
        };
        let rows = sink.rows()?;
        if let Some(expected) = self.expect
            && expected != rows
        {
            bail!("login_analytics holds {rows} rows, expected {expected}");
        }
        let mut text = format!("login_analytics holds {rows} rows\n");
        if !self.brief {
            for (title, column) in [("country", "location"), ("device", "device")] {
                let _ = writeln!(text, "\nLogins by {title}\n");
                text += &table(&sink.counts(column)?, rows);
            }
        }
        Ok(text)
    }
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
}
