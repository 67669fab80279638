//! The log on stderr.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::{Globals, progress};

/// Installs the log: warnings by default, more with `-v`, anything with `ETL_LOG`.
pub fn install(globals: &Globals) {
    let level = match globals.verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    // Libraries speak only when something is wrong, unless asked. This one repeats errors that the host reports itself.
    let tiberius = if globals.verbose == 0 { "off" } else { "warn" };
    let directives = format!("warn,tiberius={tiberius},etl_host={level},plugin={level}");
    let filter = std::env::var("ETL_LOG")
        .ok()
        .and_then(|wish| EnvFilter::try_new(wish).ok())
        .unwrap_or_else(|| EnvFilter::new(directives));
    // A second installation in the same process (tests) keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(globals.color.on_stderr())
        .with_writer(AroundBars)
        .try_init();
}

/// Writes to stderr without tearing the progress bars apart.
struct AroundBars;

impl<'a> MakeWriter<'a> for AroundBars {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Vec::new())
    }
}

/// One event, written at once when it is complete.
struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Nobody can be told that the log cannot be written.
        progress::around_bars(|| {
            let _ = io::stderr().write_all(&self.0);
        });
    }
}
