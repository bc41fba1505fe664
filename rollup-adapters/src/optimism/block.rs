//! Which L2 block does a lane block belong to, and which L1 block is that L2 block built on?
//!
//! The L2 block with timestamp `T` holds the lane blocks after its parent's and up to `T`. It is complete once the lane
//! has a block at or after `T`: the closing block. Because lanes are dense, the closing block is the same for everybody.
//!
//! The origin is the parent's, or the next L1 block if the closing block's header has seen it and it is not newer
//! than `T`. So an outage of L1 stops nobody: the log's view of L1 stands still, and so does the origin. An origin
//! older than the sequencer drift forbids transactions; they wait in the lane until the origin has caught up, and so does
//! what a full block leaves over.
//!
//! A block is full when the next transaction may use more gas than those that the block holds have left of it, when it has
//! considered two megabytes, or when it would leave out one invalid transaction more than [`INVALID_MAX`]. So what cannot be executed
//! takes no gas from anybody, and bounded work; and where a block ends can be told from lane and block alone, without executing
//! anything.

use std::collections::HashSet;

use alloy_primitives::{B256, keccak256};
use lockstep_protocol::header::L1Origin;

use super::OptimismConfig;
use crate::{
    AdapterError, ChainTip, L1View, LaneBlock, NativeBlock, Plan, PlannedBlock, SkipReason, Skipped,
    adapter::BLOCKS_PER_PLAN_MAX, lane, transaction,
};

/// How far, in seconds, a block with transactions may be ahead of its L1 origin (specs, Fjord: constant maximum
/// sequencer drift).
pub const SEQUENCER_DRIFT_SECONDS_MAX: u64 = 1_800;

/// Bytes of transactions in one block. A block must fit one channel on either target even if nothing compresses: 25 L1
/// transactions of 100,000 bytes of calldata, or of one blob.
pub const BLOCK_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Transactions that a block leaves out because they are invalid at their place, at most; the next one waits for the next block. A
/// client that refuses blocks with them is asked about three times for each.
pub const INVALID_MAX: usize = 32;

/// The least gas that a transaction uses; what offers less is counted as if it offered this.
const TRANSACTION_GAS_MIN: u64 = 21_000;

/// Length prefix that a batch adds to a transaction, at most; counted so that tiny transactions do not slip through.
const TRANSACTION_OVERHEAD: usize = 9;

/// How much gas the lane's transactions may ask for in a block.
///
/// Counted by what they may use at most, not by what they will: so the cut is the same for every driver. What does not fit waits for
/// the next block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GasRoom {
    /// In any block: the rollup's gas limit without the L1-info transaction.
    pub most: u64,
    /// In the first block on an L1 origin, which also holds the deposits of that L1 block.
    pub with_deposits: u64,
}

impl GasRoom {
    /// No bound.
    pub const UNBOUNDED: Self = Self { most: u64::MAX, with_deposits: u64::MAX };

    /// The room under a gas limit of the rollup. An L1 block's deposits take `deposits_max` together (specs, Guaranteed gas
    /// market: the resource limit).
    pub fn under(gas_limit: u64, l1_info: u64, deposits_max: u64) -> Self {
        let most = gas_limit.saturating_sub(l1_info);
        Self { most, with_deposits: most.saturating_sub(deposits_max) }
    }

    fn room(&self, origin_changed: bool) -> lane::Room<3> {
        let room = |gas: u64| [BLOCK_BYTES_MAX, usize::try_from(gas).unwrap_or(usize::MAX), INVALID_MAX];
        lane::Room { most: room(self.most), now: room(if origin_changed { self.with_deposits } else { self.most }) }
    }
}

