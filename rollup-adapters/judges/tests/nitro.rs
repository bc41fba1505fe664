//! Do we read what Nitro's own batch poster wrote, and write the same segments?
//!
//! Nitro's repository records the inputs of a block for its validator (`.github/workflows/testdata/block_inputs.json`), among
//! them a batch that its own poster made. The file is not ours to carry: name it in `LOCKSTEP_NITRO_BLOCK_INPUTS` and this
//! judge runs; otherwise it says that it did not.

use alloy_consensus::{TxEnvelope, transaction::SignerRecoverable};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::Address;
use lockstep_adapters::{
    BatchTarget,
    arbitrum::{Arbitrum, ArbitrumConfig, BLOCK_GAS, Event, compress, decode_message, decompress, encode_message},
    conformance::{self, Subject},
};
use lockstep_judges::transactions;
use lockstep_protocol::ids::RollupId;

/// The contract's part of a batch.
const HEADER_BYTES: usize = 40;

#[test]
fn the_adapter_conforms_on_transactions_that_alloy_wrote() {
    let chain = 42_161;
    let adapter =
        Arbitrum::new(ArbitrumConfig { chain_id: chain, quality: 5, delayed_depth: None, block_gas: BLOCK_GAS });
    let subject = Subject {
        adapter: &adapter,
        rollup: RollupId(chain),
        transaction: &|seed| transactions::any(seed, chain),
        unfit: vec![],
        batches_are_linked: false,
        targets: vec![BatchTarget::Calldata { bytes_max: 20_000 }, BatchTarget::Blobs { per_transaction: 2 }],
    };
    conformance::run(&subject, 4);
}

#[test]
fn a_batch_that_nitros_poster_made_is_read_and_written_back_to_the_same_segments() {
    let Some(path) = std::env::var_os("LOCKSTEP_NITRO_BLOCK_INPUTS") else {
        eprintln!("skipped: Nitro's batch poster, whose recorded batch is not named in LOCKSTEP_NITRO_BLOCK_INPUTS");
        return;
    };
    let text = std::fs::read(&path).expect("the named file is there");
    let inputs: serde_json::Value = serde_json::from_slice(&text).expect("recorded inputs are JSON");
    let batches = inputs["BatchInfo"].as_array().expect("recorded inputs have batches");
    assert!(!batches.is_empty());
    for batch in batches {
        let batch = base64(batch["DataB64"].as_str().expect("base64"));
        let batch = &batch[HEADER_BYTES..];
        let events = decompress(batch).expect("we read Nitro's batch");
        assert!(!events.is_empty());
        for event in &events {
            let Event::Message { timestamp, message, .. } = event else { continue };
            assert!(*timestamp > 1_600_000_000, "a time after Nitro was made");
            let transactions = decode_message(message).expect("we read Nitro's messages");
            assert_eq!(encode_message(&transactions).as_ref(), Ok(message), "and write them back");
            for bytes in transactions {
                let transaction = TxEnvelope::decode_2718(&mut bytes.as_slice()).expect("alloy reads the transaction");
                assert_ne!(transaction.recover_signer().expect("somebody signed it"), Address::ZERO);
            }
        }
        // Compressed bytes differ between encoders; what is compressed must not.
        let ours = compress(&events, 11).expect("compresses");
        assert_eq!(content(&ours), content(batch), "the same segments");
    }
}

fn content(batch: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut stream = brotli::Decompressor::new(&batch[1..], 4_096);
    std::io::Read::read_to_end(&mut stream, &mut out).expect("a brotli stream");
    out
}

/// Standard base64 with padding.
fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    let (mut bits, mut held) = (0u32, 0);
    for digit in text.bytes().take_while(|digit| *digit != b'=') {
        let value = DIGITS.iter().position(|known| *known == digit).expect("a base64 digit");
        bits = bits << 6 | value as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    out
}
