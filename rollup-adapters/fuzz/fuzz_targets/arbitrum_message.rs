//! L2 messages from anybody.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_adapters::arbitrum::{decode_message, encode_message};

fuzz_target!(|bytes: &[u8]| {
    let Ok(transactions) = decode_message(bytes) else { return };
    if let Ok(flat) = encode_message(&transactions) {
        assert_eq!(decode_message(&flat), Ok(transactions));
    }
});
