//! Writes the hand-made inputs of all targets: `seeds CORPUS_FOLDER`. The same files each time, named by what they are.
//!
//! Real packets and whole exchanges, from which the fuzzers start; what they find is added by `scripts/fuzz.sh --merge`.

use std::path::Path;
use std::{env, fs, io};

use ringmq_shard::codec::{
    ConnAck, Connect, ConnectReturnCode, Packet, PacketId, Protocol, Publish, QoS, Will, encode, encode_suback,
    encode_subscribe, encode_unsubscribe,
};
use ringmq_shard::shard::fuzz::steps::*;

fn main() -> io::Result<()> {
    let folder = env::args().nth(1).expect("usage: seeds CORPUS_FOLDER");
    let folder = Path::new(&folder);
    for (target, seeds) in [
        ("config", config()),
        ("decode", decode()),
        ("encode", encode_choices()),
        ("topic", topic()),
        ("shard", shard()),
        ("websocket", websocket()),
    ] {
        fs::create_dir_all(folder.join(target))?;
        for (name, input) in seeds {
            fs::write(folder.join(target).join(name), input)?;
        }
    }
    Ok(())
}

type Seeds = Vec<(&'static str, Vec<u8>)>;

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("not 0")
}

/// Flags in the first line, then a file.
fn config() -> Seeds {
    let limits = r#"
max_packet_size = 1_000
max_connect_size = 500
max_inflight = 0x10
max_inbound_qos2 = 5
max_queued_messages = 100
max_queued_bytes = 1000
max_output_bytes = 1
max_memory = 4194304
max_topic_levels = 8
max_topic_bytes = 64
max_retained = 0
max_retained_bytes = 9
max_subscriptions = 1
max_sessions = 2
max_client_id_bytes = 23
"#;
    let times = r#"
connect_timeout = 5
max_keep_alive = 0
write_timeout = 1
slow_subscriber = "backpressure"
backpressure_timeout = 3
shared_strategy = 'sticky'
session_expiry = 60
sys_interval = 0
shutdown_timeout = 0
placement_seed = "18446744073709551615"
spin = 50
log = "json/debug"
"#;
    let listeners = r#"
allow_anonymous = true
[[listener]]
listen = "0.0.0.0:1883"

[[listener]] # second
listen = ["[::1]:1884", '127.0.0.1:0']
allow_anonymous = "no"
"#;
    let flags_over_file = r#"--shards 2 --cores 0,4-5 --max-inflight=7 --listen 127.0.0.1:1,[::1]:2 --listen 127.0.0.2:3 --log json
max_inflight = 8
cores = "0"
shards = 4
max_connections = 5
[[listener]]
listen = "127.0.0.1:9"
"#;
    let passwords = r#"--allow-anonymous=no
password_file = "users"
auth_threads = 64
max_auth_waiting = 1
[[listener]]
listen = "0.0.0.0:1883"
[[listener]]
listen = "127.0.0.1:1884"
allow_anonymous = true
"#;
    let wrong = r#"--allow-anonymous
listen = [ "192.0.2.1:1883" ]
max_inflght = 1
[listener]
a = {b = [1.5, 1979-05-27, {}]}
"#;
    let texts = r#"config --log=text
log = """info"""
cores = '''
0, 1'''
"max_inflight" = "\u0035"
"#;
    [
        ("nothing", "\n"),
        ("passwords", passwords),
        ("flags-over-file", flags_over_file),
        ("limits", limits),
        ("listeners", listeners),
        ("texts", texts),
        ("times", times),
        ("wrong", wrong),
    ]
    .map(|(name, text)| (name, text.as_bytes().to_vec()))
    .into()
}

