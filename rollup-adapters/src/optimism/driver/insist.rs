//! How does a client that lost states in a crash follow the driver again?
//!
//! op-geth keeps the blocks that it had, and which of them has which number, when the states of the latest are gone. It then calls
//! each of them valid, and the head, without executing it, and can build nothing on it. Another block in that place, here one with
//! the same transactions and another randomness, makes it forget what had the number; told to go back, it executes what it has.
//!
//! Whoever asks the client in that moment may see the other block. What is posted of it would be the same: batches have no
//! randomness.

use super::{Attributes, Driver, DriverError, Forkchoice, L2Block, PayloadBlock};

impl Driver {
    /// Makes sure that the client, which has just called `head` valid, follows it. `on_parent` is what it was told before, and
    /// `attributes` and `block` are those of the head. Takes the driver for itself: a shared one could not be sent to another thread.
    pub(super) async fn insist(
        &mut self,
        head: &Forkchoice,
        on_parent: &Forkchoice,
        (attributes, isthmus): (&Attributes, bool),
        block: &L2Block,
    ) -> Result<(), DriverError> {
        if self.chain.head().await?.hash == head.head {
            return Ok(());
        }
        let (number, hash) = (block.number, block.hash);
        tracing::warn!(number, %hash, "the execution client lost its state, having it execute again");
        let other = Attributes { prev_randao: !attributes.prev_randao, ..attributes.clone() };
        let json = other.to_json(block.transactions.iter().map(Vec::as_slice));
        let sibling = self.engine.make(on_parent, json, isthmus).await?;
        let hash = PayloadBlock::of(&sibling)?.block_hash;
        self.engine.take(&sibling, attributes.parent_beacon_block_root).await?;
        self.engine.update(&Forkchoice { head: hash, ..*on_parent }).await?;
        self.engine.update(head).await?;
        let found = self.chain.head().await?;
        match found.hash == head.head {
            true => Ok(()),
            false => Err(DriverError::NotFollowed { asked: number, found: found.number }),
        }
    }
}
