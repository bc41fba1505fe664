//! Do driver and poster keep their promises against real nodes, whatever happens to them, to the nodes and to L1?
//!
//! An embedded L1 and embedded execution clients behind their real interfaces, a lane in memory, and proxies that misbehave.

#[path = "../settlement/book.rs"]
mod book;
#[path = "../../../sequencer/protocol/tests/protocol/fixture.rs"]
mod fixture;

mod anvil;
mod driver;
mod lane;
mod op_geth;
mod op_node;
mod poster;
mod process;
mod proxy;
mod sender;
mod stock;
mod world;
