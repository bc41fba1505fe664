//! What does the pool count?

use lockstep_protocol::refusal::Refusal;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::labels::ReasonLabel;

/// Reasons that are exported from the start, so that a zero is a zero and not a gap.
const REASONS: [&str; 20] = [
    "bad_signature",
    "cancel_pending",
    "expired",
    "fee_too_low",
    "insufficient_balance",
    "malformed_transaction",
    "nonce_below_window",
    "nonce_too_far_ahead",
    "nonce_used",
    "not_ready",
    "nothing_to_cancel",
    "oversized_bundle",
    "pool_full",
    "replacement_underpriced",
    "too_many_open",
    "unknown_account",
    "unknown_rollup",
    "validity_too_far",
    "wrong_chain_id",
    "wrong_network",
];

/// The same for settlements that wait because they cannot be opened yet.
const HELD_REASONS: [&str; 8] = [
    "account_cap_reached",
    "bad_deadline",
    "corridor_full",
    "deadline_full",
    "rollup_quarantined",
    "rollup_silent",
    "settlement_known",
    "too_many_settlements",
];

/// The pool's numbers.
#[derive(Default)]
pub struct PoolMetrics {
    /// Bundles that wait.
    pub bundles: Gauge,
    /// Cancels that wait.
    pub cancels: Gauge,
    /// Memory that waiting bundles count for.
    pub bytes: Gauge,
    /// Bundles that clients of this node brought in.
    pub admitted: Counter,
    /// Bundles that other validators brought in.
    pub received: Counter,
    /// Bundles of clients that were refused.
    pub refused: Family<ReasonLabel, Counter>,
    /// Bundles of other validators that were not taken.
    pub not_taken: Family<ReasonLabel, Counter>,
    /// Bundles that left without having been ordered.
    pub dropped: Family<ReasonLabel, Counter>,
    /// Settlements that could not be opened in a block and wait.
    pub held: Family<ReasonLabel, Counter>,
    /// Bundles that waited here and were ordered.
    pub ordered: Counter,
    /// Cancels that were let in.
    pub cancels_admitted: Counter,
    /// Bundles and cancels that were not passed on because too many were queued.
    pub outbox_dropped: Counter,
}

impl PoolMetrics {
    /// Adds the numbers to a registry.
    pub fn register(&self, registry: &mut Registry) {
        for reason in REASONS {
            for family in [&self.refused, &self.not_taken, &self.dropped] {
                drop(family.get_or_create(&ReasonLabel { reason }));
            }
        }
        for reason in HELD_REASONS {
            drop(self.held.get_or_create(&ReasonLabel { reason }));
        }
        let registry = registry.sub_registry_with_prefix("pool");
        registry.register("bundles", "Bundles that wait", self.bundles.clone());
        registry.register("cancels", "Cancels that wait", self.cancels.clone());
        registry.register("bytes", "Memory that waiting bundles count for", self.bytes.clone());
        registry.register("admitted", "Bundles that clients brought in", self.admitted.clone());
        registry.register("received", "Bundles that other validators brought in", self.received.clone());
        registry.register("refused", "Bundles of clients that were refused", self.refused.clone());
        registry.register("not_taken", "Bundles of other validators that were not taken", self.not_taken.clone());
        registry.register("dropped", "Bundles that left without being ordered", self.dropped.clone());
        registry.register("held", "Settlements that could not be opened in a block and wait", self.held.clone());
        registry.register("ordered", "Bundles that waited here and were ordered", self.ordered.clone());
        registry.register("cancels_admitted", "Cancels that were let in", self.cancels_admitted.clone());
        registry.register(
            "outbox_dropped",
            "Items that were not passed on for lack of room",
            self.outbox_dropped.clone(),
        );
    }

    pub(crate) fn refuse(family: &Family<ReasonLabel, Counter>, refusal: &Refusal) {
        family.get_or_create(&ReasonLabel { reason: refusal.reason() }).inc();
    }
}
