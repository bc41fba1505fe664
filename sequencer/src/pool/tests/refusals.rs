//! Every reason for which the pool refuses a bundle or a cancel, each from the one thing that is wrong with it.

use std::sync::Weak;

use lockstep_protocol::{
    bundle::{Bundle, Cancel, Leg, NonceRange, Transaction},
    ids::{Address20, NetworkId, RollupId},
    limits::{
        MAX_BUNDLE_BYTES, MAX_LEG_BYTES, MAX_LEGS, MAX_TRANSACTION_BYTES, MAX_TRANSACTIONS_PER_LEG, MAX_VALIDITY,
        NONCE_WINDOW,
    },
    signature::{AccountKey, Signature},
};

use super::*;
use crate::labels::ReasonLabel;

/// Submits a bundle that is good but for one change, signed after it.
fn submit_changed(change: impl FnOnce(&mut Bundle)) -> Result<Sent, Refusal> {
    let mut bundle = bundle(0, 0, 5);
    change(&mut bundle);
    let view = View::funded();
    let pool = pool(&view);
    let answer = pool.submit(bundle.sign(&key(0)));
    assert_eq!(pool.usage().bundles, usize::from(answer.is_ok()));
    check_invariants(&pool, &view);
    answer
}

fn transactions(count: usize, bytes: usize) -> Vec<Transaction> {
    vec![Transaction(vec![0xaa; bytes]); count]
}

#[test]
fn a_good_bundle_is_accepted_and_accepted_again_but_waits_once() {
    let view = View::funded();
    let pool = pool(&view);
    let good = signed(0, 0, 5);
    let sent = Sent { bundle_id: good.bundle.id(), height: Height(1) };
    assert_eq!(pool.submit(good.clone()), Ok(sent));
    assert_eq!(pool.submit(good.clone()), Ok(sent));
    assert_eq!(pool.usage().bundles, 1);
    assert_eq!(pool.metrics().admitted.get(), 1);
    assert_eq!(pool.standing(&good.bundle.id()), Some(Standing::Waiting));
    assert_eq!(pool.standing(&BundleId([9; 32])), None);
    let passed_on = Load::take(pool.outbox(), usize::MAX).expect("it is passed on");
    assert_eq!(ids(&passed_on.bundles), [good.bundle.id()]);
    assert!(Load::take(pool.outbox(), usize::MAX).is_none(), "once");
    check_invariants(&pool, &view);
}

#[test]
fn nothing_is_accepted_before_the_first_block() {
    let view = View::funded();
    view.set_height(0);
    let refused = pool(&view).submit(signed(0, 0, 5)).unwrap_err();
    assert_eq!(refused.reason(), "not_ready");
    let refused = pool(&view).cancel(cancel(0, 0, 0)).unwrap_err();
    assert_eq!(refused.reason(), "not_ready");
}

#[test]
fn bad_signatures_are_refused_and_do_not_spoil_the_batch() {
    let view = View::funded();
    let pool = pool(&view);
    let mut forged = signed(1, 0, 5);
    forged.signature = Signature::Ed25519([3; 64]);
    let mut others = signed(2, 0, 5);
    others.signature = signed(3, 0, 5).signature;
    let mut other_kind = signed(4, 0, 5);
    other_kind.signature = Signature::Secp256k1([3; 65]);
    let answers = pool.submit_batch(vec![signed(0, 0, 5), forged, others, other_kind, signed(0, 1, 5)]);
    let accepted: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(accepted, [true, false, false, false, true]);
    assert!(answers[1..4].iter().all(|answer| *answer == Err(Refusal::BadSignature)));
    assert_eq!(pool.usage().bundles, 2);
    check_invariants(&pool, &view);
}

