//! How much memory there is: the host's, or less where a cgroup says so.

use std::fs;
use std::path::Path;

/// Half of what the process may use: the other half is for retained messages, subscriptions, connections and what the
/// allocator does not give back. 1 GiB of it if the system does not say.
pub(super) fn share_of_host() -> usize {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let host = meminfo_total(&text("/proc/meminfo"));
    let limits = cgroup_files(&text("/proc/self/cgroup"))
        .into_iter()
        .filter_map(|file| limit(&fs::read_to_string(file).ok()?));
    host.into_iter().chain(limits).min().unwrap_or(UNKNOWN_BYTES) / 2
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

/// A limit as the kernel writes it; `max`, and a number that no host has, are none.
fn limit(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|&bytes| bytes < NO_LIMIT_BYTES)
}

/// The files with a memory limit for a process with this `/proc/self/cgroup`: of its group and of those above, in version 2
/// (`0::/a/b`) and version 1 (`4:memory:/a/b`). In a container the path may be the host's, so the root counts in any case.
fn cgroup_files(text: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|it| it == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        files.extend(
            Path::new(path)
                .ancestors()
                .map(|group| format!("{root}{}/{name}", group.display().to_string().trim_end_matches('/'))),
        );
    }
    files
}

/// Taken for what the host has if nothing can be read.
const UNKNOWN_BYTES: usize = 2 * 1024 * 1024 * 1024;
/// Version 1 writes the largest multiple of a page for "no limit".
const NO_LIMIT_BYTES: usize = 1 << 60;

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
    fn no_limit_is_told_in_two_ways() {
        assert_eq!(limit("536870912\n"), Some(512 << 20));
        assert_eq!(limit("max\n"), None);
        assert_eq!(limit("9223372036854771712\n"), None);
    }

    #[test]
    fn every_group_above_limits_too() {
        assert_eq!(
            cgroup_files("4:memory:/a/b\n2:cpuacct:/c\n0::/\n"),
            [
                "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory.max",
            ]
        );
    }

    #[test]
    fn this_host_has_some_memory() {
        assert!(share_of_host() >= 1 << 24);
    }
}
