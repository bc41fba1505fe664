//! How does a lane become an Arbitrum Nitro chain (Arbitrum One, Orbit chains)?
//!
//! ```text
//! block.rs    lane -> blocks: one L2 message a block; when messages of the delayed inbox are due
//! message.rs  transactions -> an L2 message
//! segment.rs  messages and clock -> the segments of a batch, compressed
//! blob.rs     a batch -> EIP-4844 blobs, in Nitro's own packing
//! batch.rs    blocks -> batches and back
//!
//! sequence.rs        lane blocks -> numbered messages
//! delayed.rs         messages of L1's delayed inbox, and how the Bridge accounts for them
//! journal.rs         messages kept on disk
//! next_batch.rs      what the inbox on L1 lacks -> the next call
//! inbox.rs           the calls, events and accumulators of the SequencerInbox
//! feed/              a sequencer feed: server and follower
//!
//! stream.rs          a lane and L1 -> the journal
//! delayed_source.rs  L1 -> the delayed inbox
//! forced_source.rs   L1 -> what others forced into the inbox
//! inbox_reader.rs    L1 -> where the inbox stands
//! drive.rs           the journal -> the feed
//! post.rs            the journal -> L1
//! ```
//!
//! Formats and limits are those of Nitro's `arbstate/inbox.go`, `arbos/parse_l2.go` and `util/blobs/blobs.go`. Not here:
//! the 40-byte header that the SequencerInbox puts before a batch, with the bounds that clamp its clock (a poster must post
//! within them), and the content of delayed messages, which the node reads from L1.

use lockstep_protocol::ids::RollupId;

use crate::{
    AdapterError, Batch, BatchTarget, ChainTip, ExecutedBlock, L1View, LaneBlock, NativeBlock, Plan, RollupAdapter,
};

#[cfg(feature = "feed")]
mod abi;
mod batch;
mod blob;
mod block;
#[cfg(feature = "feed")]
pub mod delayed;
#[cfg(feature = "run")]
pub mod delayed_source;
#[cfg(feature = "run")]
pub mod drive;
#[cfg(feature = "feed")]
pub mod feed;
#[cfg(feature = "run")]
pub mod forced_source;
#[cfg(feature = "feed")]
pub mod inbox;
#[cfg(feature = "run")]
pub mod inbox_reader;
#[cfg(feature = "feed")]
pub mod journal;
mod message;
#[cfg(feature = "feed")]
pub mod next_batch;
#[cfg(feature = "run")]
pub mod post;
mod segment;
#[cfg(feature = "feed")]
pub mod sequence;
#[cfg(feature = "run")]
pub mod stream;

pub use blob::{BLOB_DATA_BYTES_MAX, decode_blobs, encode_blobs};
pub use block::{BLOCK_BYTES_MAX, BLOCK_GAS};
pub use message::{MESSAGE_BYTES_MAX, decode_message, encode_message};
pub use segment::{BATCH_BYTES_MAX, Event, SEGMENTS_MAX, compress, decompress};

/// What distinguishes one Nitro chain from another, as far as batches are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArbitrumConfig {
    /// EIP-155 chain id, which is also the rollup's id in the log.
    pub chain_id: u64,
    /// Brotli effort, 0 to 11.
    pub quality: u32,
    /// How many L1 blocks the log's view of L1 must be ahead of a delayed message before a block executes it: so many that
    /// L1 does not take it back, and far fewer than the delay after which it can be forced (a day). `None` leaves delayed
    /// messages to somebody else.
    pub delayed_depth: Option<u64>,
    /// Gas of one block of the chain (`ArbGasInfo.getGasAccountingParams`, the second number), or less: see [`BLOCK_GAS`].
    pub block_gas: u64,
}

/// The adapter of one Nitro chain.
#[derive(Clone, Debug)]
pub struct Arbitrum {
    config: ArbitrumConfig,
}

impl Arbitrum {
    /// An adapter for the chain that `config` describes.
    pub fn new(config: ArbitrumConfig) -> Self {
        Self { config }
    }

    /// The chain's description.
    pub fn config(&self) -> &ArbitrumConfig {
        &self.config
    }
}

impl RollupAdapter for Arbitrum {
    fn blocks(&self, lane: &[LaneBlock], at: &ChainTip, l1: &L1View) -> Result<Plan, AdapterError> {
        crate::lane::check(lane, RollupId(self.config.chain_id), at.lane.ms)?;
        block::plan(&self.config, lane, at, l1)
    }

    fn encode(&self, blocks: &[ExecutedBlock], at: &ChainTip, target: BatchTarget) -> Result<Vec<Batch>, AdapterError> {
        batch::encode(&self.config, blocks, at, target)
    }

    fn decode(&self, batches: &[Batch], at: &ChainTip, l1: &L1View) -> Result<Vec<NativeBlock>, AdapterError> {
        batch::decode(&self.config, batches, at, l1)
    }
}
