//! The frozen layer: what really crosses between a host and a plugin, and the check that both mean the same.
//!
//! Three rules keep it stable. Data crosses as the Arrow C Data Interface. Everything that may grow (manifests,
//! facts, statistics) crosses as JSON, error kinds as numbers; no struct here ever gains a field. A new power is a
//! method appended to a trait, with a default body. Authors never see any of this. What is promised: docs/abi.md.
#![allow(
    clippy::expl_impl_clone_on_copy,
    reason = "code that derive(StableAbi) makes"
)]

mod arrow;
#[cfg(test)]
mod evolution;
mod foreign;
mod object;
#[cfg(test)]
mod round_trip;

use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::{
    CheckingGlobals, check_layout_compatibility_with_globals,
};
use abi_stable::library::{CheckTypeLayout, RootModule};
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::RResult;
use abi_stable::type_layout::TypeLayout;

pub use abi_stable::library::{LibHeader, RootModuleResult};
pub use abi_stable::std_types::RString;
pub use foreign::ForeignPipeline;
pub use object::PipelineObject;

use crate::error::{ErrorKind, Result, StageError};
use crate::export::{DynPipeline, guard, install_panic_hook};
use crate::manifest::Manifest;

/// The version of the boundary this crate speaks: the crate's own, since the layout check holds the versions of the
/// crates that define the types against each other, and refuses another major.
pub const ABI_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The symbol a plugin exports, NUL-terminated.
pub const ROOT_SYMBOL: &str = abi_stable::library::ROOT_MODULE_LOADER_NAME_WITH_NUL;

/// An error on its way across: the kind's number and the rest as JSON.
#[repr(C)]
#[derive(StableAbi)]
pub struct AbiError {
    code: u32,
    json: RString,
}

/// The result of every function on the boundary.
pub type AbiResult<T> = RResult<T, AbiError>;

#[derive(serde::Serialize, serde::Deserialize)]
struct ErrorText {
    message: String,
    #[serde(default)]
    column: Option<String>,
    #[serde(default)]
    backtrace: Option<String>,
}

impl From<StageError> for AbiError {
    fn from(error: StageError) -> Self {
        let text = ErrorText {
            message: error.message().to_owned(),
            column: error.column().map(str::to_owned),
            backtrace: error.backtrace().map(str::to_owned),
        };
        Self {
            code: error.kind().code(),
            json: serde_json::to_string(&text).unwrap_or_default().into(),
        }
    }
}

impl From<AbiError> for StageError {
    fn from(error: AbiError) -> Self {
        let kind = ErrorKind::from_code(error.code);
        match serde_json::from_str::<ErrorText>(&error.json) {
            Ok(text) => {
                let mut error = Self::new(kind, text.message);
                if let Some(column) = text.column {
                    error = error.in_column(column);
                }
                match text.backtrace {
                    Some(backtrace) => error.with_backtrace(backtrace),
                    None => error,
                }
            }
            Err(_) => Self::new(kind, "the error's text did not survive the boundary"),
        }
    }
}

/// Guards work and puts its result into the form of the boundary.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> AbiResult<T> {
    guard(work).map_err(AbiError::from).into()
}

fn returned<T>(result: AbiResult<T>) -> Result<T> {
    result.into_result().map_err(StageError::from)
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<RString> {
    serde_json::to_string(value)
        .map(RString::from)
        .map_err(|error| StageError::fatal(format!("cannot cross the boundary: {error}")))
}

fn from_json<T: serde::de::DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|error| {
        StageError::fatal(format!(
            "what crossed the boundary is not understood: {error}"
        ))
    })
}

/// The root of a plugin.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModule)))]
#[sabi(missing_field(panic))]
pub struct PluginModuleFields {
    /// The plugin's manifests, as JSON.
    pub describe: extern "C" fn() -> AbiResult<RString>,
    /// One of its pipelines.
    #[sabi(last_prefix_field)]
    pub pipeline: extern "C" fn(u32) -> AbiResult<PipelineObject>,
}

