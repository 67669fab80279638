//! Collations: their code page, their bytes on the wire (MS-TDS 2.2.5.1.2) and a comparison that is right for equality
//! of usual text. It knows families of collations by the beginning of their names, and no linguistic order.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use encoding_rs::{EncoderResult, Encoding};

pub type CollationRef = &'static Collation;

#[derive(Debug, PartialEq)]
pub struct Collation {
    pub name: String,
    pub wire: [u8; 5],
    pub code_page: &'static Encoding,
    pub case_sensitive: bool,
    pub utf8: bool,
}

/// The server's own.
pub const DEFAULT: &str = "SQL_Latin1_General_CP1_CI_AS";

/// Beginnings of names with their locale and code page.
const FAMILIES: &[(&str, u32, &str)] = &[
    ("sql_latin1_general_cp1_", 0x0409, "windows-1252"),
    ("latin1_general_", 0x0409, "windows-1252"),
    ("french_", 0x040c, "windows-1252"),
    ("german_phonebook_", 0x0001_0407, "windows-1252"),
    ("finnish_swedish_", 0x040b, "windows-1252"),
    ("modern_spanish_", 0x0c0a, "windows-1252"),
    ("polish_", 0x0415, "windows-1250"),
    ("czech_", 0x0405, "windows-1250"),
    ("hungarian_", 0x040e, "windows-1250"),
    ("cyrillic_general_", 0x0419, "windows-1251"),
    ("ukrainian_", 0x0422, "windows-1251"),
    ("greek_", 0x0408, "windows-1253"),
    ("turkish_", 0x041f, "windows-1254"),
    ("hebrew_", 0x040d, "windows-1255"),
    ("arabic_", 0x0401, "windows-1256"),
    ("japanese_", 0x0411, "shift_jis"),
    ("chinese_prc_", 0x0804, "gbk"),
    ("chinese_taiwan_stroke_", 0x0404, "big5"),
    ("korean_wansung_", 0x0412, "euc-kr"),
];

/// A collation by its name; `None` for one that is not known.
pub fn named(name: &str) -> Option<CollationRef> {
    static KNOWN: OnceLock<Mutex<HashMap<String, CollationRef>>> = OnceLock::new();
    let mut known = KNOWN
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let key = name.to_ascii_lowercase();
    if let Some(found) = known.get(&key) {
        return Some(found);
    }
    let made: CollationRef = Box::leak(Box::new(make(name, &key)?));
    known.insert(key, made);
    Some(made)
}

/// The server's own.
pub fn default() -> CollationRef {
    static DEFAULT_COLLATION: OnceLock<CollationRef> = OnceLock::new();
    DEFAULT_COLLATION.get_or_init(|| {
        named(DEFAULT).unwrap_or_else(|| {
            Box::leak(Box::new(Collation {
                name: DEFAULT.to_owned(),
                wire: [9, 4, 0xd0, 0, 0x34],
                code_page: encoding_rs::WINDOWS_1252,
                case_sensitive: false,
                utf8: false,
            }))
        })
    })
}

fn make(name: &str, key: &str) -> Option<Collation> {
    let (prefix, locale, label) = FAMILIES
        .iter()
        .find(|(prefix, ..)| key.starts_with(prefix))?;
    let mut bits = *locale;
    let mut version = 0;
    let (mut ci, mut ai, mut ki, mut wi) = (false, false, true, true);
    let mut binary = None;
    let mut utf8 = false;
    for part in key.get(prefix.len()..)?.split('_') {
        match part {
            "90" => version = 1,
            "100" => version = 2,
            "140" => version = 3,
            "ci" => ci = true,
            "ai" => ai = true,
            "ks" => ki = false,
            "ws" => wi = false,
            "cs" | "as" | "sc" | "vss" => {}
            "bin" => binary = Some(24),
            "bin2" => binary = Some(25),
            "utf8" => utf8 = true,
            _ => return None,
        }
    }
    if let Some(bit) = binary {
        bits |= 1 << bit;
    } else {
        for (flag, bit) in [(ci, 20), (ai, 21), (ki, 22), (wi, 23)] {
            bits |= u32::from(flag) << bit;
        }
    }
    bits |= u32::from(utf8) << 26 | version << 28;
    let sort = if key.starts_with("sql_") {
        if ci { 0x34 } else { 0x33 }
    } else {
        0
    };
    let [a, b, c, d] = bits.to_le_bytes();
    Some(Collation {
        name: name.to_owned(),
        wire: [a, b, c, d, sort],
        code_page: if utf8 {
            encoding_rs::UTF_8
        } else {
            Encoding::for_label(label.as_bytes())?
        },
        case_sensitive: !ci,
        utf8,
    })
}

