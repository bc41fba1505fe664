//! Is every unit of margin accounted for?
//!
//! Judges what was read of the venues' books against what their contracts said happened: S3, S5 and S6 of docs/settlement.md. Each
//! rollup is judged at a block of its own; what is between them at those blocks is told from the legs that were applied on one
//! side and not yet on the other. Asks nobody.

use std::collections::{BTreeSet, HashMap, VecDeque};

use alloy_primitives::{Address, U256};
use lockstep_protocol::ids::{RollupId, SettlementId};

use super::{
    events::{Event, LegId},
    reading::Reading,
};
use crate::{ledger::Breaches, network::ROLLUPS};

/// Settlements that are remembered, to notice one that is decided or applied otherwise later: hours of the fastest flow, and a
/// settlement is applied minutes after it was decided.
const REMEMBERED_MAX: usize = 200_000;

const VENUES: usize = ROLLUPS.len();

/// Books beside the venues' books.
#[derive(Debug, Default)]
pub struct Auditor {
    venues: [Venue; VENUES],
    /// Settlements of which a leg was applied.
    applied: HashMap<SettlementId, Applied>,
    /// What the lanes say of each.
    decided: HashMap<SettlementId, u8>,
    in_order: VecDeque<SettlementId>,
    breaches: Breaches,
    checks: u64,
    last: Totals,
}

/// What became of a settlement's legs.
#[derive(Debug)]
struct Applied {
    committed: bool,
    /// Debits less credits that were applied.
    net: i128,
}

/// What happened at one venue.
#[derive(Debug, Default)]
struct Venue {
    accounts: BTreeSet<Address>,
    deposited: u128,
    withdrawn: u128,
    debited: u128,
    credited: u128,
    /// Legs that stand prepared: whether a debit, and how much.
    prepared: HashMap<LegId, (bool, u128)>,
    /// Legs that were never prepared here and were committed all the same: the amount is not known from events alone.
    redone: u64,
}

/// Where all margin is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Paid in by anybody and not taken out.
    pub paid_in: u128,
    /// What users can claim at each venue, in the order of the rollups; margin that settlements hold included.
    pub claims: [u128; VENUES],
    /// Of that, what settlements hold.
    pub in_flight: [u128; VENUES],
    /// Debited at one venue by a commit, and not yet credited at the other.
    pub between: i128,
}

impl Auditor {
    /// Whoever ever had margin on a rollup.
    pub fn accounts(&self, place: usize) -> &BTreeSet<Address> {
        &self.venues[place].accounts
    }

    /// How often the books were judged.
    pub fn checks(&self) -> u64 {
        self.checks
    }

    /// What was found wrong.
    pub fn breaches(&self) -> &Breaches {
        &self.breaches
    }

    /// Where all margin was when the books were last judged.
    pub fn totals(&self) -> Totals {
        self.last
    }

    /// What is not at rest: legs that stand prepared, or settlements that were committed on one side only.
    pub fn under_way(&self) -> usize {
        let prepared: usize = self.venues.iter().map(|venue| venue.prepared.len()).sum();
        prepared + self.applied.values().filter(|applied| applied.net != 0).count()
    }

    /// A contract on the rollup at `place` said something.
    pub fn note(&mut self, place: usize, event: &Event) {
        let rollup = ROLLUPS[place].0;
        let venue = &mut self.venues[place];
        match event {
            Event::Deposited { account, amount } => {
                venue.accounts.insert(*account);
                venue.deposited += amount;
            }
            Event::Withdrawn { amount, .. } => venue.withdrawn += amount,
            Event::Moved { from, to } => venue.accounts.extend([*from, *to]),
            Event::Prepared { leg, account, debit, amount } => {
                venue.accounts.insert(*account);
                venue.prepared.insert(*leg, (*debit, *amount));
            }
            Event::Committed { leg } | Event::Short { leg } => {
                let net = match venue.prepared.remove(leg) {
                    Some((true, amount)) => {
                        venue.debited += amount;
                        amount.cast_signed()
                    }
                    Some((false, amount)) => {
                        venue.credited += amount;
                        -amount.cast_signed()
                    }
                    None => {
                        venue.redone += 1;
                        0
                    }
                };
                self.apply(rollup, *leg, true, net);
            }
            Event::Released { leg } => {
                venue.prepared.remove(leg);
                self.apply(rollup, *leg, false, 0);
            }
            Event::Refused { account, .. } => {
                venue.accounts.insert(*account);
            }
            Event::Liquidated { .. } | Event::DecisionsTaken { .. } => {}
        }
    }

