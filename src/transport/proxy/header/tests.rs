use proptest::prelude::*;

use super::*;

/// What a receiver concludes from these bytes, given in pieces of these sizes: how much was the header, and the client.
fn read(bytes: &[u8], pieces: &[usize]) -> Result<Option<(usize, Option<SocketAddr>)>, ProxyError> {
    let mut arrived = 0_usize;
    for size in pieces.iter().copied().chain([usize::MAX]) {
        arrived = bytes.len().min(arrived.saturating_add(size));
        // As the stream does: never more at once than the largest header has.
        if let Some(whole) = extent(&bytes[..arrived.min(HEADER_BYTES_MAX)])? {
            return Ok(Some((whole, client(&bytes[..whole])?)));
        }
    }
    Ok(None)
}

fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([command, family]);
    bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend(payload);
    bytes
}

const INET: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0xC8, 0x22, 0x22, 0xB3];

fn inet6(source: &str) -> Vec<u8> {
    let source: std::net::Ipv6Addr = source.parse().unwrap();
    let mut payload = source.octets().to_vec();
    payload.extend([0; 16]);
    payload.extend([0xC8, 0x22, 0x22, 0xB3]);
    payload
}

fn with_fields(fields: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[&INET, fields].concat())
}

#[test]
fn whole_headers_name_the_client_or_nobody() {
    for (bytes, expected) in [
        (
            &b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 8883\r\n"[..],
            Some("192.0.2.7:51234"),
        ),
        (
            b"PROXY TCP6 2001:db8::7 2001:db8::1 51234 8883\r\n",
            Some("[2001:db8::7]:51234"),
        ),
        (
            b"PROXY TCP6 ::ffff:192.0.2.7 ::1 51234 8883\r\n",
            Some("192.0.2.7:51234"),
        ),
        (b"PROXY UNKNOWN\r\n", None),
        // The longest line that the specification has.
        (
            b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            None,
        ),
        (&v2(0x21, 0x11, &INET), Some("192.0.2.7:51234")),
        (&v2(0x21, 0x21, &inet6("2001:db8::7")), Some("[2001:db8::7]:51234")),
        (&v2(0x21, 0x21, &inet6("::ffff:192.0.2.7")), Some("192.0.2.7:51234")),
        // Fields: none, an empty one, ALPN and one of a cloud's own.
        (&with_fields(&[]), Some("192.0.2.7:51234")),
        (&with_fields(&[0x04, 0, 0]), Some("192.0.2.7:51234")),
        (
            &with_fields(b"\x01\0\x04mqtt\xEA\0\x03\x01vp"),
            Some("192.0.2.7:51234"),
        ),
        // LOCAL: a health check of the proxy, whatever it says beside that.
        (&v2(0x20, 0x00, &[]), None),
        (&v2(0x20, 0x11, &INET), None),
        (&v2(0x20, 0x11, &[0xFF; 3]), None),
        (&v2(0x20, 0xFF, &[0xFF; 300]), None),
        // UNSPEC, and a client of a Unix domain socket.
        (&v2(0x21, 0x00, &[]), None),
        (&v2(0x21, 0x31, &[b'/'; 216]), None),
    ] {
        let expected = expected.map(|text| text.parse().unwrap());
        assert_eq!(read(bytes, &[]), Ok(Some((bytes.len(), expected))), "{bytes:?}");
        // Whatever is behind it.
        let behind = [bytes, b"\x10\x0D\0\x04MQTT"].concat();
        assert_eq!(read(&behind, &[]), Ok(Some((bytes.len(), expected))), "{bytes:?}");
    }
}

