//! What a run consisted of.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use crate::error::DropReason;

/// Events, simulated time, and faults by kind.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Decisions of the scheduler.
    pub events: u64,
    /// Simulated time.
    pub milliseconds: u64,
    /// Sockets that broke.
    pub cuts: u64,
    /// CONNECT while an older connection of the client was open.
    pub takeovers: u64,
    /// Sockets that moved between shards.
    pub moves: u64,
    /// Reads that ended within a packet.
    pub split_packets: u64,
    /// Turns with other shards running between their batches.
    pub split_turns: u64,
    /// Clients that stopped reading.
    pub stalls: u64,
    /// Clients that sent their acknowledgements late.
    pub held_acknowledgements: u64,
    /// Acknowledgements that got lost.
    pub lost_acknowledgements: u64,
    /// Clients that sent everything unfinished again.
    pub resends: u64,
    /// Times that a store began to refuse records.
    pub store_failures: u64,
    /// Publishers that were not read for a while because memory was short.
    pub slowed: u64,
    /// Publishers that had to wait because they were faster than they may be.
    pub rate_limited: u64,
    /// Brokers that were told to stop, and others that crashed; each was followed by another.
    pub restarts: u64,
    /// See above.
    pub crashes: u64,
    /// Batches that were under way when it ended.
    pub lost_batches: u64,
    /// Records that were not durable then.
    pub forgotten_records: u64,
    /// Connections that the broker closed, by reason.
    pub closes: BTreeMap<&'static str, u64>,
    /// Messages that the broker says it dropped, in the order of [`DropReason::ALL`].
    pub drops: [u64; DropReason::ALL.len()],
}

impl AddAssign<&Counts> for Counts {
    fn add_assign(&mut self, other: &Counts) {
        for (to, from) in [
            (&mut self.events, other.events),
            (&mut self.milliseconds, other.milliseconds),
            (&mut self.cuts, other.cuts),
            (&mut self.takeovers, other.takeovers),
            (&mut self.moves, other.moves),
            (&mut self.split_packets, other.split_packets),
            (&mut self.split_turns, other.split_turns),
            (&mut self.stalls, other.stalls),
            (&mut self.held_acknowledgements, other.held_acknowledgements),
            (&mut self.lost_acknowledgements, other.lost_acknowledgements),
            (&mut self.resends, other.resends),
            (&mut self.store_failures, other.store_failures),
            (&mut self.slowed, other.slowed),
            (&mut self.rate_limited, other.rate_limited),
            (&mut self.restarts, other.restarts),
            (&mut self.crashes, other.crashes),
            (&mut self.lost_batches, other.lost_batches),
            (&mut self.forgotten_records, other.forgotten_records),
        ] {
            *to += from;
        }
        for (reason, count) in &other.closes {
            *self.closes.entry(reason).or_default() += count;
        }
        for (to, from) in self.drops.iter_mut().zip(other.drops) {
            *to += from;
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.milliseconds / 3_600_000;
        let minutes = self.milliseconds / 60_000 % 60;
        writeln!(f, "  simulated time            {hours} h {minutes} min")?;
        for (name, count) in [
            ("events", self.events),
            ("sockets that broke", self.cuts),
            ("takeovers", self.takeovers),
            ("moves between shards", self.moves),
            ("reads within a packet", self.split_packets),
            ("turns split up", self.split_turns),
            ("clients that stalled", self.stalls),
            ("acknowledgements late", self.held_acknowledgements),
            ("acknowledgements lost", self.lost_acknowledgements),
            ("packets sent again", self.resends),
            ("store failures", self.store_failures),
            ("publishers slowed", self.slowed),
            ("publishers over rate", self.rate_limited),
            ("orderly restarts", self.restarts),
            ("crashes", self.crashes),
            ("batches lost by them", self.lost_batches),
            ("records not yet durable", self.forgotten_records),
        ] {
            writeln!(f, "  {name:<25} {count}")?;
        }
        for (reason, count) in &self.closes {
            writeln!(f, "  closed: {reason:<17} {count}")?;
        }
        for (reason, count) in DropReason::ALL.iter().zip(self.drops) {
            writeln!(f, "  dropped: {:<16} {count}", reason.label())?;
        }
        Ok(())
    }
}
