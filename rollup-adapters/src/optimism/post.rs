//! What is posted next, when, and did it arrive?
//!
//! One round after the other: how far does L1 lead (`derive.rs`)? What is executed beyond that? Is it enough, or old enough? Then
//! span batches, a channel, frames, L1 transactions, until they are in blocks; and then L1 is asked again. Nothing is
//! remembered between rounds, so a poster that is killed anywhere begins with the question, and posts what is missing.
//!
//! Posting twice has no effect: derivation drops batches of the past. A round is one channel that fits 25 L1 transactions or fewer,
//! so it closes within the channel timeout, and channels of different rounds never overlap (Holocene wants frames in order): a
//! round begins when L1 has nothing of ours left in its pool and was read to its end.

use std::{sync::Arc, time::Duration};

use lockstep_protocol::ids::Hash32;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::JoinSet};

use super::{
    BLOCK_BYTES_MAX, Optimism,
    chain::{Chain, ChainError, L2Block},
    derive::Derived,
    rollup::Rollup,
};
use crate::{
    AdapterError, Batch, BatchTarget, ChainTip, ExecutedBlock, RollupAdapter,
    poster::{
        Lease, Market, Request, RpcError, SendError, Sender,
        fees::{blobs_are_cheaper, calldata_gas},
        lease::{LeaseError, Verdict},
        target::Choice,
    },
    retry::Backoff,
    serve::{OnL1, PosterStatus, Service},
};

pub use crate::poster::Target;

/// Blocks of one round at most: half an hour of two-second blocks, far below what a span batch may hold.
const ROUND_BLOCKS_MAX: u64 = 900;
/// Bytes of transactions of one round at most: as much as one block may have, so that a round is never more than one channel.
const ROUND_BYTES_MAX: usize = BLOCK_BYTES_MAX;
/// Calldata of one L1 transaction. Pools take 128 KiB for a whole transaction.
const CALLDATA_BYTES: usize = 120_000;
/// Blobs of one L1 transaction: what pools take since EIP-7594.
const BLOBS: usize = 6;
/// What compression leaves of a transaction, in percent: to choose between calldata and blobs before compressing.
const COMPRESSED_PERCENT: usize = 60;
/// Derivation is waited for this long. If L1 stands still or goes back meanwhile, the next round asks anew.
const PATIENCE: Duration = Duration::from_secs(60);
/// Gas of an L1 transaction with blobs and no data.
const BLOB_TRANSACTION_GAS: u64 = 21_000;

/// How a poster posts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PostConfig {
    /// Where batches go.
    pub target: Target,
    /// So many bytes of transactions are posted at once.
    pub enough_bytes: usize,
    /// And whatever there is, when the oldest block is this old, seconds.
    pub max_delay_seconds: u64,
    /// Pause between two looks at what there is, milliseconds.
    pub poll_ms: u64,
}

impl Default for PostConfig {
    fn default() -> Self {
        // A blob holds about 200,000 bytes of transactions; one in two minutes keeps the safe head close in quiet times.
        Self { target: Target::Auto, enough_bytes: 200_000, max_delay_seconds: 120, poll_ms: 1_000 }
    }
}

/// Why a round ended early. The next begins with the question what is missing.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts of the causes say what each variant means")]
pub enum PostError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("L1: {0}")]
    L1(#[from] RpcError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error("the key is of {key}, L1 takes batches from {batcher} alone")]
    NotTheBatcher { key: alloy_primitives::Address, batcher: alloy_primitives::Address },
    #[error(
        "{included} L1 transactions are in blocks up to {block}, and L1 leads to block {safe} only, not to {posted}"
    )]
    WithoutEffect { included: usize, block: u64, safe: u64, posted: u64 },
}

/// Posts one rollup's blocks.
pub struct Poster {
    config: PostConfig,
    choice: Choice,
    rollup: Rollup,
    adapter: Optimism,
    chain: Arc<Chain>,
    sender: Sender,
    lease: Box<dyn Lease>,
    derived: watch::Receiver<Derived>,
    /// Whether blobs can be read back.
    reads_blobs: bool,
    service: Arc<Service<PosterStatus>>,
}

/// What a poster talks to.
pub struct Links {
    /// The execution client, for reading.
    pub chain: Arc<Chain>,
    /// Who sends.
    pub sender: Sender,
    /// Who says whether to.
    pub lease: Box<dyn Lease>,
    /// How far L1 leads: `derive.rs`.
    pub derived: watch::Receiver<Derived>,
    /// Whether blobs can be read back.
    pub reads_blobs: bool,
}