#[test]
fn anything_else_is_refused() {
    let long_line = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 92], b"\r\n".to_vec()].concat();
    assert_eq!(long_line.len(), TEXT_BYTES_MAX + 1);
    let largest = v2(0x20, 0, &[0; HEADER_BYTES_MAX - FIXED_BYTES]);
    assert_eq!(read(&largest, &[]), Ok(Some((HEADER_BYTES_MAX, None))));
    for (bytes, expected) in [
        (&b"\x10\x0D\0\x04MQTT"[..], ProxyError::Missing { first_byte: 0x10 }),
        (b"\x16\x03\x01", ProxyError::Missing { first_byte: 0x16 }),
        (b"GET /mqtt HTTP/1.1\r\n", ProxyError::Missing { first_byte: b'G' }),
        (b"PROXX", ProxyError::Missing { first_byte: b'P' }),
        (b"PROXY\r\n", ProxyError::Missing { first_byte: b'P' }),
        (b"proxy TCP4", ProxyError::Missing { first_byte: b'p' }),
        (b"\r\n\r\n\0\r\nQUIX", ProxyError::Missing { first_byte: b'\r' }),
        (b"\r\nPROXY UNKNOWN\r\n", ProxyError::Missing { first_byte: b'\r' }),
        (&long_line, ProxyError::TooLarge { limit: 107 }),
        (b"PROXY UNKNOWN\n", ProxyError::Text),
        (b"PROXY \r\n", ProxyError::Text),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 51234\r\n", ProxyError::Text),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 8883\n", ProxyError::Text),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 8883\r\n", ProxyError::Text),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 8883\r\n", ProxyError::Text),
        (b"PROXY TCP4 192.0.2.256 198.51.100.1 51234 8883\r\n", ProxyError::Text),
        (b"PROXY TCP4 2001:db8::7 2001:db8::1 51234 8883\r\n", ProxyError::Text),
        (b"PROXY TCP4  192.0.2.7 198.51.100.1 51234 8883\r\n", ProxyError::Text),
        (b"PROXY TCP6 192.0.2.7 198.51.100.1 51234 8883\r\n", ProxyError::Text),
        (b"PROXY UDP4 192.0.2.7 198.51.100.1 51234 8883\r\n", ProxyError::Text),
        (b"PROXY TCP4 localhost 198.51.100.1 51234 8883\r\n", ProxyError::Text),
        (b"PROXY TCP4 \xFF\xFE 198.51.100.1 51234 8883\r\n", ProxyError::Text),
        // Version 1 in the place of 2, no such command, no such family.
        (&v2(0x11, 0x11, &INET), ProxyError::Binary),
        (&v2(0x22, 0x11, &INET), ProxyError::Binary),
        (&v2(0x21, 0x41, &INET), ProxyError::Binary),
        (&v2(0x21, 0x10, &INET), ProxyError::Binary),
        (&v2(0x21, 0x13, &INET), ProxyError::Binary),
        // Addresses that are cut short.
        (&v2(0x21, 0x11, &INET[..11]), ProxyError::Binary),
        (&v2(0x21, 0x21, &[0; 35]), ProxyError::Binary),
        (&v2(0x21, 0x31, &[0; 215]), ProxyError::Binary),
        (&v2(0x21, 0x12, &INET), ProxyError::Datagram),
        // A field without a length, with half of one, longer than what is left, and a checksum of three bytes.
        (&with_fields(&[0x04]), ProxyError::Fields),
        (&with_fields(&[0x04, 0]), ProxyError::Fields),
        (&with_fields(&[0x04, 0, 2, 0]), ProxyError::Fields),
        (&with_fields(&[0x04, 0, 0, 0x04, 0xFF, 0xFF]), ProxyError::Fields),
        (&with_fields(&[0x03, 0, 3, 0, 0, 0]), ProxyError::Fields),
        (
            &v2(0x20, 0, &[0; HEADER_BYTES_MAX - FIXED_BYTES + 1]),
            ProxyError::TooLarge { limit: 4_096 },
        ),
        (&v2(0x21, 0x11, &[0; 65_535]), ProxyError::TooLarge { limit: 4_096 }),
    ] {
        assert_eq!(read(bytes, &[]), Err(expected), "{bytes:?}");
    }
}

#[test]
fn the_first_byte_of_a_header_is_told_where_none_is_expected() {
    assert!(hint(b'P').contains("PROXY") && hint(b'\r').contains("PROXY"));
    assert_eq!(hint(0x10), "");
}

/// Headers, some broken at one place, and garbage.
fn inputs() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop_oneof![
        Just(b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 8883\r\n".to_vec()),
        Just(b"PROXY TCP6 2001:db8::7 2001:db8::1 51234 8883\r\n".to_vec()),
        Just(b"PROXY UNKNOWN\r\n".to_vec()),
        Just(v2(0x21, 0x11, &INET)),
        Just(v2(0x21, 0x21, &inet6("2001:db8::7"))),
        Just(with_fields(b"\x01\0\x04mqtt\xEA\0\x03\x01vp")),
        (any::<u8>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..300))
            .prop_map(|(command, family, payload)| v2(command, family, &payload)),
        prop::collection::vec(
            prop_oneof![Just(b' '), Just(b'\r'), Just(b'\n'), Just(b'T'), any::<u8>()],
            0..120
        )
        .prop_map(|line| [TEXT.to_vec(), line].concat()),
    ];
    let broken =
        (whole, prop::option::of((any::<prop::sample::Index>(), any::<u8>()))).prop_map(|(mut bytes, change)| {
            if let Some((at, byte)) = change {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        });
    let garbage = prop::collection::vec(any::<u8>(), 0..64);
    (prop_oneof![4 => broken, 1 => garbage.clone()], garbage).prop_map(|(first, behind)| [first, behind].concat())
}

proptest! {
    /// No panic, and no other outcome, whatever comes and however it is cut.
    #[test]
    fn cuts_change_nothing(bytes in inputs(), pieces in prop::collection::vec(1..40_usize, 0..20)) {
        let at_once = read(&bytes, &[]);
        prop_assert_eq!(&at_once, &read(&bytes, &pieces));
        prop_assert_eq!(&at_once, &read(&bytes, &vec![1; bytes.len()]));
        if let Ok(Some((size, _))) = at_once {
            prop_assert_eq!(read(&bytes[..size], &[]), at_once);
            prop_assert_eq!(read(&bytes[..size - 1], &[]), Ok(None));
        }
    }
}
