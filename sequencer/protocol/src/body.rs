//! A block's body: which facts, cancels and bundles it holds, in which order, and what can be told of them without the state.

use borsh::{BorshDeserialize, BorshSerialize};
use std::cmp::Ordering;

use crate::{
    bundle::{Kind, SignedBundle, SignedCancel},
    genesis::Rules,
    ids::{Account, BundleId, Hash32, SettlementId},
    limits::{
        MAX_ABORTS_PER_BODY, MAX_BODY_BYTES, MAX_BUNDLES_PER_BODY, MAX_CANCELS_PER_BODY, MAX_CLAIMS,
        MAX_EVIDENCE_BYTES, MAX_HEADS_PER_BODY, MAX_LEASES_PER_BODY, MAX_OBSERVATIONS_PER_BODY, MAX_VOIDS_PER_BODY,
    },
    refusal::Refusal,
    settlement::{FactError, HeadCertificate, Observation, SignedAbort, SignedLease, Void},
    signature::{Batch, Signature},
    wire::{self, Wire, WireError},
};

/// Bytes of an empty body: the envelope's version and the lengths of seven lists.
pub const FRAME_BYTES: usize = 1 + 7 * 4;

/// What a block orders. Fields stand in the order in which they are executed.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Body {
    /// By rollup, level and number.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_HEADS_PER_BODY>")]
    pub heads: Vec<HeadCertificate>,
    /// By rollup, level, number and contract.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_OBSERVATIONS_PER_BODY>")]
    pub observations: Vec<Observation>,
    /// By settlement.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_VOIDS_PER_BODY>")]
    pub voids: Vec<Void>,
    /// By rollup, one for each.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_LEASES_PER_BODY>")]
    pub leases: Vec<SignedLease>,
    /// By settlement, one for each.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_ABORTS_PER_BODY>")]
    pub aborts: Vec<SignedAbort>,
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
    #[error("{section} {index} is out of order")]
    FactOrder { section: Section, index: usize },
    #[error("{section} {index}: {error}")]
    Fact { section: Section, index: usize, error: FactError },
    #[error("heads, observations and voids have {found} bytes, at most {MAX_EVIDENCE_BYTES} are allowed")]
    EvidenceBytes { found: usize },
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

/// A part of a body that holds facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the body's fields")]
pub enum Section {
    Head,
    Observation,
    Void,
    Lease,
    Abort,
}

impl std::fmt::Display for Section {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Head => "head",
            Self::Observation => "observation",
            Self::Void => "void",
            Self::Lease => "lease",
            Self::Abort => "abort",
        })
    }
}

/// Which bundles go first in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Of an account that liquidates on every rollup of the bundle. Within a share of each lane.
    Liquidation,
    /// Settlements.
    Settlement,
    /// All others.
    Plain,
}

/// A bundle whose shape and signature are good, with what was computed on the way.
#[derive(Clone, Debug)]
pub struct CheckedBundle {
    signed: SignedBundle,
    id: BundleId,
    bytes: u64,
    class: Class,
    settlement: Option<SettlementId>,
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
        let bundle = &signed.bundle;
        bundle.check_shape(rules.network)?;
        if let Some(leg) = bundle.legs.iter().find(|leg| !rules.rollups.contains_key(&leg.rollup)) {
            return Err(Refusal::UnknownRollup { rollup: leg.rollup });
        }
        for leg in bundle.transfer().map(|transfer| transfer.legs.as_slice()).unwrap_or_default() {
            let rollup = leg.rollup;
            let participant = rules.participant(rollup).map_err(|_| Refusal::NoSettlements { rollup })?;
            if participant.escrows.binary_search(&leg.escrow).is_err() {
                return Err(Refusal::UnknownEscrow { rollup, escrow: leg.escrow });
            }
        }
        let liquidates =
            bundle.legs.iter().all(|leg| rules.rollups[&leg.rollup].liquidators.binary_search(&bundle.account).is_ok());
        let class = match bundle.kind {
            Kind::Settlement(_) => Class::Settlement,
            Kind::Plain if liquidates => Class::Liquidation,
            Kind::Plain => Class::Plain,
        };
        Ok(Self { id: bundle.id(), bytes: bundle.bytes(), class, settlement: bundle.settlement(), signed })
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

    /// Its class.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The id of its settlement, if it is one.
    pub fn settlement(&self) -> Option<SettlementId> {
        self.settlement
    }

    /// Its place among bundles: by class, then the higher tip per byte first, then the lower id.
    pub fn order(&self, other: &Self) -> Ordering {
        let mine = u128::from(self.signed.bundle.tip) * u128::from(other.bytes);
        let theirs = u128::from(other.signed.bundle.tip) * u128::from(self.bytes);
        self.class.cmp(&other.class).then_with(|| theirs.cmp(&mine)).then_with(|| self.id.cmp(&other.id))
    }
}

