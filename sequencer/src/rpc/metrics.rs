//! What do calls, subscriptions and levels count?

use lockstep_protocol::{ids::RollupId, rpc::codes};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// What calls count.
#[derive(Default)]
pub struct CallMetrics {
    pub(super) calls: Family<MethodLabel, Counter>,
    pub(super) errors: Family<CodeLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct MethodLabel {
    pub(super) method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CodeLabel {
    pub(super) code: i32,
}

impl CallMetrics {
    /// Adds the numbers to a registry.
    pub fn register(&self, registry: &mut Registry) {
        // A zero is a zero and not a gap.
        let codes = [codes::INVALID_PARAMS, codes::INTERNAL, codes::NOT_FOUND, codes::UNAVAILABLE, codes::REFUSED];
        for code in codes.into_iter().chain([codes::LIMIT]) {
            drop(self.errors.get_or_create(&CodeLabel { code }));
        }
        registry.register("calls", "Calls by method; what is no method counts as unknown", self.calls.clone());
        registry.register("errors", "Calls that were answered with an error, by its code", self.errors.clone());
    }
}

/// What subscriptions count.
#[derive(Default)]
pub struct SubscriptionMetrics {
    /// Subscriptions that run.
    pub open: Gauge,
    /// Messages sent.
    pub sent: Counter,
    /// Subscribers that were cut off because they took nothing.
    pub slow: Counter,
}

impl SubscriptionMetrics {
    /// Adds the numbers to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("subscriptions", "Subscriptions that run", self.open.clone());
        registry.register("subscription_messages", "Messages sent to subscribers", self.sent.clone());
        registry.register("slow_subscribers", "Subscribers cut off because they took nothing", self.slow.clone());
    }
}

/// All that may come of a look: the reasons of refusals, and two that are no refusals.
const ANSWERS: [&str; 9] =
    ["told", "ahead", "away", "status", "too_large", "malformed", "another_rollup", "another_l1", "another_block"];

/// What became of looks at posters.
#[derive(Clone, Default)]
pub struct LevelsMetrics {
    /// Looks, by rollup and by what came of them.
    pub(super) posters: Family<LookLabel, Counter>,
}

/// A look at a poster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LookLabel {
    pub(super) rollup: u64,
    /// `told`, or why not.
    pub(super) answer: &'static str,
}

impl LevelsMetrics {
    /// Adds the numbers to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("levels");
        registry.register("posters", "Looks at posters' status pages, by what came of them", self.posters.clone());
    }

    /// Zeros for these rollups: a zero is a zero and not a gap.
    pub fn begin(&self, rollups: impl Iterator<Item = RollupId>) {
        for rollup in rollups {
            for answer in ANSWERS {
                drop(self.posters.get_or_create(&LookLabel { rollup: rollup.0, answer }));
            }
        }
    }
}
