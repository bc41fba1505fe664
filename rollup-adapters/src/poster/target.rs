//! Do the next batches go to L1 as calldata or in blobs?
//!
//! As configured, or by price; but an L1 node's pool holds only one of the two from a key. What is stuck there can only be replaced by its
//! like, so it decides until it is in a block. Which of the two it is, the refusal of the other tells: nothing is remembered of it
//! across a restart either.

use serde::{Deserialize, Serialize};

use super::{Included, SendError};

/// Where batches go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Blobs where L1 takes them, they can be read back where that is needed, and they are cheaper.
    #[default]
    Auto,
    /// Calldata.
    Calldata,
    /// Blobs.
    Blobs,
}

/// Chooses for one poster.
#[derive(Debug)]
pub(crate) struct Choice {
    target: Target,
    /// Whether what is stuck in the pool has blobs, once something is known to be.
    stuck: Option<bool>,
}

impl Choice {
    pub(crate) fn new(target: Target) -> Self {
        Self { target, stuck: None }
    }

    /// Whether the next round goes in blobs. It may if `can`; `cheaper` says which of the two costs less.
    pub(crate) fn blobs(&self, can: bool, cheaper: impl FnOnce() -> bool) -> bool {
        match self.target {
            Target::Calldata => false,
            Target::Blobs => true,
            Target::Auto => can && self.stuck.unwrap_or_else(cheaper),
        }
    }

    /// What became of a round with blobs, or without.
    pub(crate) fn sent(&mut self, blobs: bool, result: &Result<Vec<Included>, SendError>) {
        match result {
            Ok(_) => self.stuck = None,
            Err(SendError::Reserved(_)) => self.stuck = Some(!blobs),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poster::RpcError;

    fn reserved() -> Result<Vec<Included>, SendError> {
        let error = RpcError::Call {
            endpoint: "http://l1".into(),
            method: "eth_sendRawTransaction".into(),
            code: -32_000,
            message: "address already reserved".into(),
        };
        Err(SendError::Reserved(error))
    }

    #[test]
    fn what_is_stuck_decides_until_a_round_is_in_blocks() {
        for blobs in [false, true] {
            let mut choice = Choice::new(Target::Auto);
            assert_eq!(choice.blobs(true, || blobs), blobs, "by price");
            choice.sent(blobs, &reserved());
            assert_eq!(choice.blobs(true, || blobs), !blobs, "by what is stuck");
            choice.sent(!blobs, &Err(SendError::Stuck { nonce: 1, blocks: 50 }));
            assert_eq!(choice.blobs(true, || blobs), !blobs, "that may take several rounds");
            choice.sent(!blobs, &Ok(vec![]));
            assert_eq!(choice.blobs(true, || blobs), blobs, "by price again");
        }
    }

    #[test]
    fn what_is_configured_and_what_is_possible_come_first() {
        for (target, blobs) in [(Target::Calldata, false), (Target::Blobs, true)] {
            let mut choice = Choice::new(target);
            choice.sent(blobs, &reserved());
            assert_eq!(choice.blobs(true, || !blobs), blobs);
        }
        let mut choice = Choice::new(Target::Auto);
        choice.sent(false, &reserved());
        assert!(!choice.blobs(false, || true), "L1 takes no blobs, or they cannot be read back");
    }
}
