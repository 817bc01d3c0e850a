//! What holds wherever publisher, subscriber and the owner of a retained message live: each test puts them onto shards of
//! its choice.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::wire;
use common::*;

#[test]
fn every_placement_delivers_and_retains() {
    on_shards(&[1, 2, 3, 8], &[], |broker| {
        let shards = || 0..broker.shards;
        let mut publishers: Vec<Client> = shards()
            .map(|shard| broker.connect(&broker.id_on(shard, "pub")))
            .collect();
        let mut subscribers: Vec<Client> = shards()
            .map(|shard| broker.connect(&broker.id_on(shard, "sub")))
            .collect();
        for publisher in &mut publishers {
            for owner in shards() {
                let topic = broker.topic_on(owner, "t/");
                for subscriber in &mut subscribers {
                    subscriber.subscribe(&topic, 1);
                }
                publisher.retain(&topic, "value", 1);
                for subscriber in &mut subscribers {
                    subscriber.expect_message(&topic, "value", 1);
                    subscriber.unsubscribe(&topic);
                    subscriber.subscribe("t/#", 1);
                    subscriber.expect_retained(&topic, "value", 1);
                    subscriber.unsubscribe("t/#");
                }
                publisher.retain(&topic, "", 1);
            }
        }
    });
}

/// While all shards are busy, a message that is published after the SUBACK arrives, whichever shard it comes from.
#[test]
fn message_published_after_suback_is_delivered() {
    on_shards(&[2, 3, 8], &[], |broker| {
        under_load(broker, || {
            let mut publishers: Vec<Client> = (0..broker.shards)
                .map(|shard| broker.connect(&broker.id_on(shard, "pub")))
                .collect();
            for round in 0..60_u16 {
                let shard = round % broker.shards;
                let mut subscriber = broker.connect(&broker.id_on(shard, "sub"));
                let (filter, topic) = if round % 2 == 0 { ("a/+", "a/b") } else { ("a/b", "a/b") };
                subscriber.subscribe(filter, 1);
                for (from, publisher) in (0_u8..).zip(&mut publishers) {
                    publisher.send(publish(topic, [from]).qos(1, 1).encode());
                }
                let mut from: Vec<u8> = publishers
                    .iter()
                    .map(|_| subscriber.recv_publish().payload[0])
                    .collect();
                from.sort_unstable();
                assert_eq!(
                    from,
                    (0..=u8::try_from(broker.shards - 1).expect("few")).collect::<Vec<u8>>()
                );
                for publisher in &mut publishers {
                    publisher.expect(&Packet::Puback(1));
                }
                subscriber.disconnect();
            }
        });
    });
}

/// A retained message and a subscription meet at about the same time: it arrives live or as the retained one, but it
/// arrives, and once.
#[test]
fn retained_message_is_not_missed_in_the_gap() {
    on_shards(&[1, 2, 3, 8], &[], |broker| {
        under_load(broker, || {
            for round in 0..120_u16 {
                let (from, to) = (round % broker.shards, round / 3 % broker.shards);
                let topic = format!("gap/{round}");
                let mut publisher = broker.connect(&broker.id_on(from, "pub"));
                let mut subscriber = broker.connect(&broker.id_on(to, "sub"));
                thread::scope(|scope| {
                    scope.spawn(|| publisher.retain(&topic, "value", 1));
                    let wildcard = round % 2 == 0;
                    subscriber.send(wire::subscribe(1, &[(if wildcard { "gap/+" } else { &topic }, 1)]));
                });
                let mut values = 0;
                let mut subacks = 0;
                while values == 0 || subacks == 0 {
                    match subscriber.recv() {
                        Packet::Publish(got) if got.topic == topic => values += 1,
                        Packet::Publish(got) => assert!(got.retain, "{got:?}"),
                        Packet::Suback { .. } => subacks += 1,
                        other => panic!("{other:?}"),
                    }
                }
                // A second copy would come before the answer to another SUBSCRIBE.
                subscriber.send(wire::subscribe(2, &[("never", 1)]));
                loop {
                    match subscriber.recv() {
                        Packet::Suback { id: 2, .. } => break,
                        Packet::Publish(got) => assert_ne!(got.topic, topic, "twice"),
                        other => panic!("{other:?}"),
                    }
                }
                publisher.retain(&topic, "", 1);
            }
        });
    });
}

