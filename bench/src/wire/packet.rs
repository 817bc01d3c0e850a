//! Encodes the packets that are not on the path of a message, and the acknowledgements that are.

/// What a CONNECT says about its client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connect<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) clean_session: bool,
    pub(crate) keep_alive_s: u16,
    pub(crate) username: Option<&'a str>,
    pub(crate) password: Option<&'a str>,
}

pub(crate) const PINGREQ: [u8; 2] = [0xc0, 0];
pub(crate) const PINGRESP: [u8; 2] = [0xd0, 0];
pub(crate) const DISCONNECT: [u8; 2] = [0xe0, 0];

/// Packet types as they stand in the high half of a packet's first byte.
pub(crate) mod kind {
    pub(crate) const CONNECT: u8 = 1;
    pub(crate) const CONNACK: u8 = 2;
    pub(crate) const PUBLISH: u8 = 3;
    pub(crate) const PUBACK: u8 = 4;
    pub(crate) const PUBREC: u8 = 5;
    pub(crate) const PUBREL: u8 = 6;
    pub(crate) const PUBCOMP: u8 = 7;
    pub(crate) const SUBSCRIBE: u8 = 8;
    pub(crate) const SUBACK: u8 = 9;
    pub(crate) const PINGREQ: u8 = 12;
    pub(crate) const PINGRESP: u8 = 13;
    pub(crate) const DISCONNECT: u8 = 14;
}

impl Connect<'_> {
    /// Appends the packet to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4];
        let mut flags = u8::from(self.clean_session) << 1;
        flags |= u8::from(self.username.is_some()) << 7;
        flags |= u8::from(self.password.is_some()) << 6;
        body.push(flags);
        body.extend_from_slice(&self.keep_alive_s.to_be_bytes());
        string(&mut body, self.client_id);
        for field in [self.username, self.password].into_iter().flatten() {
            string(&mut body, field);
        }
        packet(out, 0x10, &body);
    }
}

/// Appends a SUBSCRIBE for `filters`, all at `qos`.
pub(crate) fn subscribe(out: &mut Vec<u8>, id: u16, filters: &[String], qos: u8) {
    let mut body = id.to_be_bytes().to_vec();
    for filter in filters {
        string(&mut body, filter);
        body.push(qos);
    }
    packet(out, 0x82, &body);
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP. PUBREL's flags are 0b0010, the others' 0 (section 2.2.2).
#[inline]
pub(crate) fn acknowledge(kind: u8, id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [kind << 4 | u8::from(kind == kind::PUBREL) << 1, 2, high, low]
}

/// Appends `first`, the Remaining Length and `body`.
pub(crate) fn packet(out: &mut Vec<u8>, first: u8, body: &[u8]) {
    out.push(first);
    remaining_length(out, body.len());
    out.extend_from_slice(body);
}

/// Appends a Remaining Length (section 2.2.3).
pub(crate) fn remaining_length(out: &mut Vec<u8>, mut len: usize) {
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
}

/// Appends a string with its length in front (section 1.5.3).
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).expect("names and topics are checked against 65 535 bytes by the command line");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_is_the_standards_layout() {
        let mut out = Vec::new();
        let connect = Connect {
            client_id: "c1",
            clean_session: true,
            keep_alive_s: 300,
            username: Some("u"),
            password: Some("p"),
        };
        connect.encode(&mut out);
        assert_eq!(out, b"\x10\x14\x00\x04MQTT\x04\xc2\x01\x2c\x00\x02c1\x00\x01u\x00\x01p");
    }

    #[test]
    fn subscribe_lists_filters_with_their_qos() {
        let mut out = Vec::new();
        subscribe(&mut out, 7, &["a/#".into(), "b".into()], 1);
        assert_eq!(out, b"\x82\x0c\x00\x07\x00\x03a/#\x01\x00\x01b\x01");
    }

    #[test]
    fn only_pubrel_carries_flags() {
        assert_eq!(acknowledge(kind::PUBACK, 0x0102), [0x40, 2, 1, 2]);
        assert_eq!(acknowledge(kind::PUBREL, 0x0102), [0x62, 2, 1, 2]);
    }

    #[test]
    fn remaining_length_at_its_edges() {
        let encoded = |len| {
            let mut out = Vec::new();
            remaining_length(&mut out, len);
            out
        };
        assert_eq!(encoded(127), [0x7f]);
        assert_eq!(encoded(128), [0x80, 0x01]);
        assert_eq!(encoded(2_097_152), [0x80, 0x80, 0x80, 0x01]);
    }
}
