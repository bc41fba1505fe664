//! What fails: networks, validators, observers, relayers, and rollups before and after every step of a settlement.

use std::time::Duration;

use lockstep_consensus::simulate::Link;
use lockstep_protocol::{
    rpc::Fact,
    settlement::{LegStatus, Level, Side, Subject, records::Seen},
};

use lockstep_sequencer::labels::ReasonLabel;

use super::{
    A, B, C, COMMIT, EXPIRED,
    chain::escrow_of,
    margin::{MARGIN, WINDOW, address},
    observer::Conduct,
    play,
    rollup::Call,
};
use crate::{ALL, network::ROLLUPS};

#[test]
fn transfers_settle_both_ways_over_a_bad_network_and_conserve_every_unit() {
    play("transfers", 6, async |margin, city, shared, _| {
        city.link(Link { latency: Duration::from_millis(30), jitter: Duration::from_millis(20), loss: 40 }).await;
        let mut sent = Vec::new();
        for validator in ALL.into_iter().cycle().take(24) {
            sent.push(margin.anything(shared, validator, 6));
            margin.steps(city, shared, 3).await;
        }
        city.link(Link::default()).await;
        margin.settle(city, shared).await;
        let commits = sent.iter().filter(|settlement| margin.decision(settlement) == COMMIT).count();
        assert!(commits * 4 >= sent.len() * 3, "{commits} of {} committed", sent.len());
    });
}

#[test]
fn f_observers_that_lie_change_nothing() {
    play("liars", 4, async |margin, city, shared, seed| {
        let liar = (seed % 4) as usize;
        margin.observers[liar].conduct = Conduct::Lies;
        let mut sent = Vec::new();
        for validator in ALL.into_iter().cycle().take(6) {
            sent.push(margin.anything(shared, validator, 4));
            // A leg that stands prepared in a block that nobody has made.
            let settlement = sent[0];
            let mut made_up = margin.rollups[&A].chain.tip().clone();
            made_up.escrow.legs.insert((settlement, 0), LegStatus::Prepared);
            made_up.escrow.legs.insert((settlement, 1), LegStatus::Prepared);
            let rollup = margin.rollup(A);
            let number = rollup.chain.number();
            let truth = std::mem::replace(&mut rollup.chain.blocks[number as usize].1, made_up);
            let subjects = [0, 1].map(|leg| Subject::Leg { settlement, leg });
            let forged = rollup.chain.observe(Level::Executed, number, escrow_of(A.0), subjects);
            rollup.chain.blocks[number as usize].1 = truth;
            // It may be held until its head comes, and is then found out.
            let _ = shared.facts(validator).submit(Fact::Observation(forged)).await;
            margin.steps(city, shared, 6).await;
        }
        margin.settle(city, shared).await;
        assert!(margin.observers[liar].lies > 20, "nobody lied");
        assert!(sent.iter().all(|settlement| margin.decision(settlement) == COMMIT), "a lie was in the way");
        for id in ROLLUPS {
            assert_eq!(margin.promises.rollup(id).incarnation, 0, "a lie began another history");
        }
    });
}

#[test]
fn with_f_plus_1_observers_silent_settlements_abort_at_their_deadline_and_not_before() {
    play("silent", 4, async |margin, city, shared, seed| {
        let silent = [(seed % 4) as usize, ((seed + 1) % 4) as usize];
        silent.into_iter().for_each(|place| margin.observers[place].conduct = Conduct::Silent);
        // What they have said before is still in the pools.
        margin.steps(city, shared, 20).await;
        let transfers = [(0, A, B), (1, B, C)].map(|(who, from, to)| margin.transfer(who, from, to, 700, 20));
        let sent = transfers.map(|transfer| margin.send(shared, 0, transfer));
        margin.until("deadlines", city, shared, 400, |margin| margin.decided(&sent)).await;
        for settlement in &sent {
            assert_eq!(margin.decision(settlement), EXPIRED);
            assert_eq!(margin.promises.decided[settlement].1, margin.promises.known[settlement].transfer.deadline);
        }
        // Decisions are applied although nobody vouches for it; the log learns of it later.
        let released = LegStatus::Released;
        margin.until("releasing", city, shared, 200, |margin| margin.rollups[&A].status(sent[0], 0) == released).await;
        assert!(!margin.promises.all_settled());
        silent.into_iter().for_each(|place| margin.observers[place].conduct = Conduct::Honest);
        margin.settle(city, shared).await;
        for who in [0, 1] {
            assert!(ROLLUPS.iter().all(|id| margin.rollups[id].free(address(who)) == MARGIN));
        }
    });
}

