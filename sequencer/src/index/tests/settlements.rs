//! Are settlements and decisions told from the log, before and after they are in the file?

use super::*;
use lockstep_protocol::{
    body::Facts,
    ids::{Address20, AssetId},
    rpc::UnsettledPage,
    settlement::{
        AbortReason, Decision, DecisionRange, Head, HeadCertificate, Intent, Level, MarginTransfer, SettlementLeg,
        Side,
        config::{Asset, Corridor, Participant, SettlementConfig},
        head::{Ed25519Bytes, HeadSignature},
    },
};

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
fn head(rollup: u64) -> HeadCertificate {
    let head = Head {
        rollup: RollupId(rollup),
        level: Level::Executed,
        number: 1,
        block_hash: Hash32([3; 32]),
        state_root: Hash32([4; 32]),
        incarnation: 0,
    };
    HeadCertificate { head, signatures: vec![HeadSignature { validator: 0, signature: Ed25519Bytes([0; 64]) }] }
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
    let facts = Facts { heads: vec![head(900), head(901)], ..Facts::default() };
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
            }
            let status = index.rollup_status(RollupId(rollup)).expect("readable").expect("registered");
            assert_eq!(status.decision_sequence, 2);
            assert!(status.healthy);
            assert_eq!(status.record.latest[0], Some(1));
        }
        assert_eq!(index.unsettled(RollupId(902), None, 8).expect("readable").settlements, []);
        assert_eq!(index.decisions(RollupId(901), 3, 8).expect("readable"), []);
        assert_eq!(index.rollup_status(RollupId(7)).expect("readable"), None);
        let corridors = index.corridors().expect("readable");
        assert_eq!(corridors.len(), 1);
        assert_eq!((corridors[0].cap, corridors[0].under_way), (500, 0), "an abort frees at once");
        let unknown = Intent {
            account: key(2).account(),
            nonce: 9,
            transfer: settlements[0].signed().bundle.transfer().expect("one").clone(),
        };
        assert_eq!(index.settlement(&unknown.sid(chain.rules.network)).expect("readable"), None);
    }
}
