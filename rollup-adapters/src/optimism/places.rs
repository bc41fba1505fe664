//! How far is the lane in the chain, at each of the latest blocks?
//!
//! Mostly the block's own timestamp says it: everything up to it. After a block that was full it does not, so the driver keeps
//! the places of recent blocks, and some of older ones, in a small file. The file is a shortcut and not a truth: without it, or if it
//! knows nothing of the chain's past, the places are found again by counting the lane from the last block that is known, at worst from
//! genesis (`driver/resume.rs`). No block tells by itself whether it was full: what it left out as invalid took room too.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use alloy_primitives::B256;
use serde::{Deserialize, Serialize};

use crate::LaneCursor;

/// Blocks whose places are kept: more than the deepest reorganisation of L1 that is followed takes back.
const PLACES_MAX: usize = 1_024;
/// Of the blocks before these, one in so many keeps its place: a client that was put back further is counted from there.
const OLDER_EVERY: u64 = 1_024;
/// So many of those at most, 24 days of blocks of two seconds; beyond, every second one goes.
const OLDER_MAX: usize = 1_024;
/// Blocks between two writes of the file: the rest is counted again from the lane.
const WRITE_EVERY: usize = 16;

/// The place of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Number of the block.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Log time, milliseconds: everything up to it is in the chain.
    pub ms: u64,
    /// And so many transactions of the lane block after it.
    pub taken: usize,
}

impl Place {
    /// As adapters take it.
    pub fn cursor(&self) -> LaneCursor {
        LaneCursor { ms: self.ms, taken: self.taken }
    }
}

/// The places of blocks.
#[derive(Debug, Default)]
pub struct Places {
    file: Option<PathBuf>,
    older: Vec<Place>,
    recent: VecDeque<Place>,
    unwritten: usize,
}

impl Places {
    /// What the file knows, or the one before it. Files that are missing or damaged know nothing.
    pub fn open(file: Option<&Path>) -> Self {
        let read = |path: &Path| -> Option<Vec<Place>> { serde_json::from_slice(&std::fs::read(path).ok()?).ok() };
        let known = file.and_then(|file| read(file).or_else(|| read(&before(file))));
        let mut older = known.unwrap_or_default();
        let recent = older.split_off(older.len().saturating_sub(PLACES_MAX)).into();
        Self { file: file.map(Path::to_owned), older, recent, unwritten: 0 }
    }

    /// The latest known place at or below block `number`.
    pub fn at_or_below(&self, number: u64) -> Option<Place> {
        let mut known = self.recent.iter().rev().chain(self.older.iter().rev());
        known.find(|place| place.number <= number).copied()
    }

    /// Forgets a block and what is after it.
    pub fn forget_from(&mut self, number: u64) {
        while self.recent.back().is_some_and(|place| place.number >= number) {
            self.recent.pop_back();
        }
        while self.older.last().is_some_and(|place| place.number >= number) {
            self.older.pop();
        }
    }

    /// Notes the place of the next block.
    pub fn push(&mut self, place: Place) {
        self.forget_from(place.number);
        self.recent.push_back(place);
        if self.recent.len() > PLACES_MAX
            && let Some(place) = self.recent.pop_front().filter(|place| place.number.is_multiple_of(OLDER_EVERY))
        {
            self.older.push(place);
            if self.older.len() > OLDER_MAX {
                let mut keep = false;
                self.older.retain(|_| {
                    keep = !keep;
                    keep
                });
            }
        }
        self.unwritten += 1;
        if self.unwritten >= WRITE_EVERY
            && let Err(error) = self.write()
        {
            tracing::warn!(%error, "the file of places cannot be written: a restart will take longer");
        }
    }

    /// Writes the file, in one piece or not at all, and so that it outlives a loss of power.
    pub fn write(&mut self) -> io::Result<()> {
        self.unwritten = 0;
        let Some(path) = &self.file else { return Ok(()) };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let all: Vec<Place> = self.older.iter().chain(&self.recent).copied().collect();
        let fresh = path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(&serde_json::to_vec(&all)?)?;
        file.sync_all()?;
        match std::fs::rename(path, before(path)) {
            // The first time there is none.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::rename(fresh, path)?;
        File::open(folder)?.sync_all()
    }
}

/// Where the file before the newest is.
fn before(path: &Path) -> PathBuf {
    path.with_extension("old")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: u64) -> Place {
        Place { number, hash: B256::from(alloy_primitives::U256::from(number)), ms: number * 2_000, taken: 0 }
    }

    #[test]
    fn recent_places_are_all_known_older_ones_some_and_their_number_is_bounded() {
        let folder = std::env::temp_dir().join(format!("lockstep-places-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        let path = folder.join("places.json");
        let mut places = Places::open(Some(&path));
        assert_eq!(places.at_or_below(9), None);
        const HEAD: u64 = 3_000_000;
        places.file = None;
        (1..=HEAD).for_each(|number| places.push(place(number)));
        places.file = Some(path.clone());
        places.write().expect("writes");
        for places in [&places, &Places::open(Some(&path))] {
            for number in [HEAD, HEAD - 5, HEAD - PLACES_MAX as u64 + 1] {
                assert_eq!(places.at_or_below(number), Some(place(number)));
            }
            assert!(places.older.len() <= OLDER_MAX);
            for number in [HEAD - 2_000, HEAD / 2, 10_000] {
                let found = places.at_or_below(number).expect("an older one");
                assert_eq!(found, place(found.number));
                assert!(number - found.number < 64 * OLDER_EVERY, "{number}: {found:?}");
            }
        }
        // A torn file costs sixteen blocks, not the past.
        places.push(place(HEAD + 1));
        places.write().expect("writes");
        std::fs::write(&path, b"[{\"number\":").expect("writes");
        let mut torn = Places::open(Some(&path));
        assert_eq!(torn.at_or_below(u64::MAX), Some(place(HEAD)));
        torn.forget_from(HEAD / 2);
        assert!(torn.at_or_below(u64::MAX).is_some_and(|place| place.number < HEAD / 2));
        std::fs::remove_dir_all(&folder).expect("cleans up");
    }
}
