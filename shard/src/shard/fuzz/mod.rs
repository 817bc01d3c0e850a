//! The body of the fuzz target `shard`: a broker of one to three shards, whose clients, schedule, clock and stores do what
//! the input says.
//!
//! Four clients: two that mostly publish, and two with one Client Identifier, so that the later takes the earlier over. The
//! input builds packets from small tables or writes raw bytes, and decides separately where the stream is cut, which
//! shard has the next turn, and how much a socket takes. Any client may do anything; the tables only make it likely
//! that filters meet topics.
//!
//! What is checked: after each turn, the shard's own invariants and that nothing grows beyond its limit; at the end, that
//! everything settles, all replicas are equal and nothing is left (both in `broker`); and each byte that a client gets
//! (`client`). Promises that need a model of who is subscribed when are the simulation's business.

mod broker;
mod client;

use broker::{Broker, CLIENTS};

use crate::codec::fuzz::Choices;
use crate::codec::{Connect, Packet, PacketId, Protocol, Publish, QoS, Will, encode, encode_subscribe};
use crate::codec::{encode_disconnect, encode_pingreq, encode_unsubscribe};

/// Runs `script`; panics where a promise is broken. Returns a digest of every byte that clients got, so that a replay can
/// be compared.
///
/// Two bytes choose the broker: its shards, policies and stores, and where clients and topics live. Then each step is a byte,
/// with the client or shard in its low two bits and one of [`steps`] above, and the bytes that its kind takes. Whatever is
/// missing at the end is 0.
pub fn fuzz_shard(script: &[u8]) -> u64 {
    let mut choices = Choices::new(script);
    let mut broker = Broker::new(choices.byte(), choices.byte());
    let mut writer = Writer::default();
    while !choices.is_empty() {
        step(&mut broker, &mut writer, &mut choices);
    }
    broker.finish()
}

fn step(broker: &mut Broker, writer: &mut Writer, choices: &mut Choices<'_>) {
    let step = choices.byte();
    let at = usize::from(step & 0b11);
    match step >> 2 {
        steps::RAW => {
            let len = usize::from(choices.byte());
            broker.write(at, choices.take(len));
        }
        steps::CONNECT => broker.write(at, writer.connect(at, choices)),
        steps::PUBLISH => broker.write(at, writer.publish(choices)),
        steps::SUBSCRIBE => broker.write(at, writer.subscribe(choices)),
        steps::UNSUBSCRIBE => broker.write(at, writer.unsubscribe(choices)),
        steps::ACKNOWLEDGE => broker.write(at, writer.acknowledgement(choices)),
        steps::PINGREQ => broker.write(at, writer.pingreq()),
        steps::DISCONNECT => broker.write(at, writer.disconnect()),
        steps::REPEAT => {
            for _ in 0..choices.byte() {
                broker.write(at, &writer.packet);
            }
        }
        steps::ANSWER => broker.answer(at),
        steps::DELIVER => broker.deliver(at, usize::from(choices.byte())),
        steps::DELIVER_ALL => broker.deliver(at, usize::MAX),
        steps::TAKE_BATCH => broker.take_batch(at),
        steps::TAKE_SOCKET => broker.take_socket(at),
        steps::END_CLOSING => broker.end_closing(at),
        steps::TICK => broker.tick(at),
        steps::PASS_TIME => broker.pass_time(TIMES_MS[usize::from(choices.byte()) % TIMES_MS.len()]),
        steps::STALL => broker.stall(at),
        steps::TAKE_BYTES => broker.take_bytes(at, usize::from(choices.byte())),
        steps::CUT => broker.cut(at),
        steps::SYNC_STORE => broker.sync_store(at),
        steps::BREAK_STORE => broker.break_store(at),
        steps::SETTLE => broker.settle(),
        steps::OWN_PUBLISH => broker.publish(at, TOPICS[usize::from(choices.byte()) % TOPICS.len()]),
        // What is common takes one step.
        steps::COME => {
            broker.write(at, writer.connect(at, choices));
            broker.deliver(at, usize::MAX);
            broker.settle();
        }
        steps::SUBSCRIBE_NOW => {
            broker.write(at, writer.subscribe(choices));
            broker.deliver(at, usize::MAX);
        }
        steps::PUBLISH_NOW..=28 => {
            broker.write(at, writer.publish(choices));
            broker.deliver(at, usize::MAX);
        }
        _ => {
            for client in 0..CLIENTS {
                broker.answer(client);
                broker.deliver(client, usize::MAX);
            }
            broker.settle();
        }
    }
    broker.check();
}

