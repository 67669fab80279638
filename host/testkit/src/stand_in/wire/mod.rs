//! TDS 7.4 on the wire: packets, TLS, requests read, tokens written. It knows no SQL.

pub mod bulk_load;
pub mod bytes;
pub mod login;
pub mod packet;
pub mod prelogin;
pub mod request;
pub mod response;
pub mod transport;
pub mod type_info;
pub mod value;