/// One packet of each type, and streams of several.
fn decode() -> Seeds {
    let bytes = |packet: &Packet<'_>| {
        let mut bytes = Vec::new();
        encode(packet, &mut bytes);
        bytes
    };
    let connect = |clean_session, will, user_name, password: Option<&'static [u8]>| {
        bytes(&Packet::Connect(Connect {
            protocol: Protocol::V311,
            clean_session,
            keep_alive: 60,
            client_id: "sensor-17",
            will,
            user_name,
            password,
        }))
    };
    let will = Will {
        topic: "sensors/17/state",
        message: b"gone",
        qos: QoS::AtLeastOnce,
        retain: true,
    };
    let publish = |qos, packet_id, retain, payload| {
        let topic = "sensors/17/temperature";
        bytes(&Packet::Publish(Publish {
            dup: false,
            qos,
            retain,
            topic,
            packet_id,
            payload,
        }))
    };
    let mut subscribe = Vec::new();
    let filters = [
        ("sensors/+/temperature", QoS::AtMostOnce),
        ("$share/g/sensors/#", QoS::ExactlyOnce),
        ("é", QoS::AtLeastOnce),
    ];
    encode_subscribe(&mut subscribe, id(10), &filters);
    let mut unsubscribe = Vec::new();
    encode_unsubscribe(&mut unsubscribe, id(11), &["sensors/+/temperature", "é"]);
    let mut suback = Vec::new();
    encode_suback(&mut suback, id(10), &[0, 2, 0x80]);
    let plain = connect(true, None, None, None);
    let full = connect(false, Some(will), Some("user"), Some(b"secret"));
    let acknowledgements = [
        Packet::PubAck(id(1)),
        Packet::PubRec(id(2)),
        Packet::PubRel(id(2)),
        Packet::PubComp(id(2)),
        Packet::UnsubAck(id(11)),
        Packet::PingReq,
        Packet::PingResp,
        Packet::Disconnect,
    ];
    let acknowledgements: Vec<u8> = acknowledgements.iter().flat_map(bytes).collect();
    let refused = Packet::ConnAck(ConnAck {
        session_present: false,
        code: ConnectReturnCode::NotAuthorized,
    });
    let level_3 = b"\x10\x0F\x00\x06MQIsdp\x03\x02\x00\x0A\x00\x01c";
    vec![
        ("connect", plain.clone()),
        ("connect-full", full),
        ("connect-level-3", level_3.to_vec()),
        (
            "connect-level-5",
            b"\x10\x0D\x00\x04MQTT\x05\x02\x00\x0A\x00\x01c".to_vec(),
        ),
        ("connack-refused", bytes(&refused)),
        ("publish-qos-0", publish(QoS::AtMostOnce, None, true, b"21.5")),
        ("publish-qos-1", publish(QoS::AtLeastOnce, Some(id(1)), false, b"21.5")),
        (
            "publish-two-bytes-of-length",
            publish(QoS::ExactlyOnce, Some(id(2)), false, &[7; 200]),
        ),
        ("subscribe", subscribe.clone()),
        ("suback", suback),
        ("unsubscribe", unsubscribe),
        ("acknowledgements", acknowledgements),
        ("nul-at-the-end", b"\x30\x0F\x00\x0Bsensors/17\x0021".to_vec()),
        (
            "overlong-length",
            b"\xA2\x8C\x80\x80\x00\x00\x0A\x00\x03a/b\x00\x03c/#".to_vec(),
        ),
        ("length-of-five-bytes", b"\x30\x80\x80\x80\x80\x01".to_vec()),
        ("stream", [plain, subscribe, vec![0xC0, 0, 0xE0, 0]].concat()),
    ]
}

/// A packet of each kind (see `append_chosen`), short and long.
fn encode_choices() -> Seeds {
    let all = (0..14u8).flat_map(|kind| [kind, 0xF5, 0, kind + 1, 3, b'a', b'/', b'b', 2, b'x', b'y']);
    vec![
        ("connect", b"\x00\xB6\x00\x3C\x01w\x02\x00\xFF\x01u\x01c\x01p".to_vec()),
        ("publish", b"\x02\x0E\x00\x07\x03a/b\x04\x00\x01\x02\x03".to_vec()),
        (
            "publish-long",
            b"\x02\x01\x00\x07\x03a/b\xF0\x02\x05\x02\x01\x00\x07\x03a/b\xF0\x04\x00".to_vec(),
        ),
        (
            "subscribe",
            b"\x07\x60\x00\x09\x03a/b\x00\x03c/#\x01\x01+\x02\xF0\x00\x00\x00".to_vec(),
        ),
        ("suback", b"\x08\x40\x00\x09\x00\x01\x02\x03\x00".to_vec()),
        (
            "unsubscribe",
            b"\x09\x60\x00\x09\x03a/b\x03c/#\x01+\x02\xC3\xA9".to_vec(),
        ),
        ("all", all.collect()),
    ]
}

