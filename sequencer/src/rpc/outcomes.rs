//! What became of a bundle, as far as this node knows?
//!
//! Ordered bundles are in the index. For the others the account's record and reports tell, if the node remembers whose
//! bundle it was: it does for those that it took, for a while. What it says is quick, not proven: proofs are the SDK's.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use lockstep_protocol::{
    bundle::Bundle,
    evidence::BundleState,
    ids::{Account, BundleId, Height},
    refusal::Refusal,
    report::{Event, Report},
    rpc::{BundleStatus, LegStatus, Level, QueryError},
};
use tokio::{sync::Notify, time::Instant};

use super::Failure;
use crate::{
    index::{Applied, Index},
    pool::{Pool, Standing},
};

/// Bundles whose account and nonce are remembered: 20 seconds at 5,000 a second, some 15 MB.
const REMEMBERED: usize = 100_000;
/// Bundles that are waited for at once. Each takes some hundred bytes, beside its call.
const WAITED_MAX: usize = 65_536;
/// Reports looked through for a nonce: twice what an account may have used without leaving the window.
const REPORTS_BACK: u64 = 2_048;
/// Pause between looks at a bundle that nothing is heard of: outcomes that no event announces are seen this late.
const LOOK_INTERVAL: Duration = Duration::from_millis(1_000);

/// What is known of bundles that are not in the index, and who waits for them.
pub struct Outcomes {
    index: Arc<Index>,
    pool: Arc<Pool>,
    known: Mutex<Known>,
    waits: Mutex<HashMap<BundleId, (Arc<Notify>, usize)>>,
}

#[derive(Default)]
struct Known {
    bundles: HashMap<BundleId, Claim>,
    order: VecDeque<BundleId>,
}

/// What a bundle claims.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    account: Account,
    nonce: u64,
    valid_until: Height,
}

impl Claim {
    /// The claim of a bundle.
    pub fn of(bundle: &Bundle) -> Self {
        Self { account: bundle.account, nonce: bundle.nonce, valid_until: bundle.valid_until }
    }
}

/// Somebody's place among those who wait for a bundle.
struct Wait<'a> {
    outcomes: &'a Outcomes,
    id: BundleId,
    notify: Arc<Notify>,
}

impl Outcomes {
    /// Nothing known yet.
    pub fn new(index: Arc<Index>, pool: Arc<Pool>) -> Self {
        Self { index, pool, known: Mutex::default(), waits: Mutex::default() }
    }

    /// Remembers a bundle that was taken.
    pub fn remember(&self, id: BundleId, claim: Claim) {
        let mut known = self.known();
        if known.bundles.insert(id, claim).is_none() {
            known.order.push_back(id);
        }
        if known.order.len() > REMEMBERED {
            let oldest = known.order.pop_front().expect("there are many");
            known.bundles.remove(&oldest);
        }
    }

    /// Wakes those who wait for a bundle of this block.
    pub fn settle(&self, applied: &Applied) {
        let waits = self.waits();
        if !waits.is_empty() {
            for bundle in applied.body.bundles() {
                if let Some((notify, _)) = waits.get(&bundle.id()) {
                    notify.notify_waiters();
                }
            }
        }
    }

    /// Wakes those who wait for a bundle that left the pool.
    pub fn dropped(&self, id: &BundleId) {
        if let Some((notify, _)) = self.waits().get(id) {
            notify.notify_waiters();
        }
    }

    /// Whether a bundle was ordered. A repetition of it is no error.
    pub fn is_ordered(&self, id: &BundleId) -> Result<bool, Failure> {
        Ok(self.index.bundle(id)?.is_some())
    }

    /// Where a bundle stands now.
    pub fn status(&self, id: BundleId) -> Result<BundleStatus, Failure> {
        // A block may come between two looks; that its bundle was ordered is then seen by looking again.
        loop {
            if let Some(status) = self.look(id)? {
                return Ok(status);
            }
        }
    }

