//! Were the promises kept?
//!
//! Judges a finished run from what was written down during it, and from what was read at its end. Asks nobody.

use std::fmt;

use lockstep_protocol::{
    ids::{Height, RollupId},
    lane::LaneLeaf,
};
use serde::Serialize;

use crate::{
    ledger::{Closing, Ledger},
    network::ROLLUPS,
    rollups::StockView,
    venues::{
        conservation::{Auditor, Totals},
        settlements,
    },
};

/// A promise, and whether it was kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Promise {
    /// What was promised.
    pub promise: &'static str,
    /// Whether it was kept.
    pub kept: bool,
    /// What that is told from, or how it was broken.
    pub detail: String,
}

/// A lane as one follower left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneEnd {
    /// Which follower.
    pub follower: usize,
    /// The lane, as far as it was verified.
    pub leaf: LaneLeaf,
    /// The height up to which it was verified.
    pub height: Height,
    /// Why it was verified no further.
    pub error: Option<String>,
}

/// Credits at the end, proven by state proofs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credits {
    /// Dealt at genesis.
    pub supply: u64,
    /// Held by all accounts together.
    pub accounts: u64,
    /// Paid as fees.
    pub treasury: u64,
}

/// How far a rollup came with what was ordered for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Execution {
    /// The rollup.
    pub rollup: RollupId,
    /// The newest block with transactions when it was looked at.
    pub height: u64,
    /// Transactions of the traffic and of the venues' players that were ordered.
    pub ordered: u64,
    /// Those of them that its state does not have.
    pub missing: u64,
    /// The newest block that L1 leads to.
    pub derived: u64,
    /// Whether all blocks that L1 leads to are the executed ones.
    pub agreed: bool,
    /// What stock software makes of L1 alone, where there is any.
    pub stock: Option<StockView>,
    /// What its driver or poster waits for.
    pub trouble: Option<String>,
}

/// Judges what the rollups did.
pub fn executed(rollups: &[Execution]) -> Promise {
    let broken = rollups.iter().find_map(|execution| {
        let Execution { rollup, height, ordered, missing, derived, agreed, stock, trouble } = execution;
        let waits = trouble.as_ref().map(|trouble| format!(" ({trouble})")).unwrap_or_default();
        if *missing > 0 {
            Some(format!("rollup {rollup} lacks {missing} of {ordered} ordered transactions{waits}"))
        } else if !agreed {
            Some(format!("rollup {rollup}: L1 leads to other blocks than were executed{waits}"))
        } else if derived < height {
            Some(format!("rollup {rollup} executed up to block {height}, L1 leads to {derived} only{waits}"))
        } else {
            stock.and_then(|stock| match stock.safe {
                _ if !stock.agreed => Some(format!("rollup {rollup}: op-node derives other blocks than were executed")),
                Some(safe) if safe >= *height => None,
                Some(safe) => {
                    Some(format!("rollup {rollup} executed up to block {height}, L1 leads op-node to {safe} only"))
                }
                None => Some(format!("rollup {rollup}: nobody could compare op-node's blocks with the executed ones")),
            })
        }
    });
    let found = match broken {
        Some(broken) => Err(broken),
        None if rollups.is_empty() => Err("there are no rollups".to_owned()),
        None => {
            let each = rollups.iter().map(|execution| {
                let Execution { rollup, ordered, derived, stock, .. } = execution;
                let stock =
                    stock.and_then(|stock| Some(format!(", by op-node up to {}", stock.safe?))).unwrap_or_default();
                format!(
                    "rollup {rollup} executed {ordered} transactions, the same from L1 up to block {derived}{stock}"
                )
            });
            Ok(each.collect::<Vec<_>>().join("; "))
        }
    };
    verdict("rollups execute their lanes, and L1 leads to the same blocks", found)
}

/// Judges the margin of the venues: S3, S5 and S6 of docs/settlement.md, and that no transfer is stuck.
pub fn margin(settlements: &settlements::View, auditor: &Auditor) -> Promise {
    let settlements::Counts { ordered, committed, aborted, .. } = &settlements.counts;
    let (undecided, unapplied, aborts) = (settlements.undecided, settlements.unapplied, aborted.values().sum::<u64>());
    let found = if !auditor.breaches().is_empty() {
        Err(auditor.breaches().to_string())
    } else if auditor.checks() == 0 {
        Err("nobody could read the venues' books".to_owned())
    } else if undecided + unapplied + auditor.under_way() > 0 {
        Err(format!(
            "{undecided} settlements are undecided, {unapplied} not applied everywhere, {} legs not at rest",
            auditor.under_way()
        ))
    } else {
        let Totals { paid_in, claims, .. } = auditor.totals();
        let each = ROLLUPS.iter().zip(claims).map(|((rollup, _), units)| format!("{units} on {rollup}"));
        Ok(format!(
            "{ordered} transfers: {committed} committed, {aborts} aborted, all applied; {paid_in} paid in = {}; checked {} times",
            each.collect::<Vec<_>>().join(" + "),
            auditor.checks()
        ))
    };
    verdict("margin is conserved, and moves on both rollups or on none", found)
}

