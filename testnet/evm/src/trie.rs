//! How is state kept so that every block's root, past states and proofs are cheap?
//!
//! A Merkle Patricia trie (yellow paper, appendix D) whose nodes are immutable and shared: a clone is a pointer, a change
//! copies the path to it, and what was not touched keeps its hash. Keys are 32-byte hashes. Knows nothing of accounts.

use alloy_primitives::{B256, Bytes, keccak256};
use alloy_trie::{
    EMPTY_ROOT_HASH, Nibbles, TrieMask,
    nodes::{BranchNodeRef, ExtensionNodeRef, LeafNodeRef, RlpNode},
};
use std::sync::{Arc, OnceLock};

/// What a leaf holds, as the trie commits to it.
pub(crate) trait Value: Clone {
    /// The RLP that goes into the leaf.
    fn encode_value(&self) -> Vec<u8>;
}

impl Value for alloy_primitives::U256 {
    fn encode_value(&self) -> Vec<u8> {
        alloy_rlp::encode(self)
    }
}

/// A map from 32-byte keys to values with a Merkle root.
#[derive(Clone, Debug)]
pub(crate) struct Trie<V> {
    root: Option<Arc<Node<V>>>,
}

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Self { root: None }
    }
}

#[derive(Clone, Debug)]
struct Node<V> {
    kind: Kind<V>,
    /// The node as its parent names it: its hash, or itself when shorter than one. Empty after a change.
    reference: OnceLock<RlpNode>,
}

#[derive(Clone, Debug)]
enum Kind<V> {
    Leaf { path: Nibbles, value: V },
    Extension { path: Nibbles, child: Arc<Node<V>> },
    Branch { children: Children<V> },
}

type Children<V> = Box<[Option<Arc<Node<V>>>; 16]>;

impl<V: Value> Trie<V> {
    pub(crate) fn get(&self, key: &B256) -> Option<&V> {
        let mut rest = Nibbles::unpack_array(&key.0);
        let mut node = self.root.as_deref()?;
        loop {
            match &node.kind {
                Kind::Leaf { path, value } => return (*path == rest).then_some(value),
                Kind::Extension { path, child } => {
                    if !rest.starts_with(path) {
                        return None;
                    }
                    rest = rest.slice(path.len()..);
                    node = child;
                }
                Kind::Branch { children } => {
                    node = children[nibble(&rest, 0)].as_deref()?;
                    rest = rest.slice(1..);
                }
            }
        }
    }

    /// The value to change in place. The hashes above it are forgotten, so ask only to change.
    pub(crate) fn get_mut(&mut self, key: &B256) -> Option<&mut V> {
        // A look first: a key that is not there must not cost the path its hashes.
        self.get(key)?;
        let mut rest = Nibbles::unpack_array(&key.0);
        let mut slot = self.root.as_mut()?;
        loop {
            let node = Arc::make_mut(slot);
            node.reference = OnceLock::new();
            match &mut node.kind {
                Kind::Leaf { value, .. } => return Some(value),
                Kind::Extension { path, child } => {
                    rest = rest.slice(path.len()..);
                    slot = child;
                }
                Kind::Branch { children } => {
                    slot = children[nibble(&rest, 0)].as_mut()?;
                    rest = rest.slice(1..);
                }
            }
        }
    }

    pub(crate) fn insert(&mut self, key: &B256, value: V) {
        let path = Nibbles::unpack_array(&key.0);
        match &mut self.root {
            Some(root) => insert_at(root, path, value),
            empty => *empty = Some(leaf(path, value)),
        }
    }

    pub(crate) fn remove(&mut self, key: &B256) {
        if self.get(key).is_none() {
            return;
        }
        if let Some(root) = &mut self.root
            && remove_at(root, Nibbles::unpack_array(&key.0))
        {
            self.root = None;
        }
    }

    pub(crate) fn root(&self) -> B256 {
        match &self.root {
            None => EMPTY_ROOT_HASH,
            Some(root) => {
                let reference = root.reference();
                // A root shorter than a hash is hashed all the same.
                reference.as_hash().unwrap_or_else(|| keccak256(reference.as_slice()))
            }
        }
    }

    /// The nodes from the root towards `key`: they prove its value, or that it has none (EIP-1186).
    pub(crate) fn prove(&self, key: &B256) -> Vec<Bytes> {
        let mut nodes = Vec::new();
        let mut rest = Nibbles::unpack_array(&key.0);
        let mut next = self.root.as_deref();
        while let Some(node) = next {
            // A node that fits into its parent has been shown there.
            if nodes.is_empty() || node.reference().is_hash() {
                nodes.push(node.encode().into());
            }
            next = match &node.kind {
                Kind::Leaf { .. } => None,
                Kind::Extension { path, child } => rest.starts_with(path).then(|| {
                    rest = rest.slice(path.len()..);
                    &**child
                }),
                Kind::Branch { children } => {
                    let child = children[nibble(&rest, 0)].as_deref();
                    rest = rest.slice(1..);
                    child
                }
            };
        }
        nodes
    }

