//! A floor that misbehaves on purpose, so that a scenario can be seen to notice.

use clap::Args;

/// Which messages go wrong. Counted over the whole server; 0 is never.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Swallow every Nth message (relay, fan) or acknowledgement (ack)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) drop: u64,
    /// Send every Nth one twice
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) duplicate: u64,
    /// Send every Nth one after the one that follows it on its connection
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) swap: u64,
    /// Flip one bit in every Nth one
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) corrupt: u64,
    /// Refuse every Nth CONNECT with return code 3
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) refuse: u64,
    /// Leave every Nth PINGREQ without an answer
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) mute: u64,
}

/// What happens to one message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    Pass,
    Drop,
    Twice,
    Hold,
    Corrupt,
}

impl Faults {
    /// Whether messages need to be looked at one by one.
    pub(crate) fn touch_messages(&self) -> bool {
        self.drop + self.duplicate + self.swap + self.corrupt > 0
    }

    /// The fate of the `number`th message, from 1.
    pub(crate) fn fate(&self, number: u64) -> Fate {
        let due = |every: u64| every > 0 && number.is_multiple_of(every);
        match () {
            () if due(self.drop) => Fate::Drop,
            () if due(self.duplicate) => Fate::Twice,
            () if due(self.swap) => Fate::Hold,
            () if due(self.corrupt) => Fate::Corrupt,
            () => Fate::Pass,
        }
    }
}

/// Flips a bit of the payload's last byte, or of an acknowledgement's identifier.
pub(crate) fn corrupt(packet: &mut [u8]) {
    if let Some(last) = packet.last_mut() {
        *last ^= 0x10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_nth_goes_wrong() {
        let faults = Faults {
            drop: 3,
            duplicate: 2,
            ..Faults::default()
        };
        let fates: Vec<_> = (1..=6).map(|number| faults.fate(number)).collect();
        assert_eq!(
            fates,
            [Fate::Pass, Fate::Twice, Fate::Drop, Fate::Twice, Fate::Pass, Fate::Drop]
        );
        assert_eq!(Faults::default().fate(0), Fate::Pass);
    }
}
