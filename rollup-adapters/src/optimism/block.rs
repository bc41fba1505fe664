//! Which L2 block does a lane block belong to, and which L1 block is that L2 block built on?
//!
//! The L2 block with timestamp `T` holds the lane blocks after its parent's and up to `T`. It is complete once the lane
//! has a block at or after `T`: the closing block. Because lanes are dense, the closing block is the same for everybody.
//!
//! The origin is the parent's, or the next L1 block if the closing block's header has seen it and it is not newer
//! than `T`. So an outage of L1 stops nobody: the log's view of L1 stands still, and so does the origin. An origin
//! older than the sequencer drift forbids transactions; they wait in the lane until the origin has caught up, and so does
//! what a full block leaves over.

use lockstep_protocol::header::L1Origin;

use super::OptimismConfig;
use crate::{
    AdapterError, ChainTip, L1View, LaneBlock, NativeBlock, Plan, PlannedBlock, adapter::BLOCKS_PER_PLAN_MAX, lane,
    transaction,
};

/// How far, in seconds, a block with transactions may be ahead of its L1 origin (specs, Fjord: constant maximum
/// sequencer drift).
pub const SEQUENCER_DRIFT_SECONDS_MAX: u64 = 1_800;

/// Bytes of transactions in one block. A block must fit one channel on either target even if nothing compresses: 25 L1
/// transactions of 100,000 bytes of calldata, or of one blob.
pub const BLOCK_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Length prefix that a batch adds to a transaction, at most; counted so that tiny transactions do not slip through.
const TRANSACTION_OVERHEAD: usize = 9;

pub(super) fn plan(
    config: &OptimismConfig,
    lane_blocks: &[LaneBlock],
    at: &ChainTip,
    l1: &L1View,
) -> Result<Plan, AdapterError> {
    l1.agrees(&at.l1)?;
    let fit = |bytes: &[u8]| {
        transaction::check(bytes, config.chain_id).map(|()| bytes.len().saturating_add(TRANSACTION_OVERHEAD))
    };
    let mut plan = Plan::default();
    let (mut timestamp, mut origin, mut cursor) = (at.timestamp, at.l1, at.lane);
    while plan.blocks.len() < BLOCKS_PER_PLAN_MAX {
        let Some((next, next_ms)) = grid(timestamp, config.block_time) else { break };
        let closing = lane_blocks.partition_point(|block| block.timestamp_ms < next_ms);
        let Some(closing_block) = lane_blocks.get(closing) else { break };
        origin = next_origin(&origin, next, &closing_block.l1, l1)?;
        timestamp = next;
        let mut transactions = Vec::new();
        if within_drift(next, &origin) {
            (transactions, cursor) = lane::take(lane_blocks, cursor, next_ms, BLOCK_BYTES_MAX, fit, &mut plan.skipped);
        }
        let block = NativeBlock { timestamp, l1: origin, transactions, delayed: None };
        plan.blocks.push(PlannedBlock { block, lane: cursor });
    }
    Ok(plan)
}

/// Whether a block at `timestamp` on `origin` may hold transactions.
pub(super) fn within_drift(timestamp: u64, origin: &L1Origin) -> bool {
    timestamp <= origin.timestamp.saturating_add(SEQUENCER_DRIFT_SECONDS_MAX)
}

/// The next block's timestamp in seconds and milliseconds, while they fit.
fn grid(timestamp: u64, block_time: u64) -> Option<(u64, u64)> {
    let next = timestamp.checked_add(block_time)?;
    Some((next, next.checked_mul(1_000)?))
}

fn next_origin(parent: &L1Origin, timestamp: u64, seen: &L1Origin, l1: &L1View) -> Result<L1Origin, AdapterError> {
    l1.agrees(seen)?;
    let Some(number) = parent.number.checked_add(1) else { return Ok(*parent) };
    // Past the drift, a block must be empty unless the next origin could not have been adopted: that is L1's fact,
    // half an hour old by then, and no longer depends on what the log has seen.
    let late = !within_drift(timestamp, parent);
    if seen.number < number && !late {
        return Ok(*parent);
    }
    let next = l1.need(number)?;
    Ok(if next.timestamp <= timestamp { *next } else { *parent })
}
