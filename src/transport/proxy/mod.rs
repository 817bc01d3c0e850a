//! The PROXY protocol, versions 1 and 2: before anything else, a proxy says who the client is.
//!
//! proxy-header reads what stands in a header; how long one is, and that it comes in pieces with the client's own bytes right
//! behind it, is in [`header`]. [`ProxiedStream`] takes the header from the socket and not one byte more, and is then
//! replaced by what it was put around: a connection pays nothing for it afterwards.
//!
//! Specification: `proxy-protocol.txt` of HAProxy, <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>.

mod header;
mod stream;

pub use header::ProxyError;
pub(crate) use header::hint;
pub(crate) use stream::ProxiedStream;