pub(super) fn plan(
    config: &OptimismConfig,
    lane_blocks: &[LaneBlock],
    at: &ChainTip,
    l1: &L1View,
) -> Result<Plan, AdapterError> {
    let mut plan = Plan::default();
    let mut at = ChainTip { hash: at.hash, timestamp: at.timestamp, l1: at.l1, lane: at.lane, ..ChainTip::default() };
    while plan.blocks.len() < BLOCKS_PER_PLAN_MAX {
        let Some(block) = place_next(config, lane_blocks, &at, l1)? else { break };
        let planned = fill(config, lane_blocks, &at, block, &GasRoom::UNBOUNDED, |_| false, &mut plan.skipped);
        at = ChainTip { timestamp: planned.block.timestamp, l1: planned.block.l1, lane: planned.lane, ..at };
        plan.blocks.push(planned);
    }
    Ok(plan)
}

/// Where the block after `at` stands, if the lane is known up to its timestamp. `lane_blocks` may lack heights that are proven
/// to have nothing, but not the closing one.
pub(super) fn place_next(
    config: &OptimismConfig,
    lane_blocks: &[LaneBlock],
    at: &ChainTip,
    l1: &L1View,
) -> Result<Option<NativeBlock>, AdapterError> {
    l1.agrees(&at.l1)?;
    let Some((timestamp, next_ms)) = grid(at.timestamp, config.block_time) else { return Ok(None) };
    let closing = lane_blocks.partition_point(|block| block.timestamp_ms < next_ms);
    let Some(closing_block) = lane_blocks.get(closing) else { return Ok(None) };
    let l1 = next_origin(&at.l1, timestamp, closing_block.l1.number, l1)?;
    Ok(Some(NativeBlock { timestamp, l1, ..NativeBlock::default() }))
}

/// What of the lane is in `block`, the one after `at`, and how far the lane is in the chain then. `is_invalid` knows, by their hash,
/// transactions that cannot be executed at their place.
pub(super) fn fill(
    config: &OptimismConfig,
    lane_blocks: &[LaneBlock],
    at: &ChainTip,
    block: NativeBlock,
    gas: &GasRoom,
    is_invalid: impl Fn(&B256) -> bool,
    skipped: &mut Vec<Skipped>,
) -> PlannedBlock {
    if !within_drift(block.timestamp, &block.l1) {
        return PlannedBlock { block: NativeBlock { transactions: Vec::new(), ..block }, lane: at.lane };
    }
    let mut seen = HashSet::new();
    let fit = |bytes: &[u8]| {
        let gas = transaction::columns(bytes, config.chain_id)?.gas.max(TRANSACTION_GAS_MIN);
        let gas = usize::try_from(gas).unwrap_or(usize::MAX);
        let length = bytes.len().saturating_add(TRANSACTION_OVERHEAD);
        let hash = keccak256(bytes);
        // Each is tried once in a block: so a transaction of the block is one of the lane, and not one of two.
        if !seen.insert(hash) {
            return Err(SkipReason::Repeated);
        }
        Ok(match is_invalid(&hash) {
            true => lane::Fit { needs: [length, gas, 1], takes: [length, 0, 1], is_held: false },
            false => lane::Fit::held([length, gas, 0]),
        })
    };
    let room = gas.room(block.l1.number != at.l1.number);
    let until_ms = block.timestamp.saturating_mul(1_000);
    let (transactions, lane) = lane::take(lane_blocks, at.lane, until_ms, room, fit, skipped);
    PlannedBlock { block: NativeBlock { transactions, ..block }, lane }
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

/// What the log has seen counts as a number only: a hash that L1 has taken back since would otherwise stop the chain for
/// good. Which block has that number is L1's to say.
fn next_origin(parent: &L1Origin, timestamp: u64, seen: u64, l1: &L1View) -> Result<L1Origin, AdapterError> {
    let Some(number) = parent.number.checked_add(1) else { return Ok(*parent) };
    // Past the drift, a block must be empty unless the next origin could not have been adopted: that is L1's fact,
    // half an hour old by then, and no longer depends on what the log has seen.
    let late = !within_drift(timestamp, parent);
    if seen < number && !late {
        return Ok(*parent);
    }
    let next = l1.need(number)?;
    Ok(if next.timestamp <= timestamp { *next } else { *parent })
}