/// The kinds of steps, and the bytes that follow each.
#[allow(missing_docs, reason = "the name says it where there is no more to say")]
pub mod steps {
    /// Length, bytes: the client writes them.
    pub const RAW: u8 = 0;
    /// Flags, Will topic. From here to [`DISCONNECT`] the client writes a packet.
    pub const CONNECT: u8 = 1;
    /// Flags and topic, payload and identifier.
    pub const PUBLISH: u8 = 2;
    /// Count and identifier, then a byte per filter.
    pub const SUBSCRIBE: u8 = 3;
    /// Likewise.
    pub const UNSUBSCRIBE: u8 = 4;
    /// Which acknowledgement, identifier.
    pub const ACKNOWLEDGE: u8 = 5;
    pub const PINGREQ: u8 = 6;
    pub const DISCONNECT: u8 = 7;
    /// Count: the last packet again, so often.
    pub const REPEAT: u8 = 8;
    /// The client acknowledges everything as it should.
    pub const ANSWER: u8 = 9;
    /// Length: the broker reads so much.
    pub const DELIVER: u8 = 10;
    /// The broker reads what there is.
    pub const DELIVER_ALL: u8 = 11;
    /// The shard handles a batch of its inbox.
    pub const TAKE_BATCH: u8 = 12;
    /// The shard takes over a socket.
    pub const TAKE_SOCKET: u8 = 13;
    /// The process has closed a connection of the shard.
    pub const END_CLOSING: u8 = 14;
    /// The shard looks at its deadlines.
    pub const TICK: u8 = 15;
    /// Which of some times.
    pub const PASS_TIME: u8 = 16;
    /// The client stops reading, or reads on.
    pub const STALL: u8 = 17;
    /// Length: a client that does not read does so this once.
    pub const TAKE_BYTES: u8 = 18;
    /// The client is gone.
    pub const CUT: u8 = 19;
    /// The shard's store is durable.
    pub const SYNC_STORE: u8 = 20;
    /// It refuses records, or no longer.
    pub const BREAK_STORE: u8 = 21;
    /// Everybody works until nothing is left to do.
    pub const SETTLE: u8 = 22;
    /// Topic: the shard publishes for the broker.
    pub const OWN_PUBLISH: u8 = 23;
    /// As [`CONNECT`]; read and settled.
    pub const COME: u8 = 24;
    /// As [`SUBSCRIBE`]; read.
    pub const SUBSCRIBE_NOW: u8 = 25;
    /// As [`PUBLISH`]; read.
    pub const PUBLISH_NOW: u8 = 26;
    /// Everybody answers, is read, and works until nothing is left to do.
    pub const BEHAVE: u8 = 29;
}

/// Writes packets that the input chooses.
#[derive(Default)]
struct Writer {
    /// The last packet.
    packet: Vec<u8>,
    /// Payloads are numbered, so that no two messages look alike.
    messages: u32,
}

impl Writer {
    fn connect(&mut self, client: usize, choices: &mut Choices<'_>) -> &[u8] {
        let (flags, topic) = (choices.byte(), choices.byte());
        let flag = |bit: u8| flags & 1 << bit != 0;
        self.messages += 1;
        let message = self.messages.to_string();
        let connect = Connect {
            protocol: if flag(7) { Protocol::V31 } else { Protocol::V311 },
            clean_session: flag(0),
            keep_alive: if flag(6) { 10 } else { 0 },
            client_id: if flag(5) { "" } else { CLIENT_IDS[client] },
            will: flag(1).then(|| Will {
                topic: TOPICS[usize::from(topic) % TOPICS.len()],
                message: message.as_bytes(),
                qos: qos(flags >> 3),
                retain: flag(2),
            }),
            user_name: None,
            password: None,
        };
        self.packet.clear();
        encode(&Packet::Connect(connect), &mut self.packet);
        &self.packet
    }

