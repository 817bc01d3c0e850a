//! What the host must grant, found out before anything is built on it.
//!
//! Each refusal is one line: what is missing, why, and the remedy. The process then ends with exit code
//! [`EXIT_CONFIG`].

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;

use crate::admin;
use crate::config::{Config, ListenAddress, TcpOptions};
use crate::listener::{ListenSocket, bind_tcp};
use crate::runtime::ring;

/// The exit code of a host or configuration that the broker cannot run with (EX_CONFIG of sysexits.h).
pub const EXIT_CONFIG: u8 = 78;

/// What was found, and the sockets that are bound.
#[derive(Debug)]
pub struct Host {
    pub(crate) listeners: Vec<ListenSocket>,
    /// Where operators ask.
    pub(crate) admin: Option<TcpListener>,
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// Locked memory that the process may have, in bytes; `None`: no limit.
    pub(crate) memlock: Option<u64>,
    /// Descriptors that the process may have; `None`: no limit.
    pub(crate) descriptors: Option<u64>,
}

/// Why the broker cannot run here.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// `io_uring_setup` is refused.
    #[error(
        "io_uring is not permitted: {cause}. Remedy: {remedy}",
        cause = why_not_permitted(),
        remedy = "set kernel.io_uring_disabled to 0, or run the container with a seccomp profile that allows \
                  io_uring_setup, io_uring_enter and io_uring_register"
    )]
    RingNotPermitted,
    /// There is no `io_uring_setup`.
    #[error("this kernel has no io_uring. Remedy: run on Linux 5.13 or later; gVisor and similar sandboxes have none")]
    NoRing,
    /// There is an io_uring without what the broker needs of it: polls that report again and again.
    #[error("this kernel's io_uring is too old. Remedy: run on Linux 5.13 or later")]
    KernelTooOld,
    /// `io_uring_setup` found no memory.
    #[error(
        "no memory for an io_uring: the limit of locked memory is {memlock}. Remedy: raise it (ulimit -l, \
         LimitMEMLOCK= of systemd, --ulimit memlock= of Docker) to {needed} KiB or more"
    )]
    NoRingMemory {
        /// The limit in force, as text.
        memlock: String,
        /// KiB that this configuration needs.
        needed: u64,
    },
    /// The ring failed for another reason.
    #[error("io_uring cannot be set up: {0}. Remedy: none known; please report the kernel and this line")]
    Ring(io::Error),
    /// Too little locked memory for any ring.
    #[error(
        "locked memory is limited to {got} KiB, and {needed} KiB are needed for the rings. Remedy: raise the limit \
         (ulimit -l, LimitMEMLOCK= of systemd, --ulimit memlock= of Docker)"
    )]
    Memlock {
        /// KiB granted.
        got: u64,
        /// KiB needed.
        needed: u64,
    },
    /// Too few descriptors to start.
    #[error(
        "the process may open {got} descriptors, and {needed} are needed before the first client. Remedy: raise the \
         limit (ulimit -n, LimitNOFILE= of systemd, --ulimit nofile= of Docker)"
    )]
    Descriptors {
        /// Granted.
        got: u64,
        /// Needed.
        needed: u64,
    },
    /// Another process listens there.
    #[error(
        "{0} is taken: another process listens there. Remedy: stop it (ss -ltnp shows it), or choose another --listen"
    )]
    PortTaken(ListenAddress),
    /// None of this host's addresses.
    #[error("{0} is no address of this host. Remedy: choose another --listen (ip address shows what there is)")]
    NotOurAddress(ListenAddress),
    /// A port under 1024.
    #[error("{0} needs a privilege. Remedy: choose a port from 1024 up, or grant CAP_NET_BIND_SERVICE")]
    PortPrivileged(ListenAddress),
    /// Binding failed for another reason.
    #[error("cannot listen on {address}: {source}. Remedy: choose another --listen")]
    Listen {
        /// Where.
        address: ListenAddress,
        /// What the system said.
        source: io::Error,
    },
    /// A shard's executor could not be made.
    #[error("shard {shard} cannot start: {cause}. Remedy: fewer --shards, or more locked memory and descriptors")]
    Shard {
        /// Which.
        shard: u16,
        /// What the runtime said.
        cause: String,
    },
    /// No thread, or no descriptor, for a part of the process itself.
    #[error("the process cannot start: {0}. Remedy: raise the limits of threads and descriptors")]
    Process(#[from] io::Error),
}

