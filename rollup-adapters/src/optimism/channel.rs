//! How do batches become a compressed channel?
//!
//! A channel is a compressed concatenation of RLP strings, one batch each: a zlib stream, or `0x01` and a brotli stream (specs,
//! Derivation, "Channel format"; Fjord, "Brotli channel compression").

use std::io::{Read, Write};

use alloy_rlp::{Encodable, Header};

use super::rlp::Items;
use crate::{AdapterError, DecodeError};

/// Bytes of a channel after decompression (specs, Fjord: `MAX_RLP_BYTES_PER_CHANNEL`).
pub const CHANNEL_BYTES_MAX: usize = 100_000_000;

/// Version byte before a brotli stream. No zlib stream starts like this: their low four bits are 8 or 15.
const BROTLI: u8 = 1;
/// The largest window that every brotli decoder accepts without being asked (RFC 7932 allows up to 24).
const BROTLI_WINDOW_BITS: u32 = 22;
const BUFFER_BYTES: usize = 64 * 1024;

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
    let size: usize = batches.iter().map(|batch| batch.as_slice().length()).sum();
    if size > CHANNEL_BYTES_MAX {
        let (limit, found) = (CHANNEL_BYTES_MAX as u64, size as u64);
        return Err(AdapterError::Limit { what: "bytes of a channel", limit, found });
    }
    match compression {
        Compression::Zlib { level } => {
            let effort = flate2::Compression::new(level.min(9));
            let mut zlib = flate2::write::ZlibEncoder::new(Vec::with_capacity(size / 2), effort);
            write_strings(batches, &mut zlib);
            Ok(zlib.finish().expect("writing to memory does not fail"))
        }
        Compression::Brotli { quality } => {
            let mut out = Vec::with_capacity(size / 2);
            out.push(BROTLI);
            let mut brotli = brotli::CompressorWriter::new(out, BUFFER_BYTES, quality.min(11), BROTLI_WINDOW_BITS);
            write_strings(batches, &mut brotli);
            Ok(brotli.into_inner())
        }
    }
}

fn write_strings(batches: &[Vec<u8>], out: &mut impl Write) {
    let mut header_bytes = Vec::with_capacity(9);
    for batch in batches {
        // A batch has at least its type byte and a list, so it is never RLP's single-byte form.
        header_bytes.clear();
        Header { list: false, payload_length: batch.len() }.encode(&mut header_bytes);
        out.write_all(&header_bytes).and_then(|()| out.write_all(batch)).expect("writing to memory does not fail");
    }
}

/// The batches of a channel, each with its type byte. Decompression stops at [`CHANNEL_BYTES_MAX`].
///
/// Stricter than derivation, which ignores what follows the last whole batch: our own batchers leave nothing there.
pub fn decompress(channel: &[u8]) -> Result<Vec<Vec<u8>>, DecodeError> {
    let content = match channel {
        [] => return Err(DecodeError::Truncated("channel")),
        [BROTLI, stream @ ..] => {
            let mut reader = brotli::Decompressor::new(stream, BUFFER_BYTES);
            let content = read_bounded(&mut reader, "brotli")?;
            if !reader.into_inner().is_empty() {
                return Err(DecodeError::Trailing("brotli stream"));
            }
            content
        }
        [first, ..] if matches!(first & 0x0f, 8 | 15) => {
            let mut reader = flate2::bufread::ZlibDecoder::new(channel);
            let content = read_bounded(&mut reader, "zlib")?;
            if !reader.into_inner().is_empty() {
                return Err(DecodeError::Trailing("zlib stream"));
            }
            content
        }
        [first, ..] => return Err(DecodeError::Version { what: "channel", found: *first }),
    };
    let mut strings = Items(&content);
    let mut batches = Vec::new();
    while !strings.is_empty() {
        batches.push(strings.string().map_err(DecodeError::rlp("channel"))?.payload.to_vec());
    }
    Ok(batches)
}

fn read_bounded(reader: &mut impl Read, what: &'static str) -> Result<Vec<u8>, DecodeError> {
    let mut content = Vec::new();
    let limit = CHANNEL_BYTES_MAX as u64;
    reader.take(limit + 1).read_to_end(&mut content).map_err(|_| DecodeError::Compression(what))?;
    if content.len() > CHANNEL_BYTES_MAX {
        return Err(DecodeError::Limit { what: "bytes of a channel", limit, found: content.len() as u64 });
    }
    Ok(content)
}
