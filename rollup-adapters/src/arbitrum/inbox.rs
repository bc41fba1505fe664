//! Which calls does the real SequencerInbox take, and what does it make of them?
//!
//! Signatures, header, hashes and accumulators are those of `@arbitrum/nitro-contracts` 3.2 (`SequencerInbox.sol`, `AbsBridge.sol`).
//! The accumulator of a batch is computed here from what we meant to post, and compared with the one that the contract emits: if
//! they are equal, every node derives what we meant. What to post is in `next_batch.rs`.

use alloy_primitives::{Address, B256, keccak256};

use super::{abi, delayed::DelayedMessage};
use crate::Batch;

const FROM_CALLDATA: &str = "addSequencerL2BatchFromOrigin(uint256,bytes,uint256,address,uint256,uint256)";
const FROM_BLOBS: &str = "addSequencerL2BatchFromBlobs(uint256,uint256,address,uint256,uint256)";
/// `DelayProof`: the accumulator before the first message newly read, and that message.
const FROM_CALLDATA_PROVEN: &str = "addSequencerL2BatchFromOriginDelayProof(uint256,bytes,uint256,address,uint256,uint256,\
     (bytes32,(uint8,address,uint64,uint64,uint256,uint256,bytes32)))";
const FROM_BLOBS_PROVEN: &str = "addSequencerL2BatchFromBlobsDelayProof(uint256,uint256,address,uint256,uint256,\
     (bytes32,(uint8,address,uint64,uint64,uint256,uint256,bytes32)))";
pub(super) const BATCH_DELIVERED: &str = "SequencerBatchDelivered(uint256,bytes32,bytes32,bytes32,uint256,\
     (uint64,uint64,uint64,uint64),uint8)";

/// Where the data of a forced batch is: nowhere (`BatchDataLocation.NoData`).
const NO_DATA: u64 = 2;
/// Flag of a batch in blobs (`DATA_BLOB_HEADER_FLAG`).
const BLOBS_FLAG: u8 = 0x50;

/// Gas of a call with blobs. The call touches a dozen storage slots, however large the blobs are; an estimate cannot be had,
/// since nodes estimate without blobs.
pub const BLOBS_GAS: u64 = 500_000;

/// How far a message's clock may be from that of the L1 block that includes its batch. Beyond, the node moves the clock, and
/// with it the block's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeVariation {
    /// L1 blocks before.
    pub delay_blocks: u64,
    /// L1 blocks after.
    pub future_blocks: u64,
    /// Seconds before.
    pub delay_seconds: u64,
    /// Seconds after.
    pub future_seconds: u64,
}

/// Where the inbox stands, all at one L1 block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxState {
    /// Number of that L1 block.
    pub l1_number: u64,
    /// Its hash.
    pub l1_hash: B256,
    /// Its timestamp.
    pub l1_timestamp: u64,
    /// Batches that the inbox holds.
    pub batches: u64,
    /// Messages in them. The inbox's own count (`sequencerReportedSubMessageCount`) lacks `forced` of them.
    pub messages: u64,
    /// Messages that were forced in since the last batch of a poster, which the inbox does not count.
    pub forced: u64,
    /// Delayed messages in them.
    pub delayed_read: u64,
    /// The accumulator after the last batch; zero if there is none.
    pub accumulator: B256,
    /// The delayed inbox's accumulator after the last of them; zero if there is none.
    pub delayed_accumulator: B256,
    /// Whether the inbox wants to see proof of the delay when delayed messages are read.
    pub delay_bufferable: bool,
    /// How far clocks may be off.
    pub variation: TimeVariation,
}

/// A batch, as the inbox is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchCall {
    /// Number of the batch.
    pub sequence: u64,
    /// What is posted.
    pub data: Batch,
    /// Delayed messages read once the batch is in.
    pub delayed_read: u64,
    /// Messages before it.
    pub messages_before: u64,
    /// Whether the inbox counted all of them. Where some were forced in, it did not, and is told the count anew.
    pub counted: bool,
    /// Messages after it.
    pub messages_after: u64,
    /// The first delayed message that it reads, if the inbox wants proof of its delay.
    pub proof: Option<DelayedMessage>,
    /// The accumulator of the batch before.
    pub before: B256,
    /// The delayed inbox's accumulator after the last message read.
    pub delayed_accumulator: B256,
}

