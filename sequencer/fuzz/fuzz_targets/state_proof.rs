//! Can a node's state proof harm a client, or convince it of anything under a root that nobody made?

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_protocol::{
    ids::Hash32,
    state::{RECORD_BYTES, Record},
};

#[path = "../../../sdk/src/proof.rs"]
mod proof;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let (key, record): ([u8; 32], Record) = ([*choice; 32], [*choice; RECORD_BYTES]);
    let root = Hash32([7; 32]);
    assert!(!proof::proves(&root, &key, Some(&record), rest));
    assert!(!proof::proves(&root, &key, None, rest));
});
