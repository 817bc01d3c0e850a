//! Any bytes, as packets.
#![no_main]

libfuzzer_sys::fuzz_target!(
    |bytes: &[u8]| ringmq_fuzz::within(64 * 1024, || ringmq_shard::codec::fuzz::fuzz_decode(bytes))
);
