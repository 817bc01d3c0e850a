//! What the core of one shard costs per message, without sockets: the scenarios of docs/benchmarks.md as bytes in and
//! bytes out. `cargo bench -p ringmq-shard --bench shard`; with `-- --test` each runs briefly, with `-- NAME` only one
//! (for callgrind), with `-- --acl` each a second time with an access control list.

use std::sync::Arc;
use std::time::Instant as Clock;

use ringmq_shard::access::Acl;
use ringmq_shard::codec::{Connect, Packet, PacketId, Protocol, Publish, QoS, encode, encode_subscribe};
use ringmq_shard::limits::Limits;
use ringmq_shard::shard::{ConnId, Event, Pass, Shard, ShardConfig, ShardId};
use ringmq_shard::store::MemoryStore;
use ringmq_shard::time::Instant;

const NOW: Instant = Instant::from_millis(1);

struct Scenario {
    name: &'static str,
    publishers: usize,
    /// How many subscribers, and whether each has a topic of its own.
    subscribers: usize,
    own_topics: bool,
    qos: QoS,
    /// Messages per read.
    batch: usize,
    /// Deliveries per message in, for the unit of the result.
    fan_out: usize,
}

/// What all of these clients are allowed by: each publish and each delivery asks for a denial first, then for two entries.
const ACL: &str = "topic deny bench/+/secret\ntopic readwrite bench/topic/#\ntopic readwrite bench/topic\n\
                   pattern read bench/%c/#\n";

const SCENARIOS: [Scenario; 7] = [
    Scenario {
        name: "ingest-qos0",
        publishers: 50,
        subscribers: 0,
        own_topics: true,
        qos: QoS::AtMostOnce,
        batch: 100,
        fan_out: 1,
    },
    Scenario {
        name: "ingest-qos1",
        publishers: 50,
        subscribers: 0,
        own_topics: true,
        qos: QoS::AtLeastOnce,
        batch: 100,
        fan_out: 1,
    },
    Scenario {
        name: "pairs-qos0",
        publishers: 50,
        subscribers: 50,
        own_topics: true,
        qos: QoS::AtMostOnce,
        batch: 100,
        fan_out: 1,
    },
    Scenario {
        name: "pairs-qos1",
        publishers: 50,
        subscribers: 50,
        own_topics: true,
        qos: QoS::AtLeastOnce,
        batch: 100,
        fan_out: 1,
    },
    Scenario {
        name: "pairs-qos1-one",
        publishers: 50,
        subscribers: 50,
        own_topics: true,
        qos: QoS::AtLeastOnce,
        batch: 1,
        fan_out: 1,
    },
    Scenario {
        name: "fan-in-qos0",
        publishers: 50,
        subscribers: 1,
        own_topics: true,
        qos: QoS::AtMostOnce,
        batch: 100,
        fan_out: 1,
    },
    Scenario {
        name: "fan-out-qos0",
        publishers: 1,
        subscribers: 100,
        own_topics: false,
        qos: QoS::AtMostOnce,
        batch: 100,
        fan_out: 100,
    },
];

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let brief = has("--test");
    let chosen = arguments.iter().find(|argument| !argument.starts_with("--"));
    for scenario in &SCENARIOS {
        if chosen.is_none_or(|name| name == scenario.name) {
            let messages = if brief { 10_000 } else { 2_000_000 / scenario.fan_out };
            run(scenario, messages, None);
            if has("--acl") {
                run(scenario, messages, Some(ACL));
            }
        }
    }
}

