//! What final blocks do to what waits.

use proptest::prelude::*;

use super::*;
use lockstep_protocol::ids::Height;

fn reasons(drops: &mut broadcast::Receiver<Dropped>) -> Vec<(BundleId, &'static str)> {
    std::iter::from_fn(|| drops.try_recv().ok()).map(|dropped| (dropped.id, dropped.refusal.reason())).collect()
}

#[test]
fn what_was_ordered_leaves_without_a_reason() {
    let view = View::funded();
    let pool = pool(&view);
    let mut drops = pool.drops();
    let (done, open) = (signed(0, 0, 5), signed(0, 1, 5));
    pool.submit(done.clone()).unwrap();
    pool.submit(open.clone()).unwrap();
    view.use_nonce(0, 0);
    view.set_height(2);
    pool.finalized(Height(2), &[ordered(&done, 2)]);
    assert_eq!(pool.standing(&done.bundle.id()), None);
    assert_eq!(pool.standing(&open.bundle.id()), Some(Standing::Waiting));
    assert!(reasons(&mut drops).is_empty());
    assert_eq!((pool.metrics().ordered.get(), pool.height()), (1, Height(2)));
    assert_eq!(pool.submit(done), Err(Refusal::NonceUsed { nonce: 0 }));
    check_invariants(&pool, &view);
}

#[test]
fn a_nonce_that_was_used_by_another_or_cancelled_drops_its_bundle() {
    let view = View::funded();
    let pool = pool(&view);
    let mut drops = pool.drops();
    let (replaced, cancelled) = (signed(0, 0, 5), signed(1, 3, 5));
    pool.submit(replaced.clone()).unwrap();
    pool.submit(cancelled.clone()).unwrap();
    pool.cancel(cancel(1, 3, 3)).unwrap();
    view.use_nonce(0, 0);
    view.use_nonce(1, 3);
    view.set_height(2);
    let nonces = vec![cancel(1, 3, 3).cancel.nonces];
    let cancelling = Report { sequence: 2, height: Height(2), event: Event::Cancelled { nonces } };
    pool.finalized(Height(2), &[(account(1), cancelling), ordered(&signed(0, 0, 9), 2)]);
    let mut expected = vec![(replaced.bundle.id(), "nonce_used"), (cancelled.bundle.id(), "nonce_used")];
    let mut found = reasons(&mut drops);
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    assert_eq!(pool.usage(), Usage::default(), "the cancel did its work and left as well");
    check_invariants(&pool, &view);
}

#[test]
fn bundles_expire_at_the_last_height_that_could_order_them() {
    let view = View::funded();
    let pool = pool(&view);
    let mut drops = pool.drops();
    let mut short = bundle(0, 0, 5);
    short.valid_until = Height(4);
    let id = short.id();
    pool.submit(short.sign(&key(0))).unwrap();
    view.set_height(3);
    pool.finalized(Height(3), &[]);
    assert_eq!(pool.standing(&id), Some(Standing::Waiting), "block 4 may still order it");
    view.set_height(4);
    pool.finalized(Height(4), &[]);
    let refusal = Refusal::Expired { valid_until: Height(4), height: Height(5) };
    assert_eq!(drops.try_recv(), Ok(Dropped { id, refusal }));
    assert_eq!(pool.usage(), Usage::default());
}

#[test]
fn what_an_account_can_no_longer_pay_leaves_latest_nonces_first() {
    let view = View::funded();
    let pool = pool(&view);
    let mut drops = pool.drops();
    for nonce in 0..4 {
        pool.submit(signed(0, nonce, 5)).unwrap();
    }
    // Bundles that this pool never saw were ordered and spent most of it.
    view.change(0, |record| record.balance = 2 * MAX_FEE + 1);
    view.set_height(2);
    pool.finalized(Height(2), &[ordered(&signed(0, 900, 5), 2)]);
    let dropped = |nonce| (signed(0, nonce, 5).bundle.id(), "insufficient_balance");
    assert_eq!(reasons(&mut drops), [dropped(3), dropped(2)]);
    assert_eq!(pool.usage().bundles, 2);
    check_invariants(&pool, &view);
}

