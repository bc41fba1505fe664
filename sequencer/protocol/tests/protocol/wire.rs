//! Do messages survive their own bytes, and does nothing else pass for one?

use lockstep_protocol::{
    account::AccountRecord,
    bundle::{Bundle, SignedBundle, SignedCancel, Tag},
    evidence::BundleState,
    header::{HEADER_BYTES, Header, HeaderError},
    hex::{self, HexError},
    ids::{Account, Address20, BundleId, Hash32, Height, NetworkId, RollupId},
    lane::{LaneItem, LaneLeaf},
    limits::MAX_BUNDLE_BYTES,
    rpc::{BundleStatus, HexBytes, LegStatus, Level, Message, QueryError, StateQuery},
    state::{LaneRecord, RECORD_BYTES, Stored, TreasuryRecord},
    wire::{Wire, WireError},
};
use proptest::prelude::*;

use crate::{
    config,
    fixture::{Network, ROLLUPS, key, leg},
};

fn network() -> Network {
    Network::new(2, 1_000_000, &ROLLUPS)
}

fn header() -> Header {
    let mut network = network();
    network.advance(vec![], vec![network.signed(0, 0, &ROLLUPS)]).header
}

#[test]
fn an_envelope_of_another_version_or_length_is_refused() {
    let signed = network().signed(1, 0, &ROLLUPS);
    let bytes = signed.to_wire();
    assert_eq!(SignedBundle::from_wire(&bytes), Ok(signed));
    assert_eq!(SignedBundle::from_wire(&[]), Err(WireError::Empty));
    for version in [0, 2, 255] {
        let mut other = bytes.clone();
        other[0] = version;
        assert_eq!(SignedBundle::from_wire(&other), Err(WireError::Version(version)));
    }
    let long = vec![1; MAX_BUNDLE_BYTES + 1];
    assert_eq!(
        SignedBundle::from_wire(&long),
        Err(WireError::TooLong { max: MAX_BUNDLE_BYTES, found: MAX_BUNDLE_BYTES + 1 })
    );
    for length in 1..bytes.len() {
        assert!(matches!(SignedBundle::from_wire(&bytes[..length]), Err(WireError::Malformed(_))));
    }
}

#[test]
fn lists_that_are_longer_than_allowed_are_refused_before_they_are_read() {
    let network = network();
    let refused = |change: fn(&mut Bundle)| {
        let mut bundle = network.bundle(0, 0, &[10]);
        change(&mut bundle);
        SignedBundle::from_wire(&bundle.sign(&key(0)).to_wire()).unwrap_err().to_string()
    };
    assert!(refused(|b| b.legs = vec![b.legs[0].clone(); 9]).contains("length 9, at most 8"));
    let many = refused(|b| b.legs[0].transactions = vec![b.legs[0].transactions[0].clone(); 65]);
    assert!(many.contains("length 65, at most 64"));
    let long = refused(|b| b.legs = vec![leg(10, &[&[0; 128 * 1024 + 1]])]);
    assert!(long.contains("length 131073, at most 131072"));
}

#[test]
fn a_header_is_332_bytes_and_every_bit_of_it_counts() {
    let header = header();
    let bytes = header.encode();
    assert_eq!(Header::decode(&bytes), Ok(header.clone()));
    for bit in 0..HEADER_BYTES * 8 {
        let mut flipped = bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(other) = Header::decode(&flipped) {
            assert_eq!(other.encode(), flipped);
            assert_ne!(other.digest(), header.digest());
        }
    }
    for length in [0, 1, HEADER_BYTES - 1] {
        assert_eq!(Header::decode(&bytes[..length]), Err(HeaderError::Length(length)));
    }
    assert_eq!(Header::decode(&[0; HEADER_BYTES + 1]), Err(HeaderError::Length(HEADER_BYTES + 1)));
    assert_eq!(Header::decode(&[0; HEADER_BYTES]), Err(HeaderError::Version([0; 4])));
    let empty = Header { sync_start: 5, sync_end: 5, ..header };
    assert_eq!(Header::decode(&empty.encode()), Err(HeaderError::SyncRange { start: 5, end: 5 }));
}

