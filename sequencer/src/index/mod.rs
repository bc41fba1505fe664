//! What has the log done so far, told fast enough to serve?
//!
//! The serving index is a replay of the log: it executes every final block with the same pure transition as the state, and
//! keeps what questions need. Block bytes stay in the log's archive, proofs in its state. The index owns nothing: all of it
//! can be made again, `lockstep index rebuild` does.
//!
//! * `store`: the file, `layer`: what is not in the file yet, [`settlements`]: what is kept for observers and relayers.
//! * [`follow`]: where blocks come from, [`feed`]: what is made of them for subscribers.
//!
//! New heights are served from memory at once and written to the file about once a second, in one durable transaction. After
//! a crash the index is at most that far behind, and catches up from the archive at start.

pub mod feed;
pub mod follow;
mod layer;
pub mod settlements;
mod store;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use lockstep_protocol::{
    account::AccountRecord,
    body::{Body, CheckedBody, Invalid},
    evidence::Reports,
    genesis::{Genesis, GenesisError, Rules},
    header::Header,
    ids::{Account, BundleId, Hash32, Height, RollupId},
    lane::{LaneEntry, LaneLeaf},
    report::{self, Event, Report},
    state::{Key, LaneRecord, Record, Records, Stored, account_key, lane_key},
    transition::{self, Outcome, Position},
    wire::Wire,
};
use tokio::sync::watch;

use layer::Layer;
use store::Store;

/// Rows in memory before they are written out of turn: some 100 MB of the largest, in practice a tenth of that. Only a node
/// that catches up gets there within a second.
const LAYER_ROWS_MAX: usize = 100_000;

/// The serving index. Cheap to ask from any thread.
pub struct Index {
    rules: Arc<Rules>,
    store: Store,
    live: RwLock<Live>,
    served: watch::Sender<Height>,
}

/// The latest height, and what of it is not in the file yet.
struct Live {
    header: Header,
    lanes: BTreeMap<RollupId, LaneRecord>,
    active: Layer,
    /// Being written to the file.
    frozen: Option<Arc<Layer>>,
}

/// A block as the index has executed it.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Its header.
    pub header: Header,
    /// Its body.
    pub body: CheckedBody,
    /// What it has for each rollup.
    pub entries: BTreeMap<RollupId, Vec<LaneEntry>>,
    /// All lanes after it, by rollup.
    pub leaves: Vec<LaneLeaf>,
    /// What it reports to accounts, in order. Empty when a block is only replayed.
    pub reports: Vec<(Account, Report)>,
}

/// Where an ordered bundle is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// The block that ordered it.
    pub height: Height,
    /// What it paid. Credits.
    pub fee: u64,
    /// The rollups of its legs, ascending.
    pub rollups: Vec<RollupId>,
}

/// Why there is no index, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Another process has the file.
    #[error("{0} is in use: another node runs on this folder; stop it first")]
    InUse(PathBuf),
    /// The file is not a whole index.
    #[error("{path} is damaged, or no index: {detail}. Run `lockstep index rebuild --config FILE`: nothing is lost")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The file is an index of another kind.
    #[error("{path} is {found}, expected {expected}. Run `lockstep index rebuild --config FILE`: nothing is lost")]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// What this node needs.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The file cannot be read or written.
    #[error("cannot use {path}: {detail}")]
    Storage {
        /// Which file.
        path: PathBuf,
        /// What the disk or the database says.
        detail: String,
    },
    /// The genesis is wrong.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// A final block does not continue what was executed.
    #[error("block {found} does not follow block {height} of the index. Run `lockstep index rebuild --config FILE`")]
    Discontinuous {
        /// Where the index stands.
        height: Height,
        /// What came.
        found: Height,
    },
    /// A final block is not valid by our own rules: a broken invariant.
    #[error(
        "final block {height} is invalid by this software's rules: {invalid}. Is this version older than the network's?"
    )]
    Invalid {
        /// Which block.
        height: Height,
        /// Why.
        invalid: Invalid,
    },
    /// A final block does not do what its header says: a broken invariant.
    #[error(
        "replaying final block {height} gives lanes {found}, its header says {expected}. Run `lockstep index rebuild --config FILE`; if that says the same, this version breaks the network's rules"
    )]
    Diverged {
        /// Which block.
        height: Height,
        /// The header's lane root.
        expected: Hash32,
        /// Ours.
        found: Hash32,
    },
    /// The archive does not go back far enough.
    #[error(
        "block {height} is needed to make the index, and this node has not kept it (retention.blocks). Copy the data folder of a validator that keeps all blocks"
    )]
    Missing {
        /// Which block.
        height: Height,
    },
    /// The log has stopped.
    #[error("the log has stopped: its last words are above")]
    LogStopped,
}

