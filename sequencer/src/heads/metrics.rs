//! What is counted of rollups' heads?

use std::sync::atomic::{AtomicI64, AtomicU64};

use lockstep_protocol::{genesis::Rules, ids::RollupId};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::facts::RollupLabel;

/// The numbers of watchers.
#[derive(Default)]
pub struct HeadsMetrics {
    /// The newest block of the own rollup node.
    pub height: Family<RollupLabel, Gauge<i64, AtomicI64>>,
    /// Attestations that this validator has signed.
    pub signed: Family<RollupLabel, Counter<u64, AtomicU64>>,
    /// Heads that it did not sign, because it has signed another block of the number.
    pub withheld: Family<RollupLabel, Counter<u64, AtomicU64>>,
    /// Looks at a rollup node that told nothing.
    pub failures: Family<RollupLabel, Counter<u64, AtomicU64>>,
    /// Looks that found seen blocks replaced.
    pub reorganised: Family<RollupLabel, Counter<u64, AtomicU64>>,
}

impl HeadsMetrics {
    /// Adds the numbers to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("heads");
        registry.register("height", "The newest block of the own rollup node", self.height.clone());
        registry.register("signed", "Attestations that this validator has signed", self.signed.clone());
        registry.register("withheld", "Heads not signed: another block of the number was", self.withheld.clone());
        registry.register("failures", "Looks at a rollup node that told nothing", self.failures.clone());
        registry.register("reorganised", "Looks that found seen blocks replaced", self.reorganised.clone());
    }

    /// Zeros for all rollups: a zero is a zero and not a gap.
    pub fn new(rules: &Rules) -> Self {
        let metrics = Self::default();
        for rollup in rules.rollups.keys() {
            let label = label(*rollup);
            drop(metrics.height.get_or_create(&label));
            for counter in [&metrics.signed, &metrics.withheld, &metrics.failures, &metrics.reorganised] {
                drop(counter.get_or_create(&label));
            }
        }
        metrics
    }
}

pub(super) fn label(rollup: RollupId) -> RollupLabel {
    RollupLabel { rollup: rollup.0 }
}
