//! Parts of a row's way, each alone on one core: decode, encode, and the boundary to a plugin.
//!
//! The rows are logins as the demo makes them, a batch of [`logins::ROWS`] at a time, so that nothing else takes part: no
//! server, no runtime. What a plugin does with them is measured by `transform` of `plugins/login-analytics`. Run it with
//! `make bench-micro`; without `--bench` every part runs once, which is how `cargo test` sees that it works.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark; criterion's macros write functions"
)]

mod boundary;
mod decode;
mod encode;
mod logins;

use criterion::{criterion_group, criterion_main};

criterion_group!(benches, decode::decode, encode::encode, boundary::boundary);
criterion_main!(benches);
