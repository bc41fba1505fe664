//! The bytes of a batch: `0x00` and a brotli stream over RLP strings, the segments.
//!
//! | first byte | rest of the segment |
//! | --- | --- |
//! | 0 | an L2 message |
//! | 1 | an L2 message, as a brotli stream of its own |
//! | 2 | nothing: the next message of the delayed inbox |
//! | 3 | RLP integer: so many seconds later |
//! | 4 | RLP integer: so many L1 blocks later |
//!
//! Both clocks start at 0 in every batch. Compressed bytes differ between encoders: what is compared is the content.

use alloy_rlp::{Encodable, Header};

use super::message::MESSAGE_BYTES_MAX;
use crate::{AdapterError, DecodeError, compression, rlp::Items};

/// Bytes of a batch after decompression (Nitro, `MaxDecompressedLen`, since then `DefaultMaxUncompressedBatchSize`).
pub const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Segments of a batch (Nitro, `MaxSegmentsPerSequencerMessage`).
pub const SEGMENTS_MAX: usize = 100 * 1024;

const BROTLI: u8 = 0;

const MESSAGE: u8 = 0;
const BROTLI_MESSAGE: u8 = 1;
const DELAYED: u8 = 2;
const SECONDS: u8 = 3;
const L1_BLOCKS: u8 = 4;

/// What a batch makes happen, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An L2 message at these clocks.
    Message {
        /// Seconds since the Unix epoch.
        timestamp: u64,
        /// L1 block number.
        l1_number: u64,
        /// The message.
        message: Vec<u8>,
    },
    /// The next message of the delayed inbox.
    Delayed,
}

/// The batch that makes these events happen. Their clocks must not go back.
pub fn compress(events: &[Event], quality: u32) -> Result<Vec<u8>, AdapterError> {
    let mut segments = Segments::default();
    let (mut seconds, mut l1_blocks) = (0u64, 0u64);
    for event in events {
        match event {
            Event::Message { timestamp, l1_number, message } => {
                segments.advance(SECONDS, &mut seconds, *timestamp)?;
                segments.advance(L1_BLOCKS, &mut l1_blocks, *l1_number)?;
                segments.push(&[&[MESSAGE], message]);
            }
            Event::Delayed => segments.push(&[&[DELAYED]]),
        }
    }
    for (what, limit, found) in [
        ("segments of a batch", SEGMENTS_MAX, segments.count),
        ("bytes of a batch", BATCH_BYTES_MAX, segments.bytes.len()),
    ] {
        if found > limit {
            return Err(AdapterError::Limit { what, limit: limit as u64, found: found as u64 });
        }
    }
    Ok(compression::brotli(std::iter::once(segments.bytes.as_slice()), quality, vec![BROTLI]))
}

#[derive(Default)]
struct Segments {
    bytes: Vec<u8>,
    count: usize,
}

impl Segments {
    fn push(&mut self, parts: &[&[u8]]) {
        let payload_length = parts.iter().map(|part| part.len()).sum();
        // A segment of one byte is its own RLP: all kinds are below 0x80.
        if payload_length > 1 {
            Header { list: false, payload_length }.encode(&mut self.bytes);
        }
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.count += 1;
    }

    fn advance(&mut self, kind: u8, clock: &mut u64, to: u64) -> Result<(), AdapterError> {
        let step = to.checked_sub(*clock).ok_or(AdapterError::Block {
            number: self.count as u64,
            rule: "the clock of a batch's segment must not go back",
        })?;
        if step > 0 {
            let mut number = Vec::with_capacity(9);
            step.encode(&mut number);
            self.push(&[&[kind], &number]);
        }
        *clock = to;
        Ok(())
    }
}

/// The events of a batch. Stricter than the node, which passes over what it cannot read.
pub fn decompress(batch: &[u8]) -> Result<Vec<Event>, DecodeError> {
    let content = match batch {
        [] => return Err(DecodeError::Truncated("batch")),
        [BROTLI, stream @ ..] => compression::unbrotli(stream, "batch", BATCH_BYTES_MAX)?,
        [other, ..] => return Err(DecodeError::Version { what: "batch", found: *other }),
    };
    let mut segments = Items(&content);
    let mut events = Vec::new();
    let (mut seconds, mut l1_blocks) = (0u64, 0u64);
    let mut count = 0;
    let mut message_bytes = 0usize;
    while !segments.is_empty() {
        count += 1;
        if count > SEGMENTS_MAX {
            let limit = SEGMENTS_MAX as u64;
            return Err(DecodeError::Limit { what: "segments of a batch", limit, found: limit + 1 });
        }
        let segment = segments.string().map_err(DecodeError::rlp("batch"))?.payload;
        let message = match segment {
            [MESSAGE, message @ ..] => message.to_vec(),
            [BROTLI_MESSAGE, stream @ ..] => compression::unbrotli(stream, "L2 message", MESSAGE_BYTES_MAX)?,
            [DELAYED] => {
                events.push(Event::Delayed);
                continue;
            }
            [SECONDS, number @ ..] => {
                seconds = later(seconds, number)?;
                continue;
            }
            [L1_BLOCKS, number @ ..] => {
                l1_blocks = later(l1_blocks, number)?;
                continue;
            }
            [] | [DELAYED, ..] => return Err(DecodeError::Invalid { what: "segment", reason: "of a wrong length" }),
            [other, ..] => return Err(DecodeError::Version { what: "segment", found: *other }),
        };
        // Messages that are compressed once more could unfold to gigabytes together. Nitro unfolds one at a time.
        message_bytes = message_bytes.saturating_add(message.len());
        if message_bytes > BATCH_BYTES_MAX {
            let (limit, found) = (BATCH_BYTES_MAX as u64, message_bytes as u64);
            return Err(DecodeError::Limit { what: "messages of a batch", limit, found });
        }
        events.push(Event::Message { timestamp: seconds, l1_number: l1_blocks, message });
    }
    Ok(events)
}

fn later(clock: u64, number: &[u8]) -> Result<u64, DecodeError> {
    let mut items = Items(number);
    let step = items.number().and_then(|step| items.end().map(|()| step)).map_err(DecodeError::rlp("segment"))?;
    clock.checked_add(step).ok_or(DecodeError::Invalid { what: "segment", reason: "its clock exceeds 64 bits" })
}
