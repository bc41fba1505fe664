//! Is this a signed Ethereum transaction that the rollup could execute?
//!
//! Legacy transactions with replay protection (EIP-155) and the types of EIP-2930, EIP-1559 and EIP-7702, in the one
//! encoding that hashes to the transaction's hash. Nonces, balances and gas are the rollup's own business.

use alloy_consensus::{Transaction, TxEnvelope};
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_primitives::{Signature, keccak256};
use lockstep_protocol::ids::{Address20, RollupId};
use secp256k1::{
    Message, SECP256K1,
    ecdsa::{RecoverableSignature, RecoveryId},
};

/// Types of EIP-2718 that a lane carries.
const CARRIED_TYPES: [u8; 3] = [EIP_2930, EIP_1559, EIP_7702];
const EIP_2930: u8 = 0x01;
const EIP_1559: u8 = 0x02;
const EIP_4844: u8 = 0x03;
const EIP_7702: u8 = 0x04;
/// An OP stack deposit: made by the rollup's derivation from L1, never by a user.
const DEPOSIT: u8 = 0x7e;
/// A legacy transaction is an RLP list, whose first byte is this or higher.
const FIRST_LIST_BYTE: u8 = 0xc0;

/// Why bytes are not a transaction that a lane carries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// No bytes.
    #[error("no bytes")]
    Empty,
    /// Blobs are for L1.
    #[error("blob transactions (type 0x03) are not executed by rollups")]
    Blob,
    /// Only a rollup's derivation makes deposits.
    #[error("deposits (type 0x7e) come from L1, not from a user")]
    Deposit,
    /// Not a type that this software knows.
    #[error("type {0:#04x} is not one that lanes carry")]
    Type(u8),
    /// Not RLP of the type's fields.
    #[error("{0}")]
    Decoding(String),
    /// The same transaction has a shorter or stricter form, which is the one that counts.
    #[error("not the canonical encoding")]
    NotCanonical,
    /// `s` is in the upper half of the order (EIP-2), `r` or `s` is out of range, or no key made it.
    #[error("the signature is not valid")]
    Signature,
    /// Signed for another chain, or for any chain.
    #[error("signed for chain {0:?}")]
    ChainId(Option<u64>),
}

/// Checks a transaction for `rollup` and recovers who signed it.
pub fn check(bytes: &[u8], rollup: RollupId) -> Result<Address20, TransactionError> {
    match *bytes.first().ok_or(TransactionError::Empty)? {
        kind if CARRIED_TYPES.contains(&kind) || kind >= FIRST_LIST_BYTE => {}
        EIP_4844 => return Err(TransactionError::Blob),
        DEPOSIT => return Err(TransactionError::Deposit),
        kind => return Err(TransactionError::Type(kind)),
    }
    let transaction =
        TxEnvelope::decode_2718_exact(bytes).map_err(|error| TransactionError::Decoding(error.to_string()))?;
    // Whoever rebuilds the transaction from its fields, as batches do, must get the bytes that were ordered.
    if transaction.encoded_2718() != bytes {
        return Err(TransactionError::NotCanonical);
    }
    if transaction.chain_id() != Some(rollup.0) {
        return Err(TransactionError::ChainId(transaction.chain_id()));
    }
    recover(transaction.signature(), transaction.signature_hash().0).ok_or(TransactionError::Signature)
}

fn recover(signature: &Signature, hash: [u8; 32]) -> Option<Address20> {
    // EIP-2: of the two forms of a signature only the one with the lower `s` counts.
    if signature.normalize_s().is_some() {
        return None;
    }
    let mut compact = [0; 64];
    compact[..32].copy_from_slice(&signature.r().to_be_bytes::<32>());
    compact[32..].copy_from_slice(&signature.s().to_be_bytes::<32>());
    let recovery = if signature.v() { RecoveryId::One } else { RecoveryId::Zero };
    let signature = RecoverableSignature::from_compact(&compact, recovery).ok()?;
    let key = SECP256K1.recover_ecdsa(Message::from_digest(hash), &signature).ok()?;
    let hash = keccak256(&key.serialize_uncompressed()[1..]);
    let mut address = [0; 20];
    address.copy_from_slice(&hash[12..]);
    Some(Address20(address))
}

#[cfg(test)]
mod tests;
