//! How does an L1 make its blocks, and how does a test make it change its mind?
//!
//! Blocks from the pool at an interval, at once, or on demand; and reorganisations of the last blocks, because whoever follows
//! an L1 has to survive them. Time goes on by at least a second a block, so that intervals below one run ahead of the clock.

use crate::{
    block::Block,
    core::{Core, CoreError},
    execute::{Executed, Invalid, Proposal},
    transaction::Transaction,
};
use alloy_primitives::{Address, B256, Bytes, keccak256};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tracing::{info, warn};

/// How deep a reorganisation may be: far more than anybody survives, less than the states that are kept.
pub const REORG_MAX: u64 = 64;
/// Snapshots that are remembered.
const SNAPSHOTS_MAX: usize = 256;

/// Makes an L1's blocks.
#[derive(Debug)]
pub(crate) struct Miner {
    core: Arc<Core>,
    beneficiary: Address,
    time: Mutex<Time>,
    pub(crate) settings: tokio::sync::watch::Sender<Settings>,
    /// Told when a transaction arrives.
    pub(crate) arrived: tokio::sync::Notify,
}

/// When blocks are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) interval: Option<Duration>,
    pub(crate) instant: bool,
}

#[derive(Debug, Default)]
struct Time {
    ahead: u64,
    next: Option<u64>,
    reorganisations: u64,
    snapshots: Vec<B256>,
}

/// Why there was no reorganisation.
#[derive(Debug, thiserror::Error)]
pub enum ReorgError {
    /// Deeper than allowed, or than the chain is long.
    #[error("cannot take back {depth} blocks, at most {max}")]
    Depth {
        /// How deep it should have been.
        depth: u64,
        /// How deep it may be.
        max: u64,
    },
    /// No block could be made.
    #[error(transparent)]
    Core(#[from] CoreError),
}

/// What happens to the transactions of blocks that are taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reorg {
    /// How many blocks are taken back; as many new ones take their place.
    pub depth: u64,
    /// Whether their transactions wait again, as on a real network, or are lost.
    pub keep_transactions: bool,
    /// Raw transactions for the new blocks, each with the index of its block.
    pub transactions: Vec<(Bytes, u64)>,
}

impl Miner {
    pub(crate) fn new(core: Arc<Core>, beneficiary: Address, settings: Settings) -> Self {
        Self {
            core,
            beneficiary,
            time: Mutex::default(),
            settings: tokio::sync::watch::Sender::new(settings),
            arrived: tokio::sync::Notify::new(),
        }
    }

