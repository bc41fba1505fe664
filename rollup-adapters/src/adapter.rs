//! What must a rollup stack's adapter be able to do?
//!
//! Three pure functions and the types that they exchange. Drivers and posters are written against these; neither is
//! here.

use lockstep_protocol::{
    header::L1Origin,
    ids::{Hash32, Height},
};

use crate::{AdapterError, L1View, LaneBlock};

/// Turns a lane into what a rollup understands, and back.
///
/// All functions are deterministic: any two posters with the same lane and the same L1 build the same blocks, however
/// they cut the lane into calls.
pub trait RollupAdapter {
    /// The blocks that follow `at`, complete ones only: what the lane may still add to stays in the lane.
    ///
    /// `lane` is dense and starts at or before what `at` already holds; that part is passed over. At most
    /// [`BLOCKS_PER_PLAN_MAX`] blocks are returned: call again with the new tip.
    fn blocks(&self, lane: &[LaneBlock], at: &ChainTip, l1: &L1View) -> Result<Plan, AdapterError>;

    /// What to post on L1, in order, one [`Batch`] per L1 transaction, so that the rollup derives `blocks` on top of `at`.
    fn encode(&self, blocks: &[ExecutedBlock], at: &ChainTip, target: BatchTarget) -> Result<Vec<Batch>, AdapterError>;

    /// The blocks that the rollup derives on top of `at` from complete batches, under its own rules and this view of L1.
    fn decode(&self, batches: &[Batch], at: &ChainTip, l1: &L1View) -> Result<Vec<NativeBlock>, AdapterError>;
}

/// Blocks that one call of [`RollupAdapter::blocks`] returns at most: bounds memory when a driver is far behind.
pub const BLOCKS_PER_PLAN_MAX: usize = 4_096;

/// Where a rollup's chain stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainTip {
    /// Block number on the rollup.
    pub number: u64,
    /// Block hash on the rollup.
    pub hash: Hash32,
    /// Timestamp of the block, seconds.
    pub timestamp: u64,
    /// The L1 block that it is built on.
    pub l1: L1Origin,
    /// How much of the lane is in the chain.
    pub lane: LaneCursor,
    /// How many messages of the delayed inbox are in the chain. 0 for rollups that have none.
    pub delayed: u64,
}

impl ChainTip {
    /// The tip once `executed` is on top of this one.
    pub fn after(&self, executed: &ExecutedBlock) -> Self {
        Self {
            number: self.number.saturating_add(1),
            hash: executed.hash,
            timestamp: executed.block.timestamp,
            l1: executed.block.l1,
            lane: executed.lane,
            delayed: executed.block.delayed.map_or(self.delayed, |index| index.saturating_add(1)),
        }
    }
}

/// A place in a lane: everything before it is in the chain, and nothing after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneCursor {
    /// Every lane block up to this time of the log, milliseconds, is in the chain.
    pub ms: u64,
    /// And so many transactions of the lane block after it.
    pub taken: usize,
}

/// A block that a rollup should have: its content, not its execution. Deposits and system transactions, which
/// the rollup derives from L1 by itself, are not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NativeBlock {
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
    /// The L1 block that it is built on.
    pub l1: L1Origin,
    /// Signed transactions, in order.
    pub transactions: Vec<Vec<u8>>,
    /// The message of L1's delayed inbox that this block executes instead of transactions (Arbitrum). Such a block takes
    /// timestamp and L1 block from the message; here it repeats its parent's.
    pub delayed: Option<u64>,
}

/// A block to execute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlannedBlock {
    /// Its content.
    pub block: NativeBlock,
    /// How much of the lane is in the chain once it is.
    pub lane: LaneCursor,
}

/// A block after the rollup executed it: `block` holds what was really executed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecutedBlock {
    /// Its hash on the rollup.
    pub hash: Hash32,
    /// Its content.
    pub block: NativeBlock,
    /// How much of the lane is in the chain up to here, as planned.
    pub lane: LaneCursor,
}

/// The next blocks, and what of the lane is in none of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub blocks: Vec<PlannedBlock>,
    /// In the lane's order. The same for everybody who reads the same lane; reported again as long as no block follows.
    pub skipped: Vec<Skipped>,
}

/// A lane transaction that no block holds, though a block holds its neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Height of its lane block.
    pub height: Height,
    /// Its index in that lane block.
    pub index: usize,
    /// Why.
    pub reason: SkipReason,
}

/// Why a transaction never reaches a batch. One of these would cost a whole block its content (OP Stack, since
/// Holocene), so it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// No bytes.
    #[error("empty transaction")]
    Empty,
    /// A type that only the rollup itself makes, or that it does not know.
    #[error("transaction type {0:#04x} is not accepted from a lane")]
    Type(u8),
    /// Signed for another chain.
    #[error("signed for chain {0}")]
    Chain(u64),
    /// Not a canonically encoded transaction.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// Larger than a block of this rollup may be.
    #[error("larger than a block may be")]
    TooLarge,
    /// Tried for this block of an OP Stack rollup already.
    #[error("repeated in one block")]
    Repeated,
    /// After the transactions before it, the rollup's own rules do not let it be in the block.
    #[error("invalid at its place in the block")]
    Invalid,
}

/// Where batches are posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchTarget {
    /// Calldata, at most so many bytes in one L1 transaction.
    Calldata {
        /// Bytes of one transaction's calldata.
        bytes_max: usize,
    },
    /// EIP-4844 blobs, at most so many in one L1 transaction.
    Blobs {
        /// Blobs of one transaction.
        per_transaction: usize,
    },
}

/// Bytes of one EIP-4844 blob: 4,096 field elements of 32 bytes.
pub const BLOB_BYTES: usize = 131_072;

/// What one L1 transaction carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Calldata.
    Calldata(Vec<u8>),
    /// Blobs of [`BLOB_BYTES`] each.
    Blobs(Vec<Vec<u8>>),
}
