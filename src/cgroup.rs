//! What the control groups of this process leave it: memory and time on the cores.
//!
//! A limit may stand in the process's own group and in each one above it, in version 2 (`0::/a/b`) and version 1
//! (`4:memory:/a/b`) of the files; the least of all counts.

use std::fs;
use std::path::Path;

/// Least limit of memory, in bytes; `None`: there is none.
pub(crate) fn memory_limit() -> Option<usize> {
    let folders = folders(&own_groups(), "memory");
    let files = folders.iter().map(|(folder, version)| match version {
        Version::Two => format!("{folder}/memory.max"),
        Version::One => format!("{folder}/memory.limit_in_bytes"),
    });
    files
        .filter_map(|file| memory_bytes(&fs::read_to_string(file).ok()?))
        .min()
}

/// Cores' worth of time that the process may use, such as 1.5; `None`: all the time of its cores.
pub(crate) fn cpu_quota() -> Option<f64> {
    let text = |folder: &str, name: &str| fs::read_to_string(format!("{folder}/{name}")).ok();
    let quotas = folders(&own_groups(), "cpu")
        .into_iter()
        .filter_map(|(folder, version)| {
            let quota = match version {
                Version::Two => text(&folder, "cpu.max")?,
                Version::One => text(&folder, "cpu.cfs_quota_us")? + " " + &text(&folder, "cpu.cfs_period_us")?,
            };
            cores(&quota)
        });
    quotas.min_by(f64::total_cmp)
}

/// Of the files under `/sys/fs/cgroup`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Version {
    One,
    Two,
}

fn own_groups() -> String {
    fs::read_to_string("/proc/self/cgroup").unwrap_or_default()
}

/// Where the limits of a process with this `/proc/self/cgroup` are: its group, and those above. In a container the path
/// may be the host's, so the root counts in any case.
fn folders(groups: &str, controller: &str) -> Vec<(String, Version)> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (root, version) = match controllers {
            "" => ("/sys/fs/cgroup".to_owned(), Version::Two),
            _ if controllers.split(',').any(|it| it == controller) => {
                (format!("/sys/fs/cgroup/{controller}"), Version::One)
            }
            _ => continue,
        };
        folders.extend(Path::new(path).ancestors().map(|group| {
            let group = group.display().to_string();
            (format!("{root}{}", group.trim_end_matches('/')), version)
        }));
    }
    folders
}

/// A limit as the kernel writes it; `max`, and a number that no host has, are none.
fn memory_bytes(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|&bytes| bytes < NO_LIMIT_BYTES)
}

/// `QUOTA PERIOD`, both in microseconds; a quota of `max` or -1 is none.
fn cores(text: &str) -> Option<f64> {
    let mut fields = text.split_whitespace();
    let (quota, period): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (period > 0).then(|| quota as f64 / period as f64)
}

/// Version 1 writes the largest multiple of a page for "no limit".
const NO_LIMIT_BYTES: usize = 1 << 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_told_in_two_ways() {
        assert_eq!(memory_bytes("536870912\n"), Some(512 << 20));
        assert_eq!(memory_bytes("max\n"), None);
        assert_eq!(memory_bytes("9223372036854771712\n"), None);
    }

    #[test]
    fn a_quota_is_a_part_of_a_period() {
        assert_eq!(cores("150000 100000\n"), Some(1.5));
        for none in ["max 100000\n", "-1\n 100000\n", "150000 0\n", "150000", ""] {
            assert_eq!(cores(none), None, "{none}");
        }
    }

    #[test]
    fn every_group_above_limits_too() {
        let groups = "4:memory:/a/b\n2:cpu,cpuacct:/c\n0::/\n";
        let of = |controller| folders(groups, controller);
        let one = |folder: &str| (folder.to_owned(), Version::One);
        let root = ("/sys/fs/cgroup".to_owned(), Version::Two);
        assert_eq!(
            of("memory"),
            [
                one("/sys/fs/cgroup/memory/a/b"),
                one("/sys/fs/cgroup/memory/a"),
                one("/sys/fs/cgroup/memory"),
                root.clone(),
            ]
        );
        assert_eq!(
            of("cpu"),
            [one("/sys/fs/cgroup/cpu/c"), one("/sys/fs/cgroup/cpu"), root]
        );
    }
}
