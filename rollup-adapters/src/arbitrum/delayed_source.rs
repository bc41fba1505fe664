//! How are delayed messages read from L1?
//!
//! With `eth_getLogs` over the Bridge's and the inboxes' events, up to a block that is deep below the one that the log names. That
//! the deep block is the same before and after shows that what was read is of one chain; that nothing is missing, the Bridge's
//! accumulator shows (`delayed.rs`). The block that the log names may be taken back by L1: its number counts, not its hash, so
//! reorganisations less deep than `delayed_depth` change nothing. A deeper one is found out and ends in an error.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, U64, keccak256};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    abi,
    delayed::{
        CONTENT_DELIVERED, CONTENT_IN_CALLDATA, DelayedError, DelayedInbox, DelayedMessage, Delivered,
        MESSAGE_DELIVERED,
    },
    sequence::Position,
};
use crate::poster::{L1, RpcError, l1::quantity};

/// L1 blocks of one question. Nodes limit what they answer; where one refuses, fewer are asked for.
pub(super) const RANGE_MAX: u64 = 2_000;

/// Why delayed messages are not known yet. Asking again may help, except after a fork.
#[derive(Debug, thiserror::Error)]
pub enum DelayedSourceError {
    /// L1 does not answer.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// L1, as our node sees it, does not have the block that the log has seen.
    #[error("L1 has no block {number} yet, which the log has seen")]
    Behind {
        /// The block.
        number: u64,
    },
    /// L1 took a deep block back while it was read.
    #[error("L1 took block {number} back while its messages were read")]
    Moved {
        /// The block.
        number: u64,
    },
    /// An event without its content, or of another form.
    #[error("delayed message {index}: L1 does not give its content")]
    Content {
        /// The message.
        index: u64,
    },
    /// Messages that do not follow.
    #[error(transparent)]
    Delayed(#[from] DelayedError),
    /// The chain was not initialised.
    #[error("the Bridge has no message yet: the chain is not initialised")]
    Uninitialised,
}

/// The delayed inbox of one rollup, read from L1 as far as it is needed.
#[derive(Debug)]
pub struct DelayedSource {
    l1: Arc<L1>,
    bridge: Address,
    inbox: DelayedInbox,
    /// First L1 block that may have messages that are needed.
    from: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    address: Address,
    pub(super) topics: Vec<B256>,
    pub(super) data: Bytes,
    pub(super) block_number: U64,
    pub(super) transaction_hash: B256,
    #[serde(default)]
    removed: bool,
}

#[derive(Deserialize)]
struct Calldata {
    input: Bytes,
}

impl DelayedSource {
    /// The messages that a chain at `position` does not have yet.
    pub fn new(l1: Arc<L1>, bridge: Address, position: &Position) -> Self {
        let inbox = DelayedInbox::new(position.tip.delayed, position.delayed_accumulator);
        Self { l1, bridge, inbox, from: position.delayed_l1 }
    }

    /// Where a chain begins whose Bridge was deployed in L1 block `deployed`: after its first message, which initialises it.
    pub async fn initial(l1: &L1, bridge: Address, deployed: u64) -> Result<Position, DelayedSourceError> {
        let latest = l1.latest().await?.number;
        let mut begin = deployed;
        while begin <= latest {
            let end = latest.min(begin + RANGE_MAX - 1);
            if let Some(first) = messages(l1, bridge, begin, end, 0).await?.into_iter().next() {
                let number = first.header.l1_number;
                let header = l1.header(number).await?.ok_or(DelayedSourceError::Behind { number })?;
                return Ok(Position::initial(header.origin(), first.accumulator()));
            }
            begin = end + 1;
        }
        Err(DelayedSourceError::Uninitialised)
    }

    /// What is known.
    pub fn inbox(&self) -> &DelayedInbox {
        &self.inbox
    }

    /// Where the chain of this inbox begins: see [`Self::initial`].
    pub async fn begin(&self, deployed: u64) -> Result<Position, DelayedSourceError> {
        Self::initial(&self.l1, self.bridge, deployed).await
    }

    /// Goes back, or on, to the messages that a chain at `position` does not have yet.
    pub fn restart(&mut self, position: &Position) {
        *self = Self::new(self.l1.clone(), self.bridge, position);
    }

    /// Forgets what the chain has.
    pub fn forget_before(&mut self, index: u64) {
        self.inbox.forget_before(index);
    }