/// What a proposer has besides cancels and bundles. In any order; signatures must have been checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Certified heads.
    pub heads: Vec<HeadCertificate>,
    /// Observations.
    pub observations: Vec<Observation>,
    /// Legs of settlements that were never ordered.
    pub voids: Vec<Void>,
    /// Leases of posters.
    pub leases: Vec<SignedLease>,
    /// Settlements that their owners take back.
    pub aborts: Vec<SignedAbort>,
}

/// A body in which everything was checked that the state is not needed for.
#[derive(Clone, Debug, Default)]
pub struct CheckedBody {
    /// The facts, each list in order.
    pub(crate) facts: Facts,
    /// The cancels, in order.
    pub(crate) cancels: Vec<SignedCancel>,
    /// The bundles, in order.
    pub(crate) bundles: Vec<CheckedBundle>,
}

impl CheckedBody {
    /// Checks shapes, order and signatures. A signature that `known` vouches for is not checked again.
    pub fn new(body: Body, rules: &Rules, mut known: impl FnMut(&Hash32, &Signature) -> bool) -> Result<Self, Invalid> {
        let Body { heads, observations, voids, leases, aborts, cancels, bundles } = body;
        let facts = Facts { heads, observations, voids, leases, aborts };
        facts.check(rules)?;
        for (index, signed) in cancels.iter().enumerate() {
            if index > 0 && cancels[index - 1].cancel.account >= signed.cancel.account {
                return Err(Invalid::CancelOrder { index });
            }
            signed.cancel.check_shape(rules.network).map_err(|refusal| Invalid::Cancel { index, refusal })?;
        }
        let mut checked: Vec<CheckedBundle> = Vec::with_capacity(bundles.len());
        for (index, signed) in bundles.into_iter().enumerate() {
            let bundle = CheckedBundle::without_signature(signed, rules)
                .map_err(|refusal| Invalid::Bundle { index, refusal })?;
            if checked.last().is_some_and(|last| last.order(&bundle) != Ordering::Less) {
                return Err(Invalid::BundleOrder { index });
            }
            checked.push(bundle);
        }
        let body = Self { facts, cancels, bundles: checked };
        let mut batch = Batch::default();
        for (account, digest, signature) in body.signatures(rules) {
            if !known(&digest, &signature) {
                batch.queue(&account, &digest.0, &signature);
            }
        }
        batch.verify().map_err(|_| Invalid::Signature)?;
        Ok(body)
    }

    /// Puts what a proposer has into the order of a body. Of several cancels of an account the first is kept. Cancels come
    /// as they are: their signatures must have been checked.
    pub fn arrange(mut cancels: Vec<SignedCancel>, mut bundles: Vec<CheckedBundle>) -> Self {
        cancels.sort_by_key(|signed| signed.cancel.account);
        cancels.dedup_by_key(|signed| signed.cancel.account);
        bundles.sort_by(CheckedBundle::order);
        bundles.dedup_by_key(|bundle| bundle.id);
        Self { facts: Facts::default(), cancels, bundles }
    }

    /// Adds facts, in order. What is malformed, comes twice or exceeds a list's bound is left out.
    pub fn with_facts(mut self, facts: Facts, rules: &Rules) -> Self {
        self.facts = facts.arrange(rules);
        self
    }

    /// Every signature: by whom, over what. A verifier that was told to trust them must check them before it votes.
    pub fn signatures<'a>(&'a self, rules: &'a Rules) -> impl Iterator<Item = (Account, Hash32, Signature)> + 'a {
        let facts = &self.facts;
        // Heads whose signers are not all known were refused when the shape was checked.
        let heads = facts.heads.iter().flat_map(|head| head.signed(rules)).filter_map(Result::ok);
        let leases = facts.leases.iter().map(|signed| (signed.lease.holder, signed.lease.digest(), signed.signature));
        let aborts = facts.aborts.iter().map(|signed| (signed.abort.account, signed.abort.digest(), signed.signature));
        let cancels = self.cancels.iter();
        let cancels = cancels.map(|signed| (signed.cancel.account, signed.cancel.digest(), signed.signature));
        let bundles = self.bundles.iter();
        let bundles =
            bundles.map(|bundle| (bundle.signed.bundle.account, Hash32(bundle.id.0), bundle.signed.signature));
        heads.chain(leases).chain(aborts).chain(cancels).chain(bundles)
    }