impl Collation {
    /// The name of the collation that compares such text in `SQLite`.
    pub fn in_sqlite(&self) -> &'static str {
        if self.case_sensitive {
            "tsql_cs"
        } else {
            "tsql_ci"
        }
    }

    /// Text in this code page; what it does not have becomes a question mark, as in a real conversion.
    pub fn encode(&self, text: &str) -> Vec<u8> {
        if self.utf8 || text.is_ascii() {
            return text.as_bytes().to_vec();
        }
        let mut encoder = self.code_page.new_encoder();
        let mut bytes = Vec::with_capacity(text.len() + 16);
        let mut rest = text;
        loop {
            bytes.reserve(rest.len() * 2 + 16);
            let (result, read) =
                encoder.encode_from_utf8_to_vec_without_replacement(rest, &mut bytes, true);
            rest = rest.get(read..).unwrap_or_default();
            match result {
                EncoderResult::InputEmpty => return bytes,
                EncoderResult::OutputFull => {}
                EncoderResult::Unmappable(character) => {
                    // Beyond the BMP there are two UTF-16 units, and two question marks.
                    bytes.extend(std::iter::repeat_n(b'?', character.len_utf16()));
                }
            }
        }
    }

    /// Text from bytes of this code page.
    pub fn decode(&self, bytes: &[u8]) -> String {
        self.code_page
            .decode_without_bom_handling(bytes)
            .0
            .into_owned()
    }
}

/// Equal but for trailing blanks.
pub fn compare_sensitive(a: &str, b: &str) -> Ordering {
    a.trim_end_matches(' ').cmp(b.trim_end_matches(' '))
}

/// Equal but for trailing blanks and the case of letters.
pub fn compare_insensitive(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_end_matches(' '), b.trim_end_matches(' '));
    if a.is_ascii() && b.is_ascii() {
        let lower =
            |text: &str| -> Vec<u8> { text.bytes().map(|it| it.to_ascii_lowercase()).collect() };
        return lower(a).cmp(&lower(b));
    }
    a.chars()
        .flat_map(char::to_lowercase)
        .cmp(b.chars().flat_map(char::to_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_on_the_wire_are_those_of_the_real_server() {
        let wire = |name| named(name).unwrap().wire;
        assert_eq!(wire(DEFAULT), [0x09, 0x04, 0xd0, 0x00, 0x34]);
        assert_eq!(wire("Latin1_General_CI_AS"), [0x09, 0x04, 0xd0, 0x00, 0x00]);
        assert_eq!(
            wire("Latin1_General_100_CI_AS_SC_UTF8"),
            [0x09, 0x04, 0xd0, 0x24, 0x00]
        );
        assert_eq!(wire("Latin1_General_BIN2"), [0x09, 0x04, 0x00, 0x02, 0x00]);
        assert!(named("Klingon_CI_AS").is_none());
    }

    #[test]
    fn code_pages_are_used_both_ways() {
        for (name, text) in [
            ("Polish_CI_AS", "Łódź"),
            ("Cyrillic_General_CI_AS", "Привет"),
            ("Japanese_CI_AS", "日本語ｶﾅ"),
            ("Latin1_General_CI_AS", "naïve €"),
        ] {
            let collation = named(name).unwrap();
            assert_eq!(collation.decode(&collation.encode(text)), text);
        }
        assert_eq!(default().encode("aŁ😀b"), b"a???b");
    }

    #[test]
    fn text_is_equal_without_case_and_trailing_blanks() {
        assert_eq!(compare_insensitive("Äb  ", "äB"), Ordering::Equal);
        assert_eq!(compare_sensitive("a ", "A"), Ordering::Greater);
    }
}
