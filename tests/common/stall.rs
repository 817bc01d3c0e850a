//! A thread of the broker that stands still: what a shard looks like that is stuck, or whose core was taken away.

use std::fs;

use super::broker::Broker;

/// Holds one thread of another process until it is dropped, on the thread that made it.
#[derive(Debug)]
pub struct Stall(libc::pid_t);

impl Broker {
    /// Stops the thread of this shard, and no other.
    pub fn stall(&self, shard: u16) -> Stall {
        Stall::shard(self.pid(), shard)
    }
}

impl Stall {
    /// Stops the thread of a shard of the broker with that process identifier.
    pub fn shard(process: u32, shard: u16) -> Stall {
        let name = format!("ringmq-shard-{shard}");
        let threads = fs::read_dir(format!("/proc/{process}/task")).expect("the process runs");
        let thread = threads
            .filter_map(Result::ok)
            .find(|thread| fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim() == name))
            .expect("each shard has a thread of that name");
        let thread = thread
            .file_name()
            .to_str()
            .and_then(|id| id.parse().ok())
            .expect("a number");
        ptrace(libc::PTRACE_SEIZE, thread);
        ptrace(libc::PTRACE_INTERRUPT, thread);
        // SAFETY: waits for a thread that is traced by this one; the status is not asked for.
        let stopped = unsafe { libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL) };
        assert_eq!(stopped, thread, "{}", std::io::Error::last_os_error());
        Stall(thread)
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        ptrace(libc::PTRACE_DETACH, self.0);
    }
}

fn ptrace(request: libc::c_uint, thread: libc::pid_t) {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: none of these requests reads or writes memory of this process.
    let result = unsafe { libc::ptrace(request, thread, none, none) };
    let error = std::io::Error::last_os_error();
    assert_eq!(result, 0, "ptrace, which a parent may use on its child: {error}");
}