#[test]
fn shapes_that_are_not_allowed_are_refused() {
    let found = NetworkId::from_name("another");
    assert_eq!(
        submit_changed(|bundle| bundle.network = found),
        Err(Refusal::WrongNetwork { expected: network(), found })
    );
    assert_eq!(submit_changed(|bundle| bundle.legs.clear()), Err(Refusal::NoLegs));
    let legs =
        |count: u64| (0..count).map(|id| Leg { rollup: RollupId(id), transactions: transactions(1, 9) }).collect();
    assert_eq!(
        submit_changed(|bundle| bundle.legs = legs(MAX_LEGS as u64 + 1)),
        Err(Refusal::TooManyLegs { max: MAX_LEGS, found: MAX_LEGS + 1 })
    );
    assert_eq!(submit_changed(|bundle| bundle.legs.swap(0, 1)), Err(Refusal::UnsortedLegs { rollup: ROLLUP_A }));
    assert_eq!(
        submit_changed(|bundle| bundle.legs[1] = bundle.legs[0].clone()),
        Err(Refusal::RepeatedLeg { rollup: ROLLUP_A })
    );
    assert_eq!(
        submit_changed(|bundle| bundle.legs[1].transactions.clear()),
        Err(Refusal::EmptyLeg { rollup: ROLLUP_B })
    );
    let unknown = RollupId(903);
    assert_eq!(
        submit_changed(|bundle| bundle.legs[1].rollup = unknown),
        Err(Refusal::UnknownRollup { rollup: unknown })
    );
}

#[test]
fn sizes_above_the_limits_are_refused() {
    let (rollup, max) = (ROLLUP_A, MAX_TRANSACTIONS_PER_LEG);
    assert_eq!(
        submit_changed(|bundle| bundle.legs[0].transactions = transactions(max + 1, 9)),
        Err(Refusal::TooManyTransactions { rollup, max, found: max + 1 })
    );
    let max = MAX_TRANSACTION_BYTES;
    assert_eq!(
        submit_changed(|bundle| bundle.legs[0].transactions = transactions(1, max + 1)),
        Err(Refusal::OversizedTransaction { rollup, max, found: max + 1 })
    );
    let max = MAX_LEG_BYTES;
    let refused = submit_changed(|bundle| bundle.legs[0].transactions = transactions(2, max / 2)).unwrap_err();
    assert_eq!(refused, Refusal::OversizedLeg { rollup, max, found: 12 + 2 * (4 + max as u64 / 2) });
    // Each leg and transaction is within its own limit, but not all three together.
    let refused = submit_changed(|bundle| {
        bundle.legs[0].transactions = transactions(1, MAX_TRANSACTION_BYTES);
        bundle.legs[1].transactions = transactions(1, MAX_TRANSACTION_BYTES);
        bundle.legs.push(Leg { rollup: RollupId(903), transactions: transactions(1, 4_096) });
    });
    assert!(
        matches!(refused, Err(Refusal::OversizedBundle { max: MAX_BUNDLE_BYTES, found }) if found > MAX_BUNDLE_BYTES)
    );
}

#[test]
fn transactions_that_their_rollup_cannot_execute_are_refused() {
    let refused = submit_changed(|bundle| bundle.legs[0].transactions = transactions(1, 100)).unwrap_err();
    assert!(matches!(refused, Refusal::MalformedTransaction { rollup: ROLLUP_A, index: 0, .. }), "{refused}");
    assert_eq!(
        submit_changed(|bundle| bundle.legs[1].transactions.push(transaction(1, 0))),
        Err(Refusal::WrongChainId { rollup: ROLLUP_B, index: 1, found: Some(1) })
    );
    // Validators pass on what a node has admitted: they do not check transactions again.
    let mut strange = bundle(0, 0, 5);
    strange.legs[0].transactions = transactions(1, 100);
    let view = View::funded();
    let received = pool(&view).receive(vec![strange.sign(&key(0))], Vec::new());
    assert_eq!(received, Received { taken: 1, dishonest: 0 });
}

#[test]
fn bundles_outside_their_time_are_refused() {
    let (next, max) = (Height(2), Height(2 + MAX_VALIDITY));
    assert_eq!(
        submit_changed(|bundle| bundle.valid_until = Height(1)),
        Err(Refusal::Expired { valid_until: Height(1), height: next })
    );
    assert!(submit_changed(|bundle| bundle.valid_until = next).is_ok());
    assert!(submit_changed(|bundle| bundle.valid_until = max).is_ok());
    assert_eq!(
        submit_changed(|bundle| bundle.valid_until = max.next()),
        Err(Refusal::ValidityTooFar { valid_until: max.next(), max })
    );
}

