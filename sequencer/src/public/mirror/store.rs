//! Where does a mirror keep the lanes that it has verified?
//!
//! In one redb file: items under (rollup, height), so that each lane grows at one end, and one commit for a batch. It holds
//! what was verified before it came here, and checks nothing again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{FutureExt, future::BoxFuture};
use lockstep_protocol::{
    genesis::Genesis,
    ids::{Height, RollupId},
    lane::LaneItem,
    rpc::{LanePage, QueryError},
    wire::{Wire, WireError},
};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::broadcast;

use crate::public::LaneSource;

/// Items by rollup and height, as envelopes.
const ITEMS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("items");
/// Whose items these are: under `genesis`, the hash of it.
const NETWORK: TableDefinition<&str, &[u8]> = TableDefinition::new("network");
/// Items that a subscriber may be behind before it is told so.
const MAX_SUBSCRIBER_LAG: usize = 256;
/// Memory for pages of the file: mirrors read what is new, and that is hot.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// A mirror's lanes. Cheap to clone.
#[derive(Clone)]
pub struct MirrorStore {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    tips: Mutex<BTreeMap<RollupId, Tip>>,
    items: broadcast::Sender<Arc<LaneItem>>,
}

/// How far a lane is known.
#[derive(Default)]
struct Tip {
    height: Height,
    /// The proof that nothing came after the last item. In memory alone: a fresh one is asked for at every start.
    proof: Option<Arc<LaneItem>>,
}

/// Why a mirror's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened, read or written.
    #[error("the mirror's file: {0}")]
    Database(Box<redb::Error>),
    /// The file is of another network.
    #[error("{0} holds the lanes of another network: choose another folder")]
    WrongNetwork(PathBuf),
    /// The file holds what was never written to it.
    #[error("the item of rollup {rollup} at height {height} cannot be read back: {error}")]
    Damaged {
        /// Whose.
        rollup: RollupId,
        /// Where.
        height: Height,
        /// Why not.
        error: WireError,
    },
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

impl MirrorStore {
    /// Opens the file, or makes it, for `rollups` of the network.
    pub fn open(path: &Path, genesis: &Genesis, rollups: &BTreeSet<RollupId>) -> Result<Self, StoreError> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
        let expected = genesis.hash().0;
        let write = database.begin_write()?;
        {
            write.open_table(ITEMS)?;
            let mut network = write.open_table(NETWORK)?;
            let found = network.get("genesis")?.map(|hash| hash.value().to_vec());
            match found {
                Some(found) if found != expected => return Err(StoreError::WrongNetwork(path.to_owned())),
                Some(_) => {}
                None => {
                    network.insert("genesis", expected.as_slice())?;
                }
            }
        }
        write.commit()?;
        let (items, _) = broadcast::channel(MAX_SUBSCRIBER_LAG);
        let inner = Inner { database, tips: Mutex::default(), items };
        let store = Self { inner: Arc::new(inner) };
        for rollup in rollups {
            let height = store.inner.latest(*rollup)?.map_or(Height(0), |item| item.header.height);
            store.inner.tips().insert(*rollup, Tip { height, proof: None });
        }
        Ok(store)
    }

    /// Keeps verified items, each lane's in order: all in one commit.
    pub fn keep(&self, items: &[Arc<LaneItem>]) -> Result<(), StoreError> {
        let with_entries = || items.iter().filter(|item| !item.entries.is_empty());
        if with_entries().next().is_some() {
            let write = self.inner.database.begin_write()?;
            {
                let mut table = write.open_table(ITEMS)?;
                for item in with_entries() {
                    let key = (item.leaf.rollup.0, item.header.height.0);
                    table.insert(key, item.to_wire().as_slice())?;
                }
            }
            write.commit()?;
        }
        {
            let mut tips = self.inner.tips();
            for item in items {
                let tip = tips.entry(item.leaf.rollup).or_default();
                tip.height = tip.height.max(item.header.height);
                tip.proof = item.entries.is_empty().then(|| Arc::clone(item));
            }
        }
        for item in with_entries() {
            // Nobody may be listening.
            let _ = self.inner.items.send(Arc::clone(item));
        }
        Ok(())
    }

    /// Up to which height a lane is kept.
    pub fn height(&self, rollup: RollupId) -> Height {
        self.inner.tips().get(&rollup).map_or(Height(0), |tip| tip.height)
    }
}

