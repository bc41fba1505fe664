//! What can an operator choose about the public network?
//!
//! The same section serves a node (`[public]` in its TOML) and a mirror (its command line).

use std::path::PathBuf;

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};

/// Where to listen, whom to join, how many to serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PublicConfig {
    /// File of the ed25519 key that names this peer, never the validator's. Made if it is missing.
    pub key: PathBuf,
    /// Addresses to listen on. None: this peer only calls others.
    pub listen: Vec<Multiaddr>,
    /// Addresses at which others reach this peer, where they differ from those it listens on.
    pub external: Vec<Multiaddr>,
    /// Peers to join the network through. Best with `/p2p/<peer id>` at the end, so that no other answers for them.
    pub bootstrap: Vec<Multiaddr>,
    /// Connections from others, at most.
    pub max_incoming: u32,
    /// How long a peer that sent what does not prove itself is kept out, seconds.
    pub block_seconds: u64,
    /// How long a quiet lane is left before a peer is asked for it, milliseconds. A mirror's worst delay where gossip fails.
    pub poll_ms: u64,
}

impl Default for PublicConfig {
    fn default() -> Self {
        Self {
            key: "public.key".into(),
            listen: Vec::new(),
            external: Vec::new(),
            bootstrap: Vec::new(),
            max_incoming: 256,
            block_seconds: 600,
            poll_ms: 5_000,
        }
    }
}

impl PublicConfig {
    /// Checks ranges. The text names the rule that does not hold.
    pub fn check(&self) -> Result<(), &'static str> {
        let rules = [
            (self.block_seconds > 0, "public.block_seconds must be at least 1"),
            (self.block_seconds <= 30 * 86_400, "public.block_seconds must not exceed 30 days"),
            ((100..=3_600_000).contains(&self.poll_ms), "public.poll_ms must be 100 to 3600000"),
            (self.max_incoming <= 65_536, "public.max_incoming must not exceed 65536"),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(rule))
    }
}