fn run(scenario: &Scenario, messages: usize, acl: Option<&str>) {
    let config = ShardConfig {
        id: ShardId(0),
        shards: 1,
        placement_seed: 1,
        seed: 2,
        limits: Limits::default(),
        acl: acl.map(|text| Arc::new(Acl::parse(text).expect("a list"))),
    };
    let mut shard = Shard::new(config, Box::new(MemoryStore));
    let publishers: Vec<ConnId> = (0..scenario.publishers)
        .map(|n| connect(&mut shard, &format!("pub{n}")))
        .collect();
    let subscribers: Vec<ConnId> = (0..scenario.subscribers)
        .map(|n| connect(&mut shard, &format!("sub{n}")))
        .collect();
    for (n, conn) in subscribers.iter().enumerate() {
        let topic = topic(scenario, n);
        let filter = if scenario.own_topics && scenario.subscribers == 1 {
            "bench/#"
        } else {
            topic.as_str()
        };
        let mut bytes = Vec::new();
        encode_subscribe(&mut bytes, PacketId::new(1).unwrap(), &[(filter, scenario.qos)]);
        shard.handle(
            NOW,
            Event::Bytes {
                conn: *conn,
                bytes: &bytes,
            },
        );
    }
    let reads: Vec<Vec<u8>> = (0..scenario.publishers).map(|n| read_of(scenario, n)).collect();
    let mut acknowledgements = vec![Acknowledger::default(); subscribers.len()];
    finish_turn(&mut shard, &mut |_, _| {});

    let rounds = messages.div_ceil(scenario.publishers * scenario.batch);
    let start = Clock::now();
    let mut sent = 0;
    for _ in 0..rounds {
        for (conn, bytes) in publishers.iter().zip(&reads) {
            shard.handle(NOW, Event::Bytes { conn: *conn, bytes });
        }
        let acknowledging = scenario.qos == QoS::AtLeastOnce && !subscribers.is_empty();
        let first = subscribers.first().map_or(u32::MAX, |conn| conn.0);
        sent += finish_turn(&mut shard, &mut |conn, bytes| {
            if acknowledging && conn.0 >= first {
                acknowledgements[(conn.0 - first) as usize].on_bytes(bytes);
            }
        });
        for (at, acknowledger) in acknowledgements.iter_mut().enumerate() {
            if !acknowledger.bytes.is_empty() {
                shard.handle(
                    NOW,
                    Event::Bytes {
                        conn: subscribers[at],
                        bytes: &acknowledger.bytes,
                    },
                );
                acknowledger.bytes.clear();
            }
        }
    }
    let count = rounds * scenario.publishers * scenario.batch * scenario.fan_out;
    let elapsed = start.elapsed();
    let stats = shard.stats();
    let delivered: u64 = stats.publish_sent.iter().sum();
    let expected = if subscribers.is_empty() { 0 } else { count as u64 };
    assert_eq!(delivered, expected, "{}: {stats:?}", scenario.name);
    let each = elapsed.as_nanos() as f64 / count as f64;
    println!(
        "{:16} {each:7.1} ns per message{}  ({count} messages, {sent} bytes out)",
        scenario.name,
        if acl.is_some() { " with a list" } else { "" }
    );
}

/// Answers each PUBLISH of QoS 1 with PUBACK, without the broker's decoder.
#[derive(Clone, Default)]
struct Acknowledger {
    bytes: Vec<u8>,
    partial: Vec<u8>,
}

impl Acknowledger {
    fn on_bytes(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(&length) = self.partial.get(at + 1) {
            assert!(length < 128, "short packets only");
            let end = at + 2 + usize::from(length);
            if end > self.partial.len() {
                break;
            }
            if self.partial[at] >> 4 == 3 {
                let topic = usize::from(self.partial[at + 3]);
                let id = &self.partial[at + 4 + topic..at + 6 + topic];
                self.bytes.extend_from_slice(&[0x40, 2, id[0], id[1]]);
            }
            at = end;
        }
        self.partial.drain(..at);
    }
}

fn connect(shard: &mut Shard, client_id: &str) -> ConnId {
    let conn = shard.open(NOW);
    let connect = Connect {
        protocol: Protocol::V311,
        clean_session: true,
        keep_alive: 0,
        client_id,
        will: None,
        user_name: None,
        password: None,
    };
    let mut bytes = Vec::new();
    encode(&Packet::Connect(connect), &mut bytes);
    shard.handle(NOW, Event::Bytes { conn, bytes: &bytes });
    conn
}

fn topic(scenario: &Scenario, n: usize) -> String {
    if scenario.own_topics {
        format!("bench/topic/{n}")
    } else {
        "bench/topic".to_owned()
    }
}

/// What one read of this publisher's socket brings.
fn read_of(scenario: &Scenario, n: usize) -> Vec<u8> {
    let topic = topic(scenario, n);
    let mut bytes = Vec::new();
    for id in 1..=scenario.batch {
        let packet_id = (scenario.qos > QoS::AtMostOnce).then(|| PacketId::new(u16::try_from(id).unwrap()).unwrap());
        let publish = Publish {
            dup: false,
            qos: scenario.qos,
            retain: false,
            topic: &topic,
            packet_id,
            payload: &[b'x'; 64],
        };
        encode(&Packet::Publish(publish), &mut bytes);
    }
    bytes
}

/// The end of a turn, with sockets that take everything.
fn finish_turn(shard: &mut Shard, write: &mut dyn FnMut(ConnId, &[u8])) -> usize {
    let mut sent = 0;
    for pass in Pass::ALL {
        assert!(shard.poll_batch(pass).is_none());
    }
    while shard.poll_effect().is_some() {}
    while let Some(conn) = shard.poll_dirty() {
        while !shard.output(conn).is_empty() {
            let chunk = shard.output(conn).first_chunk();
            let taken = chunk.len();
            write(conn, chunk);
            shard.written(NOW, conn, taken);
            sent += taken;
        }
    }
    sent
}