impl LaneSource for MirrorStore {
    fn page(
        &self,
        rollup: RollupId,
        from_height: Height,
        max_items: usize,
    ) -> BoxFuture<'_, Result<LanePage, QueryError>> {
        self.read(move |inner| inner.page(rollup, from_height, max_items))
    }

    fn latest(&self, rollup: RollupId) -> BoxFuture<'_, Result<Option<LaneItem>, QueryError>> {
        self.read(move |inner| inner.latest(rollup).map_err(unreadable))
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<LaneItem>> {
        self.inner.items.subscribe()
    }
}

impl MirrorStore {
    /// Reads beside the runtime: a read may wait for the disk.
    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Inner) -> Result<T, QueryError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, QueryError>> {
        let inner = Arc::clone(&self.inner);
        async move {
            let done = tokio::task::spawn_blocking(move || read(&inner)).await;
            done.unwrap_or_else(|_| Err(QueryError::NotReady { detail: "the mirror is stopping".into() }))
        }
        .boxed()
    }
}

impl Inner {
    fn page(&self, rollup: RollupId, from_height: Height, max_items: usize) -> Result<LanePage, QueryError> {
        // The tip before the items: what is kept in between is then a later page, not a hole in this one.
        let (height, proof) = match self.tips().get(&rollup) {
            Some(tip) => (tip.height, tip.proof.clone()),
            None => {
                return Err(QueryError::NotReady { detail: format!("this mirror does not follow rollup {rollup}") });
            }
        };
        if from_height > height {
            return Err(QueryError::AheadOfTip { height: from_height, tip: height });
        }
        let items = self.items(rollup, from_height, max_items).map_err(unreadable)?;
        let last = items.last().map_or(Height(0), |item| item.header.height);
        if items.len() >= max_items {
            return Ok(LanePage { items, tip: None, next_height: last.next() });
        }
        let proof = proof.filter(|proof| proof.header.height > last);
        let next_height = height.max(last).next();
        Ok(LanePage { items, tip: proof.as_deref().cloned(), next_height })
    }

    fn items(&self, rollup: RollupId, from: Height, max_items: usize) -> Result<Vec<LaneItem>, StoreError> {
        let table = self.database.begin_read()?.open_table(ITEMS)?;
        let range = table.range((rollup.0, from.0)..=(rollup.0, u64::MAX))?;
        range
            .take(max_items)
            .map(|row| {
                let (key, value) = row?;
                decode(key.value(), value.value())
            })
            .collect()
    }

    fn latest(&self, rollup: RollupId) -> Result<Option<LaneItem>, StoreError> {
        let table = self.database.begin_read()?.open_table(ITEMS)?;
        let row = table.range((rollup.0, 0)..=(rollup.0, u64::MAX))?.next_back();
        row.map(|row| {
            let (key, value) = row?;
            decode(key.value(), value.value())
        })
        .transpose()
    }

    fn tips(&self) -> MutexGuard<'_, BTreeMap<RollupId, Tip>> {
        // Every update of a tip is a whole one, so a panic elsewhere leaves nothing half done.
        self.tips.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn decode((rollup, height): (u64, u64), bytes: &[u8]) -> Result<LaneItem, StoreError> {
    let (rollup, height) = (RollupId(rollup), Height(height));
    LaneItem::from_wire(bytes).map_err(|error| StoreError::Damaged { rollup, height, error })
}

fn unreadable(error: StoreError) -> QueryError {
    tracing::error!(%error, "a lane cannot be read");
    QueryError::NotReady { detail: "the mirror cannot read this lane".into() }
}
