//! The text format from before `OpenMetrics`, which `promtool` and older scrapers read. Only the names of counters
//! differ in what the host writes, and the lines that are new.

use std::collections::BTreeSet;

/// `OpenMetrics` in the older form.
pub fn older(text: &str) -> String {
    let counters: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut older = String::with_capacity(text.len());
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", "EOF" | "UNIT", ..] => continue,
            ["#", kind, name, rest] if counters.contains(name) => {
                // There the type belongs to the samples' name, which ends like this in both.
                older.push_str(&["# ", kind, " ", name, "_total ", rest].concat());
            }
            _ => older.push_str(line),
        }
        older.push('\n');
    }
    older
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_get_their_suffix_and_what_is_new_is_left_out() {
        let new = "# HELP a Rows of a.\n# TYPE a counter\na_total{p=\"# HELP a x\"} 1\n\
                   # HELP b_seconds B.\n# TYPE b_seconds gauge\n# UNIT b_seconds seconds\nb_seconds 2.0\n# EOF\n";
        let old = "# HELP a_total Rows of a.\n# TYPE a_total counter\na_total{p=\"# HELP a x\"} 1\n\
                   # HELP b_seconds B.\n# TYPE b_seconds gauge\nb_seconds 2.0\n";
        assert_eq!(older(new), old);
    }
}
