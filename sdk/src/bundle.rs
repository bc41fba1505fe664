//! Builds bundles: legs in any order, a validity counted from the tip, a fee that holds for a while.
//!
//! Pure. Legs hold transactions that are signed already, by the rollups' own rules.

use lockstep_protocol::{
    bundle::{Bundle, Kind, Leg, SignedBundle, Tag, Transaction},
    fees,
    ids::{Height, NetworkId, RollupId},
    limits::MAX_VALIDITY,
    refusal::Refusal,
    rpc::LaneFee,
    settlement::MarginTransfer,
    signature::AccountKey,
};
use std::collections::BTreeMap;

/// Heights from the tip that a bundle stays valid if nothing else is said: seconds under load, a minute on an idle network.
pub const DEFAULT_VALIDITY: u64 = 64;
/// Percent that an estimated fee lies above what would be due now: three full blocks in a row raise a base fee by 42.
pub const DEFAULT_MARGIN_PERCENT: u64 = 50;

/// Collects what a bundle needs.
///
/// ```
/// use lockstep_sdk::{BundleBuilder, protocol::{ids::{Height, NetworkId, RollupId}, signature::AccountKey}};
///
/// let key = AccountKey::ed25519([7; 32]);
/// let signed = BundleBuilder::new()
///     .nonce(0)
///     .leg(RollupId(8453), vec![vec![0x02]])
///     .leg(RollupId(10), vec![vec![0x02]])
///     .valid_for(120)
///     .max_fee(10_000)
///     .sign(NetworkId::from_name("lockstep-testnet-1"), &key, Height(1_000))
///     .unwrap();
/// assert_eq!(signed.bundle.legs[0].rollup, RollupId(10));
/// assert_eq!(signed.bundle.valid_until, Height(1_120));
/// assert!(signed.check_signature().is_ok());
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it signs"]
pub struct BundleBuilder {
    nonce: Option<u64>,
    tag: Tag,
    valid_for: u64,
    tip: u64,
    max_fee: Option<u64>,
    margin_percent: u64,
    legs: BTreeMap<RollupId, Vec<Transaction>>,
    kind: Kind,
}

/// A builder lacks something, or what it has makes no bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum BuildError {
    #[error("a bundle needs a nonce")]
    NoNonce,
    #[error("a bundle needs the most that it may pay: set it, or estimate it")]
    NoMaxFee,
    #[error("valid for {found} heights, 1 to {max} are allowed")]
    Validity { max: u64, found: u64 },
    #[error("no base fee is known for rollup {0}")]
    NoFee(RollupId),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Default for BundleBuilder {
    fn default() -> Self {
        Self {
            nonce: None,
            tag: Tag::default(),
            valid_for: DEFAULT_VALIDITY,
            tip: 0,
            max_fee: None,
            margin_percent: DEFAULT_MARGIN_PERCENT,
            legs: BTreeMap::new(),
            kind: Kind::Plain,
        }
    }
}

impl BundleBuilder {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The idempotency key: of all bundles of the account with this nonce, at most one is ever ordered.
    pub fn nonce(mut self, nonce: u64) -> Self {
        self.nonce = Some(nonce);
        self
    }

    /// Adds a rollup's signed transactions, after those that it has already. The order of calls for different rollups does
    /// not matter.
    pub fn leg(mut self, rollup: RollupId, transactions: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.legs.entry(rollup).or_default().extend(transactions.into_iter().map(Transaction));
        self
    }

    /// Makes it a settlement, whose legs' transactions prepare what `transfer` moves: see [`crate::transfer`].
    pub fn settlement(mut self, transfer: MarginTransfer) -> Self {
        self.kind = Kind::Settlement(transfer);
        self
    }

    /// Your own label, returned in reports.
    pub fn tag(mut self, tag: [u8; 16]) -> Self {
        self.tag = Tag(tag);
        self
    }

    /// How many heights after the tip it may be ordered. Bounds how long its outcome may stay open.
    pub fn valid_for(mut self, heights: u64) -> Self {
        self.valid_for = heights;
        self
    }

    /// Credits on top of the base fees, for a better place in the block.
    pub fn tip(mut self, credits: u64) -> Self {
        self.tip = credits;
        self
    }

    /// The most that base fees and tip may come to. Credits.
    pub fn max_fee(mut self, credits: u64) -> Self {
        self.max_fee = Some(credits);
        self
    }

    /// How far an estimated fee lies above what would be due now. Percent.
    pub fn margin_percent(mut self, percent: u64) -> Self {
        self.margin_percent = percent;
        self
    }