    /// The lane of a rollup has a decision: S1, the same in every lane. Says whether it is news.
    pub fn decide(&mut self, rollup: RollupId, settlement: SettlementId, outcome: u8) -> bool {
        let Some(known) = self.decided.insert(settlement, outcome) else {
            self.in_order.push_back(settlement);
            if self.in_order.len() > REMEMBERED_MAX
                && let Some(oldest) = self.in_order.pop_front()
            {
                self.decided.remove(&oldest);
                self.applied.remove(&oldest);
            }
            return true;
        };
        if known != outcome {
            self.breaches
                .add(format!("settlement {settlement} is decided {outcome} in lane {rollup}, {known} in another"));
        }
        false
    }

    /// S3: never committed on one leg and released on another.
    fn apply(&mut self, rollup: RollupId, leg: LegId, committed: bool, net: i128) {
        let applied = self.applied.entry(leg.0).or_insert(Applied { committed, net: 0 });
        applied.net += net;
        if applied.committed != committed {
            let (here, there) = if committed { ("committed", "released") } else { ("released", "committed") };
            self.breaches.add(format!("settlement {} is {here} on rollup {rollup} and {there} on another", leg.0));
        }
    }

    /// Judges the books. Each reading must be of the last block whose events were noted.
    pub fn judge(&mut self, readings: [&Reading; VENUES]) {
        self.checks += 1;
        let mut totals = Totals::default();
        for (place, reading) in readings.into_iter().enumerate() {
            match self.venues[place].judge(reading) {
                Ok((claims, in_flight)) => (totals.claims[place], totals.in_flight[place]) = (claims, in_flight),
                Err(broken) => {
                    let (rollup, block) = (ROLLUPS[place].0, reading.block);
                    self.breaches.add(format!("rollup {rollup} at block {block}: {broken}"));
                    return;
                }
            }
            let venue = &self.venues[place];
            totals.paid_in += venue.deposited - venue.withdrawn;
        }
        totals.between = self.applied.values().map(|applied| applied.net).sum();
        let claims: u128 = totals.claims.iter().sum();
        if claims.cast_signed() + totals.between != totals.paid_in.cast_signed() {
            self.breaches.add(format!("over all rollups: {totals:?}"));
        }
        self.last = totals;
    }
}

