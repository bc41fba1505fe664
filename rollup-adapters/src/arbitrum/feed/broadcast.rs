//! What are the bytes of Nitro's feed (`broadcaster/message/message.go`, version 1), and what does its signature sign?
//!
//! JSON, one object a WebSocket message: feed messages, or the number up to which L1 confirms, or both. Unknown fields are
//! passed over, as Nitro does. Bytes are base64, hashes and addresses hex. Not here: sockets, and what is in an L2 message.

use alloy_primitives::{Address, B256, keccak256};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};

use crate::{
    DecodeError,
    arbitrum::{MESSAGE_BYTES_MAX, decode_message},
};

/// The version of the format, and of the protocol in the handshake's headers.
pub const BROADCAST_VERSION: u64 = 1;

/// Kind of a message whose content is an L2 message, from the sequencer or from the delayed inbox.
pub const KIND_L2_MESSAGE: u8 = 3;
/// Kind of the message that starts a chain.
pub const KIND_INITIALIZE: u8 = 11;
/// Kind of a deposit of the native token: 20 bytes of recipient, 32 of value.
pub const KIND_DEPOSIT: u8 = 12;
/// Kind of the report that the SequencerInbox makes of each batch.
pub const KIND_BATCH_REPORT: u8 = 13;

/// Who the node says sent what the sequencer sequences (`l1pricing.BatchPosterAddress`).
pub const SEQUENCER: Address = Address::new(*b"\xa4\xb0\0\0\0\0\0\0\0\0\0sequencer");

/// What an object of JSON may hold in messages. Nitro's own server sends 240 at once when a client catches up.
pub const MESSAGES_MAX: usize = 4_096;

const SIGNED_PREFIX: &[u8] = b"Arbitrum Nitro Feed:";

/// What a message is about, as the node executes it (Nitro, `L1IncomingMessageHeader`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageHeader {
    /// What the content is.
    pub kind: u8,
    /// Who sent it: [`SEQUENCER`], or on L1 the sender of a delayed message.
    pub sender: Address,
    /// L1 block that the rollup's block sees.
    #[serde(rename = "blockNumber")]
    pub l1_number: u64,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
    /// Number of a delayed message in its inbox.
    #[serde(rename = "requestId")]
    pub request: Option<B256>,
    /// L1 base fee at a delayed message, wei.
    #[serde(rename = "baseFeeL1")]
    pub l1_base_fee: Option<u64>,
}

/// One message of the order. It makes one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedMessage {
    /// Its place: the first message of a chain, 0, is its initialisation.
    pub sequence: u64,
    /// What it is about.
    pub header: MessageHeader,
    /// Its content, of [`MESSAGE_BYTES_MAX`] bytes at most.
    pub content: Vec<u8>,
    /// Messages of the delayed inbox that are in the chain with it.
    pub delayed_read: u64,
    /// Hash of its block, where the sender executed it.
    pub block_hash: Option<B256>,
    /// What the sender says of the block's transactions (Timeboost).
    pub metadata: Vec<u8>,
    /// Signature over [`Self::signed_hash`]: r, s and recovery id; empty where nobody signed.
    pub signature: Vec<u8>,
}

impl FeedMessage {
    /// The hash that a feed's key signs (Nitro, `SignatureHash`).
    pub fn signed_hash(&self, chain_id: u64) -> B256 {
        let mut bytes = Vec::with_capacity(160 + self.metadata.len() + self.content.len());
        bytes.extend_from_slice(SIGNED_PREFIX);
        bytes.extend_from_slice(&chain_id.to_be_bytes());
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(self.block_hash.as_ref().map_or(&[], |hash| hash.as_slice()));
        bytes.extend_from_slice(&self.metadata);
        bytes.extend_from_slice(&self.delayed_read.to_be_bytes());
        bytes.push(self.header.kind);
        bytes.extend_from_slice(self.header.sender.as_slice());
        bytes.extend_from_slice(&self.header.l1_number.to_be_bytes());
        bytes.extend_from_slice(&self.header.timestamp.to_be_bytes());
        bytes.extend_from_slice(self.header.request.as_ref().map_or(&[], |request| request.as_slice()));
        let fee = self.header.l1_base_fee.unwrap_or(0);
        bytes.extend_from_slice(&fee.to_be_bytes()[fee.leading_zeros() as usize / 8..]);
        bytes.extend_from_slice(&self.content);
        keccak256(&bytes)
    }

    /// Whether the message is one of the delayed inbox.
    pub fn is_delayed(&self) -> bool {
        self.header.request.is_some()
    }

    /// The signed transactions that it holds; none in what is not an L2 message.
    ///
    /// Strict where Nitro is lenient: what the sequencer sends is well formed, a delayed message may be anything.
    pub fn transactions(&self) -> Result<Vec<Vec<u8>>, DecodeError> {
        match self.header.kind {
            KIND_L2_MESSAGE => decode_message(&self.content),
            _ => Ok(Vec::new()),
        }
    }
}

/// What one WebSocket message says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Broadcast {
    /// Messages, in order.
    pub messages: Vec<FeedMessage>,
    /// The last message that is in a batch on L1.
    pub confirmed: Option<u64>,
}

impl Broadcast {
    /// The JSON of one message.
    pub fn json_of(message: &FeedMessage) -> Vec<u8> {
        json(&BroadcastJson {
            version: BROADCAST_VERSION,
            messages: Some(vec![message_json(message)]),
            confirmed: None,
        })
    }

