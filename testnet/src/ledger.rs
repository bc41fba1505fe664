//! What was sent, what became of it, and where was it seen?
//!
//! The bookkeeping behind every promise that the testnet checks. It is told facts and judges them; it asks nobody.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use lockstep_protocol::{
    evidence::BundleState,
    ids::{BundleId, Height, RollupId},
};
use serde::Serialize;

/// Bundles that are remembered after all is known of them, to notice one that is ordered twice. A bundle can only be ordered
/// while it is valid, and this many pass in far more blocks than that.
const REMEMBERED_MAX: usize = 200_000;
/// Breaches that are told in full; further ones are counted.
const BREACHES_TOLD_MAX: usize = 20;

/// One follower of all lanes.
pub type Follower = usize;

/// The book.
#[derive(Debug)]
pub struct Ledger {
    followers: usize,
    open: HashMap<BundleId, Entry>,
    done: HashSet<BundleId>,
    done_in_order: VecDeque<BundleId>,
    last_ordered: Height,
    counts: Counts,
    breaches: Breaches,
}

/// How many bundles came how far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Handed to the SDK.
    pub sent: u64,
    /// Taken by a node.
    pub accepted: u64,
    /// Proven to be ordered.
    pub ordered: u64,
    /// Proven never to be ordered, by state.
    pub not_ordered: BTreeMap<String, u64>,
    /// Refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Seen in a lane, but not sent from here.
    pub of_others: u64,
    /// Fees of all that was ordered. Credits.
    pub fees: u64,
}

/// Promises that were seen broken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaches {
    told: Vec<String>,
    count: u64,
}

#[derive(Debug)]
struct Entry {
    rollups: Vec<RollupId>,
    accepted: bool,
    outcome: Option<BundleState>,
    seen: Vec<(Follower, RollupId, Height)>,
}

impl Ledger {
    /// A book for what `followers` see, each of all lanes.
    pub fn new(followers: usize) -> Self {
        Self {
            followers,
            open: HashMap::new(),
            done: HashSet::new(),
            done_in_order: VecDeque::new(),
            last_ordered: Height(0),
            counts: Counts::default(),
            breaches: Breaches::default(),
        }
    }

    /// A bundle is about to be sent. Before, because a lane may show it sooner than the answer comes.
    pub fn send(&mut self, id: BundleId, rollups: Vec<RollupId>) {
        self.counts.sent += 1;
        self.open.insert(id, Entry { rollups, accepted: false, outcome: None, seen: Vec::new() });
    }

    /// A node took the bundle: from now on it has to have an outcome.
    pub fn accept(&mut self, id: BundleId) {
        if let Some(entry) = self.open.get_mut(&id)
            && !entry.accepted
        {
            entry.accepted = true;
            self.counts.accepted += 1;
        }
    }

    /// Every node that was asked refused the bundle.
    pub fn refuse(&mut self, id: BundleId, reason: &str) {
        *self.counts.refused.entry(reason.to_owned()).or_default() += 1;
        let Some(entry) = self.open.get(&id) else { return };
        if entry.accepted {
            self.breaches.add(format!("bundle {id} was accepted, and then refused ({reason})"));
        } else if !entry.seen.is_empty() {
            self.breaches.add(format!("bundle {id} was refused ({reason}) and ordered"));
        }
        self.forget(id);
    }

    /// The outcome of the bundle is proven.
    pub fn conclude(&mut self, id: BundleId, outcome: BundleState) {
        let Some(entry) = self.open.get_mut(&id) else {
            self.breaches.add(format!("bundle {id} has an outcome ({outcome:?}) after all was known of it"));
            return;
        };
        match (entry.outcome, outcome) {
            (_, BundleState::Pending) => return,
            (Some(before), _) if before == outcome => return,
            (Some(before), _) => {
                self.breaches.add(format!("bundle {id} has two outcomes: {before:?} and {outcome:?}"));
                return;
            }
            (None, BundleState::Ordered { height, fee }) => {
                // Somebody took it, even if the answer was lost.
                self.counts.accepted += u64::from(!std::mem::replace(&mut entry.accepted, true));
                self.last_ordered = self.last_ordered.max(height);
                self.counts.ordered += 1;
                self.counts.fees = self.counts.fees.saturating_add(fee);
            }
            (None, BundleState::Cancelled { .. }) => self.count_not_ordered("cancelled"),
            (None, BundleState::Replaced { .. }) => self.count_not_ordered("replaced"),
            (None, BundleState::Expired) => self.count_not_ordered("expired"),
        }
        if let Some(entry) = self.open.get_mut(&id) {
            entry.outcome = Some(outcome);
        }
        self.settle(id);
    }

