//! Bundles and cancels: what a submitter signs.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    digest::digest,
    hex,
    ids::{Account, BundleId, Hash32, Height, NetworkId, RollupId, SettlementId},
    limits::{
        MAX_BUNDLE_BYTES, MAX_LEG_BYTES, MAX_LEGS, MAX_TRANSACTION_BYTES, MAX_TRANSACTIONS_PER_LEG, NONCE_WINDOW,
    },
    refusal::Refusal,
    settlement::{MarginTransfer, transfer},
    signature::{AccountKey, Signature, verify},
    wire::{self, Wire},
};

/// A set of legs that are ordered together in one block, or never.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bundle {
    /// The network it is meant for.
    pub network: NetworkId,
    /// Who pays.
    pub account: Account,
    /// The idempotency key: at most one bundle of an account is ever ordered under a nonce.
    pub nonce: u64,
    /// The submitter's own label, returned in reports.
    pub tag: Tag,
    /// The last height at which it may be ordered.
    pub valid_until: Height,
    /// Paid on top of the base fees, for a better place in the block. Credits.
    pub tip: u64,
    /// The most that base fees and tip may come to. Credits.
    pub max_fee: u64,
    /// Sorted by rollup, one for each.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_LEGS>")]
    pub legs: Vec<Leg>,
    /// What the legs promise each other.
    pub kind: Kind,
}

/// A bundle's part on one lane.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Leg {
    /// The rollup whose lane it is for.
    pub rollup: RollupId,
    /// The rollup's own signed transactions, in order.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_TRANSACTIONS_PER_LEG>")]
    pub transactions: Vec<Transaction>,
}

/// A rollup's signed transaction, opaque to the log.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Transaction(
    #[borsh(deserialize_with = "wire::bytes::<_, MAX_TRANSACTION_BYTES>")]
    #[serde(with = "hex::bytes")]
    pub Vec<u8>,
);

/// What the legs of a bundle promise each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Kind {
    /// Ordered together; each executes by its own rollup's rules.
    #[default]
    Plain,
    /// Ordered together, and then all take effect or all are released.
    Settlement(MarginTransfer),
}

/// A submitter's label for a bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Tag(pub [u8; 16]);

/// Consumes nonces, so that no bundle is ordered under them any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cancel {
    /// The network it is meant for.
    pub network: NetworkId,
    /// Whose nonces.
    pub account: Account,
    /// The nonces.
    pub nonces: NonceRange,
}

/// Nonces `first..=last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NonceRange {
    /// The lowest.
    pub first: u64,
    /// The highest.
    pub last: u64,
}

/// A bundle with its account's signature over its id.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedBundle {
    /// What was signed.
    pub bundle: Bundle,
    /// By `bundle.account`.
    pub signature: Signature,
}

/// A cancel with its account's signature over its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedCancel {
    /// What was signed.
    pub cancel: Cancel,
    /// By `cancel.account`.
    pub signature: Signature,
}

impl Wire for SignedBundle {
    const MAX_BYTES: usize = MAX_BUNDLE_BYTES;
}

impl Wire for SignedCancel {
    const MAX_BYTES: usize = 256;
}

impl Leg {
    /// What the leg pays for, and what a lane's limits count: its borsh length.
    pub fn bytes(&self) -> u64 {
        // 8 for the rollup, 4 for the count, 4 for each length.
        let transactions: usize = self.transactions.iter().map(|transaction| 4 + transaction.0.len()).sum();
        12 + transactions as u64
    }
}

impl Bundle {
    /// What identifies it, and what is signed.
    pub fn id(&self) -> BundleId {
        BundleId(digest("lockstep/bundle/v1", self).0)
    }

    /// Bytes of all legs.
    pub fn bytes(&self) -> u64 {
        self.legs.iter().map(Leg::bytes).sum()
    }

    /// What it settles, if it does.
    pub fn transfer(&self) -> Option<&MarginTransfer> {
        match &self.kind {
            Kind::Plain => None,
            Kind::Settlement(transfer) => Some(transfer),
        }
    }

    /// The id of its settlement, if it is one.
    pub fn settlement(&self) -> Option<SettlementId> {
        self.transfer().map(|transfer| transfer::sid(self.network, &self.account, self.nonce, transfer))
    }

    /// Signs it. The key must be the account's, or nobody will accept the result.
    pub fn sign(self, key: &AccountKey) -> SignedBundle {
        let signature = key.sign(&self.id().0);
        SignedBundle { bundle: self, signature }
    }

