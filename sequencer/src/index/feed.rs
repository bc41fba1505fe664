//! What does the feed carry?
//!
//! Assembles headers and lane items with their proofs, from the index, the log's archive and its certificates. Each is made
//! once and kept for a while, typed and as JSON, however many subscribers take it. Who gets it is not decided here.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};

use lockstep_consensus::handle::Handle;
use lockstep_protocol::{
    bundle::Transaction,
    certificate::Finality,
    ids::{Height, RollupId},
    lane::{LaneItem, LaneLeaf},
    rpc::{FinalHeader, LanePage, QueryError},
    tree::Tree,
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::OnceCell;

use super::{Applied, Index, IndexError};

/// Bytes of bodies kept as they were executed: live subscribers take them from here, at some hundred blocks behind from the
/// archive.
const RECENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of items and headers kept, with their JSON.
const CACHE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Headers kept. Each takes about 3 KB with its JSON.
const HEADER_BYTES: usize = 3 * 1024;
/// Pause between looks for the certificate of a block at the tip.
const FINALITY_RETRY: Duration = Duration::from_millis(10);
/// Looks for it: two seconds, many blocks.
const FINALITY_TRIES: u32 = 200;
/// JSON bytes after which a page ends: it fits a response with room for one more item of the largest size.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Something that is served to many: made once, written as JSON once.
#[derive(Debug)]
pub struct Served<T> {
    value: T,
    json: OnceLock<Box<RawValue>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The question has no answer here.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// A page of a lane, each item with its JSON.
pub struct Page {
    /// See [`LanePage::items`].
    pub items: Vec<Arc<Served<LaneItem>>>,
    /// See [`LanePage::tip`].
    pub tip: Option<Arc<Served<LaneItem>>>,
    /// See [`LanePage::next_height`].
    pub next_height: Height,
}

/// The feed of all lanes.
pub struct Feed {
    index: Arc<Index>,
    log: Handle,
    recent: Mutex<Recent>,
    items: Cache<(RollupId, Height, Content), LaneItem>,
    headers: Cache<Height, FinalHeader>,
}

/// Whether an item comes with what the block has for the lane, or as proof of the lane's leaf alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Content {
    Full,
    Bare,
}

#[derive(Default)]
struct Recent {
    blocks: VecDeque<(Arc<Applied>, usize)>,
    bytes: usize,
}

impl<T: Serialize> Served<T> {
    fn new(value: T) -> Self {
        Self { value, json: OnceLock::new() }
    }

    /// The value itself.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Its JSON.
    pub fn json(&self) -> &RawValue {
        self.json.get_or_init(|| to_raw_value(&self.value).expect("what is served has a JSON form"))
    }
}

impl Feed {
    /// A feed of what `index` has executed and `log` has finalized.
    pub fn new(index: Arc<Index>, log: Handle) -> Self {
        let (items, headers) = (Cache::new(CACHE_BYTES_MAX), Cache::new(CACHE_BYTES_MAX / 8));
        Self { index, log, recent: Mutex::default(), items, headers }
    }

    /// Remembers a block that the index has just executed.
    pub fn push(&self, applied: Arc<Applied>) {
        let bytes = applied.body.bundles().iter().map(|bundle| bundle.bytes()).sum::<u64>();
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).saturating_add(1024);
        let mut recent = self.recent();
        recent.blocks.push_back((applied, bytes));
        recent.bytes += bytes;
        while recent.bytes > RECENT_BYTES_MAX {
            let (_, bytes) = recent.blocks.pop_front().expect("what has bytes has blocks");
            recent.bytes -= bytes;
        }
    }

    /// The index behind it.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// A header with the proof that it is final.
    pub async fn header(&self, height: Height) -> Result<Arc<Served<FinalHeader>>, FeedError> {
        self.check_height(height)?;
        let make = async {
            let header = match self.find_recent(height) {
                Some(applied) => applied.header.clone(),
                None => match self.log.block(height).await {
                    Some(block) => block.header().clone(),
                    None => return Err(self.absent(height).await.into()),
                },
            };
            let finality = self.finality(height).await?;
            Ok(FinalHeader { digest: header.digest(), header, finality })
        };
        self.headers.get(height, make, |_| HEADER_BYTES).await
    }

    /// What the block at `height` has for a rollup, with its proof. Without entries where it has nothing.
    pub async fn item(&self, rollup: RollupId, height: Height) -> Result<Arc<Served<LaneItem>>, FeedError> {
        self.check_rollup(rollup)?;
        self.check_height(height)?;
        let make = async {
            let applied = self.applied(height).await?;
            let entries = applied.entries.get(&rollup).cloned().unwrap_or_default();
            let transactions = transactions(&applied, rollup);
            let finality = self.finality(height).await?;
            Ok(proven(&applied.header, finality, &applied.leaves, rollup, |item| {
                item.entries = entries;
                item.transactions = transactions;
            }))
        };
        self.items.get((rollup, height, Content::Full), make, item_bytes).await
    }

    /// The lane as of `height`, proven, without what the block has for it.
    pub async fn bare_item(&self, rollup: RollupId, height: Height) -> Result<Arc<Served<LaneItem>>, FeedError> {
        self.check_rollup(rollup)?;
        self.check_height(height)?;
        let make = async {
            let header = self.header(height).await?;
            let leaves = self.index.leaves_at(height)?;
            let FinalHeader { header, finality, .. } = header.value().clone();
            Ok(proven(&header, finality, &leaves, rollup, |_| ()))
        };
        self.items.get((rollup, height, Content::Bare), make, item_bytes).await
    }

    /// At most `max` items with entries, from a height. See [`LanePage`].
    pub async fn page(&self, rollup: RollupId, from: Height, max: usize) -> Result<Page, FeedError> {
        self.check_rollup(rollup)?;
        let tip = self.index.height();
        let from = from.max(Height(1));
        if from > tip {
            return Err(QueryError::AheadOfTip { height: from, tip }.into());
        }
        // One more than asked for tells whether the page reaches the tip.
        let mut heights = self.index.lane_heights(rollup, from, max.saturating_add(1))?;
        heights.retain(|height| *height <= tip);
        let mut whole = heights.len() <= max;
        let mut items = Vec::new();
        let mut bytes = 0;
        for height in heights.into_iter().take(max) {
            if bytes > PAGE_BYTES_MAX {
                whole = false;
                break;
            }
            let item = self.item(rollup, height).await?;
            bytes += item.json().get().len();
            items.push(item);
        }
        let last = items.last().map(|item| item.value().header.height);
        if !whole {
            let next_height = last.map_or(from, Height::next);
            return Ok(Page { items, tip: None, next_height });
        }
        let proof = self.bare_item(rollup, tip).await?;
        Ok(Page { items, tip: Some(proof), next_height: tip.next() })
    }

    async fn applied(&self, height: Height) -> Result<Arc<Applied>, FeedError> {
        if let Some(applied) = self.find_recent(height) {
            return Ok(applied);
        }
        match self.log.block(height).await {
            Some(block) => Ok(Arc::new(self.index.replay(block.header(), block.body())?)),
            None => Err(self.absent(height).await.into()),
        }
    }

    /// Why the block at `height` is final.
    pub async fn finality(&self, height: Height) -> Result<Finality, FeedError> {
        for _ in 0..FINALITY_TRIES {
            if let Some(finality) = self.log.finality(height).await {
                return Ok(finality);
            }
            if self.log.block(height).await.is_none() {
                break;
            }
            // The block was executed because a descendant is final, whose certificate is still on its way to the archive.
            tokio::time::sleep(FINALITY_RETRY).await;
        }
        Err(self.absent(height).await.into())
    }

    /// Why a height up to the tip is not there.
    async fn absent(&self, height: Height) -> QueryError {
        let tip = self.log.tip().height;
        // A log that runs has its tip.
        if self.log.block(tip).await.is_none() {
            return QueryError::NotReady { detail: "the node is stopping".into() };
        }
        if self.log.block(height).await.is_some() {
            return QueryError::NotReady { detail: format!("the certificate of height {height} has not arrived yet") };
        }
        // What is kept is an unbroken range up to the tip.
        let (mut absent, mut kept) = (height.0, tip.0);
        while absent + 1 < kept {
            let middle = absent + (kept - absent) / 2;
            match self.log.block(Height(middle)).await {
                Some(_) => kept = middle,
                None => absent = middle,
            }
        }
        QueryError::Pruned { height, oldest: Height(kept) }
    }

    fn check_rollup(&self, rollup: RollupId) -> Result<(), QueryError> {
        match self.index.rules().rollups.contains_key(&rollup) {
            true => Ok(()),
            false => Err(QueryError::UnknownRollup { rollup }),
        }
    }

    fn check_height(&self, height: Height) -> Result<(), QueryError> {
        let tip = self.index.height();
        if height > tip {
            return Err(QueryError::AheadOfTip { height, tip });
        }
        if height == Height(0) {
            return Err(QueryError::BadRequest {
                detail: "the first block has height 1; block 0 is the genesis".into(),
            });
        }
        Ok(())
    }

    fn find_recent(&self, height: Height) -> Option<Arc<Applied>> {
        let recent = self.recent();
        let first = recent.blocks.front()?.0.header.height;
        let place = usize::try_from(height.0.checked_sub(first.0)?).ok()?;
        recent.blocks.get(place).map(|(applied, _)| applied.clone())
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().expect("nobody panics while holding the recent blocks")
    }
}

