//! Finalization certificates: the one signature that proves a block, checked with the group's static key.
//!
//! A certificate is a BLS12-381 threshold signature (MinSig: signature in G1, public key in G2) of at least `2f + 1`
//! validators over simplex's finalization of a proposal:
//!
//! ```text
//! message   = varint(len(namespace)) || namespace || proposal
//! namespace = "lockstep" || network (32 bytes) || "_FINALIZE"
//! proposal  = varint(epoch) || varint(view) || varint(parent view) || digest of the header (32 bytes)
//! DST       = "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_"            (RFC 9380 hash to curve)
//! ```
//!
//! Varints are those of Protocol Buffers.

use blst::{
    BLST_ERROR,
    min_sig::{PublicKey, Signature},
};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    genesis::GroupKeyBytes,
    header::Header,
    hex,
    ids::{Hash32, Height, NetworkId},
    limits::MAX_DESCENDANTS,
    wire,
};

const DST: &[u8] = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";

/// A finalization of one header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Epoch of the proposal.
    pub epoch: u64,
    /// View of the proposal.
    pub view: u64,
    /// View of the proposal's parent.
    pub parent_view: u64,
    /// 48 bytes, a compressed point in G1.
    pub signature: CertificateSignature,
}

/// 48 bytes of a compressed point in G1.
#[derive(Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct CertificateSignature(pub [u8; 48]);

/// Why a block is final: a certificate for it, or for a descendant of it.
///
/// Finalizing a block finalizes its ancestors, and a view may end without a certificate of its own.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finality {
    /// The headers after the block, up to the one that the certificate is for; mostly none.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_DESCENDANTS>")]
    pub descendants: Vec<Header>,
    /// Signs the last descendant, or the block itself.
    pub certificate: Certificate,
}

/// Why a block is not proven final.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum CertificateError {
    #[error("not the group's public key of 96 bytes: a point of G2, not infinity")]
    GroupKey,
    #[error("a header of network {found}, this key is of {expected}")]
    WrongNetwork { expected: NetworkId, found: NetworkId },
    #[error("{0} descendants, at most {MAX_DESCENDANTS} are allowed")]
    TooManyDescendants(usize),
    #[error("the header at height {0} is not the child of the one before it")]
    BrokenChain(Height),
    #[error("the certificate at height {0} is not a signature of the group")]
    Forged(Height),
}

/// Checks finality with one static key.
#[derive(Clone)]
pub struct Verifier {
    network: NetworkId,
    key: PublicKey,
}

impl Verifier {
    /// A verifier for `network`, whose group has `key`.
    pub fn new(network: NetworkId, key: &GroupKeyBytes) -> Result<Self, CertificateError> {
        let key = PublicKey::key_validate(&key.0).map_err(|_| CertificateError::GroupKey)?;
        Ok(Self { network, key })
    }

    /// The network whose blocks it checks.
    pub fn network(&self) -> NetworkId {
        self.network
    }

    /// Checks that `header` is final.
    pub fn verify(&self, header: &Header, finality: &Finality) -> Result<(), CertificateError> {
        if header.network != self.network {
            return Err(CertificateError::WrongNetwork { expected: self.network, found: header.network });
        }
        if finality.descendants.len() > MAX_DESCENDANTS {
            return Err(CertificateError::TooManyDescendants(finality.descendants.len()));
        }
        let (mut height, mut digest) = (header.height, header.digest());
        for child in &finality.descendants {
            if child.network != self.network || child.parent != digest || child.height != height.next() {
                return Err(CertificateError::BrokenChain(child.height));
            }
            (height, digest) = (child.height, child.digest());
        }
        self.verify_digest(&digest, &finality.certificate).map_err(|()| CertificateError::Forged(height))
    }

    fn verify_digest(&self, digest: &Hash32, certificate: &Certificate) -> Result<(), ()> {
        let signature = Signature::sig_validate(&certificate.signature.0, true).map_err(|_| ())?;
        let message = certificate.message(self.network, digest);
        match signature.verify(false, &message, DST, &[], &self.key, false) {
            BLST_ERROR::BLST_SUCCESS => Ok(()),
            _ => Err(()),
        }
    }
}

/// Start of the namespace of all votes of a network; simplex appends a suffix for each kind of vote.
pub fn vote_namespace(network: NetworkId) -> Vec<u8> {
    [b"lockstep".as_slice(), &network.0].concat()
}

impl Certificate {
    /// What the group signs to finalize the header with `digest`; see the module's text.
    pub fn message(&self, network: NetworkId, digest: &Hash32) -> Vec<u8> {
        let namespace = [vote_namespace(network).as_slice(), b"_FINALIZE"].concat();
        let mut message = Vec::with_capacity(160);
        varint(namespace.len() as u64, &mut message);
        message.extend_from_slice(&namespace);
        varint(self.epoch, &mut message);
        varint(self.view, &mut message);
        varint(self.parent_view, &mut message);
        message.extend_from_slice(&digest.0);
        message
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

impl std::fmt::Debug for CertificateSignature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        hex::fmt(&self.0, f)
    }
}

impl Serialize for CertificateSignature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        hex::bytes::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for CertificateSignature {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hex::deserialize_fixed::<48, D>(deserializer).map(Self)
    }
}
