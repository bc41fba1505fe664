//! How does data travel in an EIP-4844 blob on the OP Stack?
//!
//! A field element must be below the BLS modulus, so 254 of its 256 bits are used at most. Four elements at a time
//! carry 127 bytes: 31 bytes each in the low bytes, and three more bytes spread as six bits over the four top bytes (specs,
//! Ecotone, "Blob encoding"). The first four bytes are a version (0) and the length as 24 bits.

use crate::{AdapterError, DecodeError, adapter::BLOB_BYTES};

/// Data of one blob: 1,024 rounds of 127 bytes, without the four bytes of version and length.
pub const BLOB_DATA_BYTES_MAX: usize = 1_024 * ROUND_DATA_BYTES - PREFIX_BYTES;

const ROUND_DATA_BYTES: usize = 4 * 31 + 3;
const ROUND_BYTES: usize = 4 * 32;
const PREFIX_BYTES: usize = 4;
const VERSION: u8 = 0;

/// Packs `data` into a blob.
pub fn encode_blob(data: &[u8]) -> Result<Vec<u8>, AdapterError> {
    if data.len() > BLOB_DATA_BYTES_MAX {
        let (limit, found) = (BLOB_DATA_BYTES_MAX as u64, data.len() as u64);
        return Err(AdapterError::Limit { what: "data of a blob", limit, found });
    }
    let length = u32::try_from(data.len()).expect("below 2^17").to_be_bytes();
    let mut stream = Vec::with_capacity(PREFIX_BYTES + data.len());
    stream.extend_from_slice(&[VERSION, length[1], length[2], length[3]]);
    stream.extend_from_slice(data);

    let mut blob = vec![0; BLOB_BYTES];
    for (data, round) in stream.chunks(ROUND_DATA_BYTES).zip(blob.chunks_exact_mut(ROUND_BYTES)) {
        let mut bytes = [0; ROUND_DATA_BYTES];
        bytes[..data.len()].copy_from_slice(data);
        // The stream of a round: 31 bytes, x, 31 bytes, y, 31 bytes, z, 31 bytes.
        let (x, y, z) = (bytes[31], bytes[63], bytes[95]);
        let tops = [x & 0x3f, (y & 0x0f) | (x & 0xc0) >> 2, z & 0x3f, (z & 0xc0) >> 2 | (y & 0xf0) >> 4];
        for (index, top) in tops.into_iter().enumerate() {
            round[index * 32] = top;
            round[index * 32 + 1..(index + 1) * 32].copy_from_slice(&bytes[index * 32..index * 32 + 31]);
        }
    }
    Ok(blob)
}

/// Reads the data of a blob. What lies behind its length must be zero.
pub fn decode_blob(blob: &[u8]) -> Result<Vec<u8>, DecodeError> {
    if blob.len() != BLOB_BYTES {
        return Err(DecodeError::Limit { what: "bytes of a blob", limit: BLOB_BYTES as u64, found: blob.len() as u64 });
    }
    let mut stream = Vec::with_capacity(1_024 * ROUND_DATA_BYTES);
    for round in blob.chunks_exact(ROUND_BYTES) {
        let tops = [round[0], round[32], round[64], round[96]];
        if tops.iter().any(|top| top & 0xc0 != 0) {
            return Err(DecodeError::Invalid { what: "field element", reason: "its two top bits must be zero" });
        }
        let x = tops[0] | (tops[1] & 0x30) << 2;
        let y = (tops[1] & 0x0f) | (tops[3] & 0x0f) << 4;
        let z = tops[2] | (tops[3] & 0x30) << 2;
        stream.extend_from_slice(&round[1..32]);
        stream.push(x);
        stream.extend_from_slice(&round[33..64]);
        stream.push(y);
        stream.extend_from_slice(&round[65..96]);
        stream.push(z);
        stream.extend_from_slice(&round[97..128]);
    }
    if stream[0] != VERSION {
        return Err(DecodeError::Version { what: "blob", found: stream[0] });
    }
    let length = usize::from(stream[1]) << 16 | usize::from(stream[2]) << 8 | usize::from(stream[3]);
    if length > BLOB_DATA_BYTES_MAX {
        let (limit, found) = (BLOB_DATA_BYTES_MAX as u64, length as u64);
        return Err(DecodeError::Limit { what: "data of a blob", limit, found });
    }
    if stream[PREFIX_BYTES + length..].iter().any(|byte| *byte != 0) {
        return Err(DecodeError::Trailing("data of a blob"));
    }
    stream.truncate(PREFIX_BYTES + length);
    stream.drain(..PREFIX_BYTES);
    Ok(stream)
}
