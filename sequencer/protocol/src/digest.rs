//! Domain-separated blake3 over the borsh form of a value: how everything that only software reads is hashed.

use borsh::BorshSerialize;

use crate::ids::Hash32;

/// `blake3(domain || borsh(value))`. Domains are distinct ASCII texts, none a prefix of another.
pub(crate) fn digest(domain: &str, value: &(impl BorshSerialize + ?Sized)) -> Hash32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(domain.as_bytes());
    value.serialize(&mut hasher).expect("hashing does not fail");
    Hash32(hasher.finalize().into())
}
