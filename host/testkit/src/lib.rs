//! What the tests of `etl-host` stand on: a real `PostgreSQL`, certificates, freshly built plugins and
//! programs that run under a deadline. It is a dev-dependency only; it knows nothing of pipelines, and no
//! part of it is shipped.
//!
//! - [`postgres`]: a private server per test process (or one for the whole run), a database per test
//! - [`certificates`]: an authority made at run time and the certificates it signs
//! - [`artifact`]: the path of a plugin or program of this workspace, built when it is stale
//! - [`golden`]: plugins built against released versions of the plugin interface
//! - [`project`]: a folder with plugins, configuration, `SQLite` files and the host to run in it
//! - [`stand_in`]: a server that speaks TDS in the place of SQL Server, with faults on order
//! - [`fault_proxy`]: a TCP proxy that breaks connections to order
//! - [`tally`]: the count of rows lost, doubled and claimed in vain
//! - [`process`]: a program run with captured output, signals and a deadline
//!
//! Nothing here is skipped in silence: what is missing on the machine is an error that names the command
//! which installs it.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use etl_testkit::{artifact, postgres::PostgresServer, process::Program};
//!
//! let database = PostgresServer::shared().create_database().await?;
//! let plugin = artifact::plugin("login-analytics")?;
//! let run = Program::new(artifact::binary("etl-host", "etl-host")?)
//!     .args(["run", "login-analytics", "--plugins-dir"])
//!     .arg(plugin.parent().unwrap_or(&plugin))
//!     .env("POSTGRES_PORT", database.port.to_string())
//!     .run()?
//!     .require_code(0)?;
//! # drop(run);
//! # Ok(())
//! # }
//! ```

pub mod artifact;
pub mod certificates;
pub mod fault_proxy;
pub mod golden;
pub mod postgres;
pub mod process;
pub mod project;
pub mod stand_in;
pub mod tally;
