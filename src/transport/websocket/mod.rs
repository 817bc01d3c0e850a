//! WebSocket (RFC 6455), the way into MQTT for browsers: an HTTP request that becomes a stream of frames [MQTT-6.0.0].
//!
//! tungstenite knows the forms of both, requests and frame headers, without doing I/O; what a request must ask for is in
//! [`upgrade`], which frames are allowed in [`frames`], and [`WebSocketStream`] moves both over another transport, plain
//! or TLS. tungstenite's own stream is not used: it gathers whole messages in a buffer per connection, and MQTT does not
//! care where a WebSocket message ends [MQTT-6.0.0-2].

mod error;
mod frames;
#[doc(hidden)]
pub mod fuzz;
mod stream;
mod upgrade;

pub use error::WebSocketError;
pub(crate) use stream::WebSocketStream;
