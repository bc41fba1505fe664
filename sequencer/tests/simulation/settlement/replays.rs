//! What is said twice, too late, elsewhere, or by the wrong kind of vote.

use blst::min_sig::SecretKey;
use lockstep_protocol::{
    bundle::Leg,
    certificate::{Certificate, CertificateSignature, Finality, Verifier, vote_namespace},
    genesis::GroupKeyBytes,
    header::Header,
    ids::{Hash32, Height, NetworkId, SettlementId},
    lane::{LaneItem, LaneLeaf},
    refusal::Refusal,
    rpc::Fact,
    settlement::{Abort, AbortReason, Decision, DecisionRange, Intent, LaneDecision, LegStatus, Level, Subject, Void},
    tree::Tree,
};

use super::{
    A, B, C, COMMIT, EXPIRED,
    chain::escrow_of,
    margin::{MARGIN, address, key, leaf_of},
    play,
    rollup::Call,
};
use crate::{ALL, network::ROLLUPS};

const DST: &[u8] = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
#[test]
fn a_prepare_that_comes_after_the_abort_finds_a_tombstone() {
    play("tombstone", 3, async |margin, city, shared, _| {
        // The sequencer of B leaves the prepare out.
        margin.rollup(B).deaf_until = u64::MAX;
        let transfer = margin.transfer(0, A, B, 900, 20);
        let late = transfer.bundle.legs.clone();
        let settlement = margin.send(shared, 0, transfer);
        let released = LegStatus::Released;
        margin
            .until("releasing", city, shared, 600, |margin| {
                [(0, A), (1, B)].iter().all(|(leg, id)| margin.rollups[id].status(settlement, *leg) == released)
            })
            .await;
        assert_eq!(margin.decision(&settlement), EXPIRED);
        // Anybody can have the signed transactions executed now.
        margin.rollup(B).deaf_until = 0;
        let before = ROLLUPS.map(|id| margin.rollups[&id].counts);
        let carried = margin.carry(1, late);
        shared.pool(1).submit(carried).expect("good");
        margin
            .until("trying", city, shared, 200, |margin| {
                [(0, A), (1, B)].iter().all(|(place, id)| margin.rollups[id].counts.reverted > before[*place].reverted)
            })
            .await;
        assert_eq!(margin.rollups[&A].free(address(0)), MARGIN);
        assert!([(0, A), (1, B)].iter().all(|(leg, id)| margin.rollups[id].status(settlement, *leg) == released));
    });
}

#[test]
fn margin_of_an_intent_that_was_never_ordered_is_released_once_it_cannot_be_any_more() {
    play("void", 3, async |margin, city, shared, _| {
        let transfer = margin.transfer(0, A, B, 900, 10).bundle;
        let (settlement, moves) = (transfer.settlement().expect("it is one"), transfer.transfer().expect("it is one"));
        let intent = Intent { account: transfer.account, nonce: transfer.nonce, transfer: moves.clone() };
        let carried = margin.carry(1, transfer.legs.clone());
        shared.pool(1).submit(carried).expect("good");
        let prepared = LegStatus::Prepared;
        margin
            .until("preparing", city, shared, 200, |margin| margin.rollups[&A].status(settlement, 0) == prepared)
            .await;
        let void = |margin: &super::Margin| {
            let number = margin.promises.rollup(A).latest[0].expect("the log has heard of it");
            let subject = [Subject::Leg { settlement, leg: 0 }];
            let shown = margin.rollups[&A].chain.observe(Level::Executed, number, escrow_of(A.0), subject);
            let (account_proof, proof) = (shown.account_proof, shown.claims[0].proof.clone());
            Fact::Void(Void { intent: intent.clone(), leg: 0, level: Level::Executed, number, account_proof, proof })
        };
        let early = shared.facts(0).submit(void(margin)).await.expect_err("it may still be ordered");
        assert_eq!(early.reason(), "too_early");
        let deadline = intent.transfer.deadline.0;
        margin.until_height(city, shared, deadline + 2).await;
        shared.facts(0).submit(void(margin)).await.expect("it is shown");
        margin.until("deciding", city, shared, 200, |margin| margin.decided(&[settlement])).await;
        assert_eq!(margin.decision(&settlement), Some(Decision::Abort(AbortReason::Unknown)));
        margin.settle(city, shared).await;
        assert_eq!(margin.rollups[&A].free(address(0)), MARGIN);
        assert!(
            [(0, A), (1, B)].iter().all(|(leg, id)| margin.rollups[id].status(settlement, *leg) == LegStatus::Released)
        );
    });
}

