//! How does a lane become an OP Stack chain (Base, OP, Ink, Unichain, ...)?
//!
//! ```text
//! block.rs      lane -> blocks: which L2 block a lane block belongs to, which L1 origin it builds on
//! batch.rs      blocks -> batches (singular.rs, span.rs) and back, under the rules of derivation
//! channel.rs    batches -> a compressed channel
//! frame.rs      a channel -> frames -> the data of L1 transactions
//! blob.rs       data -> EIP-4844 blobs
//! bank.rs       frames in the order of L1 -> complete channels (Holocene, timeout)
//!
//! rollup.rs     which chain: op-node's rollup.json        l1_info.rs, deposit.rs, system.rs   what L1 puts into blocks
//! attributes.rs what the next block is made of            engine.rs, build.rs, driver.rs      lane -> executed blocks
//! chain.rs      what is executed                          derive.rs, post.rs                  executed blocks -> L1, and back
//! ```
//!
//! Formats and rules are those of the OP Stack specification (specs.optimism.io, "Derivation", "Span batches",
//! "Holocene", "Fjord", "Granite"). Not here: execution, deposits and the L1-info transaction, which the rollup derives.

use alloy_primitives::B256;
use lockstep_protocol::ids::RollupId;

use crate::{
    AdapterError, Batch, BatchTarget, ChainTip, ExecutedBlock, L1View, LaneBlock, NativeBlock, Plan, PlannedBlock,
    RollupAdapter, Skipped,
};

#[cfg(feature = "run")]
pub mod attributes;
mod bank;
mod batch;
mod blob;
mod block;
#[cfg(feature = "run")]
pub mod build;
#[cfg(feature = "run")]
pub mod chain;
mod channel;
#[cfg(feature = "run")]
pub mod deposit;
#[cfg(feature = "run")]
pub mod derive;
#[cfg(feature = "run")]
pub mod driver;
#[cfg(feature = "run")]
pub mod engine;
mod frame;
#[cfg(feature = "run")]
#[cfg(feature = "run")]
pub mod l1_info;
#[cfg(feature = "run")]
pub mod places;
#[cfg(feature = "run")]
pub mod post;
#[cfg(feature = "run")]
pub mod rollup;
mod singular;
mod span;
#[cfg(feature = "run")]
pub mod system;

pub use crate::transaction::check;
pub use bank::{Arrival, Bank, CHANNEL_TIMEOUT_L1_BLOCKS, ReadyChannel};
pub use batch::BatchFormat;
pub use blob::{BLOB_DATA_BYTES_MAX, decode_blob, encode_blob};
pub use block::{BLOCK_BYTES_MAX, GasRoom, INVALID_MAX, SEQUENCER_DRIFT_SECONDS_MAX};
pub use channel::{CHANNEL_BYTES_MAX, Compression, compress, decompress};
pub use frame::{ChannelId, FRAME_BYTES_MAX, FRAME_OVERHEAD, Frame, decode_data, encode_data, split};
pub use singular::SingularBatch;
pub use span::{SPAN_ELEMENTS_MAX, SpanBatch, SpanBlock};

/// What distinguishes one OP Stack chain from another, as far as batches are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptimismConfig {
    /// EIP-155 chain id, which is also the rollup's id in the log.
    pub chain_id: u64,
    /// Seconds between two blocks.
    pub block_time: u64,
    /// Timestamp of the L2 genesis block, seconds.
    pub genesis_timestamp: u64,
    /// Which batches to write. Both are always read.
    pub format: BatchFormat,
    /// How to compress channels. All are always read.
    pub compression: Compression,
}

/// The adapter of one OP Stack chain.
#[derive(Clone, Debug)]
pub struct Optimism {
    config: OptimismConfig,
}

impl Optimism {
    /// An adapter for the chain that `config` describes. A block time of 0 is no chain.
    pub fn new(config: OptimismConfig) -> Result<Self, AdapterError> {
        if config.block_time == 0 {
            return Err(AdapterError::Block { number: 0, rule: "the block time must not be zero" });
        }
        Ok(Self { config })
    }

    /// The chain's description.
    pub fn config(&self) -> &OptimismConfig {
        &self.config
    }

    /// Where the block after `at` stands, without its transactions, if the lane is known up to its timestamp.
    ///
    /// `lane` may lack heights that are proven to have nothing, except the one that closes the block.
    pub fn place_next(
        &self,
        lane: &[LaneBlock],
        at: &ChainTip,
        l1: &L1View,
    ) -> Result<Option<NativeBlock>, AdapterError> {
        block::place_next(&self.config, lane, at, l1)
    }

    /// What of the lane is in `block`, which follows `at`; and what is in no block though its neighbours are.
    ///
    /// `gas` bounds what the lane's transactions ask for; all drivers of a chain must give the same. `is_invalid` says of a hash
    /// whether the transaction was found to be invalid at its place: once it knows all that are, this is the block. A driver that finds its
    /// chain, and not its own place in the lane, asks this for the blocks that are there already; what is not in them was invalid.
    pub fn fill(
        &self,
        lane: &[LaneBlock],
        at: &ChainTip,
        block: NativeBlock,
        gas: &GasRoom,
        is_invalid: impl Fn(&B256) -> bool,
    ) -> (PlannedBlock, Vec<Skipped>) {
        let mut skipped = Vec::new();
        (block::fill(&self.config, lane, at, block, gas, is_invalid, &mut skipped), skipped)
    }

    fn rollup(&self) -> RollupId {
        RollupId(self.config.chain_id)
    }
}

impl RollupAdapter for Optimism {
    fn blocks(&self, lane: &[LaneBlock], at: &ChainTip, l1: &L1View) -> Result<Plan, AdapterError> {
        crate::lane::check(lane, self.rollup(), at.lane.ms)?;
        block::plan(&self.config, lane, at, l1)
    }

    fn encode(&self, blocks: &[ExecutedBlock], at: &ChainTip, target: BatchTarget) -> Result<Vec<Batch>, AdapterError> {
        batch::encode(&self.config, blocks, at, target)
    }

    fn decode(&self, batches: &[Batch], at: &ChainTip, l1: &L1View) -> Result<Vec<NativeBlock>, AdapterError> {
        batch::decode(&self.config, batches, at, l1)
    }
}