#[test]
fn a_rollup_that_halts_before_prepare_delays_only_what_touches_it() {
    play("halt before prepare", 4, async |margin, city, shared, _| {
        margin.rollup(B).halted = true;
        let (touching, beside) = (margin.transfer(0, A, B, 800, 40), margin.transfer(1, A, C, 800, 40));
        let (touching, beside) = (margin.send(shared, 0, touching), margin.send(shared, 1, beside));
        margin.until("deciding", city, shared, 400, |margin| margin.decided(&[touching, beside])).await;
        assert_eq!((margin.decision(&touching), margin.decision(&beside)), (EXPIRED, COMMIT));
        assert!(margin.promises.decided[&beside].1 < margin.promises.decided[&touching].1);
        let released = LegStatus::Released;
        margin.until("releasing", city, shared, 200, |margin| margin.rollups[&A].status(touching, 0) == released).await;
        // It executes its lane late: the prepare, and what was decided of it.
        margin.rollup(B).halted = false;
        margin.settle(city, shared).await;
        assert_eq!(margin.rollups[&B].status(touching, 1), released);
        assert_eq!(margin.rollups[&B].free(address(0)), MARGIN);
    });
}

#[test]
fn a_rollup_that_goes_dark_before_the_decision_is_aborted_although_it_was_prepared() {
    play("dark before decision", 4, async |margin, city, shared, _| {
        let transfer = margin.transfer(0, A, B, 800, 24);
        let settlement = margin.send(shared, 2, transfer);
        margin.rollup(A).dark = true;
        margin.until("deciding", city, shared, 400, |margin| margin.decided(&[settlement])).await;
        assert_eq!(margin.decision(&settlement), EXPIRED);
        let rollup = margin.rollup(A);
        assert!(matches!(rollup.status(settlement, 0), LegStatus::Prepared | LegStatus::Released));
        rollup.dark = false;
        margin.settle(city, shared).await;
        assert_eq!(margin.rollups[&A].free(address(0)), MARGIN);
    });
}

#[test]
fn a_rollup_that_halts_before_apply_is_named_late_and_takes_no_more_until_it_has_applied() {
    play("halt before apply", 4, async |margin, city, shared, _| {
        let transfer = margin.transfer(0, A, B, 800, 30);
        let settlement = margin.send(shared, 3, transfer);
        margin
            .until("preparing", city, shared, 100, |margin| {
                [(0, A), (1, B)]
                    .iter()
                    .all(|(leg, id)| margin.rollups[id].status(settlement, *leg) == LegStatus::Prepared)
            })
            .await;
        margin.rollup(B).halted = true;
        margin.until("deciding", city, shared, 200, |margin| margin.decided(&[settlement])).await;
        assert_eq!(margin.decision(&settlement), COMMIT, "what was prepared and shown in time commits");
        let committed = LegStatus::Committed;
        margin
            .until("applying on A", city, shared, 200, |margin| margin.rollups[&A].status(settlement, 0) == committed)
            .await;
        let late = margin.promises.known[&settlement].transfer.deadline.0 + WINDOW;
        margin.until_height(city, shared, late + 1).await;
        assert_eq!(margin.promises.rollup(B).late, 1);
        // It takes nothing new, the others do.
        let (touching, beside) = (margin.transfer(1, A, B, 5, 20), margin.transfer(1, A, C, 5, 60));
        let touching_id = touching.bundle.settlement().expect("it is one");
        shared.pool(0).submit(touching).expect("pools do not know");
        let beside = margin.send(shared, 0, beside);
        margin.until("going on beside it", city, shared, 300, |margin| margin.decided(&[beside])).await;
        assert!(!margin.promises.ordered.contains_key(&touching_id));
        let quarantined = ReasonLabel { reason: "rollup_quarantined" };
        let held = |validator: &usize| shared.pool(*validator).metrics().held.get_or_create(&quarantined).get();
        assert!(ALL.iter().map(held).sum::<u64>() > 0, "no leader found it quarantined");
        margin.rollup(B).halted = false;
        margin.settle(city, shared).await;
        assert_eq!(margin.promises.rollup(B).late, 0);
        assert_eq!(margin.rollups[&B].free(address(0)), MARGIN + 800);
    });
}

