//! How does the index lie in its file?
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | `schema`, `genesis`, `tip`, `bundles` | version, genesis hash, header bytes, how many bundles |
//! | `records` | state key | record, 256 bytes |
//! | `bundles` | generation, first 16 bytes of the id | height, fee, a bit for each leg's rollup |
//! | `leaves` | rollup, height | borsh of the lane's leaf, where it changed |
//! | `reports` | state key of the account, number | chain before (32 bytes), borsh of the report |
//! | `settlements` | settlement id | borsh of what it moves, its bundle, and when it changed last |
//! | `decisions` | rollup, number | borsh of height, chain before, decision, and what it is of |
//! | `unsettled` | rollup, settlement id | nothing; rows go when every leg was seen applied |
//!
//! Bundle ids are random, and every random key of a transaction costs redb a page. So ids are grouped in generations: an
//! insert touches pages of the last generation alone, and a lookup asks one generation after the other, the newest first.

use std::path::{Path, PathBuf};

use borsh::BorshDeserialize;
use lockstep_protocol::{
    genesis::Genesis,
    header::{HEADER_BYTES, Header},
    ids::{BundleId, Hash32, Height, RollupId, SettlementId},
    lane::LaneLeaf,
    report::Report,
    state::{Key, RECORD_BYTES, Record},
};
use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
};

use super::{
    IndexError,
    layer::{BundleRow, DecisionRow, Layer, ReportRow, SettlementRow},
};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const RECORDS: TableDefinition<&[u8; 32], &[u8; RECORD_BYTES]> = TableDefinition::new("records");
const BUNDLES: TableDefinition<(u32, u128), (u64, u64, u64)> = TableDefinition::new("bundles");
const LEAVES: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("leaves");
const REPORTS: TableDefinition<(&[u8; 32], u64), &[u8]> = TableDefinition::new("reports");
const SETTLEMENTS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("settlements");
const DECISIONS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("decisions");
const UNSETTLED: TableDefinition<(u64, &[u8; 32]), ()> = TableDefinition::new("unsettled");

/// Version of the tables. Another one is refused, and rebuilt.
const SCHEMA: u64 = 2;
/// Bundles of one generation: 10 MB of rows. 100 million bundles are some 400 lookups of a microsecond or two.
const GENERATION_BUNDLES: u64 = 1 << 18;
/// Memory for pages of the file. The layers hold what is hot; this serves history.
const CACHE_BYTES: usize = 16 * 1024 * 1024;
/// Every page of a file up to this size is checked at each start, a quarter of a second. Larger ones are checked after a
/// crash only.
const CHECKED_FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The index's file.
pub(super) struct Store {
    database: Database,
    path: PathBuf,
}

