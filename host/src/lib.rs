//! The host of ETL plugins: finds them, proves that they are safe to load, and runs their pipelines.
//!
//! The way of a batch: [`cli`] reads flags, [`config`] the YAML; [`plugin`] finds and loads the plugin; [`plan`] puts
//! all of it together; [`runtime`] runs every partition through [`source`], [`stage`] and [`sink`], which commits rows
//! and [`checkpoint`] together. `ARCHITECTURE.md` follows one batch through all of them.

pub mod backfill;
pub mod capabilities;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dead_letter;
pub mod error;
pub mod extension;
pub mod failure;
pub mod finding;
pub mod generate;
pub mod holder;
pub mod identifier;
pub mod install;
pub mod launch;
pub mod literal;
pub mod logs;
pub mod plan;
pub mod plugin;
pub mod policy;
pub mod pool;
pub mod process;
pub mod progress;
pub mod runtime;
pub mod sample;
pub mod schedule;
pub mod session;
pub mod sink;
pub mod source;
pub mod span;
pub mod stage;
pub mod state;
pub mod task;
pub mod tls;
pub mod traces;
pub mod verify;
pub mod worker;
