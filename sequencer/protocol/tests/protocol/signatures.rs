//! Are signatures checked as the published standards and wallets do it, alone and in a batch alike?

use lockstep_protocol::{
    hex,
    ids::{Account, Hash32},
    signature::{AccountKey, Batch, Signature, verify},
};
use proptest::prelude::*;

use crate::{config, fixture::key};

fn bytes<const N: usize>(text: &str) -> [u8; N] {
    hex::decode_fixed(&format!("0x{text}")).unwrap()
}

/// RFC 8032, section 7.1: seed, public key, message, signature.
const RFC_8032: [(&str, &str, &str, &str); 3] = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
];

#[test]
fn ed25519_keys_and_signatures_are_those_of_rfc_8032() {
    for (seed, public, message, signature) in RFC_8032 {
        let account = AccountKey::ed25519(bytes(seed)).account();
        assert_eq!(account, Account::Ed25519(Hash32(bytes(public))));
        // The published messages are not 32 bytes long, so the key signs them itself.
        let key = ed25519_consensus::SigningKey::from(bytes::<32>(seed));
        let signed = key.sign(&hex::decode(&format!("0x{message}")).unwrap()).to_bytes();
        assert_eq!(signed, bytes::<64>(signature));
    }
}

/// The encodings of the eight points of small order: canonical, then those that only ZIP 215 accepts.
const SMALL_ORDER: [&str; 14] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

#[test]
fn zip_215_decides_the_edge_cases_alike_alone_and_in_a_batch() {
    let mut all = Batch::default();
    for key in SMALL_ORDER {
        for point in SMALL_ORDER {
            let account = Account::Ed25519(Hash32(bytes(key)));
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&bytes::<32>(point));
            let signature = Signature::Ed25519(signature);
            assert!(verify(&account, &[7; 32], &signature).is_ok(), "{key} {point}");
            let mut single = Batch::default();
            single.queue(&account, &[7; 32], &signature);
            assert!(single.verify().is_ok());
            all.queue(&account, &[7; 32], &signature);
        }
    }
    assert!(all.verify().is_ok());
}

