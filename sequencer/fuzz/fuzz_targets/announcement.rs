//! Can a validator's gossip harm another? What reads must write the same bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_protocol::wire::Wire;

/// As long as the node's own.
const MESSAGE_BYTES_MAX: usize = 320 * 1024;

#[path = "../../src/gossip/wire.rs"]
mod wire;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(announcement) = wire::Announcement::from_wire(bytes) {
        assert_eq!(announcement.to_wire(), bytes);
    }
});
