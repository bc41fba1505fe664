//! What does an adapter see of the log and of L1?
//!
//! A lane as dense blocks (an empty height is an empty block, never a missing one), and a contiguous piece of L1.
//! Verifying lanes is the follower's job: what arrives here is already proven.

use lockstep_protocol::{
    header::L1Origin,
    ids::{Hash32, Height, RollupId},
};

use crate::AdapterError;

/// One height of the log as one rollup sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneBlock {
    /// The rollup whose lane this is.
    pub rollup: RollupId,
    /// Height in the log. Dense.
    pub height: Height,
    /// The log's clock, milliseconds; strictly growing.
    pub timestamp_ms: u64,
    /// The latest L1 block that the log had seen; never goes backwards.
    pub l1: L1Origin,
    /// The rollup's own signed transactions, in order.
    pub transactions: Vec<Vec<u8>>,
}

/// Checks that `lane` is one rollup's, dense, forward, and reaches back to `lane_ms`, up to where a chain holds it.
pub(crate) fn check(lane: &[LaneBlock], rollup: RollupId, lane_ms: u64) -> Result<(), AdapterError> {
    if let Some(first) = lane.first()
        && first.timestamp_ms > lane_ms
    {
        return Err(AdapterError::LaneStartsLate { lane_ms, first_ms: first.timestamp_ms });
    }
    if let Some(foreign) = lane.iter().find(|block| block.rollup != rollup) {
        return Err(AdapterError::ForeignLane { expected: rollup, found: foreign.rollup, height: foreign.height });
    }
    for pair in lane.windows(2) {
        let (before, block) = (&pair[0], &pair[1]);
        if before.height.0.checked_add(1) != Some(block.height.0) {
            return Err(AdapterError::LaneGap { after: before.height, found: block.height });
        }
        if block.timestamp_ms <= before.timestamp_ms || block.l1.number < before.l1.number {
            return Err(AdapterError::LaneBackwards { height: block.height });
        }
    }
    Ok(())
}

/// A contiguous piece of L1, oldest block first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct L1View(Vec<L1Origin>);

impl L1View {
    /// A view of `blocks`, whose numbers must be consecutive and whose timestamps must grow.
    pub fn new(blocks: Vec<L1Origin>) -> Result<Self, AdapterError> {
        for pair in blocks.windows(2) {
            let follows = pair[0].number.checked_add(1) == Some(pair[1].number);
            if !follows || pair[1].timestamp <= pair[0].timestamp {
                return Err(AdapterError::L1Gap { number: pair[1].number });
            }
        }
        Ok(Self(blocks))
    }

    /// The block with this number.
    pub fn get(&self, number: u64) -> Option<&L1Origin> {
        let first = self.0.first()?.number;
        self.0.get(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    /// The block with this number, or an error that says that a longer view is needed.
    pub fn need(&self, number: u64) -> Result<&L1Origin, AdapterError> {
        self.get(number)
            .ok_or(AdapterError::L1Behind { last: self.0.last().map_or(0, |block| block.number), needed: number })
    }

    /// Whether `hash` is this view's block `number`; an error where the view does not reach or disagrees.
    pub(crate) fn confirm(&self, number: u64, hash: &Hash32) -> Result<&L1Origin, AdapterError> {
        let block = self.need(number)?;
        if block.hash == *hash { Ok(block) } else { Err(AdapterError::L1Fork { number }) }
    }
}
