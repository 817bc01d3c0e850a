//! Any command line over any configuration file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringmq_fuzz::within(4 * 1024 * 1024, || {
    ringmq::config::fuzz::fuzz_config(bytes);
}));
