//! The `$SYS` topics, read as an operator's tool reads them. The broker must have been started with `--sys-interval 1`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::broker::Broker;
use super::client::{Client, PATIENCE};
use super::wire::{self, PINGREQ, Packet};

/// A client that is subscribed to `$SYS` topics, and the last value of each.
#[derive(Debug)]
pub struct Sys {
    client: Client,
    values: BTreeMap<String, String>,
}

impl Broker {
    /// A client that watches everything under `$SYS/broker/`.
    pub fn sys(&self) -> Sys {
        self.sys_only(&["#"])
    }

    /// A client that watches these topics under `$SYS/broker/`, for brokers where it may not be sent more at once.
    pub fn sys_only(&self, names: &[&str]) -> Sys {
        let mut client = self.connect("sys-watcher");
        let filters: Vec<String> = names.iter().map(|name| format!("$SYS/broker/{name}")).collect();
        let asked: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 0)).collect();
        // In one packet: after the first SUBACK, a value may come before the next.
        client.send(wire::subscribe(1, &asked));
        client.expect(&Packet::Suback {
            id: 1,
            codes: vec![0; names.len()],
        });
        Sys {
            client,
            values: BTreeMap::new(),
        }
    }
}

impl Sys {
    /// Waits until this counter has this value.
    ///
    /// A broker that counts too much passes through the right value: [`Sys::settle`] first, where that matters.
    pub fn await_value(&mut self, name: &str, value: u64) {
        self.await_that(name, |got| got == value);
    }

    /// Waits until this counter is as `is_right` says, and gives it.
    pub fn await_that(&mut self, name: &str, is_right: impl Fn(u64) -> bool) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = self.values.get(name).map(|value| number(name, value))
                && is_right(value)
            {
                return value;
            }
            let got = self.receive(deadline);
            assert!(got, "{name} is still {:?}", self.values.get(name));
        }
    }

    /// Waits until all that happened before this call is in the counters. `uptime` must be watched.
    pub fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        // What is on its way may be older; the second is of an interval that began later, on every shard.
        while self.receive_within(Duration::from_millis(1)) {}
        for _ in 0..2 {
            let before = self.values.get("uptime").cloned();
            while self.values.get("uptime") == before.as_ref() {
                assert!(self.receive(deadline), "$SYS is not published any more");
            }
        }
        // `uptime` is among the first of its interval; the rest is here before the answer.
        self.client.send(PINGREQ);
        while self.receive(deadline) {}
    }

    /// How many topics there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// The last value of this counter.
    pub fn get(&self, name: &str) -> u64 {
        number(name, self.text(name))
    }

    /// The last value of this topic.
    pub fn text(&self, name: &str) -> &str {
        self.values
            .get(name)
            .unwrap_or_else(|| panic!("no $SYS/broker/{name} among {:?}", self.values.keys()))
    }

    fn receive_within(&mut self, time: Duration) -> bool {
        self.receive(Instant::now() + time)
    }

    /// Takes one value in; false if none comes in time, or PINGRESP instead.
    fn receive(&mut self, deadline: Instant) -> bool {
        match self
            .client
            .recv_within(deadline.saturating_duration_since(Instant::now()))
        {
            None | Some(Some(Packet::Pingresp)) => false,
            Some(Some(Packet::Publish(got))) => {
                let name = got.topic.strip_prefix("$SYS/broker/").expect("nothing else").to_owned();
                self.values.insert(name, String::from_utf8(got.payload).expect("text"));
                true
            }
            Some(other) => panic!("instead of a value: {other:?}"),
        }
    }
}

fn number(name: &str, value: &str) -> u64 {
    value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}"))
}
