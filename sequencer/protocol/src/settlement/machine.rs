//! What becomes of one settlement when something is seen of one of its legs?
//!
//! The state machine of the coordinator, over one record and what the log knows of the rollups that it touches: facts in, at most
//! one effect out, and the record as it stands after. Knows no proof, no cap and no other settlement.

use std::collections::BTreeMap;

use crate::{
    ids::Height,
    settlement::{
        AbortReason, Decision, FactError, LegStatus, Level,
        records::{Decided, LegRecord, RollupRecord, Seen, SettlementRecord},
    },
};

/// What the log must do besides keeping the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Noted,
    /// Carry a decision out.
    Decide(Decision),
    /// The decision is applied everywhere; what it held is free.
    Settled,
}

/// What the machine must know of the rollups that a settlement touches, by their place among the network's.
pub type Grounds = BTreeMap<u8, Ground>;

/// What the machine must know of a rollup.
#[derive(Clone, Copy, Debug)]
pub struct Ground {
    /// What the log knows of it.
    pub record: RollupRecord,
    /// The level at which what was decided counts as applied.
    pub settled_level: Level,
}

/// A fact about a leg.
#[derive(Clone, Copy, Debug)]
pub struct Fact {
    /// Which leg.
    pub leg: usize,
    /// What its escrow says.
    pub status: LegStatus,
    /// At which level.
    pub level: Level,
}

impl LegRecord {
    /// Whether this was seen, in the rollup's current incarnation.
    pub fn stands(&self, seen: Seen, ground: &Ground) -> bool {
        self.seen == seen && self.incarnation == ground.record.incarnation
    }
}

impl SettlementRecord {
    /// Takes in a fact, whose proof was checked. Changes the counters of late legs and shortfalls in `grounds`. After an
    /// error nothing has changed.
    pub fn observe(&mut self, fact: Fact, grounds: &mut Grounds) -> Result<Effect, FactError> {
        match self.decided.map(|decided| decided.decision) {
            None => self.observe_open(fact, grounds),
            Some(decision) => self.observe_decided(fact, decision, grounds),
        }
    }

    fn observe_open(&mut self, fact: Fact, grounds: &Grounds) -> Result<Effect, FactError> {
        let leg = self.legs[fact.leg];
        let here = own(grounds, &leg);
        if fact.level < leg.level {
            return Err(FactError::LevelTooLow { needed: leg.level, found: fact.level });
        }
        let seen = match fact.status {
            LegStatus::None => return Err(FactError::NothingNew),
            LegStatus::Prepared if leg.stands(Seen::Prepared, here) => return Err(FactError::NothingNew),
            LegStatus::Prepared => Seen::Prepared,
            LegStatus::Refused => Seen::Refused,
            status => return Err(contradiction(fact.leg, status)),
        };
        self.note(fact.leg, seen, here);
        if seen == Seen::Refused {
            return Ok(Effect::Decide(Decision::Abort(AbortReason::Refused)));
        }
        // A rollup that does not apply what was decided must not be given more to apply, if that can be helped.
        if grounds.values().any(|ground| ground.record.is_behind()) {
            return Ok(Effect::Decide(Decision::Abort(AbortReason::Quarantined)));
        }
        Ok(if self.all(Seen::Prepared, grounds) { Effect::Decide(Decision::Commit) } else { Effect::Noted })
    }

    fn observe_decided(&mut self, fact: Fact, decision: Decision, grounds: &mut Grounds) -> Result<Effect, FactError> {
        let index = fact.leg;
        let leg = self.legs[index];
        let here = *own(grounds, &leg);
        let needed = here.settled_level;
        let commit = decision == Decision::Commit;
        match fact.status {
            // Not applied yet. A leg that was prepared may be refused in the history after a reorganization, and is
            // committed all the same.
            LegStatus::None | LegStatus::Prepared | LegStatus::Refused => return Err(FactError::NothingNew),
            LegStatus::Shortfall if commit => {
                // A shortfall that was covered does not come back within a history: this is an old head.
                if leg.stands(Seen::Applied, &here) || leg.stands(Seen::Shortfall, &here) {
                    return Err(FactError::NothingNew);
                }
                // One that was counted in an earlier history still counts.
                if leg.seen != Seen::Shortfall {
                    let record = &mut own_mut(grounds, &leg).record;
                    record.shortfalls = record.shortfalls.saturating_add(1);
                }
                self.note(index, Seen::Shortfall, &here);
                return Ok(Effect::Noted);
            }
            LegStatus::Committed if commit => {}
            LegStatus::Released if !commit => {}
            status => return Err(contradiction(index, status)),
        }
        if fact.level < needed {
            return Err(FactError::LevelTooLow { needed, found: fact.level });
        }
        if leg.stands(Seen::Applied, &here) {
            return Err(FactError::NothingNew);
        }
        let record = &mut own_mut(grounds, &leg).record;
        if leg.seen == Seen::Shortfall {
            record.shortfalls = record.shortfalls.checked_sub(1).expect("every shortfall was counted");
        }
        if self.late & bit(index) != 0 {
            self.late &= !bit(index);
            record.late = record.late.checked_sub(1).expect("every late leg was counted");
        }
        self.note(index, Seen::Applied, &here);
        if !self.settled && self.all(Seen::Applied, grounds) {
            self.settled = true;
            return Ok(Effect::Settled);
        }
        Ok(Effect::Noted)
    }

    /// The deadline has come.
    pub fn expire(&self) -> Option<Effect> {
        self.decided.is_none().then_some(Effect::Decide(Decision::Abort(AbortReason::Expired)))
    }

    /// The apply window is over: whoever has not applied the decision is late. Whether anything changed.
    pub fn mark_late(&mut self, grounds: &mut Grounds) -> bool {
        if self.settled {
            return false;
        }
        for (index, leg) in self.legs.iter().enumerate() {
            let Some(here) = grounds.get_mut(&leg.rollup) else { continue };
            if !leg.stands(Seen::Applied, here) {
                self.late |= bit(index);
                here.record.late = here.record.late.saturating_add(1);
            }
        }
        self.late != 0
    }

    /// Writes the decision down. There is one for each settlement.
    pub fn decide(&mut self, decision: Decision, height: Height) {
        assert!(self.decided.is_none(), "a settlement is decided once");
        self.decided = Some(Decided { decision, height });
    }

    fn note(&mut self, index: usize, seen: Seen, here: &Ground) {
        let leg = &mut self.legs[index];
        (leg.seen, leg.incarnation) = (seen, here.record.incarnation);
    }

    /// Whether every leg was seen so in its rollup's current incarnation. A foreign leg is nobody's here.
    fn all(&self, seen: Seen, grounds: &Grounds) -> bool {
        self.legs.iter().all(|leg| grounds.get(&leg.rollup).is_none_or(|ground| leg.stands(seen, ground)))
    }
}

fn bit(leg: usize) -> u8 {
    1 << leg
}

fn own<'a>(grounds: &'a Grounds, leg: &LegRecord) -> &'a Ground {
    grounds.get(&leg.rollup).expect("a fact is about a leg of this network")
}

fn own_mut<'a>(grounds: &'a mut Grounds, leg: &LegRecord) -> &'a mut Ground {
    grounds.get_mut(&leg.rollup).expect("a fact is about a leg of this network")
}

fn contradiction(leg: usize, status: LegStatus) -> FactError {
    FactError::Contradiction { leg: u8::try_from(leg).unwrap_or(u8::MAX), status: status as u8 }
}
