//! Can bytes that are not a bundle harm a node that reads them? What reads must write the same bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_protocol::{bundle::SignedBundle, wire::Wire};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(signed) = SignedBundle::from_wire(bytes) {
        assert_eq!(signed.to_wire(), bytes);
        let _ = signed.bundle.check_shape(signed.bundle.network);
        let _ = signed.check_signature();
    }
});
