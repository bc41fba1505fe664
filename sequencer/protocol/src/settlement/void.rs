//! How does a leg come free whose settlement was never ordered?
//!
//! A prepare transaction is public and signed: it can be executed although its bundle was left out, replaced or cancelled. Once
//! the settlement can no longer be ordered, anyone shows the log the leg that stands prepared, and the log aborts it.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    genesis::Rules,
    ids::{NetworkId, SettlementId},
    limits::{MAX_PROOF_BYTES, MAX_PROOF_NODES, MAX_SETTLEMENT_LEGS},
    settlement::{FactError, Intent, Level, SettlementLeg, Subject, proof::ProofNode},
    wire::{self, Wire},
};

/// A leg that stands prepared, of a settlement that the log has not ordered and will not.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Void {
    /// The settlement.
    pub intent: Intent,
    /// Which of its legs stands prepared.
    pub leg: u8,
    /// Level of the head that shows it.
    pub level: Level,
    /// Number of that head.
    pub number: u64,
    /// From the head's state root to the escrow's account.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_PROOF_NODES>")]
    pub account_proof: Vec<ProofNode>,
    /// From the escrow's storage root to the leg's slot.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_PROOF_NODES>")]
    pub proof: Vec<ProofNode>,
}

impl Wire for Void {
    const MAX_BYTES: usize = 256 + 98 * MAX_SETTLEMENT_LEGS + 2 * MAX_PROOF_BYTES;
}

impl Void {
    /// The settlement's id.
    pub fn sid(&self, network: NetworkId) -> SettlementId {
        self.intent.sid(network)
    }

    /// The leg that stands prepared.
    pub fn shown(&self) -> Option<&SettlementLeg> {
        self.intent.transfer.legs.get(usize::from(self.leg))
    }

    /// Checks all that can be told without the state: that the leg is one of an escrow of this network. The rest of the
    /// intent may be nonsense; its owner's margin is locked all the same.
    pub fn check_shape(&self, rules: &Rules) -> Result<(), FactError> {
        let unknown = || FactError::UnknownLeg { settlement: self.sid(rules.network), leg: self.leg };
        if self.intent.transfer.legs.len() > MAX_SETTLEMENT_LEGS {
            return Err(unknown());
        }
        let leg = self.shown().ok_or_else(unknown)?;
        let participant = rules.participant(leg.rollup)?;
        if !participant.escrows.contains(&leg.escrow) {
            return Err(FactError::WrongContract { leg: self.leg });
        }
        Ok(())
    }

    /// What the proof is about.
    pub fn subject(&self, network: NetworkId) -> Subject {
        Subject::Leg { settlement: self.sid(network), leg: self.leg }
    }
}