impl Page {
    /// The page as the protocol has it.
    pub fn to_lane_page(&self) -> LanePage {
        LanePage {
            items: self.items.iter().map(|item| item.value().clone()).collect(),
            tip: self.tip.as_ref().map(|item| item.value().clone()),
            next_height: self.next_height,
        }
    }

    /// The JSON of a [`LanePage`], from that of its items.
    pub fn to_json(&self) -> Box<RawValue> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Json<'a> {
            items: Vec<&'a RawValue>,
            tip: Option<&'a RawValue>,
            next_height: Height,
        }
        let items = self.items.iter().map(|item| item.json()).collect();
        let tip = self.tip.as_ref().map(|item| item.json());
        to_raw_value(&Json { items, tip, next_height: self.next_height }).expect("a page has a JSON form")
    }
}

fn proven(
    header: &lockstep_protocol::header::Header,
    finality: Finality,
    leaves: &[LaneLeaf],
    rollup: RollupId,
    fill: impl FnOnce(&mut LaneItem),
) -> LaneItem {
    let leaf = leaves.iter().find(|leaf| leaf.rollup == rollup).expect("every rollup has a leaf");
    let tree = Tree::new(leaves.iter().map(LaneLeaf::hash).collect()).expect("a network has a rollup");
    let path = tree.path(leaf.hash()).expect("the leaf is in its tree");
    let (entries, transactions) = (Vec::new(), Vec::new());
    let mut item = LaneItem { header: header.clone(), finality, leaf: *leaf, path, entries, transactions };
    fill(&mut item);
    item
}

