//! Does a feed client that is not ours read what our feed sends?
//!
//! The judge is `sequencer_client`, a published crate, in a program of its own (`judges/nitro/reader`), because it brings a hundred
//! crates. `judges/nitro/run.sh` builds it and names it to this test; where it is not named, the test says that it was skipped.
#![cfg(feature = "feed")]

use std::{process::Command, time::Duration};

use alloy_primitives::{Address, keccak256};
use alloy_rlp::{Encodable, Header};
use lockstep_adapters::arbitrum::{
    encode_message,
    feed::{FeedConfig, FeedMessage, FeedServer, FeedSigner, KIND_L2_MESSAGE, MessageHeader, SEQUENCER},
};
use serde_json::{Value, json};

const CHAIN: u64 = 42_161;

/// A canonical transaction of one of the types that a lane may have.
fn transaction(index: u64) -> Vec<u8> {
    let mut list = Vec::new();
    let kind = [None, Some(1u8), Some(2)][index as usize % 3];
    if kind.is_some() {
        CHAIN.encode(&mut list);
    }
    index.encode(&mut list);
    for _ in 0..if kind == Some(2) { 2 } else { 1 } {
        (1_000_000_000 + index).encode(&mut list);
    }
    21_000u64.encode(&mut list);
    Address::repeat_byte(index as u8 + 1).encode(&mut list);
    (index * 7).encode(&mut list);
    keccak256(index.to_be_bytes()).as_slice().encode(&mut list);
    match kind {
        None => (CHAIN * 2 + 35 + index % 2).encode(&mut list),
        Some(_) => {
            list.push(0xc0);
            (index % 2 == 1).encode(&mut list);
        }
    }
    for salt in [3u64, 4] {
        keccak256((index << 8 | salt).to_be_bytes()).0.map(|byte| byte >> 1 | 1).encode(&mut list);
    }
    let mut out: Vec<u8> = kind.into_iter().collect();
    Header { list: true, payload_length: list.len() }.encode(&mut out);
    [out, list].concat()
}

#[tokio::test]
async fn a_published_client_reads_every_message_and_transaction() {
    let Some(reader) = std::env::var_os("LOCKSTEP_FEED_READER") else {
        eprintln!("skipped: sequencer_client; judges/nitro/run.sh builds and names it");
        return;
    };
    let signer = FeedSigner::new([5; 32], CHAIN);
    let config = FeedConfig { signer, ..FeedConfig::new(CHAIN) };
    let server = FeedServer::bind("127.0.0.1:0".parse().expect("an address"), config, 1, None).await.expect("binds");
    let mut expected = Vec::new();
    let mut messages: Vec<FeedMessage> = Vec::new();
    for sequence in 1..=60u64 {
        let transactions: Vec<_> = (0..sequence % 5).map(|index| transaction(sequence * 10 + index)).collect();
        let (timestamp, l1_number, delayed_read) =
            (1_750_000_000 + sequence, 20_000_000 + sequence / 5, 1 + sequence / 9);
        let header = MessageHeader {
            kind: KIND_L2_MESSAGE,
            sender: SEQUENCER,
            l1_number,
            timestamp,
            request: None,
            l1_base_fee: None,
        };
        messages.push(FeedMessage {
            sequence,
            header,
            content: encode_message(&transactions).expect("small"),
            delayed_read,
            block_hash: None,
            metadata: vec![],
            signature: vec![],
        });
        let hashes: Vec<_> = transactions.iter().map(|bytes| keccak256(bytes).to_string()).collect();
        expected.push(json!({
            "sequence": sequence, "timestamp": timestamp, "l1Number": l1_number, "delayedRead": delayed_read,
            "kind": KIND_L2_MESSAGE, "hashes": hashes,
        }));
    }
    // Some are there when the client connects, the others come while it reads.
    server.publish(&mut messages[..30]).expect("in order");
    let url = format!("ws://{}", server.address());
    let reading = tokio::task::spawn_blocking(move || {
        Command::new(reader).args([&url, &CHAIN.to_string(), "60"]).output().expect("the reader runs")
    });
    while server.stats().clients == 0 && !reading.is_finished() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for message in &mut messages[30..] {
        server.publish(std::slice::from_mut(message)).expect("in order");
        tokio::task::yield_now().await;
    }
    let output = tokio::time::timeout(Duration::from_secs(60), reading).await.expect("it ends").expect("no panic");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("text");
    let found: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(found, expected);
}
