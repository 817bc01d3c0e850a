//! What is looked at, in the order in which an operator would put it right: kernel, limits, cores, memory, network, files.

use std::fs;

use super::{Finding, Verdict};
use crate::auth::Secrets;
use crate::cgroup;
use crate::config::{Config, ranges, usable_bytes};
use crate::listener::BACKLOG;
use crate::preflight::{self, PreflightError};
use crate::startup::bytes;

/// Looks at everything. Raises the limits of this process, as the broker does at its start.
pub(super) fn all(config: &Config) -> Vec<Finding> {
    let memlock = preflight::raise_memlock();
    let ring = ring(config, memlock.as_ref().copied().unwrap_or_default());
    let mut findings = vec![kernel(&preflight::kernel(), ring.verdict != Verdict::Fail), ring];
    findings.push(match memlock {
        Ok(None) => Finding::ok("memlock", "no limit of locked memory"),
        Ok(Some(limit)) => Finding::ok("memlock", format!("{} KiB of locked memory", limit / 1024)),
        Err(error) => refused("memlock", &error),
    });
    findings.push(descriptors(config));
    let wanted = preflight::descriptors_needed(config) + config.connections_max as u64;
    findings.extend(number("fs/nr_open").map(|most| nr_open(most, wanted)));
    findings.extend(file_max(wanted));
    findings.push(cores(config.shards.len(), &config.cores));
    findings.extend(cgroup::cpu_quota().map(|quota| cpu_quota(quota, config.shards.len())));
    findings.push(memory(config.limits.memory_bytes_max, usable_bytes()));
    findings.extend(listeners(config));
    findings.extend(queues(config));
    findings.push(files(config));
    findings
}

fn refused(check: &'static str, error: &PreflightError) -> Finding {
    let (found, remedy) = error.parts();
    Finding::fail(check, found, remedy)
}

/// A ring that works has the last word: distributions bring features to older kernels.
fn kernel(release: &str, ring_works: bool) -> Finding {
    let mut numbers = release.split(|it: char| !it.is_ascii_digit()).map(str::parse::<u32>);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    };
    let found = format!("Linux {release}");
    match version {
        Some(version) if version >= KERNEL_MIN => Finding::ok("kernel", found),
        Some(_) if !ring_works => Finding::fail("kernel", found + " is too old", "run on Linux 5.13 or later"),
        _ => Finding::warn(
            "kernel",
            found + " is not known to have what the broker needs of io_uring",
            "run on Linux 5.13 or later",
        ),
    }
}

fn ring(config: &Config, memlock: Option<u64>) -> Finding {
    if let Err(error) = preflight::try_ring(config, memlock) {
        return refused("io_uring", &error);
    }
    match preflight::ring_disabled().as_str() {
        "" | "0" => Finding::ok("io_uring", "a ring can be made"),
        disabled => Finding::warn(
            "io_uring",
            format!("a ring can be made, but kernel.io_uring_disabled is {disabled}, so other users may be refused"),
            "set kernel.io_uring_disabled to 0, or run this command as the user that the broker runs as",
        ),
    }
}

fn descriptors(config: &Config) -> Finding {
    let (own, most) = (preflight::descriptors_needed(config), config.connections_max as u64);
    match preflight::raise_descriptors(config) {
        Err(error) => refused("descriptors", &error),
        Ok(None) => Finding::ok("descriptors", "no limit"),
        Ok(Some(limit)) if limit < own + most => Finding::warn(
            "descriptors",
            format!("{limit}, enough for {} of {most} connections", limit - own),
            format!(
                "raise the limit to {} (ulimit -n, LimitNOFILE= of systemd, --ulimit nofile= of Docker), or lower \
                 --max-connections",
                own + most
            ),
        ),
        Ok(Some(limit)) => Finding::ok("descriptors", format!("{limit}, enough for {most} connections")),
    }
}

/// What a limit of one process can be raised to.
fn nr_open(most: u64, wanted: u64) -> Finding {
    if most >= wanted {
        return Finding::ok("fs.nr_open", most.to_string());
    }
    Finding::warn(
        "fs.nr_open",
        format!("no process may open more than {most} descriptors, and --max-connections needs {wanted}"),
        format!("sysctl fs.nr_open={wanted}, or lower --max-connections"),
    )
}

/// What all processes of the host may have open together.
fn file_max(wanted: u64) -> Option<Finding> {
    let (most, open) = (number("fs/file-max")?, number("fs/file-nr")?);
    let left = most.saturating_sub(open);
    Some(if left >= wanted {
        Finding::ok("fs.file-max", format!("{most}, {open} in use"))
    } else {
        Finding::warn(
            "fs.file-max",
            format!("{left} of {most} descriptors of the host are left, and --max-connections needs {wanted}"),
            format!("sysctl fs.file-max={}, or lower --max-connections", open + wanted),
        )
    })
}

fn cores(shards: usize, cores: &[usize]) -> Finding {
    let list = ranges(cores);
    if shards <= cores.len() {
        return Finding::ok("cores", format!("{list}, {shards} shards"));
    }
    Finding::warn(
        "cores",
        format!("{shards} shards share the cores {list}, so none is pinned"),
        format!(
            "--shards {}, or more cores (taskset, AllowedCPUs= of systemd, --cpuset-cpus= of Docker)",
            cores.len()
        ),
    )
}