#[test]
fn what_an_account_cannot_pay_is_refused() {
    let stranger = AccountKey::ed25519([200; 32]);
    let mut strange = bundle(0, 0, 5);
    strange.account = stranger.account();
    assert_eq!(pool(&View::funded()).submit(strange.sign(&stranger)), Err(Refusal::UnknownAccount));
    assert_eq!(
        submit_changed(|bundle| bundle.max_fee = CREDITS + 1),
        Err(Refusal::InsufficientBalance { needed: CREDITS + 1, available: CREDITS })
    );
    let needed = bundle(0, 0, 5).bytes() + 5;
    assert!(submit_changed(|bundle| bundle.max_fee = needed).is_ok());
    let max_fee = needed - 1;
    assert_eq!(submit_changed(|bundle| bundle.max_fee = max_fee), Err(Refusal::FeeTooLow { needed, max_fee }));
}

#[test]
fn base_fees_of_the_moment_decide_what_is_too_little() {
    let view = View::funded();
    view.set_base_fee(ROLLUP_B, 100);
    let refused = pool(&view).submit(signed(0, 0, 5)).unwrap_err();
    let (a, b) = (bundle(0, 0, 5).legs[0].bytes(), bundle(0, 0, 5).legs[1].bytes());
    assert_eq!(refused, Refusal::FeeTooLow { needed: a + 100 * b + 5, max_fee: MAX_FEE });
}

#[test]
fn promises_together_stay_within_the_balance() {
    let view = View::funded();
    view.change(0, |record| record.balance = 3 * MAX_FEE - 1);
    let pool = pool(&view);
    pool.submit(signed(0, 0, 5)).unwrap();
    pool.submit(signed(0, 1, 5)).unwrap();
    let refused = pool.submit(signed(0, 2, 5)).unwrap_err();
    assert_eq!(refused, Refusal::InsufficientBalance { needed: MAX_FEE, available: MAX_FEE - 1 });
    assert!(pool.submit(signed(0, 1, 6)).is_ok(), "a replacement takes over the promise of the replaced");
    assert!(pool.submit(signed(1, 0, 5)).is_ok(), "another account has its own");
    check_invariants(&pool, &view);
}

#[test]
fn nonces_that_cannot_be_used_are_refused() {
    let view = View::funded();
    view.use_nonce(0, 1_000);
    view.use_nonce(0, 2_000);
    let pool = pool(&view);
    assert_eq!(pool.submit(signed(0, 2_000, 5)), Err(Refusal::NonceUsed { nonce: 2_000 }));
    let lowest = 2_001 - NONCE_WINDOW;
    let nonce = lowest - 1;
    assert_eq!(pool.submit(signed(0, nonce, 5)), Err(Refusal::NonceBelowWindow { nonce, lowest }));
    assert!(pool.submit(signed(0, lowest, 5)).is_ok());
    let highest = 2_000 + NONCE_WINDOW;
    assert!(pool.submit(signed(0, highest, 5)).is_ok());
    let nonce = highest + 1;
    assert_eq!(pool.submit(signed(0, nonce, 5)), Err(Refusal::NonceTooFarAhead { nonce, highest }));
}

#[test]
fn an_account_has_only_so_many_open_bundles() {
    let view = View::funded();
    let pool = pool_with(&view, PoolConfig { max_open_per_account: 2, ..PoolConfig::default() });
    pool.submit(signed(0, 0, 5)).unwrap();
    pool.submit(signed(0, 1, 5)).unwrap();
    assert_eq!(pool.submit(signed(0, 2, 5)), Err(Refusal::TooManyOpen { max: 2, open: 2 }));
    assert!(pool.submit(signed(0, 1, 6)).is_ok(), "a replacement opens nothing");
    assert!(pool.submit(signed(1, 0, 5)).is_ok());
}

