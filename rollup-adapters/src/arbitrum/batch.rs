//! How do blocks become what is posted to the SequencerInbox, and what does the node read from it?
//!
//! Every batch stands for itself. That none is missing, and none comes twice, is the contract's care: the poster names
//! the number of each batch, and the counts of messages before and after.

use super::{ArbitrumConfig, Event, blob, message, segment};
use crate::{AdapterError, Batch, BatchTarget, ChainTip, ExecutedBlock, L1View, NativeBlock, transaction};

/// Calldata of one batch (nitro-contracts: `maxDataSize` 117,964 as deployed over Ethereum, less the 40-byte header).
const CALLDATA_BYTES_MAX: usize = 117_964 - 40;

/// Blobs that one L1 transaction may carry (EIP-7594: six).
const BLOBS_MAX: usize = 6;

pub(super) fn encode(
    config: &ArbitrumConfig,
    blocks: &[ExecutedBlock],
    at: &ChainTip,
    target: BatchTarget,
) -> Result<Vec<Batch>, AdapterError> {
    let (what, found, limit) = match target {
        BatchTarget::Calldata { bytes_max } => ("calldata of a transaction", bytes_max, CALLDATA_BYTES_MAX),
        BatchTarget::Blobs { per_transaction } => ("blobs of a transaction", per_transaction, BLOBS_MAX),
    };
    if found > limit {
        return Err(AdapterError::Limit { what, limit: limit as u64, found: found as u64 });
    }
    let mut tip = at.clone();
    let mut events = Vec::with_capacity(blocks.len());
    for executed in blocks {
        events.push(event(config, &tip, &executed.block)?);
        tip = tip.after(executed);
    }
    let mut batches = Vec::new();
    cut(config, &events, target, &mut batches)?;
    Ok(batches)
}

/// One batch if it fits one L1 transaction, otherwise two halves, each by the same rule.
fn cut(
    config: &ArbitrumConfig,
    events: &[Event],
    target: BatchTarget,
    out: &mut Vec<Batch>,
) -> Result<(), AdapterError> {
    if events.is_empty() {
        return Ok(());
    }
    let attempt = segment::compress(events, config.quality).and_then(|batch| match target {
        BatchTarget::Calldata { bytes_max } if batch.len() > bytes_max => {
            let (limit, found) = (bytes_max as u64, batch.len() as u64);
            Err(AdapterError::Limit { what: "bytes of a batch in calldata", limit, found })
        }
        BatchTarget::Calldata { .. } => Ok(Batch::Calldata(batch)),
        BatchTarget::Blobs { per_transaction } => blob::encode_blobs(&batch, per_transaction).map(Batch::Blobs),
    });
    match attempt {
        Ok(batch) => out.push(batch),
        Err(AdapterError::Limit { .. }) if events.len() > 1 => {
            let (left, right) = events.split_at(events.len() / 2);
            cut(config, left, target, out)?;
            cut(config, right, target, out)?;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn event(config: &ArbitrumConfig, at: &ChainTip, block: &NativeBlock) -> Result<Event, AdapterError> {
    follows(config, at, block)?;
    if block.delayed.is_some() {
        return Ok(Event::Delayed);
    }
    let message = message::encode_message(&block.transactions)?;
    Ok(Event::Message { timestamp: block.timestamp, l1_number: block.l1.number, message })
}

/// The rules that a block must keep towards its parent.
fn follows(config: &ArbitrumConfig, at: &ChainTip, block: &NativeBlock) -> Result<(), AdapterError> {
    let broken = |rule| AdapterError::Block { number: at.number.saturating_add(1), rule };
    let rule = |holds: bool, rule| if holds { Ok(()) } else { Err(broken(rule)) };
    rule(block.timestamp >= at.timestamp, "it must not be older than its parent")?;
    rule(block.l1.number > at.l1.number || block.l1 == at.l1, "its L1 block must be its parent's or a later one")?;
    if let Some(index) = block.delayed {
        rule(index == at.delayed, "delayed messages come in their order")?;
        rule(block.transactions.is_empty(), "a delayed message stands alone")?;
        rule(
            (block.timestamp, block.l1) == (at.timestamp, at.l1),
            "a block of a delayed message repeats its parent's clock",
        )?;
    }
    for bytes in &block.transactions {
        transaction::check(bytes, config.chain_id).map_err(|_| broken("a transaction that the node would reject"))?;
    }
    Ok(())
}

pub(super) fn decode(
    config: &ArbitrumConfig,
    batches: &[Batch],
    at: &ChainTip,
    l1: &L1View,
) -> Result<Vec<NativeBlock>, AdapterError> {
    let mut tip = at.clone();
    let mut blocks = Vec::new();
    for batch in batches {
        let events = match batch {
            Batch::Calldata(data) => segment::decompress(data)?,
            Batch::Blobs(blobs) => segment::decompress(&blob::decode_blobs(blobs)?)?,
        };
        for event in events {
            let block = match event {
                Event::Delayed => NativeBlock {
                    timestamp: tip.timestamp,
                    l1: tip.l1,
                    transactions: vec![],
                    delayed: Some(tip.delayed),
                },
                Event::Message { timestamp, l1_number, message } => NativeBlock {
                    timestamp,
                    l1: if l1_number == tip.l1.number { tip.l1 } else { *l1.need(l1_number)? },
                    transactions: message::decode_message(&message)?,
                    delayed: None,
                },
            };
            follows(config, &tip, &block)?;
            let executed = ExecutedBlock { block, ..Default::default() };
            tip = tip.after(&executed);
            blocks.push(executed.block);
        }
    }
    Ok(blocks)
}