/// Judges a run. `up_to` is the last height at which something was ordered for anybody.
pub fn judge(ledger: &mut Ledger, lanes: &[LaneEnd], up_to: Height, credits: Result<Credits, String>) -> Vec<Promise> {
    let closing = ledger.close();
    vec![
        outcomes(ledger, &closing),
        atomic(ledger, &closing),
        no_gap(lanes, up_to),
        agreement(lanes),
        conservation(ledger, credits),
    ]
}

/// Whether all were kept.
pub fn all_kept(promises: &[Promise]) -> bool {
    promises.iter().all(|promise| promise.kept)
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = if self.kept { "kept  " } else { "BROKEN" };
        write!(f, "{kept}  {}: {}", self.promise, self.detail)
    }
}

fn verdict(promise: &'static str, found: Result<String, String>) -> Promise {
    let kept = found.is_ok();
    Promise { promise, kept, detail: found.unwrap_or_else(|broken| broken) }
}

fn outcomes(ledger: &Ledger, closing: &Closing) -> Promise {
    let counts = ledger.counts();
    let not_ordered: u64 = counts.not_ordered.values().sum();
    let found = if closing.without_outcome.is_empty() {
        let doubtful = match closing.doubtful {
            0 => String::new(),
            count => format!("; {count} were never answered for"),
        };
        Ok(format!(
            "{} accepted; {} ordered and {not_ordered} not, each proven{doubtful}",
            counts.accepted, counts.ordered
        ))
    } else {
        Err(closing.without_outcome.to_string())
    };
    verdict("every accepted bundle has exactly one certain outcome", found)
}

fn atomic(ledger: &Ledger, closing: &Closing) -> Promise {
    let found = if !ledger.breaches().is_empty() {
        Err(ledger.breaches().to_string())
    } else if !closing.half_seen.is_empty() {
        Err(closing.half_seen.to_string())
    } else {
        Ok(format!("{} bundles, each leg seen once by every follower, at the height proven", ledger.counts().ordered))
    };
    verdict("all legs of a bundle are in one block, or none ever is", found)
}

fn no_gap(lanes: &[LaneEnd], up_to: Height) -> Promise {
    let broken: Vec<_> = lanes
        .iter()
        .filter_map(|lane| {
            let (follower, rollup) = (lane.follower, lane.leaf.rollup);
            match &lane.error {
                Some(error) => Some(format!("follower {follower} of lane {rollup}: {error}")),
                None if lane.height < up_to => Some(format!(
                    "follower {follower} of lane {rollup} verified up to {} instead of {up_to}",
                    lane.height
                )),
                None => None,
            }
        })
        .collect();
    let found = match broken.as_slice() {
        [] if lanes.is_empty() => Err("nobody followed any lane".to_owned()),
        [] => Ok(format!("{} followers verified every item up to height {up_to}", lanes.len())),
        _ => Err(broken.join("; ")),
    };
    verdict("lanes verify without a gap", found)
}

fn agreement(lanes: &[LaneEnd]) -> Promise {
    let mut rollups: Vec<RollupId> = lanes.iter().map(|lane| lane.leaf.rollup).collect();
    rollups.sort_unstable();
    rollups.dedup();
    let mut agreed = Vec::new();
    for rollup in rollups {
        let mut leaves = lanes.iter().filter(|lane| lane.leaf.rollup == rollup).map(|lane| lane.leaf);
        let Some(first) = leaves.next() else { continue };
        if let Some(other) = leaves.find(|leaf| *leaf != first) {
            let broken = format!("lane {rollup} ends at {first:?} for one and at {other:?} for another");
            return verdict("followers on different nodes agree", Err(broken));
        }
        agreed.push(format!("lane {rollup} at sequence {}", first.sequence));
    }
    verdict("followers on different nodes agree", Ok(agreed.join(", ")))
}