    /// Checks all that can be told from the bundle alone, but the signature.
    pub fn check_shape(&self, network: NetworkId) -> Result<(), Refusal> {
        if self.network != network {
            return Err(Refusal::WrongNetwork { expected: network, found: self.network });
        }
        if self.legs.is_empty() {
            return Err(Refusal::NoLegs);
        }
        if self.legs.len() > MAX_LEGS {
            return Err(Refusal::TooManyLegs { max: MAX_LEGS, found: self.legs.len() });
        }
        for pair in self.legs.windows(2) {
            if pair[0].rollup == pair[1].rollup {
                return Err(Refusal::RepeatedLeg { rollup: pair[0].rollup });
            }
            if pair[0].rollup > pair[1].rollup {
                return Err(Refusal::UnsortedLegs { rollup: pair[1].rollup });
            }
        }
        for leg in &self.legs {
            if leg.transactions.is_empty() {
                return Err(Refusal::EmptyLeg { rollup: leg.rollup });
            }
            if leg.transactions.len() > MAX_TRANSACTIONS_PER_LEG {
                return Err(Refusal::TooManyTransactions {
                    rollup: leg.rollup,
                    max: MAX_TRANSACTIONS_PER_LEG,
                    found: leg.transactions.len(),
                });
            }
            if let Some(large) = leg.transactions.iter().find(|transaction| transaction.0.len() > MAX_TRANSACTION_BYTES)
            {
                return Err(Refusal::OversizedTransaction {
                    rollup: leg.rollup,
                    max: MAX_TRANSACTION_BYTES,
                    found: large.0.len(),
                });
            }
            if leg.bytes() > MAX_LEG_BYTES as u64 {
                return Err(Refusal::OversizedLeg { rollup: leg.rollup, max: MAX_LEG_BYTES, found: leg.bytes() });
            }
        }
        // The envelope adds a version byte, and the signature at most 66.
        let bytes = borsh::object_length(self).expect("measuring does not fail") + 67;
        if bytes > MAX_BUNDLE_BYTES {
            return Err(Refusal::OversizedBundle { max: MAX_BUNDLE_BYTES, found: bytes });
        }
        self.transfer().map_or(Ok(()), |transfer| self.check_transfer(transfer))
    }

    /// Whoever settles on a rollup prepares there in the same block, and nothing else rides along.
    fn check_transfer(&self, transfer: &MarginTransfer) -> Result<(), Refusal> {
        transfer.check_shape()?;
        let settles = |rollup| transfer.legs.iter().any(|leg| leg.rollup == rollup);
        let prepares = |rollup| self.legs.iter().any(|leg| leg.rollup == rollup);
        let unmatched = self.legs.iter().map(|leg| leg.rollup).find(|rollup| !settles(*rollup));
        let unmatched =
            unmatched.or_else(|| transfer.legs.iter().map(|leg| leg.rollup).find(|rollup| !prepares(*rollup)));
        unmatched.map_or(Ok(()), |rollup| Err(Refusal::UnmatchedLeg { rollup }))
    }
}

impl SignedBundle {
    /// Checks the signature alone.
    pub fn check_signature(&self) -> Result<(), Refusal> {
        verify(&self.bundle.account, &self.bundle.id().0, &self.signature).map_err(|_| Refusal::BadSignature)
    }
}

impl Cancel {
    /// What is signed: `blake3("lockstep/cancel/v1" || borsh(cancel))`.
    pub fn digest(&self) -> Hash32 {
        digest("lockstep/cancel/v1", self)
    }

    /// Signs it.
    pub fn sign(self, key: &AccountKey) -> SignedCancel {
        SignedCancel { signature: key.sign(&self.digest().0), cancel: self }
    }

    /// Checks all that can be told from the cancel alone, but the signature.
    pub fn check_shape(&self, network: NetworkId) -> Result<(), Refusal> {
        if self.network != network {
            return Err(Refusal::WrongNetwork { expected: network, found: self.network });
        }
        let NonceRange { first, last } = self.nonces;
        if first > last || last - first >= NONCE_WINDOW {
            return Err(Refusal::BadNonceRange { first, last, max: NONCE_WINDOW });
        }
        Ok(())
    }
}

impl SignedCancel {
    /// Checks the signature alone.
    pub fn check_signature(&self) -> Result<(), Refusal> {
        verify(&self.cancel.account, &self.cancel.digest().0, &self.signature).map_err(|_| Refusal::BadSignature)
    }
}

impl Serialize for Tag {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        hex::bytes::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hex::deserialize_fixed::<16, D>(deserializer).map(Self)
    }
}
