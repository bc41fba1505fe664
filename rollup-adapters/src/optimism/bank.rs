//! Which channels are complete, given frames in the order in which L1 included them?
//!
//! The rules since Holocene: frames count only in order and without interruption; a first frame discards a channel that is
//! not closed; a channel that has not closed in time is lost (specs, Holocene, "Frame queue" and "Channel bank";
//! Granite, "Channel timeout"). A poster asks here what has landed, instead of remembering what it sent.

use super::{CHANNEL_BYTES_MAX, ChannelId, Frame};

/// L1 blocks after its first frame in which a channel must close (specs, Granite: `CHANNEL_TIMEOUT_GRANITE`).
pub const CHANNEL_TIMEOUT_L1_BLOCKS: u64 = 50;

/// What derivation adds to a frame's size when it bounds a channel (specs, Derivation: 200 bytes a frame).
const FRAME_SIZE_OVERHEAD: usize = 200;

/// A channel whose last frame has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyChannel {
    /// Its id.
    pub id: ChannelId,
    /// L1 block of its first frame.
    pub opened: u64,
    /// L1 block of its last frame.
    pub closed: u64,
    /// The compressed channel.
    pub data: Vec<u8>,
}

/// What the frames of one transaction or blob amounted to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// Channels that became complete, in order.
    pub ready: Vec<ReadyChannel>,
    /// Frames that derivation ignores, or that it had kept and now discards.
    pub dropped: usize,
}

/// The channel that is open, if any.
#[derive(Clone, Debug, Default)]
pub struct Bank {
    open: Option<Open>,
}

#[derive(Clone, Debug)]
struct Open {
    id: ChannelId,
    opened: u64,
    next: u32,
    size: usize,
    data: Vec<u8>,
}

impl Bank {
    /// Adds the frames of one transaction or blob that L1 block `l1_number` includes. Numbers never go backwards.
    pub fn add(&mut self, l1_number: u64, frames: Vec<Frame>) -> Arrival {
        let mut arrival = Arrival::default();
        if self.open.as_ref().is_some_and(|open| l1_number > open.opened.saturating_add(CHANNEL_TIMEOUT_L1_BLOCKS)) {
            arrival.dropped += self.discard();
        }
        let before = frames.len();
        let frames = prune(frames);
        arrival.dropped += before - frames.len();
        for frame in frames {
            self.add_frame(l1_number, frame, &mut arrival);
        }
        arrival
    }

    /// Whether a channel is open, and since which L1 block.
    pub fn open_since(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.opened)
    }

    fn discard(&mut self) -> usize {
        self.open.take().map_or(0, |open| open.next as usize)
    }

    fn add_frame(&mut self, l1_number: u64, frame: Frame, arrival: &mut Arrival) {
        if frame.number == 0 {
            arrival.dropped += self.discard();
            self.open = Some(Open { id: frame.channel, opened: l1_number, next: 0, size: 0, data: Vec::new() });
        }
        let Some(open) =
            self.open.as_mut().filter(|open| open.id == frame.channel && open.next == u32::from(frame.number))
        else {
            arrival.dropped += 1;
            return;
        };
        open.next += 1;
        open.size = open.size.saturating_add(frame.data.len() + FRAME_SIZE_OVERHEAD);
        if open.size > CHANNEL_BYTES_MAX {
            arrival.dropped += self.discard();
            return;
        }
        open.data.extend_from_slice(&frame.data);
        if frame.is_last
            && let Some(open) = self.open.take()
        {
            arrival.ready.push(ReadyChannel { id: open.id, opened: open.opened, closed: l1_number, data: open.data });
        }
    }
}

/// Removes the frames that the frame queue would not pass on, seen pairwise.
fn prune(frames: Vec<Frame>) -> Vec<Frame> {
    let mut kept: Vec<Frame> = Vec::with_capacity(frames.len());
    for frame in frames {
        // A first frame takes back what precedes it of channels that are not closed.
        if frame.number == 0 {
            while kept.last().is_some_and(|last| last.channel != frame.channel && !last.is_last) {
                kept.pop();
            }
        }
        let follows = match kept.last() {
            None => true,
            Some(last) if last.channel == frame.channel => {
                !last.is_last && u32::from(last.number) + 1 == u32::from(frame.number)
            }
            Some(_) => frame.number == 0,
        };
        if follows {
            kept.push(frame);
        }
    }
    kept
}
