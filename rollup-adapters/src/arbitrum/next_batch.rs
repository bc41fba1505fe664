//! What must be posted next, given where the inbox on L1 stands and the messages of the lane?
//!
//! Pure, so two posters that see the same make the same call; the contract takes one of them, since each names the number of the
//! batch. Nothing is remembered between calls: what L1 has is not posted again, and what a reorganisation took back is.

use alloy_primitives::B256;

use super::{
    BATCH_BYTES_MAX, BLOB_DATA_BYTES_MAX, Event, SEGMENTS_MAX,
    blob::encode_blobs,
    compress,
    delayed::DelayedMessage,
    feed::{FeedMessage, KIND_BATCH_REPORT},
    inbox::{BatchCall, Bounds, InboxState},
};
use crate::{AdapterError, Batch, BatchTarget};

/// Cuts of a batch that turned out too large. Each leaves at most nine tenths.
const CUTS_MAX: usize = 100;
/// Transactions of users compress less well than this; trying more at first would only be cut again.
const RATIO_MAX: usize = 16;

/// When to post what does not fill a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostPolicy {
    /// Seconds, by L1's clock, that a message may wait for others to share a batch with it.
    pub wait_seconds: u64,
    /// The same where nothing waits but the inbox's own reports of batches: a batch for each would never end.
    pub reports_wait_seconds: u64,
    /// Brotli effort, 0 to 11.
    pub quality: u32,
}

/// A message of the lane with what accounts for it on L1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The message.
    pub message: FeedMessage,
    /// The delayed inbox's accumulator after the last delayed message in the chain with it.
    pub delayed_accumulator: B256,
}

/// Why nothing can be posted, though there is something.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The messages given do not begin where the inbox stands.
    #[error("L1 holds {posted} messages, the lane's messages begin with {first}")]
    Start {
        /// Messages on L1.
        posted: u64,
        /// The first message given.
        first: u64,
    },
    /// The inbox read other delayed messages than the chain: somebody forced some in. The chain follows (`stream.rs`) when L1 no
    /// longer takes that back.
    #[error(
        "L1 read {inbox} delayed messages before message {message}, the chain {chain}: some were forced in, and are followed \
         once the log has seen enough L1 blocks on top"
    )]
    Forced {
        /// The first message to be posted.
        message: u64,
        /// Delayed messages that the inbox read.
        inbox: u64,
        /// Delayed messages that the chain read.
        chain: u64,
    },
    /// L1 has other delayed messages than the chain: it was reorganised deeper than we waited. Stops for a person.
    #[error("message {message} is of a delayed message that L1 no longer has")]
    Fork {
        /// The message.
        message: u64,
    },
    /// The node would move the message's clock, so its block would not be the one that was executed: nothing was posted for longer than
    /// the inbox's `delaySeconds` or `delayBlocks`. Stops for a person.
    #[error(
        "message {message} is too old for L1: its clock is {timestamp} s and L1 block {l1_number}, bounds are {bounds:?}, because \
         nothing was posted for longer than the inbox's maxTimeVariation allows. It can be posted once the chain's owner has widened \
         that (setMaxTimeVariation); or the oldest delayed message is forced in (forceInclusion, by anybody), after which what is \
         not on L1 is sequenced again with newer clocks"
    )]
    TooOld {
        /// The message.
        message: u64,
        /// Its timestamp.
        timestamp: u64,
        /// Its L1 block.
        l1_number: u64,
        /// The bounds as they would be now.
        bounds: Bounds,
    },
    /// A message alone does not fit what L1 takes.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
}

/// The next call, or `None` if nothing needs to be posted yet.
///
/// `messages` continue what the inbox holds.
pub fn next_batch(
    state: &InboxState,
    messages: &[Placed],
    policy: &PostPolicy,
    target: BatchTarget,
) -> Result<Option<BatchCall>, PostError> {
    let Some(first) = messages.first() else { return Ok(None) };
    if first.message.sequence != state.messages {
        return Err(PostError::Start { posted: state.messages, first: first.message.sequence });
    }
    let chain = first.message.delayed_read - u64::from(first.message.is_delayed());
    if chain != state.delayed_read {
        let message = first.message.sequence;
        return Err(PostError::Forced { message, inbox: state.delayed_read, chain });
    }
    let fit = within_clocks(state, messages)?;
    let Some(fit) = messages.get(..fit).filter(|fit| !fit.is_empty()) else { return Ok(None) };
    let due = is_due(state, fit, policy);
    let bytes_max = bytes_max(target);
    // What fits uncompressed does not fill a batch: no need to compress it at every look.
    if !due && raw_fit(fit, bytes_max) == fit.len() {
        return Ok(None);
    }
    let (taken, data) = pack(fit, policy.quality, target)?;
    if !due && taken == fit.len() {
        return Ok(None);
    }
    let taken = &fit[..taken];
    let last = &taken[taken.len() - 1];
    let first_delayed = first_delayed(state, taken)?;
    Ok(Some(BatchCall {
        sequence: state.batches,
        data,
        delayed_read: last.message.delayed_read,
        messages_before: state.messages,
        counted: state.forced == 0,
        messages_after: last.message.sequence + 1,
        // Always given where the contract knows it, so that whether its buffer is in use needs no look.
        proof: first_delayed.filter(|_| state.delay_bufferable),
        before: state.accumulator,
        delayed_accumulator: last.delayed_accumulator,
    }))
}

