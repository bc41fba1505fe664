//! Do the contracts, the log and the relayer settle together what they promise, on an EVM, with real certificates?
//!
//! The log is `lockstep-protocol`'s own, the contracts are the committed artifacts, the rollups are embedded nodes.

#[path = "../../../sequencer/protocol/tests/protocol/settlement/escrow_model.rs"]
mod escrow_model;
#[path = "../../../sequencer/protocol/tests/protocol/fixture.rs"]
mod fixture;

mod book;
mod city;
mod contracts;
mod differential;
mod lease;
mod relay;
mod venue;
mod world;
