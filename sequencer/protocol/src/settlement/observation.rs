//! What does a contract's storage say, proven against a head that the log knows?
//!
//! An observation is one answer of `eth_getProof`: a contract's account, and some of its slots. Each slot is a claim about a
//! leg of a settlement, or about what an account has paid in. Anyone may make one; the proofs speak for themselves.

use alloy_primitives::{U256, keccak256};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    genesis::Rules,
    ids::{Account, Address20, Hash32, RollupId, SettlementId},
    limits::{MAX_CLAIMS, MAX_PROOF_BYTES, MAX_PROOF_NODES},
    settlement::{
        FactError, Level,
        proof::{self, ProofNode},
        transfer::number,
    },
    wire::{self, Wire},
};

/// The slot of `mapping(bytes32 legKey => uint256)` in an escrow contract.
pub const SLOT_LEGS: u8 = 0;
/// The slot of `mapping(bytes32 account => uint256)` in a hub contract: all that was ever paid in for an account. Credits.
pub const SLOT_DEPOSITS: u8 = 0;

/// Slots of a contract, proven against a head.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Observation {
    /// Whose head.
    pub rollup: RollupId,
    /// The head's level.
    pub level: Level,
    /// The head's number.
    pub number: u64,
    /// Whose storage: an escrow, or the hub.
    pub contract: Address20,
    /// From the head's state root to the contract's account.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_PROOF_NODES>")]
    pub account_proof: Vec<ProofNode>,
    /// By subject, one of each.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_CLAIMS>")]
    pub claims: Vec<Claim>,
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Claim {
    /// What the slot is about.
    pub subject: Subject,
    /// From the contract's storage root to the slot.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_PROOF_NODES>")]
    pub proof: Vec<ProofNode>,
}

/// What a slot is about.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Subject {
    /// A leg, in an escrow.
    Leg {
        /// Of which settlement.
        settlement: SettlementId,
        /// Its place among the settlement's legs.
        leg: u8,
    },
    /// What was paid in for an account, in the hub.
    Deposit {
        /// Whose credits.
        account: Account,
    },
}

/// The lowest byte of a leg's word in its escrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LegStatus {
    /// Nothing is known of the leg.
    None,
    /// The venue stands ready.
    Prepared,
    /// The venue has said no.
    Refused,
    /// The leg took effect.
    Committed,
    /// The leg was let go.
    Released,
    /// The leg must take effect, and there is too little to take.
    Shortfall,
}

impl Wire for Observation {
    const MAX_BYTES: usize = 256 + MAX_PROOF_BYTES + MAX_CLAIMS * (64 + MAX_PROOF_BYTES);
}

impl LegStatus {
    /// The status in a leg's word.
    pub fn of(word: U256) -> Result<Self, FactError> {
        Ok(match word.byte(0) {
            0 => Self::None,
            1 => Self::Prepared,
            2 => Self::Refused,
            3 => Self::Committed,
            4 => Self::Released,
            5 => Self::Shortfall,
            status => return Err(FactError::Status { status }),
        })
    }
}

impl Subject {
    /// The slot to ask `eth_getProof` for: `keccak256(abi.encode(key, uint256(slot of the mapping)))`.
    pub fn slot(&self) -> Hash32 {
        match self {
            Self::Leg { settlement, leg } => {
                let leg = number(u128::from(*leg));
                // legKey = keccak256(abi.encode(bytes32 sid, uint8 legIndex))
                mapped(keccak256([settlement.0, leg].concat()).0, SLOT_LEGS)
            }
            Self::Deposit { account } => mapped(account.word().0, SLOT_DEPOSITS),
        }
    }
}

fn mapped(key: [u8; 32], slot: u8) -> Hash32 {
    Hash32(keccak256([key, number(u128::from(slot))].concat()).0)
}

impl Observation {
    /// Where it stands among the observations of a body.
    pub fn place(&self) -> (RollupId, Level, u64, Address20) {
        (self.rollup, self.level, self.number, self.contract)
    }

    /// Checks all that can be told without the state: the contract, and the order of the claims.
    pub fn check_shape(&self, rules: &Rules) -> Result<(), FactError> {
        rules.participant(self.rollup)?;
        if self.claims.is_empty() {
            return Err(FactError::NoClaims);
        }
        if self.claims.windows(2).any(|pair| pair[0].subject >= pair[1].subject) {
            return Err(FactError::Claims);
        }
        Ok(())
    }

    /// The contract's storage root, where `state_root` is the head's.
    pub fn storage_root(&self, state_root: Hash32) -> Result<Hash32, FactError> {
        storage_root(state_root, self.contract, &self.account_proof)
    }
}

impl Claim {
    /// The word in the slot, where `storage_root` is the contract's.
    pub fn word(&self, storage_root: Hash32) -> Result<U256, FactError> {
        proof::contract_word(storage_root, &self.subject.slot(), &self.proof)
    }
}

/// A contract's storage root; a contract that is not there proves nothing.
pub(crate) fn storage_root(root: Hash32, contract: Address20, nodes: &[ProofNode]) -> Result<Hash32, FactError> {
    proof::storage_root(root, contract, nodes).map_err(FactError::AccountProof)?.ok_or(FactError::NoContract)
}