#[test]
fn evidence_of_a_history_that_was_left_before_the_decision_does_not_count() {
    reorganize_before_the_decision("reorg before decision", false);
    reorganize_before_the_decision("reorg before decision, prepare lost", true);
}

fn reorganize_before_the_decision(name: &str, loses: bool) {
    play(name, 4, async |margin, city, shared, _| {
        let began = margin.rollups[&A].chain.blocks.len();
        let transfer = margin.transfer(0, A, B, 800, 60);
        let settlement = margin.send(shared, 0, transfer);
        margin.rollup(B).dark = true;
        let seen = |margin: &super::Margin| {
            let record = margin.promises.record(&settlement);
            record.is_some_and(|record| record.legs[0].seen == Seen::Prepared)
        };
        margin.until("seeing the debit", city, shared, 200, seen).await;
        let at = margin.promises.height();
        let rollup = margin.rollup(A);
        rollup.deaf_until = if loses { at } else { 0 };
        rollup.reorg(rollup.chain.blocks.len() - began);
        margin.until("hearing of it", city, shared, 300, |margin| margin.promises.rollup(A).incarnation == 1).await;
        margin.rollup(B).dark = false;
        margin.until("deciding", city, shared, 400, |margin| margin.decided(&[settlement])).await;
        // In the new history it was prepared again, or is not.
        assert_eq!(margin.decision(&settlement), if loses { EXPIRED } else { COMMIT });
        // A rollup that has left its history takes nothing new for a while.
        let refused = margin.transfer(1, A, C, 5, 12);
        let refused_id = refused.bundle.settlement().expect("it is one");
        shared.pool(0).submit(refused).expect("pools do not know");
        margin.steps(city, shared, 30).await;
        assert!(!margin.promises.ordered.contains_key(&refused_id));
    });
}

#[test]
fn a_commit_stands_over_a_reorganization_and_is_done_again() {
    reorganize_after_the_decision("reorg after decision", false);
    reorganize_after_the_decision("reorg after decision, margin spent", true);
}

