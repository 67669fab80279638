//! Logins that look real and are the same on every machine. They need no server and no network.

pub mod logins;
pub mod random;
pub mod world;
