//! What does a client of the feed say once it is connected?
//!
//! Nothing of content: it answers pings, may ping, and closes. Anything else that is small is passed over, as Nitro's server
//! does; what is large or not a frame ends the connection.

use std::io::Cursor;

use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, OpCode},
};

/// Bytes of one frame from a client: control frames have at most 125, and nobody needs to say more.
const CLIENT_FRAME_BYTES_MAX: u64 = 4_096;

/// What a client said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A ping to be answered with the same bytes.
    Ping(Vec<u8>),
    /// Good-bye.
    Close,
    /// Something of no consequence.
    Nothing,
}

/// Why a client is not listened to any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nonsense {
    /// Not a WebSocket frame, or one that a client must mask and did not.
    #[error("not a client's WebSocket frame")]
    Frame,
    /// A frame too large.
    #[error("a frame of {0} bytes, at most {CLIENT_FRAME_BYTES_MAX}")]
    Large(u64),
}

/// Takes the next whole frame from the front of `bytes`; `None` if it is not all there yet.
pub fn next(bytes: &mut Vec<u8>) -> Result<Option<Said>, Nonsense> {
    let mut cursor = Cursor::new(bytes.as_slice());
    let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(|_| Nonsense::Frame)? else { return Ok(None) };
    if length > CLIENT_FRAME_BYTES_MAX {
        return Err(Nonsense::Large(length));
    }
    let mask = header.mask.ok_or(Nonsense::Frame)?;
    let start = usize::try_from(cursor.position()).map_err(|_| Nonsense::Frame)?;
    let end = start + usize::try_from(length).map_err(|_| Nonsense::Frame)?;
    let Some(payload) = bytes.get(start..end) else { return Ok(None) };
    let said = match header.opcode {
        OpCode::Control(Control::Ping) => {
            Said::Ping(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect())
        }
        OpCode::Control(Control::Close) => Said::Close,
        _ => Said::Nothing,
    };
    if matches!(header.opcode, OpCode::Control(_)) && length > 125 {
        return Err(Nonsense::Large(length));
    }
    bytes.drain(..end);
    Ok(Some(said))
}
