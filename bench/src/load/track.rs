//! Counts what one subscriber saw of one stream: lost, duplicated, reordered.

use std::ops::Range;

/// One stream as one subscriber sees it. In order, a message costs one comparison and one addition.
///
/// Invariants: gaps are disjoint, ascending, not empty, and end before `next`;
/// `missing` is at least the sum of their lengths, and more only where gaps were written off.
#[derive(Clone, Debug, Default)]
pub(crate) struct Track {
    /// One more than the highest sequence seen; what an orderly broker delivers next.
    next: u64,
    /// Sequences below `next` that have not been seen.
    missing: u64,
    /// Where they are, so that a late message and a duplicate can be told apart.
    gaps: Vec<Range<u64>>,
}

/// What a message turned out to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Seen {
    /// The next one, or one after a gap.
    Fresh,
    /// Not seen before, but behind one that was published after it.
    Late,
    /// Seen before, or so far behind that its gap was written off.
    Again,
}

/// Most gaps remembered per stream: 64 KiB. Past that a broker is dropping at a rate where telling a late message
/// from a duplicate no longer matters; the oldest gap is written off, and stays counted as lost.
const GAPS_MAX: usize = 4096;

impl Track {
    /// A stream whose beginning is not expected: everything before `sequence` counts as seen.
    pub(crate) fn starting_at(sequence: u64) -> Track {
        Track {
            next: sequence,
            missing: 0,
            gaps: Vec::new(),
        }
    }

    /// Takes note of a message. O(1) in order, O(log gaps) otherwise.
    #[inline]
    pub(crate) fn see(&mut self, sequence: u64) -> Seen {
        if sequence == self.next {
            self.next += 1;
            return Seen::Fresh;
        }
        self.see_out_of_step(sequence)
    }

    #[cold]
    fn see_out_of_step(&mut self, sequence: u64) -> Seen {
        if sequence > self.next {
            self.missing += sequence - self.next;
            if self.gaps.len() == GAPS_MAX {
                self.gaps.remove(0);
            }
            self.gaps.push(self.next..sequence);
            self.next = sequence + 1;
            return Seen::Fresh;
        }
        let at = self.gaps.partition_point(|gap| gap.end <= sequence);
        match self.gaps.get_mut(at) {
            Some(gap) if gap.start <= sequence => {
                let after = sequence + 1..gap.end;
                gap.end = sequence;
                match (gap.is_empty(), after.is_empty()) {
                    (true, true) => drop(self.gaps.remove(at)),
                    (true, false) => *gap = after,
                    (false, true) => {}
                    (false, false) => self.gaps.insert(at + 1, after),
                }
                self.missing -= 1;
                Seen::Late
            }
            _ => Seen::Again,
        }
    }

    /// Different messages seen.
    pub(crate) fn distinct(&self) -> u64 {
        self.next - self.missing
    }

    /// Messages missing between those that were seen.
    pub(crate) fn missing(&self) -> u64 {
        self.missing
    }

    /// One more than the highest sequence seen.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }
}

/// What a shared group saw of all streams, over the members that live on one load thread: a bit per message.
///
/// Within a group any member may get any message, so only the union says what is lost; bits of several threads are
/// merged at the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupBits {
    streams: Vec<Vec<u64>>,
}

impl GroupBits {
    /// Marks a message; `false` where it was marked before. Amortised O(1).
    #[inline]
    pub(crate) fn mark(&mut self, stream: u32, sequence: u64) -> bool {
        let stream = stream as usize;
        if stream >= self.streams.len() {
            self.streams.resize_with(stream + 1, Vec::new);
        }
        let bits = &mut self.streams[stream];
        let (word, bit) = ((sequence / 64) as usize, 1 << (sequence % 64));
        if word >= bits.len() {
            bits.resize((word + 1).next_power_of_two(), 0);
        }
        let fresh = bits[word] & bit == 0;
        bits[word] |= bit;
        fresh
    }

    /// Takes in another thread's bits; returns how many messages both had.
    pub(crate) fn merge(&mut self, other: &GroupBits) -> u64 {
        let mut both = 0;
        self.streams
            .resize_with(self.streams.len().max(other.streams.len()), Vec::new);
        for (mine, theirs) in self.streams.iter_mut().zip(&other.streams) {
            mine.resize(mine.len().max(theirs.len()), 0);
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                both += u64::from((*mine & theirs).count_ones());
                *mine |= theirs;
            }
        }
        both
    }

    /// Different messages of `stream` that the group saw.
    pub(crate) fn distinct(&self, stream: usize) -> u64 {
        self.streams
            .get(stream)
            .map_or(0, |bits| bits.iter().map(|word| u64::from(word.count_ones())).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(sequences: &[u64]) -> (Vec<Seen>, Track) {
        let mut track = Track::default();
        (sequences.iter().map(|&sequence| track.see(sequence)).collect(), track)
    }

    #[test]
    fn in_order_leaves_nothing_missing() {
        let (all, track) = seen(&[0, 1, 2, 3]);
        assert_eq!(all, [Seen::Fresh; 4]);
        assert_eq!((track.distinct(), track.missing(), track.next()), (4, 0, 4));
    }

    #[test]
    fn a_swap_is_late_not_lost() {
        let (all, track) = seen(&[0, 2, 1, 3]);
        assert_eq!(all, [Seen::Fresh, Seen::Fresh, Seen::Late, Seen::Fresh]);
        assert_eq!((track.distinct(), track.missing()), (4, 0));
    }

    #[test]
    fn a_repeat_is_a_duplicate_wherever_it_comes() {
        let (all, track) = seen(&[0, 1, 1, 2, 0]);
        assert_eq!(all[2], Seen::Again);
        assert_eq!(all[4], Seen::Again);
        assert_eq!((track.distinct(), track.missing()), (3, 0));
    }

    #[test]
    fn a_late_message_twice_is_late_once() {
        let (all, track) = seen(&[5, 2, 2, 0, 4, 1, 3]);
        assert_eq!(
            all,
            [
                Seen::Fresh,
                Seen::Late,
                Seen::Again,
                Seen::Late,
                Seen::Late,
                Seen::Late,
                Seen::Late
            ]
        );
        assert_eq!((track.distinct(), track.missing()), (6, 0));
        assert!(track.gaps.is_empty());
    }

    #[test]
    fn a_gap_at_the_start_is_missing() {
        let (_, track) = seen(&[3, 4]);
        assert_eq!((track.distinct(), track.missing()), (2, 3));
    }

    #[test]
    fn written_off_gaps_stay_missing() {
        let mut track = Track::default();
        for sequence in 0..2 * GAPS_MAX as u64 {
            track.see(sequence * 2 + 1);
        }
        assert_eq!(track.gaps.len(), GAPS_MAX);
        assert_eq!(track.missing(), 2 * GAPS_MAX as u64);
        assert_eq!(track.see(0), Seen::Again);
    }

    #[test]
    fn a_group_is_the_union_of_its_members() {
        let (mut here, mut there) = (GroupBits::default(), GroupBits::default());
        assert!(here.mark(1, 0));
        assert!(here.mark(1, 70));
        assert!(!here.mark(1, 70));
        assert!(there.mark(1, 1));
        assert!(there.mark(1, 70));
        assert_eq!(here.merge(&there), 1);
        assert_eq!((here.distinct(0), here.distinct(1)), (0, 3));
    }
}
