//! Who signed a feed message?
//!
//! secp256k1 with recovery, as Ethereum signs, over [`FeedMessage::signed_hash`]. A node accepts the keys of the chain's
//! batch posters and sequencers, or those that its operator named.

use std::fmt;

use alloy_primitives::{Address, keccak256};
use secp256k1::{
    Message, PublicKey, SECP256K1, SecretKey,
    ecdsa::{RecoverableSignature, RecoveryId},
};

use super::FeedMessage;

/// r, s and the recovery id.
const SIGNATURE_BYTES: usize = 65;

/// The key that signs a feed.
#[derive(Clone)]
pub struct FeedSigner {
    key: SecretKey,
    chain_id: u64,
}

impl fmt::Debug for FeedSigner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("FeedSigner").field("address", &self.address()).field("chain_id", &self.chain_id).finish()
    }
}

impl FeedSigner {
    /// The signer of a chain's feed with a secret key of 32 bytes; `None` if it is none.
    pub fn new(key: [u8; 32], chain_id: u64) -> Option<Self> {
        Some(Self { key: SecretKey::from_byte_array(key).ok()?, chain_id })
    }

    /// The address that the key belongs to.
    pub fn address(&self) -> Address {
        address(&self.key.public_key(SECP256K1))
    }

    /// Signs the message. The same message gets the same signature (RFC 6979), so that a restart repeats its bytes.
    pub fn sign(&self, message: &mut FeedMessage) {
        let hash = Message::from_digest(message.signed_hash(self.chain_id).0);
        let (recovery, compact) = SECP256K1.sign_ecdsa_recoverable(hash, &self.key).serialize_compact();
        message.signature = compact.to_vec();
        message.signature.push(u8::try_from(i32::from(recovery)).expect("a recovery id is below 4"));
    }
}

/// Whose key signed the message for this chain; `None` if it is not signed, or by no key.
pub fn signer(message: &FeedMessage, chain_id: u64) -> Option<Address> {
    let signature: &[u8; SIGNATURE_BYTES] = message.signature.as_slice().try_into().ok()?;
    let (compact, recovery) = signature.split_at(SIGNATURE_BYTES - 1);
    let recovery = RecoveryId::try_from(i32::from(*recovery.first()?)).ok()?;
    let signature = RecoverableSignature::from_compact(compact, recovery).ok()?;
    let hash = Message::from_digest(message.signed_hash(chain_id).0);
    SECP256K1.recover_ecdsa(hash, &signature).ok().map(|key| address(&key))
}

fn address(key: &PublicKey) -> Address {
    Address::from_slice(&keccak256(&key.serialize_uncompressed()[1..])[12..])
}
