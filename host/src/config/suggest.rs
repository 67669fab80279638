//! Did you mean …? The nearest of some known words.
//!
//! It only compares spelling; what a word means is known elsewhere.

/// Longer words are no typing mistakes, and comparing them would cost time for nothing.
const MAX_CHARS: usize = 40;

/// The candidate nearest to `word`, unless all are too far away to be what was meant. A word cut short or drawn
/// out is near, such as `user` to `username`.
pub(crate) fn closest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let length = word.chars().count();
    if length > MAX_CHARS {
        return None;
    }
    let allowed = (length / 3).max(1);
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, candidate)| {
            let longer = candidate.starts_with(&word) || word.starts_with(candidate);
            *distance <= allowed || (longer && length > 2)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters to insert, delete, replace or swap with their neighbour to get from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let [from, to] = [from, to].map(|word| word.chars().collect::<Vec<char>>());
    let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX - 1);
    let mut before = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    let mut last = None;
    for (i, letter) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        let mut left = None;
        for (j, other) in to.iter().enumerate() {
            let replaced = at(&above, j) + usize::from(letter != other);
            let mut edits = replaced.min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            if last == Some(other) && left == Some(letter) {
                edits = edits.min(at(&before, j - 1) + 1);
            }
            row.push(edits);
            left = Some(other);
        }
        before = std::mem::replace(&mut above, row);
        last = Some(letter);
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        let cases = [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("prot", "port", 1),
            ("abcd", "badc", 2),
            ("kitten", "sitting", 3),
        ];
        for (from, to, edits) in cases {
            assert_eq!(distance(from, to), edits, "{from} -> {to}");
        }
    }

    #[test]
    fn suggests_only_what_is_near() {
        let words = ["sqlserver", "postgres", "sqlite"];
        assert_eq!(closest("postgresql", words), Some("postgres"));
        assert_eq!(closest("SQLServer", words), Some("sqlserver"));
        assert_eq!(closest("sql", words), Some("sqlite"));
        assert_eq!(closest("oracle", words), None);
        assert_eq!(closest("", words), None);
        assert_eq!(closest(&"x".repeat(10_000), words), None);
    }
}
