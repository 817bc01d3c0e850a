//! Every input of the committed corpora, through the same functions that the fuzzers call.

use std::fs;
use std::path::{Path, PathBuf};

use ringmq_shard::codec::fuzz::{fuzz_decode, fuzz_encode};
use ringmq_shard::shard::fuzz::fuzz_shard;
use ringmq_shard::topic::fuzz::fuzz_topic;

/// Ordered, so that a failure is always the same one.
fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

fn replay(target: &str, body: impl Fn(&[u8])) {
    for path in corpus(target) {
        // Shown if it fails.
        println!("{}", path.display());
        body(&fs::read(&path).unwrap());
    }
}

#[test]
fn decode() {
    replay("decode", fuzz_decode);
}

#[test]
fn encode() {
    replay("encode", fuzz_encode);
}

#[test]
fn topic() {
    replay("topic", fuzz_topic);
}

/// Twice: the same events give the same bytes.
#[test]
fn shard() {
    replay("shard", |script| assert_eq!(fuzz_shard(script), fuzz_shard(script)));
}
