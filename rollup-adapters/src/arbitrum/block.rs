//! Which blocks does a lane block make, and when is a message of the delayed inbox due?
//!
//! Every lane block with transactions is a block at once, or several if it is large or asks for much gas: nothing waits for a grid of time.
//! Before it come the delayed messages that L1 held `delayed_depth` blocks before the one that the lane block has seen. Empty
//! lane blocks make no block of their own, but delayed messages fall due with them.
//!
//! A node executes a message until its block has no gas left, and passes over the rest of it (Nitro, `arbos/block_processor.go`,
//! `ProduceBlockAdvanced`). So a message holds no more than surely fits: its transactions' gas limits count, those that are invalid too.

use super::ArbitrumConfig;
use crate::{
    AdapterError, ChainTip, L1View, LaneBlock, LaneCursor, NativeBlock, Plan, PlannedBlock,
    adapter::BLOCKS_PER_PLAN_MAX, lane, lane::Room, transaction,
};

/// Bytes of transactions in one block. A block is one L2 message and must fit one batch of calldata even if nothing
/// compresses: Nitro's own poster stops at 100,000 bytes.
pub const BLOCK_BYTES_MAX: usize = 80 * 1024;

/// Gas of one block, as ArbOS is initialised since version 6 (Nitro, `l2pricing.InitialPerBlockGasLimitV6`). A chain's owner may change it.
pub const BLOCK_GAS: u64 = 32_000_000;

/// Gas that the node counts for a transaction at least, and for the one of its own that begins each block.
const TRANSACTION_GAS_MIN: u64 = 21_000;

/// What a list adds to a transaction: its length and its kind.
const TRANSACTION_OVERHEAD: usize = 9;

pub(super) fn plan(
    config: &ArbitrumConfig,
    lane_blocks: &[LaneBlock],
    at: &ChainTip,
    l1: &L1View,
) -> Result<Plan, AdapterError> {
    l1.agrees(&at.l1)?;
    let gas_max = config.block_gas.saturating_sub(TRANSACTION_GAS_MIN).max(TRANSACTION_GAS_MIN);
    let room = [BLOCK_BYTES_MAX, usize::try_from(gas_max).unwrap_or(usize::MAX)];
    let room = Room { most: room, now: room };
    let fit = |bytes: &[u8]| {
        // The first of a message is executed whatever its gas limit: one that asks for more than a block has stands alone.
        let gas = transaction::columns(bytes, config.chain_id)?.gas.clamp(TRANSACTION_GAS_MIN, gas_max);
        let gas = usize::try_from(gas).unwrap_or(usize::MAX);
        Ok(lane::Fit::held([bytes.len().saturating_add(TRANSACTION_OVERHEAD), gas]))
    };
    let mut plan = Plan::default();
    let (mut timestamp, mut origin, mut cursor, mut delayed) = (at.timestamp, at.l1, at.lane, at.delayed);
    let start = lane_blocks.partition_point(|block| block.timestamp_ms <= at.lane.ms);
    for lane_block in &lane_blocks[start..] {
        l1.agrees(&lane_block.l1)?;
        let due = match config.delayed_depth.and_then(|depth| lane_block.l1.number.checked_sub(depth)) {
            Some(number) => l1.delayed_at(number)?,
            None => 0,
        };
        while delayed < due {
            if plan.blocks.len() == BLOCKS_PER_PLAN_MAX {
                return Ok(plan);
            }
            let block = NativeBlock { timestamp, l1: origin, transactions: vec![], delayed: Some(delayed) };
            plan.blocks.push(PlannedBlock { block, lane: cursor });
            delayed += 1;
        }
        let end = LaneCursor { ms: lane_block.timestamp_ms, taken: 0 };
        while cursor < end {
            if plan.blocks.len() == BLOCKS_PER_PLAN_MAX {
                return Ok(plan);
            }
            let (transactions, next) = lane::take(lane_blocks, cursor, end.ms, room, fit, &mut plan.skipped);
            cursor = next;
            if !transactions.is_empty() {
                // The node's clock is in seconds and must not go back, whatever the chain's last block says.
                timestamp = timestamp.max(lane_block.timestamp_ms / 1_000);
                if lane_block.l1.number > origin.number {
                    origin = lane_block.l1;
                }
                let block = NativeBlock { timestamp, l1: origin, transactions, delayed: None };
                plan.blocks.push(PlannedBlock { block, lane: cursor });
            }
        }
    }
    Ok(plan)
}
