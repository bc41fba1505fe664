//! What do all faces of a node share, and how does a block become part of its chain?
//!
//! [`Core`] holds the chain, the pool and the log, executes what it is given on a copy of the parent's state, and tells the
//! subscribers. When blocks are made is up to `l1.rs`, `rollup.rs` and `engine.rs`.

use crate::{
    block::Block,
    chain::{Chain, HeadChange, STATES_MAX},
    config::{Config, Role},
    execute::{self, BlockError, Executed, Invalid, Proposal, Rules, Stack},
    genesis,
    pool::Pool,
    state::{State, View},
    store::{self, Record, RecordRef, Store, StoreError, Tags},
};
use alloy_consensus::Header;
use alloy_primitives::{B256, Bytes};
use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{broadcast, mpsc};
use tracing::{info, warn};

/// Head changes that a subscriber may be behind before it is cut off: more than a burst, less than a memory leak.
pub(crate) const HEADS_MAX: usize = 1_024;
/// Blocks between two dumps of the state: what a restart executes again at most, with [`DUMP_DEPTH`].
const DUMP_BLOCKS: u64 = 256;
/// How far behind the head a dump is, so that who asks for a recent state, or goes back to one, finds it after a restart too.
const DUMP_DEPTH: u64 = 1_024;

/// What all faces of a node share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) rules: Rules,
    pub(crate) role: Role,
    pub(crate) heads: broadcast::Sender<Arc<HeadChange>>,
    pub(crate) forward: Option<mpsc::Sender<Bytes>>,
    chain: RwLock<Chain>,
    pool: Mutex<Pool>,
    /// Held while the head moves, so that blocks are made one after the other.
    turn: Mutex<()>,
    store: Option<Mutex<Store>>,
    folder: Option<PathBuf>,
    dumping: Arc<AtomicBool>,
}

