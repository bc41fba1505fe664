//! Does a client that knows one key get the truth from nodes of which some are dead, slow, or lying?
//!
//! Nodes are real JSON-RPC servers over a chain that the protocol's own transition made, with state proofs from the
//! database that validators use. One BLS key stands for the group.

mod fork;
mod lanes;
mod lies;
mod node;
mod outcomes;
mod reports;
mod rollup;
mod settlements;
mod settling;
mod transfers;
mod world;