    /// A verified lane of `rollup` shows the bundle at `height`.
    pub fn see(&mut self, follower: Follower, rollup: RollupId, height: Height, id: BundleId) {
        let Some(entry) = self.open.get_mut(&id) else {
            if self.done.contains(&id) {
                self.breaches.add(format!("lane {rollup} shows bundle {id} again, at height {height}"));
            } else if follower == 0 {
                self.counts.of_others += 1;
            }
            return;
        };
        if !entry.rollups.contains(&rollup) {
            self.breaches.add(format!("lane {rollup} shows bundle {id}, which has no leg for it"));
        } else if entry.seen.iter().any(|(f, r, _)| (*f, *r) == (follower, rollup)) {
            self.breaches.add(format!("lane {rollup} shows bundle {id} twice, the second time at height {height}"));
        } else {
            entry.seen.push((follower, rollup, height));
            self.settle(id);
        }
    }

    /// Bundles of which something is still to come.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Bundles whose outcome is not proven yet.
    pub fn pending(&self) -> impl Iterator<Item = &BundleId> {
        self.open.iter().filter(|(_, entry)| entry.outcome.is_none()).map(|(id, _)| id)
    }

    /// The last height at which a bundle is proven to be ordered.
    pub fn last_ordered(&self) -> Height {
        self.last_ordered
    }

    /// How many came how far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What was seen broken so far.
    pub fn breaches(&self) -> &Breaches {
        &self.breaches
    }

    /// Judges what is left, when nothing more is to come.
    pub fn close(&mut self) -> Closing {
        let mut closing = Closing::default();
        for (id, entry) in &self.open {
            match entry.outcome {
                None if entry.accepted => closing.without_outcome.add(format!("bundle {id} has no outcome")),
                None => closing.doubtful += 1,
                Some(BundleState::Ordered { height, .. }) => {
                    let expected = self.followers * entry.rollups.len();
                    let seen = entry.seen.len();
                    closing.half_seen.add(format!(
                        "bundle {id}, ordered at height {height}, was seen {seen} times instead of {expected}"
                    ));
                }
                Some(_) => {}
            }
        }
        closing
    }

    /// Forgets a bundle once everything that should be seen of it was seen.
    fn settle(&mut self, id: BundleId) {
        let Some(entry) = self.open.get(&id) else { return };
        let Some(outcome) = entry.outcome else { return };
        if let BundleState::Ordered { height, .. } = outcome {
            if let Some((_, rollup, other)) = entry.seen.iter().find(|(_, _, seen)| *seen != height) {
                self.breaches.add(format!(
                    "bundle {id} is ordered at height {height}, and lane {rollup} shows it at height {other}"
                ));
                self.forget(id);
            } else if entry.seen.len() == self.followers * entry.rollups.len() {
                self.forget(id);
            }
        } else {
            if let Some((_, rollup, height)) = entry.seen.first() {
                self.breaches.add(format!("bundle {id} is {outcome:?}, and lane {rollup} shows it at height {height}"));
            }
            self.forget(id);
        }
    }

    fn forget(&mut self, id: BundleId) {
        self.open.remove(&id);
        if self.done.insert(id) {
            self.done_in_order.push_back(id);
        }
        if self.done_in_order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.done_in_order.pop_front()
        {
            self.done.remove(&oldest);
        }
    }

    fn count_not_ordered(&mut self, state: &str) {
        *self.counts.not_ordered.entry(state.to_owned()).or_default() += 1;
    }
}

/// What is left when nothing more is to come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closing {
    /// Accepted bundles without an outcome.
    pub without_outcome: Breaches,
    /// Ordered bundles that a follower did not see on a lane.
    pub half_seen: Breaches,
    /// Bundles that were never answered for, and of which nothing is known.
    pub doubtful: u64,
}

impl Breaches {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds one.
    pub fn add(&mut self, breach: String) {
        self.count += 1;
        if self.told.len() < BREACHES_TOLD_MAX {
            self.told.push(breach);
        }
    }
}

impl std::fmt::Display for Breaches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.told.join("; "))?;
        match self.count.saturating_sub(self.told.len() as u64) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests;
