//! A block's body: which cancels and bundles it holds, in which order, and what can be told of them without the state.

use borsh::{BorshDeserialize, BorshSerialize};
use std::{cmp::Ordering, collections::BTreeSet};

use crate::{
    bundle::{SignedBundle, SignedCancel},
    genesis::Rules,
    ids::{BundleId, Hash32, Height, RollupId},
    limits::{MAX_BODY_BYTES, MAX_BUNDLES_PER_BODY, MAX_CANCELS_PER_BODY},
    refusal::Refusal,
    signature::{Batch, Signature},
    state::{Key, account_key, lane_key, treasury_key},
    wire::{self, Wire, WireError},
};

/// What a block orders.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Body {
    /// By account, one for each.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_CANCELS_PER_BODY>")]
    pub cancels: Vec<SignedCancel>,
    /// By class, then by tip per byte (highest first), then by id.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_BUNDLES_PER_BODY>")]
    pub bundles: Vec<SignedBundle>,
}

impl Wire for Body {
    const MAX_BYTES: usize = MAX_BODY_BYTES;
}

/// Why a block is invalid, for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum Invalid {
    #[error("the body is not one: {0}")]
    Wire(#[from] WireError),
    #[error("cancel {index} is out of order")]
    CancelOrder { index: usize },
    #[error("cancel {index}: {refusal}")]
    Cancel { index: usize, refusal: Refusal },
    #[error("bundle {index} is out of order")]
    BundleOrder { index: usize },
    #[error("bundle {index}: {refusal}")]
    Bundle { index: usize, refusal: Refusal },
    #[error("a signature of the body is not its account's")]
    Signature,
    #[error("timestamp {timestamp_ms} does not follow {parent_ms}")]
    Timestamp { timestamp_ms: u64, parent_ms: u64 },
    #[error(
        "the L1 origin goes from {parent} to {number}: back in number or time, or to another block of the same number"
    )]
    L1 { number: u64, parent: u64 },
}

/// A bundle whose shape and signature are good, with what was computed on the way.
#[derive(Clone, Debug)]
pub struct CheckedBundle {
    signed: SignedBundle,
    id: BundleId,
    bytes: u64,
}

impl CheckedBundle {
    /// Checks shape and signature.
    pub fn new(signed: SignedBundle, rules: &Rules) -> Result<Self, Refusal> {
        let checked = Self::without_signature(signed, rules)?;
        checked.signed.check_signature()?;
        Ok(checked)
    }

    /// Checks many at once, in one signature batch; where the batch fails, one by one.
    pub fn new_batch(signed: Vec<SignedBundle>, rules: &Rules) -> Vec<Result<Self, Refusal>> {
        let checked: Vec<_> = signed.into_iter().map(|signed| Self::without_signature(signed, rules)).collect();
        let mut batch = Batch::default();
        for bundle in checked.iter().flatten() {
            batch.queue(&bundle.signed.bundle.account, &bundle.id.0, &bundle.signed.signature);
        }
        if batch.verify().is_ok() {
            return checked;
        }
        checked
            .into_iter()
            .map(|bundle| bundle.and_then(|bundle| bundle.signed.check_signature().map(|()| bundle)))
            .collect()
    }

    fn without_signature(signed: SignedBundle, rules: &Rules) -> Result<Self, Refusal> {
        signed.bundle.check_shape(rules.network)?;
        if let Some(leg) = signed.bundle.legs.iter().find(|leg| !rules.rollups.contains_key(&leg.rollup)) {
            return Err(Refusal::UnknownRollup { rollup: leg.rollup });
        }
        Ok(Self { id: signed.bundle.id(), bytes: signed.bundle.bytes(), signed })
    }

    /// The bundle with its signature.
    pub fn signed(&self) -> &SignedBundle {
        &self.signed
    }

    /// The bundle's id.
    pub fn id(&self) -> BundleId {
        self.id
    }