/// The examples of section 4.7, and tries that grow and shrink.
fn topic() -> Seeds {
    let section = "+sport/tennis/player1/#\n+sport/#\n+#\n+sport/tennis/+\n+sport/+\n++\n++/+\n+/+\n++/tennis/#\n\
                   +$SYS/#\n+$SYS/monitor/+\n++/monitor/Clients\n?sport/tennis/player1\n?sport/tennis/player1/ranking\n\
                   ?sport\n?sport/\n?/finance\n?$SYS/monitor/Clients\n?$SYS\n-sport/#\n-#\n?sport/tennis/player1\n?sport";
    let churn =
        "+a/b\n+a/+\n+a/#\n+a/b/c\n-a/+\n?a/b\n+a/+\n-a/b\n-a/#\n?a/b\n?a\n-a/b/c\n+a/b\n?a/b/c\n-a/+\n-a/b\n?a/b";
    let long = "+a-level-of-many-bytes-indeed/+\n+a-level-of-many-bytes-indeed/b/#\n+a-level-of-many-bytes-indeee/+\n\
                ?a-level-of-many-bytes-indeed/b\n?a-level-of-many-bytes-indeee/b\n-a-level-of-many-bytes-indeed/+\n\
                ?a-level-of-many-bytes-indeed/b";
    let invalid =
        "+a#\n+#/a\n+a+\n+\n?a/+\n?\n+$share/g/a\n+$share//a\n+$share/g\n+$share/g/\n+$share/g/+/#\n?$share/g/a";
    let slashes = "+//+//#\n+/\n+//\n+///\n?/\n?//\n?///\n?////\n-/\n-///\n?/\n?///";
    let deep = format!(
        "+{0}a\n+{0}#\n+{1}+\n?{0}a\n?{0}a/a",
        "a/".repeat(100),
        "+/".repeat(100)
    );
    vec![
        ("section-4-7", section.into()),
        ("churn", churn.into()),
        ("long-levels", long.into()),
        ("invalid", invalid.into()),
        ("slashes", slashes.into()),
        ("deep", deep.into()),
    ]
}