impl BatchCall {
    /// The calldata. Blobs travel beside it.
    pub fn calldata(&self) -> Vec<u8> {
        let signature = match (&self.data, &self.proof) {
            (Batch::Calldata(_), None) => FROM_CALLDATA,
            (Batch::Calldata(_), Some(_)) => FROM_CALLDATA_PROVEN,
            (Batch::Blobs(_), None) => FROM_BLOBS,
            (Batch::Blobs(_), Some(_)) => FROM_BLOBS_PROVEN,
        };
        let mut call = abi::Call::new(signature).number(self.sequence);
        if let Batch::Calldata(data) = &self.data {
            call = call.bytes(data);
        }
        // No refunder: whoever posts pays.
        call = call.number(self.delayed_read).address(Address::ZERO);
        // Zero: whatever the inbox counted (`AbsBridge.enqueueSequencerMessage`).
        let before = if self.counted { self.messages_before } else { 0 };
        call = call.number(before).number(self.messages_after);
        if let Some(first) = &self.proof {
            call = call.word(first.before).number(first.header.kind.into()).address(first.header.sender);
            call = call.number(first.header.l1_number).number(first.header.timestamp).number(first.index);
            call = call.number(first.header.l1_base_fee.unwrap_or(0)).word(keccak256(&first.content));
        }
        call.finish()
    }

    /// What the inbox hashes: its header, and the data or the blobs' versioned hashes.
    pub fn data_hash(&self, bounds: &Bounds, blob_hashes: &[B256]) -> B256 {
        let mut bytes = bounds.header(self.delayed_read).to_vec();
        match &self.data {
            Batch::Calldata(data) => bytes.extend_from_slice(data),
            Batch::Blobs(_) => {
                bytes.push(BLOBS_FLAG);
                blob_hashes.iter().for_each(|hash| bytes.extend_from_slice(hash.as_slice()));
            }
        }
        keccak256(bytes)
    }

    /// The accumulator after the batch (`AbsBridge.enqueueSequencerMessage`).
    pub fn accumulator(&self, bounds: &Bounds, blob_hashes: &[B256]) -> B256 {
        keccak256([self.before, self.data_hash(bounds, blob_hashes), self.delayed_accumulator].concat())
    }
}

/// Between what the clocks of a batch's messages must be, as the inbox found when it took the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Earliest timestamp.
    pub timestamp_min: u64,
    /// Latest timestamp.
    pub timestamp_max: u64,
    /// Lowest L1 block number.
    pub l1_min: u64,
    /// Highest L1 block number.
    pub l1_max: u64,
}

impl Bounds {
    /// The bounds of a batch that L1 block `number` includes.
    pub fn at(variation: &TimeVariation, number: u64, timestamp: u64) -> Self {
        Self {
            timestamp_min: timestamp.saturating_sub(variation.delay_seconds),
            timestamp_max: timestamp.saturating_add(variation.future_seconds),
            l1_min: number.saturating_sub(variation.delay_blocks),
            l1_max: number.saturating_add(variation.future_blocks),
        }
    }

    /// The 40 bytes before a batch's data.
    fn header(&self, delayed_read: u64) -> [u8; 40] {
        let mut header = [0; 40];
        let fields = [self.timestamp_min, self.timestamp_max, self.l1_min, self.l1_max, delayed_read];
        for (place, field) in header.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        header
    }
}

/// What the inbox says of a batch that it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchDelivered {
    /// Number of the batch.
    pub sequence: u64,
    /// The accumulator before.
    pub before: B256,
    /// The accumulator after.
    pub after: B256,
    /// The delayed inbox's accumulator.
    pub delayed_accumulator: B256,
    /// Delayed messages read.
    pub delayed_read: u64,
    /// The bounds of its clocks.
    pub bounds: Bounds,
    /// Whether it has no data: somebody forced delayed messages in.
    pub is_forced: bool,
}

/// How many messages there are once the batch of this call is in; `None` if it is no call that posts one.
#[cfg(feature = "run")]
pub(super) fn messages_after(call: &[u8]) -> Option<u64> {
    let (selector, words) = call.split_first_chunk::<4>()?;
    let is = |signature: &str| keccak256(signature)[..4] == selector[..];
    let place = if is(FROM_CALLDATA) || is(FROM_CALLDATA_PROVEN) {
        5
    } else if is(FROM_BLOBS) || is(FROM_BLOBS_PROVEN) {
        4
    } else {
        return None;
    };
    abi::Words(words).number(place)
}

impl BatchDelivered {
    /// Reads the inbox's event; `None` if it is another one.
    pub fn from_log(topics: &[B256], data: &[u8]) -> Option<Self> {
        let [event, sequence, before, after] = topics else { return None };
        let words = abi::Words(data);
        (*event == keccak256(BATCH_DELIVERED)).then_some(())?;
        Some(Self {
            sequence: abi::small(sequence)?,
            before: *before,
            after: *after,
            delayed_accumulator: words.word(0)?,
            delayed_read: words.number(1)?,
            bounds: Bounds {
                timestamp_min: words.number(2)?,
                timestamp_max: words.number(3)?,
                l1_min: words.number(4)?,
                l1_max: words.number(5)?,
            },
            is_forced: words.number(6)? == NO_DATA,
        })
    }

    /// Whether this is what `call` was to do: the same accumulator, so the same bytes on the same past.
    pub fn is_of(&self, call: &BatchCall, blob_hashes: &[B256]) -> bool {
        self.sequence == call.sequence
            && self.delayed_read == call.delayed_read
            && self.after == call.accumulator(&self.bounds, blob_hashes)
    }
}
