//! Which accounts does everybody who tests know, and how do they sign?
//!
//! The ten accounts of the mnemonic "test test test test test test test test test test test junk", as hardhat and anvil have
//! them. Their keys are public: never for anything of value.

use alloy_consensus::{SignableTransaction, TxEip1559, crypto::secp256k1::sign_message};
use alloy_eips::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, Signature, b256, keccak256};
use op_alloy_consensus::OpTxEnvelope;

/// The keys of the well-known accounts.
pub const DEV_KEYS: [B256; 10] = [
    b256!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"),
    b256!("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"),
    b256!("5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"),
    b256!("7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"),
    b256!("47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a"),
    b256!("8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba"),
    b256!("92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e"),
    b256!("4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356"),
    b256!("dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97"),
    b256!("2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6"),
];

/// The addresses of the well-known accounts.
pub fn dev_accounts() -> [Address; 10] {
    DEV_KEYS.map(address_of)
}

/// The address of a key.
///
/// # Panics
/// When the key is not one of the curve's.
pub fn address_of(key: B256) -> Address {
    let message = keccak256("address");
    sign_hash(key, message).recover_address_from_prehash(&message).expect("a signature names its signer")
}

/// Signs a transaction: its EIP-2718 bytes.
///
/// # Panics
/// When the key is not one of the curve's.
pub fn sign<T>(tx: T, key: B256) -> Bytes
where
    T: SignableTransaction<Signature>,
    OpTxEnvelope: From<alloy_consensus::Signed<T>>,
{
    let signature = sign_hash(key, tx.signature_hash());
    OpTxEnvelope::from(tx.into_signed(signature)).encoded_2718().into()
}

/// An EIP-1559 transfer that pays up to 100 gwei: its EIP-2718 bytes.
pub fn transfer(key: B256, chain_id: u64, nonce: u64, to: Address, wei: u64) -> Bytes {
    let tx = TxEip1559 {
        chain_id,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 100_000_000_000,
        max_priority_fee_per_gas: 1_000_000,
        to: to.into(),
        value: alloy_primitives::U256::from(wei),
        ..TxEip1559::default()
    };
    sign(tx, key)
}

fn sign_hash(key: B256, hash: B256) -> Signature {
    sign_message(key, hash).expect("the key is one of the curve's")
}
