//! Compressed channels from anybody: decompressed within the limit or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_adapters::optimism::{CHANNEL_BYTES_MAX, decompress};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(batches) = decompress(bytes) {
        assert!(batches.iter().map(Vec::len).sum::<usize>() <= CHANNEL_BYTES_MAX);
    }
});