/// A shard that has used up the group's time stands still until the period is over, with all of its clients.
fn cpu_quota(quota: f64, shards: usize) -> Finding {
    if quota >= shards as f64 {
        return Finding::ok("cpu quota", format!("time of {quota:.1} cores, {shards} shards"));
    }
    Finding::warn(
        "cpu quota",
        format!(
            "the cgroup has the time of {quota:.1} cores, and {shards} shards can use more: they will be stopped under load"
        ),
        format!(
            "--shards {}, or a larger quota (CPUQuota= of systemd, --cpus= of Docker)",
            (quota as usize).max(1)
        ),
    )
}

fn memory(most: usize, usable: Option<usize>) -> Finding {
    let Some(usable) = usable else {
        return Finding::ok(
            "memory",
            format!("at most {}; the host does not say what it has", bytes(most)),
        );
    };
    let remedy = "lower --max-memory, or raise the limit (MemoryMax= of systemd, --memory= of Docker)";
    let (at_most, there_is) = (bytes(most), bytes(usable));
    if most > usable {
        let found =
            format!("--max-memory is {at_most}, and host or cgroup has {there_is}: the kernel ends the broker first");
        Finding::fail("memory", found, remedy)
    } else if most > usable / 4 * 3 {
        let found = format!(
            "--max-memory is {at_most} of {there_is}, and sessions, retained messages and connections come on top"
        );
        Finding::warn("memory", found, remedy)
    } else {
        Finding::ok("memory", format!("{at_most} of {there_is} for queues and outputs"))
    }
}

/// Binds each address, and lets it go; all are held until the last is tried, as in the broker.
fn listeners(config: &Config) -> Vec<Finding> {
    let mut bound = Vec::new();
    let mut findings = Vec::new();
    for listener in &config.listeners {
        findings.push(match preflight::bind_listener(&listener.address, listener.tcp) {
            Ok(socket) => {
                bound.push(socket);
                Finding::ok("listener", format!("{} is free", listener.address))
            }
            Err(error) => refused("listener", &error),
        });
    }
    findings.extend(config.admin_listen.map(|address| match preflight::bind_admin(address) {
        Ok(_) => Finding::ok("admin", format!("{address} is free")),
        Err(error) => refused("admin", &error),
    }));
    findings
}

/// The kernel's queues of those who connect at the same moment.
fn queues(config: &Config) -> Vec<Finding> {
    let wanted = u64::from(BACKLOG.unsigned_abs()).min(config.connections_max as u64);
    let settings = [
        ("somaxconn", "net/core/somaxconn", "net.core.somaxconn"),
        (
            "syn backlog",
            "net/ipv4/tcp_max_syn_backlog",
            "net.ipv4.tcp_max_syn_backlog",
        ),
    ];
    let finding = |(check, file, name)| {
        let length = number(file)?;
        Some(queue(check, name, length, wanted))
    };
    settings.into_iter().filter_map(finding).collect()
}

fn queue(check: &'static str, name: &str, length: u64, wanted: u64) -> Finding {
    if length >= wanted {
        return Finding::ok(check, format!("{name} is {length}"));
    }
    Finding::warn(
        check,
        format!("{name} is {length}: of a fleet that connects at once, those beyond wait for a retry"),
        format!("sysctl {name}={wanted}"),
    )
}

/// Passwords, lists and certificates, as the broker would read them.
fn files(config: &Config) -> Finding {
    match Secrets::load(config) {
        Ok(_) => Finding::ok("files", "those that the settings name can be used"),
        Err(error) => Finding::fail("files", error.to_string(), "put the file right; ringmq check says more"),
    }
}

/// The first number of a setting under `/proc/sys`. None where the kernel does not show it, as in some containers.
fn number(file: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/sys/{file}")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// The first with polls that report again and again.
const KERNEL_MIN: (u32, u32) = (5, 13);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_fails_unless_its_ring_works() {
        for (release, works, verdict) in [
            ("5.13.0", true, Verdict::Ok),
            ("6.1.0-18-amd64", true, Verdict::Ok),
            ("5.13-rc1", true, Verdict::Ok),
            ("5.12.19", false, Verdict::Fail),
            ("4.18.0-553.el8", false, Verdict::Fail),
            ("5.9.0", true, Verdict::Warn),
            ("strange", true, Verdict::Warn),
        ] {
            assert_eq!(kernel(release, works).verdict, verdict, "{release}");
        }
    }

    #[test]
    fn what_is_short_warns_and_says_how_much_is_needed() {
        for (short, enough, needed) in [
            (nr_open(999, 1_000), nr_open(1_000, 1_000), "fs.nr_open=1000"),
            (cores(3, &[0, 1]), cores(2, &[0, 1]), "--shards 2"),
            (cpu_quota(1.5, 2), cpu_quota(2.0, 2), "--shards 1"),
            (cpu_quota(0.5, 1), cpu_quota(1.0, 1), "--shards 1"),
            (
                queue("q", "net.q", 128, 4_096),
                queue("q", "net.q", 4_096, 4_096),
                "net.q=4096",
            ),
            (memory(80, Some(100)), memory(75, Some(100)), "--max-memory"),
        ] {
            assert_eq!(enough.verdict, Verdict::Ok, "{enough:?}");
            assert_eq!(enough.remedy, None);
            assert_eq!(short.verdict, Verdict::Warn, "{short:?}");
            assert!(short.remedy.as_ref().unwrap().contains(needed), "{short:?}");
        }
    }

    #[test]
    fn more_memory_than_there_is_fails() {
        assert_eq!(memory(101, Some(100)).verdict, Verdict::Fail);
        assert_eq!(memory(usize::MAX, None).verdict, Verdict::Ok);
    }
}
