//! What do programs that nobody here wrote say about our bytes?
//!
//! Test-only: material for the judges under `tests/`. Kona (the OP Stack's derivation in Rust) is the judge of the Optimism
//! adapter, a C zlib that of its zlib streams. Nothing of this is linked into anything that runs.

pub mod l1;
pub mod published;
pub mod traffic;
pub mod transactions;
