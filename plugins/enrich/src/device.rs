//! Turns the text of a user agent into a device class, an operating system and a browser.
//!
//! The patterns are uap-core's (`data/regexes.yaml`), run by the crate `ua-parser`; this module adds the device class
//! and bounds the cost. It knows neither batches nor the host.
//!
//! # Device class
//!
//! uap-core names device models, not classes. The first rule that holds decides:
//!
//! 1. **other**: NULL, empty or whitespace; then `os` and `browser` are NULL too.
//! 2. **other**: televisions, streaming sticks, consoles, headsets, watches, car and home devices.
//! 3. **tablet**: Amazon's Silk browser, whose name uap-core's crawler pattern would take for a crawler.
//! 4. **bot**: uap-core calls it a `Spider`, or it is an HTTP library, a command-line client or a headless browser.
//! 5. **tablet**: says iPad, Kindle, `PlayBook` or `TouchPad`; says `Tablet` and is not Windows (where the word stands
//!    for pen input); or is a browser on Android that does not say `Mobile`.
//! 6. **mobile**: a phone's operating system, or a text that uap-core knows as a smartphone or feature phone.
//! 7. **desktop**: any other operating system that uap-core knows.
//! 8. **other**: the rest.
//!
//! What the text cannot tell stays untold: an iPad that asks for desktop pages says it is a Mac, and Windows 11 says
//! it is Windows 10.
//!
//! # Names
//!
//! `os` is uap-core's family with major and minor version (`Windows 10`, `iOS 17.1`, `Android 14`), `browser` its
//! family with the major version (`Chrome 120`). Both are NULL where uap-core knows none.
//!
//! # Cost
//!
//! The patterns are compiled once per process; parsing one user agent takes some 40 µs, so results are cached. Only
//! the first [`MAX_LENGTH`] bytes of a user agent count. A [`Devices`] holds at most 2 x [`GENERATION`] entries.

mod cache;
mod class;
mod parser;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::cache::Cache;
pub use self::class::Class;
pub use self::parser::DeviceError;
use self::parser::Parser;

/// How many bytes of a user agent are looked at. The longest real ones have some 500.
pub const MAX_LENGTH: usize = 1_024;

/// How many user agents are cached before the older ones start to leave.
pub const GENERATION: usize = 8_192;

/// What a user agent says about its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its class.
    pub class: Class,
    /// Operating system with version.
    pub os: Option<Box<str>>,
    /// Browser, or the program that takes its place, with major version.
    pub browser: Option<Box<str>>,
}

/// Recognises devices, and remembers those it has seen.
#[derive(Debug)]
pub struct Devices {
    parser: &'static Parser,
    cache: Cache,
    none: Arc<Device>,
}

impl Devices {
    /// An empty cache over the process's parser, which the first call compiles.
    pub fn new() -> Result<Self, DeviceError> {
        Ok(Self {
            parser: Parser::get()?,
            cache: Cache::new(GENERATION),
            none: Arc::new(Device {
                class: Class::Other,
                os: None,
                browser: None,
            }),
        })
    }

    /// What `user_agent` says. Allocates nothing for a text that is in the cache.
    pub fn recognise(&mut self, user_agent: Option<&str>) -> Arc<Device> {
        let text = shortened(user_agent.map_or("", str::trim));
        if text.is_empty() {
            return Arc::clone(&self.none);
        }
        self.cache
            .get_or_insert_with(text, || self.parser.parse(text))
    }
}

fn shortened(text: &str) -> &str {
    if text.len() <= MAX_LENGTH {
        return text;
    }
    let end = (0..=MAX_LENGTH).rev().find(|&at| text.is_char_boundary(at));
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}
