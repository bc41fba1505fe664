//! An embedded EVM node.
pub mod accounts;
mod block;
mod chain;
mod config;
mod core;
mod execute;
mod genesis;
mod l1;
mod node;
mod pool;
mod rollup;
mod rpc;
mod state;
mod store;
mod transaction;
mod trie;

pub use alloy_genesis::Genesis;
pub use block::{Block, Receipt};
pub use chain::{BLOCKS_MAX, HeadChange, SIDE_BLOCKS_MAX, STATES_MAX, TRANSACTIONS_MAX};
pub use config::{
    Config, GAS_LIMIT, INITIAL_BASE_FEE, L1, OP_BASE_FEE, OpFork, Optimism, Role, Rollup, genesis, op_genesis,
};
pub use core::CoreError;
pub use execute::{BlockError, Skipped};
pub use l1::{REORG_MAX, Reorg, ReorgError};
pub use node::{Node, NodeError};
pub use pool::{POOL_MAX, PoolError, SENDER_MAX, TRANSACTION_BYTES_MAX};
pub use rollup::{BLOCK_TRANSACTIONS_MAX, BlockInput, BlockResult};
pub use rpc::{
    BATCH_MAX, CALL_GAS_MAX, CONNECTIONS_MAX, FEE_HISTORY_MAX, LOG_BLOCKS_MAX, LOGS_MAX, PERCENTILES_MAX,
    PROOF_SLOTS_MAX, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX,
};
pub use state::{AccountProof, State};
pub use store::StoreError;
pub use transaction::{Transaction, TransactionError};
