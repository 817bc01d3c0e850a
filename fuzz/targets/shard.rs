//! Clients, schedule, clock and stores around one to three shards.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringmq_fuzz::within(16 * 1024 * 1024, || {
    ringmq_shard::shard::fuzz::fuzz_shard(bytes);
}));
