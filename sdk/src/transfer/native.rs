//! Which bytes does a rollup get? A call of `prepare` in a transaction that the margin's owner signed.
//!
//! Pure. The ABI is `MarginEscrow.prepare`'s, the transaction an EIP-1559 one.

use std::fmt;

use alloy_primitives::{U256, keccak256};
use alloy_rlp::{Encodable, Header};
use lockstep_protocol::{
    ids::{Address20, Hash32},
    settlement::Intent,
};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};

/// EIP-2718 type of an EIP-1559 transaction.
const EIP_1559: u8 = 2;
/// The call, as the contract declares it.
const PREPARE: &str = "prepare(bytes32,uint64,uint64,(uint64,address,address,bytes32,uint8,uint128,uint8)[],uint8)";

/// The key of an account on a rollup: whose margin moves, and who pays the rollup's gas.
#[derive(Clone)]
pub struct Wallet {
    secret: SecretKey,
    address: Address20,
}

impl Wallet {
    /// The wallet of a secret; none if the bytes are no scalar of secp256k1.
    pub fn new(secret: [u8; 32]) -> Option<Self> {
        let secret = SecretKey::from_byte_array(secret).ok()?;
        let key = PublicKey::from_secret_key(SECP256K1, &secret).serialize_uncompressed();
        let mut address = Address20::default();
        address.0.copy_from_slice(&keccak256(&key[1..])[12..]);
        Some(Self { secret, address })
    }

    /// Its address.
    pub fn address(&self) -> Address20 {
        self.address
    }
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wallet({})", self.address)
    }
}

/// A transaction before it is signed.
#[derive(Clone, Debug)]
pub(crate) struct Native {
    pub(crate) chain_id: u64,
    pub(crate) nonce: u64,
    /// Wei for a unit of gas, to whoever makes the block.
    pub(crate) priority_fee: u128,
    /// Wei for a unit of gas, at most.
    pub(crate) max_fee: u128,
    pub(crate) gas_limit: u64,
    pub(crate) to: Address20,
    pub(crate) input: Vec<u8>,
}

impl Native {
    /// The signed transaction as it travels.
    pub(crate) fn sign(&self, wallet: &Wallet) -> Vec<u8> {
        let message = Message::from_digest(keccak256(self.encode(None)).0);
        let (recovery, compact) = SECP256K1.sign_ecdsa_recoverable(message, &wallet.secret).serialize_compact();
        let word = |from: usize| U256::from_be_slice(&compact[from..from + 32]);
        self.encode(Some((i32::from(recovery) == 1, word(0), word(32))))
    }

    fn encode(&self, signature: Option<(bool, U256, U256)>) -> Vec<u8> {
        let mut fields = Vec::with_capacity(64 + self.input.len());
        self.chain_id.encode(&mut fields);
        self.nonce.encode(&mut fields);
        self.priority_fee.encode(&mut fields);
        self.max_fee.encode(&mut fields);
        self.gas_limit.encode(&mut fields);
        self.to.0.encode(&mut fields);
        // No value is moved.
        0_u64.encode(&mut fields);
        self.input.as_slice().encode(&mut fields);
        // No access list.
        Header { list: true, payload_length: 0 }.encode(&mut fields);
        if let Some((odd, r, s)) = signature {
            odd.encode(&mut fields);
            r.encode(&mut fields);
            s.encode(&mut fields);
        }
        let mut encoded = vec![EIP_1559];
        Header { list: true, payload_length: fields.len() }.encode(&mut encoded);
        encoded.extend(fields);
        encoded
    }
}

/// The call that locks leg number `leg` of a settlement, or records why not.
pub(crate) fn prepare_call(intent: &Intent, leg: u8) -> Vec<u8> {
    let legs = &intent.transfer.legs;
    let mut words = vec![
        intent.account.word().0,
        number(intent.nonce.into()),
        number(intent.transfer.deadline.0.into()),
        // The legs start after these five words.
        number(5 * 32),
        number(leg.into()),
        number(legs.len() as u128),
    ];
    for leg in legs {
        words.extend([
            number(leg.rollup.0.into()),
            address(leg.escrow),
            address(leg.account),
            leg.asset.0,
            number(leg.side as u128),
            number(leg.amount),
            number(leg.level as u128),
        ]);
    }
    call(PREPARE, &words)
}

/// A call of a function by its signature.
pub(crate) fn call(signature: &str, words: &[[u8; 32]]) -> Vec<u8> {
    let mut input = keccak256(signature)[..4].to_vec();
    input.extend(words.concat());
    input
}

/// The topic of an event by its signature.
pub(crate) fn topic(signature: &str) -> Hash32 {
    Hash32(keccak256(signature).0)
}

/// `number` as an ABI word.
pub(crate) fn number(number: u128) -> [u8; 32] {
    U256::from(number).to_be_bytes()
}

/// `address` as an ABI word.
pub(crate) fn address(address: Address20) -> [u8; 32] {
    let mut word = [0; 32];
    word[12..].copy_from_slice(&address.0);
    word
}

#[cfg(test)]
mod tests;
