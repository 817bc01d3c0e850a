//! A shard's own ring: it says which descriptors have something, and the shard sleeps in it.
//!
//! A descriptor is registered once, for as long as it is open (a *multishot* poll, Linux 5.13), and each time
//! something arrives there is a completion: no registration per message, no memory of this process per connection. Reports
//! are edges: a reader that was told must read until a read comes back short, and remembers if it did not.
//!
//! The only unsafe code of the process is here. What is put into the ring are polls and their cancellations: neither
//! carries a pointer, so nothing has to outlive its entry. A poll keeps its file open in the kernel until it is
//! cancelled, whether the descriptor is closed or not; entries are submitted in the order in which they were put in, so
//! a cancellation always finds the poll that came before it, also where the descriptor's number was given away again
//! meanwhile.
#![expect(
    unsafe_code,
    reason = "entries for the ring are pushed by an unsafe function; see above"
)]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use ringmq_shard::shard::ConnId;
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::doorbell::Doorbell;

/// One shard's ring. Made and used on the shard's thread only.
pub(crate) struct Ring {
    ring: IoUring,
    /// Entries that did not fit into the ring's queue, in order; empty almost always.
    backlog: VecDeque<squeue::Entry>,
    /// Rung by other threads: it ends a sleep.
    bell: Arc<Doorbell>,
}

/// What a registration is for; travels through the kernel with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Watch {
    /// A connection has something to read, or ended.
    Readable {
        conn: ConnId,
        /// Tells a connection from an earlier one with the same number.
        generation: u32,
    },
    /// A connection has room to write, or ended.
    Writable { conn: ConnId, generation: u32 },
    /// A listening socket has connections.
    Listener(u32),
}

/// A registration was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Fired {
    pub(crate) watch: Watch,
    /// The other side ended, or the socket failed: no further report may come for it.
    pub(crate) hung_up: bool,
    /// The registration is spent.
    pub(crate) last: bool,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("backlog", &self.backlog.len())
            .finish_non_exhaustive()
    }
}

impl Ring {
    /// # Errors
    /// No memory, or the process may not: see `preflight`.
    pub(crate) fn new(bell: Arc<Doorbell>) -> io::Result<Ring> {
        let mut ring = Ring {
            ring: build()?,
            backlog: VecDeque::new(),
            bell,
        };
        ring.watch_bell();
        Ok(ring)
    }

    /// Reports each time that something arrives at a socket, until [`forget`](Self::forget).
    pub(crate) fn watch_readable(&mut self, socket: BorrowedFd<'_>, watch: Watch) {
        let events = PollFlags::IN | PollFlags::RDHUP;
        self.push(poll(socket, events, true, pack(watch)));
    }

    /// Reports once, when the socket has room.
    pub(crate) fn watch_writable(&mut self, socket: BorrowedFd<'_>, watch: Watch) {
        self.push(poll(socket, PollFlags::OUT, false, pack(watch)));
    }

    /// Takes a registration back; one that is spent already is no error. Reports of it may still come.
    pub(crate) fn forget(&mut self, watch: Watch) {
        // Not a removal of the poll: the kernel refuses that while a report of it is on its way.
        let entry = opcode::AsyncCancel::new(pack(watch)).build().user_data(IGNORED);
        self.push(entry);
    }

