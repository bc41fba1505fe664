//! How does a Rust program deploy the settlement contracts, call them, and read what they answer?
//!
//! ```text
//! abi.rs      the contracts' interfaces, as Solidity writes them
//! call.rs     from what the log serves to calldata: `prepare`, `applyDecisions`, `applyRecorded`
//! curve.rs    compressed points of BLS12-381 as EIP-2537 wants them
//! deploy.rs   creation code out of the committed artifacts, addresses, and a rollup's whole deployment
//! ```
//!
//! Pure: no socket, no key, no clock. Whoever calls signs and sends. The contracts themselves are in `src/`, what they promise
//! in `README.md`.

pub mod abi;
mod call;
mod curve;
pub mod deploy;

pub use alloy_sol_types::{SolCall, SolError, SolEvent, SolInterface, SolValue};
pub use call::{CallError, apply, apply_recorded, prepare};
pub use curve::{PointError, group_key, signature};
