//! A connection as both clients need it: CONNECT and its answer, Keep Alive, and a clean end.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use ringmq_shard::codec::{
    Connect, ConnectReturnCode, PACKET_BYTES_MAX, Packet, Protocol, STRING_BYTES_MAX, Will, decode, encode,
};
use ringmq_shard::topic::{TopicLimits, TopicName};

use super::args::{ConnectionArgs, Hidden};
use super::error::ClientError;
use super::input::read_file;
use super::link::Link;

pub(super) struct Connection {
    link: Link,
    /// Zero: off.
    keep_alive: Duration,
    /// When a PINGREQ was sent that nothing has come after; then the broker has one Keep Alive to say anything.
    pinged_at: Option<Instant>,
    debug: bool,
}

impl Connection {
    /// Connects, and waits until the broker has let this client in.
    ///
    /// # Errors
    /// What cannot be asked for, cannot be reached, or is refused.
    pub(super) fn open(args: &ConnectionArgs) -> Result<Connection, ClientError> {
        let password = password(args)?;
        let connect = connect(args, password.as_ref())?;
        let mut connection = Connection {
            link: Link::open(args)?,
            keep_alive: Duration::from_secs(u64::from(args.keep_alive)),
            pinged_at: None,
            debug: args.debug,
        };
        connection.send(&Packet::Connect(connect));
        let until = Instant::now() + CONNACK_TIME;
        loop {
            if let Some(frame) = connection.next_frame()? {
                let packet = connection.packet(&frame)?;
                return match packet {
                    Packet::ConnAck(answer) if answer.code == ConnectReturnCode::Accepted => Ok(connection),
                    Packet::ConnAck(answer) => Err(ClientError::Refused(answer.code)),
                    other => Err(ClientError::Unexpected(other.name())),
                };
            }
            if Instant::now() >= until {
                return Err(ClientError::NoConnAck);
            }
            if connection.link.is_interrupted() {
                return Err(ClientError::Interrupted);
            }
            connection.link.wait(Some(until), None)?;
        }
    }

    /// Leaves with the next [`wait`](Self::wait).
    pub(super) fn send(&mut self, packet: &Packet<'_>) {
        self.tell("sending", packet);
        encode(packet, self.link.output());
    }

    /// As [`send`](Self::send), for what the codec has a function of its own.
    pub(super) fn send_by(&mut self, name: &str, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.debug {
            eprintln!("sending {name}");
        }
        encode(self.link.output());
    }

    /// The next packet's bytes, for [`packet`](Self::packet); `None` if it has not arrived.
    pub(super) fn next_frame(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        self.link.next_frame()
    }

    /// Reads a packet.
    pub(super) fn packet<'a>(&self, frame: &'a [u8]) -> Result<Packet<'a>, ClientError> {
        let decoded = decode(frame, PACKET_BYTES_MAX)?;
        let packet = decoded.expect("next_frame gives whole packets").packet;
        self.tell("received", &packet);
        Ok(packet)
    }

    /// Waits for packets, for `input`, or `until`, and sees to Keep Alive meanwhile. True if `input` has something.
    pub(super) fn wait(&mut self, until: Option<Instant>, input: Option<BorrowedFd<'_>>) -> Result<bool, ClientError> {
        let keep_alive = (!self.keep_alive.is_zero()).then(|| match self.pinged_at {
            Some(pinged_at) => pinged_at + self.keep_alive,
            None => self.link.written_at() + self.keep_alive,
        });
        let input = self.link.wait(until.into_iter().chain(keep_alive).min(), input)?;
        if self.pinged_at.is_some_and(|pinged_at| self.link.read_at() >= pinged_at) {
            self.pinged_at = None;
        } else if keep_alive.is_some_and(|deadline| Instant::now() >= deadline) {
            if self.pinged_at.is_some() {
                return Err(ClientError::Silent);
            }
            self.pinged_at = Some(Instant::now());
            self.send(&Packet::PingReq);
        }
        Ok(input)
    }

    /// Bytes that the system has not taken yet.
    pub(super) fn unsent(&self) -> usize {
        self.link.unsent()
    }

    /// SIGINT or SIGTERM came.
    pub(super) fn is_interrupted(&self) -> bool {
        self.link.is_interrupted()
    }

    /// DISCONNECT, so that the broker publishes no Will.
    pub(super) fn close(mut self) -> Result<(), ClientError> {
        self.send(&Packet::Disconnect);
        self.link.close()
    }

    fn tell(&self, what: &str, packet: &Packet<'_>) {
        if !self.debug {
            return;
        }
        let name = packet.name();
        let details = match packet {
            Packet::Publish(it) => format!(
                " (d{}, q{}, r{}, m{}, '{}', {} bytes)",
                u8::from(it.dup),
                it.qos as u8,
                u8::from(it.retain),
                it.packet_id.map_or(0, |id| id.value()),
                it.topic.escape_debug(),
                it.payload.len()
            ),
            Packet::ConnAck(it) => format!(" ({}, session present {})", it.code as u8, u8::from(it.session_present)),
            Packet::SubAck(it) => format!(" (m{}, {:?})", it.packet_id, it.return_codes),
            Packet::PubAck(id) | Packet::PubRec(id) | Packet::PubRel(id) | Packet::PubComp(id) => format!(" (m{id})"),
            _ => String::new(),
        };
        eprintln!("{what} {name}{details}");
    }
}

