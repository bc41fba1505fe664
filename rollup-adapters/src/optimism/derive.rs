//! What does L1 lead to, and is it what was executed?
//!
//! Reads L1 block by block as derivation does: batcher transactions, frames, channels, batches, under Holocene's rules and by our
//! own decoder, and compares every block that comes out with the executed one: parent, timestamp, L1 origin and
//! transactions. How far they agree is the safe head. A driver tells it to its client; a poster begins there; a testnet shows it.
//!
//! Where they disagree it stops, says so, and goes on by itself once the executed chain has changed: L1 is right, and nothing
//! must be built on what L1 contradicts. The end of the sequencing window, after which L1 leads to blocks without us, is
//! told before it comes and not derived.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use alloy_primitives::B256;
use serde::Serialize;
use tokio::sync::watch;

use super::{
    Bank, CHANNEL_TIMEOUT_L1_BLOCKS, SingularBatch, SpanBatch,
    chain::{Chain, ChainError, L2Block},
    channel,
    frame::decode_data,
    rollup::Rollup,
    singular::SINGULAR,
    span::SPAN,
    system::SystemConfig,
};
use crate::{
    optimism::decode_blob,
    poster::{
        Beacon, L1, L1Block, L1Chain, RpcError,
        beacon::BeaconError,
        l1_chain::{FETCH_MAX, Refreshed},
    },
    retry::Backoff,
};

/// L1 blocks whose results are kept: the deepest reorganisation that is followed without beginning anew, and further back than
/// L1 finalizes (two to three epochs of 32).
const STEPS_MAX: usize = 256;
/// L1 blocks read at once, so that progress is told now and then.
const STEPS_AT_ONCE: usize = 64;
/// Part of the sequencing window that must be left, in percent, or it is told.
const WINDOW_ALARM_PERCENT: u64 = 20;

/// A block by number and hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BlockRef {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
}

/// How far L1 leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Derived {
    /// Whether L1 was read to its end at least once.
    pub ready: bool,
    /// The L1 block up to which it was read.
    pub l1: u64,
    /// Its hash.
    pub l1_hash: B256,
    /// The latest executed block that L1 leads to.
    pub safe: BlockRef,
    /// The latest executed block that finalized L1 leads to.
    pub finalized: BlockRef,
    /// Whether everything on L1 so far leads to what was executed.
    pub agreed: bool,
    /// What does not.
    pub disagreement: Option<String>,
    /// What it waits for, if it does: L1 that does not answer, most likely.
    pub trouble: Option<String>,
    /// Since the start of this process: blocks that were compared and equal.
    pub blocks: u64,
    /// Their transactions.
    pub transactions: u64,
    /// Bytes of batcher data that were read, valid or not.
    pub bytes: u64,
    /// Batcher transactions that were read.
    pub batches: u64,
    /// Frames, channels or batches that had no effect.
    pub dropped: u64,
    /// L1 blocks until the sequencing window of the next block ends.
    pub window_left: u64,
}

impl Derived {
    /// Bytes on L1 for each transaction that became safe.
    pub fn bytes_per_transaction(&self) -> f64 {
        if self.transactions == 0 { 0.0 } else { self.bytes as f64 / self.transactions as f64 }
    }
}

