//! Any packets, as bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringmq_fuzz::within(32 * 1024 * 1024, || {
    ringmq_shard::codec::fuzz::fuzz_encode(bytes)
}));
