//! Shared subscriptions, `$share/GROUP/FILTER`: each message goes to one member of the group, wherever its home is.

mod common;

use std::collections::BTreeMap;

use common::wire;
use common::*;

/// Two members on each shard, subscribed with this QoS.
fn members(broker: &Broker, filter: &str, qos: u8) -> Vec<Client> {
    let ids = (0..broker.shards).flat_map(|shard| ["a", "b"].map(|prefix| broker.id_on(shard, prefix)));
    let mut members: Vec<Client> = ids.map(|id| broker.connect(&id)).collect();
    for member in &mut members {
        member.subscribe(filter, qos);
    }
    members
}

/// What has arrived at each member, in order; each acknowledges what it gets.
fn collect(members: &mut [Client], count: usize) -> Vec<Vec<Publish>> {
    let mut got = vec![Vec::new(); members.len()];
    let deadline = std::time::Instant::now() + PATIENCE;
    while got.iter().map(Vec::len).sum::<usize>() < count {
        assert!(
            std::time::Instant::now() < deadline,
            "only {:?} arrived",
            got.iter().map(Vec::len).collect::<Vec<_>>()
        );
        for (member, got) in members.iter_mut().zip(&mut got) {
            while let Some(packet) = member.recv_within(std::time::Duration::from_millis(5)) {
                let Some(Packet::Publish(publish)) = packet else {
                    panic!("{packet:?}")
                };
                member.acknowledge(&publish);
                got.push(publish);
            }
        }
    }
    got
}

#[test]
fn each_message_goes_to_one_member_in_turn() {
    on_shards(&[1, 2, 3, 8], &[], |broker| {
        for qos in 0..=2 {
            let mut members = members(broker, "$share/g/t/+", qos);
            let each = 20;
            let count = members.len() * each;
            let mut publisher = broker.connect("pub");
            for n in 0..count {
                publisher.publish(&format!("t/{n}"), "x", qos);
            }
            let got = collect(&mut members, count);
            let mut topics: Vec<&str> = got.iter().flatten().map(|publish| publish.topic.as_str()).collect();
            topics.sort_unstable();
            topics.dedup();
            assert_eq!(topics.len(), count, "each message once");
            for member in &got {
                assert!(
                    member.len().abs_diff(each) <= 2,
                    "{} messages, its share is {each}",
                    member.len()
                );
            }
            for member in &mut members {
                member.expect_silence();
            }
        }
    });
}

#[test]
fn groups_and_plain_subscribers_each_get_every_message() {
    each_broker(|broker| {
        let mut one = members(broker, "$share/one/t", 1);
        let mut other = broker.connect("other");
        other.subscribe("$share/other/t", 1);
        let mut plain = broker.connect("plain");
        plain.subscribe("t", 1);
        // A member of a group that is subscribed besides gets the message for both.
        let mut both = broker.connect("both");
        both.subscribe("$share/third/t", 1);
        both.subscribe("t", 1);
        let mut publisher = broker.connect("pub");
        for n in 0..12_u8 {
            publisher.publish("t", [n], 1);
        }
        assert_eq!(collect(&mut one, 12).iter().flatten().count(), 12);
        for client in [&mut other, &mut plain] {
            for n in 0..12_u8 {
                client.expect_message("t", [n], 1);
            }
        }
        let twice = collect(std::slice::from_mut(&mut both), 24);
        assert_eq!(twice[0].len(), 24);
    });
}

/// Wherever the other member lives.
#[test]
fn unacknowledged_messages_of_a_leaving_member_go_to_another() {
    each_broker(|broker| {
        for qos in 1..=2 {
            for shard in 0..broker.shards {
                let mut leaving = broker.connect("sub");
                leaving.subscribe("$share/g/t", qos);
                let mut publisher = broker.connect("pub");
                for n in 0..10_u8 {
                    publisher.publish("t", [n], qos);
                }
                for _ in 0..10 {
                    leaving.recv_publish();
                }
                let mut staying = broker.connect(&broker.id_on(shard, "staying"));
                staying.subscribe("$share/g/t", qos);
                leaving.vanish();
                let mut got: Vec<u8> = collect(std::slice::from_mut(&mut staying), 10)[0]
                    .iter()
                    .map(|got| got.payload[0])
                    .collect();
                got.sort_unstable();
                assert_eq!(got, (0..10).collect::<Vec<u8>>());
                staying.disconnect();
            }
        }
    });
}

