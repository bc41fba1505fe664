//! How do compressed points of BLS12-381 look to the precompiles of EIP-2537?
//!
//! A coordinate is 48 bytes after 16 zero bytes; one of the extension field is its two parts, the real one first. Points are
//! checked to be on the curve, not to be in the subgroup: contracts and verifiers do that.

use blst::min_sig::{PublicKey, Signature};

use lockstep_protocol::{certificate::CertificateSignature, genesis::GroupKeyBytes};

/// Bytes of a coordinate.
const FIELD: usize = 48;
/// Zero bytes before it.
const PADDING: usize = 16;

/// Bytes that are no point of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a compressed point of BLS12-381")]
pub struct PointError;

/// The group's public key, 256 bytes: `x.c0, x.c1, y.c0, y.c1`.
pub fn group_key(key: &GroupKeyBytes) -> Result<Vec<u8>, PointError> {
    let point = PublicKey::uncompress(&key.0).map_err(|_| PointError)?.serialize();
    // Written as zkcrypto has it: the imaginary part of each coordinate first.
    Ok(padded(&point, &[1, 0, 3, 2]))
}

/// A certificate's signature, 128 bytes: `x, y`.
pub fn signature(signature: &CertificateSignature) -> Result<Vec<u8>, PointError> {
    let point = Signature::uncompress(&signature.0).map_err(|_| PointError)?.serialize();
    Ok(padded(&point, &[0, 1]))
}

fn padded(point: &[u8], order: &[usize]) -> Vec<u8> {
    let mut point = point.to_vec();
    // Three bits of flags, of which only infinity's can be set here; its coordinates are zero in EIP-2537.
    if let Some(first) = point.first_mut() {
        *first &= 0x1f;
    }
    let fields: Vec<_> = point.chunks(FIELD).collect();
    order.iter().flat_map(|place| [&[0; PADDING], fields[*place]].concat()).collect()
}
