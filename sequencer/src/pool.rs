//! Takes bundles and cancels from clients and validators, keeps the best within bounds, and hands them to the leader.
//!
//! The shell around `waiting.rs`: it checks signatures and formats before it takes the lock, and tells others what came and
//! went. Does not order, execute or persist: see `application.rs`. A restart empties it, and clients send again.

mod classes;
mod departures;
mod metrics;
mod outbox;
mod selection;
mod upkeep;
mod verified;
mod view;
mod waiting;

pub use metrics::PoolMetrics;
pub use view::StateView;

pub(crate) use outbox::{Item, Load};
pub(crate) use selection::{Request, Selection};

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use lockstep_protocol::{
    account::AccountRecord,
    body::{CheckedBody, CheckedBundle},
    bundle::{SignedBundle, SignedCancel},
    genesis::Rules,
    ids::{Account, BundleId, Hash32, Height},
    limits::{MAX_BUNDLE_BYTES, NONCE_WINDOW},
    refusal::Refusal,
    report::{Event, Report},
    rpc::{CancelSent, Sent},
    signature::{BadSignature, Batch},
};
use tokio::sync::broadcast;

use crate::{formats, outbox::Outbox};
use departures::Departures;
use upkeep::Change;
use verified::Verified;
use view::BaseFees;
use waiting::{Admitted, ENTRY_BYTES, Facts, Source, Waiting};

/// Memory for waiting bundles: some 40,000 two-leg transfers, eight seconds at 5,000 a second.
const DEFAULT_MAX_BYTES: usize = 48 * 1024 * 1024;
/// How often the records of accounts are read again because a block came in between. Then they are read under the lock.
const SNAPSHOT_TRIES: usize = 3;

/// The pool's bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Memory for waiting bundles. Bytes; at least the largest bundle has room.
    pub max_bytes: usize,
    /// Bundles of one account that may wait.
    pub max_open_per_account: usize,
}

/// A bundle left the pool without having been ordered. Unless it expired or its nonce is used, another validator may still
/// order it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Which.
    pub id: BundleId,
    /// Why.
    pub refusal: Refusal,
}

/// What the pool knows of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It waits.
    Waiting,
    /// It left lately without having been ordered.
    Dropped(Refusal),
}

/// What the pool holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bundles.
    pub bundles: usize,
    /// Cancels.
    pub cancels: usize,
    /// Memory that the bundles count for.
    pub bytes: usize,
}

/// What became of bundles that another validator passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bundles and cancels that wait here, now or already.
    pub(crate) taken: usize,
    /// Bundles and cancels that no honest validator passes on.
    pub(crate) dishonest: usize,
}

/// The pool. Shared by everybody who needs it.
pub struct Pool {
    rules: Arc<Rules>,
    view: Arc<dyn StateView>,
    waiting: Mutex<Waiting>,
    verified: Mutex<Verified>,
    outbox: Outbox<Item>,
    departures: Departures,
    metrics: PoolMetrics,
}

/// Records of some accounts, of `height` or later.
struct Snapshot {
    height: Height,
    records: BTreeMap<Account, Option<AccountRecord>>,
}

impl Pool {
    /// An empty pool in front of a state.
    pub fn new(rules: Arc<Rules>, config: PoolConfig, view: Arc<dyn StateView>) -> Arc<Self> {
        let config = PoolConfig { max_bytes: config.max_bytes.max(MAX_BUNDLE_BYTES + ENTRY_BYTES), ..config };
        let waiting = Mutex::new(Waiting::new(config, view.height(), base_fees(&rules, &*view)));
        Arc::new(Self {
            rules,
            view,
            waiting,
            verified: Mutex::default(),
            outbox: Outbox::default(),
            departures: Departures::new(),
            metrics: PoolMetrics::default(),
        })
    }

    /// Takes a bundle from a client, or says why not. A bundle that waits already is accepted again; one that was ordered
    /// is refused as a used nonce, so ask the index first.
    pub fn submit(&self, signed: SignedBundle) -> Result<Sent, Refusal> {
        self.submit_batch(vec![signed]).pop().expect("one answer for each bundle")
    }

