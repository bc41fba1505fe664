//! Are settlements and decisions told from the log, before and after they are in the file?

use alloy_primitives::{U256, keccak256};
use alloy_rlp::Encodable;
use lockstep_protocol::{
    body::Facts,
    ids::{Address20, AssetId, SettlementId},
    rpc::{DecisionPage, UnsettledPage},
    settlement::{
        AbortReason, Claim, Decision, DecisionRange, Head, HeadCertificate, Intent, LegStatus, Level, MarginTransfer,
        Observation, SettlementLeg, Side, Subject,
        config::{Asset, Corridor, Participant, SettlementConfig},
        head::{Ed25519Bytes, HeadSignature},
        proof::ProofNode,
        records::Seen,
    },
};

use super::*;
use crate::rpc::tests::check_result;

const ASSET: AssetId = AssetId([0xa5; 32]);

fn settling_genesis() -> Genesis {
    let mut genesis = genesis("index-settlements");
    for rollup in &mut genesis.rollups[..2] {
        let (hub, escrows) = (Address20([1; 20]), vec![Address20([2; 20])]);
        rollup.settlement = Some(Participant { hub, escrows, settled_level: Level::Executed });
    }
    genesis.settlement = Some(SettlementConfig {
        apply_window: 8,
        assets: vec![Asset { asset: ASSET, account_cap: 1_000 }],
        corridors: vec![Corridor { from: RollupId(900), to: RollupId(901), asset: ASSET, cap: 500 }],
    });
    genesis
}

/// Heads need a quorum of signatures; whether they are good is checked before a block is voted for, not here.
fn head(rollup: u64, number: u64, state_root: Hash32) -> HeadCertificate {
    let (rollup, level, block_hash) = (RollupId(rollup), Level::Executed, Hash32([3; 32]));
    let head = Head { rollup, level, number, block_hash, state_root, incarnation: 0 };
    HeadCertificate { head, signatures: vec![HeadSignature { validator: 0, signature: Ed25519Bytes([0; 64]) }] }
}

/// A trie with one value: its root, and its only node.
fn trie(key: &[u8], value: Vec<u8>) -> (Hash32, Vec<ProofNode>) {
    // 0x20: a leaf whose path has an even number of nibbles.
    let path = [&[0x20], keccak256(key).as_slice()].concat();
    let mut node = Vec::new();
    alloy_rlp::encode_list::<_, [u8]>(&[path.as_slice(), value.as_slice()], &mut node);
    (Hash32(keccak256(&node).0), vec![ProofNode(node)])
}

/// A rollup's head at which the escrow holds this word for a leg, and the proof of it.
fn shown(
    rollup: u64,
    number: u64,
    settlement: SettlementId,
    leg: u8,
    word: LegStatus,
) -> (HeadCertificate, Observation) {
    let subject = Subject::Leg { settlement, leg };
    let (storage, proof) = trie(&subject.slot().0, alloy_rlp::encode(U256::from(word as u8)));
    let mut fields = Vec::new();
    1_u64.encode(&mut fields);
    0_u64.encode(&mut fields);
    storage.0.encode(&mut fields);
    [0_u8; 32].encode(&mut fields);
    let mut account = Vec::new();
    alloy_rlp::Header { list: true, payload_length: fields.len() }.encode(&mut account);
    account.extend(fields);
    let contract = Address20([2; 20]);
    let (state, account_proof) = trie(&contract.0, account);
    let claims = vec![Claim { subject, proof }];
    let (rollup_id, level) = (RollupId(rollup), Level::Executed);
    let observation = Observation { rollup: rollup_id, level, number, contract, account_proof, claims };
    (head(rollup, number, state), observation)
}

/// Both legs of a settlement in the same status, on blocks of this number.
fn both(settlement: SettlementId, number: u64, word: LegStatus) -> Facts {
    let (heads, observations) =
        [(900, 0), (901, 1)].map(|(rollup, leg)| shown(rollup, number, settlement, leg, word)).into_iter().unzip();
    Facts { heads, observations, ..Facts::default() }
}

fn leg(rollup: u64, side: Side) -> SettlementLeg {
    let (escrow, account) = (Address20([2; 20]), Address20([7; 20]));
    SettlementLeg { rollup: RollupId(rollup), escrow, account, asset: ASSET, side, amount: 100, level: Level::Executed }
}

