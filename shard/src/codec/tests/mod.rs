//! Packet cases are data: the bytes, and the packet or the error they are. Bytes are written out, never encoded here.

mod connect;
mod header;
mod packets;
mod properties;
mod strings;

use super::*;

/// A case that is no packet: the bytes, and why not.
type Malformed<'a> = (&'a [u8], CodecError);

fn id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

/// The one packet that `bytes` are, to the last.
#[track_caller]
fn whole(bytes: &[u8]) -> Packet<'_> {
    let decoded = decode(bytes, PACKET_BYTES_MAX).unwrap().unwrap();
    assert_eq!(decoded.len, bytes.len(), "{bytes:02X?}");
    decoded.packet
}

/// That `bytes` decode to `packet`, and `packet` encodes to `bytes`.
#[track_caller]
fn assert_wire_form(bytes: &[u8], packet: &Packet<'_>) {
    assert_eq!(whole(bytes), *packet, "{bytes:02X?}");
    let mut encoded = b"before".to_vec();
    encode(packet, &mut encoded);
    assert_eq!(encoded.strip_prefix(b"before"), Some(bytes), "{packet:?}");
}

#[track_caller]
fn assert_malformed(cases: &[Malformed<'_>]) {
    for (bytes, error) in cases {
        assert_eq!(decode(bytes, PACKET_BYTES_MAX), Err(*error), "{bytes:02X?}");
    }
}

/// `body` behind a fixed header of one byte of Remaining Length.
fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let remaining_length = u8::try_from(body.len()).unwrap();
    assert!(remaining_length < 0x80);
    [&[first, remaining_length], body].concat()
}
