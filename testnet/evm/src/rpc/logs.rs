//! Which logs match a filter?

use super::{Service, failure, shapes};
use crate::block::Block;
use alloy_eips::BlockNumberOrTag;
use alloy_rpc_types_eth::{Filter, FilterBlockOption, Log};
use jsonrpsee::types::ErrorObjectOwned;

/// Blocks of one query, so that it ends while others wait.
pub const LOG_BLOCKS_MAX: u64 = 10_000;
/// Logs of one answer (the limit that public nodes have made known).
pub const LOGS_MAX: usize = 10_000;

impl Service {
    pub(crate) fn logs(&self, filter: &Filter) -> Result<Vec<Log>, ErrorObjectOwned> {
        let (from, to) = match filter.block_option {
            FilterBlockOption::AtBlockHash(hash) => {
                let block = self.core.chain().block(&hash).cloned().ok_or_else(|| failure::refused("unknown block"))?;
                return Ok(matching(filter, &block, false));
            }
            FilterBlockOption::Range { from_block, to_block } => (self.bound(from_block)?, self.bound(to_block)?),
        };
        if from > to {
            return Err(failure::invalid_params("invalid block range params"));
        }
        if to - from >= LOG_BLOCKS_MAX {
            return Err(failure::limit(format!("query exceeds max block range {LOG_BLOCKS_MAX}")));
        }
        let mut found = Vec::new();
        for number in from..=to {
            // Not one lock for all of them: blocks are made meanwhile.
            let Some(block) = self.core.chain().by_number(number).cloned() else { continue };
            found.extend(matching(filter, &block, false));
            if found.len() > LOGS_MAX {
                return Err(failure::limit(format!("query returned more than {LOGS_MAX} results")));
            }
        }
        Ok(found)
    }

    fn bound(&self, bound: Option<BlockNumberOrTag>) -> Result<u64, ErrorObjectOwned> {
        let head = self.core.head().header.number;
        match bound {
            None => Ok(head),
            // Blocks that are still to come have no logs yet.
            Some(BlockNumberOrTag::Number(number)) => Ok(number.min(head.saturating_add(1))),
            Some(tag) => {
                self.block_by_number(tag).map(|block| block.header.number).ok_or_else(failure::header_not_found)
            }
        }
    }
}

/// The logs of a block that match.
pub(crate) fn matching(filter: &Filter, block: &Block, removed: bool) -> Vec<Log> {
    if !filter.matches_bloom(block.header.logs_bloom) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (index, (receipt, first)) in block.receipts.iter().zip(block.first_logs()).enumerate() {
        for (number, log) in (first..).zip(receipt.envelope.logs()) {
            if filter.matches(log) {
                found.push(shapes::log(block, index, number, log.clone(), removed));
            }
        }
    }
    found
}
