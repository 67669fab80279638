//! Findings as people read them: a line for each, the fix below, and how many there were.

use std::fmt::Write;

use super::{Check, Diagnosis};
use crate::finding::Verdict;

/// All findings, pipeline by pipeline, and a line that sums them up.
pub fn write(diagnoses: &[Diagnosis], colors: bool) -> String {
    let mut text = String::new();
    for diagnosis in diagnoses {
        if let Ok(checks) = &diagnosis.checks {
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(text, "{}", diagnosis.pipeline);
            write_checks(&mut text, checks, colors);
            text.push('\n');
        }
    }
    let _ = writeln!(text, "{}", sum_up(diagnoses));
    text
}

fn write_checks(text: &mut String, checks: &[Check], colors: bool) {
    let widest = |width: fn(&Check) -> usize| checks.iter().map(width).max().unwrap_or(0);
    let place = widest(|check| check.place.chars().count());
    let name = widest(|check| check.finding.check.len());
    let word = widest(|check| word(check.finding.verdict).len());
    for check in checks {
        let finding = &check.finding;
        let shown = format!("{:word$}", self::word(finding.verdict));
        let shown = if colors {
            format!("{}{shown}\x1b[0m", color(finding.verdict))
        } else {
            shown
        };
        let _ = writeln!(
            text,
            "  {:place$}  {:name$}  {shown}  {}",
            check.place,
            finding.check,
            one_line(&finding.detail)
        );
        if let Some(fix) = &finding.fix {
            let indent = 2 + place + 2 + name + 2 + word + 2;
            let _ = writeln!(text, "{:indent$}fix: {}", "", one_line(fix));
        }
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Failed => "FAILED",
    }
}

/// Green, yellow, red.
fn color(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "\x1b[32m",
        Verdict::Warning => "\x1b[33m",
        Verdict::Failed => "\x1b[1;31m",
    }
}

/// Servers break their texts into lines as they like.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn sum_up(diagnoses: &[Diagnosis]) -> String {
    let checks: Vec<&Check> = diagnoses
        .iter()
        .filter_map(|diagnosis| diagnosis.checks.as_ref().ok())
        .flatten()
        .collect();
    let count = |verdict| {
        let these = checks
            .iter()
            .filter(|check| check.finding.verdict == verdict);
        these.count()
    };
    let broken = diagnoses
        .iter()
        .filter(|diagnosis| diagnosis.checks.is_err())
        .count();
    let mut parts = vec![plural(checks.len(), "check")];
    let warnings = count(Verdict::Warning);
    if warnings > 0 {
        parts.push(plural(warnings, "warning"));
    }
    let failed = count(Verdict::Failed);
    if failed > 0 {
        parts.push(format!("{failed} failed"));
    }
    if broken > 0 {
        parts.push(format!("{} not examined", plural(broken, "pipeline")));
    }
    if parts.len() == 1 {
        parts.push("all is well".to_owned());
    }
    parts.join(", ")
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::finding::Findings;

    #[test]
    fn a_line_for_each_finding_and_the_fix_below() {
        let mut findings = Findings::default();
        findings.ok("reachable", "db:1433 answered in 2 ms");
        findings.warning("isolation", "no\n  SNAPSHOT", "ALTER DATABASE");
        let checks = findings.into_vec().into_iter().map(|finding| Check {
            place: "eu".to_owned(),
            finding,
        });
        let diagnoses = [Diagnosis {
            pipeline: "logins".to_owned(),
            checks: Ok(checks.collect()),
        }];
        expect![[r"
            logins
              eu  reachable  ok       db:1433 answered in 2 ms
              eu  isolation  warning  no SNAPSHOT
                                      fix: ALTER DATABASE

            2 checks, 1 warning
        "]]
        .assert_eq(&write(&diagnoses, false));
        assert!(write(&diagnoses, true).contains("\x1b[33mwarning\x1b[0m"));
    }
}
