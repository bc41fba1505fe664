//! Do random blocks keep the promises: all legs or none, a nonce once, credits conserved, one certain outcome?

use lockstep_protocol::{
    account::AccountRecord,
    body::{Body, CheckedBody, CheckedBundle},
    bundle::{Bundle, SignedBundle, SignedCancel},
    evidence::{BundleState, conclude},
    fees,
    ids::{Account, Hash32, Height, RollupId},
    lane::{LaneContext, LaneEntry, LaneLeaf, content},
    limits::{LANE_BYTES_TARGET, MAX_LANE_BYTES},
    report::{Event, chain},
    transition::{apply, build},
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

use crate::{
    config,
    fixture::{Block, Network, ROLLUPS, key, leg},
};

const ACCOUNTS: u8 = 4;
/// A few dozen small bundles' fees: accounts run dry within a scenario.
const CREDITS: u64 = 3_000;

#[derive(Clone, Debug)]
struct BundlePlan {
    account: u8,
    /// Relative to one above the highest nonce used.
    nonce: i64,
    /// Which of the three rollups.
    legs: u8,
    transaction_bytes: usize,
    tip: u64,
    max_fee: u64,
    /// Relative to the next height.
    valid_until: i64,
}

#[derive(Clone, Debug)]
struct CancelPlan {
    account: u8,
    first: i64,
    length: u64,
}

#[derive(Clone, Debug)]
struct BlockPlan {
    cancels: Vec<CancelPlan>,
    bundles: Vec<BundlePlan>,
    /// Send again every bundle of the scenario so far.
    retry: bool,
}

fn nonce_offset() -> impl Strategy<Value = i64> {
    prop_oneof![8 => -4..6_i64, 1 => 1_015..1_030_i64, 1 => -1_030..-1_015_i64]
}

fn bundle_plan() -> impl Strategy<Value = BundlePlan> {
    (
        0..ACCOUNTS + 1,
        nonce_offset(),
        1..8_u8,
        prop_oneof![4 => 0..60_usize, 1 => 200..1_000_usize],
        0..200_u64,
        prop_oneof![3 => Just(u64::MAX), 1 => 0..400_u64],
        prop_oneof![4 => 0..4_i64, 1 => -2..0_i64, 1 => 8_190..8_194_i64],
    )
        .prop_map(|(account, nonce, legs, transaction_bytes, tip, max_fee, valid_until)| BundlePlan {
            account,
            nonce,
            legs,
            transaction_bytes,
            tip,
            max_fee,
            valid_until,
        })
}

fn block_plan() -> impl Strategy<Value = BlockPlan> {
    let cancel = (0..ACCOUNTS + 1, nonce_offset(), 1..1_024_u64).prop_map(|(account, first, length)| CancelPlan {
        account,
        first,
        length: length.min(1 + length % 7),
    });
    (prop::collection::vec(cancel, 0..3), prop::collection::vec(bundle_plan(), 0..10), any::<bool>())
        .prop_map(|(cancels, bundles, retry)| BlockPlan { cancels, bundles, retry })
}

impl BundlePlan {
    fn sign(&self, network: &Network) -> SignedBundle {
        let next = network.account(key(self.account).account()).map_or(0, |record| record.nonces.next());
        let picked = ROLLUPS.iter().enumerate().filter(|(index, _)| self.legs >> index & 1 == 1);
        let payload = vec![self.legs; self.transaction_bytes];
        let bundle = Bundle {
            tip: self.tip,
            max_fee: self.max_fee,
            valid_until: Height(network.next().0.saturating_add_signed(self.valid_until)),
            legs: picked.map(|(_, rollup)| leg(*rollup, &[&payload, b"second"])).collect(),
            ..network.bundle(self.account, next.saturating_add_signed(self.nonce), &[])
        };
        bundle.sign(&key(self.account))
    }
}

impl CancelPlan {
    fn sign(&self, network: &Network) -> SignedCancel {
        let next = network.account(key(self.account).account()).map_or(0, |record| record.nonces.next());
        let first = next.saturating_add_signed(self.first);
        network.cancel(self.account, first, first.saturating_add(self.length - 1))
    }
}

/// What a model that forgets nothing knows.
#[derive(Default)]
struct Model {
    ordered: BTreeSet<(Account, u64)>,
    cancelled: BTreeSet<(Account, u64)>,
    sent: Vec<(SignedBundle, Option<BundleState>)>,
}

impl Model {
    fn check(&mut self, network: &Network, before: &BTreeMap<RollupId, LaneLeaf>, block: &Block) {
        self.check_reports(network, block);
        check_atomic(block);
        check_lanes(before, block);
        let accounts = (0..ACCOUNTS).filter_map(|index| network.account(key(index).account()));
        let balances: u64 = accounts.map(|record| record.balance).sum();
        assert_eq!(balances + network.treasury(), network.rules.supply, "credits are conserved");
        self.check_outcomes(network, block.header.height);
    }

    fn check_reports(&mut self, network: &Network, block: &Block) {
        for (account, report) in &block.outcome.reports {
            assert_eq!(report.height, block.header.height);
            match &report.event {
                Event::Decided { .. } => panic!("nothing is settled here"),
                Event::Funded { .. } => assert_eq!(block.header.height, Height(1)),
                Event::Ordered { nonce, .. } => {
                    assert!(self.ordered.insert((*account, *nonce)), "nonce {nonce} of {account} was ordered twice");
                    assert!(!self.cancelled.contains(&(*account, *nonce)), "a cancelled nonce was ordered");
                }
                Event::Cancelled { nonces } => {
                    assert!(!nonces.is_empty());
                    for nonce in nonces.iter().flat_map(|range| range.first..=range.last) {
                        assert!(self.cancelled.insert((*account, nonce)), "a nonce was cancelled twice");
                        assert!(!self.ordered.contains(&(*account, nonce)), "an ordered nonce was cancelled");
                    }
                }
            }
        }
        for (account, reports) in &network.reports {
            let record = network.account(*account).expect("who has reports has a record");
            let first = AccountRecord::new(network.rules.network, *account).reports;
            assert_eq!(reports.iter().fold(first, chain), record.reports, "reports chain to the record");
            assert!(reports.iter().zip(1..).all(|(report, number)| report.sequence == number), "reports are dense");
            assert_eq!(record.report_sequence, reports.len() as u64);
        }
    }

    /// Each bundle that was ever sent has one outcome: the true one, and for good.
    fn check_outcomes(&mut self, network: &Network, height: Height) {
        for (signed, known) in &mut self.sent {
            let bundle = &signed.bundle;
            let record = network.account(bundle.account);
            let reports = network.all_reports(bundle.account);
            let state = conclude(network.rules.network, bundle, height, record.as_ref(), &reports);
            let state = state.expect("all reports are there");
            let by_report = reports.reports.iter().find_map(|report| match &report.event {
                Event::Ordered { bundle: id, fee, .. } if *id == bundle.id() => Some((report.height, *fee)),
                _ => None,
            });
            match (state, by_report) {
                (BundleState::Ordered { height, fee }, Some(reported)) => assert_eq!((height, fee), reported),
                (state, reported) => assert_eq!(reported, None, "an ordered bundle is said to be {state:?}"),
            }
            assert!(state != BundleState::Pending || height < bundle.valid_until, "no outcome at {height}");
            match known {
                Some(known) => assert_eq!(*known, state, "an outcome changed at {height}"),
                None if state != BundleState::Pending => *known = Some(state),
                None => {}
            }
        }
    }
}

/// Every leg of what was ordered is in its lane once, in the body's order; nothing else is in any lane.
fn check_atomic(block: &Block) {
    let mut expected: BTreeMap<RollupId, Vec<LaneEntry>> = BTreeMap::new();
    for signed in &block.body.bundles {
        for leg in &signed.bundle.legs {
            let entry = LaneEntry::Leg { bundle: signed.bundle.id(), content: content(&leg.transactions) };
            expected.entry(leg.rollup).or_default().push(entry);
        }
    }
    assert_eq!(block.outcome.entries, expected, "all legs or none");
    let ordered: BTreeSet<_> = block.body.bundles.iter().map(|signed| signed.bundle.id()).collect();
    assert!(block.left_out.iter().all(|(id, _)| !ordered.contains(id)), "what was left out is in no lane");
}

fn check_lanes(before: &BTreeMap<RollupId, LaneLeaf>, block: &Block) {
    for leaf in &block.outcome.leaves {
        let entries = block.outcome.entries.get(&leaf.rollup).map_or(&[][..], Vec::as_slice);
        assert_eq!(before[&leaf.rollup].extend(LaneContext::from(&block.header), entries), *leaf);
        assert_eq!(leaf.sequence - before[&leaf.rollup].sequence, u64::from(!entries.is_empty()));
    }
}

fn leaves(network: &Network) -> BTreeMap<RollupId, LaneLeaf> {
    let genesis = |rollup: &u64| (RollupId(*rollup), LaneLeaf::genesis(network.rules.network, RollupId(*rollup)));
    ROLLUPS.iter().map(genesis).collect()
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn random_blocks_keep_every_promise(plans in prop::collection::vec(block_plan(), 1..8)) {
        let mut network = Network::new(ACCOUNTS, CREDITS, &ROLLUPS);
        let mut model = Model::default();
        let mut lanes = leaves(&network);
        for plan in plans {
            let cancels = plan.cancels.iter().map(|cancel| cancel.sign(&network)).collect();
            let mut bundles: Vec<_> = plan.bundles.iter().map(|bundle| bundle.sign(&network)).collect();
            if plan.retry {
                bundles.extend(model.sent.iter().map(|(signed, _)| signed.clone()));
            }
            for signed in &bundles {
                if model.sent.iter().all(|(other, _)| other.bundle != signed.bundle) {
                    model.sent.push((signed.clone(), None));
                }
            }
            // `advance` holds build against apply.
            let block = network.advance(cancels, bundles);
            model.check(&network, &lanes, &block);
            lanes = block.outcome.leaves.iter().map(|leaf| (leaf.rollup, *leaf)).collect();
        }
    }

    #[test]
    fn same_body_same_roots_whatever_else_is_staged(plans in prop::collection::vec(bundle_plan(), 1..12)) {
        let mut network = Network::new(ACCOUNTS, CREDITS, &ROLLUPS);
        network.advance(vec![], vec![]);
        let bundles = plans.iter().map(|plan| plan.sign(&network)).collect();
        let built = network.build(vec![], bundles);
        let staged = network.stage_for(&built.body);
        let mut more = staged.clone();
        more.extend(network.state.iter().map(|(key, record)| (*key, Some(*record))));
        let first = apply(&network.rules, &network.position(), &built.body, &staged).unwrap();
        let copy = staged.clone();
        let second = apply(&network.rules, &network.position(), &built.body, &more).unwrap();
        prop_assert_eq!(&staged, &copy, "records that are passed in do not change");
        prop_assert_eq!(&first, &second);
        prop_assert_eq!(first, built.outcome);
    }

    #[test]
    fn what_was_built_can_be_built_again_without_leaving_anything_out(plans in prop::collection::vec(bundle_plan(), 1..12)) {
        let mut network = Network::new(ACCOUNTS, CREDITS, &ROLLUPS);
        network.advance(vec![], vec![]);
        let built = network.build(vec![], plans.iter().map(|plan| plan.sign(&network)).collect());
        let records = network.stage_for(&built.body);
        let again = build(&network.rules, &network.position(), built.body.clone(), &records);
        prop_assert!(again.left_out.is_empty(), "{:?}", again.left_out);
        prop_assert_eq!(again.outcome, built.outcome);
    }

    #[test]
    fn a_base_fee_moves_by_at_most_an_eighth_and_toward_the_use(
        base_fee in prop_oneof![1..1_000_u64, any::<u64>()],
        used in 0..=MAX_LANE_BYTES,
        min in 1..100_u64,
    ) {
        let base_fee = base_fee.max(min);
        let next = fees::next_base_fee(base_fee, used, min);
        prop_assert!(next >= min);
        prop_assert!(next.abs_diff(base_fee) <= (base_fee / 8).max(1));
        match used.cmp(&LANE_BYTES_TARGET) {
            std::cmp::Ordering::Greater => prop_assert!(next > base_fee || base_fee == u64::MAX),
            std::cmp::Ordering::Equal => prop_assert_eq!(next, base_fee),
            std::cmp::Ordering::Less => prop_assert!(next <= base_fee),
        }
    }
}

#[test]
fn a_busy_lane_grows_dearer_alone_and_an_idle_one_falls_back_to_its_minimum() {
    let mut network = Network::new(1, u64::MAX / 2, &ROLLUPS);
    network.advance(vec![], vec![]);
    let large = vec![7; 120 * 1024];
    let busy: Vec<_> = (0..4)
        .map(|nonce| {
            let mut bundle = network.bundle(0, nonce, &[]);
            bundle.legs = vec![leg(901, &[&large])];
            bundle.sign(&key(0))
        })
        .collect();
    assert_eq!(network.advance(vec![], busy).body.bundles.len(), 4);
    assert_eq!(ROLLUPS.map(|rollup| network.base_fee(rollup)), [1, 2, 1]);
    network.advance(vec![], vec![]);
    // An eighth of 2 is less than one credit: a base fee below 8 stays until the lane is used above its target.
    assert_eq!(network.base_fee(901), 2);
    assert_eq!(fees::next_base_fee(1_000, 0, 1), 875);
    assert_eq!(fees::next_base_fee(1_000, 0, 900), 900);
}

#[test]
fn a_fee_that_does_not_fit_saturates_where_nobody_can_pay() {
    assert_eq!(fees::total([(u64::MAX, 2)], 0), u64::MAX);
    assert_eq!(fees::total([(1, 1)], u64::MAX), u64::MAX);
    assert_eq!(fees::total([(3, 10), (5, 2)], 7), 47);
}

#[test]
fn genesis_balances_are_written_by_block_1_and_never_again() {
    let mut network = Network::new(ACCOUNTS, CREDITS, &ROLLUPS);
    assert_eq!(network.account(key(0).account()), None);
    network.advance(vec![], vec![]);
    let record = network.account(key(0).account()).unwrap();
    assert_eq!((record.balance, record.report_sequence), (CREDITS, 1));
    network.advance(vec![], vec![]);
    assert_eq!(network.account(key(0).account()).unwrap(), record);
}

#[test]
fn a_replayed_cancel_has_nothing_left_to_cancel() {
    let mut network = Network::new(2, CREDITS, &ROLLUPS);
    network.advance(vec![], vec![]);
    let cancel = network.cancel(0, 3, 10);
    assert_eq!(network.advance(vec![cancel], vec![]).body.cancels.len(), 1);
    assert_eq!(network.advance(vec![cancel], vec![]).body.cancels.len(), 0);
    let body = Body { cancels: vec![cancel], ..Body::default() };
    let refused = network.apply(body).unwrap_err().to_string();
    assert!(refused.contains("too late to cancel"), "{refused}");
}

#[test]
fn a_cancel_beats_the_bundle_of_its_nonce_in_the_same_block() {
    let mut network = Network::new(2, CREDITS, &ROLLUPS);
    network.advance(vec![], vec![]);
    let block = network.advance(vec![network.cancel(1, 0, 0)], vec![network.signed(1, 0, &[10])]);
    assert_eq!((block.body.cancels.len(), block.body.bundles.len()), (1, 0));
    assert_eq!(block.left_out[0].1.reason(), "nonce_used");
}

#[test]
fn of_two_bundles_with_one_nonce_the_higher_tip_is_ordered() {
    let mut network = Network::new(2, CREDITS, &ROLLUPS);
    network.advance(vec![], vec![]);
    let tipped = |tip| Bundle { tip, ..network.bundle(0, 0, &[10, 901]) }.sign(&key(0));
    let (low, high) = (tipped(1), tipped(2));
    let id = high.bundle.id();
    let block = network.advance(vec![], vec![low, high]);
    assert_eq!(block.body.bundles.len(), 1);
    assert_eq!(block.body.bundles[0].bundle.id(), id);
}

#[test]
fn a_proposer_drops_cancels_of_a_bad_shape_and_keeps_the_good_behind_them() {
    let mut network = Network::new(3, CREDITS, &ROLLUPS);
    network.advance(vec![], vec![]);
    let foreign = Network::from_genesis(crate::fixture::genesis("another", 3, 1, &ROLLUPS));
    let cancels = vec![foreign.cancel(0, 0, 0), network.cancel(1, 9, 3), network.cancel(2, 0, u64::MAX)];
    assert!(network.advance(cancels, vec![]).body.cancels.is_empty());
    let cancels = vec![foreign.cancel(0, 0, 0), network.cancel(1, 0, 3)];
    assert_eq!(network.advance(cancels, vec![]).body.cancels.len(), 1);
}

#[test]
fn a_body_is_filled_to_its_byte_limit_and_no_further() {
    let rollups: Vec<u64> = (1..=6).collect();
    let mut network = Network::new(1, u64::MAX / 2, &rollups);
    network.advance(vec![], vec![]);
    let payload = vec![9; 100 * 1024];
    let bundles = (0..14).map(|nonce| {
        let mut bundle = network.bundle(0, nonce, &[]);
        bundle.legs = vec![leg(1 + nonce % 6, &[&payload])];
        bundle.sign(&key(0))
    });
    let bundles: Vec<_> = bundles.collect();
    let block = network.advance(vec![], bundles);
    assert_eq!(block.body.bundles.len(), 10);
    assert!(block.left_out.iter().all(|(_, refusal)| refusal.reason() == "body_full"));
    assert_eq!(block.left_out.len(), 4);
}

#[test]
fn a_checked_bundle_does_not_check_a_signature_that_is_vouched_for() {
    let network = Network::new(2, CREDITS, &ROLLUPS);
    let mut signed = network.signed(0, 0, &[10]);
    signed.signature = network.signed(0, 1, &[10]).signature;
    assert!(CheckedBundle::new(signed.clone(), &network.rules).is_err());
    let body = Body { bundles: vec![signed.clone()], ..Body::default() };
    assert!(CheckedBody::new(body.clone(), &network.rules, |_, _| false).is_err());
    let vouched = |id: &_, signature: &_| *id == Hash32(signed.bundle.id().0) && *signature == signed.signature;
    assert!(CheckedBody::new(body, &network.rules, vouched).is_ok());
}
