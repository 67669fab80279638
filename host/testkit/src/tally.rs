//! The count of what faults have done to rows: lost, doubled, or claimed and not there.
//!
//! It compares what a sink holds with what it must hold, row by row, and what a run said with what the sink gained. It
//! knows neither servers nor configurations. A test adds up its [`Verdict`]s in a [`Tally`], which is one table.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::ops::AddAssign;

/// What was found out about one fault.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How often the fault really happened.
    pub injected: u64,
    /// Runs of the host that were made and looked at.
    pub runs: u64,
    /// Rows of the source that are neither in the sink nor in quarantine.
    pub lost: u64,
    /// Rows of the sink, or of quarantine, that are there too often or never were in the source.
    pub doubled: u64,
    /// Runs that claimed a success or rows that they did not have.
    pub false_successes: u64,
    /// One line for each finding.
    pub findings: Vec<String>,
}

/// What a run said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// It ended with exit code 0.
    pub exit_ok: bool,
    /// Its report says `succeeded`.
    pub says_succeeded: bool,
    /// The rows it says it has loaded.
    pub loaded: u64,
    /// It must know how many these are. One that failed may not: a commit whose answer was lost.
    pub must_know: bool,
}

impl Verdict {
    /// Compares what the sink holds in the end with what it must hold. The order does not matter; the number of equal
    /// rows does.
    pub fn compare(&mut self, expected: &[String], found: &[String]) {
        let difference = Difference::between(expected, found);
        self.lost += difference.missing;
        self.doubled += difference.surplus;
        if let Some(first) = difference.first {
            self.findings.push(format!(
                "{} rows lost and {} doubled of {}; the first: {first}",
                difference.missing,
                difference.surplus,
                expected.len()
            ));
        }
    }

    /// Holds a run to its word: `gained` is what the sink gained by it, `missing` how many rows of its window the sink
    /// lacks after it.
    pub fn hold(&mut self, claim: Claim, gained: u64, missing: u64) {
        let Claim {
            exit_ok,
            says_succeeded,
            loaded,
            must_know,
        } = claim;
        let mut lies = Vec::new();
        if exit_ok != says_succeeded {
            lies.push("exit code and report do not agree".to_owned());
        }
        if (exit_ok || says_succeeded) && missing > 0 {
            lies.push(format!("a success, but {missing} rows are missing"));
        }
        if loaded > gained || (must_know && loaded != gained) {
            lies.push(format!(
                "says {loaded} rows loaded, the sink gained {gained}"
            ));
        }
        if !lies.is_empty() {
            self.false_successes += 1;
            self.findings.extend(lies);
        }
    }

    /// Whether nothing was lost, doubled or claimed in vain, and the fault happened at all.
    pub fn is_clean(&self) -> bool {
        self.injected > 0 && self.lost == 0 && self.doubled == 0 && self.false_successes == 0
    }
}

impl AddAssign for Verdict {
    fn add_assign(&mut self, other: Self) {
        self.injected += other.injected;
        self.runs += other.runs;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.false_successes += other.false_successes;
        self.findings.extend(other.findings);
    }
}

/// How many rows are missing from `found`.
pub fn missing(expected: &[String], found: &[String]) -> u64 {
    Difference::between(expected, found).missing
}

struct Difference {
    missing: u64,
    surplus: u64,
    first: Option<String>,
}

impl Difference {
    fn between(expected: &[String], found: &[String]) -> Self {
        let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
        for row in expected {
            *counts.entry(row).or_default() += 1;
        }
        for row in found {
            *counts.entry(row).or_default() -= 1;
        }
        let sum = |counts: &BTreeMap<&str, i64>, sign: i64| {
            let of_sign = counts.values().map(|count| (count * sign).max(0));
            of_sign.sum::<i64>().unsigned_abs()
        };
        let first = counts.iter().find(|(_, count)| **count != 0);
        Self {
            missing: sum(&counts, 1),
            surplus: sum(&counts, -1),
            first: first.map(|(row, count)| format!("{:+} x {}", -count, start_of(row))),
        }
    }
}

/// Enough of a row to recognise it.
fn start_of(row: &str) -> String {
    row.chars().take(60).collect()
}

/// All faults, each with the sum of its verdicts.
#[derive(Debug, Clone, Default)]
pub struct Tally(BTreeMap<String, Verdict>);

impl Tally {
    /// A tally that expects these faults: one that never happens is a failure, too.
    pub fn expecting<'a>(faults: impl IntoIterator<Item = &'a str>) -> Self {
        let lines = faults
            .into_iter()
            .map(|fault| (fault.to_owned(), Verdict::default()));
        Self(lines.collect())
    }

    /// Adds a verdict to its fault.
    pub fn add(&mut self, fault: &str, verdict: Verdict) {
        *self.0.entry(fault.to_owned()).or_default() += verdict;
    }

    /// How often a fault happened.
    pub fn injected(&self, fault: &str) -> u64 {
        self.0.get(fault).map_or(0, |line| line.injected)
    }

    /// Whether every fault happened and did no harm.
    pub fn is_clean(&self) -> bool {
        self.0.values().all(Verdict::is_clean)
    }
}

