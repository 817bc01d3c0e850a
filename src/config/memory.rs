//! How much memory there is: the host's, or less where a cgroup says so.

use std::fs;

use crate::cgroup;

/// Half of what the process may use: the other half is for retained messages, subscriptions, connections and what the
/// allocator does not give back. 1 GiB of it if the system does not say.
pub(super) fn share_of_host() -> usize {
    usable_bytes().unwrap_or(UNKNOWN_BYTES) / 2
}

/// What the process may use; `None` if the system does not say.
pub(crate) fn usable_bytes() -> Option<usize> {
    let host = meminfo_total(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    host.into_iter().chain(cgroup::memory_limit()).min()
}

/// `MemTotal:  24684084 kB`.
fn meminfo_total(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<usize>()
        .ok()?
        .checked_mul(1024)
}

/// Taken for what the host has if nothing can be read.
const UNKNOWN_BYTES: usize = 2 * 1024 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_says_kib() {
        assert_eq!(
            meminfo_total("MemTotal:       24684084 kB\nMemFree: 1 kB\n"),
            Some(24_684_084 * 1024)
        );
        assert_eq!(meminfo_total(""), None);
    }

    #[test]
    fn this_host_has_some_memory() {
        assert!(share_of_host() >= 1 << 24);
    }
}
