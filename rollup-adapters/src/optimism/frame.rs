//! How is a channel cut into frames, and how do frames travel in the data of an L1 transaction?
//!
//! | bytes | field of a frame |
//! | --- | --- |
//! | 16 | channel id |
//! | 2 | frame number |
//! | 4 | length of the frame's data |
//! | n | data |
//! | 1 | 1 if it is the channel's last frame, else 0 |
//!
//! Big-endian. The data of a transaction, or of a blob, is `0x00` and one or more frames (specs, Derivation, "Batch
//! submission wire format").

use crate::{AdapterError, DecodeError};

/// Identifies a channel. Ours are the first bytes of the blake3 of the channel's content: two posters that post the same
/// blocks make the same frames.
pub type ChannelId = [u8; 16];

/// Bytes of a frame beside its data.
pub const FRAME_OVERHEAD: usize = 23;

/// Data of one frame at most (specs, Derivation: a longer frame is ignored).
pub const FRAME_BYTES_MAX: usize = 1_000_000;

/// Version byte before the frames.
const DERIVATION_VERSION: u8 = 0;

/// A piece of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The channel it belongs to.
    pub channel: ChannelId,
    /// Its place in the channel, from 0.
    pub number: u16,
    /// Its piece of the channel.
    pub data: Vec<u8>,
    /// Whether the channel ends here.
    pub is_last: bool,
}

impl Frame {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), AdapterError> {
        let length = u32::try_from(self.data.len()).ok().filter(|_| self.data.len() <= FRAME_BYTES_MAX).ok_or(
            AdapterError::Limit {
                what: "data of a frame",
                limit: FRAME_BYTES_MAX as u64,
                found: self.data.len() as u64,
            },
        )?;
        out.extend_from_slice(&self.channel);
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.data);
        out.push(u8::from(self.is_last));
        Ok(())
    }

    fn read(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        let channel = take_array(bytes)?;
        let number = u16::from_be_bytes(take_array(bytes)?);
        let length = u32::from_be_bytes(take_array(bytes)?);
        let length =
            usize::try_from(length).ok().filter(|length| *length <= FRAME_BYTES_MAX).ok_or(DecodeError::Limit {
                what: "data of a frame",
                limit: FRAME_BYTES_MAX as u64,
                found: u64::from(length),
            })?;
        let data = take(bytes, length)?.to_vec();
        let [is_last] = take_array(bytes)?;
        let is_last = match is_last {
            0 => false,
            1 => true,
            _ => return Err(DecodeError::Invalid { what: "last mark of a frame", reason: "neither 0 nor 1" }),
        };
        Ok(Self { channel, number, data, is_last })
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], DecodeError> {
    let (head, rest) = bytes.split_at_checked(length).ok_or(DecodeError::Truncated("frame"))?;
    *bytes = rest;
    Ok(head)
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(DecodeError::Truncated("frame"))?;
    *bytes = rest;
    Ok(*head)
}

/// Cuts a channel into frames whose encoding takes at most `frame_bytes_max` bytes each.
pub fn split(channel: &[u8], frame_bytes_max: usize) -> Result<Vec<Frame>, AdapterError> {
    let room = frame_bytes_max.saturating_sub(FRAME_OVERHEAD).min(FRAME_BYTES_MAX);
    if room == 0 {
        let (limit, found) = (frame_bytes_max as u64, FRAME_OVERHEAD as u64 + 1);
        return Err(AdapterError::Limit { what: "smallest frame", limit, found });
    }
    let count = channel.len().div_ceil(room);
    let frames_max = usize::from(u16::MAX) + 1;
    if count > frames_max {
        return Err(AdapterError::Limit { what: "frames of a channel", limit: frames_max as u64, found: count as u64 });
    }
    let mut id = ChannelId::default();
    id.copy_from_slice(&blake3::hash(channel).as_bytes()[..16]);
    let frames = channel.chunks(room).zip(0u16..=u16::MAX);
    Ok(frames
        .map(|(data, number)| Frame {
            channel: id,
            number,
            data: data.to_vec(),
            is_last: usize::from(number) + 1 == count,
        })
        .collect())
}

/// The data of one L1 transaction or blob.
pub fn encode_data(frames: &[Frame]) -> Result<Vec<u8>, AdapterError> {
    let size = frames.iter().map(|frame| FRAME_OVERHEAD + frame.data.len()).sum::<usize>();
    let mut out = Vec::with_capacity(1 + size);
    out.push(DERIVATION_VERSION);
    for frame in frames {
        frame.write(&mut out)?;
    }
    Ok(out)
}

/// The frames in the data of one L1 transaction or blob: all of them valid, at least one, nothing left over.
pub fn decode_data(data: &[u8]) -> Result<Vec<Frame>, DecodeError> {
    let (version, mut rest) = data.split_first().ok_or(DecodeError::Truncated("batcher data"))?;
    if *version != DERIVATION_VERSION {
        return Err(DecodeError::Version { what: "batcher data", found: *version });
    }
    let mut frames = Vec::new();
    while frames.is_empty() || !rest.is_empty() {
        frames.push(Frame::read(&mut rest)?);
    }
    Ok(frames)
}
