//! Do bytes read as a header only if they are the bytes of that header?

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_protocol::header::Header;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = Header::decode(bytes) {
        assert_eq!(header.encode().as_slice(), bytes);
    }
});
