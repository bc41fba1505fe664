//! How does everybody who is no validator get the lanes, and hand in bundles?
//!
//! Over libp2p (TCP with noise and yamux, or QUIC). Four things travel:
//!
//! ```text
//! lane gossip    lockstep/<net>/lane/<rollup>/1     gossipsub, one topic a lane: lane items as they become final
//! ranges         /lockstep/<net>/lane-range/1       request-response: the items of a lane from a height
//! bundles        /lockstep/<net>/bundle/1           request-response: a signed bundle in, its id or a refusal out
//! discovery      /lockstep/<net>/kad/1, identify    who else is there
//! ```
//!
//! `<net>` is the start of the network's id in hexadecimal. A lane item carries its own proof, so it does not matter who
//! serves it: whoever holds a range may serve it ([`mirror`] does nothing else), and whoever sends an item that does not
//! prove itself is refused, counted and blocked for a while.
//!
//! It does not know validators, blocks or state: a node lends it a [`LaneSource`] and a [`BundleSink`].

use std::sync::Arc;

use futures::future::BoxFuture;
use lockstep_protocol::{
    bundle::SignedBundle,
    ids::{BundleId, Height, NetworkId, RollupId},
    lane::LaneItem,
    refusal::Refusal,
    rpc::{LanePage, QueryError},
};
use tokio::sync::broadcast;

mod actor;
mod backfill;
mod behaviour;
mod config;
mod error;
mod frames;
mod framing;
mod handle;
mod lanes;
mod lent;
mod metrics;
pub mod mirror;
mod names;
mod peers;
mod requests;
mod serve;
mod service;
mod verifier;
mod wire;

pub use config::PublicConfig;
pub use error::{StartError, Stopped, SubmitError};
pub use handle::{Handle, Status};
pub use lent::Lent;
pub use libp2p::{Multiaddr, PeerId};
pub use metrics::Metrics;
pub use service::{Service, Setup};
pub use wire::{BundleAnswer, Fault, RangeAnswer, RangeRequest};

#[cfg(test)]
mod tests;

/// The lanes that somebody holds: a node's index and archive, or a mirror's file.
pub trait LaneSource: Send + Sync + 'static {
    /// At most `max_items` items with entries, by height, from `from_height`; with the proof of the tip where the page reaches
    /// it. As `lockstep_getLane` answers. Items and proof are of one moment: an item between them that is left out looks like
    /// a lie to who verifies them.
    fn page(
        &self,
        rollup: RollupId,
        from_height: Height,
        max_items: usize,
    ) -> BoxFuture<'_, Result<LanePage, QueryError>>;

    /// The latest item, with entries or without; `None` if nothing is here yet.
    fn latest(&self, rollup: RollupId) -> BoxFuture<'_, Result<Option<LaneItem>, QueryError>>;

    /// Items with entries from now on, each lane's by height. Items without entries are passed over.
    fn subscribe(&self) -> broadcast::Receiver<Arc<LaneItem>>;
}

/// Where bundles from the public network go.
pub trait BundleSink: Send + Sync + 'static {
    /// Admits a bundle, or says why not. The same bundle again has the same answer.
    fn submit(&self, bundle: SignedBundle) -> BoxFuture<'_, Result<BundleId, Refusal>>;
}

/// How a network is called on the wire: 8 bytes of its id, enough to keep networks apart that share a machine. What is
/// believed depends on signatures alone.
fn wire_name(network: NetworkId) -> String {
    let id = network.to_string();
    id.trim_start_matches("0x").chars().take(16).collect()
}
