//! What do validators say about a rollup's block, and when does the log believe them?
//!
//! A head is a statement about one block of a rollup. Each validator watches its own node and signs what it sees; `2f + 1`
//! signatures make a certificate. The signatures are plain ed25519 and name the signer, so that a lie is evidence.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    digest::digest,
    genesis::Rules,
    hex,
    ids::{Account, Hash32, NetworkId, RollupId},
    limits::MAX_VALIDATORS,
    settlement::{FactError, Level},
    signature::{Signature, verify},
    wire::{self, Wire},
};

/// A statement about a rollup's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Head {
    /// Whose block.
    pub rollup: RollupId,
    /// How settled it is.
    pub level: Level,
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub block_hash: Hash32,
    /// Root of the rollup's state after it: what storage proofs lead to.
    pub state_root: Hash32,
    /// Which of the rollup's histories it belongs to: one more for each reorganization that the log has seen.
    pub incarnation: u32,
}

/// A head, signed by one validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeadAttestation {
    /// What is said.
    pub head: Head,
    /// The validator's place in the genesis.
    pub validator: u8,
    /// ed25519 over [`Head::digest`].
    pub signature: Ed25519Bytes,
}

/// A validator's signature of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadSignature {
    /// The validator's place in the genesis.
    pub validator: u8,
    /// ed25519 over [`Head::digest`].
    pub signature: Ed25519Bytes,
}

/// 64 bytes of an ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Ed25519Bytes(pub [u8; 64]);

/// A head with the signatures of a quorum.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeadCertificate {
    /// What is said.
    pub head: Head,
    /// By validator, one of each, at least a quorum.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_VALIDATORS>")]
    pub signatures: Vec<HeadSignature>,
}

impl Wire for HeadAttestation {
    const MAX_BYTES: usize = 256;
}

impl Wire for HeadCertificate {
    const MAX_BYTES: usize = 256 + 65 * MAX_VALIDATORS;
}

impl Head {
    /// What `validator` signs: `blake3("lockstep/head/v1" || borsh(network, validator's key, head))`.
    ///
    /// The key is part of it, so that one validator's signature never passes for another's.
    pub fn digest(&self, network: NetworkId, validator: &Hash32) -> Hash32 {
        digest("lockstep/head/v1", &(network, validator, self))
    }

    /// Where it stands among the heads of a body.
    pub fn place(&self) -> (RollupId, Level, u64) {
        (self.rollup, self.level, self.number)
    }
}

impl HeadAttestation {
    fn by(&self) -> HeadSignature {
        HeadSignature { validator: self.validator, signature: self.signature }
    }

    /// Checks the validator and its signature.
    pub fn check(&self, rules: &Rules) -> Result<(), FactError> {
        let (account, digest, signature) = signed(rules, &self.head, &self.by())?;
        verify(&account, &digest.0, &signature).map_err(|_| FactError::Signature)
    }
}

impl HeadCertificate {
    /// A certificate of the attestations of `head` among `attestations`, if they are a quorum. Their signatures must have
    /// been checked.
    pub fn assemble(rules: &Rules, head: Head, attestations: &[HeadAttestation]) -> Option<Self> {
        let same = attestations.iter().filter(|attestation| attestation.head == head);
        let mut signatures: Vec<_> = same.map(HeadAttestation::by).collect();
        signatures.sort_by_key(|signature| signature.validator);
        signatures.dedup_by_key(|signature| signature.validator);
        signatures.truncate(rules.quorum());
        (signatures.len() >= rules.quorum()).then_some(Self { head, signatures })
    }

    /// Checks all but the signatures: the rollup, and that a quorum of different validators is named.
    pub fn check_shape(&self, rules: &Rules) -> Result<(), FactError> {
        rules.participant(self.head.rollup)?;
        if self.signatures.windows(2).any(|pair| pair[0].validator >= pair[1].validator) {
            return Err(FactError::Signers);
        }
        let found = self.signatures.len();
        if found < rules.quorum() {
            return Err(FactError::Quorum { found, needed: rules.quorum() });
        }
        self.signed(rules).try_for_each(|signed| signed.map(|_| ()))
    }

    /// Each signature, with who made it and over what.
    pub fn signed<'a>(
        &'a self,
        rules: &'a Rules,
    ) -> impl Iterator<Item = Result<(Account, Hash32, Signature), FactError>> + 'a {
        self.signatures.iter().map(|signature| signed(rules, &self.head, signature))
    }
}

fn signed(rules: &Rules, head: &Head, signature: &HeadSignature) -> Result<(Account, Hash32, Signature), FactError> {
    let validator = rules.validators.get(usize::from(signature.validator));
    let key = validator.ok_or(FactError::UnknownValidator { validator: signature.validator })?;
    Ok((Account::Ed25519(*key), head.digest(rules.network, key), Signature::Ed25519(signature.signature.0)))
}

impl std::fmt::Debug for Ed25519Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        hex::fmt(&self.0, f)
    }
}

impl Serialize for Ed25519Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        hex::bytes::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Ed25519Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hex::deserialize_fixed::<64, D>(deserializer).map(Self)
    }
}
