//! Does the evidence lead to one certain outcome, and only honest evidence?

use lockstep_protocol::{
    account::AccountRecord,
    bundle::{Bundle, SignedBundle},
    evidence::{BundleState, EvidenceError, Reports, conclude},
    ids::Height,
    report::{Event, Report},
};

use crate::fixture::{Network, ROLLUPS, key};

fn network() -> Network {
    let mut network = Network::new(4, 1_000_000, &ROLLUPS);
    network.advance(vec![], vec![]);
    network
}

fn until(network: &Network, nonce: u64, heights: u64) -> SignedBundle {
    let valid_until = Height(network.next().0 + heights - 1);
    Bundle { valid_until, ..network.bundle(0, nonce, &[10, 901]) }.sign(&key(0))
}

fn tell(network: &Network, bundle: &Bundle) -> Result<BundleState, EvidenceError> {
    let record = network.account(bundle.account);
    let reports = network.all_reports(bundle.account);
    conclude(network.rules.network, bundle, network.parent.height, record.as_ref(), &reports)
}

#[test]
fn a_bundle_is_pending_until_its_last_height_has_passed_and_expired_from_then_on() {
    let mut network = network();
    let bundle = until(&network, 0, 2).bundle;
    assert_eq!(tell(&network, &bundle), Ok(BundleState::Pending));
    network.advance(vec![], vec![]);
    assert_eq!(tell(&network, &bundle), Ok(BundleState::Pending));
    network.advance(vec![], vec![]);
    assert_eq!(network.parent.height, bundle.valid_until);
    assert_eq!(tell(&network, &bundle), Ok(BundleState::Expired));
}

#[test]
fn an_ordered_bundle_is_ordered_for_good_with_its_height_and_fee() {
    let mut network = network();
    let signed = until(&network, 0, 5);
    let block = network.advance(vec![], vec![signed.clone()]);
    let fee = signed.bundle.bytes();
    for _ in 0..8 {
        assert_eq!(tell(&network, &signed.bundle), Ok(BundleState::Ordered { height: block.header.height, fee }));
        network.advance(vec![], vec![]);
    }
}

#[test]
fn a_bundle_whose_nonce_was_cancelled_is_cancelled() {
    let mut network = network();
    let bundle = until(&network, 3, 9).bundle;
    let height = network.advance(vec![network.cancel(0, 0, 5)], vec![]).header.height;
    assert_eq!(tell(&network, &bundle), Ok(BundleState::Cancelled { height }));
}

#[test]
fn a_bundle_whose_nonce_another_took_is_replaced_by_it() {
    let mut network = network();
    let bundle = until(&network, 0, 9).bundle;
    let other = network.signed(0, 0, &[42_161]);
    let height = network.advance(vec![], vec![other.clone()]).header.height;
    assert_eq!(tell(&network, &bundle), Ok(BundleState::Replaced { height, by: other.bundle.id() }));
}

#[test]
fn an_expired_bundle_stays_expired_when_its_nonce_is_used_or_cancelled_later() {
    for cancel in [false, true] {
        let mut network = network();
        let bundle = until(&network, 0, 1).bundle;
        network.advance(vec![], vec![]);
        assert_eq!(tell(&network, &bundle), Ok(BundleState::Expired));
        if cancel {
            network.advance(vec![network.cancel(0, 0, 0)], vec![]);
        } else {
            network.advance(vec![], vec![network.signed(0, 0, &[10])]);
        }
        assert_eq!(tell(&network, &bundle), Ok(BundleState::Expired));
    }
}

#[test]
fn an_unknown_account_has_ordered_nothing() {
    let network = network();
    let bundle = network.bundle(9, 0, &[10]);
    let nothing = network.all_reports(bundle.account);
    let at = |height| conclude(network.rules.network, &bundle, height, None, &nothing);
    assert_eq!(at(Height(bundle.valid_until.0 - 1)), Ok(BundleState::Pending));
    assert_eq!(at(bundle.valid_until), Ok(BundleState::Expired));
}

#[test]
fn below_the_window_only_the_complete_report_chain_tells() {
    let mut network = network();
    let never = network.bundle(0, 3, &[10]);
    let ordered = network.signed(0, 4, &[10]);
    let height = network.advance(vec![], vec![ordered.clone()]).header.height;
    for nonce in [1_000, 2_000, 3_000] {
        network.advance(vec![], vec![network.signed(0, nonce, &[10])]);
    }
    assert_eq!(network.account(key(0).account()).unwrap().nonces.is_used(3), None);
    assert_eq!(tell(&network, &never), Ok(BundleState::Expired));
    let fee = ordered.bundle.bytes();
    assert_eq!(tell(&network, &ordered.bundle), Ok(BundleState::Ordered { height, fee }));
    // The last two of five reports say nothing of nonce 3 or 4.
    let record = network.account(key(0).account()).unwrap();
    let all = network.all_reports(key(0).account());
    let before = all.reports[..3].iter().fold(all.before, lockstep_protocol::report::chain);
    let late = Reports { before, reports: all.reports[3..].to_vec() };
    for bundle in [&never, &ordered.bundle] {
        let told = conclude(network.rules.network, bundle, network.parent.height, Some(&record), &late);
        assert_eq!(told, Err(EvidenceError::NotCovered { first: 4 }));
    }
    let none = Reports { before: record.reports, reports: vec![] };
    let told = conclude(network.rules.network, &never, network.parent.height, Some(&record), &none);
    assert_eq!(told, Err(EvidenceError::NotCovered { first: 6 }));
}

