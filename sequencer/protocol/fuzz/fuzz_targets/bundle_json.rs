//! Can a JSON request for a bundle harm a node? A bundle that reads must read the same from its own JSON.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_protocol::{bundle::SignedBundle, rpc::Message, wire::Wire};

fuzz_target!(|bytes: &[u8]| match serde_json::from_slice::<Message<SignedBundle>>(bytes) {
    Ok(Message::Object(signed)) => {
        let json = serde_json::to_vec(&signed).expect("a bundle has a JSON form");
        assert_eq!(serde_json::from_slice::<SignedBundle>(&json).expect("our JSON reads"), signed);
        if signed.bundle.check_shape(signed.bundle.network).is_ok() {
            assert_eq!(SignedBundle::from_wire(&signed.to_wire()), Ok(signed));
        }
    }
    Ok(Message::Wire(envelope)) => drop(SignedBundle::from_wire(&envelope.0)),
    Err(_) => {}
});
