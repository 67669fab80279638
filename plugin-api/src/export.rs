//! From an author's value to something that can cross the boundary: types erased, settings read, panics caught.
//!
//! No unsafe code here; how values are laid out for the crossing is the business of [`abi`](crate::abi).

use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::context::Context;
use crate::error::{ErrorKind, Result, StageError};
use crate::manifest::{Manifest, Problem};
use crate::pipeline::{Extractor, Loader, Partition, Pipeline, Transformer};

/// A pipeline whose settings are still JSON: what both sides of the boundary speak of.
#[doc(hidden)]
pub trait DynPipeline: Send + Sync {
    /// See [`Pipeline::manifest`]; with the settings' schema.
    fn manifest(&self) -> Manifest;
    /// Every mistake in the settings, of shape and of meaning.
    fn validate(&self, settings: &str) -> Result<Vec<Problem>>;
    /// See [`Pipeline::partitions`].
    fn partitions(&self, settings: &str, cx: &dyn Context) -> Result<Option<Vec<Partition>>>;
    /// See [`Pipeline::extractor`].
    fn extractor(&self, settings: &str) -> Result<Option<Box<dyn Extractor>>>;
    /// See [`Pipeline::transformer`].
    fn transformer(&self, settings: &str) -> Result<Option<Box<dyn Transformer>>>;
    /// See [`Pipeline::loader`].
    fn loader(&self, settings: &str) -> Result<Option<Box<dyn Loader>>>;
}

impl<P: Pipeline> DynPipeline for P {
    fn manifest(&self) -> Manifest {
        let mut manifest = Pipeline::manifest(self);
        manifest.settings_schema = schemars::schema_for!(P::Settings).to_value();
        manifest
    }

    fn validate(&self, settings: &str) -> Result<Vec<Problem>> {
        Ok(match read_settings::<P>(settings) {
            Ok(settings) => Pipeline::validate(self, &settings),
            Err(problem) => vec![problem],
        })
    }

    fn partitions(&self, settings: &str, cx: &dyn Context) -> Result<Option<Vec<Partition>>> {
        Pipeline::partitions(self, &accepted_settings::<P>(settings)?, cx)
    }

    fn extractor(&self, settings: &str) -> Result<Option<Box<dyn Extractor>>> {
        Pipeline::extractor(self, &accepted_settings::<P>(settings)?)
    }

    fn transformer(&self, settings: &str) -> Result<Option<Box<dyn Transformer>>> {
        Pipeline::transformer(self, &accepted_settings::<P>(settings)?)
    }

    fn loader(&self, settings: &str) -> Result<Option<Box<dyn Loader>>> {
        Pipeline::loader(self, &accepted_settings::<P>(settings)?)
    }
}

fn read_settings<P: Pipeline>(json: &str) -> std::result::Result<P::Settings, Problem> {
    let deserializer = &mut serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let path = error.path().to_string();
        let key = if path == "." { String::new() } else { path };
        // serde_json speaks of a line and column of JSON that nobody wrote.
        let message = error.inner().to_string();
        let message = message
            .rsplit_once(" at line ")
            .map_or(message.clone(), |(text, _)| text.to_owned());
        Problem { key, message }
    })
}

fn accepted_settings<P: Pipeline>(json: &str) -> Result<P::Settings> {
    read_settings::<P>(json).map_err(|problem| {
        StageError::config(format!("settings.{}: {}", problem.key, problem.message))
    })
}

thread_local! {
    static LAST_PANIC: RefCell<Option<StageError>> = const { RefCell::new(None) };
}

/// Keeps each panic's message, place and backtrace for the error that [`guard`] makes of it.
///
/// A cdylib has a standard library of its own, so this touches no hook but the plugin's.
#[doc(hidden)]
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("no message");
        let place = info
            .location()
            .map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
        let error = StageError::new(ErrorKind::Panicked, format!("panicked: {text}{place}"))
            .with_backtrace(own_frames(&Backtrace::force_capture().to_string()));
        // A panic while the thread ends has nowhere to leave its message.
        let _ = LAST_PANIC.try_with(|last| {
            if let Ok(mut last) = last.try_borrow_mut() {
                if let Some(earlier) = &*last {
                    // Nobody has taken the earlier one yet: the second ends the process while the stack unwinds.
                    eprintln!("{error}, while cleaning up after: {earlier}");
                }
                *last = Some(error);
            }
        });
    }));
}

/// The frames between the panic and the boundary: the author's own code, and what it called. All of them if there are
/// none, as in a library without names.
fn own_frames(backtrace: &str) -> String {
    const OF_PANIC: [&str; 6] = [
        "rust_begin_unwind",
        "core::panicking::",
        "core::option::unwrap_failed",
        "core::option::expect_failed",
        "core::result::unwrap_failed",
        "std::panicking::",
    ];
    const OF_BOUNDARY: [&str; 2] = ["etl_plugin_api::abi::", "etl_plugin_api::export::"];
    let any = |line: &str, of: &[&str]| of.iter().any(|name| line.contains(name));
    let mut frames: Vec<Vec<&str>> = Vec::new();
    for line in backtrace.lines() {
        match frames.last_mut() {
            Some(frame) if line.trim_start().starts_with("at ") => frame.push(line),
            _ => frames.push(vec![line]),
        }
    }
    let named = |frame: &[&str], of: &[&str]| frame.first().is_some_and(|line| any(line, of));
    let panic = frames
        .iter()
        .rposition(|frame| named(frame, &OF_PANIC[..5]));
    let own: Vec<&str> = frames
        .iter()
        .skip(panic.map_or(0, |at| at + 1))
        .skip_while(|frame| named(frame, &OF_PANIC))
        .take_while(|frame| !named(frame, &OF_BOUNDARY))
        .flatten()
        .copied()
        .collect();
    if panic.is_none() || own.is_empty() {
        return backtrace.to_owned();
    }
    own.join("\n")
}