    /// The facts, each list in order.
    pub fn facts(&self) -> &Facts {
        &self.facts
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
        let Facts { heads, observations, voids, leases, aborts } = self.facts.clone();
        Body {
            heads,
            observations,
            voids,
            leases,
            aborts,
            cancels: self.cancels.clone(),
            bundles: self.bundles.iter().map(|bundle| bundle.signed.clone()).collect(),
        }
    }
}

impl Facts {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        let evidence = self.heads.is_empty() && self.observations.is_empty() && self.voids.is_empty();
        evidence && self.leases.is_empty() && self.aborts.is_empty()
    }

    /// Bytes of heads, observations and voids.
    fn evidence_bytes(&self) -> usize {
        // Without the lengths of the lists.
        encoded_len(&self.heads) + encoded_len(&self.observations) + encoded_len(&self.voids) - 12
    }

    fn check(&self, rules: &Rules) -> Result<(), Invalid> {
        let section = Section::Head;
        check_list(section, &self.heads, |head| head.head.place(), |head| head.check_shape(rules))?;
        let section = Section::Observation;
        check_list(section, &self.observations, Observation::place, |observation| observation.check_shape(rules))?;
        let section = Section::Void;
        check_list(section, &self.voids, |void| void.sid(rules.network), |void| void.check_shape(rules))?;
        let section = Section::Lease;
        check_list(section, &self.leases, |signed| signed.lease.rollup, |signed| signed.lease.check_shape(rules))?;
        let section = Section::Abort;
        check_list(section, &self.aborts, |signed| signed.abort.settlement, |signed| signed.abort.check_shape(rules))?;
        let found = self.evidence_bytes();
        if found > MAX_EVIDENCE_BYTES {
            return Err(Invalid::EvidenceBytes { found });
        }
        Ok(())
    }

    fn arrange(self, rules: &Rules) -> Self {
        let Self { heads, observations, voids, leases, aborts } = self;
        let heads = arrange_list(heads, MAX_HEADS_PER_BODY, |head| head.head.place(), |head| head.check_shape(rules));
        let observations = arrange_observations(observations, rules);
        let sid = |void: &Void| void.sid(rules.network);
        let voids = arrange_list(voids, MAX_VOIDS_PER_BODY, sid, |void| void.check_shape(rules));
        let rollup = |signed: &SignedLease| signed.lease.rollup;
        let leases = arrange_list(leases, MAX_LEASES_PER_BODY, rollup, |signed| signed.lease.check_shape(rules));
        let settlement = |signed: &SignedAbort| signed.abort.settlement;
        let aborts = arrange_list(aborts, MAX_ABORTS_PER_BODY, settlement, |signed| signed.abort.check_shape(rules));
        Self { heads, observations, voids, leases, aborts }
    }
}

/// Two observations of one contract at one head become one, if they prove its account alike; otherwise the first is kept.
fn arrange_observations(mut observations: Vec<Observation>, rules: &Rules) -> Vec<Observation> {
    observations.retain(|observation| observation.check_shape(rules).is_ok());
    observations.sort_by_key(Observation::place);
    observations.dedup_by(|next, kept| {
        let same = next.place() == kept.place();
        if same && next.account_proof == kept.account_proof {
            kept.claims.append(&mut next.claims);
        }
        same
    });
    for observation in &mut observations {
        observation.claims.sort_by_key(|claim| claim.subject);
        observation.claims.dedup_by_key(|claim| claim.subject);
        observation.claims.truncate(MAX_CLAIMS);
    }
    observations.truncate(MAX_OBSERVATIONS_PER_BODY);
    observations
}

fn check_list<T, K: Ord>(
    section: Section,
    items: &[T],
    place: impl Fn(&T) -> K,
    check: impl Fn(&T) -> Result<(), FactError>,
) -> Result<(), Invalid> {
    for (index, item) in items.iter().enumerate() {
        if index > 0 && place(&items[index - 1]) >= place(item) {
            return Err(Invalid::FactOrder { section, index });
        }
        check(item).map_err(|error| Invalid::Fact { section, index, error })?;
    }
    Ok(())
}

fn arrange_list<T, K: Ord>(
    mut items: Vec<T>,
    most: usize,
    place: impl Fn(&T) -> K,
    check: impl Fn(&T) -> Result<(), FactError>,
) -> Vec<T> {
    items.retain(|item| check(item).is_ok());
    items.sort_by_key(&place);
    items.dedup_by_key(|item| place(item));
    items.truncate(most);
    items
}

/// Bytes of a value in borsh.
pub(crate) fn encoded_len(value: &impl BorshSerialize) -> usize {
    borsh::object_length(value).expect("measuring does not fail")
}
