//! The third door: a copy of the [`cache`](super::cache) is loaded into this process. It is never unloaded.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::error::Error as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, OnceLock};

use abi_stable::library::AbiHeaderRef;
use etl_plugin_api::abi::{ABI_VERSION, Mismatch, PluginHandle, ROOT_SYMBOL, open_plugin};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};

use super::Refused;

/// Whether the host itself wants this process to end.
static MAY_EXIT: AtomicBool = AtomicBool::new(false);

/// From now on the process may end with whatever code it is given.
pub fn allow_exit() {
    MAY_EXIT.store(true, Ordering::SeqCst);
}

/// The host's own work: when it is over, also by a panic, the process may end.
pub struct OwnWork;

impl Drop for OwnWork {
    fn drop(&mut self) {
        allow_exit();
    }
}

/// Loads a stored copy into the host itself. A plugin that calls `exit` then cannot choose the host's exit code.
pub fn load_into_host(copy: &Path) -> Result<PluginHandle, Refused> {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        // SAFETY: the function is of the C calling convention, never unwinds, and lives as long as the process.
        let registered = unsafe { libc::atexit(refuse_exit) };
        if registered != 0 {
            tracing::warn!("a plugin that calls `exit` can choose the exit code of the host");
        }
    });
    load(copy)
}

/// Runs when something calls `exit`. What a plugin wants is not what became of the run.
extern "C" fn refuse_exit() {
    if MAY_EXIT.load(Ordering::SeqCst) {
        return;
    }
    let _ = std::io::stderr().write_all(
        b"error: a plugin that runs inside the host called exit(): the host ends, uncommitted rows are rolled back\n\
          \x20 next: run it with `isolation: process`, and tell the plugin's author\n",
    );
    // SAFETY: ends the process at once; nothing of it is used any more.
    unsafe { libc::_exit(1) }
}

/// Loads a stored copy, once per process.
pub fn load(copy: &Path) -> Result<PluginHandle, Refused> {
    static LOADED: OnceLock<Mutex<HashMap<PathBuf, PluginHandle>>> = OnceLock::new();
    let loaded = LOADED.get_or_init(Mutex::default);
    // A thread that panicked here has left the map as it was.
    let mut loaded = loaded
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(handle) = loaded.get(copy) {
        return Ok(handle.clone());
    }
    let handle = open(copy)?;
    loaded.insert(copy.to_path_buf(), handle.clone());
    Ok(handle)
}

fn open(copy: &Path) -> Result<PluginHandle, Refused> {
    // SAFETY: the copy is read-only and complete, has passed the gate, and a child process has loaded the same bytes
    // before. Its constructors run now; that they do no harm is what the probe has tried.
    let library = unsafe { Library::open(Some(copy), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| {
        let cause = error
            .source()
            .map_or_else(|| error.to_string(), ToString::to_string)
            // The copy's name says nothing to whoever dropped the file.
            .replace(&format!("{}: ", copy.display()), "");
        // What the loader says of a file system that is mounted noexec.
        let fix = if cause.contains("failed to map segment") {
            "keep the state folder on a file system that programs may run from (not noexec): --state-dir, ETL_STATE_DIR"
        } else {
            "install the library it names where the system keeps libraries (ldconfig), or build the plugin on a machine like this one"
        };
        Refused::new(format!("the system cannot load it: {cause}"), fix)
        .for_now()
    })?;
    // SAFETY: the symbol is only ever exported as a static that starts with this header.
    let symbol: Result<Symbol<AbiHeaderRef>, _> = unsafe { library.get(ROOT_SYMBOL.as_bytes()) };
    let Ok(header) = symbol.map(|symbol| *symbol) else {
        return Err(Refused::new(
            "it exports no pipelines",
            "call `export_pipelines!` in the crate",
        ));
    };
    // Never unloaded: threads, hooks and vtables of the plugin live as long as the process.
    std::mem::forget(library);
    // Looks at the header's own mark and version before anything behind it is read.
    let header = header.upgrade().map_err(|_| {
        Refused::new(
            "what it exports is no plugin, or one of another generation of plugins",
            "build the plugin against the etl-plugin-api of this host",
        )
    })?;
    open_plugin(header).map_err(describe)
}

fn describe(mismatch: Mismatch) -> Refused {
    match mismatch {
        Mismatch::Version { theirs } => {
            let ours = major(ABI_VERSION);
            let again = format!("build the plugin against etl-plugin-api {ours}");
            Refused::new(
                format!(
                    "built for plugin interface {theirs}, this host speaks {ABI_VERSION} and takes every {ours}.x"
                ),
                if major(&theirs) > ours {
                    format!("{again}, or use a host of the plugin's generation")
                } else {
                    again
                },
            )
        }
        Mismatch::Layout(detail) => Refused::new(
            format!("built against another etl-plugin-api: {detail}"),
            "build the plugin against the etl-plugin-api of this host",
        ),
        Mismatch::Start(detail) => Refused::new(
            format!("it fails while it starts: {detail}"),
            "read the plugin's own message and mend it",
        ),
    }
}

/// The number that both sides must have in common; 0 for a version that is none.
fn major(version: &str) -> u64 {
    let number = version.split('.').next().unwrap_or_default();
    number.parse().unwrap_or_default()
}
