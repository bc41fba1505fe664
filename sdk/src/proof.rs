//! Does a proof show that a record is in the authenticated state, or that there is none?
//!
//! Knows the database's proofs (QMDB, `current::ordered::fixed`) and nothing of what the records mean.
//!
//! A proof is one byte, 1 for a record and 0 for its absence, and the encoding of QMDB's own proof: a `KeyValueProof`, or
//! an `ExclusionProof`. Both lead to `header.state`, the canonical root of the state after the block.

use commonware_codec::{Copying, Decode};
use commonware_cryptography::{Blake3, blake3};
use commonware_storage::{
    merkle::MAX_PROOF_DIGESTS_PER_ELEMENT,
    mmr,
    qmdb::{any::value::FixedEncoding, current::ordered::proof::constant},
};
use commonware_utils::sequence::FixedBytes;
use lockstep_protocol::{
    ids::Hash32,
    state::{Key, RECORD_BYTES, Record},
};

const PRESENT: u8 = 1;
const ABSENT: u8 = 0;

/// Bytes of activity bitmap under one leaf of the state's tree. A parameter of the network's database.
const CHUNK_BYTES: usize = 32;

type Encoding = FixedEncoding<FixedBytes<RECORD_BYTES>>;
type Presence = constant::KeyValueProof<mmr::Family, FixedBytes<32>, blake3::Digest, CHUNK_BYTES>;
type Absence = constant::ExclusionProof<mmr::Family, FixedBytes<32>, Encoding, blake3::Digest, CHUNK_BYTES>;

/// Whether `proof` shows that under the state root `state`, `key` holds `record`, or holds nothing if that is `None`.
///
/// The root is the caller's to trust: take it from a header that is proven final.
pub fn proves(state: &Hash32, key: &Key, record: Option<&Record>, proof: &[u8]) -> bool {
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