#[test]
fn a_record_is_256_bytes_of_its_kind_and_nothing_after_the_value() {
    let network = network();
    let largest = AccountRecord::new(network.rules.network, key(0).account());
    let records = [
        largest.to_record(),
        AccountRecord::new(network.rules.network, key(1).account()).to_record(),
        LaneRecord { leaf: LaneLeaf::genesis(network.rules.network, RollupId(1)), base_fee: u64::MAX }.to_record(),
        TreasuryRecord { credits: u64::MAX, deposited: u64::MAX }.to_record(),
    ];
    for (index, record) in records.iter().enumerate() {
        let kinds = [
            AccountRecord::from_record(record).is_ok(),
            LaneRecord::from_record(record).is_ok(),
            TreasuryRecord::from_record(record).is_ok(),
        ];
        assert_eq!(kinds, [index < 2, index == 2, index == 3]);
        let mut padded = *record;
        padded[RECORD_BYTES - 1] = 1;
        assert!(AccountRecord::from_record(&padded).is_err() && LaneRecord::from_record(&padded).is_err());
    }
    assert_eq!(AccountRecord::from_record(&records[0]), Ok(largest));
    assert!(AccountRecord::from_record(&[0; RECORD_BYTES]).is_err());
    assert!(AccountRecord::from_record(&[0xff; RECORD_BYTES]).is_err());
}

#[test]
fn hexadecimal_says_what_is_wrong_with_it() {
    assert_eq!(hex::decode("0x00fF"), Ok(vec![0, 255]));
    assert_eq!(hex::decode("00ff"), Err(HexError::Prefix));
    assert_eq!(hex::decode("0x0"), Err(HexError::Digit(1)));
    assert_eq!(hex::decode("0x0g"), Err(HexError::Digit(1)));
    assert_eq!(hex::decode("0xé"), Err(HexError::Digit(0)));
    assert_eq!("0x00".parse::<Hash32>(), Err(HexError::Length { expected: 32, digits: 2 }));
    assert!(format!("0x{}", "é".repeat(32)).parse::<Hash32>().is_err(), "64 bytes, but no digits");
}

#[test]
fn json_of_a_bundle_reads_as_documented() {
    let network = network();
    let bundle = Bundle {
        tag: Tag([1; 16]),
        valid_until: Height(9),
        tip: 3,
        max_fee: 50,
        legs: vec![leg(10, &[b"\x02\xff"])],
        ..network.bundle(1, 7, &[])
    };
    let Account::Secp256k1(address) = bundle.account else { panic!("key 1 is secp256k1") };
    let signed = bundle.sign(&key(1));
    let json = serde_json::to_value(&signed).unwrap();
    assert_eq!(
        json["bundle"],
        serde_json::json!({
            "network": network.rules.network.to_string(),
            "account": { "secp256k1": address.to_string() },
            "nonce": 7,
            "tag": "0x01010101010101010101010101010101",
            "validUntil": 9,
            "tip": 3,
            "maxFee": 50,
            "legs": [{ "rollup": 10, "transactions": ["0x02ff"] }],
            "kind": "plain",
        })
    );
    assert_eq!(json["signature"].as_str().unwrap().len(), 2 + 130);
    assert_eq!(serde_json::from_value::<SignedBundle>(json).unwrap(), signed);
}

#[test]
fn json_with_a_wrong_field_says_which() {
    let json = serde_json::to_value(network().signed(0, 0, &[10])).unwrap();
    let refused = |change: fn(&mut serde_json::Value)| {
        let mut json = json.clone();
        change(&mut json);
        serde_json::from_value::<Message<SignedBundle>>(json).unwrap_err().to_string()
    };
    assert!(refused(|j| j["bundle"]["extra"] = 1.into()).contains("unknown field `extra`"));
    assert!(refused(|j| drop(j["bundle"].as_object_mut().unwrap().remove("nonce"))).contains("missing field `nonce`"));
    assert!(refused(|j| j["bundle"]["tip"] = (-1).into()).contains("-1"));
    assert!(refused(|j| j["bundle"]["nonce"] = "18446744073709551616".into()).contains("expected u64"));
    assert!(refused(|j| j["bundle"]["kind"] = "magic".into()).contains("unknown variant `magic`"));
    assert!(refused(|j| j["signature"] = "0x00".into()).contains("64 bytes (ed25519) or 65"));
    assert!(refused(|j| j["bundle"]["tag"] = "0x00".into()).contains("expected 16 bytes"));
    assert!(refused(|j| *j = 5.into()).contains("an object, or the hexadecimal text of its wire envelope"));
    assert!(refused(|j| *j = "zz".into()).contains("start with 0x"));
}