#[test]
fn an_s_that_is_not_reduced_is_refused_alone_and_in_a_batch() {
    // The group order, little-endian: s + order signs the same, but is not canonical.
    let order = bytes::<32>("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let Signature::Ed25519(mut signature) = key(0).sign(&[7; 32]) else { panic!("key 0 is ed25519") };
    let mut carry = 0_u16;
    for (byte, add) in signature[32..].iter_mut().zip(order) {
        carry += u16::from(*byte) + u16::from(add);
        *byte = (carry & 0xff) as u8;
        carry >>= 8;
    }
    let malleable = Signature::Ed25519(signature);
    assert!(verify(&key(0).account(), &[7; 32], &malleable).is_err());
    let mut batch = Batch::default();
    batch.queue(&key(0).account(), &[7; 32], &malleable);
    assert!(batch.verify().is_err());
}

/// ethers 6.15 `Wallet.signMessage` of the 32 bytes `keccak256("Hello World!")`, with the first key of every anvil.
const WALLET_KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
const WALLET_ADDRESS: &str = "f39fd6e51aad88f6f4ce6ab8827279cfffb92266";
const WALLET_MESSAGE: &str = "3ea2f1d0abf3fc66cf29eebb70cbd4e7fe762ef8a09bcc06c8edf641230afec0";
const WALLET_SIGNATURE: &str = "d36657ec3cd5d59b5df49a224c3d916d681705d9d40609ce3f71f0dc9668a4f70f034d4ff97084fd525f8e5a0196d88573b9bba4c1db326b9b6ff89abbf42b661c";

#[test]
fn a_wallets_personal_sign_over_32_bytes_is_accepted_and_reproduced() {
    let key = AccountKey::secp256k1(bytes(WALLET_KEY)).unwrap();
    let account = Account::Secp256k1(format!("0x{WALLET_ADDRESS}").parse().unwrap());
    assert_eq!(key.account(), account);
    let signature = Signature::Secp256k1(bytes(WALLET_SIGNATURE));
    assert!(verify(&account, &bytes(WALLET_MESSAGE), &signature).is_ok());
    assert_eq!(key.sign(&bytes(WALLET_MESSAGE)), signature);
    assert!(verify(&account, &[0; 32], &signature).is_err());
}

#[test]
fn the_high_s_form_of_a_good_signature_is_refused() {
    let order = bytes::<32>("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
    let mut high = bytes::<65>(WALLET_SIGNATURE);
    let mut borrow = 0_i16;
    for index in (0..32).rev() {
        let difference = i16::from(order[index]) - i16::from(high[32 + index]) - borrow;
        borrow = i16::from(difference < 0);
        high[32 + index] = difference.rem_euclid(256) as u8;
    }
    // The other root: an `ecrecover` without the rule would find the same address.
    high[64] = 27;
    let account = Account::Secp256k1(format!("0x{WALLET_ADDRESS}").parse().unwrap());
    let digest = alloy_primitives::eip191_hash_message(bytes::<32>(WALLET_MESSAGE));
    let recovered = {
        use secp256k1::{
            Message, SECP256K1,
            ecdsa::{RecoverableSignature, RecoveryId},
        };
        let signature = RecoverableSignature::from_compact(&high[..64], RecoveryId::Zero).unwrap();
        let key = SECP256K1.recover_ecdsa(Message::from_digest(digest.0), &signature).unwrap();
        alloy_primitives::keccak256(&key.serialize_uncompressed()[1..])[12..].to_vec()
    };
    assert_eq!(hex::encode(&recovered), format!("0x{WALLET_ADDRESS}"));
    assert!(verify(&account, &bytes(WALLET_MESSAGE), &Signature::Secp256k1(high)).is_err());
}

#[test]
fn only_27_and_28_are_recovery_values() {
    let account = Account::Secp256k1(format!("0x{WALLET_ADDRESS}").parse().unwrap());
    for v in (0..=255).filter(|v| *v != 28) {
        let mut signature = bytes::<65>(WALLET_SIGNATURE);
        signature[64] = v;
        assert!(verify(&account, &bytes(WALLET_MESSAGE), &Signature::Secp256k1(signature)).is_err(), "v = {v}");
    }
    for half in [0..32, 32..64] {
        for fill in [0, 0xff] {
            let mut signature = bytes::<65>(WALLET_SIGNATURE);
            signature[half.clone()].fill(fill);
            assert!(verify(&account, &bytes(WALLET_MESSAGE), &Signature::Secp256k1(signature)).is_err());
        }
    }
}

#[test]
fn a_scalar_that_is_zero_or_not_below_the_order_is_no_key() {
    assert!(AccountKey::secp256k1([0; 32]).is_none());
    assert!(AccountKey::secp256k1([0xff; 32]).is_none());
}

#[test]
fn an_empty_batch_holds_and_one_of_a_foreign_kind_does_not() {
    assert!(Batch::default().verify().is_ok());
    let mut batch = Batch::default();
    batch.queue(&key(0).account(), &[1; 32], &key(1).sign(&[1; 32]));
    assert!(batch.verify().is_err());
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn a_batch_holds_exactly_when_every_signature_does(
        items in prop::collection::vec((0..6_u8, any::<[u8; 32]>(), prop::option::weighted(0.1, 0..512_usize)), 0..12),
    ) {
        let mut batch = Batch::default();
        let mut every = true;
        for (index, message, flip) in items {
            let signature = match (key(index).sign(&message), flip) {
                (Signature::Ed25519(mut bytes), Some(bit)) => {
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    Signature::Ed25519(bytes)
                }
                (Signature::Secp256k1(mut bytes), Some(bit)) => {
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    Signature::Secp256k1(bytes)
                }
                (signature, None) => signature,
            };
            let single = verify(&key(index).account(), &message, &signature).is_ok();
            prop_assert_eq!(single, flip.is_none(), "one bit makes a signature bad");
            every &= single;
            batch.queue(&key(index).account(), &message, &signature);
        }
        prop_assert_eq!(batch.verify().is_ok(), every);
    }
}
