//! What a bundle and a lane are, and what ordering does to them. Pure.
//!
//! No runtime, clock, file, socket, float or randomly seeded map: everything here is a function of its arguments, so that
//! every validator, client and contract agrees on it. `docs/protocol.md` describes every byte and rule; clippy.toml bans
//! what would break the purity.
//!
//! A bundle is made, signed and sent; whoever reads the bytes checks them before believing anything:
//!
//! ```
//! use lockstep_protocol::{
//!     bundle::{Bundle, Kind, Leg, SignedBundle, Tag, Transaction},
//!     ids::{Height, NetworkId, RollupId},
//!     signature::AccountKey,
//!     wire::Wire,
//! };
//!
//! let network = NetworkId::from_name("lockstep-testnet-1");
//! let key = AccountKey::ed25519([7; 32]);
//! let leg = |rollup| Leg { rollup: RollupId(rollup), transactions: vec![Transaction(vec![2, 0xf8])] };
//! let bundle = Bundle {
//!     network,
//!     account: key.account(),
//!     nonce: 0,
//!     tag: Tag(*b"my first bundle!"),
//!     valid_until: Height(120),
//!     tip: 1,
//!     max_fee: 1_000,
//!     legs: vec![leg(10), leg(901)],
//!     kind: Kind::Plain,
//! };
//! let bytes = bundle.sign(&key).to_wire();
//!
//! let signed = SignedBundle::from_wire(&bytes)?;
//! signed.bundle.check_shape(network)?;
//! signed.check_signature()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
mod decimal;
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
pub mod settlement;
pub mod signature;
pub mod state;
pub mod transition;
pub mod tree;
pub mod wire;
