//! How do executed blocks become what is posted on L1, and what does the rollup derive from it?
//!
//! Encoding cuts the blocks into channels that can close in time, each self-sufficient. Decoding is what derivation would
//! do, stricter: where derivation quietly drops something of ours, this is an error.

use lockstep_protocol::{header::L1Origin, ids::Hash32};

use super::{
    Bank, Frame, OptimismConfig, SingularBatch, blob, block, channel, frame,
    singular::SINGULAR,
    span::{self, EncodedSpan, SPAN, SpanBatch, SpanPrefix},
};
use crate::{AdapterError, Batch, BatchTarget, ChainTip, DecodeError, ExecutedBlock, L1View, NativeBlock, transaction};

/// Which batches to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchFormat {
    /// One batch a block.
    Singular,
    /// One batch a channel, its transactions in columns: about a fifth fewer bytes.
    Span,
}

/// L1 transactions of one channel: with one transaction in every second L1 block, it closes within
/// [`super::CHANNEL_TIMEOUT_L1_BLOCKS`].
const CHANNEL_TRANSACTIONS_MAX: usize = 25;

/// Bytes that one L1 transaction's calldata may have: what public pools take (128 KiB for the whole transaction).
const CALLDATA_BYTES_MAX: usize = 127 * 1024;

/// Blobs that one L1 transaction may carry (EIP-7594: six).
const BLOBS_MAX: usize = 6;

pub(super) fn encode(
    config: &OptimismConfig,
    blocks: &[ExecutedBlock],
    at: &ChainTip,
    target: BatchTarget,
) -> Result<Vec<Batch>, AdapterError> {
    let mut tip = at.clone();
    for executed in blocks {
        follows(config, &tip, &executed.block)?;
        // A span batch takes transactions apart, and finds by itself those that it cannot hold.
        if config.format == BatchFormat::Singular {
            fit(config, &tip, &executed.block)?;
        }
        tip = tip.after(executed);
    }
    let mut batches = Vec::new();
    encode_channels(config, blocks, at, Cut::new(target)?, &mut batches)?;
    Ok(batches)
}

/// How channels are cut for a target.
#[derive(Clone, Copy)]
struct Cut {
    frame_bytes_max: usize,
    frames_per_transaction: usize,
    blobs: bool,
}

impl Cut {
    fn new(target: BatchTarget) -> Result<Self, AdapterError> {
        let within = |what, found: usize, limit: usize| {
            if found <= limit {
                Ok(found)
            } else {
                Err(AdapterError::Limit { what, limit: limit as u64, found: found as u64 })
            }
        };
        // One byte of every transaction or blob is the derivation version.
        Ok(match target {
            BatchTarget::Calldata { bytes_max } => {
                let bytes = within("calldata of a transaction", bytes_max, CALLDATA_BYTES_MAX)?;
                Self { frame_bytes_max: bytes.saturating_sub(1), frames_per_transaction: 1, blobs: false }
            }
            BatchTarget::Blobs { per_transaction } => {
                let blobs = within("blobs of a transaction", per_transaction.max(1), BLOBS_MAX)?;
                Self { frame_bytes_max: blob::BLOB_DATA_BYTES_MAX - 1, frames_per_transaction: blobs, blobs: true }
            }
        })
    }

    fn batch(&self, frames: &[Frame]) -> Result<Batch, AdapterError> {
        if self.blobs {
            let blob = |frame| blob::encode_blob(&frame::encode_data(std::slice::from_ref(frame))?);
            Ok(Batch::Blobs(frames.iter().map(blob).collect::<Result<_, _>>()?))
        } else {
            Ok(Batch::Calldata(frame::encode_data(frames)?))
        }
    }
}

/// One channel if it can close in time, otherwise two halves, each by the same rule.
fn encode_channels(
    config: &OptimismConfig,
    blocks: &[ExecutedBlock],
    at: &ChainTip,
    cut: Cut,
    out: &mut Vec<Batch>,
) -> Result<(), AdapterError> {
    if blocks.is_empty() {
        return Ok(());
    }
    let attempt = encode_channel(config, blocks, at).and_then(|channel| {
        let frames = frame::split(&channel, cut.frame_bytes_max)?;
        let transactions = frames.len().div_ceil(cut.frames_per_transaction);
        if transactions > CHANNEL_TRANSACTIONS_MAX {
            let (limit, found) = (CHANNEL_TRANSACTIONS_MAX as u64, transactions as u64);
            return Err(AdapterError::Limit { what: "L1 transactions of a channel", limit, found });
        }
        Ok(frames)
    });
    match attempt {
        Ok(frames) => {
            for frames in frames.chunks(cut.frames_per_transaction) {
                out.push(cut.batch(frames)?);
            }
            Ok(())
        }
        Err(AdapterError::Limit { .. }) if blocks.len() > 1 => {
            let (left, right) = blocks.split_at(blocks.len() / 2);
            let middle = left.iter().fold(at.clone(), |tip, block| tip.after(block));
            encode_channels(config, left, at, cut, out)?;
            encode_channels(config, right, &middle, cut, out)
        }
        Err(error) => Err(error),
    }
}

