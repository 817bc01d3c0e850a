//! The request that a WebSocket begins with, and its answer.

use tungstenite::error::{Error, ProtocolError};
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::HeaderValue;
use tungstenite::http::header::{ORIGIN, SEC_WEBSOCKET_PROTOCOL};

use super::WebSocketError;
use crate::config::WebSocketConfig;

/// Looks for a whole request at the beginning of `received`: gives how long it is and the answer to it. `None`: more must
/// come. O(1) while the request is incomplete, given that all but the last `fresh` bytes were looked at before.
///
/// # Errors
/// What arrived is no request that this listener accepts.
pub(super) fn judge(
    received: &[u8],
    fresh: usize,
    config: &WebSocketConfig,
) -> Result<Option<(usize, Vec<u8>)>, WebSocketError> {
    if received.iter().zip(METHOD).any(|(got, expected)| got != expected) {
        return Err(match received[0] {
            CONNECT => WebSocketError::PlainMqtt,
            first_byte if first_byte != METHOD[0] => WebSocketError::NotHttp { first_byte },
            _ => WebSocketError::BadRequest,
        });
    }
    let from = received.len().saturating_sub(fresh + END.len());
    let Some(end) = received[from..].windows(END.len()).position(|it| it == END) else {
        return match received.len() > REQUEST_BYTES_MAX {
            true => Err(WebSocketError::RequestTooLarge {
                limit: REQUEST_BYTES_MAX,
            }),
            false => Ok(None),
        };
    };
    let size = from + end + END.len();
    if size > REQUEST_BYTES_MAX {
        return Err(WebSocketError::RequestTooLarge {
            limit: REQUEST_BYTES_MAX,
        });
    }
    match Request::try_parse(&received[..size]) {
        Ok(Some((parsed, request))) if parsed == size => Ok(Some((size, answer(&request, config)?))),
        _ => Err(WebSocketError::BadRequest),
    }
}

fn answer(request: &Request, config: &WebSocketConfig) -> Result<Vec<u8>, WebSocketError> {
    if request.uri().path() != config.path {
        return Err(WebSocketError::Path);
    }
    // Only browsers say where a page is from, and they always do.
    if let Some(origin) = request.headers().get(ORIGIN)
        && !config.origins.is_empty()
        && !config.origins.iter().any(|it| it.as_bytes() == origin.as_bytes())
    {
        return Err(WebSocketError::Origin);
    }
    let mut response = create_response(request).map_err(|error| match error {
        Error::Protocol(ProtocolError::MissingSecWebSocketVersionHeader) => WebSocketError::Version,
        _ => WebSocketError::BadRequest,
    })?;
    let asked: Vec<&str> = request
        .headers()
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .collect();
    // [MQTT-6.0.0-4]
    let chosen = SUBPROTOCOLS.iter().find(|known| asked.contains(known));
    let chosen = HeaderValue::from_static(chosen.ok_or(WebSocketError::Subprotocol)?);
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, chosen);
    let mut bytes = Vec::new();
    write_response(&mut bytes, &response).map_err(|_| WebSocketError::BadRequest)?;
    Ok(bytes)
}