    /// Every entry in the order of the keys.
    pub(crate) fn for_each(&self, visit: &mut impl FnMut(B256, &V)) {
        fn walk<V>(node: &Node<V>, prefix: Nibbles, visit: &mut impl FnMut(B256, &V)) {
            match &node.kind {
                Kind::Leaf { path, value } => {
                    let mut key = B256::ZERO;
                    prefix.join(path).pack_to(key.as_mut_slice());
                    visit(key, value);
                }
                Kind::Extension { path, child } => walk(child, prefix.join(path), visit),
                Kind::Branch { children } => {
                    for (index, child) in (0_u8..).zip(children.iter()) {
                        if let Some(child) = child {
                            let mut prefix = prefix;
                            prefix.push(index);
                            walk(child, prefix, visit);
                        }
                    }
                }
            }
        }
        if let Some(root) = &self.root {
            walk(root, Nibbles::default(), visit);
        }
    }
}

impl<V> Node<V> {
    fn new(kind: Kind<V>) -> Arc<Self> {
        Arc::new(Self { kind, reference: OnceLock::new() })
    }
}

impl<V: Value> Node<V> {
    fn reference(&self) -> RlpNode {
        self.reference.get_or_init(|| RlpNode::from_rlp(&self.encode())).clone()
    }

    fn encode(&self) -> Vec<u8> {
        let mut rlp = Vec::with_capacity(128);
        match &self.kind {
            Kind::Leaf { path, value } => {
                alloy_rlp::Encodable::encode(&LeafNodeRef::new(path, &value.encode_value()), &mut rlp);
            }
            Kind::Extension { path, child } => {
                alloy_rlp::Encodable::encode(&ExtensionNodeRef::new(path, &child.reference()), &mut rlp);
            }
            Kind::Branch { children } => {
                let mut mask = TrieMask::default();
                let mut stack = Vec::with_capacity(16);
                for (index, child) in (0_u8..).zip(children.iter()) {
                    if let Some(child) = child {
                        mask.set_bit(index);
                        stack.push(child.reference());
                    }
                }
                alloy_rlp::Encodable::encode(&BranchNodeRef::new(&stack, mask), &mut rlp);
            }
        }
        rlp
    }
}

fn leaf<V>(path: Nibbles, value: V) -> Arc<Node<V>> {
    Node::new(Kind::Leaf { path, value })
}

fn nibble(path: &Nibbles, at: usize) -> usize {
    usize::from(path.get(at).expect("all keys have 64 nibbles, so a path ends in a leaf"))
}

fn insert_at<V: Value>(slot: &mut Arc<Node<V>>, rest: Nibbles, value: V) {
    let node = Arc::make_mut(slot);
    node.reference = OnceLock::new();
    let path = match &mut node.kind {
        Kind::Branch { children } => {
            let tail = rest.slice(1..);
            match &mut children[nibble(&rest, 0)] {
                Some(child) => insert_at(child, tail, value),
                empty => *empty = Some(leaf(tail, value)),
            }
            return;
        }
        Kind::Leaf { path, value: held } if *path == rest => {
            *held = value;
            return;
        }
        Kind::Extension { path, child } if rest.starts_with(path) => {
            return insert_at(child, rest.slice(path.len()..), value);
        }
        Kind::Leaf { path, .. } | Kind::Extension { path, .. } => *path,
    };
    // The two ways part after `shared` nibbles: a branch stands there.
    let shared = path.common_prefix_length(&rest);
    let mut children = Children::<V>::default();
    let tail = path.slice(shared + 1..);
    let old = std::mem::replace(&mut node.kind, Kind::Branch { children: Children::<V>::default() });
    children[nibble(&path, shared)] = Some(match old {
        Kind::Leaf { value, .. } => leaf(tail, value),
        Kind::Extension { child, .. } if tail.is_empty() => child,
        Kind::Extension { child, .. } => Node::new(Kind::Extension { path: tail, child }),
        Kind::Branch { .. } => unreachable!("a branch has no path of its own to part from"),
    });
    children[nibble(&rest, shared)] = Some(leaf(rest.slice(shared + 1..), value));
    let branch = Kind::Branch { children };
    node.kind =
        if shared == 0 { branch } else { Kind::Extension { path: rest.slice(..shared), child: Node::new(branch) } };
}