impl PreflightError {
    /// What is missing, and what to do about it.
    pub(crate) fn parts(&self) -> (String, String) {
        let line = self.to_string();
        let (found, remedy) = line
            .split_once(REMEDY)
            .expect("each message has a remedy, as a test shows");
        (found.to_owned(), remedy.to_owned())
    }
}

/// Raises the process's limits as far as it may, and checks what the rings and the listeners need.
///
/// # Errors
/// [`PreflightError`]: the first thing that is missing.
pub fn check(config: &Config) -> Result<Host, PreflightError> {
    let memlock = raise_memlock()?;
    let descriptors = raise_descriptors(config)?;
    try_ring(config, memlock)?;
    Ok(Host {
        listeners: config
            .listeners
            .iter()
            .map(|listener| bind_listener(&listener.address, listener.tcp))
            .collect::<Result<_, _>>()?,
        admin: config.admin_listen.map(bind_admin).transpose()?,
        kernel: kernel(),
        memlock,
        descriptors,
    })
}

/// Release of the kernel.
pub(crate) fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The limit of locked memory in bytes, raised as far as it may be; `None`: there is none.
pub(crate) fn raise_memlock() -> Result<Option<u64>, PreflightError> {
    let memlock = raise(Resource::Memlock);
    match memlock.filter(|&limit| limit < MEMLOCK_MIN) {
        None => Ok(memlock),
        Some(got) => Err(PreflightError::Memlock {
            got: got / 1024,
            needed: MEMLOCK_MIN / 1024,
        }),
    }
}

/// The limit of descriptors, raised as far as it may be; `None`: there is none.
pub(crate) fn raise_descriptors(config: &Config) -> Result<Option<u64>, PreflightError> {
    let (descriptors, needed) = (raise(Resource::Nofile), descriptors_needed(config));
    match descriptors.filter(|&limit| limit < needed) {
        None => Ok(descriptors),
        Some(got) => Err(PreflightError::Descriptors { got, needed }),
    }
}

/// Descriptors that are open before the first client comes, and those that operators may take.
pub(crate) fn descriptors_needed(config: &Config) -> u64 {
    let (shards, listeners) = (config.shards.len() as u64, config.listeners.len() as u64);
    let admin = config.admin_listen.map_or(0, |_| admin::DESCRIPTORS);
    // A connection, and the look-up of a name.
    let service = config
        .auth_http
        .as_ref()
        .map_or(0, |service| 2 * u64::from(service.threads));
    DESCRIPTORS_BASE + DESCRIPTORS_PER_SHARD * shards + listeners + admin + service
}

/// Raises the soft limit to the hard one; returns what is in force. Not being allowed to is no error: what counts is
/// what there is.
fn raise(resource: Resource) -> Option<u64> {
    let limit = getrlimit(resource);
    if limit.current != limit.maximum {
        let raised = setrlimit(
            resource,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        );
        if raised.is_ok() {
            return limit.maximum;
        }
    }
    limit.current
}

/// Makes a ring of the size that the shards use, and lets it go.
pub(crate) fn try_ring(config: &Config, memlock: Option<u64>) -> Result<(), PreflightError> {
    let error = match ring::try_out() {
        Ok(true) => return Ok(()),
        Ok(false) => return Err(PreflightError::KernelTooOld),
        Err(error) => error,
    };
    Err(match Errno::from_io_error(&error) {
        Some(Errno::PERM | Errno::ACCESS) => PreflightError::RingNotPermitted,
        Some(Errno::NOSYS) => PreflightError::NoRing,
        Some(Errno::NOMEM) => PreflightError::NoRingMemory {
            memlock: memlock.map_or("none".into(), |bytes| format!("{} KiB", bytes / 1024)),
            needed: (MEMLOCK_PER_SHARD * config.shards.len() as u64).max(MEMLOCK_MIN) / 1024,
        },
        _ => PreflightError::Ring(error),
    })
}

