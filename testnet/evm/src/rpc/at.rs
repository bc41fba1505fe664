//! Which block does a request mean, and what does everybody hold after it?

use super::{Service, failure};
use crate::{block::Block, config::Role, state::State};
use alloy_eips::{BlockId, BlockNumberOrTag};
use jsonrpsee::types::ErrorObjectOwned;
use std::sync::Arc;

/// A block with the state after it.
pub(crate) struct At {
    pub(crate) block: Arc<Block>,
    pub(crate) state: State,
}

impl Service {
    /// The block that a tag or number names, if there is one. `pending` is the head: see [`Self::pending`].
    pub(crate) fn block_by_number(&self, number: BlockNumberOrTag) -> Option<Arc<Block>> {
        let chain = self.core.chain();
        match number {
            BlockNumberOrTag::Latest | BlockNumberOrTag::Pending => Some(chain.head()),
            BlockNumberOrTag::Safe => chain.safe(),
            BlockNumberOrTag::Finalized => chain.finalized(),
            BlockNumberOrTag::Earliest => Some(chain.genesis()),
            BlockNumberOrTag::Number(number) => chain.by_number(number),
        }
        .cloned()
    }

    pub(crate) fn block(&self, id: BlockId) -> Option<Arc<Block>> {
        match id {
            BlockId::Number(number) => self.block_by_number(number),
            BlockId::Hash(hash) => {
                let chain = self.core.chain();
                let block = chain.block(&hash.block_hash)?;
                (hash.require_canonical != Some(true) || chain.is_canonical(block)).then(|| block.clone())
            }
        }
    }

    /// The block that an L1 would make now. A rollup does not know what its driver will do.
    pub(crate) fn pending(&self) -> Option<At> {
        let (Some(miner), Role::L1(_)) = (&self.miner, &self.core.role) else { return None };
        let executed = miner.preview().ok()?;
        Some(At { block: Arc::new(executed.block), state: executed.state })
    }

    /// The block and the state that a call or a query means.
    pub(crate) fn at(&self, id: Option<BlockId>) -> Result<At, ErrorObjectOwned> {
        let id = id.unwrap_or_default();
        if id.is_pending()
            && let Some(pending) = self.pending()
        {
            return Ok(pending);
        }
        let block = self.block(id).ok_or_else(failure::header_not_found)?;
        let state = self.core.chain().state(&block.hash).cloned();
        let state = state.ok_or_else(|| failure::state_not_kept(block.header.number))?;
        Ok(At { block, state })
    }
}