    /// Sets `max_fee` from quoted base fees: those of the legs with the margin, and the tip.
    pub fn estimate(self, quoted: &[LaneFee]) -> Result<Self, BuildError> {
        let mut legs = Vec::with_capacity(self.legs.len());
        for (rollup, transactions) in &self.legs {
            let fee = quoted.iter().find(|fee| fee.rollup == *rollup).ok_or(BuildError::NoFee(*rollup))?;
            let leg = Leg { rollup: *rollup, transactions: transactions.clone() };
            let with_margin = u128::from(fee.base_fee) * (100 + u128::from(self.margin_percent));
            let base_fee = u64::try_from(with_margin.div_ceil(100)).unwrap_or(u64::MAX);
            legs.push((base_fee, leg.bytes()));
        }
        let max_fee = fees::total(legs, self.tip);
        Ok(self.max_fee(max_fee))
    }

    /// The signed bundle, checked as far as it can be without asking anybody.
    pub fn sign(self, network: NetworkId, key: &AccountKey, tip: Height) -> Result<SignedBundle, BuildError> {
        if self.valid_for == 0 || self.valid_for > MAX_VALIDITY {
            return Err(BuildError::Validity { max: MAX_VALIDITY, found: self.valid_for });
        }
        let bundle = Bundle {
            network,
            account: key.account(),
            nonce: self.nonce.ok_or(BuildError::NoNonce)?,
            tag: self.tag,
            valid_until: Height(tip.0.saturating_add(self.valid_for)),
            tip: self.tip,
            max_fee: self.max_fee.ok_or(BuildError::NoMaxFee)?,
            legs: self.legs.into_iter().map(|(rollup, transactions)| Leg { rollup, transactions }).collect(),
            kind: self.kind,
        };
        bundle.check_shape(network)?;
        Ok(bundle.sign(key))
    }

    pub(crate) fn has_nonce(&self) -> bool {
        self.nonce.is_some()
    }

    pub(crate) fn has_max_fee(&self) -> bool {
        self.max_fee.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> BundleBuilder {
        BundleBuilder::new().nonce(1).max_fee(1).leg(RollupId(2), [vec![1]]).leg(RollupId(1), [vec![2]])
    }

    fn sign(builder: BundleBuilder) -> Result<SignedBundle, BuildError> {
        builder.sign(NetworkId::from_name("test"), &AccountKey::ed25519([1; 32]), Height(10))
    }

    #[test]
    fn legs_come_out_sorted_and_merged() {
        let signed = sign(builder().leg(RollupId(2), [vec![3]])).unwrap();
        let legs = &signed.bundle.legs;
        assert_eq!(legs.iter().map(|leg| leg.rollup.0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(legs[1].transactions, [Transaction(vec![1]), Transaction(vec![3])]);
    }

    #[test]
    fn what_is_missing_or_too_much_is_named() {
        let lacking = BundleBuilder::new().leg(RollupId(1), [vec![1]]);
        assert_eq!(sign(lacking.clone().max_fee(1)).unwrap_err(), BuildError::NoNonce);
        assert_eq!(sign(lacking.nonce(1)).unwrap_err(), BuildError::NoMaxFee);
        assert_eq!(sign(builder().valid_for(0)).unwrap_err(), BuildError::Validity { max: MAX_VALIDITY, found: 0 });
        assert!(matches!(sign(builder().valid_for(MAX_VALIDITY + 1)), Err(BuildError::Validity { .. })));
        let empty = BundleBuilder::new().nonce(1).max_fee(1);
        assert_eq!(sign(empty).unwrap_err(), BuildError::Refused(Refusal::NoLegs));
        let no_transaction = builder().leg(RollupId(3), []);
        assert_eq!(sign(no_transaction).unwrap_err(), BuildError::Refused(Refusal::EmptyLeg { rollup: RollupId(3) }));
    }

    #[test]
    fn an_estimate_has_the_margin_on_the_base_fees_and_not_on_the_tip() {
        let fee = |rollup, base_fee| LaneFee { rollup: RollupId(rollup), base_fee, min_base_fee: 1 };
        // Each leg: 12 bytes, and 4 + 1 for its transaction. Ceilings of 10 * 1.5 and 3 * 1.5.
        let estimated = builder().tip(7).estimate(&[fee(1, 10), fee(2, 3), fee(9, 99)]).unwrap();
        assert_eq!(sign(estimated).unwrap().bundle.max_fee, 17 * 15 + 17 * 5 + 7);
        assert_eq!(builder().estimate(&[fee(1, 10)]).unwrap_err(), BuildError::NoFee(RollupId(2)));
        let absurd = builder().estimate(&[fee(1, u64::MAX), fee(2, u64::MAX)]).unwrap();
        assert_eq!(sign(absurd).unwrap().bundle.max_fee, u64::MAX);
    }
}
