//! Makes a failing run smaller.

use super::{Failure, Run, run};

/// Leaves steps out while the run still fails in the same words (its names and numbers aside, since a run with fewer steps
/// takes another course), in ever smaller pieces; returns the smallest run that was found.
#[must_use]
pub fn shrink(failing: &Run) -> Run {
    let mut best = Run {
        trace: false,
        ..failing.clone()
    };
    let Err(failure) = run(&best) else { return best };
    let fails = |smaller: &Run| run(smaller).is_err_and(|other| words(&other) == words(&failure));
    let count = best.steps();
    let mut piece = count.div_ceil(2);
    while piece > 0 {
        let before = best.without.len();
        for from in (0..count).step_by(piece) {
            let mut smaller = best.clone();
            let more = (from..(from + piece).min(count)).filter(|at| !best.without.contains(at));
            smaller.without.extend(more);
            if smaller.without.len() > best.without.len() && fails(&smaller) {
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

/// What went wrong, without names and numbers.
fn words(failure: &Failure) -> Vec<&str> {
    let is_word = |word: &&str| word.chars().all(|letter| letter.is_ascii_lowercase());
    failure.what.split_whitespace().filter(is_word).take(6).collect()
}
