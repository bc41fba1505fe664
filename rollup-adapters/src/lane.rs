//! What does an adapter see of the log and of L1?
//!
//! A lane as dense blocks (an empty height is an empty block, never a missing one), and a contiguous piece of L1.
//! Verifying lanes is the follower's job: what arrives here is already proven.

use lockstep_protocol::{
    header::{Header, L1Origin},
    ids::{Hash32, Height, RollupId},
    lane::LaneItem,
};

use crate::{AdapterError, LaneCursor, SkipReason, Skipped};

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

impl From<&LaneItem> for LaneBlock {
    /// What is left of an item once the follower has verified it.
    fn from(item: &LaneItem) -> Self {
        Self {
            rollup: item.leaf.rollup,
            height: item.header.height,
            timestamp_ms: item.header.timestamp_ms,
            l1: item.header.l1,
            transactions: item.transactions.iter().flatten().map(|transaction| transaction.0.clone()).collect(),
        }
    }
}

impl LaneBlock {
    /// A height that has nothing for `rollup`, as its unchanged leaf proves.
    pub fn empty(rollup: RollupId, header: &Header) -> Self {
        Self { rollup, height: header.height, timestamp_ms: header.timestamp_ms, l1: header.l1, transactions: vec![] }
    }
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

/// How much a block holds, in several measures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room<const N: usize> {
    /// What an otherwise empty block holds: a transaction that needs more can be in none.
    pub(crate) most: [usize; N],
    /// What this block holds: a transaction that needs more waits for the next.
    pub(crate) now: [usize; N],
}

/// A transaction that may be in a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fit<const N: usize> {
    /// Where there is less room than this, the block ends before it.
    pub(crate) needs: [usize; N],
    /// The room that is gone after it.
    pub(crate) takes: [usize; N],
    /// It is in the block, and not left out as invalid at its place.
    pub(crate) is_held: bool,
}

impl<const N: usize> Fit<N> {
    /// One that is in the block and takes what it needs.
    pub(crate) fn held(size: [usize; N]) -> Self {
        Self { needs: size, takes: size, is_held: true }
    }
}

/// The fit transactions from `from` up to lane time `until_ms`, as many as there is `room` for, and where that ends.
///
/// `fit` judges a transaction, each once and in order, and says how much room it takes.
pub(crate) fn take<const N: usize>(
    lane: &[LaneBlock],
    from: LaneCursor,
    until_ms: u64,
    room: Room<N>,
    mut fit: impl FnMut(&[u8]) -> Result<Fit<N>, SkipReason>,
    skipped: &mut Vec<Skipped>,
) -> (Vec<Vec<u8>>, LaneCursor) {
    let exceeds = |size: &[usize; N], room: &[usize; N]| size.iter().zip(room).any(|(size, room)| size > room);
    let mut taken = Vec::new();
    let mut left = room.now;
    let mut cursor = from;
    let start = lane.partition_point(|block| block.timestamp_ms <= from.ms);
    for block in lane[start..].iter().take_while(|block| block.timestamp_ms <= until_ms) {
        for (index, transaction) in block.transactions.iter().enumerate().skip(cursor.taken) {
            match fit(transaction) {
                Ok(fit) if exceeds(&fit.needs, &room.most) => {
                    skipped.push(Skipped { height: block.height, index, reason: SkipReason::TooLarge });
                }
                // The rest waits in the lane.
                Ok(fit) if exceeds(&fit.needs, &left) => return (taken, LaneCursor { taken: index, ..cursor }),
                Ok(fit) => {
                    left.iter_mut().zip(fit.takes).for_each(|(left, takes)| *left -= takes);
                    if fit.is_held {
                        taken.push(transaction.clone());
                    } else {
                        skipped.push(Skipped { height: block.height, index, reason: SkipReason::Invalid });
                    }
                }
                Err(reason) => skipped.push(Skipped { height: block.height, index, reason }),
            }
        }
        cursor = LaneCursor { ms: block.timestamp_ms, taken: 0 };
    }
    (taken, LaneCursor { ms: cursor.ms.max(until_ms), taken: 0 })
}

/// A contiguous piece of L1, oldest block first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct L1View {
    blocks: Vec<L1Origin>,
    /// Messages in the delayed inbox after each block; empty where nobody looked.
    delayed: Vec<u64>,
}

impl L1View {
    /// A view of `blocks`, whose numbers must be consecutive and whose timestamps must grow.
    pub fn new(blocks: Vec<L1Origin>) -> Result<Self, AdapterError> {
        for pair in blocks.windows(2) {
            let follows = pair[0].number.checked_add(1) == Some(pair[1].number);
            if !follows || pair[1].timestamp <= pair[0].timestamp {
                return Err(AdapterError::L1Gap { number: pair[1].number });
            }
        }
        Ok(Self { blocks, delayed: Vec::new() })
    }

    /// A view that also knows how many messages the rollup's delayed inbox held after each block.
    pub fn with_delayed(blocks: Vec<L1Origin>, delayed: Vec<u64>) -> Result<Self, AdapterError> {
        let view = Self::new(blocks)?;
        let number = |index: usize| view.blocks.get(index).map_or(0, |block| block.number);
        if delayed.len() != view.blocks.len() {
            return Err(AdapterError::L1Gap { number: number(delayed.len()) });
        }
        if let Some(back) = delayed.windows(2).position(|pair| pair[1] < pair[0]) {
            return Err(AdapterError::L1Gap { number: number(back + 1) });
        }
        Ok(Self { delayed, ..view })
    }

    /// How many messages the delayed inbox held after L1 block `number`.
    pub(crate) fn delayed_at(&self, number: u64) -> Result<u64, AdapterError> {
        let index = self.index(number).and_then(|index| self.delayed.get(index));
        index.copied().ok_or_else(|| self.behind(number))
    }

    fn index(&self, number: u64) -> Option<usize> {
        let index = usize::try_from(number.checked_sub(self.blocks.first()?.number)?).ok()?;
        (index < self.blocks.len()).then_some(index)
    }

    fn behind(&self, needed: u64) -> AdapterError {
        AdapterError::L1Behind { last: self.blocks.last().map_or(0, |block| block.number), needed }
    }

    /// The block with this number.
    pub fn get(&self, number: u64) -> Option<&L1Origin> {
        self.blocks.get(self.index(number)?)
    }

    /// The block with this number, or an error that says that a longer view is needed.
    pub fn need(&self, number: u64) -> Result<&L1Origin, AdapterError> {
        self.get(number).ok_or_else(|| self.behind(number))
    }

    /// Whether `hash` is this view's block `number`; an error where the view does not reach or disagrees.
    pub(crate) fn confirm(&self, number: u64, hash: &Hash32) -> Result<&L1Origin, AdapterError> {
        let block = self.need(number)?;
        if block.hash == *hash { Ok(block) } else { Err(AdapterError::L1Fork { number }) }
    }

    /// An error if this view has another block at that number. Not reaching that far is none.
    pub(crate) fn agrees(&self, origin: &L1Origin) -> Result<(), AdapterError> {
        match self.get(origin.number) {
            Some(block) if block.hash != origin.hash => Err(AdapterError::L1Fork { number: origin.number }),
            _ => Ok(()),
        }
    }
}
