//! Which messages did L1 send to the rollup, and how does the Bridge account for them?
//!
//! Every message of the delayed inbox extends an accumulator in the Bridge. What is taken over from events here is checked
//! against it, so neither a message nor its content can be left out or changed by the L1 node. When a message is due is in
//! `block.rs`; asking L1 is in `delayed_source.rs`.

use std::collections::VecDeque;

use alloy_primitives::{Address, B256, U256, keccak256};

use super::{abi, feed::MessageHeader};

/// Messages held at most: those that wait for L1 to grow over them. A Bridge takes a few in a block.
pub const DELAYED_MAX: usize = 65_536;

/// The Bridge's event of a delayed message.
pub const MESSAGE_DELIVERED: &str = "MessageDelivered(uint256,bytes32,address,uint8,address,bytes32,uint256,uint64)";
/// An inbox's event with the content.
pub const CONTENT_DELIVERED: &str = "InboxMessageDelivered(uint256,bytes)";
/// An inbox's event of a message whose content is the transaction's calldata.
pub const CONTENT_IN_CALLDATA: &str = "InboxMessageDeliveredFromOrigin(uint256)";

/// A message of the delayed inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelayedMessage {
    /// Its place in the delayed inbox.
    pub index: u64,
    /// What the node is told of it.
    pub header: MessageHeader,
    /// Its content.
    pub content: Vec<u8>,
    /// The accumulator before it.
    pub before: B256,
}

impl DelayedMessage {
    /// What the Bridge hashes of a message (`Messages.sol`).
    pub fn hash(&self) -> B256 {
        let mut packed = Vec::with_capacity(133);
        packed.push(self.header.kind);
        packed.extend_from_slice(self.header.sender.as_slice());
        packed.extend_from_slice(&self.header.l1_number.to_be_bytes());
        packed.extend_from_slice(&self.header.timestamp.to_be_bytes());
        packed.extend_from_slice(&U256::from(self.index).to_be_bytes::<32>());
        packed.extend_from_slice(&U256::from(self.header.l1_base_fee.unwrap_or(0)).to_be_bytes::<32>());
        packed.extend_from_slice(keccak256(&self.content).as_slice());
        keccak256(packed)
    }

    /// The accumulator once it is in.
    pub fn accumulator(&self) -> B256 {
        keccak256([self.before, self.hash()].concat())
    }
}

/// What the Bridge's event says of a message: everything but its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The message without its content.
    pub message: DelayedMessage,
    /// The contract whose event has the content.
    pub inbox: Address,
    /// Hash of the content.
    pub content_hash: B256,
}

impl Delivered {
    /// Reads an event of L1 block `l1_number`; `None` if it is not of the Bridge's form.
    pub fn from_log(topics: &[B256], data: &[u8], l1_number: u64) -> Option<Self> {
        let [event, index, before] = topics else { return None };
        if *event != keccak256(MESSAGE_DELIVERED) {
            return None;
        }
        let words = abi::Words(data);
        let index = abi::small(index)?;
        let header = MessageHeader {
            kind: u8::try_from(words.number(1)?).ok()?,
            sender: words.address(2)?,
            l1_number,
            timestamp: words.number(5)?,
            request: Some(B256::from(U256::from(index))),
            l1_base_fee: Some(words.number(4)?),
        };
        let message = DelayedMessage { index, header, content: Vec::new(), before: *before };
        Some(Self { message, inbox: words.address(0)?, content_hash: words.word(3)? })
    }

    /// The whole message, if this is its content.
    pub fn with_content(self, content: Vec<u8>) -> Option<DelayedMessage> {
        (keccak256(&content) == self.content_hash).then_some(DelayedMessage { content, ..self.message })
    }
}

/// Why a message cannot follow the ones held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DelayedError {
    /// One is missing, or was seen before.
    #[error("delayed message {found} was found where {expected} is next")]
    Order {
        /// The next index.
        expected: u64,
        /// The index found.
        found: u64,
    },
    /// L1 has another past than the one that the chain holds: it was reorganised deeper than we waited.
    #[error("delayed message {index} does not build on the ones that the chain holds: L1 took some of them back")]
    Fork {
        /// The message.
        index: u64,
    },
    /// Too many wait.
    #[error("more than {DELAYED_MAX} delayed messages wait")]
    Full,
}

/// The delayed messages from the first that no block holds yet, up to an L1 block.
#[derive(Clone, Debug)]
pub struct DelayedInbox {
    first: u64,
    /// The accumulator before the first.
    before: B256,
    messages: VecDeque<DelayedMessage>,
    /// Everything in L1 blocks up to this one is here.
    seen: Option<u64>,
}

impl DelayedInbox {
    /// An inbox that begins with message `first`, before which the accumulator is `before`.
    pub fn new(first: u64, before: B256) -> Self {
        Self { first, before, messages: VecDeque::new(), seen: None }
    }

    /// The index that comes next.
    pub fn next(&self) -> u64 {
        self.first + self.messages.len() as u64
    }

    /// Up to which L1 block everything is known.
    pub fn seen(&self) -> Option<u64> {
        self.seen
    }

    /// Takes over the messages of L1 blocks up to `l1_number`: all, or none.
    pub fn extend(&mut self, messages: Vec<DelayedMessage>, l1_number: u64) -> Result<(), DelayedError> {
        let mut before = self.messages.back().map_or(self.before, DelayedMessage::accumulator);
        if self.messages.len() + messages.len() > DELAYED_MAX {
            return Err(DelayedError::Full);
        }
        for (next, message) in (self.next()..).zip(&messages) {
            if message.index != next {
                return Err(DelayedError::Order { expected: next, found: message.index });
            }
            if message.before != before {
                return Err(DelayedError::Fork { index: next });
            }
            before = message.accumulator();
        }
        self.messages.extend(messages);
        self.seen = Some(l1_number);
        Ok(())
    }

    /// How many messages L1 held after block `l1_number`; `None` if that is not known.
    pub fn count_at(&self, l1_number: u64) -> Option<u64> {
        if self.seen? < l1_number {
            return None;
        }
        Some(self.first + self.messages.partition_point(|message| message.header.l1_number <= l1_number) as u64)
    }

    /// The message with this index, if it is held.
    pub fn get(&self, index: u64) -> Option<&DelayedMessage> {
        self.messages.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// Forgets the messages before `index`, which blocks hold.
    pub fn forget_before(&mut self, index: u64) {
        while self.first < index
            && let Some(message) = self.messages.pop_front()
        {
            self.before = message.accumulator();
            self.first += 1;
        }
    }
}