fn encode_channel(config: &OptimismConfig, blocks: &[ExecutedBlock], at: &ChainTip) -> Result<Vec<u8>, AdapterError> {
    match config.format {
        BatchFormat::Singular => {
            let parents = std::iter::once(at.hash).chain(blocks.iter().map(|block| block.hash));
            let batches = blocks.iter().zip(parents);
            let batches: Vec<_> =
                batches.map(|(executed, parent)| singular(&executed.block, parent).encode()).collect();
            channel::compress(&batches, config.compression)
        }
        BatchFormat::Span => channel::compress_span(&span(config, blocks, at)?, config.compression),
    }
}

fn singular(block: &NativeBlock, parent: Hash32) -> SingularBatch {
    SingularBatch {
        parent,
        epoch_number: block.l1.number,
        epoch_hash: block.l1.hash,
        timestamp: block.timestamp,
        transactions: block.transactions.clone(),
    }
}

fn broken(tip: &ChainTip, rule: &'static str) -> AdapterError {
    AdapterError::Block { number: tip.number.saturating_add(1), rule }
}

fn fit(config: &OptimismConfig, at: &ChainTip, block: &NativeBlock) -> Result<(), AdapterError> {
    let unfit = |bytes: &Vec<u8>| transaction::check(bytes, config.chain_id).is_err();
    if block.transactions.iter().any(unfit) {
        return Err(broken(at, "a transaction that derivation would reject"));
    }
    Ok(())
}

/// The rules that a block must keep towards its parent, whatever the batch looks like.
fn follows(config: &OptimismConfig, at: &ChainTip, block: &NativeBlock) -> Result<(), AdapterError> {
    let rule = |holds: bool, rule| if holds { Ok(()) } else { Err(broken(at, rule)) };
    rule(
        at.timestamp.checked_add(config.block_time) == Some(block.timestamp),
        "its timestamp must be its parent's and the block time",
    )?;
    let same = block.l1 == at.l1;
    let next = at.l1.number.checked_add(1) == Some(block.l1.number);
    rule(same || next, "its L1 origin must be its parent's or the next")?;
    rule(block.timestamp >= block.l1.timestamp, "it must not be older than its L1 origin")?;
    rule(
        block.transactions.is_empty() || block::within_drift(block.timestamp, &block.l1),
        "it must be empty, so far ahead of its L1 origin",
    )?;
    rule(block.delayed.is_none(), "there is no delayed inbox")
}

fn span(config: &OptimismConfig, blocks: &[ExecutedBlock], at: &ChainTip) -> Result<EncodedSpan, AdapterError> {
    let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
        return Err(broken(at, "a span has at least one block"));
    };
    let relative_timestamp = first
        .block
        .timestamp
        .checked_sub(config.genesis_timestamp)
        .ok_or_else(|| broken(at, "it must not be older than the genesis of its chain"))?;
    let mut parent = &at.l1;
    let blocks = blocks.iter().map(|executed| {
        let block = &executed.block;
        let origin_changed = block.l1.number != parent.number;
        parent = &block.l1;
        (origin_changed, block.transactions.as_slice())
    });
    let prefix = SpanPrefix {
        relative_timestamp,
        l1_origin_number: last.block.l1.number,
        parent_check: head(&at.hash),
        l1_origin_check: head(&last.block.l1.hash),
    };
    span::encode_blocks(&prefix, blocks, config.chain_id)
}

fn head(hash: &Hash32) -> [u8; 20] {
    let mut head = [0; 20];
    head.copy_from_slice(&hash.0[..20]);
    head
}