/// Removes a key that is known to be there; true when nothing is left of the node.
fn remove_at<V: Value>(slot: &mut Arc<Node<V>>, rest: Nibbles) -> bool {
    let node = Arc::make_mut(slot);
    node.reference = OnceLock::new();
    match &mut node.kind {
        Kind::Leaf { .. } => return true,
        Kind::Extension { path, child } => {
            remove_at(child, rest.slice(path.len()..));
            if !matches!(child.kind, Kind::Branch { .. }) {
                node.kind = prefixed(path, child);
            }
        }
        Kind::Branch { children } => {
            let slot = &mut children[nibble(&rest, 0)];
            let child = slot.as_mut().expect("the key is known to be there");
            if remove_at(child, rest.slice(1..)) {
                *slot = None;
            }
            let mut left = (0_u8..).zip(children.iter()).filter_map(|(index, child)| Some((index, child.as_ref()?)));
            if let (Some((index, only)), None) = (left.next(), left.next()) {
                let kind = prefixed(&Nibbles::from_nibbles([index]), only);
                node.kind = kind;
            }
        }
    }
    false
}

/// The node that `prefix` and then `child` make.
fn prefixed<V: Clone>(prefix: &Nibbles, child: &Arc<Node<V>>) -> Kind<V> {
    match &child.kind {
        Kind::Leaf { path, value } => Kind::Leaf { path: prefix.join(path), value: value.clone() },
        Kind::Extension { path, child } => Kind::Extension { path: prefix.join(path), child: child.clone() },
        Kind::Branch { .. } => Kind::Extension { path: *prefix, child: child.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::U256;
    use alloy_trie::{proof::verify_proof, root::storage_root};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A leaf of bytes as they are, as the published vectors have them.
    #[derive(Clone)]
    struct Plain(&'static str);

    impl Value for Plain {
        fn encode_value(&self) -> Vec<u8> {
            self.0.as_bytes().to_vec()
        }
    }

    #[test]
    fn ethereums_published_vectors_of_secure_tries_hold() {
        // ethereum/tests, TrieTests/trieanyorder_secureTrie.json: "singleItem" and "dogs".
        let single: &[(&str, &str)] = &[("A", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")];
        let dogs: &[(&str, &str)] = &[("doe", "reindeer"), ("dog", "puppy"), ("dogglesworth", "cat")];
        let vectors = [
            (single, "e9e2935138352776cad724d31c9fa5266a5c593bb97726dd2a908fe6d53284df"),
            (dogs, "d4cd937e4a4368d7931a9cf51686b7e10abb3dce38a39000fd7902a092b64585"),
        ];
        for (entries, root) in vectors {
            let mut trie = Trie::default();
            for (key, value) in entries {
                trie.insert(&keccak256(key), Plain(value));
            }
            assert_eq!(alloy_primitives::hex::encode(trie.root()), root);
        }
        assert_eq!(Trie::<Plain>::default().root(), EMPTY_ROOT_HASH);
    }

    /// Keys that share long prefixes, so that extensions and collapses happen.
    fn key(seed: u8) -> B256 {
        let mut key = [0x11_u8; 32];
        key[usize::from(seed % 4) * 8] = seed;
        key[31] = seed / 16;
        B256::from(key)
    }

    proptest! {
        #[test]
        fn the_root_is_what_the_published_builder_says_after_any_inserts_and_removals(
            steps in prop::collection::vec((any::<u8>(), 0_u64..4), 1..200)
        ) {
            let mut trie = Trie::<U256>::default();
            let mut model = BTreeMap::new();
            for (seed, value) in steps {
                let key = key(seed);
                let before = trie.clone();
                let root_before = trie.root();
                if value == 0 {
                    trie.remove(&key);
                    model.remove(&key);
                } else {
                    let value = U256::from(value) << (seed % 250);
                    trie.insert(&key, value);
                    model.insert(key, value);
                }
                prop_assert_eq!(trie.root(), storage_root(model.clone()));
                prop_assert_eq!(before.root(), root_before, "an older state does not change");
                prop_assert_eq!(trie.get(&key), model.get(&key));
                let expected = model.get(&key).map(alloy_rlp::encode);
                let proof = trie.prove(&key);
                prop_assert!(verify_proof(trie.root(), Nibbles::unpack(key), expected, &proof).is_ok());
                prop_assert!(
                    verify_proof(trie.root(), Nibbles::unpack(key), Some(vec![0x7f]), &proof).is_err(),
                    "another value is not proven"
                );
            }
            let mut listed = Vec::new();
            trie.for_each(&mut |key, value| listed.push((key, *value)));
            prop_assert_eq!(listed, model.into_iter().collect::<Vec<_>>());
        }
    }
}
