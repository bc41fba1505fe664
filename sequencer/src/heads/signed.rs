//! Which blocks has this validator signed, so that it never signs another in their place?
//!
//! One entry for each rollup, incarnation and number, in a file that is on disk before a signature leaves. Bounded: what is far
//! below the newest is forgotten, and never signed again. Knows no rollup node and no rule but that one.

use std::path::{Path, PathBuf};

use lockstep_protocol::settlement::Head;
use redb::{Database, ReadableTable, TableDefinition};

/// By rollup, incarnation and number: a hash over the block's hash and its state root.
const SIGNED: TableDefinition<(u64, u32, u64), &[u8; 32]> = TableDefinition::new("signed");
/// Numbers of an incarnation that are remembered: an hour of blocks at 18 a second, far longer than L1 takes to finalize. About
/// 5 MB for each rollup.
const NUMBERS_MAX: u64 = 65_536;
/// Memory for pages of the file.
const CACHE_BYTES: usize = 1024 * 1024;

/// The record of what was signed.
pub(crate) struct Signed {
    database: Database,
    path: PathBuf,
}

/// The record cannot be kept: nothing may be signed.
#[derive(Debug, thiserror::Error)]
#[error("the record of signed heads, {path}: {detail}")]
pub struct SignedError {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong.
    pub detail: String,
}

impl Signed {
    /// Opens the record, or begins one.
    pub(crate) fn open(path: &Path) -> Result<Self, SignedError> {
        let failed = |detail: String| SignedError { path: path.to_owned(), detail };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
        }
        let opened = redb::Builder::new().set_cache_size(CACHE_BYTES).create(path);
        let database = opened.map_err(|error| failed(error.to_string()))?;
        Ok(Self { database, path: path.to_owned() })
    }

    /// Those heads that may be signed. They are on disk when this returns.
    pub(crate) fn admit(&self, heads: &[Head]) -> Result<Vec<Head>, SignedError> {
        self.try_admit(heads).map_err(|error| SignedError { path: self.path.clone(), detail: error.to_string() })
    }

    fn try_admit(&self, heads: &[Head]) -> Result<Vec<Head>, redb::Error> {
        let write = self.database.begin_write()?;
        let mut admitted = Vec::with_capacity(heads.len());
        let mut changed = false;
        {
            let mut table = write.open_table(SIGNED)?;
            for head in heads {
                let (rollup, incarnation, number) = (head.rollup.0, head.incarnation, head.number);
                let block = *blake3::hash(&[head.block_hash.0, head.state_root.0].concat()).as_bytes();
                let before = table.get((rollup, incarnation, number))?.map(|entry| *entry.value());
                if let Some(before) = before {
                    if before == block {
                        admitted.push(*head);
                    }
                    continue;
                }
                let newest = |range| -> Result<Option<(u64, u32, u64)>, redb::Error> {
                    Ok(table.range::<(u64, u32, u64)>(range)?.next_back().transpose()?.map(|(key, _)| key.value()))
                };
                // What is so old may have been signed and forgotten.
                let latest = newest((rollup, 0, 0)..=(rollup, u32::MAX, u64::MAX))?;
                let highest = newest((rollup, incarnation, 0)..=(rollup, incarnation, u64::MAX))?;
                let past = latest.is_some_and(|(_, latest, _)| incarnation.saturating_add(1) < latest)
                    || highest.is_some_and(|(_, _, highest)| number.saturating_add(NUMBERS_MAX) <= highest);
                if past {
                    continue;
                }
                table.insert((rollup, incarnation, number), &block)?;
                changed = true;
                admitted.push(*head);
                let highest = highest.map_or(number, |(_, _, highest)| highest.max(number));
                let oldest = (rollup, incarnation, 0)..(rollup, incarnation, highest.saturating_sub(NUMBERS_MAX - 1));
                table.retain_in(oldest, |_, _| false)?;
                if let Some(before) = incarnation.checked_sub(2) {
                    table.retain_in((rollup, 0, 0)..=(rollup, before, u64::MAX), |_, _| false)?;
                }
            }
        }
        if changed {
            write.commit()?;
        } else {
            write.abort()?;
        }
        Ok(admitted)
    }
}

#[cfg(test)]
mod tests;
