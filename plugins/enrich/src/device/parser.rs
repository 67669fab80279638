//! Runs uap-core's patterns over one user agent.
//!
//! Of the device patterns only crawlers and the catch-all phone and tablet patterns are compiled: the class needs no
//! more, and the 600 patterns of single models would cost more than all others together. Dropping them changes the
//! verdict `Spider` for 30 of the 30,716 user agents in uap-core's tests, most of them crawlers that a model's
//! pattern claims there.

use std::fmt;
use std::sync::OnceLock;

use ua_parser::{Regexes, device, os, user_agent};

use super::Device;
use super::class::{Signs, class};

const PATTERNS: &str = include_str!("../../data/regexes.yaml");

/// The patterns that are compiled in cannot be used: the build is broken.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "the compiled-in user agent patterns are damaged: {0}; build the plugin again from an untouched source"
)]
pub struct DeviceError(String);

pub(super) struct Parser {
    browser: user_agent::Extractor<'static>,
    os: os::Extractor<'static>,
    device: device::Extractor<'static>,
}

impl fmt::Debug for Parser {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Parser").finish_non_exhaustive()
    }
}

impl Parser {
    /// The process's parser.
    pub(super) fn get() -> Result<&'static Self, DeviceError> {
        static PARSER: OnceLock<Result<Parser, DeviceError>> = OnceLock::new();
        PARSER
            .get_or_init(Self::compile)
            .as_ref()
            .map_err(Clone::clone)
    }

    fn compile() -> Result<Self, DeviceError> {
        fn damaged(error: impl fmt::Display) -> DeviceError {
            DeviceError(error.to_string())
        }

        let patterns: Regexes<'static> = serde_yaml::from_str(PATTERNS).map_err(damaged)?;
        let general = patterns.device_parsers.into_iter().filter(|pattern| {
            let family = pattern.device_replacement.as_deref().unwrap_or_default();
            family == "Spider" || family.starts_with("Generic ")
        });
        Ok(Self {
            browser: user_agent::Builder::new()
                .push_all(patterns.user_agent_parsers)
                .map_err(damaged)?
                .build()
                .map_err(damaged)?,
            os: os::Builder::new()
                .push_all(patterns.os_parsers)
                .map_err(damaged)?
                .build()
                .map_err(damaged)?,
            device: device::Builder::new()
                .push_all(general)
                .map_err(damaged)?
                .build()
                .map_err(damaged)?,
        })
    }

    pub(super) fn parse(&self, text: &str) -> Device {
        let browser = self
            .browser
            .extract(text)
            .filter(|browser| is_known(&browser.family));
        let os = self.os.extract(text).filter(|os| is_known(&os.os));
        let device = self.device.extract(text);
        Device {
            class: class(&Signs {
                text,
                os: os.as_ref().map_or("", |os| &os.os),
                browser: browser.as_ref().map_or("", |browser| &browser.family),
                device: device.as_ref().map_or("", |device| &device.device),
            }),
            os: os.map(|os| name(&os.os, [os.major.as_deref(), os.minor.as_deref()])),
            browser: browser.map(|browser| name(&browser.family, [browser.major, None])),
        }
    }
}

fn is_known(family: &str) -> bool {
    !family.is_empty() && family != "Other"
}

fn name(family: &str, versions: [Option<&str>; 2]) -> Box<str> {
    let mut name = family.to_owned();
    let mut separator = ' ';
    for version in versions
        .into_iter()
        .map_while(|version| version.filter(|text| !text.is_empty()))
    {
        name.push(separator);
        name.push_str(version);
        separator = '.';
    }
    name.into_boxed_str()
}
