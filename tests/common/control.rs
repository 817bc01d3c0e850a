//! The bystander of an attack: a publisher and a subscriber of its own that must notice nothing of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::broker::Broker;
use super::client::Client;
use super::on_shards;

/// A pair of clients, on the first and on the last shard, that send each other QoS 1 messages for as long as it lives.
///
/// Each message must be acknowledged and arrive, once and in its place, within [`PATIENCE`](super::PATIENCE); otherwise
/// [`Control::finish`] fails.
#[derive(Debug)]
pub struct Control {
    stop: Arc<AtomicBool>,
    /// Gives the number of messages that arrived.
    thread: Option<JoinHandle<u64>>,
}

impl Control {
    pub fn start(broker: &Broker) -> Control {
        let subscriber = broker.connect(&broker.id_on(0, "control-sub"));
        let publisher = broker.connect(&broker.id_on(broker.shards - 1, "control-pub"));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || run(subscriber, publisher, &stop)
        });
        Control {
            stop,
            thread: Some(thread),
        }
    }

    /// # Panics
    /// If a message was lost, came twice, out of its place, or not in time.
    pub fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let arrived = self.thread.take().expect("finished once").join();
        let arrived = arrived.expect("the control client sees no loss and no stall");
        assert!(arrived > 0, "the control client saw nothing of the attack");
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Runs the attack against brokers with 1 and 3 shards, each with a [`Control`] beside it that must notice nothing.
pub fn attack(flags: &[&str], scenario: impl Fn(&Broker) + Sync) {
    on_shards(&[1, 3], flags, |broker| {
        let control = Control::start(broker);
        scenario(broker);
        control.finish();
    });
}

fn run(mut subscriber: Client, mut publisher: Client, stop: &AtomicBool) -> u64 {
    subscriber.subscribe(TOPIC, 1);
    let mut sent = 0_u64;
    while sent == 0 || !stop.load(Ordering::Relaxed) {
        publisher.publish(TOPIC, sent.to_be_bytes(), 1);
        subscriber.expect_message(TOPIC, sent.to_be_bytes(), 1);
        sent += 1;
        thread::sleep(PAUSE);
    }
    subscriber.expect_silence();
    sent
}

/// Attackers leave it alone, but for those who subscribe to everything.
pub const TOPIC: &str = "control/topic";
/// Between two messages: short enough that no stall slips through, long enough to leave the cores to the attack.
const PAUSE: Duration = Duration::from_millis(5);
