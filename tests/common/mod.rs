//! What the tests of the whole broker share: the process ([`broker`]), a client that speaks bytes ([`client`], [`wire`]),
//! one that somebody else wrote ([`rumq`]), files and programs around them ([`files`]), one that reads the broker's counters ([`sys`]), a service that the broker asks ([`service`]), TLS ([`tls`]), WebSocket ([`websocket`]), an operator's tools ([`http`]), a shard that stands still ([`stall`]), and a bystander of attacks
//! ([`control`]).
//!
//! A test is a closure over a running broker; [`each_broker`] runs it with 1, 2 and 3 shards side by side.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "every test binary uses a part of it"
)]

pub mod broker;
pub mod client;
pub mod control;
pub mod files;
pub mod http;
pub mod rumq;
pub mod service;
pub mod stall;
pub mod sys;
pub mod tls;
pub mod websocket;
pub mod wire;

use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::thread;

pub use broker::{Broker, Process, check_listener, ringmq};
pub use client::{Client, PATIENCE, QUIET};
pub use control::{Control, attack};
pub use files::{Folder, is_installed, program};
pub use http::{Answer, Metrics, exchange};
pub use service::{Asked, AuthService, Gate, Reply};
pub use sys::Sys;
pub use wire::{Connect, DISCONNECT, PINGREQ, Packet, Publish, publish};

/// Runs the scenario against brokers with 1, 2 and 3 shards.
pub fn each_broker(scenario: impl Fn(&Broker) + Sync) {
    each_broker_with(&[], scenario);
}

/// Runs the scenario against brokers with 1, 2 and 3 shards that were started with these flags too.
pub fn each_broker_with(flags: &[&str], scenario: impl Fn(&Broker) + Sync) {
    on_shards(&[1, 2, 3], flags, scenario);
}

/// Runs the scenario against one broker for each number of shards, all at once; each must be well afterwards.
///
/// `RINGMQ_TEST_SHARDS=2` leaves out all but 2 shards, to look at one failure alone.
pub fn on_shards(counts: &[u16], flags: &[&str], scenario: impl Fn(&Broker) + Sync) {
    let only = env::var("RINGMQ_TEST_SHARDS").ok();
    let run = |shards: u16| {
        let broker = Broker::start(shards, flags);
        scenario(&broker);
        broker.assert_well();
    };
    let wanted = |shards: &&u16| only.as_ref().is_none_or(|only| *only == shards.to_string());
    let failed: Vec<u16> = thread::scope(|scope| {
        let running: Vec<_> = counts
            .iter()
            .filter(wanted)
            .map(|shards| (*shards, scope.spawn(move || run(*shards))))
            .collect();
        running
            .into_iter()
            .filter_map(|(shards, thread)| thread.join().is_err().then_some(shards))
            .collect()
    });
    assert!(failed.is_empty(), "failed with {failed:?} shards");
}

/// Bytes that are no UTF-8 string of MQTT: cut short, overlong, a surrogate, above U+10FFFF, and U+0000.
pub const ILL_FORMED: [&[u8]; 7] = [
    b"a\x80",
    b"a\xc3",
    b"a\xc0\xafb",
    b"a\xed\xa0\x80b",
    b"a\xf4\x90\x80\x80b",
    b"a\xff",
    b"a\x00b",
];
