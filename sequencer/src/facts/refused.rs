//! Why is a fact not taken, in words that stay?

use lockstep_protocol::{rpc::FactRefused, settlement::FactError};

/// Why a fact is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not what it should be.
    #[error("{0}")]
    Malformed(String),
    /// The log would not take it.
    #[error(transparent)]
    Fact(#[from] FactError),
    /// It has more bytes than validators pass on.
    #[error("{found} bytes, at most {max} are allowed")]
    TooLarge {
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Too many facts come at once, or wait already.
    #[error("too many facts wait: send it again a little later")]
    Busy,
    /// The node does not follow the log yet, or any more.
    #[error("the node does not follow the log yet, or is stopping")]
    NotReady,
}

impl Refused {
    /// The stable reason: for programs, and for what is counted.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Fact(error) => reason(error),
            Self::TooLarge { .. } => "too_large",
            Self::Busy => "busy",
            Self::NotReady => "not_ready",
        }
    }
}

impl From<Refused> for FactRefused {
    fn from(refused: Refused) -> Self {
        Self { reason: refused.reason().into(), detail: refused.to_string() }
    }
}

/// The stable name of an error of the protocol.
fn reason(error: &FactError) -> &'static str {
    match error {
        FactError::NoParticipant { .. } => "no_participant",
        FactError::Signature => "bad_signature",
        FactError::UnknownValidator { .. } => "unknown_validator",
        FactError::Signers => "bad_signers",
        FactError::Quorum { .. } => "no_quorum",
        FactError::WrongNetwork => "wrong_network",
        FactError::Incarnation { .. } => "wrong_incarnation",
        FactError::NoConflict { .. } => "no_conflict",
        FactError::StaleHead { .. } => "stale_head",
        FactError::UnknownHead { .. } => "unknown_head",
        FactError::NoClaims => "no_claims",
        FactError::Claims => "bad_claims",
        FactError::AccountProof(_) => "bad_account_proof",
        FactError::StorageProof(_) => "bad_storage_proof",
        FactError::NoContract => "no_contract",
        FactError::UnknownSettlement { .. } => "unknown_settlement",
        FactError::UnknownLeg { .. } => "unknown_leg",
        FactError::WrongContract { .. } => "wrong_contract",
        FactError::LevelTooLow { .. } => "level_too_low",
        FactError::NothingNew => "nothing_new",
        FactError::Contradiction { .. } => "contradiction",
        FactError::Status { .. } => "bad_status",
        FactError::Supply => "supply",
        FactError::Known { .. } => "known",
        FactError::TooEarly { .. } => "too_early",
        FactError::NoPoster { .. } => "no_poster",
        FactError::LeaseTerm { .. } => "lease_term",
        FactError::LeaseHeld { .. } => "lease_held",
        FactError::NotOwner => "not_owner",
    }
}
