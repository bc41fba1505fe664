//! What a market maker links.
pub use lockstep_protocol as protocol;
pub mod bundle;
pub mod client;
pub mod error;
mod feed;
pub mod follow;
mod node;
mod nodes;
pub mod proof;
pub mod reports;
mod rpc;
pub mod submit;
pub mod trust;
pub use bundle::BundleBuilder;
pub use client::Client;
