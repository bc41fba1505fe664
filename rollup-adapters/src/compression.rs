//! Brotli and zlib streams, whole, with a bound on what comes out.
//!
//! Which stream a rollup wants, and what it means by it, is the adapter's to know.

use std::io::{Read, Write};

use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, enc::StandardAlloc};

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
