//! How does a driver in this process make a rollup's next block, and what would be left out of it?

use crate::{
    block::Block,
    core::{Core, CoreError},
    execute::{BlockError, Executed, Invalid, Proposal, Skipped},
    transaction::Transaction,
};
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B256, Bytes, keccak256};
use std::sync::Arc;

/// Transactions in one call at most: far above any block, below what would fill memory.
pub const BLOCK_TRANSACTIONS_MAX: usize = 1_000_000;
/// Below this many transactions a second thread costs more than it brings.
const PARALLEL_MIN: usize = 64;

/// A block to be made: an exact order, and what the rollup's own rules say of its header.
#[derive(Clone, Debug, Default)]
pub struct BlockInput {
    /// Seconds since the epoch; not before the parent's.
    pub timestamp: u64,
    /// EIP-2718 bytes in their exact order. One that may not be in the block is left out and reported.
    pub transactions: Vec<Bytes>,
    /// Credits from outside, in gwei (EIP-4895): how an L1 deposit arrives without a transaction.
    pub withdrawals: Vec<Withdrawal>,
    /// The block to build on; the head when absent. An older one takes back what came after it.
    pub parent: Option<B256>,
    /// Who earns the fees; the configured one when absent.
    pub beneficiary: Option<Address>,
    /// What `PREVRANDAO` answers.
    pub prev_randao: B256,
    /// The gas limit; the parent's when absent.
    pub gas_limit: Option<u64>,
    /// The header's `extraData`.
    pub extra_data: Bytes,
    /// The header's beacon root (EIP-4788).
    pub parent_beacon_block_root: B256,
}

/// A block that was made, with what was left out of it.
#[derive(Clone, Debug)]
pub struct BlockResult {
    /// The block.
    pub block: Arc<Block>,
    /// What was left out and why, by place in the input.
    pub skipped: Vec<Skipped>,
}

/// Executes, keeps and adopts a block.
pub(crate) fn execute_block(core: &Core, input: BlockInput, beneficiary: Address) -> Result<BlockResult, CoreError> {
    let _turn = core.turn();
    let (executed, skipped) = run(core, input, beneficiary)?;
    let block = core.keep(executed.block, executed.state)?;
    core.adopt(&block, None)?;
    Ok(BlockResult { block, skipped })
}

/// Executes a block and keeps nothing.
pub(crate) fn simulate(core: &Core, input: BlockInput, beneficiary: Address) -> Result<BlockResult, CoreError> {
    let (executed, skipped) = run(core, input, beneficiary)?;
    Ok(BlockResult { block: Arc::new(executed.block), skipped })
}

fn run(core: &Core, input: BlockInput, beneficiary: Address) -> Result<(Executed, Vec<Skipped>), CoreError> {
    let parent = match input.parent {
        Some(hash) => core.chain().block(&hash).cloned().ok_or(CoreError::UnknownParent(hash))?,
        None => core.head(),
    };
    if input.transactions.len() > BLOCK_TRANSACTIONS_MAX {
        return Err(BlockError::TooManyTransactions(input.transactions.len()).into());
    }
    let mut skipped = Vec::new();
    let mut places = Vec::with_capacity(input.transactions.len());
    let mut transactions = Vec::with_capacity(input.transactions.len());
    for (index, decoded) in decode_all(&input.transactions).into_iter().enumerate() {
        match decoded {
            Ok(tx) => {
                places.push(index);
                transactions.push(tx);
            }
            Err(reason) => skipped.push(Skipped { index, hash: keccak256(&input.transactions[index]), reason }),
        }
    }
    let proposal = Proposal {
        timestamp: input.timestamp,
        beneficiary: input.beneficiary.unwrap_or(beneficiary),
        prev_randao: input.prev_randao,
        gas_limit: input.gas_limit.unwrap_or(parent.header.gas_limit),
        extra_data: input.extra_data,
        parent_beacon_block_root: input.parent_beacon_block_root,
        withdrawals: input.withdrawals,
        transactions,
    };
    let executed = core.build(&parent, proposal, Invalid::Skip)?;
    skipped.extend(executed.skipped.iter().map(|item| Skipped { index: places[item.index], ..item.clone() }));
    skipped.sort_by_key(|item| item.index);
    Ok((executed, skipped))
}

/// Decodes all of them, on all cores: finding the senders costs more than executing a transfer.
pub(crate) fn decode_all(raw: &[Bytes]) -> Vec<Result<Arc<Transaction>, String>> {
    let decode = |raw: &Bytes| Transaction::decode(raw).map(Arc::new).map_err(|error| error.to_string());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    if raw.len() < PARALLEL_MIN || threads == 1 {
        return raw.iter().map(decode).collect();
    }
    std::thread::scope(|scope| {
        let parts = raw.chunks(raw.len().div_ceil(threads));
        let running: Vec<_> =
            parts.map(|part| scope.spawn(move || part.iter().map(decode).collect::<Vec<_>>())).collect();
        running.into_iter().flat_map(|part| part.join().expect("decoding does not panic")).collect()
    })
}
