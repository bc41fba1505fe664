//! What convinces anybody of a decision? The same that convinces a contract: a chain of decisions that leads to a final leaf.
//!
//! Says what was decided, not why: the reason of an abort is in the settlement's record, which a state proof shows.

use lockstep_protocol::{
    ids::{Height, SettlementId},
    lane::LaneItem,
    settlement::{DecisionRange, Intent},
};
use serde::{Deserialize, Serialize};

use crate::{error::CheckError, trust::Trust};

/// A decision, its settlement, and why it is certain. Keep it: it needs no node to be checked again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionProof {
    /// What the settlement moves.
    pub intent: Intent,
    /// The decision, and those after it in its block.
    pub range: DecisionRange,
    /// The lane that they lead to, without entries.
    pub item: LaneItem,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Every leg takes effect.
    Commit,
    /// Every leg is released.
    Abort,
}

impl DecisionProof {
    /// The settlement, what was decided of it, and a height at which it was.
    pub fn verify(&self, trust: &Trust) -> Result<(SettlementId, Verdict, Height), CheckError> {
        let settlement = self.intent.sid(trust.network());
        let decision = self.range.decisions.first().filter(|decision| decision.settlement == settlement);
        let decision = decision.ok_or(CheckError::Undecided(settlement))?;
        trust.check_leaf(self.range.rollup, &self.item)?;
        self.range.verify(&self.item.leaf)?;
        let verdict = match decision.outcome {
            1 => Verdict::Commit,
            2 => Verdict::Abort,
            _ => return Err(CheckError::Undecided(settlement)),
        };
        Ok((settlement, verdict, self.item.header.height))
    }
}
