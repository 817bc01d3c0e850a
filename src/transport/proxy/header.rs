//! Where a header ends, and whom it names.
//!
//! ```text
//! v1   PROXY TCP4 192.0.2.7 198.51.100.1 51234 8883 CR LF            at most 107 bytes
//! v2   signature (12) │ version, command │ family │ length (2) │ addresses │ type, length, value …
//! ```
//! The end is found before anything else is looked at, and only a whole header is: so it does not matter in which pieces
//! it came.

use std::net::SocketAddr;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use thiserror::Error;

/// Why there is no header, or none that counts.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ProxyError {
    /// Something else where a header must be.
    #[error("no PROXY header, which this listener expects: the first byte is {first_byte:#04x}")]
    Missing {
        /// As it came; of a header it is 0x50 or 0x0d.
        first_byte: u8,
    },
    /// A line without end, or more than anybody has to say.
    #[error("a PROXY header of more than {limit} bytes")]
    TooLarge {
        /// Of that version.
        limit: usize,
    },
    /// Version 1, and not as it is written there.
    #[error("a malformed PROXY header of version 1")]
    Text,
    /// Version 2, and not as it is written there.
    #[error("a malformed PROXY header of version 2")]
    Binary,
    /// Version 2, and what follows the addresses is malformed.
    #[error("a PROXY header whose type-length-value fields are malformed")]
    Fields,
    /// A header of datagrams.
    #[error("a PROXY header of a connection over UDP")]
    Datagram,
}

impl ProxyError {
    pub(crate) fn label(self) -> &'static str {
        match self {
            ProxyError::Missing { .. } => "no_proxy_header",
            _ => "proxy_header",
        }
    }
}

/// For the log of a listener that expects no header: whether the first byte is one's.
pub(crate) fn hint(first_byte: u8) -> &'static str {
    if first_byte == TEXT[0] || first_byte == SIGNATURE[0] {
        " (as of a PROXY header, which this listener does not expect)"
    } else {
        ""
    }
}

/// How long the header is that `received` begins with; `None`: more must come. Bytes behind it change nothing.
pub(super) fn extent(received: &[u8]) -> Result<Option<usize>, ProxyError> {
    let begins = |with: &[u8]| received.iter().zip(with).all(|(got, expected)| got == expected);
    if begins(TEXT) {
        let line = &received[..received.len().min(TEXT_BYTES_MAX)];
        return match line.iter().position(|byte| *byte == b'\n') {
            Some(end) => Ok(Some(end + 1)),
            None if line.len() == TEXT_BYTES_MAX => Err(ProxyError::TooLarge { limit: TEXT_BYTES_MAX }),
            None => Ok(None),
        };
    }
    if !begins(SIGNATURE) {
        return Err(ProxyError::Missing {
            first_byte: received[0],
        });
    }
    let Some(&[high, low]) = received.get(LENGTH_AT..FIXED_BYTES) else {
        return Ok(None);
    };
    let whole = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if whole > HEADER_BYTES_MAX {
        return Err(ProxyError::TooLarge {
            limit: HEADER_BYTES_MAX,
        });
    }
    Ok((received.len() >= whole).then_some(whole))
}

/// The client that a whole header names; `None`: the connection is the proxy's own (LOCAL), or where the client is cannot
/// be said (UNKNOWN, UNSPEC, a Unix domain socket).
pub(super) fn client(header: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    if header.get(COMMAND_AT) == Some(&LOCAL) && header.starts_with(SIGNATURE) {
        // Whatever else it has is to be thrown away.
        return Ok(None);
    }
    let malformed = if header.starts_with(TEXT) {
        ProxyError::Text
    } else {
        ProxyError::Binary
    };
    let (parsed, size) = ProxyHeader::parse(header, ParseConfig::default()).map_err(|_| malformed)?;
    if size != header.len() {
        return Err(malformed);
    }
    if parsed.tlvs().any(|field| field.is_err()) {
        return Err(ProxyError::Fields);
    }
    match parsed.proxied_address() {
        None => Ok(None),
        Some(address) if address.protocol == Protocol::Datagram => Err(ProxyError::Datagram),
        // One client has one address, however its proxy writes it.
        Some(address) => Ok(Some(SocketAddr::new(
            address.source.ip().to_canonical(),
            address.source.port(),
        ))),
    }
}

/// What version 1 begins with.
const TEXT: &[u8] = b"PROXY ";
/// The longest line of version 1, with its end.
const TEXT_BYTES_MAX: usize = 107;
/// What version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Of version and command.
const COMMAND_AT: usize = SIGNATURE.len();
/// Version 2, the command LOCAL.
const LOCAL: u8 = 0x20;
const LENGTH_AT: usize = SIGNATURE.len() + 2;
/// Up to the length's end.
const FIXED_BYTES: usize = LENGTH_AT + 2;
/// Most of a header of version 2. Addresses take 216 at most; what proxies add about TLS and the cloud they are in is some hundred.
pub(super) const HEADER_BYTES_MAX: usize = 4 * 1024;

const _: () = assert!(TEXT_BYTES_MAX < HEADER_BYTES_MAX && FIXED_BYTES < HEADER_BYTES_MAX);

#[cfg(test)]
mod tests;
