//! Which bodies were read lately, and what do the unfinalized ancestors of a block hold?
//!
//! A body is read from its bytes once, though the log asks for its keys first and executes it later, perhaps twice. Bounded,
//! and only a memory: whatever is missing is read again, and whatever an ancestor holds without our knowing is dropped by
//! the transition.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use lockstep_protocol::{
    body::CheckedBody,
    genesis::Rules,
    header::Header,
    ids::{Hash32, Height},
};

use crate::facts;

/// Bodies that are kept: the two or three views that are under way, and some that came to nothing. Up to a megabyte each.
pub(crate) const BODIES_MAX: usize = 16;
/// Unfinalized ancestors that are looked through. A longer run means that finalization or the index stands still.
pub(crate) const ANCESTORS_MAX: u64 = 16;

/// A body at its place: the digest of its parent and its own hash.
type Place = (Hash32, Hash32);

/// A body that was read.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) body: Arc<CheckedBody>,
    /// Whether its signatures were checked as well.
    pub(crate) verified: bool,
}

struct Entry {
    parent: Header,
    known: Known,
}

/// Bodies that were read lately.
#[derive(Default)]
pub(crate) struct Recent {
    entries: HashMap<Place, Entry>,
    /// What the unfinalized ancestors of a child of this block hold.
    taken: Option<(Hash32, Arc<HashSet<[u8; 32]>>)>,
}

impl Recent {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, parent: &Header, body: &Hash32) -> Option<Known> {
        self.entries.get(&(parent.digest(), *body)).map(|entry| entry.known.clone())
    }

    /// The body with this hash after the block with this digest.
    pub(crate) fn find(&self, parent: &Hash32, body: &Hash32) -> Option<Known> {
        self.entries.get(&(*parent, *body)).map(|entry| entry.known.clone())
    }

    /// Notes a body. `settled` is the height that the pool has taken into account: what is not above it goes first.
    pub(crate) fn insert(&mut self, parent: &Header, body: Hash32, known: Known, settled: Height) {
        self.entries.insert((parent.digest(), body), Entry { parent: parent.clone(), known });
        self.entries.retain(|_, entry| entry.parent.height.next() > settled || entry.parent == *parent);
        while self.entries.len() > BODIES_MAX {
            let lowest = self.entries.iter().min_by_key(|(place, entry)| (entry.parent.height, **place));
            let lowest = *lowest.expect("there are many").0;
            self.entries.remove(&lowest);
        }
    }

    /// Ids of bundles and facts, and digests of cancels, in `parent` and its ancestors above `settled`.
    pub(crate) fn taken(&mut self, parent: &Header, settled: Height, rules: &Rules) -> Arc<HashSet<[u8; 32]>> {
        let digest = parent.digest();
        if let Some((of, taken)) = &self.taken
            && *of == digest
        {
            return taken.clone();
        }
        let mut ids = HashSet::new();
        let mut header = parent;
        let mut complete = true;
        while header.height > settled {
            let Some(entry) = self.entries.get(&(header.parent, header.body)) else {
                complete = false;
                break;
            };
            let body = &entry.known.body;
            ids.extend(body.cancels().iter().map(|signed| signed.cancel.digest().0));
            ids.extend(facts::ids::all(body.facts(), rules));
            ids.extend(body.bundles().iter().map(|bundle| bundle.id().0));
            header = &entry.parent;
        }
        let taken = Arc::new(ids);
        // A missing ancestor may still be read.
        self.taken = complete.then(|| (digest, taken.clone()));
        taken
    }
}
