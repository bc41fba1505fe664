//! Which batches did others force into the inbox, and where in the order of messages are they?
//!
//! Whoever sent a delayed message that no batch has read for a day may make the inbox read it: a batch without data, and an order
//! that L1 dictates. Such batches are read from the inbox's events up to a block that is deep below the one that the log names, as
//! delayed messages are, so every driver and poster learns of them at the same lane block. Taking them into the chain is
//! `stream.rs`.

use std::{collections::VecDeque, sync::Arc};

use alloy_primitives::{Address, B256, keccak256};
use lockstep_protocol::header::L1Origin;
use serde_json::json;

use super::{
    delayed_source::{DelayedSourceError, RANGE_MAX, events},
    inbox::{BATCH_DELIVERED, BatchDelivered, messages_after},
    sequence::Position,
};
use crate::poster::{L1, L1Transaction, RpcError};

/// A batch that reads delayed messages and is nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forced {
    /// Its number.
    pub batch: u64,
    /// The L1 block that it is in.
    pub l1: L1Origin,
    /// Delayed messages read once it is in.
    pub delayed_read: u64,
    /// The delayed inbox's accumulator after them.
    pub delayed_accumulator: B256,
    /// Messages before it, and before those that were forced in right before it.
    pub messages_before: u64,
}

/// Why what was forced in cannot be taken over. Asking again helps for the first alone.
#[derive(Debug, thiserror::Error)]
pub enum ForcedError {
    /// L1 does not answer.
    #[error(transparent)]
    Source(#[from] DelayedSourceError),
    /// The batch before was posted in a way that we do not read.
    #[error("batch {batch} was forced in after one whose call cannot be read: where it belongs is not known")]
    Unplaced {
        /// The forced batch.
        batch: u64,
    },
    /// L1 has messages that the lane has not made.
    #[error(
        "batch {batch} was forced in after {messages} messages, the lane made {made}: L1 has what the lane has not made"
    )]
    Ahead {
        /// The forced batch.
        batch: u64,
        /// Messages before it on L1.
        messages: u64,
        /// Messages of the lane.
        made: u64,
    },
    /// The journal begins after the place.
    #[error("message {message} was forced in, and the journal begins later: delete its folder, and it is made again")]
    Forgotten {
        /// The first message that was forced in.
        message: u64,
    },
    /// What was forced in is not what we read of the delayed inbox.
    #[error("batch {batch} was forced in with other delayed messages than L1 has")]
    Fork {
        /// The forced batch.
        batch: u64,
    },
}

impl From<RpcError> for ForcedError {
    fn from(error: RpcError) -> Self {
        Self::Source(error.into())
    }
}

/// The forced batches of one inbox, read from L1 as far as it is needed.
#[derive(Debug)]
pub struct ForcedSource {
    l1: Arc<L1>,
    inbox: Address,
    deployed_at: u64,
    /// Everything in L1 blocks before this one is known.
    next: u64,
    /// The last forced batch that the chain has.
    taken: Option<u64>,
    /// Found and not in the chain yet. As few as anybody pays for within `delayed_depth` blocks.
    found: VecDeque<Forced>,
}

impl ForcedSource {
    /// What a chain at `position` does not have yet. The inbox was deployed in L1 block `deployed_at`, or later.
    pub fn new(l1: Arc<L1>, inbox: Address, deployed_at: u64, position: &Position) -> Self {
        let (next, taken) = (position.inbox_l1.max(deployed_at), position.forced.map(|forced| forced.batch));
        Self { l1, inbox, deployed_at, next, taken, found: VecDeque::new() }
    }

    /// The L1 block that the inbox was deployed in, or an earlier one.
    pub fn deployed_at(&self) -> u64 {
        self.deployed_at
    }

    /// The next that is not in the chain.
    pub fn first(&self) -> Option<&Forced> {
        self.found.front()
    }

    /// It is in the chain.
    pub fn take(&mut self) {
        self.taken = self.found.pop_front().map(|forced| forced.batch).or(self.taken);
    }

    /// From which L1 block a chain that has what was taken has to look again after a restart.
    pub fn look_again_from(&self) -> u64 {
        self.found.front().map_or(self.next, |forced| forced.l1.number)
    }

    /// Reads everything up to L1 block `needed`, which is far below the one that the log names.
    pub async fn advance(&mut self, needed: u64) -> Result<(), ForcedError> {
        while self.next <= needed {
            let (begin, end) = (self.next, needed.min(self.next + RANGE_MAX - 1));
            let before = self.hash(end).await?;
            let topics = json!([keccak256(BATCH_DELIVERED)]);
            let mut found = Vec::new();
            for event in events(&self.l1, json!(self.inbox), begin, end, topics).await? {
                let delivered = BatchDelivered::from_log(&event.topics, &event.data);
                let Some(delivered) = delivered.filter(|delivered| delivered.is_forced) else { continue };
                let known = self.found.iter().map(|forced| forced.batch).max().or(self.taken);
                if known.is_none_or(|known| known < delivered.sequence) {
                    found.push(self.place(&delivered, event.block_number.to()).await?);
                }
            }
            if self.hash(end).await? != before {
                return Err(DelayedSourceError::Moved { number: end }.into());
            }
            self.found.extend(found);
            self.next = end + 1;
        }
        Ok(())
    }

    /// Finds out how many messages are before a forced batch: what the call of the last batch before it that was not forced said.
    async fn place(&self, delivered: &BatchDelivered, number: u64) -> Result<Forced, ForcedError> {
        let header = self.l1.header(number).await?.ok_or(DelayedSourceError::Behind { number })?;
        let unplaced = ForcedError::Unplaced { batch: delivered.sequence };
        let mut end = number;
        // Backwards, for it is one of the newest.
        loop {
            let begin = end.saturating_sub(RANGE_MAX - 1).max(self.deployed_at);
            let topics = json!([keccak256(BATCH_DELIVERED)]);
            for event in events(&self.l1, json!(self.inbox), begin, end, topics).await?.iter().rev() {
                let Some(before) = BatchDelivered::from_log(&event.topics, &event.data) else { continue };
                if before.is_forced || before.sequence >= delivered.sequence {
                    continue;
                }
                let messages_before = if before.sequence == 0 {
                    // Whoever created the rollup posted nothing but its first message.
                    1
                } else {
                    let call: Option<L1Transaction> =
                        self.l1.rpc().call("eth_getTransactionByHash", &[json!(event.transaction_hash)]).await?;
                    let call = call.filter(|call| call.to == Some(self.inbox)).ok_or(unplaced)?;
                    let unplaced = ForcedError::Unplaced { batch: delivered.sequence };
                    messages_after(&call.input).ok_or(unplaced)?
                };
                return Ok(Forced {
                    batch: delivered.sequence,
                    l1: header.origin(),
                    delayed_read: delivered.delayed_read,
                    delayed_accumulator: delivered.delayed_accumulator,
                    messages_before,
                });
            }
            if begin <= self.deployed_at {
                return Err(unplaced);
            }
            end = begin - 1;
        }
    }

    async fn hash(&self, number: u64) -> Result<B256, ForcedError> {
        Ok(self.l1.header(number).await?.ok_or(DelayedSourceError::Behind { number })?.hash)
    }
}
