//! Topic Names and Topic Filters, chapters 4.7 and 1.5.3: wildcards, `$` topics, and characters taken as they are.

mod common;

use common::wire::{self, packet, string};
use common::*;

/// [MQTT-4.7.1-2]
#[test]
fn multi_level_wildcard_stands_alone_and_last() {
    each_broker(|broker| {
        for filter in ["a#", "#/a", "a/#/b", "a/b#", "##", "#+", "/#/", "a/#b"] {
            broker.assert_closes(wire::subscribe(1, &[(filter, 0)]));
        }
        let mut client = broker.connect("sub");
        for filter in ["#", "/#", "a/#", "a//#", "+/#"] {
            client.subscribe(filter, 0);
        }
    });
}

/// [MQTT-4.7.1-3]
#[test]
fn single_level_wildcard_fills_its_level() {
    each_broker(|broker| {
        for filter in ["a+", "+a", "a/b+", "a+/b", "++", "+/a+/b"] {
            broker.assert_closes(wire::subscribe(1, &[(filter, 0)]));
        }
        let mut client = broker.connect("sub");
        for filter in ["+", "+/+", "/+", "a/+/b", "+/a/#", "+/"] {
            client.subscribe(filter, 0);
        }
    });
}

/// [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-3.3.2-3]
#[test]
fn filters_match_what_the_standard_says() {
    const TOPICS: [&str; 14] = [
        "a", "a/", "/a", "/", "a/b", "a/b/c", "a//c", "b/a", "A", "a b", "$x", "$x/a", "a/$x", "//",
    ];
    const CASES: [(&str, &[&str]); 16] = [
        (
            "#",
            &[
                "a", "a/", "/a", "/", "a/b", "a/b/c", "a//c", "b/a", "A", "a b", "a/$x", "//",
            ],
        ),
        ("a/#", &["a", "a/", "a/b", "a/b/c", "a//c", "a/$x"]),
        ("+", &["a", "A", "a b"]),
        ("/+", &["/a", "/"]),
        ("+/", &["a/", "/"]),
        ("+/+", &["a/", "/a", "/", "a/b", "b/a", "a/$x"]),
        ("a/+", &["a/", "a/b", "a/$x"]),
        ("a/+/c", &["a/b/c", "a//c"]),
        ("+/b/+", &["a/b/c"]),
        ("+//#", &["a/", "/", "a//c", "//"]),
        ("/#", &["/a", "/", "//"]),
        ("a", &["a"]),
        ("a b", &["a b"]),
        ("$x/#", &["$x", "$x/a"]),
        ("$x/+", &["$x/a"]),
        ("+/$x", &["a/$x"]),
    ];
    each_broker(|broker| {
        let mut publisher = broker.connect("pub");
        for (filter, want) in CASES {
            let mut subscriber = broker.connect("sub");
            subscriber.send(wire::subscribe(1, &[(filter, 0), ("end/of/this/case", 0)]));
            subscriber.expect(&Packet::Suback {
                id: 1,
                codes: vec![0, 0],
            });
            subscriber.drain();
            for topic in TOPICS {
                publisher.publish(topic, "x", 0);
            }
            publisher.publish("end/of/this/case", "", 0);
            let mut got = Vec::new();
            loop {
                let publish = subscriber.recv_publish();
                if publish.topic == "end/of/this/case" {
                    break;
                }
                got.push(publish.topic);
            }
            assert_eq!(got, want, "for {filter}");
        }
    });
}

/// [MQTT-4.7.2-1]
#[test]
fn leading_wildcard_does_not_match_a_dollar_topic() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        for filter in ["#", "+/data", "+/#", "+"] {
            subscriber.subscribe(filter, 1);
        }
        let mut publisher = broker.connect("pub");
        for topic in ["$own/data", "$own", "$"] {
            publisher.retain(topic, "x", 1);
        }
        let mut late = broker.connect("late");
        late.subscribe("#", 1);
        late.subscribe("+/data", 1);
        for client in [&mut subscriber, &mut late] {
            client.expect_silence();
            client.subscribe("$own/#", 1);
            let mut got = [client.recv_publish(), client.recv_publish()];
            got.sort_by(|a, b| a.topic.cmp(&b.topic));
            assert_eq!((got[0].topic.as_str(), got[1].topic.as_str()), ("$own", "$own/data"));
        }
    });
}