    /// Makes blocks until it is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut settings = self.settings.subscribe();
        loop {
            let now = *settings.borrow_and_update();
            let tick = async {
                match now.interval {
                    Some(interval) => tokio::time::sleep(interval).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tick => {}
                () = self.arrived.notified(), if now.instant => {}
                changed = settings.changed() => {
                    if changed.is_err() { return }
                    continue;
                }
            }
            let miner = self.clone();
            match tokio::task::spawn_blocking(move || miner.mine()).await {
                // What did not fit waits for no arrival to be mined.
                Ok(Ok(block)) if now.instant && !block.transactions.is_empty() && self.core.pool().len() > 0 => {
                    self.arrived.notify_one();
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => warn!(%error, "no block was made"),
                Err(error) => warn!(%error, "making a block stopped"),
            }
        }
    }

    /// Makes the next block now.
    pub(crate) fn mine(&self) -> Result<Arc<Block>, CoreError> {
        let _turn = self.core.turn();
        let parent = self.core.head();
        let timestamp = {
            let mut time = self.time();
            let timestamp = self.timestamp(&time, &parent);
            time.next = None;
            timestamp
        };
        let executed = self.build(&parent, timestamp, Bytes::new(), None)?;
        for skipped in &executed.skipped {
            warn!(hash = %skipped.hash, reason = skipped.reason, "transaction dropped from the pool");
            self.core.pool().remove(&skipped.hash);
        }
        let block = self.core.keep(executed.block, executed.state).map_err(CoreError::Store)?;
        self.core.adopt(&block, None)?;
        info!(number = block.header.number, transactions = block.transactions.len(), hash = %block.hash, "block");
        Ok(block)
    }

    /// The block that would be made now.
    pub(crate) fn preview(&self) -> Result<Executed, CoreError> {
        let parent = self.core.head();
        let timestamp = self.timestamp(&self.time(), &parent);
        self.build(&parent, timestamp, Bytes::new(), None)
    }

    /// Replaces the last blocks by as many others, in one step.
    pub(crate) fn reorg(&self, reorg: Reorg) -> Result<Arc<Block>, ReorgError> {
        let _turn = self.core.turn();
        let head = self.core.head();
        let max = REORG_MAX.min(head.header.number - self.core.chain().genesis().header.number);
        if reorg.depth == 0 || reorg.depth > max {
            return Err(ReorgError::Depth { depth: reorg.depth, max });
        }
        let mut removed = vec![head.clone()];
        while removed.len() as u64 <= reorg.depth {
            let parent = removed.last().expect("it starts with the head").header.parent_hash;
            let parent = self.core.chain().block(&parent).cloned().ok_or(CoreError::UnknownParent(parent))?;
            removed.push(parent);
        }
        let mut parent = removed.pop().expect("it holds more than the depth");
        if reorg.keep_transactions {
            let state = self.core.chain().state(&parent.hash).cloned().ok_or(CoreError::UnknownParent(parent.hash))?;
            let mut pool = self.core.pool();
            for tx in removed.iter().rev().flat_map(|block| &block.transactions) {
                // One that no longer fits is lost, as on a real network.
                let _ = pool.add(tx.clone(), &state, self.core.rules.chain_id, parent.header.gas_limit);
            }
        }
        let salt = {
            let mut time = self.time();
            time.reorganisations += 1;
            // The same transactions at the same time have to make another block.
            Bytes::from(format!("reorg {}", time.reorganisations).into_bytes())
        };
        for (index, old) in (0_u64..).zip(removed.iter().rev()) {
            let given = reorg
                .transactions
                .iter()
                .filter(|(_, at)| *at == index)
                .filter_map(|(raw, _)| Transaction::decode(raw).ok().map(Arc::new))
                .collect::<Vec<_>>();
            let given = (!reorg.keep_transactions).then_some(given);
            let executed = self.build(&parent, old.header.timestamp, salt.clone(), given)?;
            parent = self.core.keep(executed.block, executed.state).map_err(CoreError::Store)?;
        }
        self.core.adopt(&parent, None)?;
        info!(depth = reorg.depth, number = parent.header.number, hash = %parent.hash, "reorganised");
        Ok(parent)
    }

    /// Remembers the head.
    pub(crate) fn snapshot(&self) -> u64 {
        let head = self.core.head().hash;
        let mut time = self.time();
        if time.snapshots.len() >= SNAPSHOTS_MAX {
            time.snapshots.clear();
        }
        time.snapshots.push(head);
        time.snapshots.len() as u64
    }

    /// Goes back to a remembered head and forgets it and those after it.
    pub(crate) fn revert(&self, snapshot: u64) -> Result<bool, CoreError> {
        let _turn = self.core.turn();
        let hash = {
            let mut time = self.time();
            let Some(index) = usize::try_from(snapshot).ok().and_then(|id| id.checked_sub(1)) else { return Ok(false) };
            let Some(hash) = time.snapshots.get(index).copied() else { return Ok(false) };
            time.snapshots.truncate(index);
            hash
        };
        let block = self.core.chain().block(&hash).cloned().ok_or(CoreError::UnknownParent(hash))?;
        self.core.pool().clear();
        self.core.adopt(&block, None)?;
        Ok(true)
    }

    /// The time of the next block; false when it is not after the head's.
    pub(crate) fn set_next_timestamp(&self, timestamp: u64) -> bool {
        let after = timestamp > self.core.head().header.timestamp;
        if after {
            self.time().next = Some(timestamp);
        }
        after
    }

    /// Lets the clock run ahead by more; how far it is ahead then, in seconds.
    pub(crate) fn increase_time(&self, seconds: u64) -> u64 {
        let mut time = self.time();
        time.ahead = time.ahead.saturating_add(seconds);
        time.ahead
    }

    fn build(
        &self,
        parent: &Block,
        timestamp: u64,
        extra_data: Bytes,
        transactions: Option<Vec<Arc<Transaction>>>,
    ) -> Result<Executed, CoreError> {
        let gas_limit = parent.header.gas_limit;
        let transactions = match transactions {
            Some(given) => given,
            None => {
                let state =
                    self.core.chain().state(&parent.hash).cloned().ok_or(CoreError::UnknownParent(parent.hash))?;
                self.core.pool().best(&state, self.core.rules.next_base_fee(&parent.header), gas_limit)
            }
        };
        let proposal = Proposal {
            timestamp,
            beneficiary: self.beneficiary,
            prev_randao: keccak256(parent.hash),
            gas_limit,
            extra_data,
            parent_beacon_block_root: B256::ZERO,
            withdrawals: Vec::new(),
            transactions,
        };
        self.core.build(parent, proposal, Invalid::Skip)
    }

    fn timestamp(&self, time: &Time, parent: &Block) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let wanted = time.next.unwrap_or(now.saturating_add(time.ahead));
        wanted.max(parent.header.timestamp + 1)
    }

    fn time(&self) -> MutexGuard<'_, Time> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
