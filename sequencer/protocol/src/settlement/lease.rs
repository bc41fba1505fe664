//! Who posts a rollup's batches to L1 at the moment?
//!
//! One poster at a time holds the lease of a rollup, until a height. It renews before; another takes over after. Nothing forces
//! a poster to hold its lease before it posts: two that post cost money, not correctness.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    digest::digest,
    genesis::Rules,
    ids::{Account, Hash32, Height, NetworkId, RollupId},
    settlement::FactError,
    signature::{AccountKey, Signature, verify},
    wire::Wire,
};

/// Takes or renews a rollup's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lease {
    /// The network it is meant for.
    pub network: NetworkId,
    /// Whose batches.
    pub rollup: RollupId,
    /// Who posts them: one of the rollup's posters.
    pub holder: Account,
    /// The last height of the lease.
    pub until: Height,
}

/// A lease with its holder's signature over its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedLease {
    /// What was signed.
    pub lease: Lease,
    /// By `lease.holder`.
    pub signature: Signature,
}

impl Wire for SignedLease {
    const MAX_BYTES: usize = 256;
}

impl Lease {
    /// What is signed: `blake3("lockstep/lease/v1" || borsh(lease))`.
    pub fn digest(&self) -> Hash32 {
        digest("lockstep/lease/v1", self)
    }

    /// Signs it.
    pub fn sign(self, key: &AccountKey) -> SignedLease {
        SignedLease { signature: key.sign(&self.digest().0), lease: self }
    }

    /// Checks all that can be told without the state, but the signature.
    pub fn check_shape(&self, rules: &Rules) -> Result<(), FactError> {
        if self.network != rules.network {
            return Err(FactError::WrongNetwork);
        }
        let posters = rules.rollups.get(&self.rollup).map(|rollup| rollup.posters.as_slice()).unwrap_or_default();
        if !posters.contains(&self.holder) {
            return Err(FactError::NoPoster { rollup: self.rollup, account: self.holder });
        }
        Ok(())
    }
}

impl SignedLease {
    /// Checks the signature alone.
    pub fn check_signature(&self) -> Result<(), FactError> {
        verify(&self.lease.holder, &self.lease.digest().0, &self.signature).map_err(|_| FactError::Signature)
    }
}
