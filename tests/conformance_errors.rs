//! What ends a connection, chapters 2.2, 4.8 and 3.14, and what must not end with it: everybody else's.

mod common;

use common::wire::{self, packet, string};
use common::*;

/// [MQTT-2.2.2-1]
#[test]
fn reserved_flags_are_sent_as_the_table_says() {
    each_broker(|broker| {
        // The parser of these tests refuses any other flag; here every type that a server sends goes by.
        let mut client = broker.connect("sub");
        client.subscribe("t", 2);
        client.ping();
        client.send(publish("t", "1").qos(1, 1).encode());
        client.send([publish("t", "2").qos(2, 2).encode(), wire::pubrel(2)].concat());
        let mut types = Vec::new();
        while types.len() < 6 {
            let packet = client.recv();
            match &packet {
                Packet::Publish(got) if got.qos == 1 => client.send(wire::puback(got.packet_id())),
                Packet::Publish(got) => client.send(wire::pubrec(got.packet_id())),
                _ => {}
            }
            types.push(format!("{packet:?}").split('(').next().expect("a name").to_owned());
        }
        types.sort();
        assert_eq!(types, ["Puback", "Pubcomp", "Publish", "Publish", "Pubrec", "Pubrel"]);
        client.unsubscribe("t");
    });
}

/// [MQTT-2.2.2-2] [MQTT-3.6.1-1] [MQTT-3.14.1-1] [MQTT-4.8.0-1]
#[test]
fn wrong_flags_close() {
    each_broker(|broker| {
        let id = [0, 1];
        let requests: [(u8, &[u8]); 8] = [
            (0x40, &id),
            (0x50, &id),
            (0x62, &id),
            (0x70, &id),
            (0x82, &[0, 1, 0, 1, b't', 0]),
            (0xa2, &[0, 1, 0, 1, b't']),
            (0xc0, &[]),
            (0xe0, &[]),
        ];
        for (first, body) in requests {
            for flags in (0..16).filter(|flags| *flags != first & 0x0f) {
                broker.assert_closes(packet(first & 0xf0 | flags, body));
            }
        }
    });
}

/// [MQTT-3.6.1-1]
#[test]
fn pubrel_with_wrong_flags_releases_nothing() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 2);
        let mut publisher = broker.connect("pub");
        publisher.send(publish("t", "x").qos(2, 1).encode());
        publisher.expect(&Packet::Pubrec(1));
        publisher.send([0x60, 0x02, 0x00, 0x01]);
        publisher.expect_close();
        subscriber.expect_silence();
    });
}

/// [MQTT-3.14.1-1] [MQTT-3.14.4-3]
#[test]
fn disconnect_with_reserved_bits_is_a_violation_and_no_disconnect() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("will", 0);
        for disconnect in [&[0xe1, 0x00][..], &[0xe8, 0x00], &[0xe0, 0x01, 0x00]] {
            let (mut client, _) = broker.connect_as(&Connect::new("pub").will(publish("will", "gone")));
            client.send(disconnect);
            client.expect_close();
            subscriber.expect_message("will", "gone", 0);
        }
    });
}

/// [MQTT-4.8.0-1]
#[test]
fn violation_closes_no_other_connection() {
    each_broker(|broker| {
        let mut others: Vec<Client> = (0..broker.shards)
            .map(|shard| broker.connect(&broker.id_on(shard, "other")))
            .collect();
        for other in &mut others {
            other.subscribe("t", 1);
        }
        broker.assert_closes([0xf0, 0x00]);
        broker.assert_closes_new([0x10, 0xff, 0xff, 0xff, 0xff]);
        broker.assert_closes(publish("a/#", "x").encode());
        broker.connect("pub").publish("t", "x", 1);
        for other in &mut others {
            other.expect_message("t", "x", 1);
            other.ping();
        }
    });
}

/// [MQTT-4.8.0-1]
#[test]
fn packets_behind_a_violation_are_not_processed() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 1);
        let before = publish("t", "before").encode();
        let behind = publish("t", "behind").encode();
        let mut offender = broker.connect("pub");
        offender.send_whatever([&before[..], &[0x00, 0x00], &behind].concat());
        offender.expect_close();
        subscriber.expect_message("t", "before", 0);
        subscriber.expect_silence();
    });
}

/// A packet that does not fit is the standard's example of an error that need not recur. [MQTT-4.8.0-2]
#[test]
fn packet_beyond_the_receive_limit_closes_that_connection() {
    each_broker_with(&["--max-packet-size", "1000"], |broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("t", 1);
        let fits = publish("t", "x".repeat(1_000 - 3 - 3 - 2)).qos(1, 1).encode();
        assert_eq!(fits.len(), 1_000);
        let mut client = broker.connect("pub");
        client.send(&fits);
        client.expect(&Packet::Puback(1));
        assert_eq!(subscriber.recv_publish().payload.len(), 992);
        client.send_whatever(publish("t", "x".repeat(993)).qos(1, 1).encode());
        client.expect_close();
        subscriber.expect_silence();
    });
}

/// [MQTT-4.8.0-1]
#[test]
fn packets_of_a_server_close() {
    each_broker(|broker| {
        for packet in [
            &[0x20, 0x02, 0x00, 0x00][..],
            &[0x90, 0x03, 0x00, 0x01, 0x00],
            &[0xb0, 0x02, 0x00, 0x01],
            &[0xd0, 0x00],
            &[0x00, 0x00],
            &[0xf0, 0x00],
        ] {
            broker.assert_closes(packet);
        }
    });
}

/// [MQTT-4.8.0-1]
#[test]
fn wrong_lengths_close() {
    each_broker(|broker| {
        for first in [0x40, 0x50, 0x62, 0x70] {
            broker.assert_closes(packet(first, &[0, 1, 0]));
            broker.assert_closes(packet(first, &[1]));
            broker.assert_closes(packet(first, &[]));
        }
        broker.assert_closes([0xc0, 0x01, 0x00]);
        broker.assert_closes(packet(0x82, &[&[0, 1], &string("t")[..], &[0, 0]].concat()));
        broker.assert_closes(packet(0xa2, &[&[0, 1], &string("t")[..], &[0]].concat()));
        broker.assert_closes([0x30, 0xff, 0xff, 0xff, 0xff]);
    });
}
