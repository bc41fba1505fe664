//! Which numbered messages does a lane make?
//!
//! A message's number, content and clock follow from the lane and from the delayed messages that L1 held `delayed_depth` blocks
//! before the number of the one that each lane block names. Nothing else goes in, so every driver and poster that follows the same
//! lane numbers alike, whenever it was started and however L1 is reorganised less deep than that. It neither follows the lane (`stream.rs`) nor keeps messages (`journal.rs`).

use alloy_primitives::B256;
use lockstep_protocol::{
    header::L1Origin,
    ids::{Height, RollupId},
};

use super::{
    Arbitrum, block,
    delayed::DelayedInbox,
    feed::{FeedMessage, KIND_L2_MESSAGE, MessageHeader, SEQUENCER},
    message::encode_message,
    next_batch::Placed,
};
use crate::{AdapterError, ChainTip, ExecutedBlock, L1View, LaneBlock, PlannedBlock, Skipped};

/// Where a chain stands, with what is needed to go on from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The last message's block. Its number is the message's; its hash is not known here.
    pub tip: ChainTip,
    /// The lane block that the last message is of: following the lane again from there misses nothing.
    pub height: Height,
    /// The delayed inbox's accumulator after the last delayed message in the chain.
    pub delayed_accumulator: B256,
    /// The L1 block that the last delayed message in the chain came with: nothing before it is needed from the delayed inbox.
    pub delayed_l1: u64,
}

impl Position {
    /// A chain that has nothing but its initialisation: message 0, which is delayed message 0.
    ///
    /// `initialised` is the L1 block with that message, `accumulator` the delayed inbox's after it. The lane is followed from
    /// its beginning.
    pub fn initial(initialised: L1Origin, accumulator: B256) -> Self {
        let tip = ChainTip { timestamp: initialised.timestamp, l1: initialised, delayed: 1, ..Default::default() };
        Self { tip, height: Height(0), delayed_accumulator: accumulator, delayed_l1: initialised.number }
    }

    /// The number of the next message.
    pub fn next(&self) -> u64 {
        self.tip.number.saturating_add(1)
    }
}

/// A message, and where the chain stands after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// The message, not signed.
    pub message: FeedMessage,
    /// The chain after it.
    pub after: Position,
}

impl From<&Numbered> for Placed {
    fn from(numbered: &Numbered) -> Self {
        Self { message: numbered.message.clone(), delayed_accumulator: numbered.after.delayed_accumulator }
    }
}

/// Numbers what a lane makes, one lane block after the other.
#[derive(Clone, Debug)]
pub struct Sequence {
    adapter: Arbitrum,
    at: Position,
}

impl Sequence {
    /// Goes on after `at`.
    pub fn new(adapter: Arbitrum, at: Position) -> Self {
        Self { adapter, at }
    }

    /// Where the chain stands.
    pub fn position(&self) -> &Position {
        &self.at
    }

    /// The L1 block whose delayed messages must be known before this lane block can be followed; `None` if none must.
    pub fn needs(&self, block: &LaneBlock) -> Option<u64> {
        self.adapter.config().delayed_depth.and_then(|depth| block.l1.number.checked_sub(depth))
    }

    /// The messages that the lane's next block makes, and what of it is in none.
    ///
    /// `block` must be proven to be the next that has anything: heights may be left out where they are empty. One that was
    /// followed before makes nothing again. `delayed` must reach to the L1 block that [`Self::needs`] names. On an error nothing
    /// changed.
    pub fn follow(
        &mut self,
        block: &LaneBlock,
        delayed: &DelayedInbox,
    ) -> Result<(Vec<Numbered>, Vec<Skipped>), AdapterError> {
        let config = self.adapter.config();
        if block.rollup != RollupId(config.chain_id) {
            let (expected, found) = (RollupId(config.chain_id), block.rollup);
            return Err(AdapterError::ForeignLane { expected, found, height: block.height });
        }
        let view = match self.needs(block) {
            None => L1View::default(),
            Some(number) => {
                let last = delayed.seen().unwrap_or(0);
                let count = delayed.count_at(number).ok_or(AdapterError::L1Behind { last, needed: number })?;
                // Counted by number: whether L1 still has the block that the chain was once built on does not matter here.
                let origin = Some(self.at.tip.l1).filter(|origin| origin.number == number);
                L1View::with_delayed(vec![origin.unwrap_or(L1Origin { number, ..L1Origin::default() })], vec![count])?
            }
        };
        let mut at = self.at.clone();
        let (mut messages, mut skipped) = (Vec::new(), Vec::new());
        loop {
            let plan = block::plan(config, std::slice::from_ref(block), &at.tip, &view)?;
            skipped.extend(plan.skipped);
            if plan.blocks.is_empty() {
                break;
            }
            for planned in plan.blocks {
                let numbered = number(&at, block, planned, delayed)?;
                at = numbered.after.clone();
                messages.push(numbered);
            }
        }
        // A plan reports again what is in front of its next block.
        skipped.sort_by_key(|skipped| skipped.index);
        skipped.dedup();
        self.at = at;
        Ok((messages, skipped))
    }
}

fn number(
    at: &Position,
    block: &LaneBlock,
    planned: PlannedBlock,
    delayed: &DelayedInbox,
) -> Result<Numbered, AdapterError> {
    let executed = ExecutedBlock { block: planned.block, lane: planned.lane, ..Default::default() };
    let tip = at.tip.after(&executed);
    let mut after = Position { tip, height: block.height, ..at.clone() };
    let (header, content) = match executed.block.delayed {
        None => {
            let (l1_number, timestamp) = (executed.block.l1.number, executed.block.timestamp);
            let header = MessageHeader {
                kind: KIND_L2_MESSAGE,
                sender: SEQUENCER,
                l1_number,
                timestamp,
                request: None,
                l1_base_fee: None,
            };
            (header, encode_message(&executed.block.transactions)?)
        }
        Some(index) => {
            let last = delayed.seen().unwrap_or(0);
            let message = delayed.get(index).ok_or(AdapterError::L1Behind { last, needed: last.saturating_add(1) })?;
            after.delayed_accumulator = message.accumulator();
            after.delayed_l1 = message.header.l1_number;
            (message.header.clone(), message.content.clone())
        }
    };
    let message = FeedMessage {
        sequence: after.tip.number,
        header,
        content,
        delayed_read: after.tip.delayed,
        block_hash: None,
        metadata: Vec::new(),
        signature: Vec::new(),
    };
    Ok(Numbered { message, after })
}
