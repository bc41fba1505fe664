//! What the pool offers to a leader.

use lockstep_protocol::{limits::MAX_LANE_BYTES, signature::Signature, wire::Wire};

use super::*;

fn request(taken: &HashSet<[u8; 32]>) -> Request<'_> {
    Request { height: Height(2), taken, bytes: 1 << 20, count: 10_000 }
}

#[test]
fn the_best_come_first_in_the_very_order_of_a_body() {
    let view = View::funded();
    let pool = pool(&view);
    for number in 0..ACCOUNTS {
        for nonce in 0..4 {
            pool.submit(signed(number, nonce, (u64::from(number) * 7 + nonce * 3) % 11)).unwrap();
        }
    }
    let chosen = select_all(&pool).bundles;
    assert_eq!(chosen.len(), usize::from(ACCOUNTS) * 4);
    let owned = chosen.iter().map(|bundle| CheckedBundle::clone(bundle)).collect();
    let arranged = CheckedBody::arrange(Vec::new(), owned);
    let arranged: Vec<_> = arranged.bundles().iter().map(CheckedBundle::id).collect();
    assert_eq!(ids(&chosen), arranged);
    assert!(chosen.windows(2).all(|pair| pair[0].signed().bundle.tip >= pair[1].signed().bundle.tip));
}

#[test]
fn what_unfinalized_ancestors_hold_is_passed_over() {
    let view = View::funded();
    let pool = pool(&view);
    let (first, second) = (signed(0, 0, 9), signed(0, 1, 5));
    pool.submit(first.clone()).unwrap();
    pool.submit(second.clone()).unwrap();
    pool.cancel(cancel(1, 0, 0)).unwrap();
    let digest = cancel(1, 0, 0).cancel.digest();
    let taken = HashSet::from([first.bundle.id().0, digest.0]);
    let chosen = pool.select(&request(&taken));
    assert_eq!(ids(&chosen.bundles), [second.bundle.id()]);
    assert!(chosen.cancels.is_empty());
    let taken = HashSet::from([first.bundle.id().0, second.bundle.id().0, digest.0]);
    assert!(pool.select(&request(&taken)).is_empty());
    assert_eq!(pool.usage().bundles, 2, "they stay until they are final");
}

#[test]
fn a_body_never_exceeds_its_bytes_and_small_bundles_fill_the_gaps() {
    let view = View::funded();
    let pool = pool(&view);
    let mut large = bundle(0, 0, 100_000);
    large.max_fee = 200_000;
    large.legs[0].transactions = (0..60).map(|nonce| transaction(ROLLUP_A.0, nonce)).collect();
    let large = large.sign(&key(0));
    pool.submit(large.clone()).unwrap();
    for nonce in 0..8 {
        pool.submit(signed(1, nonce, 1)).unwrap();
    }
    let taken = HashSet::new();
    for bytes in [0, 9, 500, 1_000, 2_000, 4_000, 10_000, 20_000] {
        let chosen = pool.select(&Request { bytes, ..request(&taken) });
        let owned = chosen.bundles.iter().map(|bundle| CheckedBundle::clone(bundle)).collect();
        let wire = CheckedBody::arrange(chosen.cancels.clone(), owned).to_body().to_wire();
        assert!(chosen.is_empty() || wire.len() <= bytes, "{} of {bytes}", wire.len());
        assert_eq!(ids(&chosen.bundles).contains(&large.bundle.id()), bytes >= 10_000);
        assert_eq!(chosen.bundles.is_empty(), bytes < 500);
    }
    assert_eq!(pool.select(&Request { count: 1, ..request(&taken) }).bundles.len(), 1);
}