/// The first delayed message that these read, if they read any. L1 must have the same.
fn first_delayed(state: &InboxState, messages: &[Placed]) -> Result<Option<DelayedMessage>, PostError> {
    let Some(placed) = messages.iter().find(|placed| placed.message.is_delayed()) else { return Ok(None) };
    let FeedMessage { header, content, .. } = placed.message.clone();
    let first = DelayedMessage { index: state.delayed_read, header, content, before: state.delayed_accumulator };
    if first.accumulator() != placed.delayed_accumulator {
        return Err(PostError::Fork { message: placed.message.sequence });
    }
    Ok(Some(first))
}

/// How many messages have clocks that L1 takes as they are. One from the future waits, with all after it.
fn within_clocks(state: &InboxState, messages: &[Placed]) -> Result<usize, PostError> {
    let bounds = Bounds::at(&state.variation, state.l1_number, state.l1_timestamp);
    for (index, Placed { message, .. }) in messages.iter().enumerate() {
        // A delayed message has the clock of the L1 block that it came from, and keeps it.
        if message.is_delayed() {
            continue;
        }
        let (timestamp, l1_number) = (message.header.timestamp, message.header.l1_number);
        if timestamp < bounds.timestamp_min || l1_number < bounds.l1_min {
            return Err(PostError::TooOld { message: message.sequence, timestamp, l1_number, bounds });
        }
        if timestamp > bounds.timestamp_max || l1_number > bounds.l1_max {
            return Ok(index);
        }
    }
    Ok(messages.len())
}

fn is_due(state: &InboxState, messages: &[Placed], policy: &PostPolicy) -> bool {
    let waits = |placed: &&Placed| state.l1_timestamp.saturating_sub(placed.message.header.timestamp);
    let useful = messages.iter().find(|placed| placed.message.header.kind != KIND_BATCH_REPORT);
    useful.as_ref().is_some_and(|placed| waits(placed) >= policy.wait_seconds)
        || messages.first().as_ref().is_some_and(|placed| waits(placed) >= policy.reports_wait_seconds)
}

/// Bytes of a batch for one L1 transaction.
fn bytes_max(target: BatchTarget) -> usize {
    match target {
        BatchTarget::Calldata { bytes_max } => bytes_max,
        // In blobs the batch is a string that begins with its length: up to three bytes of it, and one that says so.
        BatchTarget::Blobs { per_transaction } => per_transaction.saturating_mul(BLOB_DATA_BYTES_MAX).saturating_sub(4),
    }
}

/// As many messages as fit, packed. Fewer are tried in proportion to how far it was off.
fn pack(messages: &[Placed], quality: u32, target: BatchTarget) -> Result<(usize, Batch), AdapterError> {
    let limit = bytes_max(target);
    let mut count = raw_fit(messages, BATCH_BYTES_MAX.min(limit.saturating_mul(RATIO_MAX))).max(1);
    for _ in 0..CUTS_MAX {
        let batch = compress(&events(&messages[..count]), quality)?;
        if batch.len() <= limit {
            let data = match target {
                BatchTarget::Calldata { .. } => Batch::Calldata(batch),
                BatchTarget::Blobs { per_transaction } => Batch::Blobs(encode_blobs(&batch, per_transaction)?),
            };
            return Ok((count, data));
        }
        if count == 1 {
            let (limit, found) = (limit as u64, batch.len() as u64);
            return Err(AdapterError::Limit { what: "bytes of a batch with one message", limit, found });
        }
        let shrunk = (count as u64).saturating_mul(limit as u64) / batch.len() as u64;
        count = usize::try_from(shrunk).unwrap_or(count).min(count * 9 / 10).max(1);
    }
    unreachable!("each cut leaves nine tenths at most, and one message is cut no further")
}

/// How many messages fit a batch of `bytes_max` bytes uncompressed. Each has two segments for its clock at most.
fn raw_fit(messages: &[Placed], bytes_max: usize) -> usize {
    const OVERHEAD: usize = 32;
    let mut bytes = 0usize;
    let fits = messages.iter().take(SEGMENTS_MAX / 3).take_while(|placed| {
        bytes = bytes.saturating_add(placed.message.content.len()).saturating_add(OVERHEAD);
        bytes <= bytes_max
    });
    fits.count()
}

fn events(messages: &[Placed]) -> Vec<Event> {
    let event = |Placed { message, .. }: &Placed| match message.is_delayed() {
        true => Event::Delayed,
        false => Event::Message {
            timestamp: message.header.timestamp,
            l1_number: message.header.l1_number,
            message: message.content.clone(),
        },
    };
    messages.iter().map(event).collect()
}