    /// Adds to `fired` what has been answered. Does not wait.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub(crate) fn look(&mut self, fired: &mut Vec<Fired>) -> io::Result<()> {
        for _ in 0..LOOKS_MAX {
            if !self.has_something_to_say() && self.backlog.is_empty() {
                break;
            }
            self.enter(|ring| ring.submitter().submit())?;
        }
        self.take(fired);
        Ok(())
    }

    /// Waits until something is answered or the bell rings, for at most `timeout`, and adds the answers to `fired`.
    ///
    /// # Errors
    /// The kernel refuses the ring for good. A lack of memory is no error: what could not be submitted waits.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>, fired: &mut Vec<Fired>) -> io::Result<()> {
        if !self.backlog.is_empty() {
            return self.look(fired);
        }
        self.enter(|ring| match timeout {
            None => ring.submit_and_wait(1),
            Some(timeout) => {
                let timeout = Timespec::from(timeout);
                ring.submitter()
                    .submit_with_args(1, &SubmitArgs::new().timespec(&timeout))
            }
        })?;
        self.take(fired);
        Ok(())
    }

    /// Entries to submit, or answers that the kernel keeps until it is entered.
    fn has_something_to_say(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    fn enter(&mut self, enter: impl FnOnce(&IoUring) -> io::Result<usize>) -> io::Result<()> {
        let entered = enter(&self.ring);
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                break;
            }
        }
        let Err(error) = entered else { return Ok(()) };
        match Errno::from_io_error(&error) {
            // Time is over; a signal; answers must be taken first.
            Some(Errno::TIME | Errno::INTR | Errno::BUSY) => Ok(()),
            Some(Errno::AGAIN | Errno::NOMEM | Errno::NOBUFS) => {
                std::thread::sleep(MEMORY_PAUSE);
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn take(&mut self, fired: &mut Vec<Fired>) {
        let mut bell_is_spent = false;
        for answer in self.ring.completion() {
            let last = !cqueue::more(answer.flags());
            match answer.user_data() {
                IGNORED => {}
                BELL => bell_is_spent |= last,
                data => {
                    let ended = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
                    let events = u32::try_from(answer.result()).ok();
                    fired.push(Fired {
                        watch: unpack(data),
                        // A registration that failed: the next read or write says why.
                        hung_up: events.is_none_or(|events| events & u32::from(ended.bits()) != 0),
                        last,
                    });
                }
            }
        }
        if bell_is_spent {
            self.watch_bell();
        }
    }

    /// Rings add to the bell's counter, and nobody takes from it: each addition is an edge.
    fn watch_bell(&mut self) {
        let entry = poll(self.bell.descriptor().as_fd(), PollFlags::IN, true, BELL);
        self.push(entry);
    }

    fn push(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() || !self.try_push(&entry) {
            self.backlog.push_back(entry);
        }
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the entry is a poll or the cancellation of one; it points to nothing.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }
}

fn poll(descriptor: BorrowedFd<'_>, events: PollFlags, multi: bool, data: u64) -> squeue::Entry {
    opcode::PollAdd::new(Fd(descriptor.as_raw_fd()), u32::from(events.bits()))
        .multi(multi)
        .build()
        .user_data(data)
}

/// With completions deferred until this thread asks for them, where the kernel can (6.1): nothing interrupts a turn.
fn build() -> io::Result<IoUring> {
    let deferred = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_cqsize(COMPLETIONS)
        .build(SUBMISSIONS);
    match deferred {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
            IoUring::builder().setup_cqsize(COMPLETIONS).build(SUBMISSIONS)
        }
        built => built,
    }
}

/// Makes a ring as the shards do and lets it go. False: the kernel is too old for it.
///
/// # Errors
/// There is no ring to be had.
pub(crate) fn try_out() -> io::Result<bool> {
    let parameters = build()?;
    let parameters = parameters.params();
    // The mark of 5.13, as multishot polls have none of their own.
    Ok(parameters.is_feature_resource_tagging() && parameters.is_feature_ext_arg())
}

/// ```text
/// 63    62 61                        32 31           0
/// [ kind ][ generation, modulo 2^30   ][ number       ]
/// ```
fn pack(watch: Watch) -> u64 {
    let (kind, generation, number) = match watch {
        Watch::Readable { conn, generation } => (0, generation, conn.0),
        Watch::Writable { conn, generation } => (1, generation, conn.0),
        Watch::Listener(number) => (2, 0, number),
    };
    kind << 62 | u64::from(generation & GENERATION_MAX) << 32 | u64::from(number)
}

fn unpack(data: u64) -> Watch {
    let conn = ConnId(data as u32);
    let generation = (data >> 32) as u32 & GENERATION_MAX;
    match data >> 62 {
        0 => Watch::Readable { conn, generation },
        1 => Watch::Writable { conn, generation },
        _ => Watch::Listener(conn.0),
    }
}

