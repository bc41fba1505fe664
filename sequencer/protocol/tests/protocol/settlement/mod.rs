//! Does the log settle margin transfers as `docs/settlement.md` promises?

mod bad_inputs;
mod books;
pub(crate) mod chain;
mod escrow_model;
mod exhaustive;
mod invariants;
mod proofs;
pub(crate) mod trie;
mod walk;
pub(crate) mod world;