#[test]
fn what_is_said_twice_or_to_another_network_changes_nothing() {
    play("replays", 4, async |margin, city, shared, _| {
        let transfer = margin.transfer(0, A, B, 900, 40);
        let settlement = margin.send(shared, 0, transfer.clone());
        for validator in ALL {
            let again = shared.pool(validator).submit(transfer.clone());
            assert!(again.is_ok() || again.as_ref().is_err_and(is_repeated), "{again:?}");
        }
        // The same intent, and the same transactions, for another network.
        let mut elsewhere = transfer.bundle.clone();
        elsewhere.network = NetworkId::from_name("elsewhere");
        let refusal = shared.pool(1).submit(elsewhere.sign(&key(0))).expect_err("another network");
        assert!(matches!(refusal, Refusal::WrongNetwork { .. }));
        let abort = Abort { network: NetworkId::from_name("elsewhere"), account: key(0).account(), settlement };
        let refused = shared.facts(0).submit(Fact::Abort(abort.sign(&key(0)))).await.expect_err("another network");
        assert_eq!(refused.reason(), "wrong_network");
        let stranger = Abort { network: shared.network(), account: key(1).account(), settlement };
        assert!(shared.facts(0).submit(Fact::Abort(stranger.sign(&key(1)))).await.is_err(), "not its owner");
        margin.until("deciding", city, shared, 300, |margin| margin.decided(&[settlement])).await;
        assert_eq!(margin.decision(&settlement), COMMIT);
        margin.settle(city, shared).await;
        // Everything once more: bundle, transactions, evidence, decisions, and an abort that comes too late.
        let refusal = shared.pool(2).submit(transfer.clone()).expect_err("it was ordered");
        assert!(is_repeated(&refusal), "{refusal}");
        let sums = || margin.rollups.values().map(|rollup| rollup.chain.tip().escrow.clone()).collect::<Vec<_>>();
        let before = sums();
        let reverted = margin.rollups[&A].counts.reverted;
        let number = margin.rollups[&A].chain.number();
        let subject = [Subject::Leg { settlement, leg: 0 }];
        let shown = margin.rollups[&A].chain.observe(Level::Executed, number, escrow_of(A.0), subject);
        let facts = shared.facts(3);
        let _ = facts.submit(Fact::Observation(shown)).await;
        let late = Abort { network: shared.network(), account: key(0).account(), settlement };
        assert!(facts.submit(Fact::Abort(late.sign(&key(0)))).await.is_err(), "it is decided");
        let carried = margin.carry(1, transfer.bundle.legs.clone());
        shared.pool(0).submit(carried).expect("good");
        let applies = {
            let ledger = shared.ledger.lock().unwrap();
            let heights = 1..=ledger.height();
            let all = heights.flat_map(|height| ledger.lane(height, A).to_vec()).flatten();
            all.filter(|transaction| transaction.0.len() > 1_000).collect::<Vec<_>>()
        };
        assert!(!applies.is_empty(), "no decision went through the lane");
        let again = margin.carry(2, vec![Leg { rollup: A, transactions: applies }]);
        shared.pool(1).submit(again).expect("good");
        margin.until("reverting", city, shared, 200, |margin| margin.rollups[&A].counts.reverted >= reverted + 2).await;
        assert!(margin.rollups[&A].counts.unproven > 0);
        let after: Vec<_> = margin.rollups.values().map(|rollup| rollup.chain.tip().escrow.clone()).collect();
        assert_eq!(before, after, "nothing has moved");
    });
}

