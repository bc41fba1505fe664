//! How are the decisions of a lane chained?
//!
//! ```text
//! decisions' = keccak256(decisions || settlement id (32 bytes) || outcome (1 byte: 1 = commit, 2 = abort))
//! ```

use alloy_primitives::keccak256;

use crate::ids::{Hash32, SettlementId};

/// The chain after a decision.
pub fn chain(decisions: Hash32, settlement: SettlementId, outcome: u8) -> Hash32 {
    Hash32(keccak256([decisions.0.as_slice(), &settlement.0, &[outcome]].concat()).0)
}
