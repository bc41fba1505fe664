//! Nitro batches from anybody: decompressed within the limits or refused, and what is read is written back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_adapters::arbitrum::{Event, compress, decode_message, decompress};

fuzz_target!(|bytes: &[u8]| {
    let Ok(events) = decompress(bytes) else { return };
    for event in &events {
        if let Event::Message { message, .. } = event {
            drop(decode_message(message));
        }
    }
    // Messages that came compressed one by one may exceed a batch when written plainly.
    if let Ok(again) = compress(&events, 1) {
        assert_eq!(decompress(&again), Ok(events));
    }
});