#[test]
fn a_taken_nonce_costs_a_higher_tip_and_the_replaced_is_told() {
    let view = View::funded();
    let pool = pool(&view);
    let mut drops = pool.drops();
    let old = signed(0, 7, 5);
    pool.submit(old.clone()).unwrap();
    let refused = Refusal::ReplacementUnderpriced { nonce: 7, tip: 5 };
    let mut same_tip = bundle(0, 7, 5);
    same_tip.tag.0[0] = 1;
    assert_eq!(pool.submit(same_tip.sign(&key(0))), Err(refused.clone()));
    assert_eq!(pool.submit(signed(0, 7, 4)), Err(refused));
    assert_eq!(pool.standing(&old.bundle.id()), Some(Standing::Waiting));
    assert!(drops.try_recv().is_err());

    let new = signed(0, 7, 6);
    pool.submit(new.clone()).unwrap();
    let refusal = Refusal::ReplacementUnderpriced { nonce: 7, tip: 6 };
    let id = old.bundle.id();
    assert_eq!(drops.try_recv(), Ok(Dropped { id, refusal: refusal.clone() }));
    assert_eq!(pool.standing(&id), Some(Standing::Dropped(refusal)));
    assert_eq!(ids(&select_all(&pool).bundles), [new.bundle.id()]);
    check_invariants(&pool, &view);
}

/// A pool with room for exactly `count` of the fixture's bundles.
fn small_pool(view: &Arc<View>, count: usize) -> Arc<Pool> {
    let probe = pool(view);
    probe.submit(signed(0, 0, 5)).unwrap();
    // Set past `Pool::new`, which leaves room for the largest bundle.
    let one = probe.usage().bytes;
    let pool = pool_with(view, PoolConfig::default());
    pool.lock().config.max_bytes = count * one;
    pool
}

#[test]
fn a_full_pool_keeps_the_best_and_tells_the_evicted() {
    let view = View::funded();
    let pool = small_pool(&view, 3);
    let mut drops = pool.drops();
    for (nonce, tip) in [(0, 30), (1, 10), (2, 20)] {
        pool.submit(signed(0, nonce, tip)).unwrap();
    }
    let full = pool.usage().bytes;
    let tip_per_kilobyte = 10 * 1_000 / bundle(0, 1, 10).bytes();
    let refusal = Refusal::PoolFull { bytes: full, tip_per_kilobyte };
    assert_eq!(pool.submit(signed(1, 0, 9)), Err(refusal.clone()), "it does not beat the worst");
    assert!(drops.try_recv().is_err(), "a refused newcomer displaces nobody");
    assert_eq!(pool.usage().bundles, 3);

    let better = signed(1, 0, 25);
    pool.submit(better.clone()).unwrap();
    let evicted = signed(0, 1, 10).bundle.id();
    assert_eq!(drops.try_recv(), Ok(Dropped { id: evicted, refusal: refusal.clone() }));
    assert_eq!(pool.standing(&evicted), Some(Standing::Dropped(refusal)));
    let tips: Vec<_> = select_all(&pool).bundles.iter().map(|bundle| bundle.signed().bundle.tip).collect();
    assert_eq!(tips, [30, 25, 20]);
    assert_eq!(pool.metrics().dropped.get_or_create(&ReasonLabel { reason: "pool_full" }).get(), 1);
    check_invariants(&pool, &view);
}

#[test]
fn a_large_newcomer_displaces_all_or_nobody() {
    let view = View::funded();
    let pool = small_pool(&view, 4);
    for (nonce, tip) in [(0, 1), (1, 1), (2, 1_000), (3, 1_000)] {
        pool.submit(signed(0, nonce, tip)).unwrap();
    }
    // As large as three: it beats the two cheap ones, but not a third.
    let mut large = bundle(1, 0, 100);
    let count = (3 * pool.usage().bytes / 4 - ENTRY_BYTES) / transaction(ROLLUP_A.0, 0).0.len();
    large.legs[0].transactions = (0..count as u64).map(|nonce| transaction(ROLLUP_A.0, nonce)).collect();
    let refused = pool.submit(large.clone().sign(&key(1))).unwrap_err();
    assert_eq!(refused.reason(), "pool_full");
    assert_eq!(pool.usage().bundles, 4);
    large.tip = 100_000;
    large.max_fee = 200_000;
    pool.submit(large.sign(&key(1))).unwrap();
    assert!(pool.usage().bundles < 4);
    check_invariants(&pool, &view);
}

