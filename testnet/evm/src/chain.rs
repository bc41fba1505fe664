//! Which blocks does the node know, and which of them are the chain?
//!
//! A tree of executed blocks with the state after each recent one, a head, and what follows from the head: numbers, the index of
//! transactions, `safe` and `finalized`. Executes nothing and writes nothing to disk.

use crate::{
    block::Block,
    state::{Ancestors, State, View},
};
use alloy_primitives::B256;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Blocks kept in memory: a day of an L1 at a block a second, or minutes of a fast rollup, for those who ask late.
pub const BLOCKS_MAX: usize = 86_400;
/// Transactions kept in memory with their receipts, so that full blocks do not fill it: about 2 GB at 1 KB each.
pub const TRANSACTIONS_MAX: usize = 2_000_000;
/// Blocks behind the head whose state is kept, so that they can be asked and proven: three minutes at ten blocks a second. Each
/// costs only the nodes that it changed.
pub const STATES_MAX: u64 = 2_048;
/// The same where finality is further behind: who settles on what is final wants proofs of it.
pub const STATES_UNTIL_FINAL_MAX: u64 = 4 * STATES_MAX;
/// Blocks beside the chain that are kept for a driver that comes back to them.
pub const SIDE_BLOCKS_MAX: usize = 256;
/// How far `BLOCKHASH` reaches.
const ANCESTORS_MAX: usize = 256;

/// The known blocks.
#[derive(Debug)]
pub(crate) struct Chain {
    blocks: HashMap<B256, Arc<Block>>,
    states: HashMap<B256, State>,
    /// The chain's hashes by number.
    canonical: BTreeMap<u64, B256>,
    /// Where the chain's transactions are.
    transactions: HashMap<B256, (B256, usize)>,
    /// Blocks beside the chain, oldest first.
    side: Vec<B256>,
    head: Arc<Block>,
    genesis: Arc<Block>,
    safe: B256,
    finalized: B256,
}

/// How the chain changed.
#[derive(Clone, Debug, Default)]
pub struct HeadChange {
    /// Blocks that are no longer of the chain, newest first.
    pub removed: Vec<Arc<Block>>,
    /// Blocks that are new to it, oldest first.
    pub added: Vec<Arc<Block>>,
}

impl Chain {
    pub(crate) fn new(genesis: Block, state: State) -> Self {
        let genesis = Arc::new(genesis);
        Self {
            blocks: HashMap::from([(genesis.hash, genesis.clone())]),
            states: HashMap::from([(genesis.hash, state)]),
            canonical: BTreeMap::from([(genesis.header.number, genesis.hash)]),
            transactions: HashMap::new(),
            side: Vec::new(),
            head: genesis.clone(),
            safe: genesis.hash,
            finalized: genesis.hash,
            genesis,
        }
    }

    pub(crate) fn head(&self) -> &Arc<Block> {
        &self.head
    }

    pub(crate) fn genesis(&self) -> &Arc<Block> {
        &self.genesis
    }

    pub(crate) fn block(&self, hash: &B256) -> Option<&Arc<Block>> {
        self.blocks.get(hash)
    }

    pub(crate) fn by_number(&self, number: u64) -> Option<&Arc<Block>> {
        self.canonical.get(&number).and_then(|hash| self.blocks.get(hash))
    }

    pub(crate) fn is_canonical(&self, block: &Block) -> bool {
        self.canonical.get(&block.header.number) == Some(&block.hash)
    }

    /// Whether `hash` is `of` or one of its ancestors.
    pub(crate) fn is_ancestor(&self, hash: &B256, of: &Block) -> bool {
        let Some(block) = self.blocks.get(hash) else { return false };
        let mut next = Some(of);
        while let Some(walked) = next.filter(|walked| walked.header.number >= block.header.number) {
            if walked.hash == *hash {
                return true;
            }
            // From the chain on, the way down is known.
            if self.is_canonical(walked) {
                return self.is_canonical(block);
            }
            next = self.blocks.get(&walked.header.parent_hash).map(|parent| &**parent);
        }
        false
    }

    /// The chain's block with this transaction, and its place there.
    pub(crate) fn transaction(&self, hash: &B256) -> Option<(&Arc<Block>, usize)> {
        let (block, index) = self.transactions.get(hash)?;
        Some((self.blocks.get(block)?, *index))
    }

    pub(crate) fn state(&self, hash: &B256) -> Option<&State> {
        self.states.get(hash)
    }

    pub(crate) fn put_state(&mut self, hash: B256, state: State) {
        self.states.insert(hash, state);
    }

    /// Forgets the state of the chain's block before `number`; the genesis keeps its own.
    pub(crate) fn drop_state_before(&mut self, number: u64) {
        if let Some(hash) = self.canonical.get(&(number - 1)).filter(|hash| **hash != self.genesis.hash) {
            self.states.remove(hash);
        }
    }