#[test]
fn after_missed_blocks_everything_is_checked_again() {
    let view = View::funded();
    let pool = pool(&view);
    let mut drops = pool.drops();
    pool.submit(signed(0, 0, 5)).unwrap();
    pool.submit(signed(1, 0, 5)).unwrap();
    pool.cancel(cancel(2, 0, 0)).unwrap();
    view.use_nonce(1, 0);
    view.use_nonce(2, 0);
    view.set_height(9);
    // Block 9 itself says nothing about accounts 1 and 2: an earlier one did.
    pool.finalized(Height(9), &[]);
    assert_eq!(reasons(&mut drops), [(signed(1, 0, 5).bundle.id(), "nonce_used")]);
    assert_eq!((pool.usage().bundles, pool.usage().cancels), (1, 0));
    check_invariants(&pool, &view);
    pool.finalized(Height(5), &[]);
    assert_eq!(pool.height(), Height(9), "an old block again moves nothing back");
}

#[test]
fn a_clients_bundle_is_passed_on_again_while_it_waits_but_not_too_often() {
    let view = View::funded();
    let pool = pool(&view);
    pool.submit(signed(0, 0, 5)).unwrap();
    pool.receive(vec![signed(1, 0, 5)], Vec::new());
    let mut passed_on = Vec::new();
    for height in 1..=100 {
        view.set_height(height);
        pool.finalized(Height(height), &[]);
        while let Some(load) = Load::take(pool.outbox(), 1 << 20) {
            assert_eq!(ids(&load.bundles), [signed(0, 0, 5).bundle.id()], "only what a client brought here");
            passed_on.push(height);
        }
    }
    assert_eq!(passed_on, [1, 10, 74]);
}

#[test]
fn a_clients_cancel_is_passed_on_again_while_it_waits_but_not_too_often() {
    let view = View::funded();
    let pool = pool(&view);
    pool.cancel(cancel(0, 3, 5)).unwrap();
    pool.receive(Vec::new(), vec![cancel(1, 3, 5)]);
    let mut passed_on = Vec::new();
    for height in 1..=200 {
        if height == 100 {
            (3..=5).for_each(|nonce| view.use_nonce(0, nonce));
            view.set_height(height);
            pool.finalized(Height(height), &[ordered(&signed(0, 3, 5), height)]);
        }
        view.set_height(height);
        pool.finalized(Height(height), &[]);
        while let Some(load) = Load::take(pool.outbox(), 1 << 20) {
            assert_eq!(load.cancels, [cancel(0, 3, 5)], "only what a client brought here");
            passed_on.push(height);
        }
        check_invariants(&pool, &view);
    }
    assert_eq!(passed_on, [1, 10, 74], "and no more once it has nothing left to cancel");
    assert_eq!(pool.usage().cancels, 1, "the other account's still waits");
}

