//! How does a batch travel in EIP-4844 blobs on Nitro?
//!
//! As one RLP string, so that its length is known, cut into pieces of 130,048 bytes. In a blob, the first 126,976 bytes of a
//! piece fill the low 31 bytes of the 4,096 field elements in turn; the remaining 3,072 bytes are a stream of bits,
//! lowest first, six for the top byte of each element (Nitro, `util/blobs/blobs.go`).

use alloy_rlp::Encodable;

use crate::{AdapterError, DecodeError, adapter::BLOB_BYTES, rlp::Items};

const ELEMENTS: usize = 4_096;
const WHOLE_BYTES: usize = 31 * ELEMENTS;
/// Bits of a field element's top byte that are always below the modulus.
const SPARE_BITS: usize = 6;

/// Bytes that one blob carries of the RLP string.
pub const BLOB_DATA_BYTES_MAX: usize = WHOLE_BYTES + SPARE_BITS * ELEMENTS / 8;

/// Packs a batch into as many blobs as it needs, but no more than `blobs_max`.
pub fn encode_blobs(batch: &[u8], blobs_max: usize) -> Result<Vec<Vec<u8>>, AdapterError> {
    let length = batch.length();
    if length > blobs_max.saturating_mul(BLOB_DATA_BYTES_MAX) {
        let (limit, found) = (blobs_max.saturating_mul(BLOB_DATA_BYTES_MAX) as u64, length as u64);
        return Err(AdapterError::Limit { what: "bytes of a batch in blobs", limit, found });
    }
    let mut string = Vec::with_capacity(length);
    batch.encode(&mut string);
    Ok(string.chunks(BLOB_DATA_BYTES_MAX).map(pack).collect())
}

fn pack(piece: &[u8]) -> Vec<u8> {
    let mut blob = vec![0; BLOB_BYTES];
    let (whole, spare) = piece.split_at(piece.len().min(WHOLE_BYTES));
    for (bytes, element) in whole.chunks(31).zip(blob.chunks_exact_mut(32)) {
        element[1..1 + bytes.len()].copy_from_slice(bytes);
    }
    let mut bits = 0u16;
    let mut held = 0;
    let mut spare = spare.iter();
    for element in blob.chunks_exact_mut(32) {
        if held < SPARE_BITS {
            bits |= u16::from(spare.next().copied().unwrap_or(0)) << held;
            held += 8;
        }
        element[0] = (bits & 0x3f) as u8;
        bits >>= SPARE_BITS;
        held -= SPARE_BITS;
    }
    blob
}

/// Reads the batch from all blobs of a transaction. What lies behind it must be zero.
pub fn decode_blobs(blobs: &[Vec<u8>]) -> Result<Vec<u8>, DecodeError> {
    let mut string = Vec::with_capacity(blobs.len().saturating_mul(BLOB_DATA_BYTES_MAX));
    for blob in blobs {
        unpack(blob, &mut string)?;
    }
    // The header is read by itself: what follows the string is padding, not RLP.
    let mut items = Items(&string);
    let batch = items.string().map_err(DecodeError::rlp("batch in blobs"))?.payload;
    let fewer = blobs.len().saturating_sub(1) * BLOB_DATA_BYTES_MAX;
    let length = string.len() - items.0.len();
    if length <= fewer || items.0.iter().any(|byte| *byte != 0) {
        return Err(DecodeError::Trailing("batch in blobs"));
    }
    Ok(batch.to_vec())
}

fn unpack(blob: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    if blob.len() != BLOB_BYTES {
        return Err(DecodeError::Limit { what: "bytes of a blob", limit: BLOB_BYTES as u64, found: blob.len() as u64 });
    }
    for element in blob.chunks_exact(32) {
        out.extend_from_slice(&element[1..]);
    }
    let mut bits = 0u16;
    let mut held = 0;
    for element in blob.chunks_exact(32) {
        if element[0] >> SPARE_BITS != 0 {
            return Err(DecodeError::Invalid { what: "field element", reason: "its two top bits must be zero" });
        }
        bits |= u16::from(element[0]) << held;
        held += SPARE_BITS;
        if held >= 8 {
            out.push((bits & 0xff) as u8);
            bits >>= 8;
            held -= 8;
        }
    }
    Ok(())
}

const _: () = assert!((SPARE_BITS * ELEMENTS).is_multiple_of(8), "the spare bits of a blob are whole bytes");
