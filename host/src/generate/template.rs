//! The templates: which files a new crate begins with.

use clap::ValueEnum;

/// What a new crate begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Template {
    /// A query reads rows, and they are loaded as they are; no logic in Rust
    Sql,
    /// Each row is checked and changed by a function, with settings, a filter and rejections
    Rows,
    /// Rows come from an API or anything else that is no SQL source
    CustomSource,
    /// Rows go to files or anything else that is no SQL sink
    CustomSink,
}

/// A file of a crate: its path, and its text with placeholders.
pub type File = (&'static str, &'static str);

macro_rules! file {
    ($folder:literal, $path:literal) => {
        (
            $path,
            include_str!(concat!("../../templates/", $folder, "/", $path)),
        )
    };
}

/// Under another name, or git would go by it in this project.
const GITIGNORE: File = (
    ".gitignore",
    include_str!("../../templates/shared/gitignore"),
);

const SQL: &[File] = &[
    GITIGNORE,
    file!("sql", "Cargo.toml"),
    file!("sql", "README.md"),
    file!("sql", "config.yaml"),
    file!("sql", "src/lib.rs"),
    file!("sql", "tests/pipeline.rs"),
];

const ROWS: &[File] = &[
    GITIGNORE,
    file!("rows", "Cargo.toml"),
    file!("rows", "README.md"),
    file!("rows", "config.yaml"),
    file!("rows", "src/lib.rs"),
    file!("rows", "tests/pipeline.rs"),
];

const CUSTOM_SOURCE: &[File] = &[
    GITIGNORE,
    file!("custom-source", "Cargo.toml"),
    file!("custom-source", "README.md"),
    file!("custom-source", "config.yaml"),
    file!("custom-source", "src/lib.rs"),
    file!("custom-source", "src/client.rs"),
    file!("custom-source", "tests/pipeline.rs"),
];

const CUSTOM_SINK: &[File] = &[
    GITIGNORE,
    file!("custom-sink", "Cargo.toml"),
    file!("custom-sink", "README.md"),
    file!("custom-sink", "config.yaml"),
    file!("custom-sink", "src/lib.rs"),
    file!("custom-sink", "tests/pipeline.rs"),
];

impl Template {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Sql, Self::Rows, Self::CustomSource, Self::CustomSink];

    /// As the command line calls it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sql => "sql",
            Self::Rows => "rows",
            Self::CustomSource => "custom-source",
            Self::CustomSink => "custom-sink",
        }
    }

    /// The files, with placeholders.
    pub fn files(self) -> &'static [File] {
        match self {
            Self::Sql => SQL,
            Self::Rows => ROWS,
            Self::CustomSource => CUSTOM_SOURCE,
            Self::CustomSink => CUSTOM_SINK,
        }
    }
}
