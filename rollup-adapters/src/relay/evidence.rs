//! Which legs does the log want to see, at which level, and does a storage word tell it anything?
//!
//! Pure, and the mirror of the coordinator's own rules (`settlement/machine.rs` of the protocol): what this calls news the log
//! takes, what it does not, the log leaves out.

use alloy_primitives::U256;
use lockstep_protocol::{
    ids::{Address20, RollupId},
    rpc::SettlementStatus,
    settlement::{
        Decision, LegStatus, Level, Subject,
        records::{RollupRecord, Seen},
    },
};

/// A leg that the log has not seen where it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which.
    pub subject: Subject,
    /// The escrow that holds it.
    pub contract: Address20,
    /// The lowest level that counts.
    pub level: Level,
    /// What was decided of it.
    pub decided: Option<Decision>,
    /// What the log has seen of it in the rollup's current history.
    pub seen: Seen,
    /// Whether only a shortfall is of interest: that stops new settlements, at whatever level it shows.
    pub shortfall_alone: bool,
}

/// What a leg's word is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It wants to know.
    News,
    /// It knows, or has no use for it.
    Nothing,
    /// A contract that does what it must would not say this: a person should look.
    Contradiction(LegStatus),
}

/// The legs on `rollup` that the log wants to see.
pub fn wanted(
    settlements: &[SettlementStatus],
    rollup: RollupId,
    record: &RollupRecord,
    settled_level: Level,
) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for status in settlements {
        for (index, (leg, kept)) in (0..).zip(status.intent.transfer.legs.iter().zip(&status.record.legs)) {
            if leg.rollup != rollup {
                continue;
            }
            let seen = if kept.incarnation == record.incarnation { kept.seen } else { Seen::Nothing };
            let decided = status.record.decided.map(|decided| decided.decision);
            let level = match decided {
                None if seen == Seen::Nothing => kept.level,
                Some(_) if seen != Seen::Applied => settled_level,
                _ => continue,
            };
            let subject = Subject::Leg { settlement: status.settlement, leg: index };
            let leg = Wanted { subject, contract: leg.escrow, level, decided, seen, shortfall_alone: false };
            wanted.push(leg);
            if decided == Some(Decision::Commit) && level > Level::Executed && seen != Seen::Shortfall {
                wanted.push(Wanted { level: Level::Executed, shortfall_alone: true, ..leg });
            }
        }
    }
    wanted
}

impl Wanted {
    /// What the leg's word tells.
    pub fn judge(&self, word: U256) -> Word {
        let Ok(status) = LegStatus::of(word) else { return Word::Nothing };
        match (self.decided, status) {
            (None, LegStatus::None) => Word::Nothing,
            (None, LegStatus::Prepared | LegStatus::Refused) => Word::News,
            // Not applied yet.
            (Some(_), LegStatus::None | LegStatus::Prepared | LegStatus::Refused) => Word::Nothing,
            (Some(_), LegStatus::Committed) if self.shortfall_alone => Word::Nothing,
            (Some(Decision::Commit), LegStatus::Committed) | (Some(Decision::Abort(_)), LegStatus::Released) => {
                Word::News
            }
            (Some(Decision::Commit), LegStatus::Shortfall) if self.seen == Seen::Shortfall => Word::Nothing,
            (Some(Decision::Commit), LegStatus::Shortfall) => Word::News,
            // The hub may be ahead of the node that was asked for open settlements: it knows a decision that this one does not.
            (None, LegStatus::Committed | LegStatus::Released | LegStatus::Shortfall) => Word::Nothing,
            (Some(_), status) => Word::Contradiction(status),
        }
    }
}

#[cfg(test)]
mod tests;
