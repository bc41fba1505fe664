//! How does somebody who trusts a header check a record of the authenticated state?
//!
//! Depends on commonware's codec, cryptography and storage only, so that a client can hold the same lines. Making proofs
//! is in `reader.rs`.
//!
//! A proof is one byte, [`PRESENT`] or [`ABSENT`], and the encoding of QMDB's own proof: a `KeyValueProof` (operation
//! proof and next key), or an `ExclusionProof` (the neighbours around the gap, or an empty database). Both lead to
//! `header.state`.

use commonware_codec::{Copying, Decode};
use commonware_cryptography::{Blake3, blake3};
use commonware_storage::{
    merkle::MAX_PROOF_DIGESTS_PER_ELEMENT,
    mmr,
    qmdb::{any::value::FixedEncoding, current::ordered::proof::constant},
};
use commonware_utils::sequence::FixedBytes;
use lockstep_protocol::ids::Hash32;

use crate::record::{Key, RECORD_BYTES, Record};

/// First byte of a proof that a record is present.
pub const PRESENT: u8 = 1;

/// First byte of a proof that a key is absent.
pub const ABSENT: u8 = 0;

/// Bytes of activity bitmap under one leaf of the state's tree: one digest, which makes the shortest proofs.
pub const CHUNK_BYTES: usize = 32;

pub(crate) type Encoding = FixedEncoding<FixedBytes<RECORD_BYTES>>;
type Presence = constant::KeyValueProof<mmr::Family, FixedBytes<32>, blake3::Digest, CHUNK_BYTES>;
type Absence = constant::ExclusionProof<mmr::Family, FixedBytes<32>, Encoding, blake3::Digest, CHUNK_BYTES>;

/// Whether `proof` shows that under the state root `state`, `key` holds `record`, or is absent if that is `None`.
///
/// The root is the caller's to trust: take it from a header whose certificate was checked.
pub fn verify(state: &Hash32, key: &Key, record: Option<&Record>, proof: &[u8]) -> bool {
    let root = blake3::Digest(state.0);
    let key = FixedBytes::new(*key);
    match (proof.split_first(), record) {
        (Some((&PRESENT, proof)), Some(record)) => {
            Presence::decode_cfg(Copying(proof), &(MAX_PROOF_DIGESTS_PER_ELEMENT, ()))
                .is_ok_and(|proof| proof.verify::<Blake3, Encoding>(key, FixedBytes::new(*record), &root))
        }
        (Some((&ABSENT, proof)), None) => Absence::decode_cfg(Copying(proof), &(MAX_PROOF_DIGESTS_PER_ELEMENT, (), ()))
            .is_ok_and(|proof| proof.verify::<Blake3>(&key, &root)),
        _ => false,
    }
}
