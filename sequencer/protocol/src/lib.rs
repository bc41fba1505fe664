//! What a bundle and a lane are, and what ordering does to them. Pure.
//!
//! No runtime, clock, file, socket, float or randomly seeded map: everything here is a function of its arguments, so that
//! every validator, client and contract agrees on it. `docs/protocol.md` describes every byte and rule; clippy.toml bans
//! what would break the purity.

// Stricter than the workspace: a panic on input or a wrapped number here is a fork of the log.
#![deny(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::float_arithmetic,
    clippy::panic,
    clippy::unwrap_used
)]

pub mod account;
pub mod body;
pub mod bundle;
pub mod certificate;
mod digest;
pub mod evidence;
pub mod fees;
pub mod genesis;
pub mod header;
pub mod hex;
pub mod ids;
pub mod lane;
pub mod limits;
pub mod refusal;
pub mod report;
pub mod rpc;
pub mod signature;
pub mod state;
pub mod transition;
pub mod tree;
pub mod wire;