fn conservation(ledger: &Ledger, credits: Result<Credits, String>) -> Promise {
    let found = credits.and_then(|Credits { supply, accounts, treasury }| {
        if accounts.checked_add(treasury) != Some(supply) {
            return Err(format!("{accounts} in accounts and {treasury} in fees are not the supply of {supply}"));
        }
        let (fees, strangers) = (ledger.counts().fees, ledger.counts().of_others);
        if strangers == 0 && fees != treasury {
            return Err(format!("the outcomes tell of fees of {fees}, the treasury holds {treasury}"));
        }
        Ok(format!("{accounts} in accounts and {treasury} in fees are the supply of {supply}"))
    });
    verdict("credits are conserved", found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_protocol::{
        evidence::BundleState,
        ids::{BundleId, Hash32, NetworkId},
    };

    const ID: BundleId = BundleId([1; 32]);
    const A: RollupId = RollupId(901);

    /// One bundle with one leg, ordered at height 5 for 10 credits, seen by two followers.
    fn good() -> (Ledger, Vec<LaneEnd>, Credits) {
        let mut ledger = Ledger::new(2);
        ledger.send(ID, vec![A]);
        ledger.accept(ID);
        ledger.conclude(ID, BundleState::Ordered { height: Height(5), fee: 10 });
        ledger.see(0, A, Height(5), ID);
        ledger.see(1, A, Height(5), ID);
        let leaf = LaneLeaf { sequence: 1, ..LaneLeaf::genesis(NetworkId([0; 32]), A) };
        let lanes = (0..2).map(|follower| LaneEnd { follower, leaf, height: Height(6), error: None }).collect();
        (ledger, lanes, Credits { supply: 100, accounts: 90, treasury: 10 })
    }

    fn broken(promises: &[Promise]) -> Vec<&'static str> {
        promises.iter().filter(|promise| !promise.kept).map(|promise| promise.promise).collect()
    }

    #[test]
    fn a_good_run_keeps_every_promise() {
        let (mut ledger, lanes, credits) = good();
        let promises = judge(&mut ledger, &lanes, Height(5), Ok(credits));
        assert_eq!(broken(&promises), Vec::<&str>::new());
        assert!(all_kept(&promises));
    }

    #[test]
    fn a_missing_outcome_is_broken() {
        let (mut ledger, lanes, credits) = good();
        let late = BundleId([2; 32]);
        ledger.send(late, vec![A]);
        ledger.accept(late);
        let promises = judge(&mut ledger, &lanes, Height(5), Ok(credits));
        assert_eq!(broken(&promises), ["every accepted bundle has exactly one certain outcome"]);
        assert!(!all_kept(&promises));
    }

    #[test]
    fn a_leg_seen_twice_is_broken() {
        let (mut ledger, lanes, credits) = good();
        ledger.see(0, A, Height(6), ID);
        let promises = judge(&mut ledger, &lanes, Height(5), Ok(credits));
        assert_eq!(broken(&promises), ["all legs of a bundle are in one block, or none ever is"]);
    }

    #[test]
    fn a_follower_that_failed_or_fell_behind_or_was_never_there_is_broken() {
        let gap = ["lanes verify without a gap"];
        let (mut ledger, mut lanes, credits) = good();
        lanes[0].error = Some("items 2..=3 of the lane are missing".to_owned());
        assert_eq!(broken(&judge(&mut ledger, &lanes, Height(5), Ok(credits))), gap);
        let (mut ledger, lanes, credits) = good();
        assert_eq!(broken(&judge(&mut ledger, &lanes, Height(7), Ok(credits))), gap);
        assert_eq!(broken(&judge(&mut ledger, &[], Height(5), Ok(credits))), gap);
    }

    #[test]
    fn followers_with_different_lanes_are_broken() {
        let (mut ledger, mut lanes, credits) = good();
        lanes[1].leaf.feed = Hash32([9; 32]);
        let promises = judge(&mut ledger, &lanes, Height(5), Ok(credits));
        assert_eq!(broken(&promises), ["followers on different nodes agree"]);
    }

    #[test]
    fn a_rollup_that_op_node_derives_otherwise_or_not_to_the_end_is_broken() {
        let derived = |stock| {
            executed(&[Execution { rollup: A, height: 7, derived: 7, agreed: true, stock, ..Execution::default() }])
        };
        assert!(derived(None).kept, "{}", derived(None));
        let all = derived(Some(StockView { safe: Some(8), agreed: true }));
        assert!(all.kept && all.detail.contains("by op-node up to 8"), "{all}");
        for (safe, agreed) in [(Some(8), false), (Some(6), true), (None, true)] {
            let promise = derived(Some(StockView { safe, agreed }));
            assert!(!promise.kept && promise.detail.contains("op-node"), "{promise}");
        }
    }

    #[test]
    fn lost_found_or_unread_credits_are_broken() {
        let (mut ledger, lanes, credits) = good();
        for accounts in [89, 91, u64::MAX] {
            let promises = judge(&mut ledger, &lanes, Height(5), Ok(Credits { accounts, ..credits }));
            assert_eq!(broken(&promises), ["credits are conserved"], "{accounts} in accounts");
        }
        let moved = Credits { accounts: 80, treasury: 20, ..credits };
        assert_eq!(broken(&judge(&mut ledger, &lanes, Height(5), Ok(moved))), ["credits are conserved"]);
        let unread = Err("no node answers".to_owned());
        assert_eq!(broken(&judge(&mut ledger, &lanes, Height(5), unread)), ["credits are conserved"]);
    }
}
