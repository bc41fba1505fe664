//! How does a rollup's share of the order become blocks and batches that the rollup's own software understands?
//!
//! One folder per rollup stack, one trait ([`RollupAdapter`]), one suite that every adapter passes ([`conformance`]).
//! Everything here is pure: no clock, no socket, no file. It does not execute transactions (that is the rollup's
//! execution client) and it does not send anything to L1 (that is the poster).
//!
//! ```text
//! lane blocks --blocks()--> native blocks --(executed by the rollup)--> executed blocks --encode()--> batches -> L1
//!                                 ^                                                                      |
//!                                 +------------------------------ decode() -------------------------------+
//! ```

pub mod adapter;
pub mod arbitrum;
#[cfg(feature = "run")]
pub mod cli;
mod compression;
pub mod conformance;
pub mod error;
#[cfg(feature = "run")]
pub mod feed;
pub mod lane;
pub mod optimism;
#[cfg(feature = "run")]
pub mod poster;
#[cfg(feature = "run")]
pub mod relay;
#[cfg(feature = "run")]
pub mod retry;
mod rlp;
#[cfg(feature = "run")]
pub mod serve;
#[cfg(feature = "run")]
pub mod settings;
mod transaction;

pub use adapter::{
    Batch, BatchTarget, ChainTip, ExecutedBlock, LaneCursor, NativeBlock, Plan, PlannedBlock, RollupAdapter,
    SkipReason, Skipped,
};
pub use error::{AdapterError, DecodeError};
pub use lane::{L1View, LaneBlock};
