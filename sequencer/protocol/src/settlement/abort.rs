//! How does the owner of a settlement take it back before it is decided?
//!
//! A `Cancel` uses nonces up, so it acts before a bundle is ordered; an abort names a settlement that was.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    digest::digest,
    genesis::Rules,
    ids::{Account, Hash32, NetworkId, SettlementId},
    settlement::FactError,
    signature::{AccountKey, Signature, verify},
    wire::Wire,
};

/// Takes an undecided settlement back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Abort {
    /// The network it is meant for.
    pub network: NetworkId,
    /// The owner.
    pub account: Account,
    /// Which.
    pub settlement: SettlementId,
}

/// An abort with its owner's signature over its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedAbort {
    /// What was signed.
    pub abort: Abort,
    /// By `abort.account`.
    pub signature: Signature,
}

impl Wire for SignedAbort {
    const MAX_BYTES: usize = 256;
}

impl Abort {
    /// What is signed: `blake3("lockstep/abort/v1" || borsh(abort))`.
    pub fn digest(&self) -> Hash32 {
        digest("lockstep/abort/v1", self)
    }

    /// Signs it.
    pub fn sign(self, key: &AccountKey) -> SignedAbort {
        SignedAbort { signature: key.sign(&self.digest().0), abort: self }
    }

    /// Checks all that can be told without the state, but the signature.
    pub fn check_shape(&self, rules: &Rules) -> Result<(), FactError> {
        if self.network == rules.network { Ok(()) } else { Err(FactError::WrongNetwork) }
    }
}

impl SignedAbort {
    /// Checks the signature alone.
    pub fn check_signature(&self) -> Result<(), FactError> {
        verify(&self.abort.account, &self.abort.digest().0, &self.signature).map_err(|_| FactError::Signature)
    }
}