impl RootModule for PluginModule {
    abi_stable::declare_root_module_statics! {PluginModule}
    const BASE_NAME: &'static str = "etl_plugin";
    const NAME: &'static str = "etl_plugin";
    const VERSION_STRINGS: VersionStrings = VersionStrings::new(ABI_VERSION);
}

/// What a plugin says of itself.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Description {
    /// The boundary it was built for.
    pub abi: String,
    /// Its pipelines, in the order of their index.
    pub pipelines: Vec<Manifest>,
}

/// A function that makes the plugin's pipelines.
pub type Pipelines = fn() -> Vec<Box<dyn DynPipeline>>;

/// Implements `describe` for [`export_pipelines!`](crate::export_pipelines).
pub fn describe(pipelines: Pipelines) -> AbiResult<RString> {
    guarded(|| {
        to_json(&Description {
            abi: ABI_VERSION.to_owned(),
            pipelines: pipelines().iter().map(|one| one.manifest()).collect(),
        })
    })
}

/// Implements `pipeline` for [`export_pipelines!`](crate::export_pipelines).
pub fn pipeline(pipelines: Pipelines, index: u32) -> AbiResult<PipelineObject> {
    guarded(|| {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        pipelines()
            .into_iter()
            .nth(index)
            .map(object::export_pipeline)
            .ok_or_else(|| StageError::fatal(format!("the plugin has no pipeline number {index}")))
    })
}

/// Builds the root module for [`export_pipelines!`](crate::export_pipelines).
pub fn root(
    describe: extern "C" fn() -> AbiResult<RString>,
    pipeline: extern "C" fn(u32) -> AbiResult<PipelineObject>,
) -> PluginModule {
    use abi_stable::prefix_type::PrefixTypeTrait;

    install_panic_hook();
    PluginModuleFields { describe, pipeline }.leak_into_prefix()
}

/// Gives the root module out for [`export_pipelines!`](crate::export_pipelines).
pub fn module(root: fn() -> PluginModule) -> RootModuleResult {
    abi_stable::library::__call_root_module_loader(root)
}

/// Implements the exported header for [`export_pipelines!`](crate::export_pipelines).
#[allow(unsafe_code)]
pub const fn header(module: extern "C" fn() -> RootModuleResult) -> LibHeader {
    // SAFETY: the macro's `module` is built by the function above, whose result is a `PluginModule`.
    unsafe { LibHeader::from_constructor::<PluginModule>(module, CheckTypeLayout::Yes) }
}

/// Why a library cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// It was built for another major version of the boundary.
    Version {
        /// The version it names.
        theirs: String,
    },
    /// The same major version, but some type is laid out otherwise.
    Layout(String),
    /// It failed while it was starting.
    Start(String),
}

/// Checks a library's header and gives its pipelines.
///
/// The layout is checked in both directions: the check itself asks only whether the one side has all that the other
/// wants, and would refuse the everyday case of a newer host with an older plugin. Each direction has globals of its
/// own, since shared ones make the answer depend on what was loaded before.
#[allow(unsafe_code)]
pub fn open_plugin(header: &'static LibHeader) -> std::result::Result<PluginHandle, Mismatch> {
    let theirs = header.version_strings();
    if !same_major(theirs.version.as_str(), ABI_VERSION) {
        return Err(Mismatch::Version {
            theirs: theirs.version.as_str().to_owned(),
        });
    }
    let Some(layout) = header.layout() else {
        return Err(Mismatch::Layout("it carries no layout to check".to_owned()));
    };
    check_layouts(<PluginModule as StableAbi>::LAYOUT, layout).map_err(Mismatch::Layout)?;
    // SAFETY: the layout was checked just now.
    let module = unsafe { header.init_root_module_with_unchecked_layout::<PluginModule>() }
        .map_err(|error| Mismatch::Start(innermost(&error.to_string())))?;
    let json =
        returned((module.describe())()).map_err(|error| Mismatch::Start(error.to_string()))?;
    let description = from_json(&json).map_err(|error| Mismatch::Start(error.to_string()))?;
    Ok(PluginHandle {
        module,
        description,
    })
}

