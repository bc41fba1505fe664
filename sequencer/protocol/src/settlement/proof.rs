//! What does a Merkle Patricia proof say about a key?
//!
//! Walks the nodes that `eth_getProof` returns from a root to a key. Nodes are decoded by alloy-trie; the walk is ours, because
//! alloy-trie's own panics on a path longer than a key. Such a path needs a root that no honest node computes, but a quorum
//! that trusts one bad node could certify it, and then every validator would stop for good.

use alloy_primitives::{B256, U256, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::{EMPTY_ROOT_HASH, TrieAccount, nodes::TrieNode};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    hex,
    ids::{Address20, Hash32},
    limits::MAX_TRIE_NODE_BYTES,
    settlement::FactError,
    wire,
};

/// Nibbles of a key.
const KEY_NIBBLES: usize = 64;
/// Length of a node that is referred to by its hash; shorter ones stand in their parent.
const HASH_BYTES: usize = 32;

/// A trie node as `eth_getProof` gives it: its RLP.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProofNode(
    #[borsh(deserialize_with = "wire::bytes::<_, MAX_TRIE_NODE_BYTES>")]
    #[serde(with = "hex::bytes")]
    pub Vec<u8>,
);

/// Why nodes are not a proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum ProofError {
    #[error("node {0} is not the one that its parent names")]
    Node(usize),
    #[error("node {index} is malformed: {detail}")]
    Malformed { index: usize, detail: String },
    #[error("the proof ends before the key")]
    Truncated,
    #[error("nodes follow after the end of the path")]
    Surplus,
    #[error("the value is not what the trie should hold")]
    Value,
}

/// The value under `keccak256(key)` in the trie with this root, or the proof that it has none.
pub fn value(root: Hash32, key: &[u8], nodes: &[ProofNode]) -> Result<Option<Vec<u8>>, ProofError> {
    let root = B256::from(root.0);
    if nodes.is_empty()
        || (root == EMPTY_ROOT_HASH && nodes.iter().all(|node| node.0 == [alloy_rlp::EMPTY_STRING_CODE]))
    {
        return if root == EMPTY_ROOT_HASH { Ok(None) } else { Err(ProofError::Truncated) };
    }
    let path = Path::of(keccak256(key));
    // What the parent says of the next node: its hash, with the one byte before it that RLP has.
    let mut expected = [&[0x80 + 32], root.as_slice()].concat();
    let mut walked = 0;
    for (index, node) in nodes.iter().enumerate() {
        let named = keccak256(&node.0);
        if expected[1..] != named[..] {
            return Err(ProofError::Node(index));
        }
        let last = index + 1 == nodes.len();
        match descend(&node.0, &path, &mut walked).map_err(|detail| ProofError::Malformed { index, detail })? {
            Step::Child(child) if !last => expected = child,
            Step::Child(_) => return Err(ProofError::Truncated),
            Step::End(_) if !last => return Err(ProofError::Surplus),
            Step::End(value) => return Ok(value),
        }
    }
    Err(ProofError::Truncated)
}

/// The storage root of a contract, or `None` where the state has no such account.
pub fn storage_root(
    state_root: Hash32,
    contract: Address20,
    nodes: &[ProofNode],
) -> Result<Option<Hash32>, ProofError> {
    let Some(account) = value(state_root, &contract.0, nodes)? else { return Ok(None) };
    let account = TrieAccount::decode(&mut account.as_slice()).map_err(|_| ProofError::Value)?;
    Ok(Some(Hash32(account.storage_root.0)))
}

/// The word in a storage slot; a slot that the trie does not have holds zero.
pub fn word(storage_root: Hash32, slot: &Hash32, nodes: &[ProofNode]) -> Result<U256, ProofError> {
    let Some(word) = value(storage_root, &slot.0, nodes)? else { return Ok(U256::ZERO) };
    let mut rest = word.as_slice();
    let word = U256::decode(&mut rest).map_err(|_| ProofError::Value)?;
    // Zero is never stored.
    if rest.is_empty() && word != U256::ZERO { Ok(word) } else { Err(ProofError::Value) }
}

/// The word in a contract's storage slot under `state_root`.
pub fn contract_word(storage_root: Hash32, slot: &Hash32, nodes: &[ProofNode]) -> Result<U256, FactError> {
    word(storage_root, slot, nodes).map_err(FactError::StorageProof)
}

enum Step {
    /// Go on in the node with this hash, as its parent writes it: a length byte and 32 bytes.
    Child(Vec<u8>),
    /// The path ends here, with a value or without.
    End(Option<Vec<u8>>),
}

/// Follows the path through one node and those that stand inside it.
fn descend(node: &[u8], path: &Path, walked: &mut usize) -> Result<Step, String> {
    let mut current = node.to_vec();
    // Each turn is at least one nibble further, or the last.
    for _ in 0..=KEY_NIBBLES {
        let mut rest = current.as_slice();
        let decoded = TrieNode::decode(&mut rest).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err("bytes follow after it".to_owned());
        }
        let child = match decoded {
            TrieNode::EmptyRoot => return Err("an empty node".to_owned()),
            TrieNode::Leaf(leaf) => {
                let whole = leaf.key.len() == KEY_NIBBLES - *walked && path.continues(*walked, &leaf.key);
                return Ok(Step::End(whole.then_some(leaf.value)));
            }
            TrieNode::Extension(extension) => {
                // An extension leads to a branch, so at least one nibble is left after it.
                if extension.key.is_empty() || *walked + extension.key.len() >= KEY_NIBBLES {
                    return Err("a path longer than a key".to_owned());
                }
                if !path.continues(*walked, &extension.key) {
                    return Ok(Step::End(None));
                }
                *walked += extension.key.len();
                extension.child
            }
            TrieNode::Branch(branch) => {
                let nibble = path.0.get(*walked).copied().ok_or("a path longer than a key")?;
                if !branch.state_mask.is_bit_set(nibble) {
                    return Ok(Step::End(None));
                }
                *walked += 1;
                let before = (0..nibble).filter(|other| branch.state_mask.is_bit_set(*other)).count();
                branch.stack.get(before).cloned().ok_or("a child is missing")?
            }
        };
        if child.len() == HASH_BYTES + 1 {
            return Ok(Step::Child(child.to_vec()));
        }
        current = child.to_vec();
    }
    Err("a path longer than a key".to_owned())
}

struct Path([u8; KEY_NIBBLES]);

impl Path {
    fn of(hash: B256) -> Self {
        let mut nibbles = [0; KEY_NIBBLES];
        for (index, byte) in hash.iter().enumerate() {
            nibbles[2 * index] = byte >> 4;
            nibbles[2 * index + 1] = byte & 15;
        }
        Self(nibbles)
    }

    /// Whether the path goes on from `walked` as `key` says.
    fn continues(&self, walked: usize, key: &alloy_trie::Nibbles) -> bool {
        self.0.get(walked..walked + key.len()).is_some_and(|rest| rest.iter().copied().eq(key.iter()))
    }
}
