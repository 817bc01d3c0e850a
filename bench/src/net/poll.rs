//! One epoll instance with a waker and a timer of nanosecond precision.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

/// Tokens of the descriptors that the poller itself owns; callers use smaller ones.
const WAKER: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// Most events taken per wait; enough that a wait never dominates, small enough to stay in the first-level cache.
const EVENTS_MAX: usize = 512;

/// One descriptor's state as of the last wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness {
    pub(crate) token: usize,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer has closed, or the connection failed: read until the end or the error shows.
    pub(crate) hung_up: bool,
}

/// An epoll instance of one thread.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    timer: OwnedFd,
    waker: Arc<OwnedFd>,
    ready: Vec<Readiness>,
}

/// Interrupts the wait of another thread's poller.
#[derive(Clone, Debug)]
pub(crate) struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Ends the current or the next wait. The counter would overflow after 2⁶⁴ calls; failure is of no consequence.
    pub(crate) fn wake(&self) {
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

impl Poller {
    /// # Errors
    /// The system's, where descriptors have run out.
    pub(crate) fn new() -> io::Result<Poller> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let waker = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        // Edge-triggered, so neither is ever read: each write and each expiry is an edge of its own.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &waker, epoll::EventData::new_u64(WAKER), flags)?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), flags)?;
        Ok(Poller {
            epoll,
            timer,
            waker: Arc::new(waker),
            ready: Vec::with_capacity(EVENTS_MAX),
        })
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.waker))
    }

    /// Registers `source` for both directions, edge-triggered, for as long as it is open.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn add(&self, source: impl AsFd, token: usize) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        Ok(epoll::add(
            &self.epoll,
            source,
            epoll::EventData::new_u64(token as u64),
            flags,
        )?)
    }

    /// Registers a listening socket, level-triggered: what one turn does not accept, the next one sees.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn add_listener(&self, source: impl AsFd, token: usize) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            source,
            epoll::EventData::new_u64(token as u64),
            epoll::EventFlags::IN,
        )?)
    }

    /// Waits for events, at most `timeout`. Below ten milliseconds the timer descriptor is used, since epoll's own
    /// timeout has a resolution of one millisecond.
    ///
    /// # Errors
    /// The system's; an interrupted wait is none.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let mut limit = timeout;
        if timeout > Duration::ZERO && timeout < Duration::from_millis(10) {
            let it_value = timespec(timeout);
            let once = Itimerspec {
                it_interval: timespec(Duration::ZERO),
                it_value,
            };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
            limit = Duration::from_millis(20);
        }
        self.ready.clear();
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS_MAX];
        match epoll::wait(&self.epoll, &mut events, Some(&timespec(limit))) {
            Ok((events, _)) => self.ready.extend(events.iter().filter_map(readiness)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The events of the last wait, without the poller's own.
    pub(crate) fn ready(&self) -> impl Iterator<Item = Readiness> {
        self.ready.iter().copied()
    }
}

/// `None` for the poller's own descriptors.
fn readiness(event: &epoll::Event) -> Option<Readiness> {
    let (flags, token) = (event.flags, event.data.u64());
    let broken = flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR);
    (token < TIMER).then_some(Readiness {
        token: token as usize,
        readable: broken || flags.intersects(epoll::EventFlags::IN),
        writable: broken || flags.intersects(epoll::EventFlags::OUT),
        hung_up: broken || flags.intersects(epoll::EventFlags::RDHUP),
    })
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs() as i64,
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
