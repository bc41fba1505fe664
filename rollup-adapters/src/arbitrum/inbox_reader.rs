//! Where does the SequencerInbox stand?
//!
//! Read with `eth_call`s between two looks at the latest block: if that changed meanwhile, they are asked again, so the state is
//! that of one block.

use std::sync::Arc;

use alloy_primitives::{Address, B256, Bytes};

use super::{
    abi,
    inbox::{InboxState, TimeVariation},
};
use crate::poster::{L1, RpcError};

/// Looks before it is given up for now: L1 has a new block every few seconds, a look takes far less.
const LOOKS_MAX: usize = 5;

const MESSAGES: &str = "sequencerReportedSubMessageCount()";

/// Why the inbox's state is not known.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// L1 does not answer.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// There is no such contract, or it is another one.
    #[error("{contract} does not answer {call} as Nitro's contracts do")]
    Answer {
        /// The contract.
        contract: Address,
        /// The call.
        call: &'static str,
    },
    /// L1 moves on faster than it can be asked.
    #[error("L1 changed at each of {LOOKS_MAX} looks")]
    Moving,
}

/// A SequencerInbox and its Bridge.
#[derive(Clone, Debug)]
pub struct InboxReader {
    l1: Arc<L1>,
    inbox: Address,
    bridge: Address,
}

impl InboxReader {
    /// The inbox at this address. Asks it for its Bridge.
    pub async fn new(l1: Arc<L1>, inbox: Address) -> Result<Self, InboxError> {
        let answer = l1.call(inbox, &abi::Call::new("bridge()").finish()).await?;
        let bridge = abi::Words(&answer).address(0).ok_or(InboxError::Answer { contract: inbox, call: "bridge()" })?;
        Ok(Self { l1, inbox, bridge })
    }

    /// The inbox's address.
    pub fn inbox(&self) -> Address {
        self.inbox
    }

    /// Its Bridge's address.
    pub fn bridge(&self) -> Address {
        self.bridge
    }

    /// L1.
    pub fn l1(&self) -> &Arc<L1> {
        &self.l1
    }

    /// Whether `address` may post batches.
    pub async fn is_batch_poster(&self, address: Address) -> Result<bool, InboxError> {
        let call = abi::Call::new("isBatchPoster(address)").address(address).finish();
        let answer = self.l1.call(self.inbox, &call).await?;
        let known = InboxError::Answer { contract: self.inbox, call: "isBatchPoster(address)" };
        Ok(abi::Words(&answer).number(0).ok_or(known)? == 1)
    }

    /// Messages that L1 has. Such as were forced in are among them from the next batch of a poster on.
    pub async fn messages(&self) -> Result<u64, InboxError> {
        self.number(self.bridge, MESSAGES).await
    }

    /// Messages that L1 has at the block with this tag.
    pub async fn messages_at(&self, tag: &str) -> Result<u64, InboxError> {
        let answer = self.l1.call_at(self.bridge, &abi::Call::new(MESSAGES).finish(), tag).await?;
        // Nobody answers in a block before the contract's.
        Ok(abi::Words(&answer).number(0).unwrap_or(0))
    }

    /// Where the inbox stands now, by its own count of messages.
    pub async fn state(&self) -> Result<InboxState, InboxError> {
        let mut latest = self.l1.latest().await?;
        for _ in 0..LOOKS_MAX {
            let batches = self.number(self.bridge, "sequencerMessageCount()").await?;
            let messages = self.messages().await?;
            let delayed_read = self.number(self.inbox, "totalDelayedMessagesRead()").await?;
            let accumulator = self.last(batches, "sequencerInboxAccs(uint256)").await?;
            let delayed_accumulator = self.last(delayed_read, "delayedInboxAccs(uint256)").await?;
            let delay_bufferable = self.number(self.inbox, "isDelayBufferable()").await? == 1;
            let variation = self.variation().await?;
            let now = self.l1.latest().await?;
            if now.hash == latest.hash {
                return Ok(InboxState {
                    l1_number: latest.number,
                    l1_hash: latest.hash,
                    l1_timestamp: latest.timestamp,
                    batches,
                    messages,
                    forced: 0,
                    delayed_read,
                    accumulator,
                    delayed_accumulator,
                    delay_bufferable,
                    variation,
                });
            }
            latest = now;
        }
        Err(InboxError::Moving)
    }

    async fn variation(&self) -> Result<TimeVariation, InboxError> {
        const CALL: &str = "maxTimeVariation()";
        let answer = self.l1.call(self.inbox, &abi::Call::new(CALL).finish()).await?;
        let words = abi::Words(&answer);
        // 64 bits in the contract's storage.
        let number = |index| words.number(index).ok_or(InboxError::Answer { contract: self.inbox, call: CALL });
        Ok(TimeVariation {
            delay_blocks: number(0)?,
            future_blocks: number(1)?,
            delay_seconds: number(2)?,
            future_seconds: number(3)?,
        })
    }

    /// The last of `count` accumulators; zero if there is none.
    async fn last(&self, count: u64, call: &'static str) -> Result<B256, InboxError> {
        let Some(index) = count.checked_sub(1) else { return Ok(B256::ZERO) };
        match self.l1.call(self.bridge, &abi::Call::new(call).number(index).finish()).await {
            Ok(answer) => abi::Words(&answer).word(0).ok_or(InboxError::Answer { contract: self.bridge, call }),
            // Reverts where a reorganisation between two questions took the last one back.
            Err(RpcError::Call { .. }) => Ok(B256::ZERO),
            Err(error) => Err(error.into()),
        }
    }

    async fn number(&self, contract: Address, call: &'static str) -> Result<u64, InboxError> {
        let answer: Bytes = self.l1.call(contract, &abi::Call::new(call).finish()).await?;
        abi::Words(&answer).number(0).ok_or(InboxError::Answer { contract, call })
    }
}
