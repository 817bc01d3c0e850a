//! What lies between MQTT and the socket, where that is not plain TCP: TLS, WebSocket, or WebSocket in TLS.
//!
//! Knows no socket: bytes for the broker go in at [`Layers::seal`] and come out in [`Layers::wire`], bytes from it go in at
//! [`Layers::open`] and come out in [`Layers::plain`]. Either may make something for the other direction, such as a handshake's
//! next step, so the wire is looked at after both.

mod tls;
mod websocket;

use std::io;

pub(crate) use tls::Tls;
use tls::TlsLayer;
pub(crate) use websocket::WebSocket;
use websocket::WebSocketLayer;

/// Which layers all connections of a run have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transport {
    pub(crate) tls: Option<Tls>,
    pub(crate) websocket: Option<WebSocket>,
}

/// The layers of one connection.
#[derive(Debug)]
pub(crate) struct Layers {
    websocket: Option<WebSocketLayer>,
    tls: Option<TlsLayer>,
    /// For the socket, and not yet taken by it.
    pub(crate) wire: Vec<u8>,
    /// MQTT from the broker, and not yet taken.
    pub(crate) plain: Vec<u8>,
    /// WebSocket on its way to or from TLS. Empty between calls; kept for its memory.
    between: Vec<u8>,
}

impl Transport {
    /// Layers for a new connection; `None` where there are none.
    ///
    /// # Errors
    /// rustls cannot begin.
    pub(crate) fn layers(&self) -> io::Result<Option<Box<Layers>>> {
        if self.tls.is_none() && self.websocket.is_none() {
            return Ok(None);
        }
        let mut layers = Box::new(Layers {
            websocket: self.websocket.as_ref().map(WebSocketLayer::new),
            tls: self.tls.as_ref().map(Tls::begin).transpose()?,
            wire: Vec::new(),
            plain: Vec::new(),
            between: Vec::new(),
        });
        // What begins by itself: the request, the ClientHello.
        layers.seal(&[])?;
        Ok(Some(layers))
    }
}

impl Layers {
    /// MQTT for the broker.
    ///
    /// # Errors
    /// The connection has failed.
    pub(crate) fn seal(&mut self, mqtt: &[u8]) -> io::Result<()> {
        let Some(websocket) = &mut self.websocket else {
            return self.send(mqtt);
        };
        let mut frames = std::mem::take(&mut self.between);
        websocket.seal(mqtt, &mut frames)?;
        let sent = self.send(&frames);
        self.between = cleared(frames);
        sent
    }

    /// What the socket had; with nothing, only what is left of earlier bytes is looked at.
    ///
    /// # Errors
    /// The broker breaks the rules of a layer.
    pub(crate) fn open(&mut self, received: &[u8]) -> io::Result<()> {
        match (&mut self.tls, &mut self.websocket) {
            (None, None) => self.plain.extend_from_slice(received),
            (Some(tls), None) => tls.open(received, &mut self.wire, &mut self.plain)?,
            (None, Some(websocket)) => websocket.open(received, &mut self.plain, &mut self.wire)?,
            (Some(tls), Some(websocket)) => {
                let mut frames = std::mem::take(&mut self.between);
                tls.open(received, &mut self.wire, &mut frames)?;
                let mut answers = Vec::new();
                websocket.open(&frames, &mut self.plain, &mut answers)?;
                self.between = cleared(frames);
                if !answers.is_empty() {
                    self.send(&answers)?;
                }
            }
        }
        Ok(())
    }

    /// Bytes for the wire, through TLS where there is one.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.seal(bytes, &mut self.wire),
            None => {
                self.wire.extend_from_slice(bytes);
                Ok(())
            }
        }
    }
}

fn cleared(mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.clear();
    buffer
}

/// What a broker did that a layer does not allow.
fn broken(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}
