//! Brotli and zlib streams, whole, with a bound on what comes out.
//!
//! Which stream a rollup wants, and what it means by it, is the adapter's to know.

use std::io::{Read, Write};

use brotli::{
    BrotliDecompressStream, BrotliResult, BrotliState,
    enc::{BrotliEncoderInitParams, StandardAlloc},
};

use crate::DecodeError;

/// The encoder's window: what op-batcher and Nitro use. Decoders take up to 24 bits (RFC 7932), and not the "large
/// window" extension, whose streams could ask for a gigabyte.
const BROTLI_WINDOW_BITS: u32 = 22;
/// Buffers between stream and memory: large enough to be invisible in the time taken.
const BUFFER_BYTES: usize = 64 * 1024;

/// Appends the parts, as one brotli stream, to `out`.
pub(crate) fn brotli<'a>(parts: impl Iterator<Item = &'a [u8]>, quality: u32, out: Vec<u8>) -> Vec<u8> {
    let mut stream = brotli::CompressorWriter::new(out, BUFFER_BYTES, quality.min(11), BROTLI_WINDOW_BITS);
    write_parts(parts, &mut stream);
    stream.into_inner()
}

/// A piece of a brotli stream.
#[derive(Clone, Copy)]
pub(crate) enum Piece<'a> {
    /// Worth compressing, by itself: nothing refers back across pieces.
    Packed(&'a [u8]),
    /// Random bytes, such as signatures: stored as they are, which costs neither time nor size.
    Stored(&'a [u8]),
}

/// The least quality at which the encoder makes bare pieces: below, it ends every stream.
pub(crate) const PIECES_QUALITY_MIN: u32 = 2;

/// Appends the pieces, as one brotli stream of at least [`PIECES_QUALITY_MIN`], to `out`.
///
/// The encoder makes bare pieces, whole bytes without a stream's beginning and end, so they can be put in a row with stored
/// blocks between them (RFC 7932, sections 9.1 and 9.2).
pub(crate) fn brotli_pieces(pieces: &[Piece<'_>], quality: u32, mut out: Vec<u8>) -> Vec<u8> {
    // The window, and an empty block of metadata that fills up the byte: from here on everything is whole bytes.
    let mut start = Bits::default();
    start.put((u64::from(BROTLI_WINDOW_BITS) - 17) << 1 | 1, 4);
    start.put(EMPTY_METADATA, 6);
    start.write(&mut out);
    for piece in pieces {
        match piece {
            Piece::Packed([]) => {}
            Piece::Packed(bytes) => {
                let mut parameters = BrotliEncoderInitParams();
                parameters.quality = i32::try_from(quality.clamp(PIECES_QUALITY_MIN, 11)).expect("at most 11");
                parameters.lgwin = i32::try_from(BROTLI_WINDOW_BITS).expect("at most 24");
                parameters.size_hint = bytes.len();
                parameters.catable = true;
                parameters.bare_stream = true;
                let mut stream = brotli::CompressorWriter::with_params(out, BUFFER_BYTES, &parameters);
                stream.write_all(bytes).expect("writing to memory does not fail");
                out = stream.into_inner();
            }
            Piece::Stored(bytes) => {
                for block in bytes.chunks(STORED_BLOCK_BYTES) {
                    let length = block.len() as u64 - 1;
                    let nibbles = length.checked_ilog(16).map_or(4, |last| u64::from(last + 1).max(4));
                    let mut header = Bits::default();
                    header.put((nibbles - 4) << 1, 3);
                    header.put(length, 4 * nibbles as u32);
                    header.put(1, 1);
                    header.write(&mut out);
                    out.extend_from_slice(block);
                }
            }
        }
    }
    out.push(LAST_EMPTY_BLOCK);
    out
}

/// Bytes of one stored block: the most that six nibbles of length can say.
const STORED_BLOCK_BYTES: usize = 1 << 24;
/// Not last (1 bit), metadata (2 bits, all set), reserved (1 bit), no length (2 bits).
const EMPTY_METADATA: u64 = 0b110;
/// The block that ends a stream: last, and empty.
const LAST_EMPTY_BLOCK: u8 = 0b11;

/// Bits, lowest first, that fill up to whole bytes with zeros.
#[derive(Default)]
struct Bits {
    bits: u64,
    held: u32,
}

impl Bits {
    fn put(&mut self, value: u64, width: u32) {
        self.bits |= value << self.held;
        self.held += width;
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bits.to_le_bytes()[..self.held.div_ceil(8) as usize]);
    }
}

/// The parts as one zlib stream.
pub(crate) fn zlib<'a>(parts: impl Iterator<Item = &'a [u8]>, level: u32) -> Vec<u8> {
    let mut stream = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(level.min(9)));
    write_parts(parts, &mut stream);
    stream.finish().expect("writing to memory does not fail")
}

fn write_parts<'a>(parts: impl Iterator<Item = &'a [u8]>, stream: &mut impl Write) {
    for part in parts {
        stream.write_all(part).expect("writing to memory does not fail");
    }
}

/// The content of a brotli stream that fills `stream` exactly. Stops above `limit` bytes of content.
pub(crate) fn unbrotli(stream: &[u8], what: &'static str, limit: usize) -> Result<Vec<u8>, DecodeError> {
    let new = StandardAlloc::default;
    let mut state = BrotliState::new_strict(new(), new(), new());
    let mut content = Vec::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut left, mut read, mut total) = (stream.len(), 0, 0);
    loop {
        let (mut room, mut written) = (buffer.len(), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut read,
            stream,
            &mut room,
            &mut written,
            &mut buffer,
            &mut total,
            &mut state,
        );
        content.extend_from_slice(&buffer[..written]);
        bound(what, limit, content.len())?;
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::NeedsMoreInput => return Err(DecodeError::Truncated(what)),
            BrotliResult::ResultFailure => return Err(DecodeError::Compression(what)),
            BrotliResult::ResultSuccess if left > 0 => return Err(DecodeError::Trailing(what)),
            BrotliResult::ResultSuccess => return Ok(content),
        }
    }
}

/// The content of a zlib stream that fills `stream` exactly. Stops above `limit` bytes of content.
pub(crate) fn unzlib(stream: &[u8], what: &'static str, limit: usize) -> Result<Vec<u8>, DecodeError> {
    let mut reader = flate2::bufread::ZlibDecoder::new(stream);
    let mut content = Vec::new();
    let stop = (limit as u64).saturating_add(1);
    reader.by_ref().take(stop).read_to_end(&mut content).map_err(|_| DecodeError::Compression(what))?;
    bound(what, limit, content.len())?;
    if reader.into_inner().is_empty() { Ok(content) } else { Err(DecodeError::Trailing(what)) }
}

fn bound(what: &'static str, limit: usize, found: usize) -> Result<(), DecodeError> {
    if found <= limit { Ok(()) } else { Err(DecodeError::Limit { what, limit: limit as u64, found: found as u64 }) }
}