    pub(crate) fn safe(&self) -> Option<&Arc<Block>> {
        self.blocks.get(&self.safe)
    }

    pub(crate) fn finalized(&self) -> Option<&Arc<Block>> {
        self.blocks.get(&self.finalized)
    }

    /// Sets what is safe and final; both have to be blocks of the chain.
    pub(crate) fn mark(&mut self, safe: B256, finalized: B256) {
        self.safe = safe;
        self.finalized = finalized;
    }

    /// What a block after `parent` runs on.
    pub(crate) fn view(&self, parent: &Block) -> Option<View> {
        let state = self.states.get(&parent.hash)?.clone();
        let mut hashes = Vec::with_capacity(ANCESTORS_MAX);
        let mut next = Some(parent);
        while let Some(block) = next.filter(|_| hashes.len() < ANCESTORS_MAX) {
            hashes.push(block.hash);
            next = self.blocks.get(&block.header.parent_hash).map(|block| &**block);
        }
        Some(View { state, ancestors: Ancestors { parent: parent.header.number, hashes: hashes.into() } })
    }

    /// Adds a block beside the chain.
    pub(crate) fn insert(&mut self, block: Arc<Block>, state: Option<State>) {
        if let Some(state) = state {
            self.states.insert(block.hash, state);
        }
        if self.blocks.insert(block.hash, block.clone()).is_none() {
            self.side.push(block.hash);
        }
        while self.side.len() > SIDE_BLOCKS_MAX {
            let oldest = self.side.remove(0);
            self.blocks.remove(&oldest);
            self.states.remove(&oldest);
        }
    }

    /// Makes `hash` the head: forwards, backwards, or on another branch. None when the way there is not known.
    pub(crate) fn set_head(&mut self, hash: &B256) -> Option<HeadChange> {
        let target = self.blocks.get(hash)?.clone();
        let mut added = Vec::new();
        let mut fork = target.clone();
        while !self.is_canonical(&fork) {
            let parent = self.blocks.get(&fork.header.parent_hash)?.clone();
            added.push(std::mem::replace(&mut fork, parent));
        }
        added.reverse();
        let mut removed = Vec::new();
        while self.head.hash != fork.hash {
            let parent = self.blocks.get(&self.head.header.parent_hash)?.clone();
            let block = std::mem::replace(&mut self.head, parent);
            self.canonical.remove(&block.header.number);
            for tx in &block.transactions {
                self.transactions.remove(&tx.hash());
            }
            self.side.push(block.hash);
            removed.push(block);
        }
        for block in &added {
            self.canonical.insert(block.header.number, block.hash);
            for (index, tx) in block.transactions.iter().enumerate() {
                self.transactions.insert(tx.hash(), (block.hash, index));
            }
            self.side.retain(|hash| *hash != block.hash);
        }
        self.head = target;
        // A tag that pointed into what was removed falls back to where the branches part.
        for tag in [&mut self.safe, &mut self.finalized] {
            if removed.iter().any(|block| block.hash == *tag) {
                *tag = fork.hash;
            }
        }
        self.prune();
        Some(HeadChange { removed, added })
    }

    /// The oldest block whose state is kept without being named by a tag.
    fn oldest_state(&self) -> u64 {
        let head = self.head.header.number;
        let finalized = self.finalized().map_or(0, |block| block.header.number);
        head.saturating_sub(STATES_MAX).min(finalized).max(head.saturating_sub(STATES_UNTIL_FINAL_MAX))
    }

    fn prune(&mut self) {
        let oldest_state = self.oldest_state();
        // Whoever asks by a tag must find its state, however old.
        let tagged = [self.genesis.hash, self.safe, self.finalized];
        let wanted = self.head.header.number - oldest_state;
        if self.states.len() as u64 > wanted + STATES_MAX / 8 {
            let blocks = &self.blocks;
            self.states.retain(|hash, _| {
                tagged.contains(hash) || blocks.get(hash).is_some_and(|block| block.header.number >= oldest_state)
            });
        }
        while self.canonical.len() > BLOCKS_MAX || self.transactions.len() > TRANSACTIONS_MAX {
            // The genesis stays: `earliest` and the chain's identity are it. So do the others that have names.
            let mut oldest = self.canonical.range(self.genesis.header.number + 1..self.head.header.number);
            let Some((&number, &hash)) = oldest.find(|(_, hash)| !tagged.contains(hash)) else { return };
            self.canonical.remove(&number);
            self.states.remove(&hash);
            for tx in self.blocks.remove(&hash).iter().flat_map(|block| &block.transactions) {
                self.transactions.remove(&tx.hash());
            }
        }
    }
}