/// Runs code whose panic must not cross the boundary.
#[doc(hidden)]
pub fn guard<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // Nothing that was being changed is used again: the caller poisons its instance.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(payload) => {
            let text = payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| payload.downcast_ref::<String>().cloned());
            // A payload may itself panic when dropped.
            std::mem::forget(payload);
            let kept = LAST_PANIC
                .try_with(|last| last.try_borrow_mut().ok().and_then(|mut last| last.take()))
                .ok()
                .flatten();
            Err(kept.unwrap_or_else(|| {
                let text = text.unwrap_or_else(|| "no message".to_owned());
                StageError::new(ErrorKind::Panicked, format!("panicked: {text}"))
            }))
        }
    }
}

/// A value whose drop cannot panic outwards.
#[doc(hidden)]
pub struct Contained<T>(Option<T>);

impl<T> Contained<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// The value.
    pub fn get(&self) -> Result<&T> {
        self.0.as_ref().ok_or_else(gone)
    }

    /// The value, to change it.
    pub fn get_mut(&mut self) -> Result<&mut T> {
        self.0.as_mut().ok_or_else(gone)
    }
}

fn gone() -> StageError {
    StageError::fatal("a value was used while it was being dropped")
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        let dropped = guard(move || {
            drop(value);
            Ok(())
        });
        if let Err(error) = dropped {
            // Nobody is left to return it to.
            eprintln!("{error}, while a stage was dropped");
        }
    }
}

/// A stage that is not called again after it failed, and whose drop cannot panic outwards.
#[doc(hidden)]
pub struct Guarded<T> {
    value: Contained<T>,
    poisoned: bool,
}

impl<T> Guarded<T> {
    /// Wraps a healthy stage.
    pub fn new(value: T) -> Self {
        Self {
            value: Contained::new(value),
            poisoned: false,
        }
    }

    /// Calls the stage, or refuses because it failed before.
    pub fn call<R>(&mut self, work: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        if self.poisoned {
            return Err(StageError::fatal(
                "this stage instance failed before and is not called again",
            ));
        }
        let value = self.value.get_mut()?;
        let result = guard(|| work(value));
        self.poisoned = result.is_err();
        result
    }
}

/// Exports one or more pipelines from a `cdylib`.
///
/// Each argument is an expression of a type that implements [`Pipeline`]; it must be cheap and do no I/O, since it
/// is evaluated whenever the host asks for the pipeline.
///
/// ```
/// use etl_plugin_api::prelude::*;
///
/// struct Copy;
///
/// impl Pipeline for Copy {
///     type Settings = NoSettings;
///     fn manifest(&self) -> Manifest {
///         Manifest::new("copy", "0.1.0")
///     }
/// }
///
/// etl_plugin_api::export_pipelines!(Copy);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export_pipelines {
    ($($pipeline:expr),+ $(,)?) => {
        const _: () = {
            fn pipelines() -> ::std::vec::Vec<::std::boxed::Box<dyn $crate::export::DynPipeline>> {
                ::std::vec![$(::std::boxed::Box::new($pipeline)),+]
            }
            extern "C" fn describe() -> $crate::abi::AbiResult<$crate::abi::RString> {
                $crate::abi::describe(pipelines)
            }
            extern "C" fn pipeline(index: u32) -> $crate::abi::AbiResult<$crate::abi::PipelineObject> {
                $crate::abi::pipeline(pipelines, index)
            }
            fn root() -> $crate::abi::PluginModule {
                $crate::abi::root(describe, pipeline)
            }
            extern "C" fn module() -> $crate::abi::RootModuleResult {
                $crate::abi::module(root)
            }
            #[unsafe(no_mangle)]
            #[allow(non_upper_case_globals)]
            pub static _1as_0lib_1header_0root_bmodule_bloader: $crate::abi::LibHeader =
                $crate::abi::header(module);
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_failed_is_not_called_again() {
        let mut stage = Guarded::new(0);
        assert!(
            stage
                .call(|_| Err::<(), _>(StageError::transient("once")))
                .is_err()
        );
        let again = stage.call(|_| Ok(()));
        assert!(again.unwrap_err().message().contains("not called again"));
    }

    #[test]
    fn a_panic_becomes_an_error_with_its_message() {
        let mut stage = Guarded::new(());
        let error = stage
            .call(|()| -> Result<()> { panic!("out of cheese") })
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panicked);
        assert!(error.message().contains("out of cheese"));
    }

    #[test]
    fn a_backtrace_is_the_authors_own_part() {
        let whole = "   0: {closure#0}
             at ./plugin-api/src/export.rs:97:29
   5: __rustc::rust_begin_unwind
             at ./rustc/library/std/src/panicking.rs:689:5
   6: core::panicking::panic_fmt
   7: my_plugin::parse
             at ./src/lib.rs:142:36
   8: <my_plugin::Copy as etl_plugin_api::pipeline::Transformer>::transform
             at ./src/lib.rs:50:17
   9: <etl_plugin_api::abi::object::ExportedTransformer>::transform::{{closure}}
  13: __rust_try
  14: std::panicking::try";
        assert_eq!(
            own_frames(whole),
            "   7: my_plugin::parse
             at ./src/lib.rs:142:36
   8: <my_plugin::Copy as etl_plugin_api::pipeline::Transformer>::transform
             at ./src/lib.rs:50:17"
        );
        assert_eq!(own_frames("   0: <unknown>"), "   0: <unknown>");
    }

    #[test]
    fn a_panic_in_drop_stays_inside() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in drop");
            }
        }
        drop(Guarded::new(Bomb));
    }
}
