//! What is done to a released interface before golden plugins are built against it.
//!
//! All are moved to another major version of arrow than the host's. Two are made of the newest release: the next
//! minor, with what a minor may add, and the next major. It does not build anything.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Release;

/// The major version of arrow that golden plugins are built with.
const ARROW: u32 = 59;

/// What the next minor adds, each at the end of what it extends: a service of the host, a method of a pipeline, and
/// an optional field of the root. A host or a plugin that lacks it must do without.
const ADDED: &[Edit] = &[
    Edit {
        file: "src/abi/object.rs",
        after: "fn write(&self, output: AbiOutput) -> AbiResult<RString>;",
        insert: "fn host_name(&self) -> RString { RString::from(\"an older host\") }",
    },
    Edit {
        file: "src/abi/object.rs",
        after: "impl HostAbi for Services<'_> {",
        insert: "fn host_name(&self) -> RString { RString::from(\"a newer host\") }",
    },
    Edit {
        file: "src/abi/foreign.rs",
        after: "impl Context for ForeignHost<'_> {",
        insert: "fn host_name(&self) -> String { self.host.host_name().into_string() }",
    },
    Edit {
        file: "src/context.rs",
        after: "fn count(&self, name: &str, n: u64);",
        insert: "/// The host's name.\n    fn host_name(&self) -> String { String::new() }",
    },
    Edit {
        file: "src/abi/object.rs",
        after: "fn loader(&self, settings: RStr<'_>) -> AbiResult<ROption<LoaderObject>>;",
        insert: "fn maker(&self) -> RString { RString::from(\"an older plugin\") }",
    },
    Edit {
        file: "src/abi/object.rs",
        after: "impl PipelineAbi for ExportedPipeline {",
        insert: "fn maker(&self) -> RString { RString::from(\"a newer plugin\") }",
    },
    Edit {
        file: "src/abi/foreign.rs",
        after: "impl ForeignPipeline {",
        insert: "/// Who made it.\n    pub fn maker(&self) -> String { self.0.maker().into_string() }",
    },
    Edit {
        file: "src/abi/mod.rs",
        after: "pub pipeline: extern \"C\" fn(u32) -> AbiResult<PipelineObject>,",
        insert: "/// Counts generations.\n    #[sabi(missing_field(option))]\n    pub generation: extern \"C\" fn() -> u32,",
    },
    Edit {
        file: "src/abi/mod.rs",
        after: "PluginModuleFields { describe, pipeline",
        insert: ", generation: { extern \"C\" fn second() -> u32 { 2 } second }",
    },
    Edit {
        file: "src/abi/mod.rs",
        after: "impl PluginHandle {",
        insert: "/// The generation, where the plugin knows it.\n    pub fn generation(&self) -> Option<u32> { self.module.generation().map(|ask| ask()) }",
    },
];

/// Text put behind other text that occurs once.
struct Edit {
    file: &'static str,
    after: &'static str,
    insert: &'static str,
}

/// An interface that golden plugins are built against.
pub struct Interface {
    /// Its folder below `api`.
    pub name: String,
    /// What it is made of.
    pub release: Release,
    version: String,
    edits: &'static [Edit],
}

impl Interface {
    /// Every released one, and what may follow the newest.
    pub fn all(released: &[Release]) -> Result<Vec<Self>> {
        let newest = released.last().context("no interface is released")?;
        let (major, minor) = newest.minor;
        let made = |name: String, release: &Release, version, edits| Self {
            name,
            release: release.clone(),
            version,
            edits,
        };
        let mut all: Vec<_> = released
            .iter()
            .map(|one| {
                let name = format!("{}.{}", one.minor.0, one.minor.1);
                made(name, one, one.version.clone(), &[][..])
            })
            .collect();
        let next_minor = format!("{major}.{}.0", minor + 1);
        all.push(made("newer-minor".to_owned(), newest, next_minor, ADDED));
        let next_major = format!("{}.0.0", major + 1);
        all.push(made("newer-major".to_owned(), newest, next_major, &[]));
        Ok(all)
    }

    /// Edits the unpacked crate.
    pub fn edit(&self, folder: &Path) -> Result<()> {
        for edit in self.edits {
            rewrite(&folder.join(edit.file), |text| edit.apply(text))?;
        }
        rewrite(&folder.join("Cargo.toml"), |text| {
            let from = format!("\nversion = \"{}\"\n", self.release.version);
            ensure!(text.contains(&from), "the manifest has another version");
            let to = format!("\nversion = \"{}\"\n", self.version);
            with_other_arrow(&without_lints(&text.replacen(&from, &to, 1)))
        })
    }
}

impl Edit {
    fn apply(&self, text: &str) -> Result<String> {
        let mut parts = text.split(self.after);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(before), Some(behind), None) => {
                let (after, insert) = (self.after, self.insert);
                Ok(format!("{before}{after}\n    {insert}{behind}"))
            }
            _ => anyhow::bail!(
                "`{}` is not there once: mend the edit in golden/edit.rs",
                self.after
            ),
        }
    }
}

fn rewrite(path: &Path, change: impl Fn(&str) -> Result<String>) -> Result<()> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let changed = change(&text).with_context(|| format!("cannot edit {}", path.display()))?;
    fs::write(path, changed).with_context(|| format!("cannot write {}", path.display()))
}

/// A dependency out of a registry has no warnings.
fn without_lints(manifest: &str) -> String {
    let lints = manifest.find("\n[lints").unwrap_or(manifest.len());
    let (kept, _) = manifest.split_at(lints);
    format!("{kept}\n[lints.rust]\nwarnings = \"allow\"\n")
}

/// A manifest as cargo writes it into an archive, with the arrow crates of [`ARROW`].
fn with_other_arrow(manifest: &str) -> Result<String> {
    let mut changed = 0;
    let mut is_arrow = false;
    let lines: Vec<String> = manifest
        .lines()
        .map(|line| {
            if line.starts_with('[') {
                is_arrow = line.starts_with("[dependencies.arrow-");
            }
            if is_arrow && line.starts_with("version = ") {
                changed += 1;
                return format!("version = \"{ARROW}\"");
            }
            if line.starts_with("features = [\"arrow-") {
                changed += 1;
                return format!("features = [\"arrow-{ARROW}\"]");
            }
            line.to_owned()
        })
        .collect();
    ensure!(
        changed >= 2,
        "the manifest does not name arrow as it used to"
    );
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_that_finds_no_place_or_two_is_an_error() {
        let edit = Edit {
            file: "",
            after: "fn a();",
            insert: "fn b();",
        };
        let edited = edit.apply("trait T { fn a(); }").unwrap();
        assert_eq!(edited, "trait T { fn a();\n    fn b(); }");
        assert!(edit.apply("trait T {}").is_err());
        assert!(edit.apply("fn a(); fn a();").is_err());
    }

    #[test]
    fn only_arrow_is_moved() {
        let manifest = "[dependencies.arrow-data]\nversion = \"60\"\nfeatures = [\"ffi\"]\n\n\
                        [dependencies.serde_arrow]\nversion = \"0.15\"\nfeatures = [\"arrow-60\"]\n";
        let moved = with_other_arrow(manifest).unwrap();
        let expected = manifest.replace("\"60\"", "\"59\"");
        assert_eq!(moved, expected.replace("arrow-60", "arrow-59"));
        assert!(with_other_arrow("[dependencies.serde]\nversion = \"1\"\n").is_err());
    }
}
