//! The tutorial, a page for each part of a plugin. All code in it compiles and runs.
//!
//! Begin with the [shortest plugin](crate), or let `etl-host generate --name my-pipeline` write one; then read what yours
//! needs:
//!
//! | page | for |
//! | --- | --- |
//! | [`rows`] | one struct in, one struct out: filter, reject, add |
//! | [`batches`] | whole columns, several tables, many rows or one of many |
//! | [`extractors`] | data that no configured query gives, such as an HTTP API |
//! | [`loaders`] | a target that is no configured sink, and the three kinds of delivery |
//! | [`pipelines`] | several pipelines in one plugin |
//! | [`settings`] | what the operator may choose, with defaults and checks |
//! | [`capabilities`] | hosts, files and secrets |
//! | [`reporting`] | counters, logs, cancellation |
//! | [`errors`] | which error to return, and what the host does then |
//! | [`testing`] | the test kit |
//! | [`versions`] | which plugin runs in which host |

#[doc = include_str!("batches.md")]
pub mod batches {}
#[doc = include_str!("capabilities.md")]
pub mod capabilities {}
#[doc = include_str!("errors.md")]
pub mod errors {}
#[doc = include_str!("extractors.md")]
pub mod extractors {}
#[doc = include_str!("loaders.md")]
pub mod loaders {}
#[doc = include_str!("pipelines.md")]
pub mod pipelines {}
#[doc = include_str!("reporting.md")]
pub mod reporting {}
#[doc = include_str!("rows.md")]
pub mod rows {}
#[doc = include_str!("settings.md")]
pub mod settings {}
#[allow(clippy::test_attr_in_doctest, reason = "it is a page about tests")]
#[doc = include_str!("testing.md")]
pub mod testing {}
#[doc = include_str!("versions.md")]
pub mod versions {}
