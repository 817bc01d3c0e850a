//! What ends a WebSocket that should not have ended.

use thiserror::Error;
use tungstenite::http::StatusCode;

use crate::transport::proxy;

/// Why a WebSocket connection ends. The client gets the status or the close code that belongs to it, where it can read one.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum WebSocketError {
    /// Something else where a request should begin.
    #[error("the client does not ask for a WebSocket: its first byte is {first_byte:#04x}{}", proxy::hint(*first_byte))]
    NotHttp {
        /// As it came; of a WebSocket client it is 0x47.
        first_byte: u8,
    },
    /// A CONNECT where a request should begin.
    #[error("the client speaks MQTT without WebSocket, which this listener expects")]
    PlainMqtt,
    /// A request without end.
    #[error("the request for a WebSocket has more than {limit} bytes")]
    RequestTooLarge {
        /// The limit.
        limit: usize,
    },
    /// Not HTTP/1.1, or not a request for a WebSocket.
    #[error("the request is not one for a WebSocket")]
    BadRequest,
    /// Another version than 13.
    #[error("the request is for another version of WebSocket than 13")]
    Version,
    /// Not the listener's path.
    #[error("the request is for another path than the listener's")]
    Path,
    /// A page of somebody else.
    #[error("the page that asks is of an origin that this listener does not let in")]
    Origin,
    /// Neither `mqtt` nor `mqttv3.1` is among the subprotocols [MQTT-6.0.0-3].
    #[error("the request does not ask for the subprotocol mqtt")]
    Subprotocol,
    /// A text frame [MQTT-6.0.0-1].
    #[error("a text frame: MQTT is binary")]
    TextFrame,
    /// Frames of clients are masked.
    #[error("a frame without mask")]
    Unmasked,
    /// No extension was agreed on that uses them.
    #[error("reserved bits in a frame")]
    ReservedBits,
    /// A kind of frame that there is not.
    #[error("a frame with a reserved opcode")]
    ReservedOpcode,
    /// The length is not in its shortest form, or has its first bit set.
    #[error("a frame whose length is not as RFC 6455 writes it")]
    Length,
    /// More than anybody means.
    #[error("a frame of {got} bytes; at most {limit} are accepted")]
    FrameTooLarge {
        /// The limit.
        limit: u64,
        /// As announced.
        got: u64,
    },
    /// In pieces, or longer than 125 bytes.
    #[error("a control frame in pieces or longer than 125 bytes")]
    ControlFrame,
    /// A continuation of nothing, or a new message within another.
    #[error("fragments of messages out of order")]
    Fragments,
    /// A close frame of one byte, or with a code that nobody may send.
    #[error("a close frame that says nothing valid")]
    CloseFrame,
}

impl WebSocketError {
    pub(crate) fn label(self) -> &'static str {
        match (self, self.status()) {
            (WebSocketError::NotHttp { .. } | WebSocketError::PlainMqtt, _) => "not_websocket",
            (_, Some(_)) => "websocket_upgrade",
            (_, None) => "websocket_frames",
        }
    }

    /// What the client gets instead of a WebSocket; `None` once it has one.
    pub(super) fn status(self) -> Option<StatusCode> {
        match self {
            WebSocketError::NotHttp { .. } | WebSocketError::PlainMqtt => Some(StatusCode::BAD_REQUEST),
            WebSocketError::BadRequest | WebSocketError::Subprotocol => Some(StatusCode::BAD_REQUEST),
            WebSocketError::RequestTooLarge { .. } => Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            WebSocketError::Version => Some(StatusCode::UPGRADE_REQUIRED),
            WebSocketError::Path => Some(StatusCode::NOT_FOUND),
            WebSocketError::Origin => Some(StatusCode::FORBIDDEN),
            _ => None,
        }
    }

    /// The code of section 7.4.1 that the client is told.
    pub(super) fn close_code(self) -> u16 {
        match self {
            WebSocketError::TextFrame => UNSUPPORTED_DATA,
            WebSocketError::FrameTooLarge { .. } => TOO_BIG,
            _ => PROTOCOL_ERROR,
        }
    }
}

const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED_DATA: u16 = 1003;
const TOO_BIG: u16 = 1009;
