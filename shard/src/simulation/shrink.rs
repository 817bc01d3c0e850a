//! Makes a failing run smaller.

use super::{Run, run};

/// Leaves steps out while the run still fails, in ever smaller pieces; returns the smallest run that was found.
///
/// Any failure counts, since a run with fewer steps takes another course.
#[must_use]
pub fn shrink(failing: &Run) -> Run {
    let mut best = Run {
        trace: false,
        ..failing.clone()
    };
    let count = best.steps();
    let mut piece = count.div_ceil(2);
    while piece > 0 {
        let before = best.without.len();
        for from in (0..count).step_by(piece) {
            let mut smaller = best.clone();
            let more = (from..(from + piece).min(count)).filter(|at| !best.without.contains(at));
            smaller.without.extend(more);
            if smaller.without.len() > best.without.len() && run(&smaller).is_err() {
                smaller.without.sort_unstable();
                best = smaller;
            }
        }
        if piece > 1 || best.without.len() == before {
            piece /= 2;
        }
    }
    best
}
