//! A feed's JSON from any server: read or refused, and what is read is written back to the same messages.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_adapters::arbitrum::feed::{Broadcast, signer};

fuzz_target!(|bytes: &[u8]| {
    let Ok(broadcast) = Broadcast::from_json(bytes) else { return };
    for message in &broadcast.messages {
        drop(message.transactions());
        signer(message, 42_161);
    }
    assert_eq!(Broadcast::from_json(&broadcast.to_json()).expect("ours is read"), broadcast);
});
