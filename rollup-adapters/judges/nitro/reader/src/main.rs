//! What does a published client of Nitro's feed (`sequencer_client`) read of ours?
//!
//! `lockstep-feed-reader URL CHAIN COUNT` prints a line of JSON for each message: its number, its clock, and the hashes of its
//! transactions, as that client has them. It knows nothing of our code.

use futures_util::StreamExt;
use sequencer_client::SequencerReader;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().expect("URL CHAIN COUNT");
    let (url, chain, count) = (argument(), argument(), argument());
    let reader = SequencerReader::new(&url, chain.parse().expect("a chain id"), 1).await;
    let mut messages = reader.into_stream().take(count.parse().expect("a number"));
    while let Some(message) = messages.next().await {
        let message = message.expect("the client reads it");
        let hashes: Vec<String> = message.txs.iter().map(|transaction| transaction.hash().to_string()).collect();
        let line = serde_json::json!({
            "sequence": message.sequence_number,
            "timestamp": message.timestamp,
            "l1Number": message.l1_header.block_number,
            "delayedRead": message.l1_header.delayed_messages_read,
            "kind": message.l1_header.kind,
            "hashes": hashes,
        });
        println!("{line}");
    }
}