    /// Bytes of all its legs.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its place among bundles: the higher tip per byte first, then the lower id.
    pub fn order(&self, other: &Self) -> Ordering {
        let mine = u128::from(self.signed.bundle.tip) * u128::from(other.bytes);
        let theirs = u128::from(other.signed.bundle.tip) * u128::from(self.bytes);
        theirs.cmp(&mine).then_with(|| self.id.cmp(&other.id))
    }
}

/// A body in which everything was checked that the state is not needed for.
#[derive(Clone, Debug, Default)]
pub struct CheckedBody {
    /// The cancels, in order.
    pub(crate) cancels: Vec<SignedCancel>,
    /// The bundles, in order.
    pub(crate) bundles: Vec<CheckedBundle>,
}

impl CheckedBody {
    /// Checks shapes, order and signatures. A signature that `known` vouches for is not checked again.
    pub fn new(body: Body, rules: &Rules, mut known: impl FnMut(&Hash32, &Signature) -> bool) -> Result<Self, Invalid> {
        let mut batch = Batch::default();
        for (index, signed) in body.cancels.iter().enumerate() {
            if index > 0 && body.cancels[index - 1].cancel.account >= signed.cancel.account {
                return Err(Invalid::CancelOrder { index });
            }
            signed.cancel.check_shape(rules.network).map_err(|refusal| Invalid::Cancel { index, refusal })?;
            let digest = signed.cancel.digest();
            if !known(&digest, &signed.signature) {
                batch.queue(&signed.cancel.account, &digest.0, &signed.signature);
            }
        }
        let mut bundles: Vec<CheckedBundle> = Vec::with_capacity(body.bundles.len());
        for (index, signed) in body.bundles.into_iter().enumerate() {
            let bundle = CheckedBundle::without_signature(signed, rules)
                .map_err(|refusal| Invalid::Bundle { index, refusal })?;
            if bundles.last().is_some_and(|last| last.order(&bundle) != Ordering::Less) {
                return Err(Invalid::BundleOrder { index });
            }
            if !known(&Hash32(bundle.id.0), &bundle.signed.signature) {
                batch.queue(&bundle.signed.bundle.account, &bundle.id.0, &bundle.signed.signature);
            }
            bundles.push(bundle);
        }
        batch.verify().map_err(|_| Invalid::Signature)?;
        Ok(Self { cancels: body.cancels, bundles })
    }

    /// Puts what a proposer has into the order of a body. Of several cancels of an account the first is kept. Cancels come
    /// as they are: their signatures must have been checked.
    pub fn arrange(mut cancels: Vec<SignedCancel>, mut bundles: Vec<CheckedBundle>) -> Self {
        cancels.sort_by_key(|signed| signed.cancel.account);
        cancels.dedup_by_key(|signed| signed.cancel.account);
        bundles.sort_by(CheckedBundle::order);
        bundles.dedup_by_key(|bundle| bundle.id);
        Self { cancels, bundles }
    }

    /// The cancels, in order.
    pub fn cancels(&self) -> &[SignedCancel] {
        &self.cancels
    }

    /// The bundles, in order.
    pub fn bundles(&self) -> &[CheckedBundle] {
        &self.bundles
    }

    /// What goes into the block.
    pub fn to_body(&self) -> Body {
        Body {
            cancels: self.cancels.clone(),
            bundles: self.bundles.iter().map(|bundle| bundle.signed.clone()).collect(),
        }
    }

    /// Every key that the transition may read or write at `height`.
    pub fn keys(&self, rules: &Rules, height: Height) -> BTreeSet<Key> {
        let mut keys = BTreeSet::from([treasury_key()]);
        keys.extend(rules.rollups.keys().map(|rollup: &RollupId| lane_key(*rollup)));
        if height == Height(1) {
            keys.extend(rules.balances.iter().map(|balance| account_key(&balance.account)));
        }
        keys.extend(self.cancels.iter().map(|signed| account_key(&signed.cancel.account)));
        keys.extend(self.bundles.iter().map(|bundle| account_key(&bundle.signed.bundle.account)));
        keys
    }
}