/// `kernel.io_uring_disabled`: `0`, `1`, `2`, or nothing where the kernel has no such setting.
pub(crate) fn ring_disabled() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    text.trim().to_owned()
}

fn why_not_permitted() -> &'static str {
    match ring_disabled().as_str() {
        "1" => "kernel.io_uring_disabled is 1, which leaves it to privileged processes",
        "2" => "kernel.io_uring_disabled is 2, which turns it off for everyone",
        _ => "a seccomp or security policy forbids io_uring_setup, as many container runtimes do by default",
    }
}

pub(crate) fn bind_listener(address: &ListenAddress, tcp: TcpOptions) -> Result<ListenSocket, PreflightError> {
    patiently(|| ListenSocket::bind(address, tcp)).map_err(|source| refusal(address, source))
}

pub(crate) fn bind_admin(address: SocketAddr) -> Result<TcpListener, PreflightError> {
    patiently(|| bind_tcp(address)).map_err(|source| refusal(&address.into(), source))
}

/// Binds again for a while where somebody else is about to be gone.
fn patiently<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let until = Instant::now() + REBIND_TIME;
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                thread::sleep(REBIND_PAUSE);
            }
            bound => return bound,
        }
    }
}

fn refusal(address: &ListenAddress, source: io::Error) -> PreflightError {
    let is_port = matches!(address, ListenAddress::Tcp(_));
    let address = address.clone();
    match source.kind() {
        io::ErrorKind::AddrInUse => PreflightError::PortTaken(address),
        io::ErrorKind::AddrNotAvailable => PreflightError::NotOurAddress(address),
        io::ErrorKind::PermissionDenied if is_port => PreflightError::PortPrivileged(address),
        _ => PreflightError::Listen { address, source },
    }
}

/// Stands between both parts of every message.
const REMEDY: &str = ". Remedy: ";
/// A broker that was killed leaves its port taken for some 10 ms after its end, while the kernel takes its rings apart.
const REBIND_TIME: Duration = Duration::from_millis(500);
/// Between two attempts.
const REBIND_PAUSE: Duration = Duration::from_millis(5);
/// Below this the runtime refuses to make a ring.
const MEMLOCK_MIN: u64 = 512 * 1024;
/// Kernels before 5.12 count the rings themselves as locked memory, later ones only the registered buffers.
pub(crate) const MEMLOCK_PER_SHARD: u64 = 512 * 1024;
/// Standard streams, signals, and some to spare for what libraries open for a moment.
const DESCRIPTORS_BASE: u64 = 16;
/// The shard's ring, the executor's three, and three eventfds.
const DESCRIPTORS_PER_SHARD: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_with_a_remedy() {
        let address = || "127.0.0.1:1883".parse().unwrap();
        for error in [
            PreflightError::RingNotPermitted,
            PreflightError::NoRing,
            PreflightError::KernelTooOld,
            PreflightError::NoRingMemory {
                memlock: "64 KiB".into(),
                needed: 512,
            },
            PreflightError::Ring(Errno::IO.into()),
            PreflightError::Memlock { got: 64, needed: 512 },
            PreflightError::Descriptors { got: 16, needed: 40 },
            PreflightError::PortTaken(address()),
            PreflightError::NotOurAddress(address()),
            PreflightError::PortPrivileged(address()),
            PreflightError::Listen {
                address: address(),
                source: Errno::IO.into(),
            },
            PreflightError::Shard {
                shard: 3,
                cause: "no memory".into(),
            },
            PreflightError::Process(Errno::AGAIN.into()),
        ] {
            let line = error.to_string();
            assert!(line.matches(REMEDY).count() == 1 && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn addresses_that_cannot_be_bound_are_told_apart() {
        let taken = ListenSocket::bind(&"127.0.0.1:0".parse().unwrap(), TcpOptions::default()).unwrap();
        let address = taken.address();
        assert!(
            matches!(bind_listener(address, TcpOptions::default()), Err(PreflightError::PortTaken(it)) if it == *address)
        );
        let foreign = bind_listener(&"192.0.2.1:0".parse().unwrap(), TcpOptions::default());
        assert!(matches!(foreign, Err(PreflightError::NotOurAddress(_))), "{foreign:?}");
    }
}
