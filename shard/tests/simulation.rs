//! The deterministic simulator, on a fixed set of seeds. `scripts/simulate.sh` goes on from there.

use ringmq_shard::error::DropReason;
use ringmq_shard::simulation::{Counts, Run, run};

fn all_hold(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if let Err(failure) = run(&Run::of(seed)) {
            panic!(
                "seed {seed}: {}\nscripts/simulate.sh --seed {seed} --shrink",
                failure.what
            );
        }
    }
}

#[test]
fn every_promise_holds_on_seeds_from_0() {
    all_hold(0..2_000);
}

#[test]
fn every_promise_holds_on_seeds_from_2000() {
    all_hold(2_000..4_000);
}

#[test]
fn every_promise_holds_on_seeds_from_4000() {
    all_hold(4_000..6_000);
}

/// A failure can be looked at only if it comes again.
#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..50 {
        assert_eq!(run(&Run::of(seed)), run(&Run::of(seed)), "seed {seed}");
    }
}

/// Seeds in which nothing goes wrong would prove nothing.
#[test]
fn every_kind_of_fault_happens() {
    let mut counts = Counts::default();
    for seed in 0..300 {
        counts += &run(&Run::of(seed)).unwrap();
    }
    for (kind, count) in [
        ("cuts", counts.cuts),
        ("takeovers", counts.takeovers),
        ("moves", counts.moves),
        ("split packets", counts.split_packets),
        ("split turns", counts.split_turns),
        ("stalls", counts.stalls),
        ("lost acknowledgements", counts.lost_acknowledgements),
        ("store failures", counts.store_failures),
        ("slowed publishers", counts.slowed),
        ("restarts", counts.restarts),
        ("crashes", counts.crashes),
        ("lost batches", counts.lost_batches),
        ("forgotten records", counts.forgotten_records),
    ] {
        assert!(count > 0, "no {kind}");
    }
    let memory_full = DropReason::ALL
        .iter()
        .position(|reason| *reason == DropReason::MemoryFull);
    assert!(
        counts.drops[memory_full.unwrap()] > 0,
        "nothing is shed for want of memory"
    );
}

#[cfg(feature = "planted-faults")]
mod planted {
    use ringmq_shard::fault::Fault;
    use ringmq_shard::simulation::{Run, hunt, run, shrink};

    /// The simulator can fail: whatever the core does wrong here, some seed shows it.
    #[test]
    fn every_planted_fault_is_found() {
        for fault in Fault::ALL {
            assert!(hunt(*fault).is_some(), "{fault:?}: {}", fault.what());
        }
    }

    #[test]
    fn a_failing_run_gets_shorter_and_still_fails() {
        let (seeds, _) = hunt(Fault::DropDup).expect("it is found");
        Fault::DropDup.plant();
        let whole = Run::of(seeds - 1);
        let shrunk = shrink(&whole);
        assert!(run(&shrunk).is_err());
        assert!(shrunk.without.len() * 2 > whole.steps(), "{shrunk:?}");
        Fault::remove_all();
        assert!(run(&shrunk).is_ok(), "only the fault makes it fail");
    }
}
