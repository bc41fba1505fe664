//! lockstep-sequencer
pub mod admission;
pub mod application;
pub mod formats;
pub mod gossip;
pub mod pool;
