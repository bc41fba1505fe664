//! Which proven facts wait to be ordered, and which are held until the log can tell?
//!
//! Two bounded collections of single facts: `Waiting` has what the log would take now, in the order in which it came; `Held`
//! what may become true within some heights, because its head or its settlement is not in the log yet. Proves nothing.

use std::collections::{BTreeMap, HashMap, HashSet};

use lockstep_protocol::{
    ids::{Hash32, Height},
    rpc::Fact,
};

use super::ids::{self, FactId};

/// Bytes of all facts that wait: sixteen blocks' evidence. What is proven is bounded by what really happened on rollups; this
/// bounds it by memory.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes that are held of one source, a validator or all clients together.
const HELD_BYTES_MAX: usize = 1024 * 1024;
/// Facts that are held of one source.
const HELD_MAX: usize = 256;
/// Heights for which a fact is held: some seconds, in which a head is signed or never will be.
const HELD_HEIGHTS: u64 = 64;
/// Heights after which a fact that still waits is proven again: by then a leader had the chance to take it.
const PROVEN_HEIGHTS: u64 = 4;
/// Facts that are proven again in one block, so that a full pool costs no block more than some milliseconds.
const PROVEN_AGAIN_MAX: usize = 64;

/// Held facts that are tried at once, for the same reason.
const READY_MAX: usize = 64;

/// Facts that the log would take.
#[derive(Default)]
pub(super) struct Waiting {
    facts: BTreeMap<u64, Entry>,
    by_id: HashMap<FactId, u64>,
    bytes: usize,
    next: u64,
}

struct Entry {
    id: FactId,
    fact: Fact,
    bytes: usize,
    proven: Height,
}

impl Waiting {
    /// Adds a fact that was proven at `height`; `false` where there is no room.
    pub(super) fn insert(&mut self, id: FactId, fact: Fact, height: Height) -> bool {
        if self.by_id.contains_key(&id) {
            return true;
        }
        let bytes = ids::bytes(&fact);
        if self.bytes + bytes > WAITING_BYTES_MAX {
            return false;
        }
        self.bytes += bytes;
        self.by_id.insert(id, self.next);
        self.facts.insert(self.next, Entry { id, fact, bytes, proven: height });
        self.next += 1;
        true
    }

    pub(super) fn contains(&self, id: &FactId) -> bool {
        self.by_id.contains_key(id)
    }

    pub(super) fn remove(&mut self, id: &FactId) -> bool {
        let Some(place) = self.by_id.remove(id) else { return false };
        let entry = self.facts.remove(&place).expect("what has an id has an entry");
        self.bytes -= entry.bytes;
        true
    }

    /// The facts that are not `taken`, the oldest first, with their bytes.
    pub(super) fn free<'a>(&'a self, taken: &'a HashSet<FactId>) -> impl Iterator<Item = (&'a Fact, usize)> {
        let free = self.facts.values().filter(|entry| !taken.contains(&entry.id));
        free.map(|entry| (&entry.fact, entry.bytes))
    }

    pub(super) fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.facts.values().map(|entry| &entry.fact)
    }

    /// Facts that were not proven for some heights, the oldest first.
    pub(super) fn unproven(&self, height: Height) -> Vec<(FactId, Fact)> {
        let old = self.facts.values().filter(|entry| entry.proven.0.saturating_add(PROVEN_HEIGHTS) <= height.0);
        old.take(PROVEN_AGAIN_MAX).map(|entry| (entry.id, entry.fact.clone())).collect()
    }

    /// Notes that a fact was proven again.
    pub(super) fn proven(&mut self, id: &FactId, height: Height) {
        if let Some(entry) = self.by_id.get(id).and_then(|place| self.facts.get_mut(place)) {
            entry.proven = height;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.facts.len()
    }
}

/// Facts that may become true.
#[derive(Default)]
pub(super) struct Held {
    facts: BTreeMap<FactId, Early>,
}

struct Early {
    fact: Fact,
    bytes: usize,
    source: Option<Hash32>,
    since: Height,
}

impl Held {
    /// Holds a fact; `false` where its source has no room left.
    pub(super) fn insert(&mut self, id: FactId, fact: Fact, source: Option<Hash32>, height: Height) -> bool {
        // A newer head for the same claim is the better one to wait for.
        let bytes = ids::bytes(&fact);
        let others = self.facts.iter().filter(|(other, early)| early.source == source && **other != id);
        let (count, held) = others.fold((0, 0), |(count, held), (_, early)| (count + 1, held + early.bytes));
        if count >= HELD_MAX || held + bytes > HELD_BYTES_MAX {
            return false;
        }
        // Trying in vain does not prolong it.
        let since = self.facts.get(&id).filter(|early| early.fact == fact).map_or(height, |early| early.since);
        self.facts.insert(id, Early { fact, bytes, source, since });
        true
    }

    /// Those that `ready` chooses, for another try; they stay until they are removed.
    pub(super) fn ready(&self, ready: impl Fn(&Fact) -> bool) -> Vec<(FactId, Fact, Option<Hash32>)> {
        let ready = self.facts.iter().filter(|(_, early)| ready(&early.fact));
        ready.take(READY_MAX).map(|(id, early)| (*id, early.fact.clone(), early.source)).collect()
    }

    pub(super) fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.facts.values().map(|early| &early.fact)
    }

    pub(super) fn remove(&mut self, id: &FactId) -> bool {
        self.facts.remove(id).is_some()
    }

    /// Forgets what was held for too long; returns how many.
    pub(super) fn expire(&mut self, height: Height) -> usize {
        let before = self.facts.len();
        self.facts.retain(|_, early| early.since.0.saturating_add(HELD_HEIGHTS) > height.0);
        before - self.facts.len()
    }

    pub(super) fn len(&self) -> usize {
        self.facts.len()
    }
}

#[cfg(test)]
mod tests;
