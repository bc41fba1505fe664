//! What was decided of a settlement, and how do lanes carry it?

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

pub use super::chain::chain;
use crate::{
    ids::{Address20, Hash32, RollupId, SettlementId},
    lane::LaneLeaf,
    limits::{MAX_DECISIONS_PER_RANGE, MAX_SETTLEMENT_LEGS},
    wire::{self, Wire},
};

/// What the log decided: once for each settlement, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Decision {
    /// Every leg takes effect.
    Commit,
    /// Every leg is released.
    Abort(AbortReason),
}

/// Why nothing moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AbortReason {
    /// Its deadline came before every leg was observed prepared.
    Expired,
    /// A venue refused its leg.
    Refused,
    /// The owner took it back.
    Cancelled,
    /// A rollup that it touches is behind with decisions.
    Quarantined,
    /// It was never ordered, and a leg stood prepared.
    Unknown,
}

/// A decision as one lane carries it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LaneDecision {
    /// Of which settlement.
    pub settlement: SettlementId,
    /// 1: commit. 2: abort.
    pub outcome: u8,
    /// The settlement's legs on the lane's rollup. Not part of the chain: the settlement's id vouches for them.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_SETTLEMENT_LEGS>")]
    pub legs: Vec<DecidedLeg>,
}

/// A leg that a decision applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DecidedLeg {
    /// Its place among the settlement's legs.
    pub index: u8,
    /// The contract that holds it.
    pub escrow: Address20,
}

/// Consecutive decisions of a lane.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DecisionRange {
    /// Whose lane.
    pub rollup: RollupId,
    /// Decisions before the first of these.
    pub sequence: u64,
    /// The chain over them.
    pub chain: Hash32,
    /// These.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_DECISIONS_PER_RANGE>")]
    pub decisions: Vec<LaneDecision>,
}

impl Wire for DecisionRange {
    // A decision has at most 37 bytes and 21 for each leg.
    const MAX_BYTES: usize = 64 + MAX_DECISIONS_PER_RANGE * (37 + 21 * MAX_SETTLEMENT_LEGS);
}

/// Why decisions do not lead to a lane's leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum DecisionError {
    #[error("decisions of lane {found}, not of {expected}")]
    WrongLane { expected: RollupId, found: RollupId },
    #[error("the decisions end at {found}, the leaf at {expected}")]
    WrongEnd { expected: u64, found: u64 },
    #[error("the decisions do not chain to the leaf")]
    BrokenChain,
}

impl Decision {
    /// Its byte in the chain of decisions.
    pub fn outcome(&self) -> u8 {
        match self {
            Self::Commit => 1,
            Self::Abort(_) => 2,
        }
    }
}

impl AbortReason {
    /// The stable name, as metrics and JSON have it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::Quarantined => "quarantined",
            Self::Unknown => "unknown",
        }
    }
}

impl DecisionRange {
    /// Checks that the decisions lead to `leaf`, whose own proof is the caller's business.
    pub fn verify(&self, leaf: &LaneLeaf) -> Result<(), DecisionError> {
        if self.rollup != leaf.rollup {
            return Err(DecisionError::WrongLane { expected: leaf.rollup, found: self.rollup });
        }
        // Whoever sent the range chose the number.
        let end = self.sequence.saturating_add(self.decisions.len() as u64);
        if end != leaf.decision_sequence {
            return Err(DecisionError::WrongEnd { expected: leaf.decision_sequence, found: end });
        }
        let link = |head, decision: &LaneDecision| chain(head, decision.settlement, decision.outcome);
        if self.decisions.iter().fold(self.chain, link) != leaf.decisions {
            return Err(DecisionError::BrokenChain);
        }
        Ok(())
    }
}
