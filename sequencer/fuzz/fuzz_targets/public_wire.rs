//! Can a peer of the public network harm a node by what it asks or answers? What reads must write the same bytes.

#![no_main]
#![allow(dead_code, reason = "the node uses the rest")]

use libfuzzer_sys::fuzz_target;
use lockstep_protocol::wire::Wire;

#[path = "../../src/public/framing.rs"]
mod framing;
#[path = "../../src/public/wire.rs"]
mod wire;

/// Longest message that is let through here: every length below it is tried often.
const FRAME_BYTES_MAX: usize = 2_048;

fuzz_target!(|bytes: &[u8]| {
    let mut stream = bytes;
    while let Ok(message) = futures::executor::block_on(framing::read(&mut stream, FRAME_BYTES_MAX)) {
        assert!(message.len() <= FRAME_BYTES_MAX);
        let mut again = Vec::new();
        futures::executor::block_on(framing::write(&mut again, &message, FRAME_BYTES_MAX)).expect("it was short enough");
        let start = bytes.len() - stream.len() - again.len();
        assert_eq!(&bytes[start..start + again.len()], again);
        decode(&message);
    }
    decode(bytes);
});

fn decode(message: &[u8]) {
    if let Ok(request) = wire::RangeRequest::from_wire(message) {
        assert_eq!(request.to_wire(), message);
    }
    match wire::RangeAnswer::from_wire(message) {
        Ok(wire::RangeAnswer::Refused(text)) => {
            let _ = wire::refusal::<lockstep_protocol::rpc::QueryError>(&text);
        }
        Ok(page) => assert_eq!(page.to_wire(), message),
        Err(_) => {}
    }
    if let Ok(answer) = wire::BundleAnswer::from_wire(message) {
        assert_eq!(answer.to_wire(), message);
        let _ = answer.into_verdict();
    }
}