#[test]
fn a_used_nonce_needs_the_report_that_used_it() {
    let mut network = network();
    let signed = until(&network, 0, 5);
    network.advance(vec![], vec![signed.clone()]);
    let record = network.account(key(0).account()).unwrap();
    let none = Reports { before: record.reports, reports: vec![] };
    let told = conclude(network.rules.network, &signed.bundle, Height(2), Some(&record), &none);
    assert_eq!(told, Err(EvidenceError::NotCovered { first: 3 }));
}

#[test]
fn a_record_that_contradicts_its_own_complete_chain_concludes_nothing() {
    let mut network = network();
    network.advance(vec![], vec![network.signed(0, 0, &[10])]);
    let bundle = network.bundle(0, 7, &[10]);
    let mut record = network.account(bundle.account).unwrap();
    record.nonces.consume(7).unwrap();
    let reports = network.all_reports(bundle.account);
    let told = conclude(network.rules.network, &bundle, bundle.valid_until, Some(&record), &reports);
    assert_eq!(told, Err(EvidenceError::NotCovered { first: 1 }));
}

fn with_reports() -> (Network, AccountRecord, Bundle) {
    let mut network = network();
    let first = until(&network, 0, 5);
    network.advance(vec![], vec![first.clone()]);
    network.advance(vec![], vec![until(&network, 1, 5)]);
    let record = network.account(key(0).account()).unwrap();
    (network, record, first.bundle)
}

#[test]
fn forged_reports_are_refused_each_with_its_own_error() {
    let (network, record, bundle) = with_reports();
    let good = network.all_reports(bundle.account);
    let told = |reports: &Reports| conclude(network.rules.network, &bundle, Height(3), Some(&record), reports);
    assert!(matches!(told(&good), Ok(BundleState::Ordered { .. })));
    let forged = |change: fn(&mut Reports)| {
        let mut reports = good.clone();
        change(&mut reports);
        told(&reports)
    };
    assert_eq!(forged(|r| r.before.0[0] ^= 1), Err(EvidenceError::BrokenChain));
    assert_eq!(forged(|r| r.reports[1].height = Height(9)), Err(EvidenceError::BrokenChain));
    let fee = |r: &mut Reports| match &mut r.reports[1].event {
        Event::Ordered { fee, .. } => *fee = 0,
        other => panic!("{other:?}"),
    };
    assert_eq!(forged(fee), Err(EvidenceError::BrokenChain));
    assert_eq!(
        forged(|r| drop(r.reports.remove(1))),
        Err(EvidenceError::NotConsecutive { first: 1, last: 3, found: 3 })
    );
    assert_eq!(forged(|r| r.reports.swap(1, 2)), Err(EvidenceError::NotConsecutive { first: 1, last: 2, found: 3 }));
    assert_eq!(forged(|r| drop(r.reports.pop())), Err(EvidenceError::WrongEnd { expected: 3, found: 2 }));
    assert_eq!(forged(|r| r.reports.clear()), Err(EvidenceError::BrokenChain));
    let hide = |r: &mut Reports| drop(r.reports.drain(..2));
    assert_eq!(forged(hide), Err(EvidenceError::BrokenChain), "a run must begin with the chain before it");
}

#[test]
fn reports_with_the_highest_numbers_are_refused_not_counted_past_the_end() {
    let (network, record, bundle) = with_reports();
    let report = |sequence| Report { sequence, height: Height(1), event: Event::Funded { credits: 1 } };
    for sequences in [vec![u64::MAX], vec![u64::MAX - 1, u64::MAX], vec![u64::MAX, u64::MAX], vec![u64::MAX, 0]] {
        let reports = Reports { before: record.reports, reports: sequences.iter().copied().map(report).collect() };
        assert!(conclude(network.rules.network, &bundle, Height(3), Some(&record), &reports).is_err());
    }
}

#[test]
fn another_accounts_record_is_refused() {
    let (network, _, bundle) = with_reports();
    let other = key(1).account();
    let record = network.account(other).unwrap();
    let told = conclude(network.rules.network, &bundle, Height(3), Some(&record), &network.all_reports(other));
    assert_eq!(told, Err(EvidenceError::WrongAccount { expected: bundle.account, found: other }));
}

#[test]
fn a_foreign_networks_report_chain_does_not_count_as_complete() {
    let mut network = network();
    let never = network.bundle(0, 3, &[10]);
    for nonce in [1_000, 2_000] {
        network.advance(vec![], vec![network.signed(0, nonce, &[10])]);
    }
    let record = network.account(key(0).account()).unwrap();
    let reports = network.all_reports(never.account);
    let foreign = lockstep_protocol::ids::NetworkId::from_name("another");
    let told = conclude(foreign, &never, network.parent.height, Some(&record), &reports);
    assert_eq!(told, Err(EvidenceError::NotCovered { first: 1 }));
}
