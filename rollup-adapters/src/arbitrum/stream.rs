//! How do a lane and L1 become a journal of numbered messages, across restarts?
//!
//! The lane is read on from the height of the last message; what it has had makes nothing again (`sequence.rs`). Messages are in the
//! journal before anybody is told of them, so a number is never given to two contents by a driver that was killed.

use lockstep_protocol::ids::Height;

use super::{
    Arbitrum,
    delayed_source::{DelayedSource, DelayedSourceError},
    journal::{Journal, JournalError},
    sequence::{Numbered, Position, Sequence},
};
use crate::{
    AdapterError, LaneBlock, Skipped,
    feed::{FeedError, LaneSource},
};

/// Why nothing new can be numbered. Asking again continues.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts of the causes say what each variant means")]
pub enum StreamError {
    #[error("lane: {0}")]
    Lane(#[from] FeedError),
    #[error("delayed inbox: {0}")]
    Delayed(#[from] DelayedSourceError),
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// What one step brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// New messages, in order.
    pub messages: Vec<Numbered>,
    /// Lane transactions that are in none.
    pub skipped: Vec<Skipped>,
    /// Height of the log up to which the lane was followed.
    pub height: Height,
}

/// Follows one lane and keeps its messages.
pub struct Stream {
    lane: Box<dyn LaneSource>,
    delayed: DelayedSource,
    sequence: Sequence,
    journal: Journal,
    /// Read from the lane and not followed yet.
    waiting: Option<LaneBlock>,
}

impl Stream {
    /// Goes on where the journal ends, or at `initial`.
    pub async fn new(
        adapter: Arbitrum,
        mut lane: Box<dyn LaneSource>,
        delayed: impl FnOnce(&Position) -> DelayedSource,
        journal: Journal,
        initial: Position,
    ) -> Result<Self, StreamError> {
        let position = journal.last().cloned().unwrap_or(initial);
        // The block of the last message may have more than was taken of it.
        lane.seek(Height(position.height.0.saturating_sub(1))).await?;
        let delayed = delayed(&position);
        Ok(Self { lane, delayed, sequence: Sequence::new(adapter, position), journal, waiting: None })
    }

    /// Where the chain stands.
    pub fn position(&self) -> &Position {
        self.sequence.position()
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Follows the lane's next block. Waits for it. Safe to drop and call again.
    pub async fn next(&mut self) -> Result<Step, StreamError> {
        let block = match &self.waiting {
            Some(block) => block,
            None => self.waiting.insert(self.lane.next().await?),
        };
        if let Some(number) = self.sequence.needs(block) {
            self.delayed.advance(block.l1.number, number).await?;
        }
        // Nothing is awaited from here on: all of it happens, or nothing.
        let mut sequence = self.sequence.clone();
        let (messages, skipped) = sequence.follow(block, self.delayed.inbox())?;
        self.journal.append(&messages)?;
        let height = block.height;
        self.sequence = sequence;
        self.delayed.forget_before(self.sequence.position().tip.delayed);
        self.waiting = None;
        Ok(Step { messages, skipped, height })
    }
}