    /// PUBLISH; rarely with a payload that is shared rather than copied, and with none, which removes a retained message.
    fn publish(&mut self, choices: &mut Choices<'_>) -> &[u8] {
        let (flags, more) = (choices.byte(), choices.byte());
        self.messages += 1;
        let payload = match more >> 4 {
            0 => String::new(),
            15 => format!("{:>1$}", self.messages, 9_000),
            width => format!("{:>1$}", self.messages, usize::from(width)),
        };
        let qos = qos(flags >> 3);
        let publish = Publish {
            dup: flags & 0x80 != 0 && qos != QoS::AtMostOnce,
            qos,
            retain: flags & 0x20 != 0,
            topic: TOPICS[usize::from(flags) % TOPICS.len()],
            packet_id: (qos != QoS::AtMostOnce).then(|| packet_id(more)),
            payload: payload.as_bytes(),
        };
        self.packet.clear();
        encode(&Packet::Publish(publish), &mut self.packet);
        &self.packet
    }

    fn subscribe(&mut self, choices: &mut Choices<'_>) -> &[u8] {
        let more = choices.byte();
        let filters: Vec<(&str, QoS)> = (0..=more >> 6)
            .map(|_| {
                let choice = choices.byte();
                (FILTERS[usize::from(choice) % FILTERS.len()], qos(choice >> 5))
            })
            .collect();
        self.packet.clear();
        encode_subscribe(&mut self.packet, packet_id(more), &filters);
        &self.packet
    }

    fn unsubscribe(&mut self, choices: &mut Choices<'_>) -> &[u8] {
        let more = choices.byte();
        let filters: Vec<&str> = (0..=more >> 6)
            .map(|_| FILTERS[usize::from(choices.byte()) % FILTERS.len()])
            .collect();
        self.packet.clear();
        encode_unsubscribe(&mut self.packet, packet_id(more), &filters);
        &self.packet
    }

    /// Whether it acknowledges anything or not.
    fn acknowledgement(&mut self, choices: &mut Choices<'_>) -> &[u8] {
        let more = choices.byte();
        let id = packet_id(more);
        let packet = match more >> 6 {
            0 => Packet::PubAck(id),
            1 => Packet::PubRec(id),
            2 => Packet::PubRel(id),
            _ => Packet::PubComp(id),
        };
        self.packet.clear();
        encode(&packet, &mut self.packet);
        &self.packet
    }

    fn pingreq(&mut self) -> &[u8] {
        self.packet.clear();
        encode_pingreq(&mut self.packet);
        &self.packet
    }

    fn disconnect(&mut self) -> &[u8] {
        self.packet.clear();
        encode_disconnect(&mut self.packet);
        &self.packet
    }
}

/// From the low two bits.
fn qos(bits: u8) -> QoS {
    QoS::from_bits(bits & 0b11).unwrap_or(QoS::AtLeastOnce)
}

/// From the low four bits: few, so that they meet.
fn packet_id(bits: u8) -> PacketId {
    PacketId::new(u16::from(bits & 0x0F) + 1).expect("1 was added")
}

/// The last two meet on one shard, and take each other over.
const CLIENT_IDS: [&str; CLIENTS] = ["p", "q", "s", "s"];

const TOPICS: [&str; 8] = ["a", "a/b", "a/b/c", "b", "/", "a//", "$SYS/a", "$x"];

const FILTERS: [&str; 16] = [
    "a",
    "a/b",
    "a/+",
    "a/#",
    "#",
    "+",
    "+/b",
    "+/+/c",
    "b",
    "/+",
    "$SYS/#",
    "$share/g/a",
    "$share/g/#",
    "$share/h/a/+",
    "$share/h/$x",
    "1/2/3/4/5/6/7/8/9",
];

/// From one tick to what lets every deadline pass.
const TIMES_MS: [u64; 6] = [1, 100, 1_000, 5_000, 16_000, 100_000];
