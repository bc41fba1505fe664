//! Are the bytes those that other people's code makes?

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_primitives::{Address, Signature, TxKind};
use serde_json::Value;

use super::*;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../../sequencer/protocol/vectors/settlement.json")).expect("JSON")
}

#[test]
fn a_call_of_prepare_holds_what_the_settlements_id_is_made_of() {
    // The ids are checked by ethers: whatever hashes to one is encoded as ethers does.
    let vectors = vectors();
    let intents = vectors["intents"].as_array().expect("a list");
    assert!(!intents.is_empty());
    for vector in intents {
        let intent: Intent = serde_json::from_value(vector["json"].clone()).expect("an intent");
        let network: Hash32 = serde_json::from_value(vector["network"].clone()).expect("a network");
        for leg in 0..intent.transfer.legs.len() {
            let leg = u8::try_from(leg).expect("few");
            let call = prepare_call(&intent, leg);
            let words: Vec<_> = call[4..].chunks(32).collect();
            assert_eq!(words[4], number(leg.into()));
            let domain = keccak256("lockstep settlement v1");
            let mut encoded = [domain.as_slice(), &network.0].concat();
            encoded.extend(words[..3].concat());
            // The list stands one word further back there.
            encoded.extend(number(6 * 32));
            encoded.extend(words[5..].concat());
            assert_eq!(serde_json::json!(Hash32(keccak256(encoded).0)), vector["sid"]);
            assert_eq!(call, lockstep_contracts::prepare(&intent, leg), "and as alloy's ABI encoder does");
        }
    }
}

#[test]
fn a_signed_transaction_is_alloys_to_the_byte() {
    let wallet = Wallet::new([0x42; 32]).expect("a scalar");
    for (seed, nonce) in [0_u64, 1, 127, 128, 255, 256, u64::MAX - 1].into_iter().enumerate() {
        let native = Native {
            chain_id: 901 + nonce % 7,
            nonce,
            priority_fee: 1 << (seed * 8),
            max_fee: u128::from(u64::MAX) + u128::from(nonce),
            gas_limit: 500_000,
            to: Address20([seed as u8 + 1; 20]),
            input: vec![seed as u8; seed * 40],
        };
        let unsigned = TxEip1559 {
            chain_id: native.chain_id,
            nonce,
            gas_limit: native.gas_limit,
            max_fee_per_gas: native.max_fee,
            max_priority_fee_per_gas: native.priority_fee,
            to: TxKind::Call(Address::from(native.to.0)),
            input: native.input.clone().into(),
            ..TxEip1559::default()
        };
        let message = Message::from_digest(unsigned.signature_hash().0);
        let (recovery, bytes) = SECP256K1.sign_ecdsa_recoverable(message, &wallet.secret).serialize_compact();
        let signature = Signature::from_bytes_and_parity(&bytes, i32::from(recovery) == 1);
        let signed = native.sign(&wallet);
        assert_eq!(signed, unsigned.into_signed(signature).encoded_2718());
        assert!(TxEnvelope::decode_2718_exact(&signed).is_ok());
    }
}

#[test]
fn a_wallet_has_its_address_and_keeps_its_secret() {
    // The first account of the mnemonic that development tools share.
    let secret = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
    let wallet = Wallet::new(alloy_primitives::hex::decode(secret).unwrap().try_into().unwrap()).expect("a scalar");
    assert_eq!(wallet.address().to_string(), "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266");
    assert_eq!(format!("{wallet:?}"), "Wallet(0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266)");
    assert!(Wallet::new([0; 32]).is_none() && Wallet::new([0xff; 32]).is_none());
}