/// Whole exchanges; the first two bytes choose the broker.
fn shard() -> Seeds {
    const P: u8 = 0;
    const Q: u8 = 1;
    const S: u8 = 2;
    const LATE: u8 = 3;
    /// Of a PUBLISH or CONNECT.
    const QOS_1: u8 = 1 << 3;
    const QOS_2: u8 = 2 << 3;
    const RETAIN: u8 = 1 << 5;
    const CLEAN: u8 = 1;
    const KEEP_ALIVE: u8 = 1 << 6;
    /// Of the will of a CONNECT.
    const WILL: u8 = 1 << 1;
    /// Indices of filters, with the QoS of their grant.
    const ALL: u8 = 4;
    const A_BELOW: u8 = 3;
    const SHARED: u8 = 12;
    const GRANT_1: u8 = 1 << 5;
    const GRANT_2: u8 = 2 << 5;
    /// Indices of topics.
    const A: u8 = 0;
    const AB: u8 = 1;
    /// A payload of a few bytes.
    const SMALL: u8 = 0x40;
    const LARGE: u8 = 0xF0;
    /// Of the broker.
    const DISK: u8 = 1 << 7;
    const EXPIRY: u8 = 1 << 2;
    const DROP_OLDEST: u8 = 1 << 4;
    const DISCONNECT_SLOW: u8 = 2 << 4;
    const HOLD_BACK: u8 = 3 << 4;

    let step = |kind: u8, at: u8| kind << 2 | at;
    let come = |client: u8, flags: u8| vec![step(COME, client), flags, AB];
    let subscribe = |client: u8, filter: u8| vec![step(SUBSCRIBE_NOW, client), 0, filter];
    let publish = |client: u8, flags: u8, more: u8| vec![step(PUBLISH_NOW, client), flags, more];
    let settle = || vec![step(SETTLE, 0)];
    let behave = || vec![step(BEHAVE, 0); 3];
    let broker = |shards: u8, flags: u8| vec![(shards - 1) | flags, 7];
    let everybody = || [come(P, CLEAN), come(Q, 0), come(S, 0)].concat();
    let many = |client: u8, flags: u8| {
        (0..12u8)
            .flat_map(move |n| publish(client, flags, SMALL | n))
            .collect::<Vec<u8>>()
    };

    let mut seeds: Seeds = Vec::new();
    let names = [
        ["qos-0-1-shard", "qos-1-1-shard", "qos-2-1-shard"],
        ["qos-0-2-shards", "qos-1-2-shards", "qos-2-2-shards"],
        ["qos-0-3-shards", "qos-1-3-shards", "qos-2-3-shards"],
    ];
    for (shards, names) in (1..).zip(names) {
        for (flags, name) in [0, QOS_1, QOS_2].into_iter().zip(names) {
            let exchange = [
                broker(shards, 0),
                everybody(),
                subscribe(S, A_BELOW | GRANT_2),
                settle(),
                publish(P, A | flags, SMALL | 1),
                publish(Q, AB | flags, SMALL | 2),
                behave(),
                behave(),
            ];
            seeds.push((name, exchange.concat()));
        }
    }
    let takeover = [
        broker(2, EXPIRY),
        everybody(),
        subscribe(S, A_BELOW | GRANT_1),
        settle(),
        vec![step(STALL, S)],
        many(P, A | QOS_1),
        come(LATE, WILL | RETAIN),
        behave(),
        vec![step(CUT, LATE)],
        settle(),
        vec![step(PASS_TIME, 0), 5],
        settle(),
    ];
    seeds.push(("takeover", takeover.concat()));
    let retained = [
        broker(3, 0),
        everybody(),
        publish(P, A | RETAIN | QOS_1, SMALL | 1),
        publish(Q, AB | RETAIN, SMALL),
        publish(Q, A | RETAIN, LARGE),
        subscribe(S, ALL | GRANT_2),
        publish(P, A | RETAIN | QOS_1, SMALL | 2),
        vec![step(TAKE_BATCH, 1), step(TAKE_BATCH, 0), step(TAKE_BATCH, 2)],
        publish(P, AB | RETAIN, 0),
        settle(),
        vec![step(UNSUBSCRIBE, S), 0, ALL, step(DELIVER_ALL, S)],
        behave(),
    ];
    seeds.push(("retained", retained.concat()));
    for (name, policy) in [
        ("slow-drop-newest", 0),
        ("slow-drop-oldest", DROP_OLDEST),
        ("slow-disconnect", DISCONNECT_SLOW),
        ("slow-hold-back", HOLD_BACK),
    ] {
        let slow = [
            broker(2, policy),
            everybody(),
            subscribe(S, ALL | GRANT_1),
            settle(),
            vec![step(STALL, S)],
            many(P, A | QOS_1),
            many(Q, AB),
            publish(Q, A | QOS_2, LARGE),
            settle(),
            vec![step(TAKE_BYTES, S), 50],
            behave(),
            vec![step(STALL, S)],
            behave(),
        ];
        seeds.push((name, slow.concat()));
    }
    let durable = [
        broker(2, DISK),
        everybody(),
        subscribe(S, A_BELOW | GRANT_2),
        publish(P, A | QOS_2 | RETAIN, SMALL),
        vec![
            step(SYNC_STORE, 0),
            step(TAKE_BATCH, 0),
            step(TAKE_BATCH, 1),
            step(SYNC_STORE, 1),
        ],
        behave(),
        vec![step(BREAK_STORE, 0)],
        publish(P, A | QOS_1, SMALL),
        publish(Q, A | QOS_1, SMALL),
        behave(),
    ];
    seeds.push(("durable", durable.concat()));
    let shared = [
        broker(3, 0),
        everybody(),
        subscribe(S, SHARED | GRANT_1),
        subscribe(Q, SHARED | GRANT_1),
        settle(),
        many(P, A | QOS_1),
        vec![step(CUT, S)],
        behave(),
    ];
    seeds.push(("shared", shared.concat()));
    let silence = [
        broker(1, 0),
        come(S, KEEP_ALIVE | WILL),
        vec![step(PINGREQ, S), step(PASS_TIME, 0), 3, step(DELIVER, S), 1],
        vec![step(PASS_TIME, 0), 4, step(TICK, 0), step(END_CLOSING, 0)],
    ];
    seeds.push(("silence", silence.concat()));
    let raw = b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x0A\x00\x01s\x30\x05\x00\x01axy\x82\x06\x00\x01\x00\x01a\x01";
    let cut = [
        broker(2, 0),
        vec![step(RAW, S), u8::try_from(raw.len()).expect("short")],
        raw.to_vec(),
        [1, 1, 12, 3, 1, 4, 2, 200]
            .iter()
            .flat_map(|len| [step(DELIVER, S), *len])
            .collect(),
        vec![step(TAKE_SOCKET, 0), step(TAKE_SOCKET, 1)],
        settle(),
        vec![step(DISCONNECT, S), step(DELIVER_ALL, S)],
    ];
    seeds.push(("cut-anywhere", cut.concat()));
    let refused = [broker(1, DISK | EXPIRY), vec![step(BREAK_STORE, 0)], come(P, 0)];
    seeds.push(("session-refused-by-store", refused.concat()));
    let mut unread = [broker(1, 0), come(S, CLEAN), vec![step(STALL, S)]].concat();
    for _ in 0..160 {
        unread.extend([step(PINGREQ, S), step(REPEAT, S), 255, step(DELIVER_ALL, S)]);
    }
    seeds.push(("answers-unread", unread));
    let mut greedy = [broker(2, 0), everybody(), publish(P, A | RETAIN | QOS_1, SMALL)].concat();
    for _ in 0..8 {
        greedy.extend([
            step(SUBSCRIBE, S),
            0,
            ALL | GRANT_1,
            step(REPEAT, S),
            200,
            step(DELIVER_ALL, S),
        ]);
        greedy.extend([step(SETTLE, 0)]);
    }
    seeds.push(("retained-again-and-again", greedy));
    seeds
}

