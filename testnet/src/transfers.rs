//! Where do real signed transactions come from?
//!
//! Transfers as a wallet signs them: EIP-1559, secp256k1, replay-protected by their chain id. Whether a rollup can execute them
//! (balance, nonce) is the rollup's question; ordering asks only that they are well-formed.

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Signature, TxKind, U256, keccak256};
use lockstep_protocol::{bundle::Transaction, ids::RollupId};
use secp256k1::{Message, SECP256K1, SecretKey};

/// Gas of a plain transfer (Ethereum Yellow Paper, appendix G: `Gtransaction`).
const TRANSFER_GAS: u64 = 21_000;

/// A wallet that signs transfers. Not for money: its key follows from a seed that anybody may know.
#[derive(Clone, Copy, Debug)]
pub struct Wallet {
    key: SecretKey,
}

impl Wallet {
    /// The wallet that `name` and `number` always give.
    pub fn of_seed(name: &str, number: u64) -> Self {
        let mut scalar = keccak256(format!("{name}/{number}"));
        loop {
            // All but one of 2^128 hashes are a key.
            match SecretKey::from_byte_array(scalar.0) {
                Ok(key) => return Self { key },
                Err(_) => scalar = keccak256(scalar),
            }
        }
    }

    /// The wallet's address on every chain.
    pub fn address(&self) -> Address {
        let point = self.key.public_key(SECP256K1).serialize_uncompressed();
        Address::from_raw_public_key(&point[1..])
    }

    /// Its key.
    pub fn secret(&self) -> [u8; 32] {
        self.key.secret_bytes()
    }

    /// A transfer of `wei` to `to` on the chain of `rollup`, signed and encoded by EIP-2718.
    pub fn transfer(&self, rollup: RollupId, nonce: u64, to: Address, wei: u64) -> Transaction {
        let transaction = TxEip1559 {
            chain_id: rollup.0,
            nonce,
            gas_limit: TRANSFER_GAS,
            max_fee_per_gas: 2_000_000_000,
            max_priority_fee_per_gas: 1_000_000,
            to: TxKind::Call(to),
            value: U256::from(wei),
            ..TxEip1559::default()
        };
        Transaction(self.sign_transaction(transaction))
    }

    /// Any transaction, signed and encoded by EIP-2718.
    pub fn sign_transaction(&self, transaction: TxEip1559) -> Vec<u8> {
        let signature = self.sign(transaction.signature_hash());
        transaction.into_signed(signature).encoded_2718()
    }

    fn sign(&self, hash: B256) -> Signature {
        let (recovery, bytes) =
            SECP256K1.sign_ecdsa_recoverable(Message::from_digest(hash.0), &self.key).serialize_compact();
        Signature::from_bytes_and_parity(&bytes, i32::from(recovery) == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::{Transaction as _, TxEnvelope};
    use alloy_eips::eip2718::Decodable2718;

    #[test]
    fn a_transfer_decodes_to_what_was_signed_by_whom() {
        let wallet = Wallet::of_seed("test", 1);
        let to = Address::repeat_byte(7);
        let transaction = wallet.transfer(RollupId(901), 5, to, 1_000);
        let decoded = TxEnvelope::decode_2718_exact(&transaction.0).expect("it decodes");
        assert_eq!(decoded.chain_id(), Some(901));
        assert_eq!(decoded.nonce(), 5);
        assert_eq!(decoded.to(), Some(to));
        assert_eq!(decoded.value(), U256::from(1_000));
        let signature = decoded.signature();
        assert!(signature.normalize_s().is_none(), "the signature is in its low form");
        let hash = decoded.signature_hash();
        let id = secp256k1::ecdsa::RecoveryId::try_from(i32::from(signature.v())).expect("a parity");
        let compact = [signature.r().to_be_bytes::<32>(), signature.s().to_be_bytes::<32>()].concat();
        let signature = secp256k1::ecdsa::RecoverableSignature::from_compact(&compact, id).expect("a signature");
        let found = SECP256K1.recover_ecdsa(Message::from_digest(hash.0), &signature).expect("a signer");
        assert_eq!(found, wallet.key.public_key(SECP256K1));
    }

    #[test]
    fn wallets_differ() {
        assert_ne!(Wallet::of_seed("test", 1).key, Wallet::of_seed("test", 2).key);
        assert_ne!(Wallet::of_seed("test", 1).key, Wallet::of_seed("other", 1).key);
    }
}
