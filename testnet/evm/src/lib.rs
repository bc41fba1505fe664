//! An Ethereum node in one process, for whoever needs a real chain and has none: the testnet, the drivers' tests, the contracts'
//! tests, and people who want to look.
//!
//! ```no_run
//! # async fn demo() -> Result<(), lockstep_evm::NodeError> {
//! use lockstep_evm::{Config, L1, Node, Role, accounts::dev_accounts, genesis};
//! let rich = alloy_primitives::U256::from(10).pow(alloy_primitives::U256::from(22));
//! let node = Node::start(Config::new(genesis(31_337, 0, &dev_accounts(), rich), Role::L1(L1::default()))).await?;
//! println!("{}", node.rpc_url());
//! # Ok(()) }
//! ```
//!
//! or, from a shell, `cargo run --release -p lockstep-evm --example node -- --help`.
//!
//! # What it is
//!
//! The EVM is revm's, by Prague's rules or by the OP Stack's Holocene and Isthmus; transactions, headers, receipts and the JSON of
//! the RPC are alloy's and op-alloy's. What is here is what stands between them:
//!
//! ```text
//!   wallets, observers          an OP Stack driver          a driver in this process
//!   rpc/ (HTTP, WebSocket)      engine/ (JWT)               rollup.rs   execute_block, simulate
//!          \  pool.rs, l1.rs        |                       /
//!           \                       v                      /
//!            ------------------> core.rs <----------------
//!                              /    |     \
//!                     execute.rs chain.rs  store.rs     blocks.log, state
//!                        |          |
//!                     state.rs   block.rs
//!                        |
//!                     trie.rs
//! ```
//!
//! * **Three roles** ([`Role`]). An L1 makes blocks from its pool, at an interval, at once or when told, and takes them back when a
//!   test says so. An OP Stack rollup gets its blocks through the Engine API. A plain rollup gets them from
//!   [`Node::execute_block`], which is what a follower of a Nitro-style feed needs; ArbOS itself is not here.
//! * **Exact order, and the skip rule.** A block executes what it is given in the order given. A transaction that may not be in
//!   a block (nonce, funds, chain, gas, bytes that are no transaction) is left out without a trace and reported as [`Skipped`] with
//!   its reason; one that reverts was run and stays. Behind the Engine API an invalid transaction makes the attributes invalid, as
//!   in op-geth; its driver asks [`Node::simulate`], or the standard RPC, what to leave out.
//! * **One state for each block.** The tries are of shared immutable nodes: the state after a block is a pointer, the next
//!   block copies only the paths that it changes, and hashes of what was not touched stay. So the root of a block costs what the
//!   block changed, calls and proofs see any recent block, and a reorganisation needs no undo.
//! * **Durable.** A block is on disk before anybody sees it as the head. After a kill the log is read, its torn end cut off,
//!   and what follows the last dump of the state executed again; a block that does not come out with its own hash stops the start.
//! * **Bounded.** The pool, log queries, batches, histories, side branches and subscribers all have a named limit. Older blocks and
//!   states are forgotten in memory ([`BLOCKS_MAX`], [`STATES_MAX`]); the log on disk is not shortened.
//!
//! # What it is not
//!
//! No peers, no consensus, no blobs, no tracing. Not for
//! anything of value. Its judges are in `judges/`: ethers and viem use it unchanged, anvil executes the same blocks.

pub mod accounts;

mod block;
mod chain;
mod config;
mod core;
mod engine;
mod execute;
mod genesis;
mod jwt;
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
pub use chain::{BLOCKS_MAX, HeadChange, SIDE_BLOCKS_MAX, STATES_MAX, STATES_UNTIL_FINAL_MAX, TRANSACTIONS_MAX};
pub use config::{
    Config, GAS_LIMIT, INITIAL_BASE_FEE, L1, OP_BASE_FEE, OpFork, Optimism, Role, Rollup, genesis, op_genesis,
};
pub use core::CoreError;
pub use engine::PAYLOADS_MAX;
pub use execute::{BlockError, Skipped};
pub use jwt::{TOKEN_AGE_MAX, token};
pub use l1::{REORG_MAX, Reorg, ReorgError};
pub use node::{Node, NodeError};
pub use pool::{POOL_MAX, PoolError, SENDER_MAX, TRANSACTION_BYTES_MAX};
pub use rollup::{BLOCK_TRANSACTIONS_MAX, BlockInput, BlockResult};
pub use rpc::{
    BATCH_MAX, CALL_GAS_MAX, CONNECTIONS_MAX, FEE_HISTORY_MAX, FILTER_IDLE_MAX, FILTERS_MAX, LOG_BLOCKS_MAX, LOGS_MAX,
    PERCENTILES_MAX, PROOF_SLOTS_MAX, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX,
};
pub use state::{AccountProof, State};
pub use store::StoreError;
pub use transaction::{Transaction, TransactionError};
