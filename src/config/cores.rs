//! Which cores there are, and which of them a list like `0-3,6` names.

use std::fmt;
use std::str::FromStr;

use rustix::thread::{CpuSet, sched_getaffinity};
use thiserror::Error;

/// Cores named by the operator: ascending, each once, never empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CoreList(Vec<usize>);

impl CoreList {
    /// The cores, ascending.
    #[must_use]
    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }
}

/// A core list that cannot be read.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum CoreListError {
    /// Not a number, or beyond what a core number can be.
    #[error("'{0}' is no core number from 0 to {max}; write a list like 0-3,6", max = CORES_MAX - 1)]
    NotACore(String),
    /// A range that ends before it begins.
    #[error("the range {0}-{1} is empty")]
    EmptyRange(usize, usize),
}

impl FromStr for CoreList {
    type Err = CoreListError;

    fn from_str(list: &str) -> Result<CoreList, CoreListError> {
        let mut cores = Vec::new();
        for part in list.split(',').map(str::trim) {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (core(first)?, core(last)?),
                None => (core(part)?, core(part)?),
            };
            if last < first {
                return Err(CoreListError::EmptyRange(first, last));
            }
            cores.extend(first..=last);
        }
        cores.sort_unstable();
        cores.dedup();
        Ok(CoreList(cores))
    }
}

impl fmt::Display for CoreList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&ranges(&self.0))
    }
}

/// Ascending numbers as a list of ranges: `0-3,6`.
pub(crate) fn ranges(cores: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &core in cores {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => parts.push((core, core)),
        }
    }
    let part = |&(first, last): &(usize, usize)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    parts.iter().map(part).collect::<Vec<_>>().join(",")
}

/// The cores that this process may use, ascending; core 0 alone if the system does not say.
#[must_use]
pub(crate) fn available() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    let cores: Vec<usize> = (0..CORES_MAX).filter(|&core| set.is_set(core)).collect();
    if cores.is_empty() { vec![0] } else { cores }
}

fn core(text: &str) -> Result<usize, CoreListError> {
    match text.trim().parse() {
        Ok(core) if core < CORES_MAX => Ok(core),
        _ => Err(CoreListError::NotACore(text.trim().to_owned())),
    }
}

/// As many cores as the system's set of cores can name.
const CORES_MAX: usize = CpuSet::MAX_CPU;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_sorted_and_unique() {
        let list: CoreList = "6, 0-3,2".parse().unwrap();
        assert_eq!(list.as_slice(), [0, 1, 2, 3, 6]);
        assert_eq!(list.to_string(), "0-3,6");
    }

    #[test]
    fn nonsense_is_refused_with_what_was_typed() {
        for nonsense in ["", "a", "1-", "-1", "0,,1", "99999999"] {
            assert!(
                matches!(nonsense.parse::<CoreList>(), Err(CoreListError::NotACore(_))),
                "{nonsense}"
            );
        }
        assert_eq!("3-1".parse::<CoreList>(), Err(CoreListError::EmptyRange(3, 1)));
    }

    #[test]
    fn the_process_may_use_at_least_one_core() {
        assert!(!available().is_empty());
    }
}