impl Poster {
    /// A poster of the chain of `rollup`, whose blocks `adapter` encodes.
    pub fn new(
        config: PostConfig,
        rollup: Rollup,
        adapter: Optimism,
        links: Links,
        service: Arc<Service<PosterStatus>>,
    ) -> Self {
        let Links { chain, sender, lease, derived, reads_blobs } = links;
        service.register(|registry| sender.metrics().register(registry));
        service.update(|status| status.address = sender.address().to_string());
        let choice = Choice::new(config.target);
        Self { config, choice, rollup, adapter, chain, sender, lease, derived, reads_blobs, service }
    }

    /// Posts until `stop` is true. A round that is on its way then is left to the next start.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut backoff = Backoff::endless();
        // Told while a round waits for L1, too. Ends with this run.
        let mut telling = JoinSet::new();
        telling.spawn(tell(self.derived.clone(), Arc::clone(&self.service)));
        while !*stop.borrow() {
            tokio::select! {
                _ = stop.changed() => {}
                () = self.attempt(&mut backoff) => {}
            }
        }
    }

    async fn attempt(&mut self, backoff: &mut Backoff) {
        match self.round().await {
            Ok(posted) => {
                if backoff.failures() > 0 {
                    self.service.update(|status| status.trouble = None);
                }
                backoff.succeeded();
                if !posted {
                    tokio::time::sleep(Duration::from_millis(self.config.poll_ms)).await;
                }
            }
            Err(error) => {
                self.service.update(|status| {
                    status.trouble = Some(error.to_string());
                    status.failures += 1;
                    status.without_effect += u64::from(matches!(error, PostError::WithoutEffect { .. }));
                });
                drop(backoff.failed(error).await);
            }
        }
    }

    /// Posts what is missing on L1, if it is time. Returns whether something was posted.
    pub async fn round(&mut self) -> Result<bool, PostError> {
        let derived = self.derived.borrow().clone();
        // Where L1 contradicts the chain, more of the chain makes it no better.
        if !derived.ready || !derived.agreed {
            return Ok(false);
        }
        let head = self.chain.head().await?;
        self.service.update(|status| status.executed = head.number);
        if head.number <= derived.safe.number {
            return Ok(false);
        }
        match self.lease.may_post().await? {
            Verdict::Held => self.leads(true, None),
            Verdict::Other { holder } => {
                self.leads(false, Some(holder));
                return Ok(false);
            }
        }
        let safe = self.chain.number(derived.safe.number).await?;
        if safe.hash != derived.safe.hash {
            // The chain is being rebuilt after a reorganisation of L1; derivation will notice.
            return Ok(false);
        }
        let (blocks, bytes) = missing(&self.chain, &safe, head.number).await?;
        let oldest = blocks.first().map_or(0, |block| head.timestamp.saturating_sub(block.timestamp));
        if blocks.is_empty() || bytes < self.config.enough_bytes && oldest < self.config.max_delay_seconds {
            return Ok(false);
        }
        if let Some(block) = blocks.last().filter(|block| block.system.batcher != self.sender.address()) {
            return Err(PostError::NotTheBatcher { key: self.sender.address(), batcher: block.system.batcher });
        }
        // What an earlier run left in L1's pool is most likely what is missing: it is waited for, and then looked for on L1.
        self.sender.settle().await?;
        let market = self.sender.market().await?;
        if !self.read_to_the_end(&derived).await? {
            return Ok(false);
        }
        self.post(&safe, &blocks, bytes, &market).await
    }

    fn leads(&self, leads: bool, holder: Option<String>) {
        self.service.update(|status| {
            if status.leads != leads {
                tracing::info!(leads, holder, "the lease changed hands");
            }
            status.leads = leads;
        });
    }

    /// Waits until L1 was read to where it ends now. Whether that changed nothing of what this round builds on.
    ///
    /// Nothing of ours is in L1's pool any more, so what earlier rounds sent is in what was read then.
    async fn read_to_the_end(&mut self, begun_with: &Derived) -> Result<bool, PostError> {
        let latest = self.sender.l1().latest().await?.number;
        let read = self.derived.wait_for(|derived| derived.l1 >= latest || !derived.agreed);
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(Ok(now)) => Ok(now.safe == begun_with.safe && now.agreed),
            _ => Ok(false),
        }
    }

    fn target(&self, market: &Market, bytes: usize, takes_blobs: bool) -> BatchTarget {
        let compressed = bytes * COMPRESSED_PERCENT / 100;
        let count = compressed.div_ceil(super::BLOB_DATA_BYTES_MAX).max(1);
        let cheaper = || blobs_are_cheaper(market, compressed, count);
        if self.choice.blobs(self.reads_blobs && takes_blobs, cheaper) {
            BatchTarget::Blobs { per_transaction: BLOBS }
        } else {
            BatchTarget::Calldata { bytes_max: CALLDATA_BYTES }
        }
    }

    async fn post(
        &mut self,
        safe: &L2Block,
        blocks: &[L2Block],
        bytes: usize,
        market: &Market,
    ) -> Result<bool, PostError> {
        let takes_blobs = self.sender.l1().latest().await?.takes_blobs;
        let at = ChainTip {
            number: safe.number,
            hash: Hash32(safe.hash.0),
            timestamp: safe.timestamp,
            l1: safe.info.origin,
            ..ChainTip::default()
        };
        let target = self.target(market, bytes, takes_blobs);
        let executed: Vec<ExecutedBlock> = blocks.iter().map(L2Block::executed).collect();
        let adapter = self.adapter.clone();
        // Compression takes a while and must not hold up whoever shares this thread.
        let encoded = tokio::task::spawn_blocking(move || adapter.encode(&executed, &at, target)).await;
        let batches = encoded.expect("encoding does not panic")?;
        let size: usize = batches.iter().map(size_of).sum();
        let requests: Vec<Request> = batches.into_iter().map(|batch| self.request(batch)).collect();
        let count = requests.len();
        let (first, last) = (safe.number + 1, safe.number + blocks.len() as u64);
        tracing::info!(first, last, bytes = size, l1_transactions = count, ?target, "posting");
        self.service.update(|status| status.rounds += 1);
        let sent = self.sender.send(requests).await;
        self.choice.sent(matches!(target, BatchTarget::Blobs { .. }), &sent);
        let included = sent?;
        let block = included.iter().map(|included| included.block).max().unwrap_or_default();
        let transactions: usize = blocks.iter().map(|block| block.transactions.len()).sum();
        self.service.update(|status| {
            status.posted = last;
            status.batches_posted += count as u64;
            status.bytes_posted += size as u64;
            status.transactions_posted += transactions as u64;
            status.bytes_per_transaction = match status.transactions_posted {
                0 => 0.0,
                transactions => status.bytes_posted as f64 / transactions as f64,
            };
        });
        self.confirm(included.len(), block, last).await?;
        tracing::info!(first, last, l1 = block, transactions, bytes = size, "posted, and L1 leads to it");
        Ok(true)
    }

    /// Waits until L1 was read up to `block`, and looks whether it leads to what was posted.
    async fn confirm(&mut self, included: usize, block: u64, posted: u64) -> Result<(), PostError> {
        let read = self.derived.wait_for(|derived| derived.l1 >= block || !derived.agreed);
        let derived = match tokio::time::timeout(PATIENCE, read).await {
            Ok(Ok(derived)) => derived.clone(),
            _ => return Ok(()),
        };
        if derived.agreed && derived.safe.number < posted {
            return Err(PostError::WithoutEffect { included, block, safe: derived.safe.number, posted });
        }
        Ok(())
    }

    fn request(&self, batch: Batch) -> Request {
        let to = self.rollup.batch_inbox_address;
        match batch {
            Batch::Calldata(data) => Request { to, gas: Some(calldata_gas(&data)), data, ..Request::default() },
            Batch::Blobs(blobs) => Request { to, blobs, gas: Some(BLOB_TRANSACTION_GAS), ..Request::default() },
        }
    }
}

