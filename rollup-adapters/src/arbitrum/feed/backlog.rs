//! Which messages does a feed hold ready, and in which form?
//!
//! Each as the WebSocket frame that every client is sent: it is serialised once. The newest are kept, within two bounds; what a
//! client has not had yet is what lies behind its own place, so no client has a queue. Pure: no socket, no clock.

use std::{collections::VecDeque, ops::Range};

use bytes::Bytes;

/// Longest header of a frame that a server sends: two bytes and a length of eight.
const FRAME_HEADER_BYTES_MAX: usize = 10;
const FINAL_TEXT: u8 = 0x81;

/// What a backlog may hold. The newest message is always held.
#[derive(Clone, Copy, Debug)]
pub struct BacklogLimits {
    /// Messages.
    pub messages: usize,
    /// Bytes of their frames.
    pub bytes: usize,
}

impl Default for BacklogLimits {
    /// A minute of a busy chain in memory, and never more than a server can spare.
    fn default() -> Self {
        Self { messages: 65_536, bytes: 64 << 20 }
    }
}

/// The newest messages, as frames, without a gap.
#[derive(Debug)]
pub(super) struct Backlog {
    next: u64,
    frames: VecDeque<Bytes>,
    bytes: usize,
    limits: BacklogLimits,
    confirmed: Option<(u64, Bytes)>,
    /// Numbers whose messages were replaced by others.
    void: Range<u64>,
}

/// What there is for a client at some place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// This many messages were given.
    Messages(u64),
    /// The place is before the first message held.
    Before {
        /// The first message held.
        first: u64,
    },
}

/// A message that does not follow the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message {found} was given to the feed, {expected} is next")]
pub struct OutOfOrder {
    /// The next sequence number.
    pub expected: u64,
    /// The one found.
    pub found: u64,
}

impl Backlog {
    /// An empty backlog whose first message will be `next`.
    pub(super) fn new(next: u64, limits: BacklogLimits) -> Self {
        Self { next, frames: VecDeque::new(), bytes: 0, limits, confirmed: None, void: 0..0 }
    }

    /// Begins again with message `next`: what was pushed from there on is void.
    pub(super) fn restart(&mut self, next: u64) {
        let void = if self.void.is_empty() {
            next..self.next
        } else {
            next.min(self.void.start)..self.next.max(self.void.end)
        };
        *self = Self { void, ..Self::new(next, self.limits) };
    }

    /// Where a client begins that asks for `from`. If what it has before that may be void, with what is there instead: a Nitro node
    /// that goes back because L1 told it to asks for what comes after the messages that it once had (`broadcastclient`, `nextSeqNum`).
    pub(super) fn begin(&self, from: u64) -> u64 {
        if from > self.void.start && from <= self.void.end { self.void.start } else { from }
    }

    /// The sequence number that comes next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The first message held; [`Self::next`] if there is none.
    pub(super) fn first(&self) -> u64 {
        self.next - self.frames.len() as u64
    }

    /// Adds the next message and drops the oldest that are too many.
    pub(super) fn push(&mut self, sequence: u64, frame: Bytes) -> Result<(), OutOfOrder> {
        if sequence != self.next {
            return Err(OutOfOrder { expected: self.next, found: sequence });
        }
        self.next += 1;
        self.bytes += frame.len();
        self.frames.push_back(frame);
        while self.frames.len() > 1 && (self.frames.len() > self.limits.messages || self.bytes > self.limits.bytes) {
            self.bytes -= self.frames.pop_front().map_or(0, |frame| frame.len());
        }
        Ok(())
    }

    /// Appends to `out` the messages from `place` on, up to `bytes_max` bytes of them but at least one.
    pub(super) fn take(&self, place: u64, bytes_max: usize, out: &mut Vec<Bytes>) -> Ready {
        let first = self.first();
        let Some(skipped) = place.checked_sub(first) else { return Ready::Before { first } };
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX).min(self.frames.len());
        let (mut taken, mut bytes) = (0, 0usize);
        for frame in self.frames.range(skipped..) {
            bytes = bytes.saturating_add(frame.len());
            if taken > 0 && bytes > bytes_max {
                break;
            }
            out.push(frame.clone());
            taken += 1;
        }
        Ready::Messages(taken)
    }

    /// Notes up to which message L1 confirms. It does not go back.
    pub(super) fn confirm(&mut self, sequence: u64, frame: Bytes) -> bool {
        let grows = self.confirmed.as_ref().is_none_or(|(before, _)| *before < sequence);
        if grows {
            self.confirmed = Some((sequence, frame));
        }
        grows
    }

    /// The confirmation that a client must still be told: later than `told`, and not of messages that it has not had.
    pub(super) fn confirmation(&self, told: Option<u64>, place: u64) -> Option<(u64, Bytes)> {
        let (sequence, frame) = self.confirmed.as_ref()?;
        (told.is_none_or(|told| told < *sequence) && *sequence < place).then(|| (*sequence, frame.clone()))
    }
}

/// The frame of a text that a server sends: whole, and not masked (RFC 6455, section 5.2).
pub(super) fn text_frame(text: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(text.len() + FRAME_HEADER_BYTES_MAX);
    frame.push(FINAL_TEXT);
    match text.len() {
        length @ 0..=125 => frame.push(length as u8),
        length @ 126..=0xffff => {
            frame.push(126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(text);
    frame.into()
}