/// A hub takes a decision from nobody but the group, and only by its vote to finalize.
#[test]
fn a_hub_takes_no_decision_without_the_certificate_of_a_final_block() {
    play("certificates", 3, async |margin, city, shared, _| {
        margin.relayer.left = 0;
        let transfer = margin.transfer(0, A, B, 900, 12);
        let settlement = margin.send(shared, 0, transfer);
        margin.until("expiring", city, shared, 300, |margin| margin.decided(&[settlement])).await;
        assert_eq!(margin.decision(&settlement), EXPIRED, "nobody showed anything");
        let height = margin.promises.height();
        margin.steps(city, shared, 8).await;
        let finality = city.handle(0).finality(Height(height)).await.expect("it is final");
        let (item, leaves) = {
            let ledger = shared.ledger.lock().unwrap();
            let page = ledger.page_at(height);
            let tree = Tree::new(page.leaves.iter().map(LaneLeaf::hash).collect()).expect("there are lanes");
            let leaf = leaf_of(&page.leaves, A);
            let path = tree.path(leaf.hash()).expect("the leaf is in the tree");
            let (header, entries, transactions) = (page.header.clone(), Vec::new(), Vec::new());
            let item = LaneItem { header, finality, leaf, path, entries, transactions };
            (item, page.leaves.clone())
        };
        let decisions = margin.promises.lanes[&A].clone();
        let intents = vec![margin.promises.known[&settlement].clone()];
        let range = DecisionRange { rollup: A, sequence: 0, chain: Default::default(), decisions };
        let mut forged = Vec::new();
        let mut forge = |change: &dyn Fn(&mut LaneItem, &mut DecisionRange)| {
            let (mut item, mut range) = (item.clone(), range.clone());
            change(&mut item, &mut range);
            forged.push(Call::Apply { item: Box::new(item), range, intents: intents.clone() });
        };
        // A commit in the place of the abort.
        forge(&|item, range| {
            range.decisions[0].outcome = 1;
            item.leaf = LaneLeaf::genesis(item.header.network, A).decide(range.decisions[0].settlement, 1);
        });
        forge(&|_, range| range.decisions[0].outcome = 1);
        // The certificate of another view, of an earlier one, and none.
        forge(&|item, _| item.finality.certificate.view += 1);
        forge(&|item, _| item.finality.certificate.parent_view = item.finality.certificate.parent_view.wrapping_sub(1));
        forge(&|item, _| item.finality.certificate.signature.0[47] ^= 1);
        forge(&|item, _| item.finality.certificate.signature.0 = [0; 48]);
        // Another block's header, another lane's leaf, another network.
        forge(&|item, _| item.header.timestamp_ms += 1);
        forge(&|item, _| item.leaf = leaf_of(&leaves, C));
        forge(&|item, _| item.header.network = NetworkId::from_name("elsewhere"));
        // A hole in the sequence.
        forge(&|_, range| range.sequence = 1);
        let count = forged.len();
        let transactions = forged.iter().map(|call| call.sign(A, &super::margin::secret(1))).collect();
        let carried = margin.carry(1, vec![Leg { rollup: A, transactions }]);
        shared.pool(0).submit(carried).expect("good");
        margin.until("refusing", city, shared, 200, |margin| margin.rollups[&A].counts.unproven >= count).await;
        assert_eq!(margin.rollups[&A].chain.tip().applied, 0);
        assert_eq!(margin.rollups[&A].counts.unproven, count, "each of them");
        // The true one passes.
        margin.replace_relayer();
        margin.settle(city, shared).await;
        assert_eq!(margin.rollups[&A].status(settlement, 0), LegStatus::Released);
    });
}

/// Both are votes of the same group over the same proposal. A block may be notarized and never final.
#[test]
fn a_notarization_is_no_finalization() {
    let group = SecretKey::key_gen(&[7; 32], &[]).expect("32 bytes are enough");
    let network = NetworkId::from_name("simulation");
    let verifier = Verifier::new(network, &GroupKeyBytes(group.sk_to_pk().to_bytes())).expect("a key");
    let settlement = SettlementId([3; 32]);
    let leaf = LaneLeaf::genesis(network, A).decide(settlement, 2);
    let tree = Tree::new(vec![leaf.hash()]).expect("one lane");
    let header =
        Header { network, height: Height(5), view: 9, parent_view: 8, lanes: tree.root(), ..Header::default() };
    let mut certificate = Certificate { epoch: 0, view: 9, parent_view: 8, signature: CertificateSignature([0; 48]) };
    let finalize = certificate.message(network, &header.digest());
    // The namespace ends with the kind of the vote, its length stands before it.
    let vote = |kind: &[u8]| {
        let (old, end) = (b"_FINALIZE".as_slice(), 1 + vote_namespace(network).len());
        assert_eq!(&finalize[end..end + old.len()], old);
        let namespace = [&finalize[1..end], kind].concat();
        [&[u8::try_from(namespace.len()).expect("short")], namespace.as_slice(), &finalize[end + old.len()..]].concat()
    };
    let mut apply = |message: &[u8]| {
        certificate.signature = CertificateSignature(group.sign(message, DST, &[]).to_bytes());
        let finality = Finality { descendants: Vec::new(), certificate };
        let path = tree.path(leaf.hash()).expect("it is in the tree");
        let (header, entries, transactions) = (header.clone(), Vec::new(), Vec::new());
        let item = Box::new(LaneItem { header, finality, leaf, path, entries, transactions });
        let decisions = vec![LaneDecision { settlement, outcome: 2, legs: Vec::new() }];
        let range = DecisionRange { rollup: A, sequence: 0, chain: Hash32::default(), decisions };
        Call::Apply { item, range, intents: Vec::new() }.try_alone(A, &verifier)
    };
    assert_eq!(vote(b"_FINALIZE"), finalize);
    for kind in [b"_NOTARIZE".as_slice(), b"_NULLIFY", b"_SEED", b""] {
        assert_eq!(apply(&vote(kind)), None, "{}", String::from_utf8_lossy(kind));
    }
    assert_eq!(apply(&finalize), Some(1), "the vote to finalize is taken");
}

/// What a pool may say to a bundle that was ordered meanwhile.
fn is_repeated(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::NonceUsed { .. })
}