impl fmt::Display for Tally {
    /// One table with a total.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.keys().map(|fault| fault.chars().count()).max();
        let width = width.unwrap_or(0).max("fault".len());
        let mut total = Verdict::default();
        let mut text = String::new();
        let line = |text: &mut String, fault: &str, of: &Verdict| {
            let Verdict {
                injected,
                runs,
                lost,
                doubled,
                false_successes,
                ..
            } = of;
            writeln!(
                text,
                "{fault:<width$} | {injected:>14} | {runs:>6} | {lost:>9} | {doubled:>12} | {false_successes:>15}"
            )
        };
        writeln!(
            text,
            "{:<width$} | times injected |   runs | rows lost | rows doubled | false successes",
            "fault"
        )?;
        let rule = format!(
            "{}-+----------------+--------+-----------+--------------+----------------\n",
            "-".repeat(width)
        );
        text.push_str(&rule);
        for (fault, verdict) in &self.0 {
            line(&mut text, fault, verdict)?;
            total += verdict.clone();
        }
        text.push_str(&rule);
        line(&mut text, "total", &total)?;
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn injected() -> Verdict {
        Verdict {
            injected: 1,
            ..Verdict::default()
        }
    }

    fn success(loaded: u64) -> Claim {
        Claim {
            exit_ok: true,
            says_succeeded: true,
            loaded,
            must_know: true,
        }
    }

    #[test]
    fn equal_rows_in_another_order_are_no_finding() {
        let mut verdict = injected();
        verdict.compare(&rows(&["a", "b", "b"]), &rows(&["b", "a", "b"]));
        verdict.hold(success(3), 3, 0);
        assert!(verdict.is_clean(), "{verdict:?}");
    }

    #[test]
    fn a_lost_row_is_found() {
        let mut verdict = injected();
        verdict.compare(&rows(&["a", "b", "b"]), &rows(&["a", "b"]));
        assert_eq!((verdict.lost, verdict.doubled), (1, 0));
        assert!(!verdict.is_clean());
    }

    #[test]
    fn a_doubled_row_is_found() {
        let mut verdict = injected();
        verdict.compare(&rows(&["a", "b"]), &rows(&["a", "b", "a"]));
        assert_eq!((verdict.lost, verdict.doubled), (0, 1));
        assert!(!verdict.is_clean());
    }

    #[test]
    fn a_changed_row_is_one_lost_and_one_that_should_not_be_there() {
        let mut verdict = injected();
        verdict.compare(&rows(&["a", "b"]), &rows(&["a", "B"]));
        assert_eq!((verdict.lost, verdict.doubled), (1, 1));
    }

    #[test]
    fn a_success_with_rows_missing_is_false() {
        let mut verdict = injected();
        verdict.hold(success(9), 9, 1);
        assert_eq!(verdict.false_successes, 1);
        assert!(!verdict.is_clean());
    }

    #[test]
    fn rows_that_were_claimed_and_not_loaded_are_a_false_success_even_of_a_failed_run() {
        let failed = |loaded| Claim {
            exit_ok: false,
            says_succeeded: false,
            loaded,
            must_know: false,
        };
        let mut verdict = injected();
        // A commit whose answer was lost: there are more rows than the run knows of.
        verdict.hold(failed(2), 3, 5);
        assert_eq!(verdict.false_successes, 0);
        verdict.hold(failed(4), 3, 5);
        assert_eq!(verdict.false_successes, 1);
        verdict.hold(success(2), 3, 0);
        assert_eq!(verdict.false_successes, 2);
        let mut exit_lies = success(3);
        exit_lies.says_succeeded = false;
        verdict.hold(exit_lies, 3, 0);
        assert_eq!(verdict.false_successes, 3);
    }

    #[test]
    fn a_fault_that_never_happened_is_a_failure() {
        let mut tally = Tally::expecting(["cut", "reset"]);
        tally.add("cut", injected());
        assert!(!tally.is_clean());
        tally.add("reset", injected());
        assert!(tally.is_clean());
    }

    #[test]
    fn the_table_has_a_line_for_each_fault_and_a_total() {
        let mut tally = Tally::expecting(["reset"]);
        let mut verdict = injected();
        verdict.runs = 2;
        verdict.compare(&rows(&["a"]), &rows(&[]));
        tally.add("cut at byte", verdict.clone());
        tally.add("cut at byte", verdict);
        let table = tally.to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines,
            [
                "fault       | times injected |   runs | rows lost | rows doubled | false successes",
                "------------+----------------+--------+-----------+--------------+----------------",
                "cut at byte |              2 |      4 |         2 |            0 |               0",
                "reset       |              0 |      0 |         0 |            0 |               0",
                "------------+----------------+--------+-----------+--------------+----------------",
                "total       |              2 |      4 |         2 |            0 |               0",
            ]
        );
        assert_eq!(tally.injected("cut at byte"), 2);
    }
}
