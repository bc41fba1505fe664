//! The public network over loopback: real swarms, real items, one BLS key as the group.

mod bundles;
mod chain;
mod garbage;
mod gossip;
mod judging;
mod lies;
mod mirrors;
mod world;
