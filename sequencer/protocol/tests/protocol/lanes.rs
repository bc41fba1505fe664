//! Does a follower move only over what proves itself, and say what is wrong with the rest?

use lockstep_protocol::{
    bundle::Transaction,
    certificate::{Certificate, CertificateError, Finality, Verifier},
    genesis::GroupKeyBytes,
    ids::{Hash32, Height, NetworkId, RollupId},
    lane::{LaneEntry, LaneError, LaneFollower, LaneItem, LaneLeaf},
    limits::{MAX_DESCENDANTS, MAX_LANE_PATH},
    wire::Wire,
};

use crate::fixture::{Block, Network, ROLLUPS, certify, genesis, group_key, lane_item};

const LANE: u64 = 901;

/// Six blocks; the lane has something in the 2nd, 3rd, 5th and 6th.
fn chain() -> (Network, Vec<Block>) {
    let mut network = Network::new(2, 1_000_000, &ROLLUPS);
    let plans: [&[&[u64]]; 6] = [&[], &[&[10, LANE]], &[&[LANE], &[10], &[LANE]], &[&[10]], &[&[LANE]], &[&[LANE]]];
    let mut nonces = 0..;
    let mut blocks = Vec::new();
    for plan in plans {
        let bundles = plan.iter().zip(&mut nonces).map(|(rollups, nonce)| network.signed(0, nonce, rollups)).collect();
        blocks.push(network.advance(vec![], bundles));
    }
    (network, blocks)
}

fn follower(network: &Network) -> LaneFollower {
    LaneFollower::from_genesis(network.verifier(), RollupId(LANE))
}

/// A follower after the 2nd block, and the good item of the 3rd.
fn scene() -> (Network, Vec<Block>, LaneFollower, LaneItem) {
    let (network, blocks) = chain();
    let mut follower = follower(&network);
    follower.accept(&network.item(&blocks[1], LANE)).unwrap();
    let item = network.item(&blocks[2], LANE);
    (network, blocks, follower, item)
}

/// The item is refused, and the follower stays where it is.
fn refused(follower: &mut LaneFollower, item: &LaneItem) -> LaneError {
    let before = (follower.leaf(), follower.height());
    let error = follower.accept(item).expect_err("the item is bad");
    assert_eq!((follower.leaf(), follower.height()), before, "an error moves nothing");
    error
}

#[test]
fn a_follower_moves_over_every_item_in_order_and_over_proofs_of_nothing() {
    let (network, blocks) = chain();
    for skip_empty in [false, true] {
        let mut follower = follower(&network);
        for block in &blocks {
            let item = network.item(block, LANE);
            if !(skip_empty && item.entries.is_empty()) {
                follower.accept(&item).unwrap();
            }
        }
        assert_eq!((follower.leaf().sequence, follower.height()), (4, Height(6)));
    }
}

#[test]
fn every_lane_has_its_item_in_every_block() {
    let (network, blocks) = chain();
    for rollup in ROLLUPS {
        let mut follower = LaneFollower::from_genesis(network.verifier(), RollupId(rollup));
        for block in &blocks {
            follower.accept(&network.item(block, rollup)).unwrap();
        }
    }
}

#[test]
fn a_forged_certificate_is_refused() {
    let (_, blocks, mut follower, item) = scene();
    let forged = LaneError::Certificate(CertificateError::Forged(Height(3)));
    let mut bad = item.clone();
    bad.finality.certificate = certify(&group_key(8), &blocks[2].header);
    assert_eq!(refused(&mut follower, &bad), forged, "another group's key");
    bad.finality.certificate = certify(&group_key(7), &blocks[3].header);
    assert_eq!(refused(&mut follower, &bad), forged, "the certificate of another block");
    for change in [
        |c: &mut Certificate| c.epoch += 1,
        |c: &mut Certificate| c.view += 1,
        |c: &mut Certificate| c.parent_view += 1,
    ] {
        let mut bad = item.clone();
        change(&mut bad.finality.certificate);
        assert_eq!(refused(&mut follower, &bad), forged, "what is signed cannot change");
    }
    let mut infinity = [0; 48];
    infinity[0] = 0xc0;
    for bytes in [[0; 48], [0xff; 48], infinity] {
        let mut bad = item.clone();
        bad.finality.certificate.signature.0 = bytes;
        assert_eq!(refused(&mut follower, &bad), forged, "not a point, or infinity");
    }
    follower.accept(&item).unwrap();
}

#[test]
fn a_foreign_networks_item_is_refused() {
    let (network, _, mut follower, item) = scene();
    let mut foreign = Network::from_genesis(genesis("another", 2, 1_000_000, &ROLLUPS));
    let block = (0..3).map(|nonce| foreign.advance(vec![], vec![foreign.signed(0, nonce, &[LANE])])).last().unwrap();
    let bad = foreign.item(&block, LANE);
    let (expected, found) = (network.rules.network, foreign.rules.network);
    let wrong = LaneError::Certificate(CertificateError::WrongNetwork { expected, found });
    assert_eq!(refused(&mut follower, &bad), wrong);
    follower.accept(&item).unwrap();
}

