//! What has the index learned since it last wrote to its file?

use std::collections::{BTreeMap, HashMap};

use borsh::{BorshDeserialize, BorshSerialize};
use lockstep_protocol::{
    header::Header,
    ids::{BundleId, Hash32, Height, RollupId, SettlementId},
    lane::LaneLeaf,
    report::Report,
    settlement::{Intent, LaneDecision},
    state::{Key, Record},
};

/// Rows of consecutive heights. Later ones take the place of earlier ones.
#[derive(Default)]
pub(super) struct Layer {
    /// The last of the heights; none in an empty layer.
    pub(super) tip: Option<Header>,
    pub(super) records: HashMap<Key, Record>,
    pub(super) bundles: HashMap<BundleId, BundleRow>,
    pub(super) leaves: BTreeMap<(RollupId, Height), LaneLeaf>,
    /// By the account's key and the report's number.
    pub(super) reports: BTreeMap<(Key, u64), ReportRow>,
    pub(super) settlements: BTreeMap<SettlementId, SettlementRow>,
    /// By the lane and the decision's number.
    pub(super) decisions: BTreeMap<(RollupId, u64), DecisionRow>,
    /// Whether a settlement waits for something on a rollup. `false` takes it away.
    pub(super) unsettled: BTreeMap<(RollupId, SettlementId), bool>,
}

/// Where a bundle was ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BundleRow {
    pub(super) height: Height,
    pub(super) fee: u64,
    /// Bit `n` stands for the network's `n`th rollup.
    pub(super) legs: u64,
}

/// A report, and the chain before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReportRow {
    pub(super) before: Hash32,
    pub(super) report: Report,
}

impl Layer {
    /// Adds the rows of later heights.
    pub(super) fn merge(&mut self, later: Self) {
        self.tip = later.tip.or(self.tip.take());
        self.records.extend(later.records);
        self.bundles.extend(later.bundles);
        self.leaves.extend(later.leaves);
        self.reports.extend(later.reports);
        self.settlements.extend(later.settlements);
        self.decisions.extend(later.decisions);
        self.unsettled.extend(later.unsettled);
    }

    pub(super) fn rows(&self) -> usize {
        let settlements = self.settlements.len() + self.decisions.len() + self.unsettled.len();
        self.records.len() + self.bundles.len() + self.leaves.len() + self.reports.len() + settlements
    }
}

/// A settlement, as far as its record does not tell.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct SettlementRow {
    pub(super) intent: Intent,
    /// The bundle and its height; none where it was only ever aborted.
    pub(super) ordered: Option<([u8; 32], u64)>,
    pub(super) changed: u64,
}

/// A decision of a lane.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct DecisionRow {
    /// The block that decided.
    pub height: Height,
    /// The lane's chain of decisions before it.
    pub before: Hash32,
    /// The decision.
    pub decision: LaneDecision,
    /// What it is of.
    pub intent: Intent,
}
