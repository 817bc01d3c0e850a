//! The body of the decoder's fuzz target, and the oracle of its property tests.

use super::{PACKET_BYTES_MAX, decode, encode, frame_len};

/// Checks what holds for any bytes at all; panics where it does not.
///
/// A decoded packet survives being encoded and decoded again, `frame_len` agrees with `decode`, and an answer that is
/// given to the first bytes of a stream does not change when the others arrive.
pub fn fuzz_decode(bytes: &[u8]) {
    let whole = decode(bytes, PACKET_BYTES_MAX);
    match &whole {
        Ok(Some(decoded)) => {
            assert_eq!(frame_len(bytes, PACKET_BYTES_MAX), Ok(Some(decoded.len)));
            assert_eq!(
                decode(&bytes[..decoded.len], PACKET_BYTES_MAX),
                whole,
                "the next packet does not matter"
            );
            assert_eq!(
                decode(&bytes[..decoded.len - 1], PACKET_BYTES_MAX),
                Ok(None),
                "a byte short is no packet"
            );
            let mut encoded = Vec::new();
            encode(&decoded.packet, &mut encoded);
            let again = decode(&encoded, PACKET_BYTES_MAX)
                .expect("own output")
                .expect("own output is whole");
            assert_eq!(again.packet, decoded.packet);
            assert_eq!(again.len, encoded.len());
            assert!(encoded.len() <= decoded.len, "the shortest form is written");
        }
        Ok(None) => {
            assert!(
                frame_len(bytes, PACKET_BYTES_MAX)
                    .expect("same header")
                    .is_none_or(|len| len > bytes.len())
            );
        }
        Err(error) => match frame_len(bytes, PACKET_BYTES_MAX) {
            Ok(len) => assert!(len.expect("body was judged") <= bytes.len()),
            Err(header_error) => assert_eq!(header_error, *error),
        },
    }
    let half = decode(&bytes[..bytes.len() / 2], PACKET_BYTES_MAX);
    assert!(half == Ok(None) || half == whole, "an answer stands");
}
