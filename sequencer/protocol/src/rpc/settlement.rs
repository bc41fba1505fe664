//! The shapes of the part of the JSON-RPC that is about settlements.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{AssetId, BundleId, Hash32, Height, RollupId, SettlementId},
    lane::LaneItem,
    settlement::{
        DecisionRange, Intent, Observation, SignedAbort, SignedLease, Void,
        records::{RollupRecord, SettlementRecord},
    },
};

/// Result of `lockstep_getSettlement` and `lockstep_waitSettlement`: where a settlement stands. Not proven: prove its record with
/// `lockstep_getState`, its decision with `lockstep_getDecisions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettlementStatus {
    /// Which.
    pub settlement: SettlementId,
    /// What it moves.
    pub intent: Intent,
    /// The bundle that carried it, and its block. Absent where it was aborted without ever having been ordered.
    pub ordered: Option<OrderedBy>,
    /// How the state has it.
    pub record: SettlementRecord,
    /// The last block that changed the record.
    pub changed: Height,
    /// Height known to the node.
    pub tip: Height,
}

/// The bundle that carried a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderedBy {
    /// Which.
    pub bundle: BundleId,
    /// In this block.
    pub height: Height,
}

/// Result of `lockstep_getUnsettled`: settlements with a leg on a rollup that were not seen applied on every leg, by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnsettledPage {
    /// They.
    pub settlements: Vec<SettlementStatus>,
    /// If there are more: ask for those after this one.
    pub next: Option<SettlementId>,
    /// Height known to the node.
    pub tip: Height,
}

/// Result of `lockstep_getDecisions`: what a rollup's hub needs to take decisions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionPage {
    /// Consecutive decisions, from the number asked for.
    pub range: DecisionRange,
    /// The settlement of each.
    pub intents: Vec<Intent>,
    /// The lane where the range ends, without entries. Absent if there are no such decisions yet.
    pub item: Option<LaneItem>,
}

/// Result of `lockstep_getRollupStatus`: what the log knows of a rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollupStatus {
    /// Which.
    pub rollup: RollupId,
    /// How the state has it. All zero before the first head.
    pub record: RollupRecord,
    /// Whether a settlement that touches it is taken now.
    pub healthy: bool,
    /// Decisions in its lane so far.
    pub decision_sequence: u64,
    /// Height known to the node.
    pub tip: Height,
}

/// One of the result of `lockstep_getCorridors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CorridorStatus {
    /// Where it is debited.
    pub from: RollupId,
    /// Where it is credited.
    pub to: RollupId,
    /// What.
    pub asset: AssetId,
    /// Most that may be under way.
    #[serde(with = "crate::decimal")]
    pub cap: u128,
    /// What is under way.
    #[serde(with = "crate::decimal")]
    pub under_way: u128,
}

/// What `lockstep_sendFact` takes: something for the log to believe. Heads are not among them, only validators sign those.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fact {
    /// Legs or deposits, shown against a head.
    Observation(Observation),
    /// A settlement that was never ordered, and stands prepared.
    Void(Void),
    /// Who posts for a rollup.
    Lease(SignedLease),
    /// An owner takes back a settlement.
    Abort(SignedAbort),
}

/// Result of `lockstep_sendFact`. The fact is offered to leaders until the log has it, or has no use for it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FactSent {
    /// Digest of the fact.
    pub digest: Hash32,
    /// Height known to the node that took it.
    pub height: Height,
}

/// `data` of a refused fact, with code `REFUSED`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}: {detail}")]
#[serde(rename_all = "camelCase")]
pub struct FactRefused {
    /// The stable reason.
    pub reason: String,
    /// The facts of it, for a person.
    pub detail: String,
}