impl Index {
    /// Opens the index of a network in `path`, or makes an empty one.
    pub fn open(path: &Path, genesis: &Genesis) -> Result<Self, IndexError> {
        let rules = Arc::new(genesis.rules()?);
        let store = Store::open(path, genesis)?;
        let header = store.tip()?.unwrap_or_else(|| genesis_header(genesis, &rules));
        let mut lanes = BTreeMap::new();
        for rollup in rules.rollups.values() {
            let fresh = LaneRecord { leaf: LaneLeaf::genesis(rules.network, rollup.id), base_fee: rollup.min_base_fee };
            let stored = store.record(&lane_key(rollup.id))?;
            lanes.insert(rollup.id, stored.map_or(fresh, |record| read_record(&record)));
        }
        let served = watch::Sender::new(header.height);
        let live = Live { header, lanes, active: Layer::default(), frozen: None };
        Ok(Self { rules, store, live: RwLock::new(live), served })
    }

    /// The rules of its network.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// The latest height that is served.
    pub fn height(&self) -> Height {
        self.read().header.height
    }

    /// The header of the latest height. At height 0 only what the genesis says is filled in.
    pub fn header(&self) -> Header {
        self.read().header.clone()
    }

    /// The latest height as it moves. A slow watcher skips heights.
    pub fn watch(&self) -> watch::Receiver<Height> {
        self.served.subscribe()
    }

    /// Executes the next final block. What it did is served when this returns.
    pub fn apply(&self, header: &Header, body: &[u8]) -> Result<Applied, IndexError> {
        let parent = self.header();
        let continues = parent.height == Height(0) || header.parent == parent.digest();
        if header.height != parent.height.next() || !continues {
            return Err(IndexError::Discontinuous { height: parent.height, found: header.height });
        }
        let invalid = |invalid| IndexError::Invalid { height: header.height, invalid };
        let body = Body::from_wire(body).map_err(|error| invalid(error.into()))?;
        // Final: a quorum has checked every signature.
        let body = CheckedBody::new(body, &self.rules, |_, _| true).map_err(invalid)?;
        let mut records = Records::new();
        for key in body.keys(&self.rules, header.height) {
            records.insert(key, self.record(&key)?);
        }
        for key in body.more_keys(&self.rules, header.height, &records) {
            records.insert(key, self.record(&key)?);
        }
        let position = Position { parent, timestamp_ms: header.timestamp_ms, l1: header.l1 };
        let outcome = transition::apply(&self.rules, &position, &body, &records).map_err(invalid)?;
        if outcome.lanes != header.lanes {
            let (expected, found) = (header.lanes, outcome.lanes);
            return Err(IndexError::Diverged { height: header.height, expected, found });
        }
        let mut rows = self.rows(header, &body, &records, &outcome);
        self.settlement_rows(header, &body, &records, &outcome, &mut rows)?;
        {
            let mut live = self.write();
            for rollup in self.rules.rollups.keys() {
                if let Some(record) = outcome.writes.get(&lane_key(*rollup)) {
                    live.lanes.insert(*rollup, read_record(record));
                }
            }
            live.header = header.clone();
            live.active.merge(rows);
        }
        self.served.send_replace(header.height);
        let Outcome { entries, leaves, reports, .. } = outcome;
        Ok(Applied { header: header.clone(), body, entries, leaves, reports })
    }

