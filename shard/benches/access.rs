//! What a check of the access control list costs, beside the topic match that comes with each message.
//!
//! `cargo bench -p ringmq-shard --bench access`; `-- --test`, and `cargo test`, run it briefly. Nanoseconds are for comparing
//! lines of one run.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use ringmq_shard::access::{Acl, Right, Who};
use ringmq_shard::topic::{MatchScratch, TopicFilter, TopicLimits, TopicName, TopicTrie};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let rounds = if has("--bench") && !has("--test") {
        4_000_000
    } else {
        20_000
    };
    let topics: Vec<String> = (0..1_000)
        .map(|n| format!("sensors/site-{}/device-{n}/temperature", n % 100))
        .collect();

    println!("{:<52}{:>8}{:>8}{:>8}", "list", "ns", "/ 1k", "/ 100k");
    let [small, large] = [1_000, 100_000].map(|filters| match_ns(filters, &topics, rounds));
    println!(
        "{:<52}{small:>8.1}{:>8.2}{:>8.2}",
        "topic match, 1,000 filters",
        1.0,
        small / large
    );
    println!(
        "{:<52}{large:>8.1}{:>8.2}{:>8.2}",
        "topic match, 100,000 filters",
        large / small,
        1.0
    );
    for (name, list, client) in lists() {
        for (word, right) in [("read", Right::Read), ("write", Right::Write)] {
            let (each, allowed) = check_ns(&list, client, right, &topics, rounds);
            let label = format!("{name}: {word}, {allowed} of {} allowed", topics.len());
            println!("{label:<52}{each:>8.1}{:>8.2}{:>8.2}", each / small, each / large);
        }
    }
}

/// Client Identifier and user name.
type Client = (&'static str, Option<&'static str>);

/// Name, text, and who asks.
fn lists() -> Vec<(&'static str, String, Client)> {
    let mut service = "user service\ntopic read sensors/#\n".to_owned();
    let mut wide = "user wide\n".to_owned();
    let mut many = "user many\n".to_owned();
    for n in 0..10_000 {
        writeln!(many, "topic sensors/site-{}/device-{n}/temperature", n % 100).expect("a String takes everything");
    }
    for n in 0..100 {
        writeln!(wide, "topic readwrite sensors/site-{n}/device-{n}/temperature").expect("a String takes everything");
    }
    for n in 0..20 {
        writeln!(wide, "topic read sensors/site-{n}/#").expect("a String takes everything");
    }
    for n in 20..28 {
        writeln!(wide, "topic read sensors/site-{n}/+/temperature").expect("a String takes everything");
    }
    wide += "topic deny sensors/+/+/secret\n";
    service += "topic deny sensors/+/+/secret\ntopic write commands/#\n";
    let patterns = "pattern read commands/%c/#\npattern write sensors/+/%c/#\n";
    vec![
        ("#", "user root\ntopic #\n".into(), ("c", Some("root"))),
        ("two patterns", patterns.into(), ("device-7", None)),
        ("three topics, two patterns", service + patterns, ("c", Some("service"))),
        (
            "100 names, 20 subtrees, 9 with +, two patterns",
            wide + patterns,
            ("device-7", Some("wide")),
        ),
        ("10,000 names", many, ("c", Some("many"))),
    ]
}

fn check_ns(
    list: &str,
    (client_id, user_name): Client,
    right: Right,
    topics: &[String],
    rounds: usize,
) -> (f64, usize) {
    let acl = Acl::parse(list).expect("a list");
    let who = Who {
        rights: acl.rights(client_id, user_name),
        client_id,
        user_name,
    };
    let limits = TopicLimits::default();
    let names: Vec<TopicName<'_>> = topics.iter().map(|topic| name(topic, &limits)).collect();
    let allowed = names.iter().filter(|name| acl.allows(who, right, **name)).count();
    let start = Instant::now();
    for name in scattered(&names, rounds) {
        black_box(acl.allows(black_box(who), right, name));
    }
    (each(start, rounds), allowed)
}

/// As the router does it for each message: all filters that match, here one, and one in twenty with a wildcard.
fn match_ns(filters: usize, topics: &[String], rounds: usize) -> f64 {
    let limits = TopicLimits::default();
    let mut trie = TopicTrie::new(42);
    for n in 0..filters {
        let text = match n % 20 {
            0 => format!("sensors/site-{}/device-{n}/#", n % 100),
            _ => format!("sensors/site-{}/device-{n}/temperature", n % 100),
        };
        trie.insert(TopicFilter::new(&text, &limits).expect("a valid filter"), n);
    }
    let names: Vec<TopicName<'_>> = topics.iter().map(|topic| name(topic, &limits)).collect();
    let mut scratch = MatchScratch::default();
    let mut matches = 0;
    let start = Instant::now();
    for name in scattered(&names, rounds) {
        trie.for_each_match(name, &mut scratch, |filter| matches += 1 + (black_box(*filter) >> 60));
    }
    let each = each(start, rounds);
    assert_eq!(matches, rounds, "each topic has its filter");
    each
}

fn name<'a>(topic: &'a str, limits: &TopicLimits) -> TopicName<'a> {
    TopicName::new(topic, limits).expect("a valid name")
}

/// All of them over and over, neighbours never after each other.
fn scattered<'a>(names: &'a [TopicName<'a>], rounds: usize) -> impl Iterator<Item = TopicName<'a>> {
    (0..rounds).map(|n| names[n * 619 % names.len()])
}

fn each(start: Instant, rounds: usize) -> f64 {
    start.elapsed().as_secs_f64() * 1e9 / rounds as f64
}
