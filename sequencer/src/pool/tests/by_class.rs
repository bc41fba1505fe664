//! Liquidations, settlements and the rest: who goes first, and what none of them can take from the others.

use lockstep_protocol::{
    body::Class,
    bundle::{Bundle, Kind, Transaction},
    genesis::Genesis,
    ids::{Address20, AssetId, RollupId},
    limits::{MAX_LANE_BYTES, MAX_OPEN_SETTLEMENTS, MIN_DEADLINE},
    settlement::{
        AbortReason, Decision, Level, MarginTransfer, SettlementLeg, Side,
        config::{Asset, Corridor, Participant, SettlementConfig},
    },
};

use super::*;
use crate::labels::ReasonLabel;

/// Liquidates on both rollups.
const LIQUIDATOR: u8 = 0;
/// Liquidates on `ROLLUP_A` alone.
const HALF: u8 = 1;
/// Room for four legs of `bundle`.
const SHARE: u64 = 600;

fn usdc() -> AssetId {
    AssetId::from_symbol("USDC")
}

fn escrow(rollup: RollupId) -> Address20 {
    Address20([u8::try_from(rollup.0 % 256).unwrap(); 20])
}

fn genesis_with_classes(share: u64, liquidators: &[u8]) -> Genesis {
    let mut genesis = genesis();
    for rollup in &mut genesis.rollups {
        rollup.liquidation_bytes = share;
        rollup.liquidators = liquidators.iter().map(|number| account(*number)).collect();
        rollup.settlement = Some(Participant {
            hub: Address20([1; 20]),
            escrows: vec![escrow(rollup.id)],
            settled_level: Level::Executed,
        });
    }
    genesis.rollups[0].liquidators.push(account(HALF));
    for rollup in &mut genesis.rollups {
        rollup.liquidators.sort_unstable();
        rollup.liquidators.dedup();
    }
    genesis.settlement = Some(SettlementConfig {
        apply_window: 100,
        assets: vec![Asset { asset: usdc(), account_cap: 1_000 }],
        corridors: vec![Corridor { from: ROLLUP_A, to: ROLLUP_B, asset: usdc(), cap: 1_000 }],
    });
    genesis
}

fn class_pool(view: &Arc<View>, config: PoolConfig) -> Arc<Pool> {
    let rules = genesis_with_classes(SHARE, &[LIQUIDATOR]).rules().expect("the genesis is good");
    Pool::new(Arc::new(rules), config, view.clone())
}

fn settlement(number: u8, nonce: u64, tip: u64, deadline: u64) -> Bundle {
    let leg = |rollup, side| SettlementLeg {
        rollup,
        escrow: escrow(rollup),
        account: Address20([7; 20]),
        asset: usdc(),
        side,
        amount: 5,
        level: Level::Executed,
    };
    let legs = vec![leg(ROLLUP_A, Side::Debit), leg(ROLLUP_B, Side::Credit)];
    let kind = Kind::Settlement(MarginTransfer { legs, deadline: Height(deadline) });
    Bundle { kind, ..bundle(number, nonce, tip) }
}

fn settle(number: u8, nonce: u64, tip: u64) -> SignedBundle {
    settlement(number, nonce, tip, 500).sign(&key(number))
}

/// A bundle with a leg of many bytes on each rollup. Not of transactions, so a validator brings it.
fn large(mut bundle: Bundle, number: u8, bytes: usize) -> SignedBundle {
    for leg in &mut bundle.legs {
        leg.transactions = vec![Transaction(vec![1; bytes])];
    }
    bundle.max_fee = CREDITS / 4;
    bundle.sign(&key(number))
}

#[test]
fn the_class_of_a_bundle_is_the_one_that_the_protocol_tells_of_it() {
    let rules = genesis_with_classes(SHARE, &[LIQUIDATOR]).rules().unwrap();
    let mut only_a = bundle(HALF, 0, 0);
    only_a.legs.truncate(1);
    for (number, bundle, expected) in [
        (LIQUIDATOR, bundle(LIQUIDATOR, 0, 0), Class::Liquidation),
        (HALF, bundle(HALF, 0, 0), Class::Plain),
        (HALF, only_a, Class::Liquidation),
        (2, bundle(2, 0, 0), Class::Plain),
        (2, settlement(2, 0, 0, 500), Class::Settlement),
        (LIQUIDATOR, settlement(LIQUIDATOR, 0, 0, 500), Class::Settlement),
    ] {
        assert_eq!(classes::class(&bundle, &rules), expected);
        assert_eq!(CheckedBundle::new(bundle.sign(&key(number)), &rules).unwrap().class(), expected);
    }
}