    /// Executes a block again that the index has passed, as far as its lanes go: what [`apply`](Self::apply) gave then.
    pub fn replay(&self, header: &Header, body: &[u8]) -> Result<Applied, IndexError> {
        let invalid = |invalid| IndexError::Invalid { height: header.height, invalid };
        let body = Body::from_wire(body).map_err(|error| invalid(error.into()))?;
        let body = CheckedBody::new(body, &self.rules, |_, _| true).map_err(invalid)?;
        let leaves = self.leaves_at(header.height)?;
        let lanes = transition::lane_root(&leaves);
        if lanes != header.lanes {
            return Err(IndexError::Diverged { height: header.height, expected: header.lanes, found: lanes });
        }
        Ok(Applied { header: header.clone(), entries: entries(&body), body, leaves, reports: Vec::new() })
    }

    /// Writes to the file what is served from memory only. One caller at a time.
    pub fn flush(&self) -> Result<(), IndexError> {
        let layer = {
            let mut live = self.write();
            if live.frozen.is_none() && live.active.tip.is_some() {
                live.frozen = Some(Arc::new(std::mem::take(&mut live.active)));
            }
            live.frozen.clone()
        };
        if let Some(layer) = layer {
            self.store.commit(&layer)?;
            self.write().frozen = None;
        }
        Ok(())
    }

    /// Whether so much waits in memory that it should be written at once.
    pub fn is_heavy(&self) -> bool {
        self.read().active.rows() >= LAYER_ROWS_MAX
    }

    /// An account's record.
    pub fn account(&self, account: &Account) -> Result<Option<AccountRecord>, IndexError> {
        Ok(self.record(&account_key(account))?.map(|record| read_record(&record)))
    }

    /// A lane's record.
    pub fn lane(&self, rollup: RollupId) -> Option<LaneRecord> {
        self.read().lanes.get(&rollup).copied()
    }

    /// Where a bundle was ordered, if it was.
    pub fn bundle(&self, id: &BundleId) -> Result<Option<Ordered>, IndexError> {
        let live = self.read();
        let row = match live.layers().find_map(|layer| layer.bundles.get(id)) {
            Some(row) => Some(*row),
            None => self.store.bundle(id)?,
        };
        let rollups = |legs: u64| self.rules.rollups.keys().enumerate().filter(move |(bit, _)| legs >> bit & 1 == 1);
        Ok(row.map(|row| Ordered {
            height: row.height,
            fee: row.fee,
            rollups: rollups(row.legs).map(|(_, rollup)| *rollup).collect(),
        }))
    }

    /// A lane as of `height`, which must not be above the served one.
    pub fn leaf_at(&self, rollup: RollupId, height: Height) -> Result<LaneLeaf, IndexError> {
        let live = self.read();
        let range = (rollup, Height(0))..=(rollup, height);
        for layer in live.layers() {
            if let Some((_, leaf)) = layer.leaves.range(range.clone()).next_back() {
                return Ok(*leaf);
            }
        }
        let stored = self.store.leaf_at(rollup, height)?;
        Ok(stored.unwrap_or_else(|| LaneLeaf::genesis(self.rules.network, rollup)))
    }

    /// All lanes as of `height`, by rollup.
    pub fn leaves_at(&self, height: Height) -> Result<Vec<LaneLeaf>, IndexError> {
        self.rules.rollups.keys().map(|rollup| self.leaf_at(*rollup, height)).collect()
    }

    /// The first `max` heights from `from` at which the lane has something.
    pub fn lane_heights(&self, rollup: RollupId, from: Height, max: usize) -> Result<Vec<Height>, IndexError> {
        let live = self.read();
        // A height may be in the file and still in a layer: the map keeps one of it.
        let mut heights: BTreeMap<Height, ()> =
            self.store.lane_heights(rollup, from, max)?.into_iter().map(|height| (height, ())).collect();
        for layer in live.layers() {
            let range = layer.leaves.range((rollup, from)..=(rollup, Height(u64::MAX)));
            heights.extend(range.take(max).map(|((_, height), _)| (*height, ())));
        }
        Ok(heights.into_keys().take(max).collect())
    }

