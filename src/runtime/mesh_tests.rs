use std::os::fd::AsFd;
use std::sync::Barrier;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;

/// Sleeps as a shard does, and panics if nobody wakes it: then a wake-up was lost.
fn sleep(port: &mut Port<u64, ()>) {
    if port.may_sleep() {
        let timeout = Timespec { tv_sec: 5, tv_nsec: 0 };
        let bell = port.bell().descriptor().as_fd();
        let woken = poll(&mut [PollFd::from_borrowed_fd(bell, PollFlags::IN)], Some(&timeout)).unwrap();
        assert_eq!(woken, 1, "nobody woke the sleeper");
        // One that woke nobody may still be on its way from an earlier sleep.
        assert!(port.bell().descriptor().sounded() >= 1);
        port.bell().awake();
    }
}

impl<T, C> Port<T, C> {
    fn bell_is_armed(&self) -> bool {
        self.bell().is_armed()
    }
}

#[test]
fn batches_of_one_sender_keep_their_order() {
    let mesh = Mesh::<u64, ()>::new(2).unwrap();
    let (mut from, to) = (mesh.port(ShardId(0)), mesh.port(ShardId(1)));
    for n in 0..1_000 {
        from.send(ShardId(1), 1, n);
    }
    assert_eq!(to.depth(), 1_000);
    assert!((0..1_000).all(|n| to.receive() == Some(n)));
    assert_eq!((to.receive(), to.depth()), (None, 0));
}

#[test]
fn control_messages_are_seen_once_and_keep_a_shard_awake() {
    let mesh = Mesh::<u64, u8>::new(1).unwrap();
    let mut port = mesh.port(ShardId(0));
    assert_eq!(port.receive_control(), None);
    mesh.control(ShardId(0), 1);
    mesh.control(ShardId(0), 2);
    assert!(!port.may_sleep());
    assert_eq!(port.receive_control(), Some(1));
    assert!(!port.may_sleep());
    assert_eq!(port.receive_control(), Some(2));
    assert_eq!(port.receive_control(), None);
    assert!(port.may_sleep());
}

#[test]
fn reading_stops_over_the_high_mark_and_goes_on_under_the_low_one() {
    let mesh = Mesh::<u64, ()>::new(2).unwrap();
    let (mut from, to) = (mesh.port(ShardId(0)), mesh.port(ShardId(1)));
    from.send(ShardId(1), INBOX_HIGH_MARK - INBOX_LOW_MARK, 0);
    assert!(from.may_read());
    from.send(ShardId(1), INBOX_LOW_MARK, 1);
    assert!(from.may_read());
    from.send(ShardId(1), 1, 2);
    assert!(!from.may_read());
    assert!(from.may_sleep());
    to.receive();
    assert!(!from.may_read(), "{} entries are over the low mark", to.depth());
    to.receive();
    assert!(from.may_read());
    assert!(!from.bell_is_armed(), "the owner wakes whom its inbox blocked");
}

#[test]
fn no_wake_up_is_lost_between_many_senders_and_a_sleeper() {
    const SENDERS: u16 = 3;
    const BATCHES: u64 = 60_000;
    let mesh = Mesh::<u64, ()>::new(usize::from(SENDERS) + 1).unwrap();
    let start = Arc::new(Barrier::new(usize::from(SENDERS) + 1));
    thread::scope(|scope| {
        for sender in 1..=SENDERS {
            let (mut port, start) = (mesh.port(ShardId(sender)), Arc::clone(&start));
            scope.spawn(move || {
                start.wait();
                for n in 0..BATCHES {
                    port.send(ShardId(0), 1, n);
                    // Pauses of many lengths, so that the receiver is met in every stage of falling asleep.
                    for _ in 0..(n % 97) * (n % 3) {
                        std::hint::spin_loop();
                    }
                }
            });
        }
        let mut port = mesh.port(ShardId(0));
        start.wait();
        let mut received = 0;
        while received < BATCHES * u64::from(SENDERS) {
            match port.receive() {
                Some(_) => received += 1,
                None => sleep(&mut port),
            }
        }
        assert_eq!(port.depth(), 0);
    });
}

#[test]
fn shards_that_flood_each_other_never_wait_for_each_other() {
    const BATCHES: u64 = 20_000;
    const ENTRIES: usize = INBOX_HIGH_MARK / 8;
    let mesh = Mesh::<u64, ()>::new(2).unwrap();
    thread::scope(|scope| {
        for id in [ShardId(0), ShardId(1)] {
            let mut port = mesh.port(id);
            scope.spawn(move || {
                let peer = ShardId(1 - id.0);
                let (mut sent, mut received) = (0, 0);
                while sent < BATCHES || received < BATCHES {
                    let mut worked = false;
                    while let Some(n) = port.receive() {
                        assert_eq!(n, received);
                        received += 1;
                        worked = true;
                    }
                    if sent < BATCHES && port.may_read() {
                        port.send(peer, ENTRIES, sent);
                        sent += 1;
                        worked = true;
                    }
                    if !worked {
                        sleep(&mut port);
                    }
                }
            });
        }
    });
}
