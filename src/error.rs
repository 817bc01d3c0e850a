//! Everything that can be wrong with one connection: the core's errors, PROXY headers, TLS, WebSocket, and the system's.

use std::io;

use ringmq_shard::error::{CodecError, ProtocolError, SessionError};
use thiserror::Error;

use crate::runtime::report::Rejection;
use crate::transport::proxy;
pub use crate::transport::proxy::ProxyError;
pub use crate::transport::websocket::WebSocketError;

/// Why a connection ends that should not have. It ends that connection and nothing else.
#[derive(Debug, Error)]
pub enum MqttError {
    /// The bytes were no packet.
    #[error("malformed packet: {0}")]
    Codec(#[from] CodecError),
    /// A packet that is not allowed here.
    #[error("protocol violation: {0}")]
    Protocol(#[from] ProtocolError),
    /// Allowed, but the session cannot.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The system refused to read or write.
    #[error("{operation}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// What came is no TLS, or none that this listener accepts.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// What came is no WebSocket, or not as it must be.
    #[error(transparent)]
    WebSocket(#[from] WebSocketError),
    /// What came first is no PROXY header, where there must be one.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// Its address, as a proxy names it, comes too often.
    #[error(transparent)]
    AddressRate(#[from] AddressRateError),
    /// The client took no byte of what waits for it.
    #[error("nothing could be written for {seconds} s")]
    WriteTimeout {
        /// The limit.
        seconds: u64,
    },
}

/// An address that connects more often than it may.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("its address connects more than {per_second} times a second")]
pub struct AddressRateError {
    /// The limit.
    pub per_second: u32,
}

/// Why a TLS connection ends. The client gets the alert that belongs to it, where it can read one.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum TlsError {
    /// A CONNECT where a handshake should begin.
    #[error("the client speaks plain MQTT, and this listener TLS")]
    PlainMqtt,
    /// Something else where a handshake should begin.
    #[error("the client does not speak TLS: its first byte is {first_byte:#04x}{}", proxy::hint(*first_byte))]
    NotTls {
        /// As it came; of a TLS client it is 0x16.
        first_byte: u8,
    },
    /// Nothing that both sides can do, or a handshake that is malformed.
    #[error("TLS handshake: {0}")]
    Handshake(rustls::Error),
    /// The client's certificate is not one that this listener lets in, or is missing.
    #[error("client certificate: {0}")]
    ClientCertificate(rustls::Error),
    /// The client gave up.
    #[error("the client ended TLS with the alert {0:?}")]
    Alert(rustls::AlertDescription),
    /// After the handshake, records that nobody who knows the keys has made.
    #[error("TLS records: {0}")]
    Records(rustls::Error),
}

impl TlsError {
    fn label(&self) -> &'static str {
        match self {
            TlsError::PlainMqtt | TlsError::NotTls { .. } => "not_tls",
            TlsError::Handshake(_) => "tls_handshake",
            TlsError::ClientCertificate(_) => "tls_client_certificate",
            TlsError::Alert(_) => "tls_alert",
            TlsError::Records(_) => "tls_records",
        }
    }
}

impl MqttError {
    /// What a transport says: the system, or a layer above the socket.
    pub(crate) fn of_transport(operation: &'static str, error: io::Error) -> MqttError {
        let error = match error.downcast::<TlsError>() {
            Ok(error) => return error.into(),
            Err(error) => error,
        };
        let error = match error.downcast::<WebSocketError>() {
            Ok(error) => return error.into(),
            Err(error) => error,
        };
        let error = match error.downcast::<ProxyError>() {
            Ok(error) => return error.into(),
            Err(error) => error,
        };
        match error.downcast::<AddressRateError>() {
            Ok(error) => error.into(),
            Err(source) => MqttError::Io { operation, source },
        }
    }

    /// The reason in metrics: lower case, words joined by `_`, one of a fixed set.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            MqttError::Codec(error) => ringmq_shard::error::CloseReason::Codec(*error).label(),
            MqttError::Protocol(error) => ringmq_shard::error::CloseReason::Protocol(*error).label(),
            MqttError::Session(error) => ringmq_shard::error::CloseReason::Session(*error).label(),
            MqttError::Io { .. } => "io",
            MqttError::Tls(error) => error.label(),
            MqttError::WebSocket(error) => error.label(),
            MqttError::Proxy(error) => error.label(),
            MqttError::AddressRate(_) => Rejection::AddressRate.label(),
            MqttError::WriteTimeout { .. } => "write_timeout",
        }
    }

    /// Whether an operator wants to see it: a connection that simply went away is daily business.
    #[must_use]
    pub fn is_abnormal(&self) -> bool {
        !matches!(self, MqttError::Io { .. })
    }
}