    /// At most `max` of an account's reports, from number `from` (the first is 1).
    pub fn reports(&self, account: &Account, from: u64, max: usize) -> Result<Reports, IndexError> {
        let key = account_key(account);
        let from = from.max(1);
        let live = self.read();
        let mut rows: BTreeMap<u64, layer::ReportRow> = self.store.reports(&key, from, max)?.into_iter().collect();
        for layer in live.layers() {
            let range = layer.reports.range((key, from)..=(key, u64::MAX));
            rows.extend(range.take(max).map(|((_, sequence), row)| (*sequence, row.clone())));
        }
        drop(live);
        let before = match rows.first_key_value() {
            Some((_, row)) => row.before,
            None => match self.account(account)? {
                Some(record) => record.reports,
                None => AccountRecord::new(self.rules.network, *account).reports,
            },
        };
        Ok(Reports { before, reports: rows.into_values().take(max).map(|row| row.report).collect() })
    }

    fn record(&self, key: &Key) -> Result<Option<Record>, IndexError> {
        let live = self.read();
        match live.layers().find_map(|layer| layer.records.get(key)) {
            Some(record) => Ok(Some(*record)),
            None => self.store.record(key),
        }
    }

    /// What a block adds to the index.
    fn rows(&self, header: &Header, body: &CheckedBody, before: &Records, outcome: &Outcome) -> Layer {
        let height = header.height;
        let mut layer = Layer { tip: Some(header.clone()), ..Layer::default() };
        layer.records.extend(outcome.writes.iter().map(|(key, record)| (*key, *record)));
        let changed = outcome
            .leaves
            .iter()
            .filter(|leaf| outcome.entries.contains_key(&leaf.rollup) || outcome.decisions.contains_key(&leaf.rollup));
        layer.leaves.extend(changed.map(|leaf| ((leaf.rollup, height), *leaf)));
        let mut chains: HashMap<Account, Hash32> = HashMap::new();
        let mut fees: HashMap<BundleId, u64> = HashMap::new();
        for (account, report) in &outcome.reports {
            let key = account_key(account);
            let chain = chains.entry(*account).or_insert_with(|| match before.get(&key).copied().flatten() {
                Some(record) => read_record::<AccountRecord>(&record).reports,
                None => AccountRecord::new(self.rules.network, *account).reports,
            });
            let row = layer::ReportRow { before: *chain, report: report.clone() };
            *chain = report::chain(*chain, report);
            layer.reports.insert((key, report.sequence), row);
            if let Report { event: Event::Ordered { bundle, fee, .. }, .. } = report {
                fees.insert(*bundle, *fee);
            }
        }
        let bits: HashMap<_, _> = self.rules.rollups.keys().copied().zip(0_u32..).collect();
        for bundle in body.bundles() {
            let legs = bundle.signed().bundle.legs.iter().fold(0, |legs, leg| legs | 1 << bits[&leg.rollup]);
            let fee = fees.get(&bundle.id()).copied().expect("every ordered bundle is reported");
            layer.bundles.insert(bundle.id(), layer::BundleRow { height, fee, legs });
        }
        layer
    }

    fn read(&self) -> RwLockReadGuard<'_, Live> {
        self.live.read().expect("nobody panics while holding the index")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Live> {
        self.live.write().expect("nobody panics while holding the index")
    }
}

impl Live {
    /// Layers, newest first.
    fn layers(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.active).chain(self.frozen.as_deref())
    }
}

/// What a body has for each rollup.
fn entries(body: &CheckedBody) -> BTreeMap<RollupId, Vec<LaneEntry>> {
    let mut entries: BTreeMap<RollupId, Vec<LaneEntry>> = BTreeMap::new();
    for bundle in body.bundles() {
        for leg in &bundle.signed().bundle.legs {
            let content = lockstep_protocol::lane::content(&leg.transactions);
            entries.entry(leg.rollup).or_default().push(LaneEntry::Leg { bundle: bundle.id(), content });
        }
    }
    entries
}

/// What the first block needs to know of its parent.
fn genesis_header(genesis: &Genesis, rules: &Rules) -> Header {
    Header {
        network: rules.network,
        timestamp_ms: genesis.timestamp_ms,
        body: genesis.hash(),
        lanes: transition::genesis_lanes(rules),
        ..Header::default()
    }
}

fn read_record<T: Stored>(record: &Record) -> T {
    T::from_record(record).expect("records of the index are of the kind that their key says")
}

#[cfg(test)]
mod tests;