fn settlement(chain: &Chain, nonce: u64, deadline: u64) -> CheckedBundle {
    let transfer =
        MarginTransfer { legs: vec![leg(900, Side::Debit), leg(901, Side::Credit)], deadline: Height(deadline) };
    let plain = chain.bundle(1, nonce, &[900, 901]);
    let bundle = Bundle { kind: Kind::Settlement(transfer), ..plain.signed().bundle.clone() };
    CheckedBundle::new(bundle.sign(&key(1)), &chain.rules).expect("a sound settlement")
}

fn chain() -> (Chain, [CheckedBundle; 2]) {
    let mut chain = Chain::of(settling_genesis());
    let facts = Facts { heads: vec![head(900, 1, Hash32([4; 32])), head(901, 1, Hash32([4; 32]))], ..Facts::default() };
    chain.extend_with(facts, vec![], vec![]);
    let settlements = [settlement(&chain, 1, 7), settlement(&chain, 2, 8)];
    chain.extend(vec![], settlements.to_vec());
    for _ in 3..=8 {
        chain.extend(vec![], vec![]);
    }
    (chain, settlements)
}

fn page(page: &UnsettledPage) -> Vec<lockstep_protocol::ids::SettlementId> {
    page.settlements.iter().map(|status| status.settlement).collect()
}

#[test]
fn settlements_and_decisions_are_found_wherever_they_lie() {
    let (chain, settlements) = chain();
    for flushed in [0, 2, 7, 8] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let index = Index::open(&folder.path().join("index.redb"), &chain.genesis).expect("an index");
        chain.replay(&index, 0..flushed);
        index.flush().expect("written");
        chain.replay(&index, flushed..chain.blocks.len());

        let mut ids = Vec::new();
        for (bundle, deadline) in settlements.iter().zip([7, 8]) {
            let sid = bundle.signed().bundle.settlement().expect("a settlement");
            ids.push(sid);
            let status = index.settlement(&sid).expect("readable").expect("known");
            assert_eq!(status.intent.sid(chain.rules.network), sid);
            let ordered = status.ordered.expect("it was ordered");
            assert_eq!((ordered.bundle, ordered.height), (bundle.id(), Height(2)));
            assert_eq!(status.changed, Height(deadline), "its deadline decided it");
            let decided = status.record.decided.expect("decided");
            assert_eq!((decided.decision, decided.height), (Decision::Abort(AbortReason::Expired), Height(deadline)));
            assert!(!status.record.settled, "nobody has shown it released");
            check_result("lockstep_getSettlement", &serde_json::to_value(&status).expect("JSON"));
        }
        let order = ids.clone();
        ids.sort();
        for rollup in [900, 901] {
            let all = index.unsettled(RollupId(rollup), None, 8).expect("readable");
            assert_eq!((page(&all), all.next), (ids.clone(), None));
            let first = index.unsettled(RollupId(rollup), None, 1).expect("readable");
            assert_eq!((page(&first), first.next), (vec![ids[0]], Some(ids[0])));
            let second = index.unsettled(RollupId(rollup), first.next, 1).expect("readable");
            assert_eq!((page(&second), second.next), (vec![ids[1]], None));
            check_result("lockstep_getUnsettled", &serde_json::to_value(&first).expect("JSON"));

            let rows = index.decisions(RollupId(rollup), 1, 8).expect("readable");
            let told: Vec<_> = rows.iter().map(|row| row.decision.settlement).collect();
            assert_eq!(told, order, "in the order of the deadlines");
            let intents: Vec<_> = rows.iter().map(|row| row.intent.sid(chain.rules.network)).collect();
            assert_eq!(intents, order);
            for count in 1..=2 {
                let rows = index.decisions(RollupId(rollup), 1, count).expect("readable");
                assert_eq!(rows.len(), count);
                let leaf = index.leaf_at(RollupId(rollup), rows[count - 1].height).expect("readable");
                let decisions = rows.iter().map(|row| row.decision.clone()).collect();
                let range = DecisionRange { rollup: RollupId(rollup), sequence: 0, chain: rows[0].before, decisions };
                assert_eq!(range.verify(&leaf), Ok(()));
                let intents = rows.into_iter().map(|row| row.intent).collect();
                let page = DecisionPage { range, intents, item: None };
                check_result("lockstep_getDecisions", &serde_json::to_value(&page).expect("JSON"));
            }
            let status = index.rollup_status(RollupId(rollup)).expect("readable").expect("registered");
            assert_eq!(status.decision_sequence, 2);
            assert!(status.healthy);
            assert_eq!(status.record.latest[0], Some(1));
            check_result("lockstep_getRollupStatus", &serde_json::to_value(status).expect("JSON"));
        }
        assert_eq!(index.unsettled(RollupId(902), None, 8).expect("readable").settlements, []);
        assert_eq!(index.decisions(RollupId(901), 3, 8).expect("readable"), []);
        assert_eq!(index.rollup_status(RollupId(7)).expect("readable"), None);
        let corridors = index.corridors().expect("readable");
        assert_eq!(corridors.len(), 1);
        assert_eq!((corridors[0].cap, corridors[0].under_way), (500, 0), "an abort frees at once");
        check_result("lockstep_getCorridors", &serde_json::to_value(corridors).expect("JSON"));
        let unknown = Intent {
            account: key(2).account(),
            nonce: 9,
            transfer: settlements[0].signed().bundle.transfer().expect("one").clone(),
        };
        assert_eq!(index.settlement(&unknown.sid(chain.rules.network)).expect("readable"), None);
    }
}