/// Tells how far L1 leads.
async fn tell(mut derived: watch::Receiver<Derived>, service: Arc<Service<PosterStatus>>) {
    loop {
        let now = derived.borrow_and_update().clone();
        // Before L1 was read to its end, it may hold more, and the block to begin with may be on it further on.
        let on_l1 = now.ready.then_some(OnL1 {
            block: now.safe.number,
            block_hash: Some(now.safe.hash),
            l1: now.l1,
            l1_hash: now.l1_hash,
        });
        service.update(|status| (status.derivation, status.on_l1) = (now, on_l1));
        if derived.changed().await.is_err() {
            return;
        }
    }
}

/// The executed blocks after `safe`, as many as a round takes, and the bytes of their transactions.
async fn missing(chain: &Chain, safe: &L2Block, head: u64) -> Result<(Vec<L2Block>, usize), PostError> {
    let mut blocks: Vec<L2Block> = Vec::new();
    let mut bytes = 0;
    for number in safe.number + 1..=head.min(safe.number + ROUND_BLOCKS_MAX) {
        let block = chain.number(number).await?;
        let follows = blocks.last().map_or(safe.hash, |parent| parent.hash) == block.parent_hash;
        let size: usize = block.transactions.iter().map(Vec::len).sum();
        if !follows || !blocks.is_empty() && bytes + size > ROUND_BYTES_MAX {
            break;
        }
        bytes += size;
        blocks.push(block);
    }
    Ok((blocks, bytes))
}

fn size_of(batch: &Batch) -> usize {
    match batch {
        Batch::Calldata(data) => data.len(),
        Batch::Blobs(blobs) => blobs.iter().map(Vec::len).sum(),
    }
}
