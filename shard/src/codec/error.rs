//! Why bytes are no packet.

/// These bytes are no MQTT 3.1.1 Control Packet. Ends the connection they came on [MQTT-4.8.0-1].
///
/// Without a CONNACK [MQTT-3.1.4-1], except for [`UnsupportedProtocolLevel`](CodecError::UnsupportedProtocolLevel),
/// which is answered with code 0x01 first [MQTT-3.1.2-2].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CodecError {
    /// Type 0 or 15 (table 2.1).
    #[error("packet type {packet_type} is reserved")]
    InvalidPacketType {
        /// The upper four bits of the first byte.
        packet_type: u8,
    },
    /// Flags of the fixed header that are not those of table 2.2 [MQTT-2.2.2-2].
    #[error("packet type {packet_type} with flags {flags:#06b}")]
    InvalidFlags {
        /// The upper four bits of the first byte.
        packet_type: u8,
        /// The lower four.
        flags: u8,
    },
    /// A fourth byte of Remaining Length that announces a fifth (section 2.2.3).
    #[error("Remaining Length of more than four bytes")]
    MalformedRemainingLength,
    /// Larger than the caller takes; found in the fixed header, before the body is received.
    #[error("packet of {got} bytes, the limit is {limit}")]
    PacketTooLarge {
        /// The most the caller takes, in bytes, fixed header included.
        limit: usize,
        /// The size the fixed header announces, itself included.
        got: usize,
    },
    /// A string that is not well-formed UTF-8, or has a surrogate in it [MQTT-1.5.3-1].
    #[error("string is not well-formed UTF-8")]
    InvalidUtf8,
    /// U+0000 in a string [MQTT-1.5.3-2].
    #[error("string contains U+0000")]
    NulInString,
    /// QoS 3 in a PUBLISH [MQTT-3.3.1-4], or reserved bits in the QoS byte of a SUBSCRIBE [MQTT-3.8.3-4].
    #[error("QoS is not 0, 1 or 2")]
    InvalidQoS,
    /// Packet Identifier 0 [MQTT-2.3.1-1].
    #[error("Packet Identifier is 0")]
    ZeroPacketId,
    /// A PUBLISH with QoS 0 that says it is a repeat [MQTT-3.3.1-2].
    #[error("DUP is set on a PUBLISH with QoS 0")]
    DupWithQoS0,
    /// A field runs past the Remaining Length.
    #[error("a field runs past the end of the packet")]
    Truncated,
    /// Bytes are left within the Remaining Length after the last field.
    #[error("{count} bytes after the last field of the packet")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A SUBSCRIBE [MQTT-3.8.3-3] or UNSUBSCRIBE [MQTT-3.10.3-2] without a Topic Filter.
    #[error("no Topic Filter")]
    NoFilters,
    /// A SUBACK without a return code; there is one per filter, and a SUBSCRIBE has filters [MQTT-3.8.4-5].
    #[error("no return code")]
    NoReturnCodes,
    /// The protocol name of a CONNECT is neither `MQTT` nor `MQIsdp` [MQTT-3.1.2-1].
    #[error("protocol name is not MQTT")]
    InvalidProtocolName,
    /// A CONNECT of MQTT, in a version that is not ours. Answered with CONNACK 0x01 [MQTT-3.1.2-2].
    #[error("protocol level {level} is not supported")]
    UnsupportedProtocolLevel {
        /// As it came; MQTT 5 says 5, the bridges of Mosquitto set bit 7.
        level: u8,
    },
    /// Connect Flags that are reserved or contradict each other: [MQTT-3.1.2-3], [MQTT-3.1.2-13], [MQTT-3.1.2-14],
    /// [MQTT-3.1.2-15], [MQTT-3.1.2-22].
    #[error("Connect Flags {flags:#010b}")]
    InvalidConnectFlags {
        /// The byte as it came.
        flags: u8,
    },
    /// Connect Acknowledge Flags that are reserved, or Session Present in a refusal [MQTT-3.2.2-4].
    #[error("Connect Acknowledge Flags {flags:#010b}")]
    InvalidConnAckFlags {
        /// The byte as it came.
        flags: u8,
    },
    /// A return code outside table 3.1 (CONNACK), or that is not 0x00, 0x01, 0x02 or 0x80 (SUBACK) [MQTT-3.9.3-2].
    #[error("return code {code:#04x}")]
    InvalidReturnCode {
        /// The byte as it came.
        code: u8,
    },
}

impl CodecError {
    /// The reason as metrics and logs spell it: snake_case, stable, one per variant.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            CodecError::InvalidPacketType { .. } => "invalid_packet_type",
            CodecError::InvalidFlags { .. } => "invalid_flags",
            CodecError::MalformedRemainingLength => "malformed_remaining_length",
            CodecError::PacketTooLarge { .. } => "packet_too_large",
            CodecError::InvalidUtf8 => "invalid_utf8",
            CodecError::NulInString => "nul_in_string",
            CodecError::InvalidQoS => "invalid_qos",
            CodecError::ZeroPacketId => "zero_packet_id",
            CodecError::DupWithQoS0 => "dup_with_qos_0",
            CodecError::Truncated => "truncated",
            CodecError::TrailingBytes { .. } => "trailing_bytes",
            CodecError::NoFilters => "no_filters",
            CodecError::NoReturnCodes => "no_return_codes",
            CodecError::InvalidProtocolName => "invalid_protocol_name",
            CodecError::UnsupportedProtocolLevel { .. } => "unsupported_protocol_level",
            CodecError::InvalidConnectFlags { .. } => "invalid_connect_flags",
            CodecError::InvalidConnAckFlags { .. } => "invalid_connack_flags",
            CodecError::InvalidReturnCode { .. } => "invalid_return_code",
        }
    }
}
