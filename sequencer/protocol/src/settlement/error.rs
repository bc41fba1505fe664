//! Why the log does not take a fact: a head, an observation, a void, a lease or an abort.
//!
//! Facts come from validators and observers, not from submitters: those get a `Refusal`.

use crate::ids::{Account, Height, RollupId, SettlementId};
use crate::settlement::Level;

/// Why a fact is not one. A body that holds it is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum FactError {
    #[error("rollup {rollup} takes no part in settlements")]
    NoParticipant { rollup: RollupId },
    #[error("the signature is not the signer's over this message")]
    Signature,
    #[error("there is no validator {validator}")]
    UnknownValidator { validator: u8 },
    #[error("signers must be sorted and distinct")]
    Signers,
    #[error("{found} validators signed, {needed} are needed")]
    Quorum { found: usize, needed: usize },
    #[error("made for another network")]
    WrongNetwork,
    #[error("a head of incarnation {found}, rollup {rollup} is at {current}")]
    Incarnation { rollup: RollupId, current: u32, found: u32 },
    #[error("a head of the next incarnation must contradict one of the current: {rollup} has none at {number}")]
    NoConflict { rollup: RollupId, number: u64 },
    #[error("head {number} of rollup {rollup} does not follow {latest}")]
    StaleHead { rollup: RollupId, number: u64, latest: u64 },
    #[error("head {number} of rollup {rollup} is not among those that the log remembers")]
    UnknownHead { rollup: RollupId, level: Level, number: u64 },
    #[error("no claim is made")]
    NoClaims,
    #[error("claims must be sorted and distinct")]
    Claims,
    #[error("the proof does not lead from the state root to the contract's account: {0}")]
    AccountProof(crate::settlement::proof::ProofError),
    #[error("the proof does not lead from the contract's storage root to the slot: {0}")]
    StorageProof(crate::settlement::proof::ProofError),
    #[error("the contract has no account")]
    NoContract,
    #[error("settlement {settlement} is not known")]
    UnknownSettlement { settlement: SettlementId },
    #[error("settlement {settlement} has no leg {leg}")]
    UnknownLeg { settlement: SettlementId, leg: u8 },
    #[error("leg {leg} is held by another contract, or on another rollup")]
    WrongContract { leg: u8 },
    #[error("a head of level {needed:?} is needed, this one is {found:?}")]
    LevelTooLow { needed: Level, found: Level },
    #[error("this says nothing that is not known")]
    NothingNew,
    #[error("leg {leg} stands at status {status}, against what the log decided")]
    Contradiction { leg: u8, status: u8 },
    #[error("not a status of a leg: {status}")]
    Status { status: u8 },
    #[error("the counter exceeds what an account can hold")]
    Supply,
    #[error("settlement {settlement} was ordered or is decided")]
    Known { settlement: SettlementId },
    #[error("it may still be ordered until {deadline}, this is {height}")]
    TooEarly { deadline: Height, height: Height },
    #[error("{account} may not post for rollup {rollup}")]
    NoPoster { rollup: RollupId, account: Account },
    #[error("the lease until {until} is not within {min} and {max}")]
    LeaseTerm { until: Height, min: Height, max: Height },
    #[error("{holder} holds the lease until {until}")]
    LeaseHeld { holder: Account, until: Height },
    #[error("the settlement is another account's")]
    NotOwner,
}
