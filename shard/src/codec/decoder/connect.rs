//! The body of CONNECT (section 3.1).

use super::Fields;
use crate::codec::CodecError;
use crate::codec::packet::{Connect, Protocol, QoS, Will};

/// Decodes a whole body; the fields come in the order of [MQTT-3.1.3-1].
///
/// The protocol is judged before anything behind it, since another level has other fields there.
#[inline(never)]
pub(super) fn decode(mut fields: Fields<'_>) -> Result<Connect<'_>, CodecError> {
    let protocol = protocol(&mut fields)?;
    let flags = ConnectFlags::parse(fields.byte()?)?;
    let keep_alive = fields.integer()?;
    // [MQTT-3.1.3-3], [MQTT-3.1.3-4]
    let client_id = fields.string()?;
    // [MQTT-3.1.2-9], [MQTT-3.1.3-10]
    let will = match flags.will {
        Some((qos, retain)) => Some(Will {
            topic: fields.string()?,
            message: fields.binary()?,
            qos,
            retain,
        }),
        None => None,
    };
    // [MQTT-3.1.2-19], [MQTT-3.1.3-11]
    let user_name = if flags.user_name { Some(fields.string()?) } else { None };
    // [MQTT-3.1.2-21]
    let password = if flags.password { Some(fields.binary()?) } else { None };
    // A field without its flag would be left over here: [MQTT-3.1.2-11], [MQTT-3.1.2-18], [MQTT-3.1.2-20].
    fields.end()?;
    Ok(Connect {
        protocol,
        clean_session: flags.clean_session,
        keep_alive,
        client_id,
        will,
        user_name,
        password,
    })
}

/// Protocol name and level (sections 3.1.2.1 and 3.1.2.2).
///
/// Level 0x83 or 0x84 is how Mosquitto's bridges ask for a private mode that hides them from loops; refused with 0x01
/// they come back with the plain level, so here they are levels we do not support.
fn protocol(fields: &mut Fields<'_>) -> Result<Protocol, CodecError> {
    let (level_expected, protocol) = match fields.binary()? {
        b"MQTT" => (4, Protocol::V311),
        b"MQIsdp" => (3, Protocol::V31),
        _ => return Err(CodecError::InvalidProtocolName), // [MQTT-3.1.2-1]
    };
    let level = fields.byte()?;
    // [MQTT-3.1.2-2]
    if level == level_expected {
        Ok(protocol)
    } else {
        Err(CodecError::UnsupportedProtocolLevel { level })
    }
}

/// The Connect Flags (section 3.1.2.3).
///
/// ```text
/// bit  7          6         5            4 3       2     1              0
///      User Name  Password  Will Retain  Will QoS  Will  Clean Session  reserved
/// ```
struct ConnectFlags {
    clean_session: bool,
    /// QoS and Retain, if there is a Will.
    will: Option<(QoS, bool)>,
    user_name: bool,
    /// Never set without `user_name`.
    password: bool,
}

impl ConnectFlags {
    fn parse(flags: u8) -> Result<ConnectFlags, CodecError> {
        let invalid = CodecError::InvalidConnectFlags { flags };
        let is_set = |bit: u8| flags & (1 << bit) != 0;
        // [MQTT-3.1.2-3]
        if is_set(0) {
            return Err(invalid);
        }
        // [MQTT-3.1.2-22]
        if is_set(6) && !is_set(7) {
            return Err(invalid);
        }
        let will = if is_set(2) {
            // [MQTT-3.1.2-14]
            let qos = QoS::from_bits(flags >> 3 & 0b11).ok_or(invalid)?;
            Some((qos, is_set(5)))
        } else if flags & 0b0011_1000 != 0 {
            // [MQTT-3.1.2-13], [MQTT-3.1.2-15]
            return Err(invalid);
        } else {
            None
        };
        Ok(ConnectFlags {
            clean_session: is_set(1),
            will,
            user_name: is_set(7),
            password: is_set(6),
        })
    }
}