pub(super) fn decode(
    config: &OptimismConfig,
    batches: &[Batch],
    at: &ChainTip,
    l1: &L1View,
) -> Result<Vec<NativeBlock>, AdapterError> {
    let mut bank = Bank::default();
    let mut chain = Derived { config, l1, tip: at.clone(), parent_known: true, blocks: Vec::new() };
    for batch in batches {
        for data in data_of(batch)? {
            let arrival = bank.add(0, frame::decode_data(&data)?);
            if arrival.dropped > 0 {
                let reason = "missing, repeated or out of order";
                return Err(DecodeError::Invalid { what: "frames", reason }.into());
            }
            for ready in arrival.ready {
                for batch in channel::decompress(&ready.data)? {
                    chain.extend(&batch)?;
                }
            }
        }
    }
    match bank.open_since() {
        Some(_) => Err(DecodeError::Truncated("channel").into()),
        None => Ok(chain.blocks),
    }
}

fn data_of(batch: &Batch) -> Result<Vec<Vec<u8>>, DecodeError> {
    match batch {
        Batch::Calldata(data) => Ok(vec![data.clone()]),
        Batch::Blobs(blobs) => blobs.iter().map(|blob| blob::decode_blob(blob)).collect(),
    }
}

/// The chain that batches lead to.
struct Derived<'a> {
    config: &'a OptimismConfig,
    l1: &'a L1View,
    tip: ChainTip,
    /// Whether `tip.hash` is known: only execution gives the hashes of later blocks.
    parent_known: bool,
    blocks: Vec<NativeBlock>,
}

impl Derived<'_> {
    fn extend(&mut self, batch: &[u8]) -> Result<(), AdapterError> {
        match batch {
            [SINGULAR, batch @ ..] => self.extend_singular(SingularBatch::decode(batch)?),
            [SPAN, batch @ ..] => self.extend_span(SpanBatch::decode(batch, self.config.chain_id)?),
            [] => Err(DecodeError::Truncated("batch").into()),
            [other, ..] => Err(DecodeError::Version { what: "batch", found: *other }.into()),
        }
    }

    fn extend_singular(&mut self, batch: SingularBatch) -> Result<(), AdapterError> {
        if self.parent_known && batch.parent != self.tip.hash {
            return Err(broken(&self.tip, "its batch names another parent"));
        }
        self.push(NativeBlock {
            timestamp: batch.timestamp,
            l1: *self.l1.confirm(batch.epoch_number, &batch.epoch_hash)?,
            transactions: batch.transactions,
            delayed: None,
        })
    }

    fn extend_span(&mut self, batch: SpanBatch) -> Result<(), AdapterError> {
        if self.parent_known && batch.parent_check != head(&self.tip.hash) {
            return Err(broken(&self.tip, "its batch names another parent"));
        }
        let changes = batch.blocks.iter().filter(|block| block.origin_changed).count() as u64;
        let mut origin = batch
            .l1_origin_number
            .checked_sub(changes)
            .filter(|first| *first == self.tip.l1.number)
            .ok_or_else(|| broken(&self.tip, "its L1 origin must be its parent's or the next"))?;
        if head(&self.l1.need(batch.l1_origin_number)?.hash) != batch.l1_origin_check {
            return Err(AdapterError::L1Fork { number: batch.l1_origin_number });
        }
        let mut timestamp = self.config.genesis_timestamp.checked_add(batch.relative_timestamp);
        for block in batch.blocks {
            origin += u64::from(block.origin_changed);
            let l1 = *self.l1.need(origin)?;
            let at = timestamp.ok_or_else(|| broken(&self.tip, "its timestamp must fit 64 bits"))?;
            timestamp = at.checked_add(self.config.block_time);
            self.push(NativeBlock { timestamp: at, l1, transactions: block.transactions, delayed: None })?;
        }
        Ok(())
    }

    fn push(&mut self, block: NativeBlock) -> Result<(), AdapterError> {
        follows(self.config, &self.tip, &block)?;
        let late = !block::within_drift(block.timestamp, &block.l1);
        let next: Option<&L1Origin> = block.l1.number.checked_add(1).and_then(|next| self.l1.get(next));
        if late && block.l1 == self.tip.l1 && next.is_some_and(|next| block.timestamp >= next.timestamp) {
            return Err(broken(&self.tip, "it had to move to the next L1 origin"));
        }
        fit(self.config, &self.tip, &block)?;
        let executed = ExecutedBlock { block, ..Default::default() };
        self.tip = self.tip.after(&executed);
        self.parent_known = false;
        self.blocks.push(executed.block);
        Ok(())
    }
}