impl Store {
    pub(super) fn open(path: &Path, genesis: &Genesis) -> Result<Self, IndexError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|error| IndexError::Storage { path: folder.to_owned(), detail: error.to_string() })?;
        }
        let small = std::fs::metadata(path).map_or(0, |file| file.len()) <= CHECKED_FILE_BYTES_MAX;
        let opened = Builder::new().set_cache_size(CACHE_BYTES).set_check_integrity_on_open(small).create(path);
        let database = opened.map_err(|error| open_error(path, error))?;
        let store = Self { database, path: path.to_owned() };
        store.check_identity(genesis)?;
        Ok(store)
    }

    /// The header of the last height that is in the file.
    pub(super) fn tip(&self) -> Result<Option<Header>, IndexError> {
        let Some(bytes) = self.meta("tip")? else { return Ok(None) };
        Header::decode(&bytes).map(Some).map_err(|error| self.damaged(error))
    }

    pub(super) fn record(&self, key: &Key) -> Result<Option<Record>, IndexError> {
        let table = self.reading()?.open_table(RECORDS).map_err(|error| self.error(error))?;
        let found = table.get(key).map_err(|error| self.error(error))?;
        Ok(found.map(|record| *record.value()))
    }

    pub(super) fn bundle(&self, id: &BundleId) -> Result<Option<BundleRow>, IndexError> {
        let reading = self.reading()?;
        let table = reading.open_table(BUNDLES).map_err(|error| self.error(error))?;
        let Some((newest, _)) = table.last().map_err(|error| self.error(error))? else { return Ok(None) };
        for generation in (0..=newest.value().0).rev() {
            let found = table.get((generation, prefix(id))).map_err(|error| self.error(error))?;
            if let Some(row) = found {
                let (height, fee, legs) = row.value();
                return Ok(Some(BundleRow { height: Height(height), fee, legs }));
            }
        }
        Ok(None)
    }

    pub(super) fn leaf_at(&self, rollup: RollupId, height: Height) -> Result<Option<LaneLeaf>, IndexError> {
        let table = self.reading()?.open_table(LEAVES).map_err(|error| self.error(error))?;
        let mut range = table.range((rollup.0, 0)..=(rollup.0, height.0)).map_err(|error| self.error(error))?;
        let Some(row) = range.next_back() else { return Ok(None) };
        let (_, leaf) = row.map_err(|error| self.error(error))?;
        LaneLeaf::try_from_slice(leaf.value()).map(Some).map_err(|error| self.damaged(error))
    }

    pub(super) fn lane_heights(&self, rollup: RollupId, from: Height, max: usize) -> Result<Vec<Height>, IndexError> {
        let table = self.reading()?.open_table(LEAVES).map_err(|error| self.error(error))?;
        let range = table.range((rollup.0, from.0)..=(rollup.0, u64::MAX)).map_err(|error| self.error(error))?;
        range
            .take(max)
            .map(|row| row.map(|(key, _)| Height(key.value().1)).map_err(|error| self.error(error)))
            .collect()
    }

    pub(super) fn reports(&self, key: &Key, from: u64, max: usize) -> Result<Vec<(u64, ReportRow)>, IndexError> {
        let table = self.reading()?.open_table(REPORTS).map_err(|error| self.error(error))?;
        let range = table.range((key, from)..=(key, u64::MAX)).map_err(|error| self.error(error))?;
        let mut rows = Vec::new();
        for row in range.take(max) {
            let (key, bytes) = row.map_err(|error| self.error(error))?;
            let (before, report) =
                <(Hash32, Report)>::try_from_slice(bytes.value()).map_err(|error| self.damaged(error))?;
            rows.push((key.value().1, ReportRow { before, report }));
        }
        Ok(rows)
    }

    pub(super) fn settlement(&self, settlement: &SettlementId) -> Result<Option<SettlementRow>, IndexError> {
        let table = self.reading()?.open_table(SETTLEMENTS).map_err(|error| self.error(error))?;
        let found = table.get(&settlement.0).map_err(|error| self.error(error))?;
        let read = |bytes: &[u8]| SettlementRow::try_from_slice(bytes).map_err(|error| self.damaged(error));
        found.map(|row| read(row.value())).transpose()
    }

    pub(super) fn decision(&self, rollup: RollupId, sequence: u64) -> Result<Option<DecisionRow>, IndexError> {
        let table = self.reading()?.open_table(DECISIONS).map_err(|error| self.error(error))?;
        let found = table.get((rollup.0, sequence)).map_err(|error| self.error(error))?;
        let read = |bytes: &[u8]| DecisionRow::try_from_slice(bytes).map_err(|error| self.damaged(error));
        found.map(|row| read(row.value())).transpose()
    }

    /// The first `max` settlements after `after` that wait for something on the rollup.
    pub(super) fn unsettled(
        &self,
        rollup: RollupId,
        after: Option<SettlementId>,
        max: usize,
    ) -> Result<Vec<SettlementId>, IndexError> {
        let table = self.reading()?.open_table(UNSETTLED).map_err(|error| self.error(error))?;
        let first = after.map_or([0; 32], |after| after.0);
        let range = table.range((rollup.0, &first)..=(rollup.0, &[0xff; 32])).map_err(|error| self.error(error))?;
        let mut found = Vec::new();
        for row in range {
            let (key, _) = row.map_err(|error| self.error(error))?;
            let settlement = SettlementId(*key.value().1);
            if found.len() == max {
                break;
            }
            if after != Some(settlement) {
                found.push(settlement);
            }
        }
        Ok(found)
    }

    /// Writes a layer, all of it or nothing, and returns when it would survive a power cut.
    pub(super) fn commit(&self, layer: &Layer) -> Result<(), IndexError> {
        let Some(tip) = &layer.tip else { return Ok(()) };
        let bundles_before = self.number("bundles")?;
        let writing = self.database.begin_write().map_err(|error| self.error(error))?;
        {
            let mut table = writing.open_table(RECORDS).map_err(|error| self.error(error))?;
            // Sorted: neighbours share pages.
            let mut records: Vec<_> = layer.records.iter().collect();
            records.sort_unstable_by_key(|(key, _)| **key);
            for (key, record) in records {
                table.insert(key, record).map_err(|error| self.error(error))?;
            }
            let mut table = writing.open_table(BUNDLES).map_err(|error| self.error(error))?;
            let mut bundles: Vec<_> = layer.bundles.iter().collect();
            bundles.sort_unstable_by_key(|(id, _)| **id);
            let generation = u32::try_from(bundles_before / GENERATION_BUNDLES).unwrap_or(u32::MAX);
            for (id, row) in bundles {
                let row = (row.height.0, row.fee, row.legs);
                table.insert((generation, prefix(id)), row).map_err(|error| self.error(error))?;
            }
            let mut table = writing.open_table(LEAVES).map_err(|error| self.error(error))?;
            for ((rollup, height), leaf) in &layer.leaves {
                table.insert((rollup.0, height.0), encode(leaf).as_slice()).map_err(|error| self.error(error))?;
            }
            let mut table = writing.open_table(REPORTS).map_err(|error| self.error(error))?;
            for ((key, sequence), row) in &layer.reports {
                let bytes = encode(&(row.before, &row.report));
                table.insert((key, *sequence), bytes.as_slice()).map_err(|error| self.error(error))?;
            }
            let mut table = writing.open_table(SETTLEMENTS).map_err(|error| self.error(error))?;
            for (settlement, row) in &layer.settlements {
                table.insert(&settlement.0, encode(row).as_slice()).map_err(|error| self.error(error))?;
            }
            let mut table = writing.open_table(DECISIONS).map_err(|error| self.error(error))?;
            for ((rollup, sequence), row) in &layer.decisions {
                table.insert((rollup.0, *sequence), encode(row).as_slice()).map_err(|error| self.error(error))?;
            }
            let mut table = writing.open_table(UNSETTLED).map_err(|error| self.error(error))?;
            for ((rollup, settlement), open) in &layer.unsettled {
                let key = (rollup.0, &settlement.0);
                if *open { table.insert(key, ()).map(drop) } else { table.remove(key).map(drop) }
                    .map_err(|error| self.error(error))?;
            }
            let mut meta = writing.open_table(META).map_err(|error| self.error(error))?;
            meta.insert("tip", tip.encode().as_slice()).map_err(|error| self.error(error))?;
            let bundles = (bundles_before + layer.bundles.len() as u64).to_be_bytes();
            meta.insert("bundles", bundles.as_slice()).map_err(|error| self.error(error))?;
        }
        writing.commit().map_err(|error| self.error(error))
    }

    /// Makes a new file this network's, or checks that an old one is.
    fn check_identity(&self, genesis: &Genesis) -> Result<(), IndexError> {
        let foreign =
            |expected: String, found: String| Err(IndexError::Foreign { path: self.path.clone(), expected, found });
        let reading = self.reading()?;
        let mut tables = reading.list_tables().map_err(|error| self.error(error))?.peekable();
        if tables.peek().is_none() {
            drop(tables);
            drop(reading);
            return self.make(genesis);
        }
        let expected = format!("an index of schema {SCHEMA} for genesis {}", genesis.hash());
        let Some(schema) = self.meta("schema").ok().flatten() else {
            return foreign(expected, "a database of something else".into());
        };
        let hash = self.meta("genesis")?.unwrap_or_default();
        if schema != SCHEMA.to_be_bytes() {
            return foreign(expected, format!("an index of schema {}", lockstep_protocol::hex::encode(&schema)));
        }
        if hash != genesis.hash().0 {
            return foreign(expected, format!("an index for genesis {}", lockstep_protocol::hex::encode(&hash)));
        }
        Ok(())
    }

    fn make(&self, genesis: &Genesis) -> Result<(), IndexError> {
        let writing = self.database.begin_write().map_err(|error| self.error(error))?;
        {
            let mut meta = writing.open_table(META).map_err(|error| self.error(error))?;
            meta.insert("schema", SCHEMA.to_be_bytes().as_slice()).map_err(|error| self.error(error))?;
            meta.insert("genesis", genesis.hash().0.as_slice()).map_err(|error| self.error(error))?;
            // All tables exist from the start, so that readers need not care.
            writing.open_table(RECORDS).map_err(|error| self.error(error))?;
            writing.open_table(BUNDLES).map_err(|error| self.error(error))?;
            writing.open_table(LEAVES).map_err(|error| self.error(error))?;
            writing.open_table(REPORTS).map_err(|error| self.error(error))?;
            writing.open_table(SETTLEMENTS).map_err(|error| self.error(error))?;
            writing.open_table(DECISIONS).map_err(|error| self.error(error))?;
            writing.open_table(UNSETTLED).map_err(|error| self.error(error))?;
        }
        writing.commit().map_err(|error| self.error(error))
    }

    fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, IndexError> {
        let table = self.reading()?.open_table(META).map_err(|error| self.error(error))?;
        let found = table.get(name).map_err(|error| self.error(error))?;
        Ok(found.map(|bytes| bytes.value().to_vec()))
    }

    fn number(&self, name: &str) -> Result<u64, IndexError> {
        let Some(bytes) = self.meta(name)? else { return Ok(0) };
        let bytes = <[u8; 8]>::try_from(bytes.as_slice()).map_err(|error| self.damaged(error))?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn reading(&self) -> Result<ReadTransaction, IndexError> {
        self.database.begin_read().map_err(|error| self.error(error))
    }

    fn error(&self, error: impl Into<redb::Error>) -> IndexError {
        let path = self.path.clone();
        match error.into() {
            error @ (redb::Error::Corrupted(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableDoesNotExist(_)) => IndexError::Damaged { path, detail: error.to_string() },
            error => IndexError::Storage { path, detail: error.to_string() },
        }
    }

    fn damaged(&self, error: impl std::fmt::Display) -> IndexError {
        IndexError::Damaged { path: self.path.clone(), detail: error.to_string() }
    }
}

const _: () = assert!(HEADER_BYTES == 332, "a change of the header is a change of the schema");

fn open_error(path: &Path, error: DatabaseError) -> IndexError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => IndexError::InUse(path),
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            IndexError::Storage { path, detail: error.to_string() }
        }
        error => IndexError::Damaged { path, detail: error.to_string() },
    }
}

fn prefix(id: &BundleId) -> u128 {
    let mut prefix = [0; 16];
    prefix.copy_from_slice(&id.0[..16]);
    u128::from_be_bytes(prefix)
}

fn encode(value: &impl borsh::BorshSerialize) -> Vec<u8> {
    borsh::to_vec(value).expect("writing to memory does not fail")
}