/// The answer to a request that is refused, if it is one.
pub(super) fn refusal(error: WebSocketError) -> Vec<u8> {
    let Some(status) = error.status() else {
        return Vec::new();
    };
    let version = match error {
        WebSocketError::Version => "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n",
        _ => "",
    };
    let body = format!("{error}\n");
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n{version}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Browsers send some hundred bytes, and cookies.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// What every request for a WebSocket begins with.
const METHOD: &[u8] = b"GET ";
/// What it ends with.
const END: &[u8] = b"\r\n\r\n";
/// The first byte of MQTT's first packet.
const CONNECT: u8 = 0x10;
/// What MQTT is called there: 3.1.1, and 3.1 by an older name.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455, section 1.3, with MQTT's subprotocol.
    const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\nSec-WebSocket-Protocol: chat, mqtt\r\n\
        Sec-WebSocket-Version: 13\r\n\r\n";

    fn config() -> WebSocketConfig {
        WebSocketConfig {
            path: "/mqtt".into(),
            origins: vec!["http://example.com".into()],
        }
    }

    #[test]
    fn request_is_answered_once_it_is_whole_and_however_it_is_cut() {
        let bytes = [REQUEST.as_bytes(), b"\x82\x80"].concat();
        for len in 1..REQUEST.len() {
            assert_eq!(judge(&bytes[..len], 1, &config()), Ok(None));
            assert_eq!(judge(&bytes[..len], len, &config()), Ok(None));
        }
        for (len, fresh) in [
            (REQUEST.len(), 1),
            (REQUEST.len(), REQUEST.len()),
            (bytes.len(), 3),
            (bytes.len(), 5),
        ] {
            let (size, answer) = judge(&bytes[..len], fresh, &config()).unwrap().unwrap();
            assert_eq!(size, REQUEST.len());
            let answer = String::from_utf8(answer).unwrap().to_lowercase();
            assert!(answer.starts_with("http/1.1 101 "), "{answer}");
            // The value is the RFC's own.
            assert!(
                answer.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
                "{answer}"
            );
            assert!(answer.contains("\r\nsec-websocket-protocol: mqtt\r\n"), "{answer}");
        }
    }

    #[test]
    fn other_requests_are_refused_with_their_status() {
        for (from, to, expected) in [
            ("/mqtt", "/", WebSocketError::Path),
            ("/mqtt", "/mqtt/", WebSocketError::Path),
            ("/mqtt", "//evil/mqtt", WebSocketError::Path),
            (
                "Origin: http://example.com",
                "Origin: http://example.com.evil",
                WebSocketError::Origin,
            ),
            ("Origin: http://example.com", "Origin: null", WebSocketError::Origin),
            ("chat, mqtt", "chat, mqttish", WebSocketError::Subprotocol),
            (
                "Sec-WebSocket-Protocol: chat, mqtt\r\n",
                "",
                WebSocketError::Subprotocol,
            ),
            ("Version: 13", "Version: 8", WebSocketError::Version),
            ("Upgrade: websocket", "Upgrade: h2c", WebSocketError::BadRequest),
            ("Connection: Upgrade", "Connection: close", WebSocketError::BadRequest),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhl", WebSocketError::BadRequest),
            ("HTTP/1.1", "HTTP/1.0", WebSocketError::BadRequest),
            ("Host: ", "Ho\0st: ", WebSocketError::BadRequest),
            ("GET ", "POST ", WebSocketError::NotHttp { first_byte: b'P' }),
            ("GET ", "GEX ", WebSocketError::BadRequest),
            ("GET ", "\x10\x0c\0\x04MQTT", WebSocketError::PlainMqtt),
        ] {
            let request = REQUEST.replacen(from, to, 1);
            assert_ne!(request, REQUEST);
            assert_eq!(
                judge(request.as_bytes(), request.len(), &config()),
                Err(expected),
                "{request}"
            );
            let answer = String::from_utf8(refusal(expected)).unwrap();
            assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
        }
        // No browser.
        let request = REQUEST.replacen("Origin: http://example.com\r\n", "", 1);
        assert!(judge(request.as_bytes(), request.len(), &config()).unwrap().is_some());
    }

    #[test]
    fn request_has_a_limit() {
        let limit = Err(WebSocketError::RequestTooLarge { limit: 8_192 });
        let endless = format!("GET /mqtt HTTP/1.1\r\nCookie: {}", "x".repeat(8_192));
        assert_eq!(judge(&endless.as_bytes()[..8_192], 1, &config()), Ok(None));
        assert_eq!(judge(endless.as_bytes(), 1, &config()), limit);
        assert_eq!(
            judge(format!("{endless}\r\n\r\n").as_bytes(), endless.len(), &config()),
            limit
        );
        let many = format!("GET /mqtt HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
        assert_eq!(
            judge(many.as_bytes(), many.len(), &config()),
            Err(WebSocketError::BadRequest)
        );
    }
}