/// The value of a topic counts up without end, while subscribers come, go, and subscribe again: what they see never
/// counts down.
#[test]
fn retained_value_never_goes_back() {
    on_shards(&[1, 2, 3, 8], &[], |broker| {
        let some_shards = 0..broker.shards.min(3);
        let topics: Vec<String> = some_shards
            .clone()
            .map(|owner| broker.topic_on(owner, "count/"))
            .collect();
        let done = AtomicBool::new(false);
        let last: Vec<u32> = thread::scope(|scope| {
            let end = End(&done);
            let mut writers = Vec::new();
            for (shard, topic) in some_shards.clone().zip(&topics) {
                let mut publisher = broker.connect(&broker.id_on((shard + 1) % broker.shards, "pub"));
                publisher.retain(topic, 1_u32.to_be_bytes(), 1);
                let done = &done;
                writers.push(scope.spawn(move || count_up(publisher, topic, done)));
            }
            let readers: Vec<_> = some_shards
                .map(|shard| {
                    let subscriber = broker.connect(&broker.id_on(shard, "sub"));
                    let watch = Watch {
                        subscriber,
                        topics: &topics,
                        seen: vec![0; topics.len()],
                    };
                    scope.spawn(|| watch.run())
                })
                .collect();
            for reader in readers {
                reader.join().expect("no value goes back");
            }
            drop(end);
            writers
                .into_iter()
                .map(|writer| writer.join().expect("the publisher works"))
                .collect()
        });
        for (last, topic) in last.into_iter().zip(&topics) {
            let mut late = broker.connect("late");
            late.subscribe(topic, 0);
            late.expect_retained(topic, last.to_be_bytes(), 0);
        }
    });
}

/// Publishes 2, 3, 4 … until it is `done`, ten in flight; gives the last one.
fn count_up(mut publisher: Client, topic: &str, done: &AtomicBool) -> u32 {
    let mut value = 1_u32;
    while !done.load(Ordering::Relaxed) {
        for _ in 0..10 {
            value += 1;
            publisher.send(publish(topic, value.to_be_bytes()).qos(1, 1).retain().encode());
        }
        for _ in 0..10 {
            publisher.expect(&Packet::Puback(1));
        }
    }
    value
}

struct Watch<'a> {
    subscriber: Client,
    topics: &'a [String],
    /// The latest value of each topic.
    seen: Vec<u32>,
}

impl Watch<'_> {
    /// Subscribes again and again, with and without an UNSUBSCRIBE between; each time there must be a value of each.
    fn run(mut self) {
        for round in 0..60 {
            let filter = if round % 3 == 0 { "count/#" } else { "count/+" };
            self.subscriber.send(wire::subscribe(1, &[(filter, round % 2)]));
            let suback = Packet::Suback {
                id: 1,
                codes: vec![round % 2],
            };
            while self.next() != Some(Ok(suback.clone())) {}
            let mut fresh = vec![false; self.topics.len()];
            while !fresh.iter().all(|fresh| *fresh) {
                match self.next() {
                    Some(Err(topic)) => fresh[topic] = true,
                    other => panic!("{other:?}"),
                }
            }
            if round % 4 == 0 {
                self.subscriber.send(wire::unsubscribe(2, &["count/#", "count/+"]));
                while self.next() != Some(Ok(Packet::Unsuback(2))) {}
            }
        }
    }

    /// The next packet, or the topic whose value came.
    fn next(&mut self) -> Option<Result<Packet, usize>> {
        match self.subscriber.recv_or_close()? {
            Packet::Publish(got) => {
                self.subscriber.acknowledge(&got);
                let topic = self
                    .topics
                    .iter()
                    .position(|topic| *topic == got.topic)
                    .expect("one of ours");
                let value = u32::from_be_bytes(got.payload[..].try_into().expect("four bytes"));
                assert!(
                    value >= self.seen[topic],
                    "{value} after {} in {}",
                    self.seen[topic],
                    got.topic
                );
                self.seen[topic] = value;
                Some(Err(topic))
            }
            other => Some(Ok(other)),
        }
    }
}

/// One client has its PUBACK before another, elsewhere, publishes: nobody sees the second message first.
#[test]
fn acknowledged_message_precedes_whatever_is_published_later() {
    on_shards(&[2, 3, 8], &[], |broker| {
        under_load(broker, || {
            let mut subscriber = broker.connect("sub");
            subscriber.subscribe("t", 0);
            let mut publishers: Vec<Client> = (0..broker.shards)
                .map(|shard| broker.connect(&broker.id_on(shard, "pub")))
                .collect();
            for round in 0..40_u8 {
                for publisher in &mut publishers {
                    publisher.publish("t", [round], 1);
                }
            }
            for round in 0..40_u8 {
                for _ in 0..broker.shards {
                    subscriber.expect_message("t", [round], 0);
                }
            }
        });
    });
}

/// Runs `scenario` while clients on all shards publish to each other as fast as they can.
fn under_load(broker: &Broker, scenario: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for shard in 0..broker.shards {
            let done = &done;
            scope.spawn(move || {
                let mut client = broker.connect(&broker.id_on(shard, "load"));
                client.subscribe("load/#", 0);
                let burst = publish(&format!("load/{shard}"), "x".repeat(100)).encode().repeat(20);
                while !done.load(Ordering::Relaxed) {
                    client.send(&burst);
                    client.drain();
                }
            });
        }
        // Also where it fails, or the others would go on for ever.
        let end = End(&done);
        scenario();
        drop(end);
    });
}

/// Sets its flag when dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
