//! A validator of the shared sequencer: what stands around the log.
//!
//! Bundles come in at [`rpc`], wait in [`pool`], are ordered by `lockstep-consensus` through [`application`], and what the
//! log did is told by [`index`] and its feed. [`node`] joins the parts, [`cli`] starts them.

pub mod admission;
pub mod application;
pub mod cli;
pub mod config;
pub mod facts;
pub mod formats;
pub mod gossip;
pub mod heads;
pub mod index;
pub mod keys;
pub mod l1;
pub mod labels;
pub mod metrics;
pub mod node;
pub mod pool;
pub mod public;
pub mod rpc;

mod outbox;

#[cfg(test)]
mod fixture;
#[cfg(test)]
#[path = "../tests/rollups/mod.rs"]
mod rollups;