    /// The JSON that says up to which message L1 confirms.
    pub fn json_of_confirmed(sequence: u64) -> Vec<u8> {
        let confirmed = Some(ConfirmedJson { sequence });
        json(&BroadcastJson { version: BROADCAST_VERSION, messages: None, confirmed })
    }

    /// Everything in one object.
    pub fn to_json(&self) -> Vec<u8> {
        json(&BroadcastJson {
            version: BROADCAST_VERSION,
            messages: (!self.messages.is_empty()).then(|| self.messages.iter().map(message_json).collect()),
            confirmed: self.confirmed.map(|sequence| ConfirmedJson { sequence }),
        })
    }

    /// Reads an object. Its messages must follow each other.
    pub fn from_json(bytes: &[u8]) -> Result<Self, BroadcastError> {
        let parsed: BroadcastJson = serde_json::from_slice(bytes)?;
        if parsed.version != BROADCAST_VERSION {
            return Err(BroadcastError::Version(parsed.version));
        }
        let found = parsed.messages.unwrap_or_default();
        if found.len() > MESSAGES_MAX {
            return Err(BroadcastError::Messages(found.len()));
        }
        let mut messages: Vec<FeedMessage> = Vec::with_capacity(found.len());
        for message in found {
            let message = message_from(message)?;
            if let Some(last) = messages.last()
                && last.sequence.checked_add(1) != Some(message.sequence)
            {
                return Err(BroadcastError::Gap { after: last.sequence, found: message.sequence });
            }
            messages.push(message);
        }
        Ok(Self { messages, confirmed: parsed.confirmed.map(|confirmed| confirmed.sequence) })
    }
}

/// Why bytes are not a broadcast of version 1.
#[derive(Debug, thiserror::Error)]
pub enum BroadcastError {
    /// Not JSON, or not of this shape.
    #[error("not a broadcast: {0}")]
    Json(#[from] serde_json::Error),
    /// Another version.
    #[error("version {0} of the feed is not known, {BROADCAST_VERSION} is")]
    Version(u64),
    /// Too many messages.
    #[error("{0} messages at once, at most {MESSAGES_MAX}")]
    Messages(usize),
    /// Messages that do not follow each other.
    #[error("message {found} comes after {after} in one broadcast")]
    Gap {
        /// The message before.
        after: u64,
        /// The one found.
        found: u64,
    },
    /// A field of bytes is not base64 or too long.
    #[error("message {sequence}: {field} is not base64 of at most {MESSAGE_BYTES_MAX} bytes")]
    Bytes {
        /// The message.
        sequence: u64,
        /// The field.
        field: &'static str,
    },
}

#[derive(Serialize, Deserialize)]
struct BroadcastJson {
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<MessageJson>>,
    #[serde(default, rename = "confirmedSequenceNumberMessage", skip_serializing_if = "Option::is_none")]
    confirmed: Option<ConfirmedJson>,
}

#[derive(Serialize, Deserialize)]
struct ConfirmedJson {
    #[serde(rename = "sequenceNumber")]
    sequence: u64,
}

#[derive(Serialize, Deserialize)]
pub(in crate::arbitrum) struct MessageJson {
    #[serde(rename = "sequenceNumber")]
    sequence: u64,
    message: MetadataJson,
    #[serde(default, rename = "blockHash", skip_serializing_if = "Option::is_none")]
    block_hash: Option<B256>,
    #[serde(default, rename = "signatureV2")]
    signature: Option<String>,
    #[serde(default, rename = "blockMetadata", skip_serializing_if = "Option::is_none")]
    metadata: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct MetadataJson {
    message: IncomingJson,
    #[serde(rename = "delayedMessagesRead")]
    delayed_read: u64,
}

#[derive(Serialize, Deserialize)]
struct IncomingJson {
    header: MessageHeader,
    #[serde(rename = "l2Msg")]
    content: Option<String>,
}

fn json(broadcast: &BroadcastJson) -> Vec<u8> {
    serde_json::to_vec(broadcast).expect("numbers, strings and lists of them are written to memory")
}

pub(in crate::arbitrum) fn message_json(message: &FeedMessage) -> MessageJson {
    MessageJson {
        sequence: message.sequence,
        message: MetadataJson {
            message: IncomingJson { header: message.header.clone(), content: Some(BASE64.encode(&message.content)) },
            delayed_read: message.delayed_read,
        },
        block_hash: message.block_hash,
        signature: Some(BASE64.encode(&message.signature)),
        metadata: (!message.metadata.is_empty()).then(|| BASE64.encode(&message.metadata)),
    }
}

pub(in crate::arbitrum) fn message_from(found: MessageJson) -> Result<FeedMessage, BroadcastError> {
    let sequence = found.sequence;
    let bytes = |text: Option<String>, field| {
        let text = text.unwrap_or_default();
        if text.len() > MESSAGE_BYTES_MAX.div_ceil(3) * 4 {
            return Err(BroadcastError::Bytes { sequence, field });
        }
        BASE64.decode(text).map_err(|_| BroadcastError::Bytes { sequence, field })
    };
    Ok(FeedMessage {
        sequence,
        header: found.message.message.header,
        content: bytes(found.message.message.content, "l2Msg")?,
        delayed_read: found.message.delayed_read,
        block_hash: found.block_hash,
        metadata: bytes(found.metadata, "blockMetadata")?,
        signature: bytes(found.signature, "signatureV2")?,
    })
}