#[test]
fn a_liquidation_goes_before_a_transfer_and_both_before_the_rest_whoever_came_first_or_pays_more() {
    let (liquidation, transfer, plain) = (signed(LIQUIDATOR, 0, 0), settle(2, 0, 50), signed(3, 0, 900));
    let expected = [&liquidation, &transfer, &plain].map(|signed| signed.bundle.id());
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let view = View::funded();
        let pool = class_pool(&view, PoolConfig::default());
        for place in order {
            pool.submit([&liquidation, &transfer, &plain][place].clone()).unwrap();
        }
        let chosen = select_all(&pool).bundles;
        assert_eq!(ids(&chosen), expected, "{order:?}");
        let owned = chosen.iter().map(|bundle| CheckedBundle::clone(bundle)).collect();
        let arranged = CheckedBody::arrange(Vec::new(), owned);
        assert_eq!(arranged.bundles().iter().map(CheckedBundle::id).collect::<Vec<_>>(), expected);
        // One alone is the best of its class.
        let one = pool.select(&Request { height: Height(2), taken: &HashSet::new(), bytes: 1 << 20, count: 1 });
        assert_eq!(ids(&one.bundles), expected[..1]);
        check_invariants(&pool, &view);
    }
}

#[test]
fn liquidators_take_their_share_of_a_lane_and_what_is_above_it_waits_for_the_next_block() {
    let view = View::funded();
    let pool = class_pool(&view, PoolConfig::default());
    let liquidations: Vec<_> = (0..10).map(|nonce| signed(LIQUIDATOR, nonce, 100 - nonce)).collect();
    for signed in &liquidations {
        pool.submit(signed.clone()).unwrap();
    }
    let others = [settle(2, 0, 0), signed(3, 0, 0)];
    others.iter().for_each(|signed| assert!(pool.submit(signed.clone()).is_ok()));
    let fit = usize::try_from(SHARE / bundle(0, 0, 0).legs[0].bytes()).unwrap();
    assert!((2..10).contains(&fit));
    let chosen = ids(&select_all(&pool).bundles);
    let expected = liquidations[..fit].iter().chain(&others).map(|signed| signed.bundle.id());
    assert_eq!(chosen, expected.collect::<Vec<_>>());
    // The transition would have said so; it changes nothing.
    let full = Refusal::LiquidationFull { rollup: ROLLUP_A };
    pool.left_out(Height(2), &[(liquidations[fit].bundle.id(), full)]);
    let reports: Vec<_> = liquidations[..fit].iter().map(|signed| ordered(signed, 2)).collect();
    (0..fit).for_each(|nonce| view.use_nonce(LIQUIDATOR, nonce as u64));
    view.set_height(2);
    pool.finalized(Height(2), &reports);
    let chosen = ids(&select_all(&pool).bundles);
    assert_eq!(chosen[..fit], liquidations[fit..2 * fit].iter().map(|signed| signed.bundle.id()).collect::<Vec<_>>());
    check_invariants(&pool, &view);
}

#[test]
fn what_no_state_could_let_in_is_refused_at_once() {
    let view = View::funded();
    let pool = class_pool(&view, PoolConfig::default());
    let above = large(bundle(LIQUIDATOR, 0, 0), LIQUIDATOR, SHARE as usize);
    let taken = |signed: SignedBundle| pool.receive(vec![signed], Vec::new()).taken;
    assert_eq!(taken(above.clone()), 0);
    let verdict = pool.precheck(&[above]).pop().unwrap();
    assert_eq!(verdict, Some(Err(Refusal::LiquidationFull { rollup: ROLLUP_A })));
    assert_eq!(taken(large(bundle(LIQUIDATOR, 0, 0), LIQUIDATOR, SHARE as usize - 16)), 1, "as much as the share");

    let mut back = settlement(2, 0, 0, 500);
    let Kind::Settlement(transfer) = &mut back.kind else { unreachable!() };
    transfer
        .legs
        .iter_mut()
        .for_each(|leg| leg.side = if leg.side == Side::Debit { Side::Credit } else { Side::Debit });
    let (from, to, asset) = (ROLLUP_B, ROLLUP_A, usdc());
    assert_eq!(pool.submit(back.clone().sign(&key(2))), Err(Refusal::NoCorridor { from, to, asset }));
    assert_eq!(pool.receive(vec![back.sign(&key(2))], Vec::new()).dishonest, 1, "a validator would not pass it on");

    let (min, max) = (Height(2 + MIN_DEADLINE), Height(2 + 8_192));
    for deadline in [0, min.0 - 1, max.0 + 1, u64::MAX] {
        let refusal = pool.submit(settlement(2, 0, 0, deadline).sign(&key(2)));
        assert_eq!(refusal, Err(Refusal::BadDeadline { deadline: Height(deadline), min, max }));
    }
    assert!(pool.submit(settlement(2, 0, 0, min.0).sign(&key(2))).is_ok());
    check_invariants(&pool, &view);
}