/// Where it `spends`, the account has spent its margin in the new history.
fn reorganize_after_the_decision(name: &str, spends: bool) {
    play(name, 4, async |margin, city, shared, _| {
        let began = margin.rollups[&A].chain.blocks.len();
        let transfer = margin.transfer(0, A, B, 4_000, 60);
        let settlement = margin.send(shared, 0, transfer);
        let prepared = LegStatus::Prepared;
        margin
            .until("preparing", city, shared, 100, |margin| margin.rollups[&A].status(settlement, 0) == prepared)
            .await;
        let at = margin.promises.height();
        if spends {
            // Too much while the margin is in flight; not where it never was.
            let spend = margin.call(0, A, &Call::Withdraw { amount: 3_000 });
            shared.pool(0).submit(spend).expect("good");
        }
        margin.until("deciding", city, shared, 300, |margin| margin.decided(&[settlement])).await;
        // As long as B has not applied it, the settlement is not settled.
        margin.rollup(B).halted = true;
        let committed = LegStatus::Committed;
        margin
            .until("applying", city, shared, 300, |margin| margin.rollups[&A].status(settlement, 0) == committed)
            .await;
        assert_eq!(margin.rollups[&A].withdrawn(), 0, "what was in flight could not be spent");
        let rollup = margin.rollup(A);
        rollup.deaf_until = at;
        rollup.reorg(rollup.chain.blocks.len() - began);
        margin.until("hearing of it", city, shared, 300, |margin| margin.promises.rollup(A).incarnation == 1).await;
        let again = if spends { LegStatus::Shortfall } else { committed };
        margin
            .until("doing it again", city, shared, 300, |margin| margin.rollups[&A].status(settlement, 0) == again)
            .await;
        assert_eq!(margin.decision(&settlement), COMMIT);
        if spends {
            margin.until("being short", city, shared, 300, |margin| margin.promises.rollup(A).shortfalls == 1).await;
            let cover = margin.call(1, A, &Call::Cover { settlement, leg: 0, side: Side::Debit });
            shared.pool(2).submit(cover).expect("good");
        }
        margin.rollup(B).halted = false;
        margin.settle(city, shared).await;
        assert_eq!(margin.promises.rollup(A).shortfalls, 0);
        assert_eq!(margin.rollups[&B].free(address(0)), MARGIN + 4_000);
        assert_eq!(margin.rollups[&A].free(address(0)), if spends { 0 } else { MARGIN - 4_000 });
    });
}

#[test]
fn a_relayer_may_die_at_every_step() {
    play("relayers", 4, async |margin, city, shared, _| {
        for step in 0..7 {
            let transfer = margin.transfer(step % 4, A, B, 100, 60);
            margin.relayer.left = usize::from(step);
            let settlement = margin.send(shared, usize::from(step % 4), transfer);
            let done = |margin: &super::Margin| {
                margin.relayer.left == 0 || margin.promises.record(&settlement).is_some_and(|record| record.settled)
            };
            margin.until("dying", city, shared, 300, done).await;
            margin.steps(city, shared, 10).await;
            margin.replace_relayer();
            margin.settle(city, shared).await;
            assert_eq!(margin.decision(&settlement), COMMIT, "step {step}");
        }
    });
}

#[test]
fn margin_moves_while_validators_crash_and_networks_part() {
    play("crashes and partitions", 6, async |margin, city, shared, _| {
        let mut sent = Vec::new();
        for index in ALL {
            sent.push(margin.anything(shared, index, 6));
            margin.steps(city, shared, 4).await;
            city.crash(index).await;
            margin.observers[index].crashed();
            let other = (index + 1) % 4;
            sent.push(margin.anything(shared, other, 6));
            margin.steps(city, shared, 10).await;
            city.start(index).await;
            margin.steps(city, shared, 4).await;
            let alone = (index + 2) % 4;
            let others: Vec<_> = ALL.into_iter().filter(|place| *place != alone).collect();
            city.partition(&[&others]).await;
            sent.push(margin.anything(shared, others[0], 6));
            margin.steps(city, shared, 10).await;
            city.heal().await;
        }
        city.partition(&[&[0, 1], &[2, 3]]).await;
        margin.steps(city, shared, 20).await;
        city.heal().await;
        margin
            .until("ordering all", city, shared, 800, |margin| {
                sent.iter().all(|id| margin.promises.ordered.contains_key(id) || margin.promises.height() > 300)
            })
            .await;
        margin.settle(city, shared).await;
        let commits = sent.iter().filter(|settlement| margin.decision(settlement) == COMMIT).count();
        assert!(commits * 2 > sent.len(), "{commits} of {} committed", sent.len());
    });
}