#[test]
fn a_replacement_in_a_full_pool_displaces_only_what_it_replaces() {
    let view = View::funded();
    let pool = small_pool(&view, 2);
    pool.submit(signed(0, 0, 1)).unwrap();
    pool.submit(signed(0, 1, 2)).unwrap();
    pool.submit(signed(0, 1, 3)).unwrap();
    assert_eq!(pool.usage().bundles, 2);
    assert_eq!(pool.standing(&signed(0, 0, 1).bundle.id()), Some(Standing::Waiting));
    check_invariants(&pool, &view);
}

#[test]
fn cancels_are_refused_for_their_own_reasons() {
    let view = View::funded();
    view.use_nonce(0, 5);
    let pool = pool(&view);
    let mut forged = cancel(0, 6, 7);
    forged.signature = cancel(0, 6, 8).signature;
    assert_eq!(pool.cancel(forged), Err(Refusal::BadSignature));
    let mut elsewhere = cancel(0, 6, 7).cancel;
    elsewhere.network = NetworkId::default();
    let expected = Refusal::WrongNetwork { expected: network(), found: NetworkId::default() };
    assert_eq!(pool.cancel(elsewhere.sign(&key(0))), Err(expected));
    let max = NONCE_WINDOW;
    assert_eq!(pool.cancel(cancel(0, 7, 6)), Err(Refusal::BadNonceRange { first: 7, last: 6, max }));
    assert_eq!(pool.cancel(cancel(0, 0, max)), Err(Refusal::BadNonceRange { first: 0, last: max, max }));
    assert_eq!(pool.cancel(cancel(0, 5, 5)), Err(Refusal::NothingToCancel { first: 5, last: 5 }));
    let highest = 5 + NONCE_WINDOW;
    let nonce = highest + 1;
    assert_eq!(pool.cancel(cancel(0, nonce, nonce)), Err(Refusal::NonceTooFarAhead { nonce, highest }));
    let secp = AccountKey::secp256k1([9; 32]).unwrap();
    let nonces = NonceRange { first: 0, last: 0 };
    let stranger = Cancel { network: network(), account: secp.account(), nonces };
    assert!(matches!(stranger.account, Account::Secp256k1(Address20(_))));
    assert_eq!(pool.cancel(stranger.sign(&secp)), Err(Refusal::UnknownAccount));

    assert!(pool.cancel(cancel(0, 5, 6)).is_ok(), "one of them is free");
    assert!(pool.cancel(cancel(0, 5, 6)).is_ok(), "the same wish again");
    assert_eq!(pool.cancel(cancel(0, 7, 7)), Err(Refusal::CancelPending));
    assert_eq!(pool.usage().cancels, 1);
    check_invariants(&pool, &view);
}

/// A state that moves on just after a record was read from it.
struct Racing {
    view: Arc<View>,
    pool: Mutex<Weak<Pool>>,
}

impl StateView for Racing {
    fn height(&self) -> Height {
        self.view.height()
    }

    fn account(&self, account: &Account) -> Option<AccountRecord> {
        let old = self.view.account(account);
        let pool = self.pool.lock().unwrap().upgrade();
        if let Some(pool) = pool {
            *self.pool.lock().unwrap() = Weak::new();
            self.view.use_nonce(0, 0);
            self.view.set_height(2);
            pool.finalized(Height(2), &[ordered(&signed(0, 0, 1), 2)]);
        }
        old
    }

    fn base_fee(&self, rollup: RollupId) -> Option<u64> {
        self.view.base_fee(rollup)
    }
}

#[test]
fn a_block_between_reading_a_record_and_admitting_is_noticed() {
    let racing = Arc::new(Racing { view: View::funded(), pool: Mutex::default() });
    let pool = Pool::new(Arc::new(rules()), PoolConfig::default(), racing.clone());
    *racing.pool.lock().unwrap() = Arc::downgrade(&pool);
    assert_eq!(pool.submit(signed(0, 0, 5)), Err(Refusal::NonceUsed { nonce: 0 }));
    assert_eq!(pool.usage(), Usage::default());
}
