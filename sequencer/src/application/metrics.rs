//! What does the application count?

use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// The application's numbers. A block counts each time it is built or executed, final or not.
#[derive(Default)]
pub struct ApplicationMetrics {
    /// Bodies that this node built as a leader.
    pub built: Counter,
    /// Bundles in them.
    pub built_bundles: Counter,
    /// Facts in them; each claim of an observation is one.
    pub built_facts: Counter,
    /// Bundles that it had chosen and the transition left out.
    pub left_out: Counter,
    /// Bodies of others that were executed.
    pub applied: Counter,
    /// Bodies of others that no honest validator can accept.
    pub invalid: Counter,
    /// Final blocks.
    pub finalized: Counter,
    /// Final blocks that the indexer has to fetch because it was behind.
    pub skipped: Counter,
}

impl ApplicationMetrics {
    /// Adds the numbers to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("application");
        registry.register("built", "Bodies built as a leader", self.built.clone());
        registry.register("built_bundles", "Bundles in bodies built as a leader", self.built_bundles.clone());
        registry.register("built_facts", "Facts in bodies built as a leader", self.built_facts.clone());
        registry.register("left_out", "Chosen bundles that the transition left out", self.left_out.clone());
        registry.register("applied", "Bodies of others that were executed", self.applied.clone());
        registry.register("invalid", "Bodies of others that are invalid for good", self.invalid.clone());
        registry.register("finalized", "Final blocks", self.finalized.clone());
        registry.register("skipped", "Final blocks that the indexer has to fetch", self.skipped.clone());
    }
}
