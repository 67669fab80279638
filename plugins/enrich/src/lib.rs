//! What the text of an IP address and of a user agent tells: the place and the device.
//!
//! For plugins that add such columns. It is no plugin itself: it knows neither batches nor the host, and asks no network.

pub mod device;
pub mod location;
