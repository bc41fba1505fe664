//! How much of the pool and of a block is each class of bundles sure of, and what must hold of a class in any state?
//!
//! The protocol orders a body by class: liquidations within a share of each lane, settlements, all others. Here are the bounds
//! that keep one class from taking what the others need before the transition has judged anything.

use lockstep_protocol::{
    body::Class,
    bundle::Bundle,
    genesis::{Rollup, Rules},
    ids::Height,
    limits::{MAX_DEADLINE, MAX_LANE_BYTES, MIN_DEADLINE},
    refusal::Refusal,
};

/// All classes, in the order of a body.
pub(crate) const CLASSES: [Class; 3] = [Class::Liquidation, Class::Settlement, Class::Plain];

/// Eighths of the pool's memory that each class is sure of: what others borrow of it they give back. Liquidators are few, and
/// settlements are bounded by their corridors.
const MEMORY_EIGHTHS: [usize; CLASSES.len()] = [1, 3, 4];
/// Of a body and of each lane, settlements leave one part in so many to plain bundles, as long as some wait. Whether a settlement
/// can be opened is only seen when the block is built: many that cannot would else fill every body with nothing.
const PLAIN_PART: usize = 4;

/// The class that a bundle of good shape has, as [`lockstep_protocol::body::CheckedBundle`] tells it of one that was verified.
pub(crate) fn class(bundle: &Bundle, rules: &Rules) -> Class {
    let registered = |rollup: &Rollup| rollup.liquidators.binary_search(&bundle.account).is_ok();
    let liquidates = bundle.legs.iter().all(|leg| rules.rollups.get(&leg.rollup).is_some_and(registered));
    if bundle.transfer().is_some() {
        Class::Settlement
    } else if liquidates {
        Class::Liquidation
    } else {
        Class::Plain
    }
}

/// Refuses what no state could let in: a settlement without a corridor, a liquidation above the whole share of a lane.
pub(crate) fn check(bundle: &Bundle, rules: &Rules) -> Result<(), Refusal> {
    for flow in bundle.transfer().map(|transfer| transfer.flows()).transpose()?.unwrap_or_default() {
        if rules.settlement.corridor_index(flow.from, flow.to, flow.asset).is_none() {
            return Err(Refusal::NoCorridor { from: flow.from, to: flow.to, asset: flow.asset });
        }
    }
    if class(bundle, rules) == Class::Liquidation
        && let Some(leg) = bundle.legs.iter().find(|leg| leg.bytes() > rules.rollups[&leg.rollup].liquidation_bytes)
    {
        return Err(Refusal::LiquidationFull { rollup: leg.rollup });
    }
    Ok(())
}

/// Whether a settlement's deadline can be met by a block at `height`.
pub(crate) fn check_deadline(bundle: &Bundle, height: Height) -> Result<(), Refusal> {
    let Some(deadline) = bundle.transfer().map(|transfer| transfer.deadline) else { return Ok(()) };
    let min = Height(height.0.saturating_add(MIN_DEADLINE));
    let max = Height(height.0.saturating_add(MAX_DEADLINE));
    if deadline < min || deadline > max { Err(Refusal::BadDeadline { deadline, min, max }) } else { Ok(()) }
}

/// The last height at which a bundle can be ordered.
pub(crate) fn last_height(bundle: &Bundle) -> Height {
    let opened = bundle.transfer().map(|transfer| Height(transfer.deadline.0.saturating_sub(MIN_DEADLINE)));
    opened.map_or(bundle.valid_until, |opened| opened.min(bundle.valid_until))
}

/// Whether a settlement that was left out for this may be opened in a later block.
pub(crate) fn may_pass(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::BadDeadline { .. }
            | Refusal::SettlementKnown { .. }
            | Refusal::RollupQuarantined { .. }
            | Refusal::RollupSilent { .. }
            | Refusal::TooManySettlements { .. }
            | Refusal::AccountCapReached { .. }
            | Refusal::CorridorFull { .. }
            | Refusal::DeadlineFull { .. }
    )
}

/// Bytes of a pool of `bytes` that a class is sure of.
pub(crate) fn memory(class: Class, bytes: usize) -> usize {
    bytes / 8 * MEMORY_EIGHTHS[class as usize]
}

/// What of `bytes` is kept for plain bundles.
pub(crate) fn kept_for_plain(bytes: usize) -> usize {
    bytes / PLAIN_PART
}

/// The same of a lane.
pub(crate) fn lane_kept_for_plain() -> u64 {
    MAX_LANE_BYTES / PLAIN_PART as u64
}
