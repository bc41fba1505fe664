//! Can what a node answers over JSON-RPC harm a client? What reads must read the same from its own JSON.

#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use lockstep_protocol::{
    certificate::Verifier,
    evidence::Reports,
    genesis::GroupKeyBytes,
    hex,
    lane::{LaneFollower, LaneItem},
    rpc::{BundleStatus, FinalHeader, LanePage, Network, StateProof},
};
use serde::{Serialize, de::DeserializeOwned};

// The group key of the golden vectors.
const KEY: &str = "0x8038bfe033bc328ea36bb7c3438bc5a27a0dc880506277e116c8b842ed0c1ea78d32c90b04afbca59bd828c1e6c5e3f319274412f2e9eecf7334114b02847693e9d997f1aa9f936d90cae8946df6593033431513e210880bcda015da1b61f6f5";

fuzz_target!(|bytes: &[u8]| {
    let items = match same::<LanePage>(bytes) {
        Some(page) => page.items.into_iter().chain(page.tip).collect(),
        None => Vec::from_iter(same::<LaneItem>(bytes)),
    };
    let key = GroupKeyBytes(hex::decode_fixed(KEY).expect("96 bytes"));
    for item in items {
        let verifier = Verifier::new(item.header.network, &key).expect("a point of G2");
        let mut follower = LaneFollower::from_genesis(verifier, item.leaf.rollup);
        let _ = follower.accept(&item);
    }
    same::<FinalHeader>(bytes);
    same::<StateProof>(bytes);
    same::<Reports>(bytes);
    same::<BundleStatus>(bytes);
    same::<Network>(bytes);
});

fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let json = serde_json::to_vec(&value).expect("an answer has a JSON form");
    assert_eq!(serde_json::from_slice::<T>(&json).expect("our JSON reads"), value);
    Some(value)
}