fn same_major(a: &str, b: &str) -> bool {
    a.split('.').next() == b.split('.').next()
}

fn check_layouts(
    ours: &'static TypeLayout,
    theirs: &'static TypeLayout,
) -> std::result::Result<(), String> {
    let accepts = |interface, implementation| {
        check_layout_compatibility_with_globals(interface, implementation, &CheckingGlobals::new())
    };
    match accepts(ours, theirs) {
        Ok(()) => Ok(()),
        Err(first) => match accepts(theirs, ours) {
            Ok(()) => Ok(()),
            Err(_) => Err(innermost(&first.to_string())),
        },
    }
}

/// The core of an error that may be a hundred kilobytes long: which field of which type, what was expected and found.
fn innermost(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let error = lines
        .iter()
        .position(|line| line.starts_with("Error:"))
        .unwrap_or(lines.len());
    let (frames, details) = lines.split_at(error);
    let Some((what, details)) = details.split_first() else {
        return shortened(lines.join("; "));
    };
    // Behind the frames both types are laid out in full.
    let last = |label: &str| {
        frames
            .iter()
            .take_while(|line| **line != "Layout of expected type:")
            .filter_map(|line| line.strip_prefix(label))
            .last()
            .unwrap_or("-")
    };
    let after = |label: &str| {
        let mut lines = details.iter().skip_while(|line| **line != label);
        lines.nth(1).copied().unwrap_or("-")
    };
    shortened(format!(
        "field {} of type {}: {} (expected {}, found {})",
        last("field_name:"),
        last("type:"),
        what.trim_start_matches("Error:"),
        after("Expected:"),
        after("Found:"),
    ))
}

fn shortened(mut text: String) -> String {
    const MOST: usize = 400;
    if text.len() > MOST {
        let end = (0..=MOST)
            .rev()
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// A plugin that passed every check.
#[derive(Clone)]
pub struct PluginHandle {
    module: PluginModule,
    description: Description,
}

impl PluginHandle {
    /// What the plugin says of itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// One of its pipelines.
    pub fn pipeline(&self, index: u32) -> Result<ForeignPipeline> {
        returned((self.module.pipeline())(index)).map(ForeignPipeline::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_the_same_first_number_go_together() {
        assert!(same_major("1.0.0", "1.7.2"));
        assert!(same_major("1.7.2", "1.0.0"));
        assert!(same_major("1.0.0-draft", "1.0.0"));
        assert!(!same_major("1.0.0", "2.0.0"));
        assert!(!same_major("1.0.0", "10.0.0"));
        assert!(!same_major("0.9.0", "1.0.0"));
    }

    /// How many traits there are, and the methods behind the last one of the first minor that have no body.
    fn bodiless(source: &str) -> (usize, Vec<&str>) {
        let traits: Vec<&str> = source
            .split("#[sabi_trait]\n")
            .skip(1)
            .filter_map(|text| text.split("\n}\n").next())
            .collect();
        let appended = traits.iter().flat_map(|one| {
            let (_, rest) = one.split_once("#[sabi(last_prefix_field)]").unwrap();
            rest.split("    fn ").skip(2)
        });
        let lacking = appended.filter_map(|method| {
            let end = method.find(['{', ';']).unwrap();
            method[end..].starts_with(';').then(|| &method[..end])
        });
        (traits.len(), lacking.collect())
    }

    /// Without a body, the process ends when the method is called on a side that lacks it.
    #[test]
    fn every_method_that_was_appended_has_a_body() {
        let example = "#[sabi_trait]\npub trait A {\n    fn a(&self);\n    #[sabi(last_prefix_field)]\n    fn b(&self);\n    \
                       fn c(&self) {\n    }\n    fn d(&self) -> u32;\n}\n";
        assert_eq!(bodiless(example), (1, vec!["d(&self) -> u32"]));
        assert_eq!(bodiless(include_str!("object.rs")), (6, vec![]));
    }
}
