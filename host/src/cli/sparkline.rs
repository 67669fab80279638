//! Many numbers as one line of little bars.

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// For terminals that know no more than ASCII.
const PLAIN_BARS: [char; 8] = ['_', '.', ',', '-', '=', '+', '*', '#'];

/// A bar for each number, the highest for the largest; a blank where there is none. Nothing is the lowest bar, so that
/// what varies little looks so.
pub fn sparkline(numbers: &[Option<f64>], unicode: bool) -> String {
    let bars = if unicode { BARS } else { PLAIN_BARS };
    let largest = numbers.iter().flatten().copied().fold(0.0, f64::max);
    let bar = |number: f64| {
        let share = if largest > 0.0 { number / largest } else { 0.0 };
        let top = bars.len() - 1;
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "one of eight"
        )]
        let index = (share * top as f64).round() as usize;
        bars.get(index.min(top)).copied().unwrap_or(' ')
    };
    let all = numbers.iter();
    all.map(|number| number.map_or(' ', bar)).collect()
}

/// Whether the terminal takes more than ASCII, by the usual variables. One that says nothing is taken to.
pub fn is_unicode(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name: &&str| variable(name).filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(set);
    locale.is_none_or(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_their_numbers() {
        let numbers = [Some(0.0), Some(1.0), None, Some(4.0), Some(7.0)];
        assert_eq!(sparkline(&numbers, true), "▁▂ ▅█");
        assert_eq!(sparkline(&numbers, false), "_. =#");
        assert_eq!(sparkline(&[Some(0.0), Some(0.0)], true), "▁▁");
        assert_eq!(sparkline(&[Some(3.0)], true), "█");
        assert_eq!(sparkline(&[], true), "");
    }

    #[test]
    fn a_locale_that_is_not_utf_8_gets_ascii() {
        let with = |name: &'static str, value: &'static str| {
            is_unicode(|asked| (asked == name).then(|| value.to_owned()))
        };
        assert!(is_unicode(|_| None));
        assert!(with("LANG", "en_US.UTF-8") && with("LC_ALL", "C.utf8") && with("LANG", ""));
        assert!(!with("LANG", "C") && !with("LC_CTYPE", "de_DE.ISO-8859-1"));
    }
}