#[test]
fn a_dropped_item_is_a_gap_that_names_what_is_missing() {
    let (network, blocks, mut follower, _) = scene();
    let next = network.item(&blocks[4], LANE);
    assert_eq!(refused(&mut follower, &next), LaneError::Gap { height: Height(5), from: 2, to: 2 });
    let last = network.item(&blocks[5], LANE);
    assert_eq!(refused(&mut follower, &last), LaneError::Gap { height: Height(6), from: 2, to: 3 });
    let nothing = network.item(&blocks[3], LANE);
    assert_eq!(refused(&mut follower, &nothing), LaneError::Gap { height: Height(4), from: 2, to: 2 });
}

#[test]
fn a_gap_is_a_proven_fact_not_the_word_of_whoever_sent_the_item() {
    let (network, blocks, mut follower, _) = scene();
    let mut bad = network.item(&blocks[4], LANE);
    bad.leaf.sequence = 1_000;
    assert!(matches!(refused(&mut follower, &bad), LaneError::Path { .. }));
}

#[test]
fn entries_that_are_held_back_are_refused() {
    let (_, _, mut follower, item) = scene();
    let mut bad = item.clone();
    bad.entries.clear();
    bad.transactions.clear();
    assert_eq!(refused(&mut follower, &bad), LaneError::Gap { height: Height(3), from: 2, to: 2 });
    let mut bad = item.clone();
    bad.entries.pop();
    bad.transactions.pop();
    assert_eq!(refused(&mut follower, &bad), LaneError::Chain { height: Height(3) });
    let mut bad = item;
    bad.entries.swap(0, 1);
    bad.transactions.swap(0, 1);
    assert_eq!(refused(&mut follower, &bad), LaneError::Chain { height: Height(3) });
}

#[test]
fn entries_where_the_lane_has_none_are_refused() {
    let (network, blocks, mut follower, item) = scene();
    follower.accept(&item).unwrap();
    let mut bad = network.item(&blocks[3], LANE);
    bad.entries = item.entries;
    bad.transactions = item.transactions;
    assert_eq!(refused(&mut follower, &bad), LaneError::Chain { height: Height(4) });
}

#[test]
fn a_swapped_transaction_is_refused() {
    let (_, _, mut follower, item) = scene();
    let mut bad = item.clone();
    bad.transactions[1] = vec![Transaction(b"not what was ordered".to_vec())];
    assert_eq!(refused(&mut follower, &bad), LaneError::Transactions { height: Height(3), entry: 1 });
    let mut bad = item.clone();
    bad.transactions.swap(0, 1);
    assert_eq!(refused(&mut follower, &bad), LaneError::Transactions { height: Height(3), entry: 0 });
    // With a content hash that fits, the chain no longer does.
    let mut bad = item.clone();
    let LaneEntry::Leg { content, .. } = &mut bad.entries[1];
    bad.transactions[1] = vec![Transaction(b"not what was ordered".to_vec())];
    *content = lockstep_protocol::lane::content(&bad.transactions[1]);
    assert_eq!(refused(&mut follower, &bad), LaneError::Chain { height: Height(3) });
    let mut bad = item;
    bad.transactions.pop();
    assert_eq!(refused(&mut follower, &bad), LaneError::Shape { height: Height(3), entries: 2, transactions: 1 });
}

#[test]
fn a_replayed_range_is_refused() {
    let (network, blocks, mut follower, item) = scene();
    follower.accept(&item).unwrap();
    for (block, height) in blocks.iter().zip(1..=3) {
        let replayed = LaneError::Replayed { height: Height(height), verified: Height(3) };
        assert_eq!(refused(&mut follower, &network.item(block, LANE)), replayed);
    }
}

#[test]
fn a_replayed_item_under_a_later_header_is_refused() {
    let (network, blocks, mut follower, item) = scene();
    follower.accept(&item).unwrap();
    let mut bad = network.item(&blocks[3], LANE);
    bad.leaf = network.item(&blocks[1], LANE).leaf;
    assert!(matches!(refused(&mut follower, &bad), LaneError::Path { .. }));
}

