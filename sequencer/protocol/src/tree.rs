//! The lane tree: one keccak256 root over every lane, in the layout of OpenZeppelin's `StandardMerkleTree`.
//!
//! Leaves are hashed twice and sorted, pairs are sorted before hashing, and a tree of `n` leaves is the array of `2n - 1`
//! nodes whose node `i` has the children `2i + 1` and `2i + 2`. So the published JavaScript and Solidity libraries verify
//! our paths, and a path needs no directions. Source: `@openzeppelin/merkle-tree`, `MerkleProof.sol`.

use alloy_primitives::keccak256;

use crate::ids::Hash32;

/// The hash of a leaf whose ABI-encoded values are `encoded`.
pub fn leaf_hash(encoded: &[u8]) -> Hash32 {
    Hash32(keccak256(keccak256(encoded)).0)
}

/// A tree over leaf hashes.
pub struct Tree {
    nodes: Vec<Hash32>,
}

impl Tree {
    /// Builds the tree; `None` without leaves.
    pub fn new(mut leaves: Vec<Hash32>) -> Option<Self> {
        let count = leaves.len();
        if count == 0 {
            return None;
        }
        leaves.sort_unstable();
        let mut nodes = vec![Hash32::default(); count - 1];
        nodes.extend(leaves.into_iter().rev());
        for index in (0..count - 1).rev() {
            nodes[index] = pair(nodes[2 * index + 1], nodes[2 * index + 2]);
        }
        Some(Self { nodes })
    }

    /// The root.
    pub fn root(&self) -> Hash32 {
        self.nodes[0]
    }

    /// The siblings from `leaf` up to the root; `None` if the tree has no such leaf.
    pub fn path(&self, leaf: Hash32) -> Option<Vec<Hash32>> {
        let first_leaf = self.nodes.len() / 2;
        let mut index = first_leaf + self.nodes[first_leaf..].iter().position(|node| *node == leaf)?;
        let mut path = Vec::new();
        while index > 0 {
            let sibling = if index % 2 == 1 { index + 1 } else { index - 1 };
            path.push(self.nodes[sibling]);
            index = (index - 1) / 2;
        }
        Some(path)
    }
}

/// The root that `path` leads to from `leaf`.
///
/// ```
/// use lockstep_protocol::tree::{Tree, climb, leaf_hash};
///
/// let leaves = [leaf_hash(b"a"), leaf_hash(b"b"), leaf_hash(b"c")];
/// let tree = Tree::new(leaves.to_vec()).expect("three leaves");
/// let path = tree.path(leaves[1]).expect("a leaf of the tree");
/// assert_eq!(climb(leaves[1], &path), tree.root());
/// ```
pub fn climb(leaf: Hash32, path: &[Hash32]) -> Hash32 {
    path.iter().fold(leaf, |node, sibling| pair(node, *sibling))
}

fn pair(a: Hash32, b: Hash32) -> Hash32 {
    let (low, high) = if a <= b { (a, b) } else { (b, a) };
    Hash32(keccak256([low.0, high.0].concat()).0)
}
