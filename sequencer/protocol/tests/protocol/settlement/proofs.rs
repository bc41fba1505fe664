//! Does a storage proof prove what `eth_getProof` says, and nothing else?

use alloy_primitives::{B256, Bytes, U256, keccak256};
use alloy_trie::{
    EMPTY_ROOT_HASH, Nibbles, TrieMask,
    nodes::{BranchNode, ExtensionNode, LeafNode, RlpNode},
    proof::verify_proof,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

use lockstep_protocol::{
    ids::{Address20, Hash32},
    settlement::proof::{ProofError, ProofNode, storage_root, value, word},
};

use super::trie::{Storage, account_proof, prove, storage_proof};

fn bytes(nodes: &[ProofNode]) -> Vec<Bytes> {
    nodes.iter().map(|node| Bytes::from(node.0.clone())).collect()
}

fn encoded(node: &impl alloy_rlp::Encodable) -> ProofNode {
    ProofNode(alloy_rlp::encode(node))
}

proptest! {
    #![proptest_config(crate::config(200))]

    /// alloy-trie's own check of proofs is the judge.
    #[test]
    fn a_proof_gives_the_value_that_alloys_check_accepts(
        entries in prop::collection::btree_map(prop::collection::vec(any::<u8>(), 1..8), prop::collection::vec(any::<u8>(), 1..40), 0..40),
        probe in prop::collection::vec(any::<u8>(), 1..8),
        other in any::<bool>(),
    ) {
        let key = if other { probe } else { entries.keys().next().cloned().unwrap_or(probe) };
        let (root, nodes) = prove(&entries, &key);
        let expected = entries.get(&key).cloned();
        prop_assert_eq!(value(root, &key, &nodes), Ok(expected.clone()));
        let path = Nibbles::unpack(keccak256(&key));
        prop_assert!(verify_proof(B256::from(root.0), path, expected, bytes(&nodes).iter()).is_ok());
    }

    /// A changed byte, a missing, doubled or foreign node proves nothing.
    #[test]
    fn a_proof_that_was_tampered_with_proves_nothing(
        entries in prop::collection::btree_map(prop::collection::vec(any::<u8>(), 1..8), prop::collection::vec(any::<u8>(), 1..40), 2..40),
        place in any::<prop::sample::Index>(),
        bit in 0..8_u8,
        how in 0..4_u8,
    ) {
        let key = entries.keys().next().unwrap().clone();
        let (root, mut nodes) = prove(&entries, &key);
        let index = place.index(nodes.len());
        match how {
            0 => {
                let byte = place.index(nodes[index].0.len());
                nodes[index].0[byte] ^= 1 << bit;
            }
            1 => _ = nodes.remove(index),
            2 => nodes.insert(index, nodes[index].clone()),
            _ => nodes.push(ProofNode(vec![0xc0])),
        }
        prop_assert!(value(root, &key, &nodes).is_err());
    }
}

#[test]
fn a_slot_reads_through_account_and_storage() {
    let contract = Address20([7; 20]);
    let slot = |number| Hash32([number; 32]);
    let slots = BTreeMap::from([(slot(1), U256::from(1)), (slot(2), U256::MAX)]);
    let state = Storage::from([(contract, slots.clone()), (Address20([8; 20]), BTreeMap::new())]);
    let (root, nodes) = account_proof(&state, contract);
    let storage = storage_root(root, contract, &nodes).unwrap().unwrap();
    assert_eq!(word(storage, &slot(1), &storage_proof(&slots, &slot(1))), Ok(U256::from(1)));
    assert_eq!(word(storage, &slot(2), &storage_proof(&slots, &slot(2))), Ok(U256::MAX));
    assert_eq!(word(storage, &slot(3), &storage_proof(&slots, &slot(3))), Ok(U256::ZERO), "absent is zero");
    // One slot's proof says nothing about another.
    assert!(word(storage, &slot(1), &storage_proof(&slots, &slot(2))).is_err());
    let (_, nodes) = account_proof(&state, Address20([9; 20]));
    assert_eq!(storage_root(root, Address20([9; 20]), &nodes), Ok(None), "no such contract");
    let empty = Hash32(EMPTY_ROOT_HASH.0);
    assert_eq!(word(empty, &slot(1), &[]), Ok(U256::ZERO));
    assert_eq!(word(storage, &slot(1), &[]), Err(ProofError::Truncated));
}

/// alloy-trie's own check panics on these; a validator that did would stop for good.
#[test]
fn a_path_longer_than_a_key_is_an_error() {
    let key = b"key";
    let path = Nibbles::unpack(keccak256(key));
    let leaf = encoded(&LeafNode::new(path, vec![1]));
    let extension = ExtensionNode::new(path.slice(0..63), RlpNode::word_rlp(&keccak256(&leaf.0)));
    let deep = encoded(&extension);
    let root = Hash32(keccak256(&deep.0).0);
    assert_eq!(value(root, key, &[deep, leaf.clone()]), Ok(None), "a leaf that is too long is another key's");
    // An extension that leads exactly to the end of the key, and a branch below it.
    let branch = BranchNode::new(vec![RlpNode::word_rlp(&keccak256(&leaf.0)); 2], TrieMask::new(0b11));
    let branch = encoded(&branch);
    let whole = encoded(&ExtensionNode::new(path, RlpNode::word_rlp(&keccak256(&branch.0))));
    let root = Hash32(keccak256(&whole.0).0);
    assert!(matches!(value(root, key, &[whole, branch]), Err(ProofError::Malformed { index: 0, .. })));
    // A branch that names itself over and over cannot be made; one that stands inside itself ends.
    let garbage: Vec<ProofNode> = vec![ProofNode(vec![0xd1; 18]), ProofNode(vec![])];
    for node in garbage {
        let root = Hash32(keccak256(&node.0).0);
        assert!(value(root, key, std::slice::from_ref(&node)).is_err(), "{node:?}");
    }
}
