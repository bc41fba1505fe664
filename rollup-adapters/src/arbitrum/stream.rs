//! How do a lane and L1 become a journal of numbered messages, across restarts?
//!
//! The lane is read on from the height of the last message; what it has had makes nothing again (`sequence.rs`). Messages are in the
//! journal before anybody is told of them, so a number is never given to two contents by a driver that was killed.
//!
//! L1 has the last word: where somebody forced delayed messages into the inbox, the journal goes back to the message before them,
//! they come next, and the lane is followed again from there.

use lockstep_protocol::ids::Height;

use super::{
    Arbitrum,
    delayed_source::{DelayedSource, DelayedSourceError},
    forced_source::{ForcedError, ForcedSource},
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
    #[error("forced inclusion: {0}")]
    Forced(#[from] ForcedError),
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
    /// Set where L1 took the order over: the messages from this number on are others than before.
    pub rewound: Option<u64>,
}

/// Follows one lane and keeps its messages.
pub struct Stream {
    lane: Box<dyn LaneSource>,
    delayed: DelayedSource,
    forced: ForcedSource,
    sequence: Sequence,
    journal: Journal,
    /// Read from the lane and not followed yet.
    waiting: Option<LaneBlock>,
}

impl Stream {
    /// Goes on where the journal ends, or at `initial`. `sources` gives the delayed inbox and what was forced in, from a position on.
    pub async fn new(
        adapter: Arbitrum,
        mut lane: Box<dyn LaneSource>,
        sources: impl FnOnce(&Position) -> (DelayedSource, ForcedSource),
        journal: Journal,
        initial: Position,
    ) -> Result<Self, StreamError> {
        let position = journal.last().cloned().unwrap_or(initial);
        // The block of the last message may have more than was taken of it.
        lane.seek(Height(position.height.0.saturating_sub(1))).await?;
        let (delayed, forced) = sources(&position);
        Ok(Self { lane, delayed, forced, sequence: Sequence::new(adapter, position), journal, waiting: None })
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
        let seen = block.l1.number;
        if let Some(needed) = self.sequence.needs(block) {
            self.delayed.advance(seen, needed).await?;
            self.forced.advance(needed).await?;
            if self.forced.first().is_some() {
                return self.take_over().await;
            }
        }
        // Nothing is awaited from here on: all of it happens, or nothing.
        let mut sequence = self.sequence.clone();
        let (mut messages, skipped) = sequence.follow(block, self.delayed.inbox())?;
        for numbered in &mut messages {
            numbered.after.inbox_l1 = self.forced.look_again_from();
        }
        self.journal.append(&messages)?;
        let height = block.height;
        self.sequence = sequence;
        self.delayed.forget_before(self.sequence.position().tip.delayed);
        self.waiting = None;
        Ok(Step { messages, skipped, height, rewound: None })
    }

    /// Takes over what was forced in first: the chain goes back to where that belongs, and on from there with it. If this is
    /// dropped or fails, the chain is as it was or has gone back, and the next call does the rest.
    async fn take_over(&mut self) -> Result<Step, StreamError> {
        let forced = self.forced.first().cloned().expect("the caller has looked");
        let (batch, made) = (forced.batch, self.position().next());
        // Of those that were forced in one after the other, the calls of posters count none.
        let tail = self.position().forced.filter(|tail| tail.batch + 1 == batch).map_or(0, |tail| tail.messages);
        let first = forced.messages_before + tail;
        if first > made {
            return Err(ForcedError::Ahead { batch, messages: first, made }.into());
        }
        if first < made {
            self.rewind(first).await?;
        }
        // What was read then is older than its batch.
        self.delayed.advance(forced.l1.number, forced.l1.number).await?;
        // Nothing is awaited from here on.
        let mut sequence = self.sequence.clone();
        let mut messages = sequence.force(batch, forced.delayed_read, forced.l1, self.delayed.inbox())?;
        if sequence.position().delayed_accumulator != forced.delayed_accumulator {
            return Err(ForcedError::Fork { batch }.into());
        }
        self.forced.take();
        for numbered in &mut messages {
            numbered.after.inbox_l1 = self.forced.look_again_from();
        }
        self.journal.append(&messages)?;
        tracing::warn!(
            batch,
            l1 = forced.l1.number,
            first,
            forced = messages.len(),
            taken_back = made - first,
            "delayed messages were forced in on L1: the order goes on after them"
        );
        self.sequence = sequence;
        self.delayed.forget_before(self.sequence.position().tip.delayed);
        let height = self.position().height;
        Ok(Step { messages, height, rewound: Some(first), ..Step::default() })
    }

    /// Goes back to before message `next`, which is not the first of the chain.
    async fn rewind(&mut self, next: u64) -> Result<(), StreamError> {
        let to = if next <= 1 {
            // Message 0 is the chain's own first, and in no journal.
            self.delayed.begin(self.forced.deployed_at()).await?
        } else {
            let found = self.journal.reader().get(next - 1);
            let found = found.map_err(|source| JournalError::Disk { path: self.journal.folder().into(), source })?;
            found.map(|numbered| numbered.after).ok_or(ForcedError::Forgotten { message: next })?
        };
        self.lane.seek(Height(to.height.0.saturating_sub(1))).await?;
        // The lane begins again there, even if nothing below succeeds.
        self.waiting = None;
        self.journal.rewind(next)?;
        self.delayed.restart(&to);
        self.sequence.rewind(to);
        Ok(())
    }
}
