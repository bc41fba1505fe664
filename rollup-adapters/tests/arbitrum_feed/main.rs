//! Does the feed give every client every message, in order, in Nitro's own bytes, and cut those who do not keep up?
#![cfg(feature = "feed")]

use std::{sync::Arc, time::Duration};

use lockstep_adapters::arbitrum::feed::{
    FeedConfig, FeedMessage, FeedServer, History, KIND_L2_MESSAGE, MessageHeader, SEQUENCER,
};

mod bytes;
mod clients;
mod follower;
#[cfg(feature = "run")]
mod l1_away;
#[cfg(feature = "run")]
#[path = "../run/proxy.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod proxy;

pub(crate) const CHAIN: u64 = 42_161;
/// Long enough for any machine; nothing waits for it where all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn message(sequence: u64) -> FeedMessage {
    FeedMessage {
        sequence,
        header: MessageHeader {
            kind: KIND_L2_MESSAGE,
            sender: SEQUENCER,
            l1_number: 20_000_000 + sequence / 12,
            timestamp: 1_750_000_000 + sequence,
            request: None,
            l1_base_fee: None,
        },
        content: [&[4, 2][..], &sequence.to_be_bytes(), &vec![7; (sequence as usize * 37) % 400]].concat(),
        delayed_read: 1 + sequence / 10,
        block_hash: None,
        metadata: vec![],
        signature: vec![],
    }
}

pub(crate) fn messages(range: std::ops::Range<u64>) -> Vec<FeedMessage> {
    range.map(message).collect()
}

pub(crate) async fn server(config: FeedConfig, next: u64, history: Option<Arc<dyn History>>) -> FeedServer {
    FeedServer::bind("127.0.0.1:0".parse().expect("an address"), config, next, history).await.expect("binds")
}

pub(crate) fn url(server: &FeedServer) -> String {
    format!("ws://{}/", server.address())
}
