//! What users and venues do to each other: drains, liquidations, and many who want the same.

use lockstep_protocol::{ids::SettlementId, settlement::LegStatus};

use super::{
    A, B, C, COMMIT, REFUSED,
    chain::asset,
    margin::{CORRIDOR_CAP, INVENTORY, LIQUIDATOR, MARGIN, address, key, secret},
    play,
    rollup::Call,
};
use crate::ALL;

#[test]
fn margin_that_was_drained_is_refused_and_both_legs_are_released() {
    play("drain", 3, async |margin, city, shared, _| {
        let drain = margin.call(0, A, &Call::Withdraw { amount: 3_000 });
        shared.pool(0).submit(drain).expect("good");
        margin.until("draining", city, shared, 100, |margin| margin.rollups[&A].free(address(0)) == 2_000).await;
        let transfer = margin.transfer(0, A, B, 4_000, 60);
        let settlement = margin.send(shared, 1, transfer);
        margin.until("refusing", city, shared, 300, |margin| margin.decided(&[settlement])).await;
        assert_eq!(margin.decision(&settlement), REFUSED);
        let (_, height) = margin.promises.decided[&settlement];
        assert!(height < margin.promises.known[&settlement].transfer.deadline, "nobody waits for the deadline");
        margin.settle(city, shared).await;
        for (leg, rollup) in [(0, A), (1, B)] {
            assert_eq!(margin.rollups[&rollup].status(settlement, leg), LegStatus::Released);
        }
        assert_eq!((margin.rollups[&A].free(address(0)), margin.rollups[&B].free(address(0))), (2_000, MARGIN));
        // What is left can still move.
        let transfer = margin.transfer(0, A, B, 2_000, 60);
        let settlement = margin.send(shared, 2, transfer);
        margin.until("moving the rest", city, shared, 300, |margin| margin.decided(&[settlement])).await;
        assert_eq!(margin.decision(&settlement), COMMIT);
    });
}

/// In one block the liquidation goes first, whoever came first; after the prepare it finds only what is free.
#[test]
fn a_liquidation_and_a_transfer_of_one_account_never_count_the_same_margin_twice() {
    play("liquidation", 3, async |margin, city, shared, _| {
        for (who, transfer_first) in [(0, true), (1, false)] {
            let victim = address(who);
            let transfer = margin.transfer(who, A, B, 4_000, 60);
            let liquidation = margin.call(LIQUIDATOR, A, &Call::Liquidate { account: victim, amount: 3_000 });
            let liquidated = liquidation.bundle.id();
            // Both are in every pool before the next block: whoever leads orders them together.
            for validator in ALL {
                let liquidate = || drop(shared.pool(validator).submit(liquidation.clone()));
                if transfer_first {
                    drop(shared.pool(validator).submit(transfer.clone()));
                    liquidate();
                } else {
                    liquidate();
                    drop(shared.pool(validator).submit(transfer.clone()));
                }
            }
            let settlement = margin.send(shared, 0, transfer.clone());
            margin.until("racing", city, shared, 300, |margin| margin.decided(&[settlement])).await;
            let height = shared.ledger.lock().unwrap().height_of(&liquidated);
            assert_eq!(height, Some(margin.promises.ordered[&settlement].0), "not in one block");
            assert_eq!(margin.decision(&settlement), REFUSED, "the liquidation went first");
            margin.settle(city, shared).await;
            assert_eq!(margin.rollups[&A].free(victim), MARGIN - 3_000);
        }
        // The other order: what is in flight is no collateral any more, here or there.
        let transfer = margin.transfer(2, A, B, 4_000, 60);
        let settlement = margin.send(shared, 0, transfer);
        let prepared = LegStatus::Prepared;
        margin
            .until("preparing", city, shared, 100, |margin| margin.rollups[&A].status(settlement, 0) == prepared)
            .await;
        let seized_before = margin.rollups[&A].free(address(LIQUIDATOR));
        let liquidation = margin.call(LIQUIDATOR, A, &Call::Liquidate { account: address(2), amount: 3_000 });
        let liquidated = liquidation.bundle.id();
        shared.pool(1).submit(liquidation).expect("good");
        margin.until("liquidating", city, shared, 100, |margin| margin.rollups[&A].free(address(2)) == 0).await;
        assert!(shared.ledger.lock().unwrap().height_of(&liquidated).is_some());
        assert_eq!(margin.rollups[&A].free(address(LIQUIDATOR)) - seized_before, MARGIN - 4_000);
        margin.settle(city, shared).await;
        assert_eq!(margin.decision(&settlement), COMMIT);
        assert_eq!(margin.rollups[&B].free(address(2)), MARGIN + 4_000);
    });
}

/// A hog reserves the credit and never shows a debit: inventory and corridor are locked until its deadline.
#[test]
fn hundreds_of_hogs_lock_no_more_than_a_corridor_and_who_pays_more_gets_through() {
    const HOGS: u16 = 200;
    play("hogs", HOGS + 1, async |margin, city, shared, _| {
        let maker = HOGS;
        let hog_all = |margin: &mut super::Margin| -> Vec<SettlementId> {
            let hog = |hog: u16| {
                let mut transfer = margin.transfer(hog, A, B, 2_400, 40 + u64::from(hog % 8)).bundle;
                transfer.legs[0].transactions = vec![Call::Withdraw { amount: u128::MAX }.sign(A, &secret(hog))];
                let settlement = transfer.settlement();
                shared.pool(usize::from(hog % 4)).submit(transfer.sign(&key(hog))).ok().and(settlement)
            };
            (0..HOGS).filter_map(hog).collect()
        };
        let mut hogs = hog_all(margin);
        margin.steps(city, shared, 20).await;
        let corridor = shared.rules.settlement.corridor_index(A, B, asset()).expect("it is there");
        assert!(margin.promises.under_way(corridor) > CORRIDOR_CAP - 2_400, "nobody hogs anything");
        let beside = margin.transfer(maker, A, C, 500, 40);
        let beside = margin.send(shared, 0, beside);
        let mut through = margin.transfer(maker, A, B, 900, 150).bundle;
        through.tip = 10_000;
        let through = margin.send(shared, 1, through.sign(&key(maker)));
        margin.until("going beside", city, shared, 200, |margin| margin.decided(&[beside])).await;
        assert!(!margin.promises.ordered.contains_key(&through), "the corridor is full");
        // They wait for the same moment.
        hogs.extend(hog_all(margin));
        assert!(hogs.len() > 300);
        margin.until("going through", city, shared, 800, |margin| margin.decided(&[through])).await;
        assert_eq!((margin.decision(&beside), margin.decision(&through)), (COMMIT, COMMIT));
        let ordered = |hog: &&SettlementId| margin.promises.ordered.contains_key(*hog);
        let ordered: Vec<_> = hogs.iter().filter(ordered).collect();
        eprintln!("  {} of {} hogs ordered before the maker", ordered.len(), hogs.len());
        assert!(ordered.len() >= 4 && ordered.len() < hogs.len());
        assert!(ordered.iter().all(|hog| margin.decision(hog) != COMMIT), "a hog commits nothing");
        margin.settle(city, shared).await;
        let pool = margin.rollups[&B].chain.tip().escrow.pool[&asset()];
        assert_eq!(pool, INVENTORY - 900, "what the hogs reserved is free again");
    });
}