/// [MQTT-4.7.3-1]
#[test]
fn empty_name_or_filter_closes() {
    each_broker(|broker| {
        broker.assert_closes(publish("", "x").encode());
        broker.assert_closes(publish("", "x").qos(1, 1).encode());
        broker.assert_closes(wire::subscribe(1, &[("", 0)]));
        broker.assert_closes(wire::subscribe(1, &[("t", 0), ("", 0)]));
        broker.assert_closes(wire::unsubscribe(1, &[""]));
    });
}

/// [MQTT-4.7.3-2] [MQTT-1.5.3-2]
#[test]
fn null_character_closes() {
    each_broker(|broker| {
        for name in [&b"\0"[..], b"a\0", b"a/\0/b"] {
            broker.assert_closes(packet(0x30, &string(name)));
            broker.assert_closes(packet(0x82, &[&[0, 1], &string(name)[..], &[0]].concat()));
            broker.assert_closes(packet(0xa2, &[&[0, 1], &string(name)[..]].concat()));
        }
    });
}

/// [MQTT-4.7.3-3]
#[test]
fn name_and_filter_of_65535_bytes_work() {
    each_broker(|broker| {
        let longest = "é".repeat(32_767) + "x";
        assert_eq!(longest.len(), 65_535);
        let other = "é".repeat(32_767) + "y";
        let mut publisher = broker.connect("pub");
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe(&longest, 1);
        publisher.publish(&other, "not this one", 1);
        publisher.publish(&longest, "x", 1);
        subscriber.expect_message(&longest, "x", 1);
    });
}

/// No normalisation and no case folding: é in one code point is not e with an accent. [MQTT-4.7.3-4]
#[test]
fn characters_are_compared_as_they_are() {
    each_broker(|broker| {
        let spellings = [
            "caf\u{e9}",
            "cafe\u{301}",
            "CAF\u{c9}",
            "café ",
            "ﬁ",
            "fi",
            "K",
            "\u{212a}",
        ];
        let mut publisher = broker.connect("pub");
        for spelling in spellings {
            let mut subscriber = broker.connect("sub");
            subscriber.subscribe(spelling, 1);
            for other in spellings {
                publisher.publish(other, other, 1);
            }
            let want = spellings.iter().filter(|other| **other == spelling).count();
            for _ in 0..want {
                subscriber.expect_message(spelling, spelling, 1);
            }
            subscriber.ping();
        }
    });
}

/// [MQTT-1.5.3-1]
#[test]
fn all_planes_of_unicode_pass() {
    each_broker(|broker| {
        let mut subscriber = broker.connect("sub");
        subscriber.subscribe("#", 1);
        let mut publisher = broker.connect("pub");
        for topic in [
            "\u{e9}",
            "\u{20ac}",
            "\u{d7ff}",
            "\u{e000}",
            "\u{10000}",
            "\u{1f980}/\u{10fffd}",
        ] {
            publisher.publish(topic, topic, 1);
            subscriber.expect_message(topic, topic, 1);
        }
    });
}

/// [MQTT-1.5.3-3]
#[test]
fn byte_order_mark_is_a_character_like_others() {
    each_broker(|broker| {
        let mut with = broker.connect("sub");
        with.subscribe("\u{feff}a", 1);
        let mut without = broker.connect("without");
        without.subscribe("a", 1);
        let mut publisher = broker.connect("pub");
        publisher.publish("\u{feff}a", "with", 1);
        publisher.publish("a", "without", 1);
        with.expect_message("\u{feff}a", "with", 1);
        without.expect_message("a", "without", 1);
        with.expect_silence();
        without.expect_silence();
    });
}