#[test]
fn no_lane_takes_more_than_its_share_and_others_still_get_in() {
    let view = View::funded();
    let pool = pool(&view);
    let big = |number, nonce| {
        let mut bundle = bundle(number, nonce, 50_000);
        bundle.legs.truncate(1);
        bundle.legs[0].transactions = vec![lockstep_protocol::bundle::Transaction(vec![1; 100_000])];
        bundle.max_fee = 200_000;
        bundle.sign(&key(number))
    };
    // Not transactions, so a validator brings them.
    let bundles = (0..2).flat_map(|number| (0..4).map(move |nonce| big(number, nonce))).collect();
    assert_eq!(pool.receive(bundles, Vec::new()).taken, 8);
    let mut other = bundle(2, 0, 0);
    other.legs.remove(0);
    let other = other.sign(&key(2));
    pool.submit(other.clone()).unwrap();
    let chosen = select_all(&pool).bundles;
    let used: u64 = chosen
        .iter()
        .flat_map(|bundle| &bundle.signed().bundle.legs)
        .filter(|leg| leg.rollup == ROLLUP_A)
        .map(|leg| leg.bytes())
        .sum();
    assert!(used <= MAX_LANE_BYTES && used > MAX_LANE_BYTES - 110_000, "{used}");
    assert!(ids(&chosen).contains(&other.bundle.id()));
}

#[test]
fn bundles_below_the_fees_of_the_moment_wait_aside_until_fees_fall() {
    let view = View::funded();
    let pool = pool(&view);
    let signed = signed(0, 0, 5);
    pool.submit(signed.clone()).unwrap();
    view.set_base_fee(ROLLUP_A, 1_000);
    view.set_height(2);
    pool.finalized(Height(2), &[]);
    assert!(select_all(&pool).is_empty());
    assert_eq!(pool.lock().parked.len(), 1);
    assert_eq!(pool.standing(&signed.bundle.id()), Some(Standing::Waiting));
    check_invariants(&pool, &view);
    view.set_base_fee(ROLLUP_A, 1);
    view.set_height(3);
    pool.finalized(Height(3), &[]);
    assert_eq!(ids(&select_all(&pool).bundles), [signed.bundle.id()]);
    check_invariants(&pool, &view);
}

#[test]
fn every_parked_bundle_gets_its_turn() {
    let view = View::funded();
    let pool = pool(&view);
    for number in 0..5 {
        for nonce in 0..10 {
            pool.submit(signed(number, nonce, nonce)).unwrap();
        }
    }
    view.set_base_fee(ROLLUP_A, 1_000);
    view.set_height(2);
    pool.finalized(Height(2), &[]);
    assert!(select_all(&pool).is_empty());
    let mut waiting = pool.lock();
    waiting.base_fees.insert(ROLLUP_A, 1);
    for turn in 1..=5 {
        waiting.unpark(10);
        assert_eq!(waiting.ready.len(), turn * 10);
    }
    assert!(waiting.parked.is_empty());
}

#[test]
fn a_bundle_is_not_offered_past_its_time_or_under_its_own_cancel() {
    let view = View::funded();
    let pool = pool(&view);
    let mut short = bundle(0, 0, 5);
    short.valid_until = Height(3);
    pool.submit(short.sign(&key(0))).unwrap();
    let taken = HashSet::new();
    assert_eq!(pool.select(&Request { height: Height(3), ..request(&taken) }).bundles.len(), 1);
    assert!(pool.select(&Request { height: Height(4), ..request(&taken) }).is_empty());

    pool.submit(signed(1, 4, 5)).unwrap();
    pool.submit(signed(1, 6, 5)).unwrap();
    pool.cancel(cancel(1, 0, 5)).unwrap();
    let chosen = pool.select(&Request { height: Height(4), ..request(&taken) });
    assert_eq!(chosen.cancels, [cancel(1, 0, 5)]);
    assert_eq!(ids(&chosen.bundles), [signed(1, 6, 5).bundle.id()]);
}

#[test]
fn signatures_are_checked_once_and_wrong_ones_always() {
    let view = View::funded();
    let pool = pool(&view);
    let known = signed(0, 0, 5);
    pool.submit(known.clone()).unwrap();
    let body = |bundles: Vec<SignedBundle>| {
        let mut bundles: Vec<_> = bundles;
        bundles.sort_by_key(|signed| signed.bundle.id());
        let body = lockstep_protocol::body::Body { cancels: vec![cancel(1, 0, 3)], bundles, ..Default::default() };
        CheckedBody::new(body, &rules(), |_, _| true).unwrap()
    };
    assert_eq!(pool.verify(&body(vec![known.clone(), signed(2, 0, 5)]), &rules()), Ok(()));
    let mut forged = known;
    forged.signature = Signature::Ed25519([4; 64]);
    assert!(pool.verify(&body(vec![forged]), &rules()).is_err(), "another signature over a known bundle is not known");
}
