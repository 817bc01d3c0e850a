//! Keep Alive and Will, chapters 3.1.2.5 to 3.1.2.10, PINGREQ and DISCONNECT.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::wire;
use common::*;

fn will() -> Connect {
    Connect::new("pub").will(publish("will", "gone").qos(1, 1))
}

/// [MQTT-3.1.2-8] [MQTT-3.1.2-10]
#[test]
fn will_is_published_once_when_the_connection_fails() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("will", 1);
        let (mut client, _) = broker.connect_as(&will());
        client.ping();
        client.vanish();
        subscriber.expect_message("will", "gone", 1);
        // It went with that connection: the next one has none.
        broker.connect("pub").vanish();
        subscriber.expect_silence();
    });
}

/// [MQTT-3.1.2-8] [MQTT-3.1.2-24]
#[test]
fn will_is_published_when_the_keep_alive_runs_out() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("will", 1);
        let (mut client, _) = broker.connect_as(&will().keep_alive(1));
        client.expect_close();
        subscriber.expect_message("will", "gone", 1);
    });
}

/// [MQTT-3.1.2-8] [MQTT-4.8.0-1]
#[test]
fn will_is_published_on_a_protocol_violation() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("will", 1);
        for violation in [
            &[0x00, 0x00][..],
            &[0xc1, 0x00],
            &[0x36, 0x05, 0, 1, b't', 0, 1],
            &[0xe1, 0x00],
        ] {
            let (mut client, _) = broker.connect_as(&will());
            client.send(violation);
            client.expect_close();
            subscriber.expect_message("will", "gone", 1);
        }
        subscriber.expect_silence();
    });
}

/// Its connection was closed without DISCONNECT, by the broker. [MQTT-3.1.2-8] [MQTT-3.1.4-2]
#[test]
fn will_of_the_old_connection_is_published_at_a_takeover() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("will", 1);
        for clean in [true, false] {
            let (mut old, _) = broker.connect_as(&Connect { clean, ..will() });
            let new = Connect {
                clean,
                ..Connect::new("pub").will(publish("will", "new"))
            };
            let (new, _) = broker.connect_as(&new);
            old.expect_close();
            subscriber.expect_message("will", "gone", 1);
            new.disconnect();
        }
        subscriber.expect_silence();
    });
}

/// [MQTT-3.14.4-3] [MQTT-3.1.2-10]
#[test]
fn disconnect_discards_the_will() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("will", 1);
        for clean in [true, false] {
            broker.connect_as(&Connect { clean, ..will() }).0.disconnect();
        }
        // DISCONNECT and what comes behind it: a violation that no longer counts.
        let (mut client, _) = broker.connect_as(&will());
        client.send([DISCONNECT, &[0x00, 0x00]].concat());
        client.expect_close();
        broker.connect("pub").publish("will", "the last", 1);
        subscriber.expect_message("will", "the last", 1);
        subscriber.expect_silence();
    });
}

/// [MQTT-3.1.2-12]
#[test]
fn without_will_flag_nothing_is_published() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("#", 1);
        broker.connect("pub").vanish();
        broker.connect_as(&Connect::new("pub").keep_alive(1)).0.expect_close();
        subscriber.expect_silence();
    });
}

/// [MQTT-3.1.2-9] [MQTT-3.1.2-14]
#[test]
fn will_has_its_qos_and_payload() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("will", 2);
        for qos in 0..=2 {
            for payload in [&b""[..], b"\x00\xff\x80", &[7; 60_000]] {
                let will = publish("will", payload).qos(qos, 1);
                broker.connect_as(&Connect::new("pub").will(will)).0.vanish();
                subscriber.expect_message("will", payload, qos);
            }
        }
    });
}

/// [MQTT-3.1.2-16]
#[test]
fn will_without_retain_is_not_retained() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("will", 1);
        broker.connect_as(&will()).0.vanish();
        subscriber.expect_message("will", "gone", 1);
        let mut later = broker.connect("later");
        later.subscribe("will", 1);
        later.expect_silence();
    });
}

