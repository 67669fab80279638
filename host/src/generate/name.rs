//! The name of a new crate and its pipeline: what it may be, and how Rust writes it.

use std::fmt::{self, Display};

use super::Obstacle;

/// Table and file names are made of it, some with an addition, and databases allow 63 characters.
const MAX_CHARS: usize = 50;

/// Words that no crate can have as a name: keywords, what Rust and cargo have taken, what a plugin depends on.
const TAKEN: [&str; 79] = [
    "abi-stable",
    "abstract",
    "alloc",
    "arrow",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "clippy",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "doc",
    "dyn",
    "else",
    "enum",
    "etl-host",
    "etl-plugin-api",
    "etl-testkit",
    "examples",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "login-analytics",
    "loop",
    "macro",
    "main",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "package",
    "panic",
    "pipeline",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "schemars",
    "self",
    "serde",
    "serde-arrow",
    "serde-json",
    "static",
    "std",
    "struct",
    "super",
    "target",
    "test",
    "tests",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "union",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

/// Types that the templates use: the pipeline's own type must not hide them.
const TYPES: [&str; 37] = [
    "Arc",
    "Array",
    "ArrayRef",
    "AsArray",
    "Box",
    "Check",
    "CheckedOrder",
    "Client",
    "CommitToken",
    "Component",
    "Default",
    "Err",
    "Event",
    "File",
    "Files",
    "Int64Array",
    "Int64Type",
    "Json",
    "None",
    "Ok",
    "Option",
    "Order",
    "Orders",
    "Pages",
    "Path",
    "PathBuf",
    "Reader",
    "RowTransformer",
    "Self",
    "Settings",
    "Some",
    "String",
    "StringArray",
    "TestRun",
    "Value",
    "Vec",
    "Write",
];

/// The prelude of `etl-plugin-api`.
const PRELUDE: [&str; 43] = [
    "BatchReader",
    "Capabilities",
    "Cardinality",
    "Context",
    "Cursor",
    "DataType",
    "Delivery",
    "Deserialize",
    "ErrorKind",
    "ExtractContext",
    "Extracted",
    "Extractor",
    "Field",
    "JsonSchema",
    "Level",
    "LoadContext",
    "Loaded",
    "Loader",
    "Manifest",
    "NoSettings",
    "Origin",
    "Outcome",
    "Output",
    "Partition",
    "Pipeline",
    "Problem",
    "RecordBatch",
    "Rejection",
    "Result",
    "ResultExt",
    "Resume",
    "RowTransformer",
    "Schema",
    "SchemaRef",
    "Serialize",
    "StageError",
    "TableSchema",
    "Transformed",
    "Transformer",
    "Value",
    "Distinct",
    "Column",
    "Columns",
];

/// A name that a crate and a pipeline can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// The name, or all that is wrong with it.
    pub fn parse(text: &str) -> (Option<Self>, Vec<Obstacle>) {
        let obstacles = obstacles(text);
        let name = obstacles.is_empty().then(|| Self(text.to_owned()));
        (name, obstacles)
    }

    /// `customer-analytics`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `customer_analytics`.
    pub fn crate_name(&self) -> String {
        self.0.replace('-', "_")
    }

    /// `CustomerAnalytics`.
    pub fn type_name(&self) -> String {
        let mut name = String::new();
        for word in self.0.split('-') {
            let mut letters = word.chars();
            name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
            name.extend(letters);
        }
        if TYPES.contains(&name.as_str()) || PRELUDE.contains(&name.as_str()) {
            name.push_str("Pipeline");
        }
        name
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn obstacles(text: &str) -> Vec<Obstacle> {
    let fix = || match nearest(text) {
        Some(nearest) => format!("use lower-case letters, digits and single dashes: {nearest}"),
        None => "use lower-case letters, digits and single dashes, such as customer-analytics"
            .to_owned(),
    };
    if text.is_empty() {
        return vec![Obstacle::new("--name is empty", fix())];
    }
    let mut found = Vec::new();
    let mut say = |message: String, fix: String| found.push(Obstacle::new(message, fix));
    let mut wrong: Vec<char> = text.chars().filter(|letter| !fits(*letter)).collect();
    wrong.sort_unstable();
    wrong.dedup();
    if wrong
        .iter()
        .any(|letter| matches!(letter, '/' | '\\' | '.'))
    {
        say(
            "--name is no path".to_owned(),
            format!("{}; the folder goes to --path", fix()),
        );
    } else if !wrong.is_empty() {
        let wrong: Vec<String> = wrong
            .iter()
            .map(|letter| format!("`{}`", letter.escape_debug()))
            .collect();
        say(format!("--name cannot have {}", wrong.join(" ")), fix());
    } else if !text.starts_with(|first: char| first.is_ascii_lowercase()) {
        say("--name does not begin with a letter".to_owned(), fix());
    }
    if wrong.is_empty() && (text.contains("--") || text.ends_with('-')) {
        say("--name has a dash that joins nothing".to_owned(), fix());
    }
    let length = text.chars().count();
    if length > MAX_CHARS {
        say(
            format!("--name has {length} characters"),
            format!("{MAX_CHARS} are the most: tables and files are named after it"),
        );
    }
    if TAKEN.contains(&text) {
        say(
            format!("a crate cannot be named `{text}`: Rust, cargo or etl-host need that name"),
            format!("say more, such as {text}-data"),
        );
    }
    found
}

fn fits(letter: char) -> bool {
    letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-'
}

/// A right name that is written nearly as this text.
fn nearest(text: &str) -> Option<String> {
    let mut name = String::new();
    let mut after_small = false;
    for letter in text.chars() {
        if letter.is_ascii_uppercase() && after_small {
            name.push('-');
        }
        after_small = letter.is_ascii_lowercase();
        name.push(match letter.to_ascii_lowercase() {
            letter if fits(letter) => letter,
            _ => '-',
        });
    }
    let words: Vec<&str> = name
        .trim_start_matches(|first: char| !first.is_ascii_lowercase())
        .split('-')
        .filter(|word| !word.is_empty())
        .collect();
    let name = words.join("-");
    let right = !name.is_empty() && name.len() <= MAX_CHARS && !TAKEN.contains(&name.as_str());
    right.then_some(name)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn told(names: &[&str]) -> String {
        let tell = |name: &&str| {
            let told: Vec<String> = obstacles(name).iter().map(ToString::to_string).collect();
            format!("{name:?}\n  {}\n", told.join("\n  "))
        };
        names.iter().map(tell).collect()
    }

    #[test]
    fn good_names_are_taken() {
        for name in [
            "a",
            "customer-analytics",
            "top-10",
            "x1-2y",
            &"a".repeat(50),
        ] {
            assert!(Name::parse(name).0.is_some(), "{name}");
        }
    }

    #[test]
    fn each_mistake_has_its_fix() {
        let long = "a".repeat(51);
        expect![[r#"
            ""
              --name is empty
                fix: use lower-case letters, digits and single dashes, such as customer-analytics
            "CustomerAnalytics"
              --name cannot have `A` `C`
                fix: use lower-case letters, digits and single dashes: customer-analytics
            "customer_analytics"
              --name cannot have `_`
                fix: use lower-case letters, digits and single dashes: customer-analytics
            "Kundenübersicht 2026"
              --name cannot have ` ` `K` `ü`
                fix: use lower-case letters, digits and single dashes: kunden-bersicht-2026
            "../orders"
              --name is no path
                fix: use lower-case letters, digits and single dashes: orders; the folder goes to --path
            "/etc/passwd"
              --name is no path
                fix: use lower-case letters, digits and single dashes: etc-passwd; the folder goes to --path
            "orders.old"
              --name is no path
                fix: use lower-case letters, digits and single dashes: orders-old; the folder goes to --path
            "1st-orders"
              --name does not begin with a letter
                fix: use lower-case letters, digits and single dashes: st-orders
            "-orders"
              --name does not begin with a letter
                fix: use lower-case letters, digits and single dashes: orders
            "orders--eu-"
              --name has a dash that joins nothing
                fix: use lower-case letters, digits and single dashes: orders-eu
            "orders\n"
              --name cannot have `\n`
                fix: use lower-case letters, digits and single dashes: orders
            "42"
              --name does not begin with a letter
                fix: use lower-case letters, digits and single dashes, such as customer-analytics
            "test"
              a crate cannot be named `test`: Rust, cargo or etl-host need that name
                fix: say more, such as test-data
            "fn"
              a crate cannot be named `fn`: Rust, cargo or etl-host need that name
                fix: say more, such as fn-data
            "etl-plugin-api"
              a crate cannot be named `etl-plugin-api`: Rust, cargo or etl-host need that name
                fix: say more, such as etl-plugin-api-data
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
              --name has 51 characters
                fix: 50 are the most: tables and files are named after it
        "#]].assert_eq(&told(&[
            "",
            "CustomerAnalytics",
            "customer_analytics",
            "Kundenübersicht 2026",
            "../orders",
            "/etc/passwd",
            "orders.old",
            "1st-orders",
            "-orders",
            "orders--eu-",
            "orders\n",
            "42",
            "test",
            "fn",
            "etl-plugin-api",
            &long,
        ]));
    }

    #[test]
    fn types_are_named_as_rust_does_and_hide_nothing() {
        let type_of = |name: &str| Name::parse(name).0.unwrap().type_name();
        assert_eq!(type_of("customer-analytics"), "CustomerAnalytics");
        assert_eq!(type_of("top-10"), "Top10");
        assert_eq!(type_of("record-batch"), "RecordBatchPipeline");
        assert_eq!(type_of("settings"), "SettingsPipeline");
    }

    /// A type that the prelude gets later is known here too.
    #[test]
    fn the_whole_prelude_is_known() {
        let source = include_str!("../../../plugin-api/src/lib.rs");
        let prelude = source.split_once("pub mod prelude {").unwrap().1;
        let words = prelude.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        for word in words.filter(|word| word.starts_with(|first: char| first.is_uppercase())) {
            assert!(PRELUDE.contains(&word), "{word}");
        }
    }
}