#[test]
fn a_full_outbox_drops_the_oldest_and_counts_them() {
    let outbox = Outbox::default();
    let large = |nonce| {
        let mut bundle = bundle(0, nonce, 5);
        bundle.legs[0].transactions = vec![lockstep_protocol::bundle::Transaction(vec![1; 120_000])];
        Arc::new(CheckedBundle::new(bundle.sign(&key(0)), &rules()).unwrap())
    };
    let bundles: Vec<_> = (0..40).map(large).collect();
    let dropped = outbox.push(bundles.iter().cloned().map(Item::Bundle));
    assert!(dropped > 0);
    let mut kept = Vec::new();
    while let Some(load) = Load::take(&outbox, 250_000) {
        assert!(load.bundles.len() <= 2);
        kept.extend(ids(&load.bundles));
        if kept.len() == 2 {
            let first = ids(&load.bundles);
            load.put_back(&outbox);
            assert_eq!(ids(&Load::take(&outbox, 250_000).unwrap().bundles), first, "what could not be sent is next");
        }
    }
    assert_eq!(kept, ids(&bundles[dropped..]), "in order, the newest");
    let alone = outbox.push([Item::Bundle(bundles[0].clone())]);
    assert_eq!(alone, 0);
    assert_eq!(Load::take(&outbox, 1_000).expect("for the caller to judge").bundles.len(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Submit { number: u8, nonce: u64, tip: u64, life: u64 },
    Cancel { number: u8, first: u64, length: u64 },
    Block { ordered: Vec<(u8, u64)>, spent: u64, base_fee: u64, skipped: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..ACCOUNTS, 0_u64..30, 0_u64..50, 0_u64..12)
            .prop_map(|(number, nonce, tip, life)| Step::Submit { number, nonce, tip, life }),
        1 => (0..ACCOUNTS, 0_u64..30, 0_u64..4).prop_map(|(number, first, length)| Step::Cancel { number, first, length }),
        2 => (prop::collection::vec((0..ACCOUNTS, 0_u64..30), 0..6), 0_u64..30_000, 1_u64..60, 0_u64..2)
            .prop_map(|(ordered, spent, base_fee, skipped)| Step::Block { ordered, spent, base_fee, skipped }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_tables_agree_and_nothing_unpayable_waits_whatever_happens(steps in prop::collection::vec(step(), 1..120)) {
        let view = View::funded();
        for number in 0..ACCOUNTS {
            view.change(number, |record| record.balance = 12 * MAX_FEE);
        }
        let pool = pool(&view);
        pool.lock().config.max_bytes = 20 * 1_200;
        let mut drops = pool.drops();
        let mut height = 1;
        for step in steps {
            let before: HashSet<_> = pool.lock().bundles.keys().copied().collect();
            let mut left_as_ordered = HashSet::new();
            match step {
                Step::Submit { number, nonce, tip, life } => {
                    let mut bundle = bundle(number, nonce, tip);
                    bundle.valid_until = Height(height + life);
                    let signed = bundle.sign(&key(number));
                    let id = signed.bundle.id();
                    let accepted = pool.submit(signed).is_ok();
                    prop_assert_eq!(accepted, pool.standing(&id) == Some(Standing::Waiting));
                }
                Step::Cancel { number, first, length } => {
                    let _ = pool.cancel(cancel(number, first, first + length));
                }
                Step::Block { ordered: chosen, spent, base_fee, skipped } => {
                    height += 1 + skipped;
                    let mut reports = Vec::new();
                    for (number, nonce) in chosen {
                        let record = view.account(&account(number)).unwrap();
                        if record.nonces.check(nonce).is_err() {
                            continue;
                        }
                        view.use_nonce(number, nonce);
                        view.change(number, |record| record.balance -= spent.min(record.balance));
                        let waiting = pool.lock().accounts.get(&account(number)).and_then(|open| open.by_nonce.get(&nonce).copied());
                        let mut report = ordered(&signed(number, nonce, 60), height);
                        if let (Some(id), Event::Ordered { bundle, .. }) = (waiting, &mut report.1.event) {
                            left_as_ordered.insert(id);
                            *bundle = id;
                        }
                        reports.push(report);
                    }
                    view.set_base_fee(ROLLUP_A, base_fee);
                    view.set_height(height);
                    pool.finalized(Height(height), &reports);
                    let _ = select_all(&pool);
                }
            }
            check_invariants(&pool, &view);
            let after: HashSet<_> = pool.lock().bundles.keys().copied().collect();
            let told: HashSet<_> = reasons(&mut drops).into_iter().map(|(id, _)| id).collect();
            let gone: HashSet<_> = before.difference(&after).copied().collect();
            let silent: Vec<_> = gone.difference(&told).filter(|id| !left_as_ordered.contains(*id)).collect();
            prop_assert!(silent.is_empty(), "left without a word: {:?}", silent);
        }
    }
}