/// [MQTT-3.1.2-17] [MQTT-3.3.1-9]
#[test]
fn will_with_retain_is_retained() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("will", 1);
        for payload in ["gone", "again"] {
            let will = publish("will", payload).qos(1, 1).retain();
            broker.connect_as(&Connect::new("pub").will(will)).0.vanish();
            subscriber.expect_message("will", payload, 1);
            let mut later = broker.connect("later");
            later.subscribe("will", 1);
            later.expect_retained("will", payload, 1);
        }
        // An empty one removes, as any retained message does.
        let will = publish("will", "").retain();
        broker.connect_as(&Connect::new("pub").will(will)).0.vanish();
        subscriber.expect_message("will", "", 0);
        let mut later = broker.connect("later");
        later.subscribe("will", 1);
        later.expect_silence();
    });
}

/// [MQTT-3.3.2-2] [MQTT-4.7.3-1]
#[test]
fn will_topic_is_a_topic_name() {
    each_broker(|broker| {
        for topic in ["", "#", "a/+", "a\0"] {
            broker.assert_closes_new(Connect::new("pub").will(publish(topic, "gone")).encode());
        }
    });
}

/// Not before 1.5 times the Keep Alive, and not never. [MQTT-3.1.2-24]
#[test]
fn silent_client_is_disconnected_after_one_and_a_half_keep_alives() {
    each_broker(|broker| {
        for speak_first in [false, true] {
            let mut client = broker.dial();
            let mut last_sent = Instant::now();
            client.connect(&Connect::new("pub").keep_alive(1));
            if speak_first {
                last_sent = Instant::now();
                client.publish("t", "x", 1);
            }
            client.expect_close();
            // The broker's clock may count in milliseconds.
            let silence = last_sent.elapsed();
            assert!(silence >= Duration::from_millis(1_490), "too early: {silence:?}");
        }
    });
}

/// Any packet counts, and with Keep Alive 0 none is needed; both outlive a client that says nothing. [MQTT-3.1.2-24]
#[test]
fn client_that_speaks_or_asked_for_no_keep_alive_stays() {
    each_broker(|broker| {
        let (mut without, _) = broker.connect_as(&Connect::new("without").keep_alive(0));
        let (mut pinging, _) = broker.connect_as(&Connect::new("pinging").keep_alive(1));
        let (mut publishing, _) = broker.connect_as(&Connect::new("publishing").keep_alive(1));
        for _ in 0..2 {
            let (mut silent, _) = broker.connect_as(&Connect::new("silent").keep_alive(1));
            let gone_by = Instant::now() + PATIENCE;
            while silent.recv_within(Duration::from_millis(100)).is_none() && Instant::now() < gone_by {
                pinging.ping();
                publishing.publish("t", "x", 0);
            }
        }
        without.ping();
        pinging.ping();
        publishing.ping();
    });
}

/// The client reads, but what the broker sends is no sign of life. [MQTT-3.1.2-24]
#[test]
fn packets_to_the_client_do_not_keep_it_alive() {
    each_broker(|broker| {
        let (mut silent, _) = broker.connect_as(&Connect::new("sub").keep_alive(1));
        silent.send(wire::subscribe(1, &[("t", 0)]));
        let mut publisher = broker.connect("pub");
        let gone_by = Instant::now() + PATIENCE;
        while silent.recv_within(Duration::from_millis(5)) != Some(None) {
            publisher.publish("t", "x", 0);
            thread::sleep(Duration::from_millis(10));
            assert!(Instant::now() < gone_by, "it lives on what the broker sends");
        }
    });
}

/// [MQTT-3.12.4-1]
#[test]
fn pingreq_gets_pingresp() {
    each_broker(|broker| {
        let mut client = broker.connect("sub");
        client.send(PINGREQ.repeat(5));
        for _ in 0..5 {
            client.expect(&Packet::Pingresp);
        }
        client.expect_silence();
    });
}
