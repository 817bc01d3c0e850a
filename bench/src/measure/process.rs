//! CPU time and memory of a process, all its threads together.

use std::fs;
use std::ops::Sub;

/// CPU time, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cpu {
    pub(crate) user_s: f64,
    pub(crate) system_s: f64,
}

/// Memory, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    /// The highest that `resident` has been.
    pub(crate) peak: u64,
}

/// The unit of `utime` and `stime`: USER_HZ, which Linux fixes at 100 for every process it shows them to.
const TICKS_PER_SECOND: f64 = 100.0;

impl Cpu {
    pub(crate) fn total_s(self) -> f64 {
        self.user_s + self.system_s
    }
}

impl Sub for Cpu {
    type Output = Cpu;

    fn sub(self, earlier: Cpu) -> Cpu {
        Cpu {
            user_s: self.user_s - earlier.user_s,
            system_s: self.system_s - earlier.system_s,
        }
    }
}

/// CPU time of process `pid` since it started, threads that have ended included; in steps of 10 ms.
pub(crate) fn cpu(pid: u32) -> Option<Cpu> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// CPU time of one thread of this process.
pub(crate) fn thread_cpu(tid: u32) -> Option<Cpu> {
    parse_stat(&fs::read_to_string(format!("/proc/self/task/{tid}/stat")).ok()?)
}

/// Memory of process `pid`. The resident size is walked where the system permits it, since the counter beside it is
/// kept per CPU and may be off by hundreds of kilobytes.
pub(crate) fn memory(pid: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let walked = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    let resident = walked
        .and_then(|text| kilobytes(&text, "Rss:"))
        .or_else(|| kilobytes(&status, "VmRSS:"))?;
    Some(Memory {
        resident,
        peak: kilobytes(&status, "VmHWM:")?.max(resident),
    })
}

/// The processor's name, for the report.
pub(crate) fn core_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// `utime` and `stime`, fields 14 and 15; the name in field 2 may hold spaces and brackets, so count from its end.
fn parse_stat(stat: &str) -> Option<Cpu> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut seconds = || Some(fields.next()?.parse::<u64>().ok()? as f64 / TICKS_PER_SECOND);
    Some(Cpu {
        user_s: seconds()?,
        system_s: seconds()?,
    })
}

/// The value of a line such as `VmRSS:     1234 kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line[name.len()..]
        .split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_an_awkward_name() {
        let stat = "42 (a ) name) S 1 42 42 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 1 0 7 8 9";
        assert_eq!(
            parse_stat(stat),
            Some(Cpu {
                user_s: 1.5,
                system_s: 0.25
            })
        );
    }

    #[test]
    fn kilobyte_lines_are_bytes() {
        assert_eq!(
            kilobytes("VmPeak:\t 9 kB\nVmRSS:\t  12 kB\n", "VmRSS:"),
            Some(12 * 1024)
        );
        assert_eq!(kilobytes("VmPeak:\t 9 kB\n", "VmRSS:"), None);
    }

    #[test]
    fn this_process_has_a_cost() {
        let pid = std::process::id();
        assert!(memory(pid).unwrap().resident > 0);
        assert!(cpu(pid).is_some());
        assert!(memory(u32::MAX).is_none());
    }
}
