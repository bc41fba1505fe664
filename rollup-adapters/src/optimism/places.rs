//! How far is the lane in the chain, at each of the latest blocks?
//!
//! Mostly the block's own timestamp says it: everything up to it. After a block that was full it does not, so the driver keeps
//! the places of recent blocks in a small file. The file is a shortcut and not a truth: without it, or if it does not know the
//! chain's head, the places are found again by counting the lane from the last block that is known, at worst from genesis.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
};

use alloy_primitives::B256;
use serde::{Deserialize, Serialize};

use crate::LaneCursor;

/// Blocks whose places are kept: more than the deepest reorganisation of L1 that is followed takes back.
const PLACES_MAX: usize = 1_024;
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

/// The places of recent blocks.
#[derive(Debug, Default)]
pub struct Places {
    file: Option<PathBuf>,
    recent: VecDeque<Place>,
    unwritten: usize,
}

impl Places {
    /// What the file knows. A file that is missing or damaged knows nothing.
    pub fn open(file: Option<&Path>) -> Self {
        let recent =
            file.and_then(|file| std::fs::read(file).ok()).and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { file: file.map(Path::to_owned), recent: recent.unwrap_or_default(), unwritten: 0 }
    }

    /// The latest known place at or below block `number`.
    pub fn at_or_below(&self, number: u64) -> Option<Place> {
        self.recent.iter().rev().find(|place| place.number <= number).copied()
    }

    /// Forgets a block and what is after it.
    pub fn forget_from(&mut self, number: u64) {
        while self.recent.back().is_some_and(|place| place.number >= number) {
            self.recent.pop_back();
        }
    }

    /// Notes the place of the next block.
    pub fn push(&mut self, place: Place) {
        self.forget_from(place.number);
        self.recent.push_back(place);
        if self.recent.len() > PLACES_MAX {
            self.recent.pop_front();
        }
        self.unwritten += 1;
        if self.unwritten >= WRITE_EVERY
            && let Err(error) = self.write()
        {
            tracing::warn!(%error, "the file of places cannot be written: a restart will take longer");
        }
    }

    /// Writes the file, in one piece or not at all.
    pub fn write(&mut self) -> io::Result<()> {
        self.unwritten = 0;
        let Some(file) = &self.file else { return Ok(()) };
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let fresh = file.with_extension("new");
        std::fs::write(&fresh, serde_json::to_vec(&self.recent)?)?;
        std::fs::rename(fresh, file)
    }
}
