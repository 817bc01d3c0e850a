//! What the trie costs: nanoseconds per insertion, match and removal, allocations per match, and bytes per filter.
//!
//! `cargo bench -p ringmq-shard --bench trie` measures 100 000 and 1 000 000 filters; `-- --test`, and `cargo test`, run
//! the same with 2 000, to see that it works. Numbers are for comparing two runs on one machine.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ringmq_shard::topic::{MatchScratch, TopicFilter, TopicLimits, TopicName, TopicTrie};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let sizes: &[usize] = if has("--bench") && !has("--test") {
        &[100_000, 1_000_000]
    } else {
        &[2_000]
    };

    println!(
        "{:<30}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
        "filters", "insert", "hit", "miss", "matches", "remove", "bytes"
    );
    for size in sizes {
        measure_set("exact", &exact(*size), "sensors/site-7/none");
        measure_set("ends in +", &ends_in_plus(*size), "sensors/site-7/none/x");
        measure_set("mixed", &mixed(*size), "sensors/site-7/none/x");
    }
    measure_plus_choices(16.min(sizes[0].ilog2()));
    measure_names(sizes[0]);
}

/// A filter, and a topic that it matches.
type Case = (String, String);

fn exact(size: usize) -> Vec<Case> {
    let text = |n: usize| format!("sensors/site-{}/device-{n}/temperature", n % 100);
    (0..size).map(|n| (text(n), text(n))).collect()
}

fn ends_in_plus(size: usize) -> Vec<Case> {
    (0..size)
        .map(|n| {
            let device = format!("sensors/site-{}/device-{n}/", n % 100);
            (device.clone() + "+", device + "temperature")
        })
        .collect()
}

/// Half exact; of the others most name their device and end in a wildcard, and one in fifty starts with one.
fn mixed(size: usize) -> Vec<Case> {
    (0..size)
        .map(|n| {
            let (site, topic) = (n % 100, format!("sensors/site-{}/device-{n}/temperature", n % 100));
            let filter = match n % 50 {
                0 => format!("+/+/device-{n}/temperature"),
                1..5 => format!("sensors/+/device-{n}/#"),
                5..15 => format!("sensors/site-{site}/device-{n}/#"),
                15..25 => format!("sensors/site-{site}/device-{n}/+"),
                _ => topic.clone(),
            };
            (filter, topic)
        })
        .collect()
}

/// Inserts all, matches each topic in a scattered order, matches one that only the leading levels of others share, and
/// removes all, in a scattered order again.
fn measure_set(label: &str, cases: &[Case], missing: &str) {
    let limits = TopicLimits::default();
    let filter = |text| TopicFilter::new(text, &limits).expect("a valid filter");
    let name = |text| TopicName::new(text, &limits).expect("a valid name");
    // A step that shares no factor with the number of cases reaches each of them once.
    let scattered = || (0..cases.len()).map(|n| &cases[n * 7_919 % cases.len()]);

    let before = Allocations::now();
    let mut trie = TopicTrie::new(42);
    let start = Instant::now();
    for (n, (text, _)) in cases.iter().enumerate() {
        trie.insert(filter(text), n as u32);
    }
    let insert = start.elapsed();
    let bytes = Allocations::now().bytes - before.bytes;
    assert_eq!(trie.len(), cases.len());

    let mut scratch = MatchScratch::default();
    let mut matches = 0u64;
    trie.for_each_match(name(&cases[0].1), &mut scratch, |_| {});
    let before = Allocations::now();
    let start = Instant::now();
    for (_, topic) in scattered() {
        trie.for_each_match(name(topic), &mut scratch, |value| {
            matches += 1 + u64::from(black_box(*value) >> 31);
        });
    }
    let hit = start.elapsed();
    let start = Instant::now();
    for _ in cases {
        trie.for_each_match(name(black_box(missing)), &mut scratch, |_| matches += 1);
    }
    let miss = start.elapsed();
    assert_eq!(Allocations::now().count, before.count, "a match allocates nothing");
    assert!(matches as usize >= cases.len());

    let start = Instant::now();
    for (text, _) in scattered() {
        trie.remove(filter(text)).expect("it was inserted");
    }
    let remove = start.elapsed();
    assert_eq!((trie.len(), trie.node_count()), (0, 1));

    let each = |time: std::time::Duration| time.as_secs_f64() * 1e9 / cases.len() as f64;
    println!(
        "{:<30}{:>9.1}{:>9.1}{:>9.1}{:>9.2}{:>9.1}{:>9.1}",
        format!("{} {label}", cases.len()),
        each(insert),
        each(hit),
        each(miss),
        matches as f64 / cases.len() as f64,
        each(remove),
        bytes as f64 / cases.len() as f64,
    );
}

/// The worst a set can be: a filter for each choice of `+` or text on every level, none of which matches in the end.
fn measure_plus_choices(levels: u32) {
    let limits = TopicLimits::default();
    let mut trie = TopicTrie::new(42);
    for bits in 0..1u32 << levels {
        let mut text: String = (0..levels)
            .map(|level| if bits >> level & 1 == 1 { "+/" } else { "a/" })
            .collect();
        text.push_str("end");
        trie.insert(TopicFilter::new(&text, &limits).expect("a valid filter"), bits);
    }
    let topic = "a/".repeat(levels as usize) + "other";
    let topic = TopicName::new(&topic, &limits).expect("a valid name");
    let mut scratch = MatchScratch::default();
    let start = Instant::now();
    trie.for_each_match(topic, &mut scratch, |_| unreachable!("none ends in `other`"));
    let nodes = trie.node_count();
    let each = start.elapsed().as_secs_f64() * 1e9 / nodes as f64;
    println!(
        "{} filters of + or a, one match: {:.2} ms, {each:.1} ns per node",
        trie.len(),
        each * nodes as f64 / 1e6
    );
}

fn measure_names(rounds: usize) {
    let limits = TopicLimits::default();
    for text in ["a/b", "sensors/site-12/device-34567/temperature", &"level/".repeat(100)] {
        let start = Instant::now();
        for _ in 0..rounds * 10 {
            black_box(TopicName::new(black_box(text), &limits)).expect("a valid name");
        }
        let each = start.elapsed().as_secs_f64() * 1e9 / (rounds * 10) as f64;
        println!("TopicName::new, {} bytes: {each:.1} ns", text.len());
    }
}

/// What is allocated, as asked for: bytes in use, and how often something was.
struct Allocations {
    bytes: usize,
    count: usize,
}

impl Allocations {
    fn now() -> Allocations {
        Allocations {
            bytes: BYTES.load(Ordering::Relaxed),
            count: COUNT.load(Ordering::Relaxed),
        }
    }
}

static BYTES: AtomicUsize = AtomicUsize::new(0);
static COUNT: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to `System` as it came, so what holds for `System` holds here.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise about `memory` and `layout` is passed on; `memory` came from `System`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        BYTES.fetch_add(new_size, Ordering::Relaxed);
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on; `memory` came from `System`.
        unsafe { System.realloc(memory, layout, new_size) }
    }
}