#[test]
fn member_that_unsubscribes_gets_no_more() {
    each_broker(|broker| {
        let mut staying = broker.connect("sub");
        staying.subscribe("$share/g/t", 1);
        let mut leaving = broker.connect("leaving");
        leaving.subscribe("$share/g/t", 1);
        leaving.unsubscribe("$share/g/t");
        let mut publisher = broker.connect("pub");
        for n in 0..10_u8 {
            publisher.publish("t", [n], 1);
            staying.expect_message("t", [n], 1);
        }
        leaving.expect_silence();
    });
}

#[test]
fn absent_members_are_left_out_while_another_is_there() {
    each_broker(|broker| {
        let (mut absent, _) = broker.resume("absent");
        absent.subscribe("$share/g/t", 1);
        absent.disconnect();
        let (mut present, _) = broker.resume("sub");
        present.subscribe("$share/g/t", 1);
        let mut publisher = broker.connect("pub");
        for n in 0..10_u8 {
            publisher.publish("t", [n], 1);
            present.expect_message("t", [n], 1);
        }
        present.disconnect();
        // Nobody is there, so somebody's session keeps it.
        publisher.publish("t", "kept", 1);
        let mut both = [broker.resume("absent").0, broker.resume("sub").0];
        assert_eq!(collect(&mut both, 1).concat()[0].payload, b"kept");
    });
}

/// The order of each publisher holds, since all it says goes to one member. More than one member is used.
#[test]
fn sticky_publisher_stays_with_one_member() {
    each_broker_with(&["--shared-strategy", "sticky"], |broker| {
        let mut members = members(broker, "$share/g/t/+", 1);
        let publishers = 13;
        let mut clients: Vec<Client> = (0..publishers)
            .map(|n| broker.connect(&format!("publisher-{n}")))
            .collect();
        for n in 0..10_u8 {
            for (id, client) in clients.iter_mut().enumerate() {
                client.publish(&format!("t/{id}"), [n], 1);
            }
        }
        let mut members_of: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let got = collect(&mut members, publishers * 10);
        for (member, got) in got.iter().enumerate() {
            for topic in (0..publishers).map(|id| format!("t/{id}")) {
                let payloads: Vec<u8> = got
                    .iter()
                    .filter(|got| got.topic == topic)
                    .map(|got| got.payload[0])
                    .collect();
                if !payloads.is_empty() {
                    assert_eq!(payloads, (0..10).collect::<Vec<u8>>(), "all of {topic}, in order");
                    members_of.entry(topic).or_default().push(member);
                }
            }
        }
        assert!(members_of.values().all(|members| members.len() == 1), "{members_of:?}");
        assert!(
            got.iter().filter(|got| !got.is_empty()).count() > 1,
            "one member has it all"
        );
    });
}

#[test]
fn subscribing_gets_no_retained_messages() {
    each_broker(|broker| {
        broker.connect("pub").retain("t", "x", 1);
        let mut member = broker.connect("sub");
        member.subscribe("$share/g/t", 1);
        member.expect_silence();
    });
}

#[test]
fn group_name_is_no_topic_level() {
    each_broker(|broker| {
        let mut member = broker.connect("sub");
        member.subscribe("$share/g/+", 1);
        let mut plain = broker.connect("plain");
        plain.subscribe("+/+/+", 1);
        let mut publisher = broker.connect("pub");
        publisher.publish("t", "x", 1);
        member.expect_message("t", "x", 1);
        publisher.publish("g/t", "y", 1);
        let mut intruder = broker.connect("intruder");
        intruder.send_whatever(publish("$share/g/t", "z").encode());
        member.expect_silence();
        plain.expect_silence();
    });
}

#[test]
fn wildcard_group_does_not_get_dollar_topics() {
    each_broker(|broker| {
        let mut member = broker.connect("sub");
        member.subscribe("$share/g/#", 1);
        let mut publisher = broker.connect("pub");
        publisher.publish("$own/t", "x", 1);
        publisher.publish("t", "y", 1);
        member.expect_message("t", "y", 1);
        member.expect_silence();
    });
}

#[test]
fn malformed_share_closes() {
    each_broker(|broker| {
        for filter in [
            "$share/",
            "$share/g",
            "$share/g/",
            "$share//t",
            "$share/+/t",
            "$share/a#/t",
            "$share/g/a#",
        ] {
            broker.assert_closes(wire::subscribe(1, &[(filter, 0)]));
        }
    });
}
