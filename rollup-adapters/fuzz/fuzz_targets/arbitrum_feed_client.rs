//! What any client sends to the feed: taken frame by frame, or refused, and never more kept than one frame.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_adapters::arbitrum::feed::next_client_frame;

fuzz_target!(|bytes: &[u8]| {
    let mut held = Vec::new();
    for piece in bytes.chunks(7) {
        held.extend_from_slice(piece);
        loop {
            let before = held.len();
            match next_client_frame(&mut held) {
                Ok(Some(_)) => assert!(held.len() < before),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(held.len() <= 4_096 + 14 + 7);
    }
});