#[test]
fn a_commit_is_told_at_each_step_until_nobody_waits_for_it() {
    let mut chain = Chain::of(settling_genesis());
    let facts = Facts { heads: vec![head(900, 1, Hash32([4; 32])), head(901, 1, Hash32([4; 32]))], ..Facts::default() };
    chain.extend_with(facts, vec![], vec![]);
    let bundle = settlement(&chain, 1, 20);
    let sid = bundle.signed().bundle.settlement().expect("a settlement");
    chain.extend(vec![], vec![bundle]);
    // One leg is shown before the other.
    let mut first = both(sid, 2, LegStatus::Prepared);
    let mut second = first.clone();
    first.heads.truncate(1);
    first.observations.truncate(1);
    second.heads.remove(0);
    second.observations.remove(0);
    chain.extend_with(first, vec![], vec![]);
    chain.extend_with(second, vec![], vec![]);
    chain.extend(vec![], vec![]);
    chain.extend_with(both(sid, 3, LegStatus::Committed), vec![], vec![]);
    for flush in [false, true] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let index = Index::open(&folder.path().join("index.redb"), &chain.genesis).expect("an index");
        let rollup = RollupId(901);
        // Height, height that changed it last, decided, settled, waiting, under way.
        for (height, changed, decided, waiting, under_way) in [
            (2, 2, false, true, 100),
            (3, 3, false, true, 100),
            (4, 4, true, true, 100),
            (5, 4, true, true, 100),
            (6, 6, true, false, 0),
        ] {
            chain.replay(&index, usize::try_from(index.height().0).expect("small")..height);
            if flush {
                index.flush().expect("written");
            }
            let status = index.settlement(&sid).expect("readable").expect("known");
            assert_eq!(status.changed, Height(changed), "at height {height}");
            let decision = status.record.decided.map(|decided| decided.decision);
            assert_eq!(decision, decided.then_some(Decision::Commit), "at height {height}");
            assert_eq!(status.record.settled, !waiting);
            let page = index.unsettled(rollup, None, 4).expect("readable");
            assert_eq!(page.settlements.len(), usize::from(waiting), "at height {height}");
            assert_eq!(index.corridors().expect("readable")[0].under_way, under_way);
            check_result("lockstep_waitSettlement", &serde_json::to_value(&status).expect("JSON"));
        }
        let row = &index.decisions(rollup, 1, 1).expect("readable")[0];
        assert_eq!((row.height, row.decision.outcome, row.decision.legs[0].index), (Height(4), 1, 1));
        let status = index.settlement(&sid).expect("readable").expect("still known");
        assert!(status.record.legs.iter().all(|leg| leg.seen == Seen::Applied));
    }
}