#[test]
fn an_account_has_no_more_settlements_waiting_than_could_be_open() {
    let view = View::funded();
    let pool = class_pool(&view, PoolConfig::default());
    let most = u64::from(MAX_OPEN_SETTLEMENTS);
    (0..most).for_each(|nonce| assert!(pool.submit(settle(2, nonce, 1)).is_ok()));
    let full = Err(Refusal::TooManySettlements { max: MAX_OPEN_SETTLEMENTS, open: MAX_OPEN_SETTLEMENTS });
    assert_eq!(pool.submit(settle(2, most, 1)), full);
    assert!(pool.submit(signed(2, most, 1)).is_ok(), "other bundles are not counted");
    assert!(pool.submit(settle(2, 0, 9)).is_ok(), "one may be replaced");
    assert_eq!(pool.submit(settle(2, most, 9)), full, "nor may a plain one become one too many");
    assert!(pool.submit(settle(3, 0, 1)).is_ok(), "others have their own");
    check_invariants(&pool, &view);
}

#[test]
fn settlements_leave_a_quarter_to_plain_bundles_and_take_it_where_none_wait() {
    let view = View::funded();
    let pool = class_pool(&view, PoolConfig::default());
    let lane = |chosen: &[Arc<CheckedBundle>], class| -> u64 {
        let chosen = chosen.iter().filter(|bundle| bundle.class() == class);
        chosen.map(|bundle| bundle.signed().bundle.legs[0].bytes()).sum()
    };
    let settlements = (0..6).map(|nonce| large(settlement(2, nonce, 9, 500), 2, 120_000));
    view.change(2, |record| record.balance = 1 << 40);
    view.change(3, |record| record.balance = 1 << 40);
    assert_eq!(pool.receive(settlements.collect(), Vec::new()).taken, 6);
    let chosen = select_all(&pool).bundles;
    assert_eq!(lane(&chosen, Class::Settlement) / 120_000, 4, "a whole lane");

    let plain = (0..6).map(|nonce| large(bundle(3, nonce, 0), 3, 30_000));
    assert_eq!(pool.receive(plain.collect(), Vec::new()).taken, 6);
    let chosen = select_all(&pool).bundles;
    let (settled, plain) = (lane(&chosen, Class::Settlement), lane(&chosen, Class::Plain));
    assert_eq!((settled / 120_000, plain / 30_000), (3, 5), "three quarters are for settlements, and no more");
    assert!(settled + plain <= MAX_LANE_BYTES);
    // A body may be shorter than the lanes.
    for bytes in [300_000, 400_000, 600_000] {
        let chosen = pool.select(&Request { height: Height(2), taken: &HashSet::new(), bytes, count: 100 }).bundles;
        let size = |class| 2 * lane(&chosen, class);
        assert!(size(Class::Settlement) <= bytes as u64 * 3 / 4, "{bytes}");
        assert!(size(Class::Plain) > 0 && size(Class::Plain) + size(Class::Settlement) <= bytes as u64, "{bytes}");
    }
    check_invariants(&pool, &view);
}

#[test]
fn liquidations_above_their_share_never_hide_what_waits_behind_them() {
    let liquidators = [0, 1, 2, 3, 4];
    let rules = genesis_with_classes(200, &liquidators).rules().unwrap();
    let view = View::funded();
    liquidators.iter().for_each(|number| view.change(*number, |record| record.balance = 1 << 40));
    let pool = Pool::new(Arc::new(rules), PoolConfig::default(), view.clone());
    for number in liquidators {
        let flood = (0..1_000).map(|nonce| large(bundle(number, nonce, 9), number, 150)).collect();
        assert_eq!(pool.receive(flood, Vec::new()).taken, 1_000);
    }
    let (transfer, plain) = (settle(5, 0, 0), signed(6, 0, 0));
    pool.submit(transfer.clone()).unwrap();
    pool.submit(plain.clone()).unwrap();
    let chosen = select_all(&pool).bundles;
    assert_eq!(chosen.len(), 3, "one liquidation fits the share");
    assert_eq!(ids(&chosen[1..]), [transfer.bundle.id(), plain.bundle.id()]);
}

