//! What is counted of facts?

use lockstep_protocol::{
    genesis::Rules,
    ids::{Hash32, RollupId},
    rpc::Fact,
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::labels::{ReasonLabel, ValidatorLabel};

/// The numbers of facts.
#[derive(Default)]
pub struct FactsMetrics {
    /// Facts that wait for a block.
    pub waiting: Gauge,
    /// Facts that are held until the log can tell.
    pub held: Gauge,
    /// Facts found true, by kind; each claim of an observation is one.
    pub proven: Family<KindLabel, Counter>,
    /// Facts that were not taken, by reason.
    pub refused: Family<ReasonLabel, Counter>,
    /// Facts that waited and were ordered.
    pub ordered: Counter,
    /// Facts that waited or were held, and came to nothing.
    pub dropped: Counter,
    /// Attestations that were new, by rollup.
    pub attestations: Family<RollupLabel, Counter>,
    /// Head certificates that this node has assembled, by rollup.
    pub certificates: Family<RollupLabel, Counter>,
    /// Attestations that contradict an earlier one of the same validator.
    pub equivocations: Family<ValidatorLabel, Counter>,
}

/// Which kind of fact.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    /// Its name.
    pub kind: &'static str,
}

/// Which rollup.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RollupLabel {
    /// Its id.
    pub rollup: u64,
}

impl FactsMetrics {
    /// Adds the numbers to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("facts");
        registry.register("waiting", "Facts that wait for a block", self.waiting.clone());
        registry.register("held", "Facts that are held until the log can tell", self.held.clone());
        registry.register("proven", "Facts found true, by kind", self.proven.clone());
        registry.register("refused", "Facts that were not taken, by reason", self.refused.clone());
        registry.register("ordered", "Facts that waited and were ordered", self.ordered.clone());
        registry.register("dropped", "Facts that came to nothing", self.dropped.clone());
        registry.register("attestations", "New attestations of heads, by rollup", self.attestations.clone());
        registry.register("certificates", "Head certificates assembled, by rollup", self.certificates.clone());
        registry.register("equivocations", "Attestations against an earlier one", self.equivocations.clone());
    }

    /// Zeros for everything that is known beforehand: a zero is a zero and not a gap.
    pub(crate) fn prepare(&self, rules: &Rules) {
        for kind in KINDS {
            drop(self.proven.get_or_create(&KindLabel { kind }));
        }
        drop(self.refused.get_or_create(&ReasonLabel { reason: "malformed" }));
        for rollup in rules.rollups.keys() {
            for family in [&self.attestations, &self.certificates] {
                drop(family.get_or_create(&RollupLabel { rollup: rollup.0 }));
            }
        }
    }

    pub(crate) fn proven(&self, fact: &Fact) {
        self.proven.get_or_create(&KindLabel { kind: kind(fact) }).inc();
    }

    pub(crate) fn refuse(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn attested(&self, rollup: RollupId) {
        self.attestations.get_or_create(&RollupLabel { rollup: rollup.0 }).inc();
    }

    pub(crate) fn certified(&self, rollup: RollupId) {
        self.certificates.get_or_create(&RollupLabel { rollup: rollup.0 }).inc();
    }

    pub(crate) fn equivocated(&self, validator: Hash32) {
        self.equivocations.get_or_create(&ValidatorLabel { validator: validator.to_string() }).inc();
    }
}

const KINDS: [&str; 4] = ["claim", "void", "lease", "abort"];

fn kind(fact: &Fact) -> &'static str {
    match fact {
        Fact::Observation(_) => KINDS[0],
        Fact::Void(_) => KINDS[1],
        Fact::Lease(_) => KINDS[2],
        Fact::Abort(_) => KINDS[3],
    }
}