    /// `None` if the bundle was ordered while we looked.
    fn look(&self, id: BundleId) -> Result<Option<BundleStatus>, Failure> {
        let tip = self.index.height();
        if let Some(ordered) = self.index.bundle(&id)? {
            let height = ordered.height;
            let mut legs = Vec::with_capacity(ordered.rollups.len());
            for rollup in ordered.rollups {
                let sequence = self.index.leaf_at(rollup, height)?.sequence;
                legs.push(LegStatus { rollup, level: Level::Ordered, sequence, block: None, skipped: Vec::new() });
            }
            let state = BundleState::Ordered { height, fee: ordered.fee };
            return Ok(Some(BundleStatus { bundle_id: id, state, legs, tip: tip.max(height) }));
        }
        let claim = self.known().bundles.get(&id).copied();
        let state = match (claim, self.pool.standing(&id)) {
            (Some(claim), _) => self.conclude(&claim, tip)?,
            (None, Some(Standing::Waiting)) => Some(BundleState::Pending),
            (None, Some(Standing::Dropped(Refusal::Expired { .. }))) => Some(BundleState::Expired),
            // It may still wait at another validator, but what it was is not known any more.
            (None, Some(Standing::Dropped(_)) | None) => None,
        };
        match state {
            Some(BundleState::Replaced { by, .. }) if by == id => Ok(None),
            Some(state) => Ok(Some(BundleStatus { bundle_id: id, state, legs: Vec::new(), tip })),
            None => Err(QueryError::UnknownBundle { bundle: id }.into()),
        }
    }

    /// Where a bundle stands once it has an outcome, or when `patience` is over.
    pub async fn wait(&self, id: BundleId, patience: Duration) -> Result<BundleStatus, Failure> {
        let deadline = Instant::now() + patience;
        let wait = Wait::new(self, id)?;
        loop {
            let notified = wait.notify.notified();
            tokio::pin!(notified);
            // From here on nothing is missed; only then look.
            notified.as_mut().enable();
            let status = self.status(id);
            let pending = match &status {
                Ok(status) => status.state == BundleState::Pending,
                // It may be on its way to this node.
                Err(Failure::Query(QueryError::UnknownBundle { .. })) => true,
                Err(_) => false,
            };
            if !pending || Instant::now() >= deadline {
                return status;
            }
            let look = (Instant::now() + LOOK_INTERVAL).min(deadline);
            tokio::select! {
                () = notified => {}
                () = tokio::time::sleep_until(look) => {}
            }
        }
    }

    /// What the account's record and reports say of a bundle that is not in the index.
    fn conclude(&self, claim: &Claim, tip: Height) -> Result<Option<BundleState>, Failure> {
        let Some(record) = self.index.account(&claim.account)? else { return Ok(None) };
        if record.nonces.is_used(claim.nonce) == Some(false) {
            let over = tip >= claim.valid_until;
            return Ok(Some(if over { BundleState::Expired } else { BundleState::Pending }));
        }
        let first = record.report_sequence.saturating_sub(REPORTS_BACK - 1);
        let most = usize::try_from(REPORTS_BACK).expect("2,048 fits");
        let reports = self.index.reports(&claim.account, first, most)?.reports;
        Ok(reports.iter().rev().find_map(|report| used_by(report, claim.nonce)))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panics while holding the known bundles")
    }

    fn waits(&self) -> MutexGuard<'_, HashMap<BundleId, (Arc<Notify>, usize)>> {
        self.waits.lock().expect("nobody panics while holding the waits")
    }
}

impl<'a> Wait<'a> {
    fn new(outcomes: &'a Outcomes, id: BundleId) -> Result<Self, Failure> {
        let mut waits = outcomes.waits();
        let found = waits.len() as u64;
        if waits.len() >= WAITED_MAX && !waits.contains_key(&id) {
            return Err(QueryError::TooMany { max: WAITED_MAX as u64, found }.into());
        }
        let (notify, count) = waits.entry(id).or_default();
        *count += 1;
        Ok(Self { outcomes, id, notify: notify.clone() })
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut waits = self.outcomes.waits();
        let (_, count) = waits.get_mut(&self.id).expect("whoever waits is counted");
        *count -= 1;
        if *count == 0 {
            waits.remove(&self.id);
        }
    }
}

/// What a report says of a nonce, if it used it.
fn used_by(report: &Report, nonce: u64) -> Option<BundleState> {
    let height = report.height;
    match &report.event {
        Event::Ordered { bundle, nonce: used, .. } if *used == nonce => {
            Some(BundleState::Replaced { height, by: *bundle })
        }
        Event::Cancelled { nonces } if nonces.iter().any(|range| (range.first..=range.last).contains(&nonce)) => {
            Some(BundleState::Cancelled { height })
        }
        _ => None,
    }
}
