//! Are messages, signatures and JSON the ones of Nitro's own tests, and is everything else refused?

use alloy_primitives::{Address, B256, b256};
use lockstep_adapters::arbitrum::feed::{Broadcast, BroadcastError, FeedMessage, FeedSigner, MessageHeader, signer};

use crate::{CHAIN, message, messages};

/// Nitro's own tests: `message_signature_test.go` and `message_serialization_test.go`.
fn nitros_message() -> FeedMessage {
    FeedMessage {
        sequence: 12_345,
        header: MessageHeader {
            kind: 0,
            sender: Address::ZERO,
            l1_number: 0,
            timestamp: 0,
            request: Some(B256::ZERO),
            l1_base_fee: Some(0),
        },
        content: vec![0xde, 0xad, 0xbe, 0xef],
        delayed_read: 3_333,
        block_hash: None,
        metadata: vec![],
        signature: vec![],
    }
}

#[test]
fn the_hash_that_is_signed_is_the_one_in_nitros_own_test() {
    let message = FeedMessage { metadata: vec![0xde, 0xad, 0xbe, 0xaf], ..nitros_message() };
    let expected = b256!("3d79853de5f9e4354e5d6c6d4cad19dcd969f9646f0cab21e5bdfee4902dfa2e");
    assert_eq!(message.signed_hash(0xa4b1), expected);
    assert_ne!(message.signed_hash(0xa4b2), expected);
}

#[test]
fn json_is_the_one_in_nitros_own_test() {
    // Nitro writes a missing signature as null where nobody signs at all, and as an empty string in a feed without a key.
    let nitro = r#"{"version":1,"messages":[{"sequenceNumber":12345,"message":{"message":{"header":{"kind":0,"sender":"0x0000000000000000000000000000000000000000","blockNumber":0,"timestamp":0,"requestId":"0x0000000000000000000000000000000000000000000000000000000000000000","baseFeeL1":0},"l2Msg":"3q2+7w=="},"delayedMessagesRead":3333},"blockHash":"0xff00000000000000000000000000000000000000000000000000000000000000","signatureV2":null,"blockMetadata":"AAI="}]}"#;
    let mut hash = B256::ZERO;
    hash[0] = 0xff;
    let message = FeedMessage { block_hash: Some(hash), metadata: vec![0, 2], ..nitros_message() };
    let ours = String::from_utf8(Broadcast::json_of(&message)).expect("text");
    assert_eq!(ours.replace(r#""signatureV2":"""#, r#""signatureV2":null"#), nitro);
    let both = Broadcast::from_json(nitro.as_bytes()).expect("Nitro's JSON");
    assert_eq!(both.messages, [message]);
    let confirmed = r#"{"version":1,"confirmedSequenceNumberMessage":{"sequenceNumber":1234}}"#;
    assert_eq!(Broadcast::json_of_confirmed(1234), confirmed.as_bytes());
    assert_eq!(Broadcast::from_json(confirmed.as_bytes()).expect("Nitro's JSON").confirmed, Some(1234));
    assert_eq!(Broadcast::from_json(br#"{"version":1}"#).expect("Nitro's JSON"), Broadcast::default());
    assert_eq!(Broadcast::default().to_json(), br#"{"version":1}"#);
    // Fields that a later Nitro adds are passed over.
    let later =
        nitro.replace(r#""version":1,"#, r#""version":1,"later":{},"#).replace("l2Msg", r#"batchGasCost":5,"l2Msg"#);
    assert_eq!(Broadcast::from_json(later.as_bytes()).expect("a later Nitro's JSON").messages, both.messages);
}

#[test]
fn what_is_no_broadcast_is_refused() {
    let good = String::from_utf8(Broadcast { messages: messages(5..7), confirmed: Some(1) }.to_json()).expect("text");
    assert_eq!(Broadcast::from_json(good.as_bytes()).expect("nothing is wrong with it").messages, messages(5..7));
    for cut in 0..good.len() {
        assert!(Broadcast::from_json(&good.as_bytes()[..cut]).is_err(), "cut at {cut}");
    }
    for (from, to) in [
        (r#""version":1"#, r#""version":2"#),
        (r#""sequenceNumber":6"#, r#""sequenceNumber":7"#),
        (r#""sequenceNumber":6"#, r#""sequenceNumber":5"#),
        (r#""sequenceNumber":6"#, r#""sequenceNumber":-6"#),
        (r#""kind":3"#, r#""kind":300"#),
        (r#""l2Msg":""#, r#""l2Msg":"*"#),
        (r#""sender":"0x"#, r#""sender":"0x00"#),
        (r#""messages":["#, r#""messages":[null,"#),
        (r#""header":{"#, r#""header":null,"other":{"#),
    ] {
        assert_ne!(good.replace(from, to), good, "{from}");
        assert!(Broadcast::from_json(good.replace(from, to).as_bytes()).is_err(), "{from} -> {to}");
    }
    let gap = Broadcast { messages: vec![message(1), message(3)], confirmed: None }.to_json();
    assert!(matches!(Broadcast::from_json(&gap), Err(BroadcastError::Gap { after: 1, found: 3 })));
}

#[test]
fn a_signature_is_of_one_message_one_chain_and_one_key() {
    let key = FeedSigner::new([9; 32], CHAIN).expect("a key");
    assert!(FeedSigner::new([0; 32], CHAIN).is_none() && FeedSigner::new([0xff; 32], CHAIN).is_none());
    let mut signed = message(4);
    assert_eq!(signer(&signed, CHAIN), None, "nobody signed");
    key.sign(&mut signed);
    assert_eq!(signer(&signed, CHAIN), Some(key.address()));
    assert_ne!(signer(&signed, CHAIN + 1), Some(key.address()));
    let mut again = message(4);
    key.sign(&mut again);
    assert_eq!(again, signed, "a restart repeats the same bytes");
    type Change = fn(&mut FeedMessage);
    let changes: [Change; 8] = [
        |message| message.sequence += 1,
        |message| message.delayed_read += 1,
        |message| message.header.timestamp += 1,
        |message| message.header.l1_number += 1,
        |message| message.header.kind += 1,
        |message| message.content[3] ^= 1,
        |message| message.block_hash = Some(B256::ZERO),
        |message| message.signature[5] ^= 1,
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut changed = signed.clone();
        change(&mut changed);
        assert_ne!(signer(&changed, CHAIN), Some(key.address()), "change {index}");
    }
    assert!(!format!("{key:?}").contains("0909"), "a key is not printed");
}