#[test]
fn a_wrong_path_is_refused() {
    let (_, _, mut follower, item) = scene();
    let wrong = |length| LaneError::Path { height: Height(3), length };
    let mut bad = item.clone();
    bad.path[0].0[0] ^= 1;
    assert_eq!(refused(&mut follower, &bad), wrong(bad.path.len()));
    bad.path = vec![Hash32::default(); MAX_LANE_PATH + 1];
    assert_eq!(refused(&mut follower, &bad), wrong(MAX_LANE_PATH + 1));
    bad.path.clear();
    assert_eq!(refused(&mut follower, &bad), wrong(0));
    for change in [
        |leaf: &mut LaneLeaf| leaf.decision_sequence += 1,
        |leaf: &mut LaneLeaf| leaf.decisions.0[5] ^= 1,
        |leaf: &mut LaneLeaf| {
            leaf.feed.0[0] ^= 1;
        },
    ] {
        let mut bad = item.clone();
        change(&mut bad.leaf);
        assert_eq!(refused(&mut follower, &bad), wrong(item.path.len()), "every field of a leaf is proven");
    }
}

#[test]
fn the_item_of_another_lane_is_refused() {
    let (network, blocks, mut follower, _) = scene();
    let (expected, found) = (RollupId(LANE), RollupId(10));
    assert_eq!(refused(&mut follower, &network.item(&blocks[2], 10)), LaneError::WrongLane { expected, found });
}

#[test]
fn a_certificate_of_a_descendant_proves_its_ancestors() {
    let (network, blocks, mut follower, _) = scene();
    let descendants: Vec<_> = blocks[3..].iter().map(|block| block.header.clone()).collect();
    let certificate = network.certify(&blocks[5].header);
    let finality = Finality { descendants, certificate };
    let good = lane_item(&blocks[2], finality, RollupId(LANE));
    let broken = |height| LaneError::Certificate(CertificateError::BrokenChain(Height(height)));
    let mut bad = good.clone();
    bad.finality.descendants.remove(1);
    assert_eq!(refused(&mut follower, &bad), broken(6));
    let mut bad = good.clone();
    bad.finality.descendants[0].timestamp_ms += 1;
    assert_eq!(refused(&mut follower, &bad), broken(5), "a header that was touched is not its child's parent");
    let mut bad = good.clone();
    bad.finality.descendants[0].height = Height(9);
    assert_eq!(refused(&mut follower, &bad), broken(9));
    let mut bad = good.clone();
    bad.finality.descendants[2].network = NetworkId::from_name("another");
    assert_eq!(refused(&mut follower, &bad), broken(6));
    let mut bad = good.clone();
    bad.finality.descendants.pop();
    assert_eq!(refused(&mut follower, &bad), LaneError::Certificate(CertificateError::Forged(Height(5))));
    let mut bad = good.clone();
    bad.finality.descendants = vec![blocks[3].header.clone(); MAX_DESCENDANTS + 1];
    let many = LaneError::Certificate(CertificateError::TooManyDescendants(MAX_DESCENDANTS + 1));
    assert_eq!(refused(&mut follower, &bad), many);
    follower.accept(&good).unwrap();
}

#[test]
fn a_follower_may_start_at_any_item_that_proves_itself() {
    let (network, blocks, _, item) = scene();
    let mut late = LaneFollower::from_item(network.verifier(), &item).unwrap();
    assert_eq!((late.leaf(), late.height()), (item.leaf, Height(3)));
    late.accept(&network.item(&blocks[4], LANE)).unwrap();
    let mut bad = item;
    bad.leaf.sequence += 1;
    assert!(matches!(LaneFollower::from_item(network.verifier(), &bad), Err(LaneError::Path { .. })));
}

#[test]
fn an_item_with_a_bit_flipped_in_any_byte_is_refused() {
    let (_, _, follower, item) = scene();
    let bytes = item.to_wire();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        if let Ok(bad) = LaneItem::from_wire(&flipped) {
            assert!(follower.clone().accept(&bad).is_err(), "byte {at}");
        }
        assert!(LaneItem::from_wire(&bytes[..at]).is_err(), "{at} bytes");
    }
    assert_eq!(LaneItem::from_wire(&bytes).unwrap(), item);
}

#[test]
fn an_item_whose_lists_are_longer_than_a_bundles_is_not_one() {
    let (_, _, _, item) = scene();
    let mut bad = item.clone();
    bad.transactions[0] = vec![Transaction(vec![]); 65];
    assert!(LaneItem::from_wire(&bad.to_wire()).unwrap_err().to_string().contains("at most 64"));
    let mut bad = item;
    bad.path = vec![Hash32::default(); MAX_LANE_PATH + 1];
    assert!(LaneItem::from_wire(&bad.to_wire()).unwrap_err().to_string().contains("at most 8"));
}

#[test]
fn a_key_that_is_no_point_of_the_group_is_refused() {
    let network = NetworkId::from_name("any");
    let mut infinity = [0; 96];
    infinity[0] = 0xc0;
    for bytes in [[0; 96], [0xff; 96], infinity] {
        let verdict = Verifier::new(network, &GroupKeyBytes(bytes)).map(|_| ());
        assert_eq!(verdict, Err(CertificateError::GroupKey));
    }
}
