//! Which nodes does `eth_getProof` return for a small state? Built by alloy-trie's own hash builder.

use alloy_primitives::{B256, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, HashBuilder, KECCAK_EMPTY, Nibbles, TrieAccount, proof::ProofRetainer};
use std::collections::BTreeMap;

use lockstep_protocol::{
    ids::{Address20, Hash32},
    settlement::proof::ProofNode,
};

/// Contracts with their storage.
pub(crate) type Storage = BTreeMap<Address20, BTreeMap<Hash32, U256>>;

/// Root of the trie of these entries, and the nodes from it to `target`. Keys are hashed here.
pub(crate) fn prove(entries: &BTreeMap<Vec<u8>, Vec<u8>>, target: &[u8]) -> (Hash32, Vec<ProofNode>) {
    let mut hashed: Vec<_> = entries.iter().map(|(key, value)| (Nibbles::unpack(keccak256(key)), value)).collect();
    hashed.sort();
    let target = Nibbles::unpack(keccak256(target));
    let mut builder = HashBuilder::default().with_proof_retainer(<ProofRetainer>::new(vec![target]));
    for (key, value) in hashed {
        builder.add_leaf(key, value);
    }
    let root = builder.root();
    let nodes = builder.take_proof_nodes().matching_nodes_sorted(&target);
    (Hash32(root.0), nodes.into_iter().map(|(_, node)| ProofNode(node.to_vec())).collect())
}

fn slots(storage: &BTreeMap<Hash32, U256>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let set = storage.iter().filter(|(_, word)| **word != U256::ZERO);
    set.map(|(slot, word)| (slot.0.to_vec(), alloy_rlp::encode(word))).collect()
}

/// Nodes from a contract's storage root to a slot.
pub(crate) fn storage_proof(storage: &BTreeMap<Hash32, U256>, slot: &Hash32) -> Vec<ProofNode> {
    prove(&slots(storage), &slot.0).1
}

/// The state root, and the nodes from it to a contract's account.
pub(crate) fn account_proof(state: &Storage, contract: Address20) -> (Hash32, Vec<ProofNode>) {
    let accounts = state.iter().map(|(address, storage)| {
        let root = if storage.is_empty() { EMPTY_ROOT_HASH } else { B256::from(prove(&slots(storage), &[]).0.0) };
        let account = TrieAccount { nonce: 1, balance: U256::from(7), storage_root: root, code_hash: KECCAK_EMPTY };
        (address.0.to_vec(), alloy_rlp::encode(account))
    });
    prove(&accounts.collect(), &contract.0)
}
