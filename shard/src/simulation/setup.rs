//! The broker of a run, and how the world around it behaves.

use std::time::Duration;

use super::dice::Dice;
use crate::limits::{Limits, SharedStrategy, SlowSubscriber};

/// See the module's head.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) shards: u16,
    pub(super) limits: Limits,
    pub(super) store: StoreKind,
    pub(super) phases: u8,
    /// In this order, at most one in a phase.
    pub(super) restarts: Vec<Restart>,
    /// How often each shard gets its turn, relative to the others; for as many shards as there can be.
    pub(super) weights: Vec<usize>,
    /// Reads end with a packet, so that it is known which one a refusal was about.
    pub(super) one_packet: bool,
    /// What a socket holds on the way to a client.
    pub(super) pipe_bytes: usize,
    /// Percent of turns whose batches leave one by one, with others running in between.
    pub(super) slow_leave: usize,
}

/// The broker ends in the middle of everything and another begins, which knows none of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restart {
    pub(super) phase: u8,
    /// So many events after the phase began, or at its end.
    pub(super) after: u64,
    /// How many the next broker has.
    pub(super) shards: u16,
    /// Connections are closed first, as on a signal; else it crashes.
    pub(super) orderly: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum StoreKind {
    /// Nothing is kept.
    Memory,
    /// Records become durable some time later.
    Slow,
    /// And now and then none is taken.
    Failing,
}

impl Setup {
    pub(super) fn new(dice: &mut Dice) -> Setup {
        let shards = dice.pick(&SHARDS);
        let mut limits = Limits {
            connect_timeout: Duration::from_secs(10),
            ..Limits::default()
        };
        if dice.chance(50) {
            limits.inflight_max = dice.pick(&[1, 2, 3, 5]);
        }
        if dice.chance(25) {
            limits.slow_subscriber = dice.pick(&[
                SlowSubscriber::DropNewest,
                SlowSubscriber::DropOldest,
                SlowSubscriber::Disconnect,
                SlowSubscriber::Backpressure,
            ]);
            limits.queued_messages_max = dice.pick(&[2, 4, 8, 20]);
            limits.output_bytes_max = dice.pick(&[60, 200, 1_000]);
        }
        if dice.chance(25) {
            limits.session_expiry = Duration::from_secs(15);
        }
        if dice.chance(15) {
            limits.keep_alive_max = Duration::from_secs(10);
        }
        if dice.chance(15) {
            limits.inbound_qos2_max = dice.pick(&[1, 2, 4]);
        }
        if dice.chance(40) {
            limits.shared_strategy = SharedStrategy::Sticky;
        }
        let store = match dice.below(20) {
            0..=12 => StoreKind::Memory,
            13..=17 => StoreKind::Slow,
            _ => StoreKind::Failing,
        };
        // What is read after a publisher must wait is not known to be handled.
        let exact =
            limits.queued_messages_max < 1_000 || limits.inbound_qos2_max < 1_000 || store == StoreKind::Failing;
        Setup {
            shards,
            limits,
            store,
            phases: u8::try_from(dice.between(1, 3)).expect("few"),
            restarts: Vec::new(),
            weights: (0..shards).map(|_| dice.pick(&WEIGHTS)).collect(),
            one_packet: exact || dice.chance(20),
            pipe_bytes: dice.pick(&[40, 300, 20_000]),
            slow_leave: dice.pick(&[0, 30, 80]),
        }
    }

    /// Too little memory in some runs.
    pub(super) fn limit_memory(&mut self, dice: &mut Dice) {
        if dice.chance(15) {
            self.limits.memory_bytes_max = dice.pick(&MEMORY_SHARES) * usize::from(self.shards);
            // Which packet was refused for want of memory must be known.
            self.one_packet = true;
        }
    }

    /// Clients may publish only so fast in some runs, and are closed for it in some of those.
    pub(super) fn limit_rate(&mut self, dice: &mut Dice) {
        if dice.chance(12) {
            self.limits.publish_rate_max = dice.pick(&[0, 1, 3, 20]);
            self.limits.publish_bytes_rate_max = dice.pick(&[0, 50, 500, 5_000]);
            self.limits.publish_rate_patience = Duration::from_secs(dice.pick(&[0, 0, 3, 20]));
            // What is read after a publisher must wait is not known to be handled.
            self.one_packet = true;
        }
    }

    /// Restarts in the middle of some runs. `dice` are others than those of the plan, so that what a seed did before there were
    /// any is what it does up to its first restart.
    pub(super) fn add_restarts(&mut self, dice: &mut Dice) {
        while self.weights.len() < SHARDS_MAX {
            self.weights.push(dice.pick(&WEIGHTS));
        }
        self.restarts = (0..self.phases).filter_map(|phase| Restart::new(dice, phase)).collect();
    }
}

impl Restart {
    fn new(dice: &mut Dice, phase: u8) -> Option<Restart> {
        let (after, shards, orderly) = (dice.between(1, 1_500), dice.pick(&SHARDS), dice.chance(30));
        dice.chance(15).then_some(Restart {
            phase,
            after: after as u64,
            shards,
            orderly,
        })
    }
}

/// How many shards, as likely as they stand here.
const SHARDS: [u16; 12] = [1, 2, 2, 2, 3, 3, 3, 4, 5, 6, 7, SHARDS_MAX as u16];
const SHARDS_MAX: usize = 8;
/// Bytes that one shard may hold: some ten to some hundred messages.
const MEMORY_SHARES: [usize; 3] = [12_000, 30_000, 80_000];
const WEIGHTS: [usize; 4] = [1, 4, 4, 16];
