//! Runs the simulator: many seeds, or one with its story.

use std::time::{Duration, Instant};

use ringmq_shard::simulation::{Counts, Run, run, shrink};

fn main() {
    let arguments = Arguments::parse();
    // What goes wrong is printed once, by whoever asked for the run.
    std::panic::set_hook(Box::new(|_| {}));
    let ok = match arguments.seed {
        _ if arguments.planted => planted(),
        Some(seed) => one(seed, &arguments),
        None => many(&arguments),
    };
    std::process::exit(i32::from(!ok));
}

struct Arguments {
    seed: Option<u64>,
    without: Vec<usize>,
    shrink: bool,
    planted: bool,
    first: u64,
    seeds: u64,
    time: Option<Duration>,
}

impl Arguments {
    fn parse() -> Arguments {
        let mut parsed = Arguments {
            seed: None,
            without: Vec::new(),
            shrink: false,
            planted: false,
            first: 0,
            seeds: u64::MAX,
            time: None,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--shrink" => {
                    parsed.shrink = true;
                    continue;
                }
                "--planted-faults" => {
                    parsed.planted = true;
                    continue;
                }
                _ => {}
            }
            let value = words.next().unwrap_or_else(|| usage(&word));
            match word.as_str() {
                "--seed" => parsed.seed = Some(number(&value)),
                "--without" => parsed.without = ranges(&value),
                "--first" => parsed.first = number(&value),
                "--fault" => plant(&value),
                "--seeds" => parsed.seeds = number(&value),
                "--hours" => {
                    let hours: f64 = value.parse().unwrap_or_else(|_| usage(&value));
                    parsed.time = Some(Duration::from_secs_f64(hours * 3_600.0));
                }
                _ => usage(&word),
            }
        }
        if parsed.time.is_none() && parsed.seeds == u64::MAX {
            parsed.seeds = 1_000;
        }
        parsed
    }
}

fn usage(word: &str) -> ! {
    eprintln!("{word}? Usage: simulate [--hours H | --seeds N] [--first SEED]");
    eprintln!("       simulate --seed SEED [--shrink] [--without STEP,STEP-STEP,…]");
    eprintln!("       simulate --planted-faults, or any of the above with --fault NAME");
    std::process::exit(2);
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| usage(text))
}

/// `3,5-9` as a list.
fn ranges(text: &str) -> Vec<usize> {
    let index = |text: &str| text.parse::<usize>().unwrap_or_else(|_| usage(text));
    text.split(',')
        .flat_map(|part| match part.split_once('-') {
            Some((first, last)) => index(first)..=index(last),
            None => index(part)..=index(part),
        })
        .collect()
}

fn in_ranges(steps: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for step in steps {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *step => *last = *step,
            _ => parts.push((*step, *step)),
        }
    }
    let texts: Vec<String> = parts
        .iter()
        .map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
        .collect();
    texts.join(",")
}

/// One run, with its story.
fn one(seed: u64, arguments: &Arguments) -> bool {
    let mut chosen = Run {
        seed,
        without: arguments.without.clone(),
        trace: false,
    };
    if arguments.shrink && run(&chosen).is_err() {
        chosen = shrink(&chosen);
    }
    chosen.trace = true;
    let outcome = run(&chosen);
    if !chosen.without.is_empty() {
        println!(
            "{} of {} steps are left:",
            chosen.steps() - chosen.without.len(),
            chosen.steps()
        );
        println!("  --seed {seed} --without {}", in_ranges(&chosen.without));
    }
    match outcome {
        Ok(_) => println!("seed {seed}: nothing went wrong"),
        Err(failure) => println!("seed {seed}: {}", failure.what),
    }
    true
}

/// Seed after seed, until the time is over or one fails.
fn many(arguments: &Arguments) -> bool {
    let begun = Instant::now();
    let mut counts = Counts::default();
    let mut failed = 0;
    let mut seeds = 0;
    while seeds < arguments.seeds && arguments.time.is_none_or(|time| begun.elapsed() < time) {
        let seed = arguments.first + seeds;
        seeds += 1;
        match run(&Run::of(seed)) {
            Ok(more) => counts += &more,
            Err(failure) => {
                failed += 1;
                println!("seed {seed}: {}", failure.what);
                println!("  its story: scripts/simulate.sh --seed {seed} --shrink");
                if failed == FAILURES_MAX {
                    break;
                }
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds in {seconds:.1} s, {:.0} a second, {failed} failed",
        seeds as f64 / seconds
    );
    print!("{counts}");
    failed == 0
}

/// Every planted fault, and the seeds that it took to find it.
#[cfg(feature = "planted-faults")]
fn planted() -> bool {
    use ringmq_shard::fault::Fault;
    use ringmq_shard::simulation::{HUNT_SEEDS_MAX, hunt};

    let mut all_found = true;
    println!("| fault | what the core does | seeds | found by |\n|---|---|---|---|");
    for fault in Fault::ALL {
        let (seeds, by) = match hunt(*fault) {
            Some((seeds, failure)) => (seeds.to_string(), failure.what),
            None => (format!("not in {HUNT_SEEDS_MAX}"), String::new()),
        };
        all_found &= !by.is_empty();
        let by: String = by.lines().next().unwrap_or_default().chars().take(90).collect();
        println!("| {fault:?} | {} | {seeds} | {} |", fault.what(), by.replace('|', "/"));
    }
    println!(
        "\n{} faults, each within {HUNT_SEEDS_MAX} seeds: {all_found}",
        Fault::ALL.len()
    );
    all_found
}

/// Makes one fault act.
#[cfg(feature = "planted-faults")]
fn plant(name: &str) {
    let found = ringmq_shard::fault::Fault::named(name);
    found.unwrap_or_else(|| usage(name)).plant();
}

#[cfg(not(feature = "planted-faults"))]
fn plant(name: &str) {
    usage(name);
}

#[cfg(not(feature = "planted-faults"))]
fn planted() -> bool {
    eprintln!("planted faults are compiled in with --features planted-faults");
    false
}

/// More than this say nothing new.
const FAILURES_MAX: u32 = 20;
