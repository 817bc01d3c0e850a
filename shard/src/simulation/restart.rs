//! The broker's end and its next beginning, which may be with another number of shards.

use super::network::Place;
use super::setup::{Restart, StoreKind};
use super::world::{World, broker};
use crate::shard::Event;

impl World {
    /// Restarts if the plan wants it so many events into this phase.
    pub(super) fn restart_if_due(&mut self, events: u64) {
        while let Some(next) = self.restarts.front().copied()
            && (next.phase, next.after) <= (self.phase.0, events)
        {
            self.restarts.pop_front();
            self.restart(next);
        }
    }

    fn restart(&mut self, restart: Restart) {
        if restart.orderly {
            self.counts.restarts += 1;
            self.stop();
        } else {
            self.counts.crashes += 1;
        }
        self.trace.note(self.now, || {
            let shards = restart.shards;
            format!(
                "══ the broker {} and begins again with {shards} shards ══",
                if restart.orderly { "stops" } else { "crashes" }
            )
        });
        for node in &self.nodes {
            self.counts.lost_batches += (node.inbox.len() + node.leaving.len()) as u64;
            if let Some(store) = &node.store {
                self.counts.forgotten_records += store.crash();
            }
        }
        if self.plan.setup.store == StoreKind::Slow {
            self.oracle.check_crash();
        }
        self.count_drops();
        for socket in &mut self.sockets {
            socket.place = Place::Gone;
            socket.to_broker.clear();
        }
        self.plan.setup.shards = restart.shards;
        (self.nodes, self.oracle) = broker(&mut self.dice, &self.plan.setup);
        self.oracle.begins_at(self.now, self.sockets.len());
    }

    /// Every shard closes its connections, one shard after the other, and goes on for a time; clients do not.
    fn stop(&mut self) {
        self.trace
            .note(self.now, || "══ the broker is told to stop ══".to_owned());
        self.oracle.stopping = true;
        for at in 0..self.nodes.len() {
            while self.nodes[at].in_turn {
                self.turn(at);
            }
            // Nobody accepts what is on its way to another shard.
            self.nodes[at].arrivals.clear();
            let now = self.instant();
            self.nodes[at].shard.handle(now, Event::Shutdown);
            self.observe(at, None, &[]);
            self.nodes[at].in_turn = true;
            self.collect(at);
            // The next shard hears of it later.
            self.some_turns(5);
        }
        self.some_turns(60);
        for node in &self.nodes {
            let stats = node.shard.stats();
            assert_eq!(stats.connected, 0, "a client is still connected to a shard that stops");
        }
    }

    fn some_turns(&mut self, most: usize) {
        for _ in 0..self.dice.between(0, most) {
            let at = self.dice.below(self.nodes.len());
            self.nodes[at].arrivals.clear();
            self.turn(at);
        }
    }
}
