//! What does gas cost, and what did it cost?

use super::{Service, failure};
use crate::block::Block;
use alloy_eips::BlockNumberOrTag;
use alloy_rpc_types_eth::FeeHistory;
use jsonrpsee::types::ErrorObjectOwned;
use std::sync::Arc;

/// Blocks of one fee history (geth's limit).
pub const FEE_HISTORY_MAX: u64 = 1_024;
/// Percentiles of one fee history (geth's limit).
pub const PERCENTILES_MAX: usize = 100;
/// Blocks whose tips make the suggestion.
const TIP_BLOCKS: u64 = 20;
/// The tip suggested when nobody pays one, in wei, so that wallets pay some.
const TIP_MIN: u128 = 1_000_000;

impl Service {
    /// The median of what was paid lately above the base fee.
    pub(crate) fn suggested_tip(&self) -> u128 {
        let mut tips = Vec::new();
        let mut next = Some(self.core.head());
        for _ in 0..TIP_BLOCKS {
            let Some(block) = next else { break };
            tips.extend(rewards(&block).into_iter().map(|(tip, _)| tip));
            next = self.core.chain().block(&block.header.parent_hash).cloned();
        }
        tips.sort_unstable();
        tips.get(tips.len() / 2).copied().unwrap_or_default().max(TIP_MIN)
    }

    pub(crate) fn gas_price(&self) -> u128 {
        let base_fee = self.core.rules.next_base_fee(&self.core.head().header);
        u128::from(base_fee).saturating_add(self.suggested_tip())
    }

    pub(crate) fn fee_history(
        &self,
        count: u64,
        newest: BlockNumberOrTag,
        percentiles: Option<Vec<f64>>,
    ) -> Result<FeeHistory, ErrorObjectOwned> {
        let asked = percentiles.as_deref().unwrap_or_default();
        let ordered = asked.windows(2).all(|pair| pair[0] <= pair[1]);
        if asked.len() > PERCENTILES_MAX || !ordered || asked.iter().any(|value| !(0.0..=100.0).contains(value)) {
            return Err(failure::invalid_params("reward percentiles: at most 100, ascending, from 0 to 100"));
        }
        let newest = self.block_by_number(newest).ok_or_else(failure::header_not_found)?;
        let mut blocks: Vec<Arc<Block>> = Vec::new();
        let mut next = Some(newest.clone());
        while let Some(block) = next.filter(|_| (blocks.len() as u64) < count.min(FEE_HISTORY_MAX)) {
            next = self.core.chain().block(&block.header.parent_hash).cloned();
            blocks.push(block);
        }
        blocks.reverse();
        let base_fees = blocks.iter().map(|block| u128::from(block.header.base_fee_per_gas.unwrap_or_default()));
        let after = u128::from(self.core.rules.next_base_fee(&newest.header));
        #[expect(clippy::cast_precision_loss, reason = "the format asks for a ratio as a float")]
        let ratio = |block: &Arc<Block>| block.header.gas_used as f64 / block.header.gas_limit.max(1) as f64;
        Ok(FeeHistory {
            base_fee_per_gas: base_fees.chain([after]).collect(),
            gas_used_ratio: blocks.iter().map(ratio).collect(),
            base_fee_per_blob_gas: vec![1; blocks.len() + 1],
            blob_gas_used_ratio: vec![0.0; blocks.len()],
            oldest_block: blocks.first().map_or(0, |block| block.header.number),
            reward: percentiles.map(|asked| blocks.iter().map(|block| at_percentiles(block, &asked)).collect()),
        })
    }
}

/// Each transaction's tip and gas, by tip.
fn rewards(block: &Block) -> Vec<(u128, u64)> {
    let base_fee = block.header.base_fee_per_gas.unwrap_or_default();
    let paid = block.transactions.iter().zip(&block.receipts).filter(|(tx, _)| !tx.is_deposit());
    let mut rewards: Vec<_> = paid
        .map(|(tx, receipt)| (tx.effective_gas_price(base_fee).saturating_sub(base_fee.into()), receipt.gas_used))
        .collect();
    rewards.sort_unstable();
    rewards
}

/// The tips at these percentiles of the block's gas.
fn at_percentiles(block: &Block, percentiles: &[f64]) -> Vec<u128> {
    let rewards = rewards(block);
    #[expect(clippy::cast_precision_loss, reason = "a percentile is a float")]
    let gas = block.header.gas_used as f64;
    let tip = |percentile: &f64| {
        let mut sum = 0.0;
        let reached = rewards.iter().find(|(_, used)| {
            #[expect(clippy::cast_precision_loss, reason = "a percentile is a float")]
            let used = *used as f64;
            sum += used;
            sum >= gas * percentile / 100.0
        });
        reached.or(rewards.last()).map_or(0, |(tip, _)| *tip)
    };
    percentiles.iter().map(tip).collect()
}
