//! Does an observer show what the coordinator takes, and nothing else? Every state of a leg, beside the coordinator itself.

use std::collections::BTreeMap;

use alloy_primitives::U256;
use lockstep_protocol::{
    ids::{Account, Address20, AssetId, Hash32, Height, SettlementId},
    settlement::{
        AbortReason, FactError, Intent, MarginTransfer, SettlementLeg, Side,
        machine::{Fact, Ground, Grounds},
        records::{Decided, LegRecord, SettlementRecord},
    },
};

use super::*;

const HERE: RollupId = RollupId(10);
const STATUSES: [LegStatus; 6] = [
    LegStatus::None,
    LegStatus::Prepared,
    LegStatus::Refused,
    LegStatus::Committed,
    LegStatus::Released,
    LegStatus::Shortfall,
];

/// A settlement with one leg here, as the log may have it.
fn status(decided: Option<Decision>, level: Level, seen: Seen, incarnation: u32) -> SettlementStatus {
    let leg = SettlementLeg {
        rollup: HERE,
        escrow: Address20([7; 20]),
        account: Address20([8; 20]),
        asset: AssetId([9; 32]),
        side: Side::Debit,
        amount: 1,
        level,
    };
    let account = Account::Ed25519(Hash32([1; 32]));
    let transfer = MarginTransfer { legs: vec![leg], deadline: Height(9) };
    let record = SettlementRecord {
        account,
        nonce: 0,
        deadline: Height(9),
        decided: decided.map(|decision| Decided { decision, height: Height(5) }),
        settled: false,
        late: 0,
        legs: vec![LegRecord { rollup: 0, escrow: 0, level, seen, incarnation }],
        flows: vec![],
    };
    SettlementStatus {
        settlement: SettlementId([2; 32]),
        intent: Intent { account, nonce: 0, transfer },
        ordered: None,
        record,
        changed: Height(5),
        tip: Height(6),
    }
}

#[test]
fn what_an_observer_shows_the_coordinator_takes_and_the_other_way_round() {
    let record = RollupRecord { incarnation: 3, shortfalls: 1, ..RollupRecord::default() };
    let abort = Decision::Abort(AbortReason::Expired);
    let mut news = 0;
    for decided in [None, Some(Decision::Commit), Some(abort)] {
        for (seen, incarnation) in [
            (Seen::Nothing, 3),
            (Seen::Prepared, 3),
            (Seen::Prepared, 2),
            (Seen::Applied, 3),
            (Seen::Applied, 2),
            (Seen::Shortfall, 3),
            (Seen::Shortfall, 2),
        ] {
            let applied = matches!(seen, Seen::Applied | Seen::Shortfall);
            if (decided.is_none() && applied) || (decided == Some(abort) && seen == Seen::Shortfall) {
                continue;
            }
            for level in Level::ALL {
                for settled_level in Level::ALL {
                    let settlement = status(decided, level, seen, incarnation);
                    let shown = wanted(std::slice::from_ref(&settlement), HERE, &record, settled_level);
                    for (found, at) in STATUSES.into_iter().flat_map(|found| Level::ALL.map(|at| (found, at))) {
                        let mut grounds: Grounds = BTreeMap::from([(0, Ground { record, settled_level })]);
                        let taken =
                            settlement.record.clone().observe(Fact { leg: 0, status: found, level: at }, &mut grounds);
                        let word = U256::from(found as u8) + (U256::from(77) << 8);
                        // An observer looks at the lowest level that counts; what holds above holds there.
                        let judged: Vec<_> =
                            shown.iter().filter(|leg| leg.level == at).map(|leg| leg.judge(word)).collect();
                        let case = format!(
                            "{decided:?} {seen:?}@{incarnation} {level:?}/{settled_level:?}: {found:?} at {at:?}"
                        );
                        if judged.contains(&Word::News) {
                            assert!(taken.is_ok(), "{case}: shown in vain: {taken:?}");
                            news += 1;
                        } else if taken.is_ok() {
                            // Shown at another level, or a refusal after a vote for it, which one history does not hold.
                            let lower = shown.iter().any(|leg| leg.level < at && leg.judge(word) == Word::News);
                            let turned = decided.is_none() && found == LegStatus::Refused && seen == Seen::Prepared;
                            // A shortfall counts at any level; it is shown at the lowest and where it settles.
                            let shortfall = found == LegStatus::Shortfall && !shown.is_empty();
                            assert!(lower || turned || shortfall, "{case}: not shown");
                        }
                        let contradicts = judged.iter().any(|word| matches!(word, Word::Contradiction(_)));
                        if contradicts {
                            assert!(matches!(taken, Err(FactError::Contradiction { .. })), "{case}: {taken:?}");
                        }
                    }
                }
            }
        }
    }
    assert!(news > 50, "{news} cases were news");
}

#[test]
fn legs_elsewhere_are_somebody_elses() {
    let record = RollupRecord::default();
    let settlement = status(None, Level::Executed, Seen::Nothing, 0);
    assert_eq!(wanted(std::slice::from_ref(&settlement), HERE, &record, Level::Executed).len(), 1);
    assert!(wanted(&[settlement], RollupId(11), &record, Level::Executed).is_empty());
}

#[test]
fn a_shortfall_is_shown_before_it_is_final() {
    let record = RollupRecord::default();
    let settlement = status(Some(Decision::Commit), Level::Executed, Seen::Nothing, 0);
    let shown = wanted(&[settlement], HERE, &record, Level::Final);
    let early: Vec<_> = shown.iter().filter(|leg| leg.level == Level::Executed).collect();
    assert_eq!(early.len(), 1);
    assert_eq!(early[0].judge(U256::from(5)), Word::News);
    assert_eq!(early[0].judge(U256::from(3)), Word::Nothing, "that it is committed counts at the settled level alone");
}