    /// Takes bundles from clients; their signatures are checked together. One answer for each, in order.
    pub fn submit_batch(&self, signed: Vec<SignedBundle>) -> Vec<Result<Sent, Refusal>> {
        let answers = self.admit(signed, Source::Client);
        for refusal in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            self.count_refusal(refusal);
        }
        answers
    }

    /// Takes a cancel from a client, or says why not.
    pub fn cancel(&self, signed: SignedCancel) -> Result<CancelSent, Refusal> {
        let answer = self
            .admit_cancel(signed, Source::Client)
            .map(|height| CancelSent { digest: signed.cancel.digest(), height });
        match &answer {
            Ok(_) => self.pass_on([Item::Cancel(signed)]),
            Err(refusal) => self.count_refusal(refusal),
        }
        answer
    }

    /// What is known of a bundle here; `None` if nothing.
    pub fn standing(&self, id: &BundleId) -> Option<Standing> {
        if self.lock().bundles.contains_key(id) {
            return Some(Standing::Waiting);
        }
        self.departures.reason(id).map(Standing::Dropped)
    }

    /// Bundles that leave without having been ordered, from now on. After a lag ask for the standing instead.
    pub fn drops(&self) -> broadcast::Receiver<Dropped> {
        self.departures.listen()
    }

    /// Takes a final block into account, once the view answers for its height. Every height should come, in order; after a
    /// gap everything that waits is checked again.
    pub fn finalized(&self, height: Height, reports: &[(Account, Report)]) {
        let ordered: Vec<_> = reports.iter().filter_map(|(_, report)| ordered_bundle(report)).collect();
        let decided = reports.iter().any(|(_, report)| matches!(report.event, Event::Decided { .. }));
        let changed: BTreeSet<_> = reports.iter().map(|(account, _)| *account).collect();
        let mut records = self.read_records(changed);
        let base_fees = base_fees(&self.rules, &*self.view);
        let mut waiting = self.lock();
        if height.0 > waiting.height.0.saturating_add(1) {
            records = self.read_records(waiting.open_accounts());
        }
        let settled = waiting.settle(Change { height, ordered: &ordered, decided, records: &records, base_fees });
        self.measure(&waiting);
        drop(waiting);
        self.metrics.ordered.inc_by(settled.ordered as u64);
        self.publish(settled.dropped);
        if !settled.reminders.is_empty() {
            self.pass_on(settled.reminders);
        }
    }

    /// What the pool holds now.
    pub fn usage(&self) -> Usage {
        let waiting = self.lock();
        Usage { bundles: waiting.bundles.len(), cancels: waiting.cancels.len(), bytes: waiting.all_bytes() }
    }

    /// The pool's numbers.
    pub fn metrics(&self) -> &PoolMetrics {
        &self.metrics
    }

    /// Counts a client's bundle or cancel that was refused.
    pub(crate) fn count_refusal(&self, refusal: &Refusal) {
        PoolMetrics::refuse(&self.metrics.refused, refusal);
    }

    /// The height whose effects are taken into account.
    pub(crate) fn height(&self) -> Height {
        self.lock().height
    }

    /// Takes note of what a block at `height` left out. Settlements that could not be opened are left alone for a while; all else
    /// that was left out is offered again.
    pub(crate) fn left_out(&self, height: Height, left_out: &[(BundleId, Refusal)]) {
        let mut waiting = self.lock();
        for (id, refusal) in left_out.iter().filter(|(_, refusal)| classes::may_pass(refusal)) {
            if waiting.hold(id, height) {
                PoolMetrics::refuse(&self.metrics.held, refusal);
            }
        }
    }

    /// What to propose.
    pub(crate) fn select(&self, request: &Request<'_>) -> Selection {
        self.lock().select(request, &self.rules)
    }

    /// Takes what another validator passed on. It was checked against its rollup's format there.
    pub(crate) fn receive(&self, bundles: Vec<SignedBundle>, cancels: Vec<SignedCancel>) -> Received {
        let mut received = Received::default();
        let cancels = cancels.into_iter().map(|signed| self.admit_cancel(signed, Source::Validator).map(|_| ()));
        let bundles = self.admit(bundles, Source::Validator).into_iter().map(|answer| answer.map(|_| ()));
        for answer in cancels.chain(bundles) {
            match answer {
                Ok(()) => received.taken += 1,
                Err(refusal) => {
                    received.dishonest += usize::from(is_never_honest(&refusal));
                    PoolMetrics::refuse(&self.metrics.not_taken, &refusal);
                }
            }
        }
        received
    }

    /// Checks the signatures of a body, but for those that were found valid before.
    pub(crate) fn verify(&self, body: &CheckedBody, rules: &Rules) -> Result<(), BadSignature> {
        let unknown: Vec<_> = {
            let verified = self.lock_verified();
            body.signatures(rules).filter(|(_, digest, signature)| !verified.contains(digest, signature)).collect()
        };
        if unknown.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        for (account, digest, signature) in &unknown {
            batch.queue(account, &digest.0, signature);
        }
        batch.verify()?;
        let mut verified = self.lock_verified();
        for (_, digest, signature) in &unknown {
            verified.insert(digest, signature);
        }
        Ok(())
    }

    /// The queue of what to pass on.
    pub(crate) fn outbox(&self) -> &Outbox<Item> {
        &self.outbox
    }

    fn admit(&self, signed: Vec<SignedBundle>, source: Source) -> Vec<Result<Sent, Refusal>> {
        let mut answers: Vec<Option<Result<Sent, Refusal>>> = self.precheck(&signed);
        // Only now the costly checks, of those that would get in.
        let open = answers.iter().enumerate().filter(|(_, answer)| answer.is_none()).map(|(index, _)| index);
        let open: Vec<usize> = open.collect();
        let mut signed: Vec<_> = signed.into_iter().map(Some).collect();
        let unverified = open.iter().map(|index| signed[*index].take().expect("an index comes once")).collect();
        let mut admissible = Vec::with_capacity(open.len());
        for (index, checked) in open.into_iter().zip(CheckedBundle::new_batch(unverified, &self.rules)) {
            let checked = checked.and_then(|bundle| {
                if source == Source::Client {
                    formats::check(&bundle.signed().bundle, &self.rules)?;
                }
                Ok(Arc::new(bundle))
            });
            match checked {
                Ok(bundle) => admissible.push((index, bundle)),
                Err(refusal) => answers[index] = Some(Err(refusal)),
            }
        }
        self.admit_checked(admissible, source, &mut answers);
        answers.into_iter().map(|answer| answer.expect("every bundle was judged")).collect()
    }

    /// Answers what can be answered without a signature. `None` where the costly checks are needed.
    fn precheck(&self, signed: &[SignedBundle]) -> Vec<Option<Result<Sent, Refusal>>> {
        let shapes: Vec<_> = signed.iter().map(|signed| self.check_shape(signed)).collect();
        let accounts = signed.iter().zip(&shapes).filter(|(_, shape)| shape.is_ok());
        let accounts = accounts.map(|(signed, _)| signed.bundle.account).collect();
        self.with_records(accounts, |waiting, snapshot| {
            let judge = |(signed, shape): (&SignedBundle, Result<(), Refusal>)| {
                shape.and_then(|()| {
                    let class = classes::class(&signed.bundle, &self.rules);
                    waiting.check(signed, class, snapshot.facts(&signed.bundle.account)?)
                })
            };
            let verdicts = signed.iter().zip(shapes).map(judge);
            verdicts
                .zip(signed)
                .map(|(verdict, signed)| match verdict {
                    Ok(Some(_)) => None,
                    Ok(None) => Some(Ok(Sent { bundle_id: signed.bundle.id(), height: snapshot.height })),
                    Err(refusal) => Some(Err(refusal)),
                })
                .collect()
        })
    }

    fn admit_checked(
        &self,
        bundles: Vec<(usize, Arc<CheckedBundle>)>,
        source: Source,
        answers: &mut [Option<Result<Sent, Refusal>>],
    ) {
        if bundles.is_empty() {
            return;
        }
        let accounts = bundles.iter().map(|(_, bundle)| bundle.signed().bundle.account).collect();
        let mut admitted = Vec::with_capacity(bundles.len());
        let mut dropped = Vec::new();
        self.with_records(accounts, |waiting, snapshot| {
            for (index, bundle) in &bundles {
                let facts = snapshot.facts(&bundle.signed().bundle.account);
                let verdict = facts.and_then(|facts| waiting.admit(bundle.clone(), facts, source));
                let sent = Sent { bundle_id: bundle.id(), height: snapshot.height };
                answers[*index] = Some(verdict.map(|verdict| {
                    if let Admitted::New(mut left) = verdict {
                        dropped.append(&mut left);
                        admitted.push(bundle.clone());
                    }
                    sent
                }));
            }
            self.measure(waiting);
        });
        let mut verified = self.lock_verified();
        for bundle in &admitted {
            verified.insert(&Hash32(bundle.id().0), &bundle.signed().signature);
        }
        drop(verified);
        self.publish(dropped);
        match source {
            Source::Client => {
                self.metrics.admitted.inc_by(admitted.len() as u64);
                if !admitted.is_empty() {
                    self.pass_on(admitted.into_iter().map(Item::Bundle));
                }
            }
            Source::Validator => {
                self.metrics.received.inc_by(admitted.len() as u64);
            }
        }
    }

    fn admit_cancel(&self, signed: SignedCancel, source: Source) -> Result<Height, Refusal> {
        signed.cancel.check_shape(self.rules.network)?;
        signed.check_signature()?;
        let digest = signed.cancel.digest();
        let height = self.with_records(vec![signed.cancel.account], |waiting, snapshot| {
            let facts = snapshot.facts(&signed.cancel.account)?;
            waiting.admit_cancel(signed, facts, source)?;
            self.measure(waiting);
            Ok(snapshot.height)
        })?;
        self.lock_verified().insert(&digest, &signed.signature);
        self.metrics.cancels_admitted.inc();
        Ok(height)
    }

    fn check_shape(&self, signed: &SignedBundle) -> Result<(), Refusal> {
        signed.bundle.check_shape(self.rules.network)?;
        match signed.bundle.legs.iter().find(|leg| !self.rules.rollups.contains_key(&leg.rollup)) {
            Some(leg) => Err(Refusal::UnknownRollup { rollup: leg.rollup }),
            None => classes::check(&signed.bundle, &self.rules),
        }
    }

    /// Runs `act` under the lock, with records that are no older than what the pool has taken into account. A record from
    /// before a block that the pool knows could let in what that block made impossible, and nothing would ever drop it.
    fn with_records<T>(&self, accounts: Vec<Account>, act: impl FnOnce(&mut Waiting, &Snapshot) -> T) -> T {
        for _ in 0..SNAPSHOT_TRIES {
            let snapshot = self.snapshot(&accounts);
            let mut waiting = self.lock();
            if waiting.height <= snapshot.height {
                return act(&mut waiting, &snapshot);
            }
        }
        let mut waiting = self.lock();
        let snapshot = self.snapshot(&accounts);
        act(&mut waiting, &snapshot)
    }

    fn snapshot(&self, accounts: &[Account]) -> Snapshot {
        // The height first: the records may only be newer than it says.
        let height = self.view.height();
        Snapshot { height, records: self.read_records(accounts.iter().copied()) }
    }

    fn read_records(&self, accounts: impl IntoIterator<Item = Account>) -> BTreeMap<Account, Option<AccountRecord>> {
        let mut records = BTreeMap::new();
        for account in accounts {
            records.entry(account).or_insert_with(|| self.view.account(&account));
        }
        records
    }

    fn publish(&self, dropped: Vec<Dropped>) {
        for departure in &dropped {
            PoolMetrics::refuse(&self.metrics.dropped, &departure.refusal);
        }
        self.departures.publish(dropped);
    }

    fn pass_on(&self, items: impl IntoIterator<Item = Item>) {
        self.metrics.outbox_dropped.inc_by(self.outbox.push(items) as u64);
    }

    fn measure(&self, waiting: &Waiting) {
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.bundles.set(gauge(waiting.bundles.len()));
        self.metrics.cancels.set(gauge(waiting.cancels.len()));
        self.metrics.bytes.set(gauge(waiting.all_bytes()));
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no holder of the pool's lock panics")
    }

    fn lock_verified(&self) -> MutexGuard<'_, Verified> {
        self.verified.lock().expect("no holder of the signatures' lock panics")
    }
}