/// Why L1 cannot be read further now. All of these pass, or need a person where they say so.
#[derive(Debug, thiserror::Error)]
pub enum DeriveError {
    /// L1 gives no answer.
    #[error(transparent)]
    L1(#[from] RpcError),
    /// The execution client gives no answer.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The blobs are not to be had.
    #[error(transparent)]
    Blobs(#[from] BeaconError),
    /// There are blobs, and no beacon node is configured.
    #[error("L1 block {0} has batches in blobs, and no beacon node is configured")]
    NoBeacon(u64),
    /// L1 has a header and not its block: its nodes are not equally far, its history is pruned, or it was reorganised just now.
    #[error("L1 does not give block {0}, of which it has the header")]
    Gone(u64),
    /// L1 does not reach up to where derivation begins.
    #[error("L1 does not have block {0}, at which derivation begins")]
    Short(u64),
    /// L1 leads to a block that is not executed yet.
    #[error("L1 leads to block {0}, which is not executed yet")]
    Ahead(u64),
    /// L1 leads to another block than the one executed.
    #[error("L1 leads to another block {number} than the one executed: {difference}")]
    Disagrees {
        /// Which block.
        number: u64,
        /// In what.
        difference: &'static str,
    },
}

/// What was derived up to an L1 block.
#[derive(Clone, Debug)]
struct Step {
    l1: u64,
    l1_hash: B256,
    bank: Bank,
    system: SystemConfig,
    safe: L2Block,
}

/// Reads L1.
pub struct Derivation {
    rollup: Rollup,
    l1: Arc<L1>,
    beacon: Option<Beacon>,
    chain: Arc<Chain>,
    /// L1 blocks that must be on top of one before it is read.
    confirmations: u64,
    l1_chain: L1Chain,
    /// Oldest first; never empty once begun.
    steps: VecDeque<Step>,
    derived: Derived,
    /// What is held of L1's headers is doubtful: a block of it could not be had.
    doubtful: bool,
}

/// A batch as it comes out of a channel, in whole blocks.
struct Candidate {
    parent: ParentCheck,
    timestamp: u64,
    blocks: Vec<(u64, Vec<Vec<u8>>)>,
    origin_check: B256,
    origin_check_bytes: usize,
}

/// What a batch says of its parent: the hash or its beginning.
struct ParentCheck(Vec<u8>);

impl Derivation {
    /// Derivation of `rollup` from `l1`, compared with `chain`.
    pub fn new(rollup: Rollup, l1: Arc<L1>, beacon: Option<Beacon>, chain: Arc<Chain>) -> Self {
        let first = rollup.genesis.l1.number;
        Self {
            rollup,
            l1,
            beacon,
            chain,
            confirmations: 0,
            l1_chain: L1Chain::new(first),
            steps: VecDeque::new(),
            derived: Derived { agreed: true, ..Derived::default() },
            doubtful: false,
        }
    }

    /// Reads an L1 block only once so many are on top of it.
    pub fn confirmed(self, confirmations: u64) -> Self {
        Self { confirmations, ..self }
    }

    /// Follows L1 for ever, and tells how far it leads.
    pub async fn run(mut self, told: watch::Sender<Derived>, poll: Duration) {
        let mut backoff = Backoff::endless();
        loop {
            let result = self.advance().await;
            self.derived.trouble = match &result {
                Ok(_) | Err(DeriveError::Ahead(_)) => None,
                Err(error) => Some(error.to_string()),
            };
            told.send_replace(self.derived.clone());
            match result {
                Ok(true) => backoff.succeeded(),
                Ok(false) => {
                    backoff.succeeded();
                    tokio::time::sleep(poll).await;
                }
                Err(DeriveError::Ahead(number)) => {
                    tracing::debug!(number, "L1 is ahead of the execution client");
                    tokio::time::sleep(poll).await;
                }
                Err(error) => drop(backoff.failed(error).await),
            }
        }
    }

    /// How far L1 led when it was last read.
    pub fn derived(&self) -> &Derived {
        &self.derived
    }

    /// Reads on, some blocks at most. Returns whether there is more.
    pub async fn advance(&mut self) -> Result<bool, DeriveError> {
        if self.steps.is_empty() {
            self.begin().await?;
            self.tell();
        }
        let mut refreshed = Refreshed::default();
        // What was fetched is read first: the chain of headers forgets its oldest.
        let last = self.l1_chain.last().map(|last| last.number);
        let is_ahead = last.is_some_and(|last| last.saturating_sub(self.derived.l1) >= STEPS_AT_ONCE as u64);
        if !is_ahead || self.doubtful {
            let until = match (self.confirmations, last) {
                // Only to take back what L1 no longer has.
                (_, Some(last)) if is_ahead => last,
                (0, _) => u64::MAX,
                (confirmations, _) => self.l1.latest().await?.number.saturating_sub(confirmations),
            };
            refreshed = self.l1_chain.refresh(&self.l1, until).await?;
            self.doubtful = false;
        }
        self.rewind().await?;
        for _ in 0..STEPS_AT_ONCE {
            let Some(step) = self.steps.back() else { return Ok(true) };
            let Some(header) = self.l1_chain.get(step.l1.saturating_add(1)).cloned() else {
                self.finish().await?;
                // The chain of headers is fetched in parts too.
                let more = refreshed.added >= FETCH_MAX;
                self.derived.ready |= !more;
                return Ok(more);
            };
            let Some(block) = self.l1.block(header.hash).await? else {
                self.doubtful = true;
                return Err(DeriveError::Gone(header.number));
            };
            match self.step(step.clone(), &block).await {
                Ok(next) => {
                    self.derived.agreed = true;
                    self.derived.disagreement = None;
                    self.push(next);
                }
                Err(error) => {
                    if let DeriveError::Disagrees { .. } = &error {
                        self.derived.agreed = false;
                        self.derived.disagreement = Some(error.to_string());
                    }
                    return Err(error);
                }
            }
        }
        Ok(true)
    }

    /// Begins at the client's finalized block, so far back on L1 that no channel with later blocks can have begun before.
    async fn begin(&mut self) -> Result<(), DeriveError> {
        let safe = self.chain.finalized().await?;
        let first = self.rollup.genesis.l1.number;
        let l1 = safe.info.origin.number.saturating_sub(CHANNEL_TIMEOUT_L1_BLOCKS).max(first);
        let header = self.l1.header(l1).await?;
        let Some(header) = header else { return Err(DeriveError::Short(l1)) };
        self.l1_chain = L1Chain::new(l1);
        self.derived.safe = reference(&safe);
        self.derived.finalized = self.derived.safe;
        self.steps.push_back(Step { l1, l1_hash: header.hash, bank: Bank::default(), system: safe.system, safe });
        Ok(())
    }

    /// Goes back to the last step that L1 and the executed chain still have.
    async fn rewind(&mut self) -> Result<(), DeriveError> {
        let mut dropped = 0;
        while let Some(step) = self.steps.back() {
            let on_l1 = match self.l1_chain.get(step.l1) {
                Some(header) => header.hash == step.l1_hash,
                // Before what is held, or after the end of a chain that became shorter.
                None => step.l1 < self.l1_chain.first() || self.l1_chain.last().is_none(),
            };
            let executed = self.chain.number(step.safe.number).await;
            let executed = match executed {
                Ok(block) => block.hash == step.safe.hash,
                Err(ChainError::Missing(_)) => false,
                Err(error) => return Err(error.into()),
            };
            if on_l1 && executed {
                break;
            }
            self.steps.pop_back();
            dropped += 1;
        }
        if dropped > 0 {
            let l1 = self.steps.back().map(|step| step.l1);
            tracing::warn!(
                l1_blocks = dropped,
                back_to = l1,
                "L1 or the executed chain was reorganised, deriving again"
            );
            if self.steps.is_empty() {
                self.begin().await?;
            }
            self.tell();
        }
        Ok(())
    }

    fn push(&mut self, step: Step) {
        self.steps.push_back(step);
        if self.steps.len() > STEPS_MAX {
            self.steps.pop_front();
        }
        self.tell();
    }

    fn tell(&mut self) {
        if let Some(step) = self.steps.back() {
            (self.derived.l1, self.derived.l1_hash) = (step.l1, step.l1_hash);
            self.derived.safe = reference(&step.safe);
            let end = step.safe.info.origin.number.saturating_add(self.rollup.seq_window_size);
            self.derived.window_left = end.saturating_sub(step.l1);
        }
    }

    /// At the end of L1: what of it is final?
    async fn finish(&mut self) -> Result<(), DeriveError> {
        if let Some(finalized) = self.l1.finalized().await? {
            let last = self.steps.iter().rev().find(|step| step.l1 <= finalized.number);
            if let Some(step) = last.filter(|step| step.safe.number >= self.derived.finalized.number) {
                self.derived.finalized = reference(&step.safe);
            }
        }
        if self.derived.window_left < self.rollup.seq_window_size / 100 * WINDOW_ALARM_PERCENT {
            let left = self.derived.window_left;
            tracing::error!(
                l1_blocks = left,
                "the sequencing window of the next block ends soon: nothing was posted for long"
            );
        }
        Ok(())
    }

    /// What an L1 block adds. Changes nothing of ours unless all of it could be read.
    async fn step(&mut self, mut step: Step, block: &L1Block) -> Result<Step, DeriveError> {
        let header = &block.header;
        // L1's rules come from the block before: a change of the batcher counts from its own block on.
        let config = self.rollup.l1_system_config_address;
        for log in self.l1.logs(header.hash, &[config]).await? {
            step.system.apply(&log);
        }
        let mut counts = self.derived.clone();
        let inbox = self.rollup.batch_inbox_address;
        let batches = block.transactions.iter();
        for transaction in batches.filter(|tx| tx.to == Some(inbox) && tx.from == step.system.batcher) {
            counts.batches += 1;
            let data = if transaction.blob_versioned_hashes.is_empty() {
                vec![transaction.input.to_vec()]
            } else {
                let beacon = self.beacon.as_ref().ok_or(DeriveError::NoBeacon(header.number))?;
                let blobs = beacon.blobs(header, &transaction.blob_versioned_hashes).await?;
                blobs.iter().filter_map(|blob| decode_blob(blob).ok()).collect()
            };
            for data in data {
                counts.bytes += data.len() as u64;
                let Ok(frames) = decode_data(&data) else {
                    counts.dropped += 1;
                    continue;
                };
                let arrival = step.bank.add(header.number, frames);
                counts.dropped += arrival.dropped as u64;
                for ready in arrival.ready {
                    self.read_channel(&ready.data, &mut step.safe, &mut counts).await?;
                }
            }
        }
        (step.l1, step.l1_hash) = (header.number, header.hash);
        self.derived = counts;
        Ok(step)
    }

    /// The batches of a channel, up to the first that is invalid: Holocene drops the rest with it.
    async fn read_channel(&self, data: &[u8], safe: &mut L2Block, counts: &mut Derived) -> Result<(), DeriveError> {
        let Ok(batches) = channel::decompress(data) else {
            counts.dropped += 1;
            return Ok(());
        };
        for batch in batches {
            let valid = match self.read_batch(&batch) {
                None => false,
                Some(candidate) => self.read_blocks(candidate, safe, counts).await?,
            };
            if !valid {
                counts.dropped += 1;
                return Ok(());
            }
        }
        Ok(())
    }

    fn read_batch(&self, batch: &[u8]) -> Option<Candidate> {
        match batch {
            [SINGULAR, batch @ ..] => {
                let batch = SingularBatch::decode(batch).ok()?;
                Some(Candidate {
                    parent: ParentCheck(batch.parent.0.to_vec()),
                    timestamp: batch.timestamp,
                    origin_check: B256::from(batch.epoch_hash.0),
                    origin_check_bytes: 32,
                    blocks: vec![(batch.epoch_number, batch.transactions)],
                })
            }
            [SPAN, batch @ ..] => {
                let batch = SpanBatch::decode(batch, self.rollup.l2_chain_id).ok()?;
                let changes = batch.blocks.iter().filter(|block| block.origin_changed).count() as u64;
                let mut origin = batch.l1_origin_number.checked_sub(changes)?;
                let blocks = batch.blocks.into_iter().map(|block| {
                    origin += u64::from(block.origin_changed);
                    (origin, block.transactions)
                });
                Some(Candidate {
                    parent: ParentCheck(batch.parent_check.to_vec()),
                    timestamp: self.rollup.genesis.l2_time.checked_add(batch.relative_timestamp)?,
                    blocks: blocks.collect(),
                    origin_check: B256::right_padding_from(&batch.l1_origin_check),
                    origin_check_bytes: 20,
                })
            }
            _ => None,
        }
    }

    /// Moves `safe` over a batch's blocks. Returns whether the batch is valid; what is in the past is, without effect.
    async fn read_blocks(
        &self,
        batch: Candidate,
        safe: &mut L2Block,
        counts: &mut Derived,
    ) -> Result<bool, DeriveError> {
        let (time, genesis) = (self.rollup.block_time, &self.rollup.genesis);
        let Some(since) = batch.timestamp.checked_sub(genesis.l2_time).filter(|since| since.is_multiple_of(time))
        else {
            return Ok(false);
        };
        let first = genesis.l2.number.saturating_add(since / time);
        let last = first.saturating_add(batch.blocks.len() as u64).saturating_sub(1);
        if last <= safe.number {
            counts.dropped += 1;
            return Ok(true);
        }
        if first > safe.number + 1 || first == 0 {
            return Ok(false);
        }
        let parent = if first == safe.number + 1 { safe.clone() } else { self.chain.number(first - 1).await? };
        if !parent.hash.starts_with(&batch.parent.0) {
            return Ok(false);
        }
        // A batch on L1 blocks that L1 does not have (any more) is invalid.
        let Some((origin, _)) = batch.blocks.last() else { return Ok(false) };
        let Some(origin) = self.l1_header(*origin).await? else { return Ok(false) };
        let checked = batch.origin_check_bytes;
        if origin[..checked] != batch.origin_check[..checked] {
            return Ok(false);
        }
        for (number, (origin, transactions)) in (first..).zip(batch.blocks) {
            let executed = match self.chain.number(number).await {
                Err(ChainError::Missing(_)) => return Err(DeriveError::Ahead(number)),
                result => result?,
            };
            let timestamp = genesis.l2_time + (number - genesis.l2.number) * time;
            let difference = if executed.parent_hash != safe.hash && number > safe.number {
                "its parent"
            } else if executed.timestamp != timestamp {
                "its timestamp"
            } else if executed.info.origin.number != origin {
                "its L1 origin"
            } else if executed.transactions != transactions {
                "its transactions"
            } else {
                if number > safe.number {
                    counts.blocks += 1;
                    counts.transactions += transactions.len() as u64;
                    *safe = executed;
                }
                continue;
            };
            // Before the safe head, a batch that differs is merely invalid.
            return if number <= safe.number { Ok(false) } else { Err(DeriveError::Disagrees { number, difference }) };
        }
        Ok(true)
    }

    /// The hash of an L1 block on the chain that is being read.
    async fn l1_header(&self, number: u64) -> Result<Option<B256>, RpcError> {
        if let Some(header) = self.l1_chain.get(number) {
            return Ok(Some(header.hash));
        }
        Ok(self.l1.header(number).await?.map(|header| header.hash))
    }
}

fn reference(block: &L2Block) -> BlockRef {
    BlockRef { number: block.number, hash: block.hash }
}
