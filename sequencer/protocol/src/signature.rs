//! Account signatures: who signed a bundle or a cancel.
//!
//! ed25519 under the ZIP 215 rules, where single and batch verification always agree; secp256k1 by recovery from an EIP-191
//! `personal_sign` over the 32-byte id, so that any Ethereum wallet can sign a bundle. High-`s` forms are refused: one
//! message has one signature that counts.

use alloy_primitives::keccak256;
use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_consensus::{VerificationKeyBytes, batch};
use rand_core::{CryptoRng, RngCore};
use secp256k1::{
    Message, SECP256K1, SecretKey,
    ecdsa::{RecoverableSignature, RecoveryId},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    hex,
    ids::{Account, Address20, Hash32},
};

/// A signature over 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, BorshSerialize, BorshDeserialize)]
pub enum Signature {
    /// RFC 8032, 64 bytes.
    Ed25519([u8; 64]),
    /// `r || s || v` of an EIP-191 signature, `v` being 27 or 28.
    Secp256k1([u8; 65]),
}

/// The signature is not the account's over this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not the account's over this message")]
pub struct BadSignature;

/// A key that signs for an account.
#[allow(clippy::large_enum_variant, reason = "a program holds a handful of keys")]
pub enum AccountKey {
    /// Signs as `Account::Ed25519`.
    Ed25519(ed25519_consensus::SigningKey),
    /// Signs as `Account::Secp256k1`.
    Secp256k1(SecretKey),
}

impl AccountKey {
    /// An ed25519 key from its 32-byte seed.
    pub fn ed25519(seed: [u8; 32]) -> Self {
        Self::Ed25519(seed.into())
    }

    /// A secp256k1 key from its 32-byte scalar; `None` if that is zero or not below the group order.
    pub fn secp256k1(scalar: [u8; 32]) -> Option<Self> {
        SecretKey::from_byte_array(scalar).ok().map(Self::Secp256k1)
    }

    /// The account that this key signs for.
    pub fn account(&self) -> Account {
        match self {
            Self::Ed25519(key) => Account::Ed25519(Hash32(key.verification_key().to_bytes())),
            Self::Secp256k1(key) => Account::Secp256k1(address(&key.public_key(SECP256K1))),
        }
    }

    /// Signs a 32-byte id.
    pub fn sign(&self, message: &[u8; 32]) -> Signature {
        match self {
            Self::Ed25519(key) => Signature::Ed25519(key.sign(message).to_bytes()),
            Self::Secp256k1(key) => {
                let digest = Message::from_digest(eip191(message));
                let (recovery, compact) = SECP256K1.sign_ecdsa_recoverable(digest, key).serialize_compact();
                let mut bytes = [0; 65];
                bytes[..64].copy_from_slice(&compact);
                bytes[64] = if i32::from(recovery) == 0 { 27 } else { 28 };
                Signature::Secp256k1(bytes)
            }
        }
    }
}

/// Verifies one signature.
pub fn verify(account: &Account, message: &[u8; 32], signature: &Signature) -> Result<(), BadSignature> {
    match (account, signature) {
        (Account::Ed25519(key), Signature::Ed25519(bytes)) => {
            let key = ed25519_consensus::VerificationKey::try_from(key.0).map_err(|_| BadSignature)?;
            key.verify(&ed25519_consensus::Signature::from(*bytes), message).map_err(|_| BadSignature)
        }
        (Account::Secp256k1(expected), Signature::Secp256k1(bytes)) => {
            if recover(message, bytes)? == *expected {
                Ok(())
            } else {
                Err(BadSignature)
            }
        }
        _ => Err(BadSignature),
    }
}

/// Verifies many signatures at once, several times faster than one by one where they are ed25519. All or nothing.
#[derive(Default)]
pub struct Batch {
    ed25519: batch::Verifier,
    transcript: blake3::Hasher,
    queued: usize,
    failed: bool,
}

impl Batch {
    /// Adds a signature.
    pub fn queue(&mut self, account: &Account, message: &[u8; 32], signature: &Signature) {
        match (account, signature) {
            (Account::Ed25519(key), Signature::Ed25519(bytes)) => {
                self.transcript.update(&key.0).update(message).update(bytes);
                self.ed25519.queue((
                    VerificationKeyBytes::from(key.0),
                    ed25519_consensus::Signature::from(*bytes),
                    message.as_slice(),
                ));
                self.queued += 1;
            }
            _ => self.failed |= verify(account, message, signature).is_err(),
        }
    }

    /// Whether every signature is valid.
    pub fn verify(self) -> Result<(), BadSignature> {
        if self.failed {
            return Err(BadSignature);
        }
        if self.queued == 0 {
            return Ok(());
        }
        // The blinding factors come from the batch itself: whoever chooses the signatures cannot choose them too.
        self.ed25519.verify(Transcript(self.transcript.finalize_xof())).map_err(|_| BadSignature)
    }
}

fn recover(message: &[u8; 32], bytes: &[u8; 65]) -> Result<Address20, BadSignature> {
    let recovery = match bytes[64] {
        27 => RecoveryId::Zero,
        28 => RecoveryId::One,
        _ => return Err(BadSignature),
    };
    let signature = RecoverableSignature::from_compact(&bytes[..64], recovery).map_err(|_| BadSignature)?;
    let mut normalized = signature.to_standard();
    normalized.normalize_s();
    if normalized != signature.to_standard() {
        return Err(BadSignature);
    }
    let key = SECP256K1.recover_ecdsa(Message::from_digest(eip191(message)), &signature).map_err(|_| BadSignature)?;
    Ok(address(&key))
}

fn address(key: &secp256k1::PublicKey) -> Address20 {
    let hash = keccak256(&key.serialize_uncompressed()[1..]);
    let mut address = [0; 20];
    address.copy_from_slice(&hash[12..]);
    Address20(address)
}

fn eip191(message: &[u8; 32]) -> [u8; 32] {
    const PREFIX: &[u8] = b"\x19Ethereum Signed Message:\n32";
    keccak256([PREFIX, message.as_slice()].concat()).0
}

struct Transcript(blake3::OutputReader);

impl RngCore for Transcript {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        self.0.fill(dest);
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core::Error> {
        self.0.fill(dest);
        Ok(())
    }
}

impl CryptoRng for Transcript {}

// JSON: 64 bytes are ed25519, 65 are secp256k1, as a wallet returns them.
impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Ed25519(bytes) => hex::bytes::serialize(bytes, serializer),
            Self::Secp256k1(bytes) => hex::bytes::serialize(bytes, serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = hex::bytes::deserialize(deserializer)?;
        if let Ok(bytes) = <[u8; 64]>::try_from(bytes.as_slice()) {
            return Ok(Self::Ed25519(bytes));
        }
        match <[u8; 65]>::try_from(bytes.as_slice()) {
            Ok(bytes) => Ok(Self::Secp256k1(bytes)),
            Err(_) => Err(de::Error::custom("a signature has 64 bytes (ed25519) or 65 (secp256k1)")),
        }
    }
}