fn transactions(applied: &Applied, rollup: RollupId) -> Vec<Vec<Transaction>> {
    let legs = applied.body.bundles().iter().flat_map(|bundle| &bundle.signed().bundle.legs);
    legs.filter(|leg| leg.rollup == rollup).map(|leg| leg.transactions.clone()).collect()
}

/// Memory of an item: its bytes, their hexadecimal, and what stands around them.
fn item_bytes(item: &LaneItem) -> usize {
    let transactions = item.transactions.iter().flatten().map(|transaction| 4 * transaction.0.len() + 64);
    HEADER_BYTES * (1 + item.finality.descendants.len()) + 256 * item.entries.len() + transactions.sum::<usize>()
}

/// Values by key, made once however many ask at the same time; the oldest go when they are too many.
struct Cache<K, T> {
    entries: Mutex<Entries<K, T>>,
    bytes_max: usize,
}

struct Entries<K, T> {
    values: HashMap<K, Arc<OnceCell<Arc<Served<T>>>>>,
    order: VecDeque<(K, usize)>,
    bytes: usize,
}

impl<K: Clone + Eq + Hash, T: Serialize> Cache<K, T> {
    fn new(bytes_max: usize) -> Self {
        Self { entries: Mutex::new(Entries { values: HashMap::new(), order: VecDeque::new(), bytes: 0 }), bytes_max }
    }

    async fn get(
        &self,
        key: K,
        make: impl Future<Output = Result<T, FeedError>>,
        weigh: impl FnOnce(&T) -> usize,
    ) -> Result<Arc<Served<T>>, FeedError> {
        let cell = self.lock().values.entry(key.clone()).or_default().clone();
        let mut weight = None;
        let made = cell
            .get_or_try_init(|| async {
                let value = make.await?;
                weight = Some(weigh(&value));
                Ok::<_, FeedError>(Arc::new(Served::new(value)))
            })
            .await
            .cloned();
        let mut entries = self.lock();
        match (&made, weight) {
            (Ok(_), Some(weight)) => {
                entries.order.push_back((key, weight));
                entries.bytes += weight;
                while entries.bytes > self.bytes_max {
                    let (oldest, weight) = entries.order.pop_front().expect("what has bytes has entries");
                    entries.values.remove(&oldest);
                    entries.bytes -= weight;
                }
            }
            (Ok(_), None) => {}
            // An error is not kept, nor is the empty place of it.
            (Err(_), _) => {
                if entries.values.get(&key).is_some_and(|cell| !cell.initialized()) {
                    entries.values.remove(&key);
                }
            }
        }
        made
    }

    fn lock(&self) -> MutexGuard<'_, Entries<K, T>> {
        self.entries.lock().expect("nobody panics while holding the cache")
    }
}
