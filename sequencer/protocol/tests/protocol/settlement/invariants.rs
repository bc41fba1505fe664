//! Do the invariants of the design hold over random lives? One test for each, by its name.
//!
//! S5, S8 and S10 are the escrow contract's; here they hold of its model under the log's decisions.

use proptest::prelude::*;

use lockstep_protocol::{
    body::Facts,
    ids::RollupId,
    settlement::{AbortReason, Decision, LegStatus, Side, records::Seen},
};

use super::{
    escrow_model::Revert,
    walk::{Action, ROLLUPS, Walk, actions},
    world::{ACCOUNT_CAP, CORRIDOR_CAP, MARGIN, World, asset},
};
use crate::fixture::key;

/// Runs one random life and checks after every action.
fn live(actions: &[Action], mut check: impl FnMut(&Walk)) -> Walk {
    let mut walk = Walk::new();
    for action in actions {
        walk.step(action, &mut check);
    }
    walk
}

proptest! {
    #![proptest_config(crate::config(20))]

    /// `Walk::note` asserts it over every lane and report; here: the record agrees, and stays.
    #[test]
    fn s1_one_decision_for_each_settlement(actions in actions()) {
        let mut seen = std::collections::BTreeMap::new();
        live(&actions, |walk| {
            for (settlement, (outcome, height)) in &walk.decided {
                let record = walk.world.settlement(settlement).expect("what was decided has a record");
                let decided = record.decided.expect("and the decision is in it");
                assert_eq!((decided.decision.outcome(), decided.height), (*outcome, *height));
                assert_eq!(*seen.entry(*settlement).or_insert(decided), decided);
                assert_eq!(walk.reported.get(settlement), Some(&decided.decision));
            }
        });
    }

    #[test]
    fn s2_commit_only_after_every_leg_was_prepared(actions in actions()) {
        live(&actions, |walk| {
            for (settlement, (outcome, _)) in walk.decided.iter().filter(|(_, (outcome, _))| *outcome == 1) {
                for leg in 0..2 {
                    assert!(walk.prepared.contains(&(*settlement, leg)), "{settlement} leg {leg}: {outcome}");
                }
                assert!(walk.ordered.contains(settlement));
            }
        });
    }

    #[test]
    fn s3_never_committed_here_and_released_there(actions in actions()) {
        let check = |walk: &Walk| {
            for settlement in walk.world.intents.keys() {
                let legs = [walk.status(settlement, 0), walk.status(settlement, 1)];
                let some = |status| legs.contains(&status);
                let taken = some(LegStatus::Committed) || some(LegStatus::Shortfall);
                assert!(!(taken && some(LegStatus::Released)), "{settlement}: {legs:?}");
            }
        };
        let mut walk = live(&actions, check);
        walk.settle_down(&mut |walk| check(walk));
    }

    /// With a redo after every reorganization, and every call made twice: the sums come out as if each leg had moved once.
    #[test]
    fn s4_each_leg_moves_a_balance_at_most_once(actions in actions()) {
        let mut walk = live(&actions, |_| {});
        walk.settle_down(&mut |_| {});
        for (rollup, chain) in &walk.world.chains {
            let escrow = &chain.tip().escrow;
            for ((settlement, index), status) in &escrow.legs {
                let leg = walk.world.intents[settlement].transfer.legs[usize::from(*index)];
                let mut again = escrow.clone();
                let result = match walk.decision(settlement) {
                    Some(1) => again.commit(*settlement, *index, &leg),
                    Some(_) => again.release(*settlement, *index, &leg),
                    None => Ok(*status),
                };
                prop_assert!(result.is_ok());
                prop_assert_eq!(&again, escrow, "rollup {}", rollup);
            }
        }
        // Each trader has at each venue what the committed legs, each once, make of the first margin.
        for who in 0..3 {
            for (rollup, chain) in &walk.world.chains {
                let mut expected = i128::try_from(MARGIN).unwrap();
                for ((settlement, index), status) in &chain.tip().escrow.legs {
                    let leg = walk.world.intents[settlement].transfer.legs[usize::from(*index)];
                    if leg.account != super::world::trader(who) {
                        continue;
                    }
                    let amount = i128::try_from(leg.amount).unwrap();
                    expected += match (status, leg.side) {
                        (LegStatus::Committed, Side::Credit) => amount,
                        (LegStatus::Committed, Side::Debit) => -amount,
                        (LegStatus::Prepared, Side::Debit) => -amount,
                        _ => 0,
                    };
                }
                let free = chain.tip().escrow.free[&(super::world::trader(who), asset())];
                // What somebody paid in for a shortfall was margin that was gone already.
                prop_assert!(i128::try_from(free).unwrap() >= expected, "rollup {}: {} < {}", rollup, free, expected);
                if walk.reorgs == 0 {
                    prop_assert_eq!(i128::try_from(free).unwrap(), expected);
                }
            }
        }
    }

    #[test]
    fn s5_what_is_booked_is_what_is_held_and_owed(actions in actions()) {
        let check = |walk: &Walk| {
            for (rollup, chain) in &walk.world.chains {
                let (booked, held) = chain.tip().escrow.balances(asset());
                assert_eq!(booked, held, "rollup {rollup}");
            }
        };
        live(&actions, check).settle_down(&mut |walk| check(walk));
    }

    #[test]
    fn s6_claims_are_conserved_over_all_rollups_and_in_flight(actions in actions()) {
        let first = MARGIN * 9;
        let check = |walk: &Walk| {
            let mut claims = i128::try_from(walk.free()).unwrap();
            for settlement in walk.world.intents.keys() {
                let [debit, credit] = [walk.status(settlement, 0), walk.status(settlement, 1)];
                let amount = i128::try_from(walk.world.intents[settlement].transfer.legs[0].amount).unwrap();
                let gone = matches!(debit, LegStatus::Prepared | LegStatus::Committed | LegStatus::Shortfall);
                let come = matches!(credit, LegStatus::Committed | LegStatus::Shortfall);
                claims += amount * (i128::from(gone) - i128::from(come));
            }
            let paid: u128 = walk.world.chains.values().map(|chain| chain.tip().escrow.tokens[&asset()]).sum();
            let covered = paid - MARGIN * 12;
            let owed = walk.world.chains.values().flat_map(|chain| chain.tip().escrow.owed.iter());
            // Only a debit that found too little leaves its owner with more than the claim; see escrow_model.rs.
            let kept: u128 = owed
                .filter(|((settlement, leg), _)| {
                    let legs = &walk.world.intents[settlement].transfer.legs;
                    legs[usize::from(*leg)].side == Side::Debit
                })
                .map(|(_, (_, amount))| amount)
                .sum();
            let claims = u128::try_from(claims).unwrap();
            assert!(claims >= first + kept && claims <= first + kept + covered, "{claims} {first} {kept} {covered}");
        };
        live(&actions, check).settle_down(&mut |walk| check(walk));
    }

    /// Where no rollup has left its history: a credit counts only once its debit does not count any more.
    #[test]
    fn s7_no_margin_counts_at_two_venues(actions in actions()) {
        let calm: Vec<_> = actions.into_iter().filter(|action| !matches!(action, Action::Reorg { .. })).collect();
        live(&calm, |walk| {
            for settlement in walk.world.intents.keys() {
                let [debit, credit] = [walk.status(settlement, 0), walk.status(settlement, 1)];
                if credit == LegStatus::Committed {
                    assert!(matches!(debit, LegStatus::Prepared | LegStatus::Committed), "{settlement}: {debit:?}");
                }
            }
        });
    }

    #[test]
    fn s8_nothing_is_released_but_by_a_decision(actions in actions()) {
        live(&actions, |walk| {
            for chain in walk.world.chains.values() {
                for ((settlement, _), status) in &chain.tip().escrow.legs {
                    match status {
                        LegStatus::Released => assert_eq!(walk.decision(settlement), Some(2)),
                        LegStatus::Committed | LegStatus::Shortfall => assert_eq!(walk.decision(settlement), Some(1)),
                        _ => {}
                    }
                }
            }
        });
    }

    #[test]
    fn s9_what_is_under_way_is_counted_and_within_the_caps(actions in actions()) {
        live(&actions, |walk| {
            let corridors = &walk.world.rules().settlement.corridors;
            let mut counted = vec![0_u128; corridors.len()];
            let mut open = std::collections::BTreeMap::new();
            for settlement in walk.world.intents.keys() {
                let Some(record) = walk.world.settlement(settlement) else { continue };
                let aborted = record.decided.is_some_and(|decided| decided.decision != Decision::Commit);
                if aborted || record.settled {
                    continue;
                }
                for flow in &record.flows {
                    counted[usize::from(flow.corridor)] += flow.amount;
                    let (count, sum) = open.entry(record.account).or_insert((0, 0));
                    *count += 1;
                    *sum += flow.amount;
                }
            }
            for (index, counted) in counted.into_iter().enumerate() {
                assert_eq!(walk.world.under_way(index), counted);
                assert!(counted <= CORRIDOR_CAP);
            }
            for who in 0..3 {
                let account = key(who).account();
                let (count, sum) = open.get(&account).copied().unwrap_or_default();
                let record = walk.world.in_flight(&account);
                assert_eq!((record.open, record.amounts[0]), (count, sum));
                assert!(sum <= ACCOUNT_CAP);
            }
        });
    }

    #[test]
    fn s10_after_a_release_prepare_cannot_succeed(actions in actions()) {
        let mut walk = live(&actions, |_| {});
        walk.settle_down(&mut |_| {});
        for chain in walk.world.chains.values() {
            for ((settlement, index), status) in &chain.tip().escrow.legs {
                if *status == LegStatus::Released {
                    let leg = walk.world.intents[settlement].transfer.legs[usize::from(*index)];
                    let mut late = chain.tip().escrow.clone();
                    prop_assert_eq!(late.prepare(*settlement, *index, &leg), Err(Revert::Known(LegStatus::Released)));
                    prop_assert_eq!(late.commit(*settlement, *index, &leg), Err(Revert::Decided(LegStatus::Released)));
                    prop_assert_eq!(&late, &chain.tip().escrow);
                }
            }
        }
    }

    #[test]
    fn s11_the_same_log_gives_the_same_state(actions in actions()) {
        let walk = live(&actions, |_| {});
        prop_assert_eq!(walk.replayed(), walk.world.network.state);
    }

    #[test]
    fn l1_every_ordered_settlement_is_decided_by_its_deadline(actions in actions()) {
        live(&actions, |walk| {
            let height = walk.world.network.parent.height;
            for settlement in &walk.ordered {
                let deadline = walk.world.intents[settlement].transfer.deadline;
                if height >= deadline {
                    let (_, at) = walk.decided.get(settlement).expect("its deadline has passed");
                    assert!(*at <= deadline);
                }
            }
        });
    }

    /// Or the rollup that owes it is named as late, and takes no new settlement.
    #[test]
    fn l2_a_decision_is_applied_within_the_window(actions in actions()) {
        let check = |walk: &Walk| {
            let height = walk.world.network.parent.height;
            let mut late = std::collections::BTreeMap::new();
            for settlement in &walk.ordered {
                let record = walk.world.settlement(settlement).expect("what was ordered has a record");
                for (index, leg) in walk.world.intents[settlement].transfer.legs.iter().enumerate() {
                    let flagged = record.late & (1 << index) != 0;
                    *late.entry(leg.rollup).or_insert(0) += u32::from(flagged);
                    let over = height.0 == Walk::window_after(record.deadline);
                    let applied = record.legs[index].seen == Seen::Applied
                        && record.legs[index].incarnation == walk.world.incarnation(leg.rollup.0);
                    assert!(!over || applied || flagged || record.settled, "{settlement} leg {index}");
                }
            }
            for rollup in ROLLUPS {
                let record = walk.world.rollup(rollup);
                assert_eq!(record.late, late.get(&RollupId(rollup)).copied().unwrap_or_default());
                if record.is_behind() {
                    assert!(record.check_health(RollupId(rollup), height).is_err());
                }
            }
        };
        let mut walk = live(&actions, check);
        walk.settle_down(&mut |walk| check(walk));
        for settlement in &walk.ordered {
            prop_assert!(walk.world.settlement(settlement).unwrap().settled, "{} is not settled", settlement);
        }
        prop_assert_eq!(walk.owed(), 0);
    }

    /// However the venues' evidence comes in, and whatever else is under way.
    #[test]
    fn l3_prepared_in_time_and_not_cancelled_commits(
        order in Just((0..8_usize).collect::<Vec<_>>()).prop_shuffle(),
        amounts in prop::collection::vec(1..150_u128, 4),
    ) {
        let mut world = World::new(&ROLLUPS);
        let mut settlements = Vec::new();
        for (index, amount) in amounts.iter().enumerate() {
            let (from, to) = (ROLLUPS[index % 3], ROLLUPS[(index + 1) % 3]);
            let signed = world.transfer((index % 3) as u8, from, to, *amount, 60);
            settlements.push(signed.bundle.settlement().unwrap());
            prop_assert!(world.advance(Facts::default(), vec![signed]).left_out.is_empty());
        }
        for step in order {
            let settlement = settlements[step / 2];
            let rollup = world.intents[&settlement].transfer.legs[step % 2].rollup.0;
            world.prepare(&settlement, rollup);
            world.show(rollup);
        }
        for settlement in &settlements {
            let record = world.settlement(settlement).unwrap();
            prop_assert_eq!(record.decided.unwrap().decision, Decision::Commit);
            prop_assert!(record.decided.unwrap().height < record.deadline);
        }
    }

    #[test]
    fn l4_a_halted_rollup_delays_only_what_touches_it(halted in 0..3_usize, amount in 1..300_u128) {
        let mut world = World::new(&ROLLUPS);
        let halted = ROLLUPS[halted];
        let live: Vec<_> = ROLLUPS.into_iter().filter(|rollup| *rollup != halted).collect();
        let between = world.transfer(0, live[0], live[1], amount, 20);
        let touching = world.transfer(1, live[0], halted, amount, 20);
        let [between_id, touching_id] = [&between, &touching].map(|signed| signed.bundle.settlement().unwrap());
        prop_assert!(world.advance(Facts::default(), vec![between, touching]).left_out.is_empty());
        for rollup in &live {
            for settlement in [between_id, touching_id] {
                world.prepare(&settlement, *rollup);
            }
            world.show(*rollup);
        }
        prop_assert_eq!(world.settlement(&between_id).unwrap().decided.unwrap().decision, Decision::Commit);
        world.pass(20);
        let expired = world.settlement(&touching_id).unwrap();
        prop_assert_eq!(expired.decided.unwrap().decision, Decision::Abort(AbortReason::Expired));
        prop_assert_eq!(expired.decided.unwrap().height, expired.deadline);
        for rollup in &live {
            world.relay(*rollup, 9);
            world.show(*rollup);
        }
        prop_assert!(world.settlement(&between_id).unwrap().settled);
        prop_assert!(!world.settlement(&touching_id).unwrap().settled);
        // The window passes: the halted one is late, the others go on.
        world.pass(super::world::WINDOW);
        prop_assert_eq!(world.rollup(halted).late, 1);
        let next = world.transfer(0, live[1], live[0], amount, 20);
        prop_assert!(world.advance(Facts::default(), vec![next]).left_out.is_empty());
        let refused = world.transfer(0, live[1], halted, amount, 20);
        prop_assert_eq!(world.advance(Facts::default(), vec![refused]).left_out[0].1.reason(), "rollup_quarantined");
        // It comes back: nothing is lost.
        world.relay(halted, 9);
        world.show(halted);
        prop_assert!(world.settlement(&touching_id).unwrap().settled);
        prop_assert_eq!(world.rollup(halted).late, 0);
    }
}
