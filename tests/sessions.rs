//! Sessions that outlive their connections, and connections that take sessions over, with rumqttc.

mod common;

use std::collections::BTreeSet;
use std::thread;

use common::rumq::{QOS, message};
use common::*;
use rumqttc::QoS;

#[test]
fn absent_client_finds_what_it_missed_in_order() {
    each_broker(|broker| {
        let (mut subscriber, session_present) = broker.rumq_resume("sub");
        assert!(!session_present);
        subscriber.subscribe("t/#", QoS::ExactlyOnce);
        subscriber.disconnect();
        let mut publisher = broker.rumq("pub");
        for n in 0..300_u16 {
            publisher.publish("t/x", n.to_be_bytes(), QOS[1 + usize::from(n % 2)]);
        }
        let (mut subscriber, session_present) = broker.rumq_resume("sub");
        assert!(session_present);
        for n in 0..300_u16 {
            subscriber.expect(&message("t/x", n.to_be_bytes(), QOS[1 + usize::from(n % 2)]));
        }
        subscriber.expect_silence();
    });
}

/// However often the connection fails, every acknowledged message arrives, and QoS 2 once.
#[test]
fn failing_connection_loses_nothing() {
    each_broker(|broker| {
        let (mut subscriber, _) = broker.rumq_resume("sub");
        subscriber.subscribe("once", QoS::ExactlyOnce);
        subscriber.subscribe("least", QoS::AtLeastOnce);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut publisher = broker.rumq("pub");
                for n in 0..200_u16 {
                    publisher.publish("once", n.to_be_bytes(), QoS::ExactlyOnce);
                    publisher.publish("least", n.to_be_bytes(), QoS::AtLeastOnce);
                }
                publisher.disconnect();
            });
            // rumqttc forgets its own state with each connection, so here the raw client keeps what QoS 2 needs.
            drop(subscriber);
            let (mut once, mut least) = (Vec::new(), BTreeSet::new());
            let mut held = BTreeSet::new();
            let mut client = broker.resume("sub").0;
            let mut since_connect = 0;
            while once.len() < 200 || least.len() < 200 {
                since_connect += 1;
                if since_connect > 60 {
                    client.vanish();
                    client = broker.resume("sub").0;
                    since_connect = 0;
                }
                match client.recv() {
                    Packet::Publish(got) if got.qos == 2 => {
                        if held.insert(got.packet_id()) {
                            once.push(got.payload.clone());
                        }
                        client.send(common::wire::pubrec(got.packet_id()));
                    }
                    Packet::Publish(got) => {
                        least.insert(got.payload.clone());
                        client.acknowledge(&got);
                    }
                    Packet::Pubrel(id) => {
                        held.remove(&id);
                        client.send(common::wire::pubcomp(id));
                    }
                    other => panic!("{other:?}"),
                }
            }
            let want: Vec<Vec<u8>> = (0..200_u16).map(|n| n.to_be_bytes().to_vec()).collect();
            assert_eq!(once, want);
            assert_eq!(least.into_iter().collect::<Vec<_>>(), want);
        });
    });
}

#[test]
fn clean_session_starts_from_nothing() {
    each_broker(|broker| {
        let (mut subscriber, _) = broker.rumq_resume("sub");
        subscriber.subscribe("t", QoS::AtLeastOnce);
        subscriber.disconnect();
        let mut publisher = broker.rumq("pub");
        publisher.publish("t", "missed", QoS::AtLeastOnce);
        let mut clean = broker.rumq("sub");
        publisher.publish("t", "not subscribed", QoS::AtLeastOnce);
        clean.expect_silence();
    });
}

#[test]
fn same_identifier_takes_the_session_over() {
    each_broker(|broker| {
        let mut publisher = broker.rumq("pub");
        let (mut old, _) = broker.rumq_resume("sub");
        old.subscribe("t", QoS::AtLeastOnce);
        for n in 0..5_u8 {
            publisher.publish("t", [n], QoS::AtLeastOnce);
            let mut got = old.recv();
            if n > 0 && got.payload == [n - 1] {
                // The connection before this one was taken over before its PUBACK had left.
                got = old.recv();
            }
            assert_eq!(got.payload, [n]);
            let (new, session_present) = broker.rumq_resume("sub");
            assert!(session_present);
            old.await_end();
            old = new;
        }
        publisher.publish("t", "last", QoS::AtLeastOnce);
        let mut last = old.recv();
        if last.payload == [4] {
            last = old.recv();
        }
        assert_eq!(last, message("t", "last", QoS::AtLeastOnce));
    });
}

/// Whoever wins, exactly one of them does, and the identifier works afterwards.
#[test]
fn many_takeovers_at_once_leave_one_connection() {
    each_broker(|broker| {
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let mut client = broker.dial();
                        client.send(Connect::resume("sub").encode());
                        // Another may have taken over before this one has its CONNACK.
                        let answer = client.recv_or_close();
                        assert!(
                            matches!(answer, None | Some(Packet::Connack { code: 0, .. })),
                            "{answer:?}"
                        );
                    }
                });
            }
        });
        let (mut last, session_present) = broker.resume("sub");
        assert!(session_present);
        last.subscribe("t", 1);
        broker.connect("pub").publish("t", "x", 1);
        last.expect_message("t", "x", 1);
        last.expect_silence();
    });
}
