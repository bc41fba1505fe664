//! A log that settles margin between two rollups, told by proofs over tries of one value each.

use std::sync::Arc;

use alloy_primitives::{U256, keccak256};
use lockstep_sdk::protocol::{
    body::Facts,
    bundle::{Bundle, Kind, Leg, SignedBundle, Tag, Transaction},
    genesis::Genesis,
    ids::{Address20, AssetId, Hash32, Height, RollupId, SettlementId},
    settlement::{
        Claim, Head, HeadCertificate, LegStatus, Level, MarginTransfer, Observation, SettlementLeg, Side, Subject,
        config::{Asset, Corridor, Participant, SettlementConfig},
        head::{Ed25519Bytes, HeadSignature},
        proof::ProofNode,
    },
};

use crate::world::{ROLLUPS, World, alice, genesis, group};

pub(crate) const ASSET: AssetId = AssetId([0xa5; 32]);

/// The escrow, on both rollups: where the deployment of `rollup.rs` puts it.
pub(crate) fn escrow() -> Address20 {
    Address20(crate::rollup::addresses().escrow.0.0)
}

/// One corridor each way, of 500; an account may have 1,000 under way.
pub(crate) fn settling_genesis() -> Genesis {
    let mut genesis = genesis("test", &group(7));
    for rollup in &mut genesis.rollups {
        let (hub, escrows) = (Address20([1; 20]), vec![escrow()]);
        rollup.settlement = Some(Participant { hub, escrows, settled_level: Level::Executed });
    }
    let [a, b] = ROLLUPS;
    genesis.settlement = Some(SettlementConfig {
        apply_window: 8,
        assets: vec![Asset { asset: ASSET, account_cap: 1_000 }],
        corridors: [(a, b), (b, a)].map(|(from, to)| Corridor { from, to, asset: ASSET, cap: 500 }).to_vec(),
    });
    genesis
}

/// A trie with one value: its root, and its only node.
fn trie(key: &[u8], value: &[u8]) -> (Hash32, Vec<ProofNode>) {
    // 0x20: a leaf whose path has an even number of nibbles.
    let path = [&[0x20], keccak256(key).as_slice()].concat();
    let node = list(&[text(&path), text(value)].concat());
    (Hash32(keccak256(&node).0), vec![ProofNode(node)])
}

/// RLP of bytes.
fn text(bytes: &[u8]) -> Vec<u8> {
    match bytes {
        [byte] if *byte < 0x80 => vec![*byte],
        _ => framed(0x80, bytes),
    }
}

/// RLP of a list whose items are encoded.
fn list(items: &[u8]) -> Vec<u8> {
    framed(0xc0, items)
}

fn framed(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("short");
    let head = if length < 56 { vec![kind + length] } else { vec![kind + 55 + 1, length] };
    [head, bytes.to_vec()].concat()
}

pub(crate) fn head(rollup: RollupId, number: u64, state_root: Hash32) -> HeadCertificate {
    let (level, block_hash) = (Level::Executed, Hash32([3; 32]));
    let head = Head { rollup, level, number, block_hash, state_root, incarnation: 0 };
    HeadCertificate { head, signatures: vec![HeadSignature { validator: 0, signature: Ed25519Bytes([0; 64]) }] }
}

/// A rollup's head at which the escrow holds this word for a leg, and the proof of it.
pub(crate) fn shown(number: u64, settlement: SettlementId, leg: u8, word: LegStatus) -> (HeadCertificate, Observation) {
    let rollup = ROLLUPS[usize::from(leg)];
    let subject = Subject::Leg { settlement, leg };
    let (storage, proof) = trie(&subject.slot().0, &text(&U256::from(word as u8).to_be_bytes_trimmed_vec()));
    // Nonce, balance, storage, code.
    let account = list(&[text(&[1]), text(&[]), text(&storage.0), text(&[0; 32])].concat());
    let (state, account_proof) = trie(&escrow().0, &account);
    let claims = vec![Claim { subject, proof }];
    let observation = Observation { rollup, level: Level::Executed, number, contract: escrow(), account_proof, claims };
    (head(rollup, number, state), observation)
}

/// Legs of a settlement in a status, on blocks of this number.
pub(crate) fn legs(settlement: SettlementId, number: u64, legs: &[u8], word: LegStatus) -> Facts {
    let (heads, observations) = legs.iter().map(|leg| shown(number, settlement, *leg, word)).unzip();
    Facts { heads, observations, ..Facts::default() }
}

/// What makes both rollups known.
pub(crate) fn first_heads() -> Facts {
    Facts { heads: ROLLUPS.map(|rollup| head(rollup, 1, Hash32([4; 32]))).to_vec(), ..Facts::default() }
}

/// Alice moves `amount` from the first rollup to the second.
pub(crate) fn settlement(nonce: u64, amount: u128, deadline: u64) -> SignedBundle {
    let leg = |rollup, side| SettlementLeg {
        rollup,
        escrow: escrow(),
        account: Address20([7; 20]),
        asset: ASSET,
        side,
        amount,
        level: Level::Executed,
    };
    let transfer = MarginTransfer {
        legs: vec![leg(ROLLUPS[0], Side::Debit), leg(ROLLUPS[1], Side::Credit)],
        deadline: Height(deadline),
    };
    let bundle = Bundle {
        network: genesis("test", &group(7)).network_id(),
        account: alice().account(),
        nonce,
        tag: Tag([1; 16]),
        valid_until: Height(deadline - 4),
        tip: 0,
        max_fee: 1_000,
        legs: ROLLUPS.map(|rollup| Leg { rollup, transactions: vec![Transaction(vec![2; 40])] }).to_vec(),
        kind: Kind::Settlement(transfer),
    };
    bundle.sign(&alice())
}

pub(crate) fn id_of(signed: &SignedBundle) -> SettlementId {
    signed.bundle.settlement().expect("a settlement")
}

/// Ordered at 2, both prepared and so committed at 4, applied everywhere and so settled at 6.
pub(crate) fn committed() -> SignedBundle {
    settlement(0, 100, 30)
}

/// Ordered at 2 and never shown prepared: aborted at 9.
pub(crate) fn expired() -> SignedBundle {
    settlement(1, 50, 9)
}

/// Ordered at 7 and refused by the second rollup at 8.
pub(crate) fn refused() -> SignedBundle {
    settlement(2, 70, 30)
}

pub(crate) fn story() -> Arc<World> {
    let nothing = || (Facts::default(), vec![], vec![]);
    let (commit, refuse) = (id_of(&committed()), id_of(&refused()));
    World::grown(
        settling_genesis(),
        7,
        vec![
            (first_heads(), vec![], vec![]),
            (Facts::default(), vec![], vec![committed(), expired()]),
            (legs(commit, 2, &[0], LegStatus::Prepared), vec![], vec![]),
            (legs(commit, 2, &[1], LegStatus::Prepared), vec![], vec![]),
            (legs(commit, 3, &[0], LegStatus::Committed), vec![], vec![]),
            (legs(commit, 3, &[1], LegStatus::Committed), vec![], vec![]),
            (Facts::default(), vec![], vec![refused()]),
            (legs(refuse, 4, &[1], LegStatus::Refused), vec![], vec![]),
            nothing(),
            nothing(),
        ],
    )
}
