//! Which numbers does the public network show?
//!
//! Every label is there from the start with zero, so that an alarm can be written before its first event.

use lockstep_protocol::ids::RollupId;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::wire::Fault;

type Label = [(&'static str, &'static str); 1];

/// Counters and gauges of the public network.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Connected peers.
    pub peers: Gauge,
    /// Peers that are kept out now.
    pub blocked: Gauge,
    /// Connections that did not come about, from either side: garbage, limits, blocked peers, unreachable addresses.
    pub failed_connections: Counter,
    /// Lane items of our own that were published.
    pub published: Counter,
    /// Lane items verified, from gossip and ranges.
    pub verified: Counter,
    /// Bytes of lane items served in ranges.
    pub served_bytes: Counter,
    /// Lane items served in ranges.
    pub served_items: Counter,
    gossip: Family<Label, Counter>,
    faults: Family<Label, Counter>,
    requests: Family<Label, Counter>,
    ranges: Family<Label, Counter>,
    bundles: Family<Label, Counter>,
    heights: Family<[(&'static str, u64); 1], Gauge>,
}

/// What became of a gossiped item.
const GOSSIP: [&str; 4] = ["accepted", "ignored", "rejected", "overloaded"];
/// What became of a request to us.
const REQUESTS: [&str; 7] = ["answered", "unknown", "rate_limited", "busy", "malformed", "oversized", "broken"];
/// What became of a range that we asked for.
const RANGES: [&str; 5] = ["items", "tip", "refused", "faulty", "failed"];
/// What became of a bundle that was handed in; refusals by their own reason, once they happen.
const BUNDLES: [&str; 2] = ["taken", "not_ready"];

impl Metrics {
    pub(super) fn new() -> Self {
        let metrics = Self::default();
        for (family, name, labels) in [
            (&metrics.gossip, "verdict", GOSSIP.as_slice()),
            (&metrics.faults, "reason", Fault::REASONS.as_slice()),
            (&metrics.requests, "outcome", REQUESTS.as_slice()),
            (&metrics.ranges, "outcome", RANGES.as_slice()),
            (&metrics.bundles, "outcome", BUNDLES.as_slice()),
        ] {
            for label in labels {
                let _ = family.get_or_create(&[(name, *label)]);
            }
        }
        metrics
    }

    /// Adds everything to a registry, under `public_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("public");
        registry.register("peers", "Connected peers of the public network", self.peers.clone());
        registry.register("blocked_peers", "Peers kept out for what they sent", self.blocked.clone());
        registry.register("failed_connections", "Connections that did not come about", self.failed_connections.clone());
        registry.register("published_items", "Own lane items published", self.published.clone());
        registry.register("verified_items", "Lane items of others verified", self.verified.clone());
        registry.register("served_items", "Lane items served in ranges", self.served_items.clone());
        registry.register("served_bytes", "Bytes of lane items served in ranges", self.served_bytes.clone());
        registry.register("gossip_items", "Gossiped lane items by verdict", self.gossip.clone());
        registry.register("faults", "What peers sent and did not prove, by reason", self.faults.clone());
        registry.register("requests", "Requests of peers by outcome", self.requests.clone());
        registry.register("ranges", "Ranges asked of peers by outcome", self.ranges.clone());
        registry.register("bundles", "Bundles handed in by peers, by outcome", self.bundles.clone());
        registry.register("lane_height", "Height up to which a lane is verified", self.heights.clone());
    }

    /// Gossiped items with a verdict: `accepted`, `ignored`, `rejected` or `overloaded`.
    pub fn gossip(&self, verdict: &'static str) -> u64 {
        self.gossip.get_or_create(&[("verdict", verdict)]).get()
    }

    /// Faults with a reason, as `Fault::reason` names it.
    pub fn faults(&self, reason: &'static str) -> u64 {
        self.faults.get_or_create(&[("reason", reason)]).get()
    }

    /// Requests of peers with an outcome.
    pub fn requests(&self, outcome: &'static str) -> u64 {
        self.requests.get_or_create(&[("outcome", outcome)]).get()
    }

    /// Ranges asked of peers with an outcome.
    pub fn ranges(&self, outcome: &'static str) -> u64 {
        self.ranges.get_or_create(&[("outcome", outcome)]).get()
    }

    /// Bundles handed in by peers: `taken`, or a refusal's reason.
    pub fn bundles(&self, outcome: &'static str) -> u64 {
        self.bundles.get_or_create(&[("outcome", outcome)]).get()
    }

    pub(super) fn count_gossip(&self, verdict: &'static str) {
        self.gossip.get_or_create(&[("verdict", verdict)]).inc();
    }

    pub(super) fn count_fault(&self, fault: &Fault) {
        self.faults.get_or_create(&[("reason", fault.reason())]).inc();
    }

    pub(super) fn count_request(&self, outcome: &'static str) {
        self.requests.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub(super) fn count_range(&self, outcome: &'static str) {
        self.ranges.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub(super) fn count_bundle(&self, outcome: &'static str) {
        self.bundles.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub(super) fn set_height(&self, rollup: RollupId, height: u64) {
        let height = i64::try_from(height).unwrap_or(i64::MAX);
        self.heights.get_or_create(&[("rollup", rollup.0)]).set(height);
    }
}
