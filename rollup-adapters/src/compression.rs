//! Brotli and zlib streams, whole, with a bound on what comes out.
//!
//! Which stream a rollup wants, and what it means by it, is the adapter's to know.

use std::io::{Read, Write};

use brotli::{
    BrotliDecompressStream, BrotliResult, BrotliState,
    enc::{
        StandardAlloc,
        backward_references::UnionHasher,
        encode::{BrotliEncoderOperation, BrotliEncoderStateStruct},
        input_pair::{InputPair, InputReferenceMut},
        interface::{PredictionModeContextMap, StaticCommand},
    },
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

/// The quality from which on the encoder takes seconds for a megabyte: there, halves are compressed at once.
const THOROUGH_QUALITY_MIN: u32 = 10;
/// Below this a second thread, and the codes that its half begins with, are not worth it.
const HALVES_BYTES_MIN: usize = 256 * 1024;
/// How much the encoder looks at before it decides on codes, where it takes its time: with its own choice of 18 bits archives are a
/// quarter of a percent larger.
const THOROUGH_BLOCK_BITS: i32 = 22;

/// Appends the pieces, as one brotli stream of at least [`PIECES_QUALITY_MIN`], to `out`.
///
/// The encoder makes bare pieces, whole bytes without a stream's beginning and end, so they can be put in a row with stored
/// blocks between them (RFC 7932, sections 9.1 and 9.2). At the highest qualities a large piece is compressed in two halves at once, the
/// second of which knows the first.
pub(crate) fn brotli_pieces(pieces: &[Piece<'_>], quality: u32, mut out: Vec<u8>) -> Vec<u8> {
    // The window, and an empty block of metadata that fills up the byte: from here on everything is whole bytes.
    let mut start = Bits::default();
    start.put((u64::from(BROTLI_WINDOW_BITS) - 17) << 1 | 1, 4);
    start.put(EMPTY_METADATA, 6);
    start.write(&mut out);
    for piece in pieces {
        match piece {
            Piece::Packed([]) => {}
            Piece::Packed(bytes) if quality >= THOROUGH_QUALITY_MIN && bytes.len() >= HALVES_BYTES_MIN => {
                let (first, second) = bytes.split_at(bytes.len() / 2);
                std::thread::scope(|scope| {
                    let second = scope.spawn(move || pack(second, first, quality));
                    out.extend(pack(first, &[], quality));
                    out.extend(second.join().expect("the encoder does not panic"));
                });
            }
            Piece::Packed(bytes) => out.extend(pack(bytes, &[], quality)),
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

/// A bare piece of a stream, of bytes that come right after `before` there and may refer back to them.
fn pack(bytes: &[u8], before: &[u8], quality: u32) -> Vec<u8> {
    let mut encoder = BrotliEncoderStateStruct::new(StandardAlloc::default());
    let parameters = &mut encoder.params;
    parameters.quality = i32::try_from(quality.clamp(PIECES_QUALITY_MIN, 11)).expect("at most 11");
    parameters.lgwin = i32::try_from(BROTLI_WINDOW_BITS).expect("at most 24");
    if quality >= THOROUGH_QUALITY_MIN {
        parameters.lgblock = THOROUGH_BLOCK_BITS;
    }
    parameters.size_hint = bytes.len();
    parameters.catable = true;
    parameters.bare_stream = true;
    if !before.is_empty() {
        encoder.set_custom_dictionary_with_optional_precomputed_hasher(before.len(), before, UnionHasher::Uninit, true);
    }
    let (mut left, mut read, mut total) = (bytes.len(), 0, None);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut out = Vec::with_capacity(bytes.len() / 2);
    let mut observe = |_: &mut PredictionModeContextMap<InputReferenceMut<'_>>,
                       _: &mut [StaticCommand],
                       _: InputPair<'_>,
                       _: &mut StandardAlloc| {};
    while !encoder.is_finished() {
        let (mut room, mut written) = (buffer.len(), 0);
        let compressed = encoder.compress_stream(
            BrotliEncoderOperation::BROTLI_OPERATION_FINISH,
            &mut left,
            bytes,
            &mut read,
            &mut room,
            &mut buffer,
            &mut written,
            &mut total,
            &mut observe,
        );
        assert!(compressed, "the encoder refuses parameters alone, and these are ours");
        out.extend_from_slice(&buffer[..written]);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that share much with rows long before them, and something random in each.
    fn rows(count: u64) -> Vec<u8> {
        let row = |index: u64| {
            let noise = blake3::hash(&index.to_le_bytes());
            let known = blake3::hash(&(index % 97).to_le_bytes());
            [&[2, 0xf8][..], &noise.as_bytes()[..8], known.as_bytes(), &[0; 20], &known.as_bytes()[..20]].concat()
        };
        (0..count).flat_map(row).collect()
    }

    #[test]
    fn pieces_of_every_size_and_quality_are_one_stream_and_halves_know_each_other() {
        // Of other numbers than the rows' noise: nothing is worth finding there.
        let random: Vec<u8> =
            (1 << 40..(1u64 << 40) + 40_000).flat_map(|index| *blake3::hash(&index.to_le_bytes()).as_bytes()).collect();
        for (quality, count) in [(2, 10), (5, 9_000), (9, 9_000), (10, 3_000), (10, 9_000), (11, 4_000)] {
            let (head, tail) = (rows(3), rows(count));
            let pieces = [Piece::Packed(&head), Piece::Stored(&random), Piece::Packed(&tail), Piece::Packed(&[])];
            let stream = brotli_pieces(&pieces, quality, Vec::new());
            let content = [&head[..], &random, &tail].concat();
            assert_eq!(
                unbrotli(&stream, "test", content.len()),
                Ok(content.clone()),
                "quality {quality}, {count} rows"
            );
            let alone = brotli([&content[..]].into_iter(), quality, Vec::new());
            assert!(
                stream.len() <= alone.len() + alone.len() / 100,
                "quality {quality}, {count} rows: {} bytes, alone {}",
                stream.len(),
                alone.len()
            );
        }
    }
}