#[test]
fn a_settled_transfer_that_turns_out_short_waits_again_until_it_is_covered() {
    let mut chain = Chain::of(settling_genesis());
    let facts = Facts { heads: vec![head(900, 1, Hash32([4; 32])), head(901, 1, Hash32([4; 32]))], ..Facts::default() };
    chain.extend_with(facts, vec![], vec![]);
    let bundle = settlement(&chain, 1, 20);
    let sid = bundle.signed().bundle.settlement().expect("a settlement");
    chain.extend(vec![], vec![bundle]);
    chain.extend_with(both(sid, 2, LegStatus::Prepared), vec![], vec![]);
    chain.extend_with(both(sid, 3, LegStatus::Committed), vec![], vec![]);
    // The first rollup has another block 3; in its new history the debit finds too little, until somebody covers it.
    let again = |mut certificate: HeadCertificate| {
        certificate.head.incarnation = 1;
        certificate
    };
    let heads = vec![again(head(900, 3, Hash32([5; 32])))];
    chain.extend_with(Facts { heads, ..Facts::default() }, vec![], vec![]);
    for (number, word) in [(4, LegStatus::Shortfall), (5, LegStatus::Committed)] {
        let (certificate, observation) = shown(900, number, sid, 0, word);
        let (heads, observations) = (vec![again(certificate)], vec![observation]);
        chain.extend_with(Facts { heads, observations, ..Facts::default() }, vec![], vec![]);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let index = Index::open(&folder.path().join("index.redb"), &chain.genesis).expect("an index");
    for (height, waiting) in [(3, 1), (4, 0), (5, 0), (6, 1), (7, 0)] {
        chain.replay(&index, usize::try_from(index.height().0).expect("small")..height);
        for rollup in [900, 901] {
            let page = index.unsettled(RollupId(rollup), None, 4).expect("readable");
            assert_eq!(page.settlements.len(), waiting, "at height {height}");
        }
        let behind = index.rollup_status(RollupId(900)).expect("readable").expect("registered").record.shortfalls;
        assert_eq!(behind, u32::from(height == 6));
    }
}

#[test]
fn who_is_late_is_a_change_of_the_settlement() {
    let (mut chain, settlements) = chain();
    for _ in 9..=15 {
        chain.extend(vec![], vec![]);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let index = Index::open(&folder.path().join("index.redb"), &chain.genesis).expect("an index");
    chain.replay(&index, 0..15);
    // The deadlines were 7 and 8, the window is of 8 heights.
    for (bundle, changed, late) in [(&settlements[0], 15, 0b11), (&settlements[1], 8, 0)] {
        let sid = bundle.signed().bundle.settlement().expect("a settlement");
        let status = index.settlement(&sid).expect("readable").expect("known");
        assert_eq!((status.changed, status.record.late), (Height(changed), late));
    }
    assert!(!index.rollup_status(RollupId(900)).expect("readable").expect("registered").healthy);
}

#[test]
fn many_decisions_are_cut_where_a_block_ends() {
    let mut chain = Chain::of(settling_genesis());
    let facts = Facts { heads: vec![head(900, 1, Hash32([4; 32])), head(901, 1, Hash32([4; 32]))], ..Facts::default() };
    chain.extend_with(facts, vec![], vec![]);
    // Two are due at 7, three at 8.
    let settlements = (1..=5).map(|nonce| settlement(&chain, nonce, if nonce <= 2 { 7 } else { 8 })).collect();
    chain.extend(vec![], settlements);
    for _ in 3..=9 {
        chain.extend(vec![], vec![]);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let index = Index::open(&folder.path().join("index.redb"), &chain.genesis).expect("an index");
    chain.replay(&index, 0..9);
    let counts = |from: u64| -> Vec<usize> {
        (1..=6).map(|max| index.decisions(RollupId(900), from, max).expect("readable").len()).collect()
    };
    assert_eq!(counts(1), [2, 2, 2, 2, 5, 5], "a block that decides more than asked for is given whole");
    assert_eq!(counts(2), [1, 1, 1, 4, 4, 4]);
    assert_eq!(counts(3), [3, 3, 3, 3, 3, 3]);
    assert_eq!(counts(6), [0; 6]);
}