/// How it is cut, whether it is a request or frames, and the stream.
fn websocket() -> Seeds {
    let request =
        |line: &str, headers: &str| format!("\x06\x00{line} HTTP/1.1\r\nHost: h\r\n{headers}\r\n").into_bytes();
    let asks = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n";
    let masked = |first: u8, payload: &[u8]| {
        let mut frame = vec![first, 0x80 | u8::try_from(payload.len()).expect("short"), 1, 2, 3, 4];
        frame.extend(
            payload
                .iter()
                .zip([1, 2, 3, 4].iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        frame
    };
    let frames = |frames: &[Vec<u8>]| [&[2, 1][..], &frames.concat()].concat();
    let long = |code: u8, length: &[u8]| frames(&[[&[0x82, 0x80 | code], length, &[1, 2, 3, 4, b'x']].concat()]);
    vec![
        ("request", request("GET /mqtt", asks)),
        ("request-query", request("GET /mqtt?a=b", asks)),
        (
            "request-origin",
            request("GET /mqtt", &format!("{asks}Origin: https://a.example\r\n")),
        ),
        (
            "request-other-origin",
            request("GET /mqtt", &format!("{asks}Origin: https://b.example\r\n")),
        ),
        ("request-other-path", request("GET /", asks)),
        ("request-other-version", request("GET /mqtt", &asks.replace("13", "8"))),
        (
            "request-no-protocol",
            request("GET /mqtt", &asks.replace("mqtt", "chat")),
        ),
        (
            "request-two-protocols",
            request("GET /mqtt", &asks.replace(": mqtt", ": chat, mqttv3.1")),
        ),
        (
            "request-too-large",
            request("GET /mqtt", &format!("{asks}Cookie: {}\r\n", "c".repeat(8_200))),
        ),
        ("request-post", request("POST /mqtt", asks)),
        (
            "connect",
            b"\x03\x00\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00".to_vec(),
        ),
        (
            "frames",
            frames(&[
                masked(0x02, b"on"),
                masked(0x89, b"ping"),
                masked(0x80, b"e"),
                masked(0x82, b""),
            ]),
        ),
        (
            "frames-close",
            frames(&[
                masked(0x82, b"x"),
                masked(0x88, &[0x03, 0xe9, b'b', b'y', b'e']),
                masked(0x82, b"y"),
            ]),
        ),
        ("frames-close-code", frames(&[masked(0x88, &[0x03, 0xed])])),
        ("frames-text", frames(&[masked(0x81, b"text")])),
        ("frames-unmasked", frames(&[vec![0x82, 1, b'x']])),
        ("frames-fragments", frames(&[masked(0x02, b"a"), masked(0x82, b"b")])),
        ("frames-length-16", long(126, &[0, 126])),
        ("frames-length-16-short", long(126, &[0, 125])),
        ("frames-length-64", long(127, &[0, 0, 0, 0, 0, 1, 0, 0])),
        ("frames-length-64-too-long", long(127, &[0, 0, 0, 1, 0, 0, 0, 1])),
        ("frames-length-64-negative", long(127, &[0x80, 0, 0, 0, 0, 0, 0, 1])),
    ]
}