impl Snapshot {
    fn facts(&self, account: &Account) -> Result<Facts<'_>, Refusal> {
        if self.height == Height(0) {
            return Err(Refusal::NotReady { detail: "no block yet: balances are written by the first".into() });
        }
        let record = self.records.get(account).expect("the records of all accounts were read");
        Ok(Facts { next: self.height.next(), record: record.as_ref() })
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        // More than a nonce window could not be used one after the other.
        let max_open_per_account = usize::try_from(NONCE_WINDOW).expect("1,024 fits");
        Self { max_bytes: DEFAULT_MAX_BYTES, max_open_per_account }
    }
}

/// Whether no state could make it right: the validator that passed it on should have refused it.
fn is_never_honest(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::BadSignature
            | Refusal::WrongNetwork { .. }
            | Refusal::NoLegs
            | Refusal::TooManyLegs { .. }
            | Refusal::UnsortedLegs { .. }
            | Refusal::RepeatedLeg { .. }
            | Refusal::EmptyLeg { .. }
            | Refusal::TooManyTransactions { .. }
            | Refusal::OversizedTransaction { .. }
            | Refusal::OversizedLeg { .. }
            | Refusal::OversizedBundle { .. }
            | Refusal::UnknownRollup { .. }
            | Refusal::BadNonceRange { .. }
            | Refusal::SettlementLegCount { .. }
            | Refusal::ZeroAmount { .. }
            | Refusal::UnbalancedAsset { .. }
            | Refusal::UnmatchedLeg { .. }
            | Refusal::NoSettlements { .. }
            | Refusal::UnknownEscrow { .. }
            | Refusal::NoCorridor { .. }
    )
}

fn ordered_bundle(report: &Report) -> Option<BundleId> {
    match &report.event {
        Event::Ordered { bundle, .. } => Some(*bundle),
        _ => None,
    }
}

fn base_fees(rules: &Rules, view: &dyn StateView) -> BaseFees {
    let fee = |rollup: &lockstep_protocol::genesis::Rollup| view.base_fee(rollup.id).unwrap_or(rollup.min_base_fee);
    rules.rollups.values().map(|rollup| (rollup.id, fee(rollup))).collect()
}

#[cfg(test)]
mod tests;