/// Why the head did not move.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// There is no such block.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The block to build on is not known, or its state is no longer kept.
    #[error("the block {0} to build on is not known or too old")]
    UnknownParent(B256),
    /// It could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Core {
    /// Opens the folder and executes what has to be executed again.
    pub(crate) fn open(config: Config) -> Result<Self, StoreError> {
        let stack = match &config.role {
            Role::L1(_) => Stack::Ethereum { base_fee: None },
            Role::Optimism(optimism) => Stack::Optimism(optimism.fork),
            Role::Rollup(rollup) => Stack::Ethereum { base_fee: rollup.base_fee },
        };
        let rules = Rules { chain_id: config.genesis.config.chain_id, stack };
        let (block, state) = genesis::build(&config.genesis, &rules);
        let genesis = block.hash;
        let mut chain = Chain::new(block, state);
        let store = match &config.folder {
            None => None,
            Some(folder) => {
                let mut held = None;
                let mut store = Store::open(folder, |record| match record {
                    Record::Chain(genesis) => held = Some(genesis),
                    Record::Block(block) => chain.insert(Arc::from(block), None),
                    Record::Head(tags) => {
                        chain.set_head(&tags.head);
                        chain.mark(tags.safe, tags.finalized);
                    }
                })?;
                match held {
                    None => store.append(&RecordRef::Chain(genesis))?,
                    Some(held) if held != genesis => return Err(StoreError::OtherChain { held, wanted: genesis }),
                    Some(_) => {}
                }
                replay(&mut chain, &rules, store::read_state(folder).ok())?;
                Some(Mutex::new(store))
            }
        };
        Ok(Self {
            rules,
            role: config.role,
            heads: broadcast::channel(HEADS_MAX).0,
            forward: config.forward,
            chain: RwLock::new(chain),
            pool: Mutex::default(),
            turn: Mutex::default(),
            store,
            folder: config.folder,
            dumping: Arc::default(),
        })
    }

    pub(crate) fn chain(&self) -> RwLockReadGuard<'_, Chain> {
        self.chain.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn chain_mut(&self) -> RwLockWriteGuard<'_, Chain> {
        self.chain.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be held from looking at the head until it is moved.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn head(&self) -> Arc<Block> {
        self.chain().head().clone()
    }

    /// The head and the state after it.
    pub(crate) fn head_state(&self) -> (Arc<Block>, State) {
        let chain = self.chain();
        let head = chain.head().clone();
        let state = chain.state(&head.hash).cloned().expect("the state after the head is always kept");
        (head, state)
    }

    pub(crate) fn view(&self, parent: &Block) -> Option<View> {
        self.chain().view(parent)
    }

    /// Executes a block on `parent` without keeping it.
    pub(crate) fn build(&self, parent: &Block, proposal: Proposal, invalid: Invalid) -> Result<Executed, CoreError> {
        let view = self.view(parent).ok_or(CoreError::UnknownParent(parent.hash))?;
        Ok(execute::execute(&self.rules, &parent.header, parent.hash, view, proposal, invalid)?)
    }

    /// Keeps a block beside the chain.
    pub(crate) fn keep(&self, block: Block, state: State) -> Result<Arc<Block>, StoreError> {
        let block = Arc::new(block);
        if let Some(store) = &self.store {
            store.lock().unwrap_or_else(PoisonError::into_inner).append(&RecordRef::Block(&block))?;
        }
        self.chain_mut().insert(block.clone(), Some(state));
        Ok(block)
    }

    /// Moves the head, durably, and tells the subscribers. `tags` gives what is safe and final from then on; an L1 derives both
    /// from the head.
    pub(crate) fn adopt(&self, head: &Block, tags: Option<(B256, B256)>) -> Result<Arc<HeadChange>, CoreError> {
        let change = {
            // Readers wait for the disk: what they have seen must be there after a crash.
            let mut chain = self.chain_mut();
            let change = chain.set_head(&head.hash).ok_or(CoreError::UnknownParent(head.hash))?;
            let (safe, finalized) = tags.unwrap_or_else(|| self.derived_tags(&chain));
            chain.mark(safe, finalized);
            if let Some(store) = &self.store {
                let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
                store.append(&RecordRef::Head(Tags { head: head.hash, safe, finalized }))?;
                store.sync()?;
            }
            Arc::new(change)
        };
        let state = self.chain().state(&head.hash).cloned().unwrap_or_default();
        let used = change.added.iter().flat_map(|block| &block.transactions).map(|tx| tx.sender());
        self.pool().forget_used(used, &state);
        self.maybe_dump(&head.header);
        // Nobody may be listening.
        let _ = self.heads.send(change.clone());
        Ok(change)
    }

    /// Says which of the chain's blocks are safe and final, by number, and keeps it durably. Numbers above the head mean the
    /// head; what is final stays so, and is safe.
    pub(crate) fn mark(&self, safe: u64, finalized: u64) -> Result<(), StoreError> {
        let mut chain = self.chain_mut();
        let head = chain.head().header.number;
        let held = |block: Option<&Arc<Block>>| block.map_or(0, |block| block.header.number);
        let finalized = finalized.min(head).max(held(chain.finalized()));
        let safe = safe.min(head).max(finalized);
        let hash = |number| chain.by_number(number).map(|block| block.hash);
        // A block that is no longer kept is older than what a tag could be moved to.
        let (Some(safe), Some(finalized)) = (hash(safe), hash(finalized)) else { return Ok(()) };
        if chain.safe().map(|block| block.hash) == Some(safe)
            && chain.finalized().map(|block| block.hash) == Some(finalized)
        {
            return Ok(());
        }
        chain.mark(safe, finalized);
        if let Some(store) = &self.store {
            let tags = Tags { head: chain.head().hash, safe, finalized };
            // Not synced by itself: a tag that is forgotten in a crash is told again.
            store.lock().unwrap_or_else(PoisonError::into_inner).append(&RecordRef::Head(tags))?;
        }
        Ok(())
    }

    fn derived_tags(&self, chain: &Chain) -> (B256, B256) {
        let head = chain.head().header.number;
        let behind =
            |depth: u64| chain.by_number(head.saturating_sub(depth)).map_or(chain.genesis().hash, |block| block.hash);
        match &self.role {
            Role::L1(l1) => (behind(l1.safe_depth), behind(l1.finalized_depth)),
            Role::Rollup(rollup) if !rollup.l1_decides => (chain.head().hash, chain.head().hash),
            Role::Rollup(_) | Role::Optimism(_) => (
                chain.safe().map_or(chain.genesis().hash, |block| block.hash),
                chain.finalized().map_or(chain.genesis().hash, |block| block.hash),
            ),
        }
    }

    /// Dumps the state in the background; the trie's nodes are shared, so nothing waits.
    fn maybe_dump(&self, head: &Header) {
        let Some(folder) = self.folder.clone().filter(|_| head.number.is_multiple_of(DUMP_BLOCKS)) else { return };
        let Some((block, state)) = ({
            let chain = self.chain();
            chain
                .by_number(head.number.saturating_sub(DUMP_DEPTH))
                .and_then(|block| Some((block.clone(), chain.state(&block.hash)?.clone())))
        }) else {
            return;
        };
        if self.dumping.swap(true, Ordering::AcqRel) {
            return;
        }
        let dumping = self.dumping.clone();
        std::thread::spawn(move || {
            match store::write_state(&folder, block.hash, &state) {
                Ok(()) => info!(number = block.header.number, "state dumped"),
                // The log still has everything: a restart takes longer.
                Err(error) => warn!(%error, "the state could not be dumped"),
            }
            dumping.store(false, Ordering::Release);
        });
    }
}

/// Executes the chain's blocks after the dump, or after genesis, and checks that each comes out as it was.
fn replay(chain: &mut Chain, rules: &Rules, dump: Option<(B256, State)>) -> Result<(), StoreError> {
    let usable = dump.and_then(|(hash, state)| {
        let block = chain.block(&hash)?;
        (chain.is_canonical(block) && block.header.state_root == state.root()).then(|| (block.clone(), state))
    });
    let mut parent = match usable {
        Some((block, state)) => {
            chain.put_state(block.hash, state);
            block
        }
        None => chain.genesis().clone(),
    };
    let head = chain.head().header.number;
    while parent.header.number < head {
        let number = parent.header.number + 1;
        let diverged = |reason: String| StoreError::Diverged { number, reason };
        let block = chain.by_number(number).cloned().ok_or_else(|| diverged("it is no longer kept".into()))?;
        let view = chain.view(&parent).ok_or_else(|| diverged("its parent's state is missing".into()))?;
        let done = execute::execute(rules, &parent.header, parent.hash, view, Proposal::of(&block), Invalid::Refuse)
            .map_err(|error| diverged(error.to_string()))?;
        if done.block.hash != block.hash {
            return Err(diverged(format!("it comes out as {}", done.block.hash)));
        }
        chain.put_state(block.hash, done.state);
        if number > STATES_MAX && number < head {
            chain.drop_state_before(number - STATES_MAX);
        }
        parent = block;
    }
    Ok(())
}
