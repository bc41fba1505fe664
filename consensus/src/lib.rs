//! Replicates a log with authenticated state among a set of validators.
//!
//! The log knows headers and opaque bodies; what a body means is the business of a [`machine::Machine`]. A third of the
//! validators, less one, may crash, lie or be cut off without two honest validators ever disagreeing on a block or on the
//! state after it.
//!
//! ```text
//!              wake                         candidate, keys, build, apply
//! Handle ------------> pacing ---> application <------------------------> Machine
//!   | read, prove        ^             |                                     ^
//!   |                    | propose     v                                     |
//!   +--> reader ----> state (QMDB) <---+--- final blocks, in order ----------+
//!   | block, finality    |             ^
//!   +--> archive <---- marshal <---- simplex <--- votes ---> other validators
//! ```
//!
//! * [`machine`]: what a state machine offers, [`block`]: what travels, [`handle`]: what a node asks.
//! * `application`: how a block changes the state, `pacing`: when to propose, `repeat`: what is said twice, `engine`: how
//!   the parts are wired.
//! * [`node`]: a validator on sockets and a disk, `dialing`: who dials whom, [`simulate`]: a network of them in one deterministic process.
//! * [`proof`]: what a third party checks of the state. Certificates are `lockstep-protocol`'s.
//!
//! One epoch and a trusted dealer for now; the epoch is in every header and certificate, and in the names of partitions.

mod application;
pub mod block;
mod channels;
pub mod config;
mod dialing;
mod engine;
mod finality;
pub mod handle;
pub mod keys;
pub mod machine;
pub mod node;
mod pacing;
pub mod proof;
mod reader;
mod record;
mod repeat;
pub mod simulate;
mod storage;
mod tip;
mod types;

pub use application::KEYS_MAX;
