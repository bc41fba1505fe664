//! Transactions of every type that a lane may hold, encoded by alloy and not by us.
//!
//! Fields and signatures are random: neither batches nor derivation look behind the encoding.

use alloy_consensus::{SignableTransaction, TxEip1559, TxEip2930, TxEip7702, TxEnvelope, TxLegacy};
use alloy_eips::{
    eip2718::Encodable2718,
    eip2930::{AccessList, AccessListItem},
    eip7702::{Authorization, SignedAuthorization},
};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256};
use lockstep_adapters::conformance::Seed;

/// A transaction for `chain`, of a random type.
pub fn any(seed: &mut Seed, chain: u64) -> Vec<u8> {
    let (nonce, gas_limit) = (number(seed), number(seed));
    let (fee, tip) = (u128::from(number(seed)), u128::from(number(seed)));
    let (value, input) = (U256::from_be_bytes(seed.bytes::<32>()) >> (seed.below(257) as usize), data(seed));
    let recipient = Address::from(seed.bytes::<20>());
    let to = if seed.below(8) == 0 { TxKind::Create } else { TxKind::Call(recipient) };
    let signature = Signature::new(word(seed), word(seed), seed.below(2) == 1);
    let envelope: TxEnvelope = match seed.below(5) {
        0 => TxLegacy { chain_id: None, nonce, gas_price: fee, gas_limit, to, value, input }
            .into_signed(signature)
            .into(),
        1 => TxLegacy { chain_id: Some(chain), nonce, gas_price: fee, gas_limit, to, value, input }
            .into_signed(signature)
            .into(),
        2 => TxEip2930 {
            chain_id: chain,
            nonce,
            gas_price: fee,
            gas_limit,
            to,
            value,
            access_list: accesses(seed),
            input,
        }
        .into_signed(signature)
        .into(),
        3 => TxEip1559 {
            chain_id: chain,
            nonce,
            gas_limit,
            max_fee_per_gas: fee,
            max_priority_fee_per_gas: tip,
            to,
            value,
            access_list: accesses(seed),
            input,
        }
        .into_signed(signature)
        .into(),
        _ => TxEip7702 {
            chain_id: chain,
            nonce,
            gas_limit,
            max_fee_per_gas: fee,
            max_priority_fee_per_gas: tip,
            to: recipient,
            value,
            access_list: accesses(seed),
            authorization_list: authorizations(seed),
            input,
        }
        .into_signed(signature)
        .into(),
    };
    envelope.encoded_2718()
}

/// A number of any length, often zero.
fn number(seed: &mut Seed) -> u64 {
    let shift = seed.below(65) as u32;
    seed.draw().checked_shr(shift).unwrap_or(0)
}

fn word(seed: &mut Seed) -> U256 {
    // Now and then with leading zeros, which RLP drops and a span batch does not.
    U256::from_be_bytes(seed.bytes::<32>()) >> (seed.below(3) * seed.below(20)) as usize
}

fn data(seed: &mut Seed) -> Bytes {
    let length = seed.below(4) * seed.below(100);
    (0..length).map(|_| seed.draw() as u8).collect()
}

fn accesses(seed: &mut Seed) -> AccessList {
    let items = (0..seed.below(3)).map(|_| AccessListItem {
        address: Address::from(seed.bytes::<20>()),
        storage_keys: (0..seed.below(3)).map(|_| B256::from(seed.bytes::<32>())).collect(),
    });
    AccessList(items.collect())
}

fn authorizations(seed: &mut Seed) -> Vec<SignedAuthorization> {
    (0..seed.below(3))
        .map(|_| {
            let authorization = Authorization {
                chain_id: U256::from(number(seed)),
                address: Address::from(seed.bytes::<20>()),
                nonce: number(seed),
            };
            SignedAuthorization::new_unchecked(authorization, seed.below(2) as u8, word(seed), word(seed))
        })
        .collect()
}
