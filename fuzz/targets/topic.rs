//! Filters come and go, topics look for them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringmq_fuzz::within(4 * 1024 * 1024, || {
    ringmq_shard::topic::fuzz::fuzz_topic(bytes)
}));