    /// Reads everything up to L1 block `needed`, which is far below `seen`, the number of the block that the log names.
    pub async fn advance(&mut self, seen: u64, needed: u64) -> Result<(), DelayedSourceError> {
        if self.inbox.seen().is_some_and(|known| known >= needed) {
            return Ok(());
        }
        // Only below an L1 that is as high as the log's is `needed` as deep as it should be.
        if self.l1.latest().await?.number < seen {
            return Err(DelayedSourceError::Behind { number: seen });
        }
        let before = self.header_hash(needed).await?;
        if self.inbox.seen().is_none() && needed < self.from {
            // Nothing that the chain lacks is that old.
            self.inbox.extend(Vec::new(), needed)?;
        }
        let mut begin = self.inbox.seen().map_or(self.from, |seen| seen + 1);
        let mut range = RANGE_MAX;
        while begin <= needed {
            let end = needed.min(begin.saturating_add(range - 1));
            let found = match messages(&self.l1, self.bridge, begin, end, self.inbox.next()).await {
                // A node that finds it too much.
                Err(DelayedSourceError::Rpc(RpcError::Call { .. })) if range > 1 => {
                    range /= 2;
                    continue;
                }
                found => found?,
            };
            if self.header_hash(needed).await? != before {
                return Err(DelayedSourceError::Moved { number: needed });
            }
            self.inbox.extend(found, end)?;
            begin = end + 1;
        }
        Ok(())
    }

    async fn header_hash(&self, number: u64) -> Result<B256, DelayedSourceError> {
        Ok(self.l1.header(number).await?.ok_or(DelayedSourceError::Behind { number })?.hash)
    }
}

/// The Bridge's messages from `first` on, in these L1 blocks.
async fn messages(
    l1: &L1,
    bridge: Address,
    begin: u64,
    end: u64,
    first: u64,
) -> Result<Vec<DelayedMessage>, DelayedSourceError> {
    let topics = json!([keccak256(MESSAGE_DELIVERED)]);
    let mut delivered = Vec::new();
    for event in events(l1, json!(bridge), begin, end, topics).await? {
        let number = event.block_number.to();
        let found = Delivered::from_log(&event.topics, &event.data, number);
        let found = found.ok_or(DelayedSourceError::Content { index: first + delivered.len() as u64 })?;
        if found.message.index >= first {
            delivered.push(found);
        }
    }
    if delivered.is_empty() {
        return Ok(Vec::new());
    }
    let mut inboxes: Vec<Address> = delivered.iter().map(|delivered| delivered.inbox).collect();
    inboxes.sort();
    inboxes.dedup();
    let topics = json!([[keccak256(CONTENT_DELIVERED), keccak256(CONTENT_IN_CALLDATA)]]);
    let mut contents = BTreeMap::new();
    for event in events(l1, json!(inboxes), begin, end, topics).await? {
        let [kind, index] = event.topics.as_slice() else { continue };
        let Some(index) = abi::small(index).filter(|index| *index >= first) else { continue };
        let content = if *kind == keccak256(CONTENT_DELIVERED) {
            abi::Words(&event.data).bytes(0).map(<[u8]>::to_vec)
        } else {
            let call: Option<Calldata> =
                l1.rpc().call("eth_getTransactionByHash", &[json!(event.transaction_hash)]).await?;
            call.and_then(|call| Some(abi::Words(call.input.get(4..)?).bytes(0)?.to_vec()))
        };
        // Several contracts may name the same number; the Bridge's hash tells which content is its.
        contents.entry(index).or_insert_with(Vec::new).extend(content.map(|content| (event.address, content)));
    }
    let whole = delivered.into_iter().map(|delivered| {
        let index = delivered.message.index;
        let content = contents
            .remove(&index)
            .into_iter()
            .flatten()
            .find(|(address, content)| *address == delivered.inbox && keccak256(content) == delivered.content_hash);
        content.and_then(|(_, content)| delivered.with_content(content)).ok_or(DelayedSourceError::Content { index })
    });
    whole.collect()
}

/// The events of these contracts in these L1 blocks, in order.
pub(super) async fn events(
    l1: &L1,
    address: Value,
    begin: u64,
    end: u64,
    topics: Value,
) -> Result<Vec<Event>, RpcError> {
    let filter =
        json!({ "address": address, "fromBlock": quantity(begin), "toBlock": quantity(end), "topics": topics });
    let mut events: Vec<Event> = l1.rpc().call("eth_getLogs", &[filter]).await?;
    events.retain(|event| !event.removed);
    Ok(events)
}
