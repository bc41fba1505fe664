use alloy_consensus::{SignableTransaction, TxEip2930, TxEip7702, TxLegacy};
use alloy_eips::{
    eip2930::AccessList,
    eip7702::{Authorization, SignedAuthorization},
};
use alloy_primitives::{Address, TxKind, U256, hex, uint};
use lockstep_protocol::refusal::Refusal;
use proptest::prelude::*;
use secp256k1::SECP256K1;

use super::*;
use crate::fixture::{self, sign, transaction, transaction_key};

const CHAIN: RollupId = RollupId(901);

fn signer() -> Address20 {
    let hash = keccak256(&transaction_key().public_key(SECP256K1).serialize_uncompressed()[1..]);
    Address20(hash[12..].try_into().unwrap())
}

fn legacy(chain_id: Option<u64>) -> Vec<u8> {
    let unsigned = TxLegacy { chain_id, gas_limit: 21_000, to: TxKind::Create, ..TxLegacy::default() };
    let signature = sign(&unsigned.signature_hash());
    TxEnvelope::from(unsigned.into_signed(signature)).encoded_2718()
}

fn with_signature(change: impl FnOnce(Signature) -> Signature) -> Vec<u8> {
    let unsigned = TxEip2930 { chain_id: CHAIN.0, to: TxKind::Call(Address::ZERO), ..TxEip2930::default() };
    let signature = change(sign(&unsigned.signature_hash()));
    TxEnvelope::from(unsigned.into_signed(signature)).encoded_2718()
}

#[test]
fn the_example_of_eip_155_is_its_authors() {
    let bytes = hex!(
        "f86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a76400008025a028ef61340bd939bc2195fe53\
         7567866003e1a15d3c71ff63e1590620aa636276a067cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83"
    );
    let author = Address20(hex!("9d8a62f656a8d1615c1294fd71e9cfb3e4855a4f"));
    assert_eq!(check(&bytes, RollupId(1)), Ok(author));
    assert_eq!(check(&bytes, RollupId(10)), Err(TransactionError::ChainId(Some(1))));
}

#[test]
fn every_type_that_rollups_execute_is_carried_and_its_signer_recovered() {
    let authorization = Authorization { chain_id: U256::from(CHAIN.0), address: Address::ZERO, nonce: 0 };
    let authorization = SignedAuthorization::new_unchecked(authorization, 0, U256::from(1), U256::from(1));
    let delegating = TxEip7702 {
        chain_id: CHAIN.0,
        access_list: AccessList::default(),
        authorization_list: vec![authorization],
        ..TxEip7702::default()
    };
    let signature = sign(&delegating.signature_hash());
    let delegating = TxEnvelope::from(delegating.into_signed(signature)).encoded_2718();
    for bytes in [legacy(Some(CHAIN.0)), with_signature(|good| good), transaction(CHAIN.0, 7).0, delegating] {
        assert_eq!(check(&bytes, CHAIN), Ok(signer()), "type {:#04x}", bytes[0]);
    }
}

#[test]
fn a_transaction_for_another_chain_or_for_any_is_refused() {
    assert_eq!(check(&transaction(10, 0).0, CHAIN), Err(TransactionError::ChainId(Some(10))));
    assert_eq!(check(&legacy(Some(1)), CHAIN), Err(TransactionError::ChainId(Some(1))));
    assert_eq!(check(&legacy(None), CHAIN), Err(TransactionError::ChainId(None)));
}

#[test]
fn types_that_no_lane_carries_are_refused_unread() {
    assert_eq!(check(&[], CHAIN), Err(TransactionError::Empty));
    assert_eq!(check(&[0x03, 0xc0], CHAIN), Err(TransactionError::Blob));
    assert_eq!(check(&[0x7e, 0xc0], CHAIN), Err(TransactionError::Deposit));
    for kind in [0x00, 0x05, 0x64, 0x7f, 0x80, 0xbf] {
        let mut bytes = transaction(CHAIN.0, 0).0;
        bytes[0] = kind;
        assert_eq!(check(&bytes, CHAIN), Err(TransactionError::Type(kind)));
    }
}

#[test]
fn bytes_around_a_transaction_are_refused() {
    let mut bytes = transaction(CHAIN.0, 0).0;
    bytes.push(0);
    assert!(matches!(check(&bytes, CHAIN), Err(TransactionError::Decoding(_))));
    // The same list with its length in more bytes than it needs.
    let legacy = legacy(Some(CHAIN.0));
    assert_eq!(legacy[0], 0xf8, "a list with one byte of length");
    let mut padded = vec![0xf9, 0x00];
    padded.extend_from_slice(&legacy[1..]);
    assert!(check(&padded, CHAIN).is_err());
}

#[test]
fn signatures_that_ethereum_does_not_accept_are_refused() {
    const ORDER: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);
    let changes: [fn(Signature) -> Signature; 5] = [
        |good| Signature::new(good.r(), ORDER - good.s(), !good.v()),
        |good| Signature::new(U256::ZERO, good.s(), good.v()),
        |good| Signature::new(good.r(), U256::ZERO, good.v()),
        |good| Signature::new(ORDER, good.s(), good.v()),
        |good| Signature::new(U256::MAX, good.s(), good.v()),
    ];
    for change in changes {
        assert_eq!(check(&with_signature(change), CHAIN), Err(TransactionError::Signature));
    }
}

#[test]
fn refusals_name_the_leg_and_the_place() {
    use lockstep_protocol::bundle::Transaction as Bytes;
    let rules = fixture::rules();
    let mut bundle = fixture::bundle(0, 0, 0);
    assert_eq!(crate::formats::check(&bundle, &rules), Ok(()));
    bundle.legs[1].transactions.push(transaction(fixture::ROLLUP_A.0, 1));
    let expected = Refusal::WrongChainId { rollup: fixture::ROLLUP_B, index: 1, found: Some(fixture::ROLLUP_A.0) };
    assert_eq!(crate::formats::check(&bundle, &rules), Err(expected));
    bundle.legs[0].transactions.insert(0, Bytes(vec![0x7e]));
    let refused = crate::formats::check(&bundle, &rules).unwrap_err();
    assert!(
        matches!(refused, Refusal::MalformedTransaction { rollup: fixture::ROLLUP_A, index: 0, ref detail } if detail.contains("deposits")),
        "{refused}"
    );
}

proptest! {
    #[test]
    fn no_truncated_transaction_is_one(kept in 0_usize..117) {
        let bytes = transaction(CHAIN.0, 0).0;
        prop_assume!(kept < bytes.len());
        prop_assert!(check(&bytes[..kept], CHAIN).is_err());
    }

    #[test]
    fn no_changed_transaction_is_still_its_signers(bit in 0_usize..8 * 110, nonce in 0_u64..1_000) {
        let mut bytes = transaction(CHAIN.0, nonce).0;
        prop_assume!(bit / 8 < bytes.len());
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_ne!(check(&bytes, CHAIN), Ok(signer()));
    }

    #[test]
    fn garbage_never_panics(kind in prop::sample::select(vec![0x01_u8, 0x02, 0x04, 0xc0, 0xf8, 0xff]), mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        bytes.insert(0, kind);
        prop_assert!(check(&bytes, CHAIN).is_err());
    }
}
