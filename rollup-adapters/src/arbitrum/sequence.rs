//! Which numbered messages does a lane make?
//!
//! A message's number, content and clock follow from the lane and from the delayed messages that L1 held `delayed_depth` blocks
//! before the number of the one that each lane block names. Nothing else goes in, so every driver and poster that follows the same
//! lane numbers alike, whenever it was started and however L1 is reorganised less deep than that. Where L1 dictates another order,
//! because somebody forced delayed messages in, that holds. It neither follows the lane (`stream.rs`) nor keeps messages
//! (`journal.rs`).

use alloy_primitives::B256;
use lockstep_protocol::{
    header::L1Origin,
    ids::{Height, RollupId},
};

use serde::{Deserialize, Serialize};

use super::{
    Arbitrum, block,
    delayed::{DelayedInbox, DelayedMessage},
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
    /// The last batch in the chain that somebody forced in.
    pub forced: Option<ForcedTail>,
    /// The L1 block from which on there may be forced batches that are not in the chain.
    pub inbox_l1: u64,
}

/// A batch that was forced in, and what it is the last of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForcedTail {
    /// Its number.
    pub batch: u64,
    /// Messages of it and of those that were forced in right before it.
    pub messages: u64,
}

impl Position {
    /// A chain that has nothing but its initialisation: message 0, which is delayed message 0.
    ///
    /// `initialised` is the L1 block with that message, `accumulator` the delayed inbox's after it. The lane is followed from
    /// its beginning.
    pub fn initial(initialised: L1Origin, accumulator: B256) -> Self {
        let tip = ChainTip { timestamp: initialised.timestamp, l1: initialised, delayed: 1, ..Default::default() };
        let (height, delayed_l1) = (Height(0), initialised.number);
        Self { tip, height, delayed_accumulator: accumulator, delayed_l1, forced: None, inbox_l1: 0 }
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

impl Sequence {
    /// Goes back to where the chain stood after a message.
    pub fn rewind(&mut self, at: Position) {
        self.at = at;
    }

    /// The messages that batch `batch` forces in here: the delayed ones up to `delayed_read`, all of which `delayed` must have. What
    /// follows has at least the clock of `l1`, the block with the batch: it comes after it, and may be too old for L1 otherwise.
    pub fn force(
        &mut self,
        batch: u64,
        delayed_read: u64,
        l1: L1Origin,
        delayed: &DelayedInbox,
    ) -> Result<Vec<Numbered>, AdapterError> {
        let mut at = self.at.clone();
        // Those right before it count with it.
        let before = at.forced.filter(|tail| tail.batch + 1 == batch).map_or(0, |tail| tail.messages);
        let mut messages: Vec<Numbered> = Vec::new();
        for (run, index) in (before + 1..).zip(at.tip.delayed..delayed_read) {
            let last = delayed.seen().unwrap_or(0);
            let message = delayed.get(index).ok_or(AdapterError::L1Behind { last, needed: last.saturating_add(1) })?;
            let mut tip = ChainTip { number: at.next(), delayed: index + 1, ..at.tip.clone() };
            tip.timestamp = tip.timestamp.max(l1.timestamp);
            if l1.number > tip.l1.number {
                tip.l1 = l1;
            }
            let forced = Some(ForcedTail { batch, messages: run });
            let numbered = with_delayed(Position { tip, forced, ..at }, message);
            at = numbered.after.clone();
            messages.push(numbered);
        }
        self.at = at;
        Ok(messages)
    }
}

/// The delayed message in a chain that stands at `after` with it.
fn with_delayed(mut after: Position, message: &DelayedMessage) -> Numbered {
    after.delayed_accumulator = message.accumulator();
    after.delayed_l1 = message.header.l1_number;
    let (header, content) = (message.header.clone(), message.content.clone());
    Numbered { message: feed_message(&after, header, content), after }
}

fn feed_message(after: &Position, header: MessageHeader, content: Vec<u8>) -> FeedMessage {
    FeedMessage {
        sequence: after.tip.number,
        header,
        content,
        delayed_read: after.tip.delayed,
        block_hash: None,
        metadata: Vec::new(),
        signature: Vec::new(),
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
    let after = Position { tip, height: block.height, ..at.clone() };
    match executed.block.delayed {
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
            let content = encode_message(&executed.block.transactions)?;
            Ok(Numbered { message: feed_message(&after, header, content), after })
        }
        Some(index) => {
            let last = delayed.seen().unwrap_or(0);
            let message = delayed.get(index).ok_or(AdapterError::L1Behind { last, needed: last.saturating_add(1) })?;
            Ok(with_delayed(after, message))
        }
    }
}