impl Venue {
    /// What users can claim, and what of it settlements hold; or what does not add up.
    fn judge(&self, reading: &Reading) -> Result<(u128, u128), String> {
        let sum = |of: fn(&super::reading::Margin) -> u128| reading.accounts.values().map(of).sum::<u128>();
        let (free, in_flight, debt) =
            (sum(|margin| margin.free), sum(|margin| margin.in_flight), sum(|margin| margin.debt));
        let Reading { inventory, reserved, held, owed, tokens, .. } = reading;
        // S5, with the pool as the documents have it.
        if free + in_flight + (inventory + owed) + reserved != held + owed {
            return Err(format!(
                "free {free} + in flight {in_flight} + pool {} + reserved {reserved} are not held {held} + owed {owed}",
                inventory + owed
            ));
        }
        if *tokens < U256::from(*held) {
            return Err(format!("the books say {held} tokens are held, there are {tokens}"));
        }
        if debt != *owed {
            return Err(format!("accounts owe {debt}, the pool is owed {owed}"));
        }
        let standing = |debit| self.prepared.values().filter(|leg| leg.0 == debit).map(|leg| leg.1).sum::<u128>();
        if (standing(true), standing(false)) != (in_flight, *reserved) {
            return Err(format!(
                "legs that stand prepared hold {} and are promised {}, the books say {in_flight} and {reserved}",
                standing(true),
                standing(false)
            ));
        }
        let claims = free + in_flight;
        let expected = (self.deposited + self.credited).checked_sub(self.withdrawn + self.debited);
        if self.redone == 0 && expected != claims.checked_sub(debt) {
            return Err(format!(
                "users can claim {claims}: deposited {} + credited {} - withdrawn {} - debited {}",
                self.deposited, self.credited, self.withdrawn, self.debited
            ));
        }
        Ok((claims - debt.min(claims), in_flight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::venues::reading::Margin;

    const ALICE: Address = Address::repeat_byte(1);
    const LEG: SettlementId = SettlementId([7; 32]);

    /// Alice has 100 on each rollup, each pool 50.
    fn books() -> (Auditor, [Reading; 2]) {
        let mut auditor = Auditor::default();
        for place in 0..2 {
            auditor.note(place, &Event::Deposited { account: ALICE, amount: 100 });
        }
        let reading = |block| Reading {
            block,
            accounts: [(ALICE, Margin { free: 100, ..Margin::default() })].into(),
            inventory: 50,
            held: 150,
            tokens: U256::from(150),
            ..Reading::default()
        };
        (auditor, [reading(5), reading(9)])
    }

    fn judge(auditor: &mut Auditor, readings: &[Reading; 2]) -> String {
        auditor.judge([&readings[0], &readings[1]]);
        auditor.breaches().to_string()
    }

    fn margin(reading: &mut Reading) -> &mut Margin {
        reading.accounts.get_mut(&ALICE).expect("Alice is there")
    }

    #[test]
    fn every_step_of_a_transfer_conserves_every_unit() {
        let (mut auditor, mut readings) = books();
        assert_eq!(judge(&mut auditor, &readings), "");
        auditor.note(0, &Event::Prepared { leg: (LEG, 0), account: ALICE, debit: true, amount: 30 });
        (margin(&mut readings[0]).free, margin(&mut readings[0]).in_flight) = (70, 30);
        assert_eq!(judge(&mut auditor, &readings), "");
        auditor.note(1, &Event::Prepared { leg: (LEG, 1), account: ALICE, debit: false, amount: 30 });
        (readings[1].inventory, readings[1].reserved) = (20, 30);
        assert_eq!(judge(&mut auditor, &readings), "");
        auditor.note(0, &Event::Committed { leg: (LEG, 0) });
        (margin(&mut readings[0]).in_flight, readings[0].inventory) = (0, 80);
        assert_eq!(judge(&mut auditor, &readings), "");
        assert_eq!(auditor.totals().between, 30);
        auditor.note(1, &Event::Committed { leg: (LEG, 1) });
        (margin(&mut readings[1]).free, readings[1].reserved) = (130, 0);
        assert_eq!(judge(&mut auditor, &readings), "");
        assert_eq!(auditor.totals(), Totals { paid_in: 200, claims: [70, 130], in_flight: [0, 0], between: 0 });
        assert_eq!(auditor.checks(), 5);
    }

    #[test]
    fn a_unit_that_appears_or_is_lost_or_is_moved_without_a_word_is_found() {
        for (free, inventory) in [(101, 50), (99, 50), (100, 51), (100, 49), (101, 49), (99, 51)] {
            let (mut auditor, mut readings) = books();
            (margin(&mut readings[1]).free, readings[1].inventory) = (free, inventory);
            assert_ne!(judge(&mut auditor, &readings), "", "{free} free, {inventory} in the pool");
        }
        let (mut auditor, mut readings) = books();
        readings[0].tokens = U256::from(149);
        assert!(judge(&mut auditor, &readings).contains("there are 149"));
        let (mut auditor, mut readings) = books();
        (margin(&mut readings[0]).free, margin(&mut readings[0]).in_flight) = (90, 10);
        assert!(judge(&mut auditor, &readings).contains("stand prepared"), "in flight without a leg");
    }

    #[test]
    fn committed_here_and_released_there_is_found() {
        let (mut auditor, _) = books();
        auditor.note(0, &Event::Prepared { leg: (LEG, 0), account: ALICE, debit: true, amount: 30 });
        auditor.note(0, &Event::Committed { leg: (LEG, 0) });
        auditor.note(1, &Event::Released { leg: (LEG, 1) });
        assert!(auditor.breaches().to_string().contains("released on rollup 902"), "{}", auditor.breaches());
    }

    #[test]
    fn decided_one_way_in_one_lane_and_the_other_in_another_is_found() {
        let (mut auditor, _) = books();
        auditor.decide(ROLLUPS[0].0, LEG, 1);
        auditor.decide(ROLLUPS[1].0, LEG, 1);
        assert!(auditor.breaches().is_empty());
        auditor.decide(ROLLUPS[1].0, LEG, 2);
        assert_eq!(auditor.breaches().count(), 1);
    }
}