#[test]
fn a_message_is_an_object_or_its_envelope() {
    let signed = network().signed(0, 0, &[10]);
    let object: Message<SignedBundle> = serde_json::from_str(&serde_json::to_string(&signed).unwrap()).unwrap();
    assert_eq!(object, Message::Object(signed.clone()));
    let text = serde_json::to_string(&Message::<SignedBundle>::Wire(HexBytes(signed.to_wire()))).unwrap();
    let Message::Wire(bytes) = serde_json::from_str::<Message<SignedBundle>>(&text).unwrap() else {
        panic!("a text is an envelope")
    };
    assert_eq!(SignedBundle::from_wire(&bytes.0), Ok(signed));
}

#[test]
fn a_lane_item_and_a_status_read_back_from_json() {
    let mut network = network();
    let block = network.advance(vec![], vec![network.signed(0, 0, &ROLLUPS)]);
    let item = network.item(&block, 901);
    assert_eq!(serde_json::from_value::<LaneItem>(serde_json::to_value(&item).unwrap()).unwrap(), item);
    let status = BundleStatus {
        bundle_id: BundleId([5; 32]),
        state: BundleState::Ordered { height: Height(4), fee: 9 },
        legs: vec![LegStatus {
            rollup: RollupId(10),
            level: Level::Ordered,
            sequence: 1,
            block: None,
            skipped: Vec::new(),
        }],
        tip: Height(5),
    };
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(
        (json["state"].as_str(), json["height"].as_u64(), json["tip"].as_u64()),
        (Some("ordered"), Some(4), Some(5))
    );
    assert_eq!(serde_json::from_value::<BundleStatus>(json).unwrap(), status);
    let error = QueryError::Pruned { height: Height(1), oldest: Height(9) };
    let json = serde_json::to_string(&error).unwrap();
    assert_eq!(json, r#"{"reason":"pruned","height":1,"oldest":9}"#);
    assert_eq!(serde_json::to_string(&StateQuery::Lane(RollupId(10))).unwrap(), r#"{"lane":10}"#);
    assert_eq!(serde_json::to_string(&StateQuery::Treasury).unwrap(), r#""treasury""#);
}

#[test]
fn a_networks_id_is_the_keccak256_of_its_name() {
    let expected = alloy_primitives::keccak256("lockstep-testnet-1");
    assert_eq!(NetworkId::from_name("lockstep-testnet-1"), NetworkId(expected.0));
    assert_eq!(Address20::from(alloy_primitives::Address::repeat_byte(3)), Address20([3; 20]));
}

/// Whatever reads from bytes writes the same bytes: there is one encoding of each message.
fn canonical<T: Wire + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(message) = T::from_wire(bytes) {
        assert_eq!(message.to_wire(), bytes);
    }
}

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn bytes_that_were_touched_never_panic_a_decoder_and_decode_to_nothing_else(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut network = network();
        let block = network.advance(vec![], vec![network.signed(0, 0, &ROLLUPS), network.signed(1, 0, &[10])]);
        let messages = [
            network.signed(0, 1, &ROLLUPS).to_wire(),
            network.cancel(1, 0, 9).to_wire(),
            block.body.to_wire(),
            network.item(&block, 901).to_wire(),
        ];
        for mut bytes in messages {
            for (at, value) in &edits {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            if let Some(cut) = &cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            canonical::<SignedBundle>(&bytes);
            canonical::<SignedCancel>(&bytes);
            canonical::<lockstep_protocol::body::Body>(&bytes);
            canonical::<LaneItem>(&bytes);
        }
    }

    #[test]
    fn random_records_never_panic_and_read_only_as_what_they_write(record in prop::array::uniform32(any::<[u8; 8]>()), kind in 0..5_u8) {
        let mut record: [u8; RECORD_BYTES] = record.concat().try_into().unwrap();
        record[0] = kind;
        for kept in [RECORD_BYTES, 219, 98, 9] {
            record[kept..].fill(0);
            if let Ok(value) = AccountRecord::from_record(&record) {
                prop_assert_eq!(value.to_record(), record);
                let _ = (value.nonces.lowest(), value.nonces.highest(), value.nonces.check(u64::MAX));
            }
            if let Ok(value) = LaneRecord::from_record(&record) {
                prop_assert_eq!(value.to_record(), record);
            }
            if let Ok(value) = TreasuryRecord::from_record(&record) {
                prop_assert_eq!(value.to_record(), record);
            }
        }
    }
}