/// Everything that the codec takes for granted is found out here.
fn connect<'a>(args: &'a ConnectionArgs, password: Option<&'a Hidden>) -> Result<Connect<'a>, ClientError> {
    let clean_session = !args.disable_clean_session;
    let client_id = args.id.as_deref().unwrap_or_default();
    // [MQTT-3.1.3-7]
    if !clean_session && client_id.is_empty() {
        return Err(ClientError::SessionWithoutId);
    }
    let will = match args.will_topic.as_deref() {
        None => None,
        Some(topic) => {
            valid_topic(topic)?;
            Some(Will {
                topic,
                message: fits("a Will", args.will_payload.as_bytes())?,
                qos: args.will_qos,
                retain: args.will_retain,
            })
        }
    };
    let user_name = args.username.as_deref();
    Ok(Connect {
        protocol: Protocol::V311,
        clean_session,
        keep_alive: args.keep_alive,
        client_id: text("a Client Identifier", client_id)?,
        will,
        user_name: user_name.map(|name| text("a user name", name)).transpose()?,
        password: password
            .map(|password| fits("a password", password.0.as_bytes()))
            .transpose()?,
    })
}

/// A topic that messages can be published to.
pub(super) fn valid_topic(topic: &str) -> Result<(), ClientError> {
    match TopicName::new(topic, &TopicLimits::default()) {
        Ok(_) => Ok(()),
        Err(error) => Err(ClientError::Topic {
            topic: topic.to_owned(),
            error,
        }),
    }
}

/// From the flag, the file, or the environment; the last of these counts only where there is a user.
fn password(args: &ConnectionArgs) -> Result<Option<Hidden>, ClientError> {
    let given = match (&args.password, &args.password_from) {
        (Some(password), _) => Some(password.clone()),
        (None, Some(path)) => Some(first_line(path)?),
        (None, None) => None,
    };
    match (&args.username, given) {
        // [MQTT-3.1.2-22]
        (None, Some(_)) => Err(ClientError::PasswordWithoutUser),
        (None, None) => Ok(None),
        (Some(_), Some(password)) => Ok(Some(password)),
        (Some(_), None) => Ok(std::env::var(PASSWORD_VARIABLE).ok().map(Hidden)),
    }
}

fn first_line(path: &Path) -> Result<Hidden, ClientError> {
    let text = String::from_utf8(read_file(path)?).map_err(|error| ClientError::File {
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, error.utf8_error()),
    })?;
    Ok(Hidden(text.lines().next().unwrap_or_default().to_owned()))
}

fn text<'a>(what: &'static str, text: &'a str) -> Result<&'a str, ClientError> {
    // [MQTT-1.5.3-2]
    if text.contains('\0') {
        return Err(ClientError::Nul { what });
    }
    fits(what, text.as_bytes()).map(|_| text)
}

fn fits<'a>(what: &'static str, bytes: &'a [u8]) -> Result<&'a [u8], ClientError> {
    if bytes.len() > STRING_BYTES_MAX {
        return Err(ClientError::TooLong {
            what,
            most: STRING_BYTES_MAX,
        });
    }
    Ok(bytes)
}

/// As long as some brokers take to verify a password while many connect.
const CONNACK_TIME: Duration = Duration::from_secs(30);
/// Not seen by others, as `-P` is.
const PASSWORD_VARIABLE: &str = "RINGMQ_PASSWORD";
