//! How do batches become a compressed channel?
//!
//! A channel is a compressed concatenation of RLP strings, one batch each: a zlib stream, or `0x01` and a brotli stream (specs,
//! Derivation, "Channel format"; Fjord, "Brotli channel compression").

use alloy_rlp::{Encodable, Header};

use super::span::EncodedSpan;
use crate::{
    AdapterError, DecodeError,
    compression::{self, Piece},
    rlp::Items,
};

/// Bytes of a channel after decompression (specs, Fjord: `MAX_RLP_BYTES_PER_CHANNEL`).
pub const CHANNEL_BYTES_MAX: usize = 100_000_000;

/// Version byte before a brotli stream. No zlib stream starts like this: their low four bits are 8 or 15.
const BROTLI: u8 = 1;

/// How to compress a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// zlib (RFC 1950), level 0 to 9.
    Zlib {
        /// Effort, 0 to 9.
        level: u32,
    },
    /// Brotli (RFC 7932), quality 0 to 11; understood since Fjord.
    Brotli {
        /// Effort, 0 to 11.
        quality: u32,
    },
}

/// Compresses batches, each with its type byte, into a channel.
pub fn compress(batches: &[Vec<u8>], compression: Compression) -> Result<Vec<u8>, AdapterError> {
    check_size(batches.iter().map(|batch| batch.as_slice().length()).sum())?;
    let headers: Vec<Vec<u8>> = batches.iter().map(|batch| string_header(batch)).collect();
    let parts = headers.iter().zip(batches).flat_map(|(header, batch)| [header.as_slice(), batch.as_slice()]);
    Ok(match compression {
        Compression::Zlib { level } => compression::zlib(parts, level),
        Compression::Brotli { quality } => compression::brotli(parts, quality, vec![BROTLI]),
    })
}

/// A channel of one span batch. Brotli leaves its random columns alone: they are a quarter of the bytes and most of what is
/// left after compression, and trying to compress them is time lost.
pub(super) fn compress_span(span: &EncodedSpan, compression: Compression) -> Result<Vec<u8>, AdapterError> {
    let quality = match compression {
        Compression::Brotli { quality } if quality >= compression::PIECES_QUALITY_MIN => quality,
        _ => return compress(std::slice::from_ref(&span.bytes), compression),
    };
    let header = string_header(&span.bytes);
    check_size(header.len() + span.bytes.len())?;
    let (head, rest) = span.bytes.split_at(span.random.start);
    let (random, tail) = rest.split_at(span.random.len());
    let head = [&header, head].concat();
    let pieces = [Piece::Packed(&head), Piece::Stored(random), Piece::Packed(tail)];
    Ok(compression::brotli_pieces(&pieces, quality, vec![BROTLI]))
}

fn check_size(size: usize) -> Result<(), AdapterError> {
    let (limit, found) = (CHANNEL_BYTES_MAX as u64, size as u64);
    if size <= CHANNEL_BYTES_MAX {
        Ok(())
    } else {
        Err(AdapterError::Limit { what: "bytes of a channel", limit, found })
    }
}

/// A batch has at least its type byte and a list, so it is never RLP's single byte without a header.
fn string_header(batch: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(9);
    Header { list: false, payload_length: batch.len() }.encode(&mut out);
    out
}

/// The batches of a channel, each with its type byte. Decompression stops at [`CHANNEL_BYTES_MAX`].
///
/// Stricter than derivation, which ignores what follows the last whole batch: our own batchers leave nothing there.
pub fn decompress(channel: &[u8]) -> Result<Vec<Vec<u8>>, DecodeError> {
    let content = match channel {
        [] => return Err(DecodeError::Truncated("channel")),
        [BROTLI, stream @ ..] => compression::unbrotli(stream, "channel", CHANNEL_BYTES_MAX)?,
        [first, ..] if matches!(first & 0x0f, 8 | 15) => compression::unzlib(channel, "channel", CHANNEL_BYTES_MAX)?,
        [first, ..] => return Err(DecodeError::Version { what: "channel", found: *first }),
    };
    let mut strings = Items(&content);
    let mut batches = Vec::new();
    while !strings.is_empty() {
        batches.push(strings.string().map_err(DecodeError::rlp("channel"))?.payload.to_vec());
    }
    Ok(batches)
}