#[test]
fn no_class_pushes_another_out_of_the_memory_that_it_is_sure_of() {
    let view = View::funded();
    let each = 60_000;
    let config = PoolConfig { max_bytes: 40 * each, ..PoolConfig::default() };
    let pool = class_pool(&view, config);
    (0..ACCOUNTS).for_each(|number| view.change(number, |record| record.balance = 1 << 40));
    let brought = |bundles: Vec<SignedBundle>| pool.receive(bundles, Vec::new()).taken;
    let bytes = |class: Class| pool.lock().bytes[class as usize];
    // Plain bundles take all there is, whatever they pay.
    let plain = (0..80).map(|nonce| large(bundle(3, nonce, 1_000 + nonce), 3, 25_000)).collect();
    assert!(brought(plain) > 40);
    assert!(bytes(Class::Plain) > 38 * each);
    // Settlements that pay nothing get three eighths of it back, and no more.
    let count = bytes(Class::Plain) / each;
    let settlements = (0..60).map(|nonce| large(settlement(2, nonce, 0, 500), 2, 25_000)).collect();
    let taken = brought(settlements);
    assert!(bytes(Class::Settlement) <= 15 * each && bytes(Class::Settlement) > 13 * each, "{taken} of {count}");
    assert!(bytes(Class::Plain) >= 20 * each);
    check_invariants(&pool, &view);
    // The best of a class stay, and another class's tip does not count.
    let better = (0..60).map(|nonce| large(settlement(4, nonce, 5_000, 500), 4, 25_000)).collect();
    let plain_before = bytes(Class::Plain);
    assert!(brought(better) > 0);
    assert_eq!(bytes(Class::Plain), plain_before);
    let waiting = pool.lock();
    let kept = waiting.bundles.values().filter(|entry| entry.bundle.class() == Class::Settlement);
    assert!(kept.into_iter().all(|entry| entry.bundle.signed().bundle.account == account(4)));
    drop(waiting);
    // A liquidation finds room in a full pool too.
    assert!(pool.submit(signed(LIQUIDATOR, 0, 0)).is_ok());
    check_invariants(&pool, &view);
}

#[test]
fn a_settlement_that_cannot_be_opened_is_tried_again_ever_more_seldom() {
    let view = View::funded();
    let pool = class_pool(&view, PoolConfig::default());
    let transfer = settle(2, 0, 0);
    pool.submit(transfer.clone()).unwrap();
    let full = Refusal::CorridorFull { from: ROLLUP_A, to: ROLLUP_B, asset: usdc(), available: 1 };
    let mut height = 1;
    for wait in [4, 8, 16, 32, 64, 128] {
        assert_eq!(ids(&select_all(&pool).bundles), [transfer.bundle.id()], "height {height}");
        let failed = height + 1;
        pool.left_out(Height(failed), &[(transfer.bundle.id(), full.clone())]);
        while height + 1 < failed + wait {
            assert!(select_all(&pool).is_empty(), "it is left alone, and makes no block, at {height}");
            height += 1;
            view.set_height(height);
            pool.finalized(Height(height), &[]);
            check_invariants(&pool, &view);
        }
    }
    assert_eq!(pool.standing(&transfer.bundle.id()), Some(Standing::Waiting));
    let held = || pool.metrics().held.get_or_create(&ReasonLabel { reason: "corridor_full" }).get();
    assert_eq!(held(), 6);
    // A decision may have freed what it waits for.
    pool.left_out(Height(height + 1), &[(transfer.bundle.id(), full.clone())]);
    height += 1;
    assert!(select_all(&pool).is_empty());
    let event = Event::Decided {
        settlement: settle(3, 0, 0).bundle.settlement().unwrap(),
        nonce: 0,
        decision: Decision::Abort(AbortReason::Expired),
    };
    height += 1;
    view.set_height(height);
    pool.finalized(Height(height), &[(account(3), Report { sequence: 2, height: Height(height), event })]);
    assert_eq!(ids(&select_all(&pool).bundles), [transfer.bundle.id()]);
    // Nothing is known of others.
    pool.left_out(Height(height), &[(settle(3, 0, 0).bundle.id(), full)]);
    check_invariants(&pool, &view);
}

#[test]
fn a_settlement_leaves_once_it_is_too_late_for_its_deadline() {
    let view = View::funded();
    let pool = class_pool(&view, PoolConfig::default());
    let transfer = settlement(2, 0, 0, 10).sign(&key(2));
    pool.submit(transfer.clone()).unwrap();
    let mut drops = pool.drops();
    view.set_height(5);
    pool.finalized(Height(5), &[]);
    assert_eq!(ids(&select_all(&pool).bundles), [transfer.bundle.id()], "block 6 can still open it");
    view.set_height(6);
    pool.finalized(Height(6), &[]);
    let dropped = drops.try_recv().unwrap();
    assert_eq!(dropped.id, transfer.bundle.id());
    assert!(matches!(dropped.refusal, Refusal::BadDeadline { deadline: Height(10), min: Height(11), .. }));
    assert_eq!(pool.usage(), Usage::default());
    check_invariants(&pool, &view);
}
