//! Does every lane, and nothing else, have a path to the root?

use alloy_primitives::keccak256;
use lockstep_protocol::{
    ids::{Hash32, NetworkId, RollupId},
    lane::LaneLeaf,
    limits::{MAX_LANE_PATH, MAX_ROLLUPS},
    tree::{Tree, climb, leaf_hash},
};

fn leaves(count: u64) -> Vec<Hash32> {
    let network = NetworkId::from_name("tree");
    (1..=count).map(|rollup| LaneLeaf::genesis(network, RollupId(rollup)).hash()).collect()
}

#[test]
fn a_tree_without_leaves_has_no_root() {
    assert!(Tree::new(Vec::new()).is_none());
}

#[test]
fn a_single_leaf_is_the_root_and_has_an_empty_path() {
    let leaf = leaf_hash(b"alone");
    let tree = Tree::new(vec![leaf]).unwrap();
    assert_eq!((tree.root(), tree.path(leaf)), (leaf, Some(Vec::new())));
}

#[test]
fn every_leaf_climbs_to_the_root_and_no_other_leaf_does_for_any_number_of_rollups() {
    for count in 1..=MAX_ROLLUPS as u64 {
        let mut leaves = leaves(count);
        let tree = Tree::new(leaves.clone()).unwrap();
        for leaf in &leaves {
            let path = tree.path(*leaf).unwrap();
            assert!(path.len() <= MAX_LANE_PATH);
            assert_eq!(climb(*leaf, &path), tree.root(), "{count} leaves");
            assert_ne!(climb(leaf_hash(b"stranger"), &path), tree.root());
            for index in 0..path.len() {
                let mut forged = path.clone();
                forged[index].0[31] ^= 1;
                assert_ne!(climb(*leaf, &forged), tree.root());
            }
        }
        assert_eq!(tree.path(leaf_hash(b"stranger")), None);
        leaves.reverse();
        assert_eq!(Tree::new(leaves).unwrap().root(), tree.root(), "the order of the leaves does not matter");
    }
}

#[test]
fn an_inner_node_cannot_pass_for_a_leaf() {
    // A leaf is the hash of a hash; a node hashes 64 bytes. So 64 bytes that hash to a node are no leaf's encoding.
    let leaves = leaves(2);
    let (low, high) = if leaves[0] <= leaves[1] { (leaves[0], leaves[1]) } else { (leaves[1], leaves[0]) };
    let node = [low.0, high.0].concat();
    let root = Tree::new(leaves).unwrap().root();
    assert_eq!(Hash32(keccak256(&node).0), root);
    assert_ne!(leaf_hash(&node), root);
}

#[test]
fn five_leaves_are_laid_out_as_openzeppelin_does() {
    // node[i] = hash(node[2i+1], node[2i+2]); leaves fill the array from its end, lowest last.
    let mut sorted = leaves(5);
    sorted.sort();
    let pair = |a: Hash32, b: Hash32| Hash32(keccak256([a.min(b).0, a.max(b).0].concat()).0);
    let [n8, n7, n6, n5, n4] = sorted.try_into().unwrap();
    let n3 = pair(n7, n8);
    let (n1, n2) = (pair(n3, n4), pair(n5, n6));
    let tree = Tree::new(vec![n4, n8, n6, n5, n7]).unwrap();
    assert_eq!(tree.root(), pair(n1, n2));
    assert_eq!(tree.path(n8), Some(vec![n7, n4, n2]));
    assert_eq!(tree.path(n4), Some(vec![n3, n2]));
}
