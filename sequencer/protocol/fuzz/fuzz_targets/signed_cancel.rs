//! Can bytes that are not a cancel harm a node that reads them? What reads must write the same bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_protocol::{bundle::SignedCancel, wire::Wire};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(signed) = SignedCancel::from_wire(bytes) {
        assert_eq!(signed.to_wire(), bytes);
        let _ = signed.cancel.check_shape(signed.cancel.network);
        let _ = signed.check_signature();
    }
});
