//! Does the book notice every way in which a promise can be broken?

use super::*;

const A: RollupId = RollupId(1);
const B: RollupId = RollupId(2);
const ID: BundleId = BundleId([7; 32]);

fn ordered(height: u64) -> BundleState {
    BundleState::Ordered { height: Height(height), fee: 5 }
}

/// A book of two followers in which bundle `ID` was sent and accepted.
fn accepted() -> Ledger {
    let mut ledger = Ledger::new(2);
    ledger.send(ID, vec![A, B]);
    ledger.accept(ID);
    ledger
}

fn see_all(ledger: &mut Ledger, height: u64) {
    for follower in 0..2 {
        for rollup in [A, B] {
            ledger.see(follower, rollup, Height(height), ID);
        }
    }
}

#[test]
fn a_bundle_is_done_when_its_outcome_is_proven_and_every_leg_was_seen() {
    let mut ledger = accepted();
    ledger.see(0, A, Height(3), ID);
    ledger.conclude(ID, ordered(3));
    assert_eq!(ledger.open(), 1);
    ledger.see(0, B, Height(3), ID);
    ledger.see(1, A, Height(3), ID);
    ledger.see(1, B, Height(3), ID);
    assert_eq!(ledger.open(), 0);
    assert_eq!((ledger.counts().accepted, ledger.counts().ordered, ledger.counts().fees), (1, 1, 5));
    assert!(ledger.breaches().is_empty());
    assert_eq!(ledger.close(), Closing::default());
}

#[test]
fn an_accepted_bundle_without_an_outcome_is_a_breach() {
    let mut ledger = accepted();
    ledger.conclude(ID, BundleState::Pending);
    assert_eq!(ledger.pending().count(), 1);
    assert!(!ledger.close().without_outcome.is_empty());
}

#[test]
fn a_bundle_that_is_ordered_was_accepted_by_somebody() {
    let mut ledger = Ledger::new(2);
    ledger.send(ID, vec![A, B]);
    ledger.conclude(ID, ordered(3));
    ledger.accept(ID);
    assert_eq!(ledger.counts().accepted, 1);
}

#[test]
fn a_bundle_that_nobody_answered_for_is_doubtful_and_no_breach() {
    let mut ledger = Ledger::new(2);
    ledger.send(ID, vec![A, B]);
    let closing = ledger.close();
    assert_eq!(closing.doubtful, 1);
    assert!(closing.without_outcome.is_empty());
}

#[test]
fn legs_at_different_heights_are_a_breach() {
    let mut ledger = accepted();
    ledger.see(0, A, Height(3), ID);
    ledger.see(0, B, Height(4), ID);
    ledger.conclude(ID, ordered(3));
    assert!(ledger.breaches().to_string().contains("shows it at height 4"), "{}", ledger.breaches());
}

#[test]
fn a_leg_that_one_follower_never_saw_is_a_breach() {
    let mut ledger = accepted();
    ledger.conclude(ID, ordered(3));
    ledger.see(0, A, Height(3), ID);
    ledger.see(0, B, Height(3), ID);
    ledger.see(1, A, Height(3), ID);
    assert!(ledger.close().half_seen.to_string().contains("3 times instead of 4"));
}

#[test]
fn a_bundle_that_is_seen_again_is_a_breach_before_and_after_it_is_done() {
    let mut ledger = accepted();
    ledger.see(0, A, Height(3), ID);
    ledger.see(0, A, Height(5), ID);
    assert!(ledger.breaches().to_string().contains("twice"));

    let mut ledger = accepted();
    ledger.conclude(ID, ordered(3));
    see_all(&mut ledger, 3);
    assert!(ledger.breaches().is_empty());
    ledger.see(1, B, Height(9), ID);
    assert!(ledger.breaches().to_string().contains("again"));
}

#[test]
fn an_expired_bundle_in_a_lane_is_a_breach_whichever_comes_first() {
    let mut ledger = accepted();
    ledger.see(0, A, Height(3), ID);
    ledger.conclude(ID, BundleState::Expired);
    assert!(!ledger.breaches().is_empty());

    let mut ledger = accepted();
    ledger.conclude(ID, BundleState::Expired);
    assert_eq!(ledger.counts().not_ordered["expired"], 1);
    assert!(ledger.breaches().is_empty());
    ledger.see(0, A, Height(3), ID);
    assert!(!ledger.breaches().is_empty());
}

#[test]
fn two_outcomes_are_a_breach_and_one_told_twice_is_not() {
    let mut ledger = accepted();
    ledger.conclude(ID, ordered(3));
    ledger.conclude(ID, ordered(3));
    assert!(ledger.breaches().is_empty());
    ledger.conclude(ID, ordered(4));
    assert!(ledger.breaches().to_string().contains("two outcomes"));
}

#[test]
fn a_refused_bundle_that_was_accepted_or_ordered_is_a_breach() {
    let mut ledger = accepted();
    ledger.refuse(ID, "pool_full");
    assert!(ledger.breaches().to_string().contains("accepted, and then refused"));

    let mut ledger = Ledger::new(2);
    ledger.send(ID, vec![A, B]);
    ledger.refuse(ID, "pool_full");
    assert!(ledger.breaches().is_empty());
    assert_eq!(ledger.counts().refused["pool_full"], 1);
    ledger.see(0, A, Height(3), ID);
    assert!(!ledger.breaches().is_empty());
}

#[test]
fn a_lane_without_a_leg_is_a_breach_and_a_strangers_bundle_is_not() {
    let mut ledger = accepted();
    ledger.see(0, RollupId(3), Height(3), ID);
    assert!(ledger.breaches().to_string().contains("no leg"));

    let mut ledger = Ledger::new(2);
    ledger.see(0, A, Height(3), BundleId([9; 32]));
    ledger.see(1, A, Height(3), BundleId([9; 32]));
    assert!(ledger.breaches().is_empty());
    assert_eq!(ledger.counts().of_others, 1);
}

#[test]
fn many_breaches_are_counted_and_the_first_are_told() {
    let mut breaches = Breaches::default();
    for number in 0..100 {
        breaches.add(format!("breach {number}"));
    }
    let text = breaches.to_string();
    assert!(text.starts_with("breach 0; ") && text.ends_with("and 80 more"), "{text}");
}
