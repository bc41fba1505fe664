//! What convinces a third party that a block is final?
//!
//! Values only: they are checked against the group key by `lockstep-protocol`, and made from the archive in `handle.rs`.
//!
//! A certificate is a BLS12-381 signature in G1 under the ciphersuite `BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_`,
//! checked against the group key in G2, over
//!
//! ```text
//! message   = varint(len(namespace)) || namespace || proposal
//! namespace = "lockstep" || network id (32 bytes) || "_FINALIZE"
//! proposal  = varint(epoch) || varint(view) || varint(parent view) || header digest (32 bytes)
//! ```
//!
//! with varints in LEB128.

use commonware_codec::Encode;
use lockstep_protocol::header::Header;

use crate::types::Finalization;

/// Most headers between a block and the first descendant that has a certificate. Simplex certifies every block in
/// calm weather; a gap is as long as the run of blocks that one finalization carried.
pub const DESCENDANTS_MAX: usize = 64;

/// Proof for a third party that a block is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finality {
    /// Empty if the certificate is the block's own. Otherwise the headers of the following blocks, up to and including
    /// the first that has a certificate; each names its parent's digest.
    pub descendants: Vec<Header>,
    /// The certificate over the last of those headers.
    pub certificate: Certificate,
}

/// A finalization certificate: a threshold signature over a round, a parent's view and a header's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Epoch of the validator set.
    pub epoch: u64,
    /// View in which the block was finalized.
    pub view: u64,
    /// View of its parent.
    pub parent_view: u64,
    /// BLS12-381 signature in G1, compressed.
    pub signature: [u8; 48],
}

impl From<&Finalization> for Certificate {
    fn from(finalization: &Finalization) -> Self {
        let proposal = &finalization.proposal;
        let signature = finalization.certificate.encode();
        Self {
            epoch: proposal.round.epoch().get(),
            view: proposal.round.view().get(),
            parent_view: proposal.parent.get(),
            signature: signature.as_ref().try_into().expect("a point of G1 is compressed to 48 bytes"),
        }
    }
}
