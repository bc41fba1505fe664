//! Can a lane item from a bad peer harm a follower? What reads must write the same bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_protocol::{
    certificate::Verifier,
    genesis::GroupKeyBytes,
    hex,
    lane::{LaneFollower, LaneItem},
    wire::Wire,
};

// The group key of the golden vectors.
const KEY: &str = "0x8038bfe033bc328ea36bb7c3438bc5a27a0dc880506277e116c8b842ed0c1ea78d32c90b04afbca59bd828c1e6c5e3f319274412f2e9eecf7334114b02847693e9d997f1aa9f936d90cae8946df6593033431513e210880bcda015da1b61f6f5";

fuzz_target!(|bytes: &[u8]| {
    let Ok(item) = LaneItem::from_wire(bytes) else { return };
    assert_eq!(item.to_wire(), bytes);
    let key = GroupKeyBytes(hex::decode_fixed(KEY).expect("96 bytes"));
    let verifier = Verifier::new(item.header.network, &key).expect("a point of G2");
    let mut follower = LaneFollower::from_genesis(verifier, item.leaf.rollup);
    let _ = follower.accept(&item);
});
