//! Can nodes that are no proof harm a node that walks them? The root is the first node's, whatever it is.

#![no_main]

use alloy_primitives::keccak256;
use libfuzzer_sys::fuzz_target;
use lockstep_protocol::{
    ids::Hash32,
    settlement::proof::{ProofNode, storage_root, value, word},
};

fuzz_target!(|input: (Vec<u8>, Vec<Vec<u8>>)| {
    let (key, nodes) = input;
    let Some(first) = nodes.first() else { return };
    let root = Hash32(keccak256(first).0);
    let nodes: Vec<_> = nodes.into_iter().map(ProofNode).collect();
    let _ = value(root, &key, &nodes);
    let _ = storage_root(root, Default::default(), &nodes);
    let _ = word(root, &Hash32::default(), &nodes);
});
