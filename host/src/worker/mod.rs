//! Plugins in processes of their own: what crosses between host and worker, how a worker is started, fenced and ended.
//!
//! The same plugin file that could be loaded into the host is loaded by `etl-host worker` instead, behind a fence.
//! Connections, pools and credentials stay in the host; batches cross as Arrow IPC over a socket, and the services that
//! a stage asks for cross back on the same one. Which stage is called when is not decided here but in
//! [`runtime`](crate::runtime), which does not know where a stage runs.
//!
//! | file | duty |
//! | --- | --- |
//! | `frame` | one message on a socket: head as JSON, batches as Arrow IPC |
//! | `message` | what host and worker say to each other |
//! | `launch` | starts a worker, reads what it prints, learns how it ended |
//! | `ending` | how a process ended, in words |
//! | `census` | the workers of a host, seen from another process |
//! | `remote` | the host's side: stages that are somewhere else |
//! | `services` | the host's side: what a stage asks for while it is called |
//! | `serve` | the worker's side: loads the plugin, answers calls |
//! | `context` | the worker's side: the services, asked of the host |
//! | `fence` | the worker's side: what it may still do |

mod census;
mod context;
mod ending;
mod fence;
mod frame;
mod launch;
mod message;
mod remote;
mod serve;
mod services;

pub use census::{Running, workers_of};
pub use ending::Ending;
pub use fence::{Fence, Measure};
pub use launch::{GRACE, Label, Launch, NotStarted, Process, Worker};
pub use message::Hello;
pub use remote::Seat;
pub use serve::serve;