/// Generations go round after this one.
pub(crate) const GENERATION_MAX: u32 = (1 << 30) - 1;
/// The answer to a cancellation: the poll's own answer says all.
const IGNORED: u64 = u64::MAX;
const BELL: u64 = u64::MAX - 1;
/// Entries on their way into the kernel. Each turn submits what it made, so this bounds nothing but memory.
const SUBMISSIONS: u32 = 256;
/// Times that one look enters the kernel: it hands out twenty deferred answers each time.
const LOOKS_MAX: usize = 8;
/// Answers on their way out. More of them wait in the kernel's memory; the kernel also sizes the table in which a cancellation
/// finds its poll by this, and 8,192 gives it the largest one (256 chains).
const COMPLETIONS: u32 = 8192;
/// After the kernel had no memory for an entry.
const MEMORY_PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    use super::*;

    const READ: Watch = Watch::Readable {
        conn: ConnId(7),
        generation: 3,
    };
    const WRITE: Watch = Watch::Writable {
        conn: ConnId(7),
        generation: 3,
    };

    fn ring() -> Ring {
        Ring::new(Arc::new(Doorbell::new().unwrap())).unwrap()
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn wait(ring: &mut Ring, timeout: Duration) -> Vec<Fired> {
        let mut fired = Vec::new();
        ring.wait(Some(timeout), &mut fired).unwrap();
        fired
    }

    const LONG: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn watches_survive_packing() {
        for watch in [
            READ,
            WRITE,
            Watch::Listener(5),
            Watch::Readable {
                conn: ConnId(u32::MAX),
                generation: GENERATION_MAX,
            },
        ] {
            assert_eq!(unpack(pack(watch)), watch);
            assert!(![IGNORED, BELL].contains(&pack(watch)));
        }
    }

    #[test]
    fn one_registration_reports_every_arrival_and_the_end() {
        let (mut client, mut server) = pair();
        let mut ring = ring();
        ring.watch_readable(server.as_fd(), READ);
        assert_eq!(wait(&mut ring, SHORT), []);
        for _ in 0..3 {
            client.write_all(b"x").unwrap();
            let fired = wait(&mut ring, LONG);
            assert_eq!(fired.len(), 1);
            assert_eq!((fired[0].watch, fired[0].hung_up, fired[0].last), (READ, false, false));
            assert_eq!(server.read(&mut [0; 8]).unwrap(), 1);
        }
        drop(client);
        assert!(wait(&mut ring, LONG).iter().any(|fired| fired.hung_up));
    }

    #[test]
    fn what_was_there_before_the_registration_is_reported() {
        let (mut client, server) = pair();
        client.write_all(b"x").unwrap();
        // Until it has arrived.
        server.peek(&mut [0; 1]).unwrap();
        let mut ring = ring();
        ring.watch_readable(server.as_fd(), READ);
        assert_eq!(wait(&mut ring, LONG)[0].watch, READ);
    }

    #[test]
    fn room_is_reported_once() {
        let (_client, server) = pair();
        let mut ring = ring();
        ring.watch_writable(server.as_fd(), WRITE);
        let fired = wait(&mut ring, LONG);
        assert_eq!((fired[0].watch, fired[0].last), (WRITE, true));
        assert_eq!(wait(&mut ring, SHORT), []);
    }

    #[test]
    fn a_forgotten_socket_ends_when_it_is_closed() {
        let (mut client, server) = pair();
        let mut ring = ring();
        ring.watch_readable(server.as_fd(), READ);
        assert_eq!(wait(&mut ring, SHORT), []);
        ring.forget(READ);
        drop(server);
        wait(&mut ring, SHORT);
        client.set_read_timeout(Some(LONG)).unwrap();
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "the ring keeps the socket open");
    }

    #[test]
    fn more_registrations_than_fit_are_made_in_order() {
        let sockets: Vec<_> = (0..SUBMISSIONS * 2 + 9).map(|_| pair()).collect();
        let mut ring = ring();
        let watch = |n: usize| Watch::Readable {
            conn: ConnId(n as u32),
            generation: 1,
        };
        for (n, (_, server)) in sockets.iter().enumerate() {
            ring.watch_readable(server.as_fd(), watch(n));
        }
        for n in 1..sockets.len() {
            ring.forget(watch(n));
        }
        for (client, _) in &sockets {
            (&mut &*client).write_all(b"x").unwrap();
        }
        let mut alive = Vec::new();
        loop {
            let begun = Instant::now();
            let fired = wait(&mut ring, SHORT);
            if fired.is_empty() && begun.elapsed() >= SHORT {
                break;
            }
            alive.extend(fired.into_iter().filter(|fired| !fired.last).map(|fired| fired.watch));
        }
        assert!(alive.contains(&watch(0)));
        // All were forgotten: what comes from here on reaches nobody but the first.
        for (client, server) in &sockets {
            (&mut &*server).read_exact(&mut [0; 1]).unwrap();
            (&mut &*client).write_all(b"x").unwrap();
        }
        let fired = wait(&mut ring, LONG);
        assert_eq!(fired.iter().map(|fired| fired.watch).collect::<Vec<_>>(), [watch(0)]);
    }

    #[test]
    fn the_bell_ends_a_sleep_each_time() {
        let mut ring = ring();
        for _ in 0..3 {
            ring.bell.about_to_sleep();
            let bell = Arc::clone(&ring.bell);
            let ringer = std::thread::spawn(move || bell.ring());
            ring.wait(Some(LONG), &mut Vec::new()).unwrap();
            ringer.join().unwrap();
            assert!(!ring.bell.is_armed());
        }
    }
}
