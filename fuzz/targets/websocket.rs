//! Any bytes as the request for a WebSocket, and as its frames.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringmq_fuzz::within(1024 * 1024, || {
    ringmq::websocket_fuzz::fuzz_websocket(bytes);
}));
