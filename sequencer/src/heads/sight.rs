//! What may this validator sign about a rollup now?
//!
//! The rules of `docs/settlement.md`, "Heads", over what the log keeps and what the own node shows. Pure: what was signed
//! before is `signed.rs`, asking the node `node.rs`.

use std::collections::BTreeSet;

use lockstep_protocol::{
    ids::RollupId,
    settlement::{Head, Level},
};

use super::chain::{Block, Chain};
use crate::facts::RollupView;

/// Blocks that are signed at one look: three seconds of ten a second. Validators look at different moments, so every block since
/// the last look is signed, or quorums would not meet on one; after a longer silence only the newest are.
const EXECUTED_AT_ONCE: u64 = 32;
/// At the levels above, tags jump. Besides the block of the tag those are signed whose number is a multiple of this, so that
/// validators whose nodes stand at different tags meet.
const ALIGNED: u64 = 16;
/// So many of those at one look.
const ALIGNED_AT_ONCE: u64 = 4;

/// How far this validator has signed, in one incarnation. Numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) incarnation: u32,
    pub(crate) signed: [Option<u64>; 3],
}

/// What the own node says of the levels above `latest`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tags {
    pub(crate) safe: Option<Block>,
    pub(crate) finalized: Option<Block>,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// These blocks of the own chain have to be known first.
    Needs(BTreeSet<u64>),
    /// The own node is behind what the log has.
    Behind,
    /// Sign these.
    Sign(Vec<Head>),
    /// The log keeps another block than the own chain has: sign this, once it stays.
    Reorganized(Head),
}

/// What may be signed of `rollup`.
pub(crate) fn sight(rollup: RollupId, view: &RollupView, chain: &Chain, tags: &Tags, cursor: &Cursor) -> Sight {
    let Some(tip) = chain.tip() else { return Sight::Behind };
    let incarnation = view.record.incarnation;
    let head = |level, block: &Block, incarnation| Head {
        rollup,
        level,
        number: block.number,
        block_hash: block.hash,
        state_root: block.state_root,
        incarnation,
    };

    let mut needs = BTreeSet::new();
    let mut behind = false;
    let mut gone: Option<&Block> = None;
    for kept in view.kept() {
        if kept.number > tip.number {
            behind = true;
            continue;
        }
        match chain.at(kept.number) {
            None => {
                needs.insert(kept.number);
            }
            Some(own) if (own.hash, own.state_root) != (kept.block_hash, kept.state_root) => {
                gone = gone.filter(|lower| lower.number <= own.number).or(Some(own));
            }
            Some(_) => {}
        }
    }
    if !needs.is_empty() {
        return Sight::Needs(needs);
    }
    if let Some(own) = gone {
        // The weakest level: whoever has the block has executed it, so quorums meet.
        return Sight::Reorganized(head(Level::Executed, own, incarnation.saturating_add(1)));
    }
    if behind {
        return Sight::Behind;
    }

    let signed = |level: Level| {
        let mine = cursor.signed[level as usize].filter(|_| cursor.incarnation == incarnation);
        mine.max(view.record.latest[level as usize])
    };
    let mut heads = Vec::new();
    let first = signed(Level::Executed).map_or(0, |number| number.saturating_add(1));
    let first = first.max(tip.number.saturating_sub(EXECUTED_AT_ONCE - 1)).max(chain.lowest());
    for number in first..=tip.number {
        heads.extend(chain.at(number).map(|block| head(Level::Executed, block, incarnation)));
    }
    for (level, tag) in [(Level::Safe, tags.safe), (Level::Final, tags.finalized)] {
        // A tag of another chain than `latest` was asked for in the midst of a change.
        let Some(tag) = tag.filter(|tag| tag.number <= tip.number) else { continue };
        let first = signed(level).map_or(0, |number| number.saturating_add(1));
        let top = tag.number / ALIGNED;
        let aligned = (top.saturating_sub(ALIGNED_AT_ONCE - 1)..=top).map(|step| step * ALIGNED);
        let wanted: BTreeSet<u64> = aligned.chain([tag.number]).filter(|number| *number >= first).collect();
        let unknown: BTreeSet<u64> = wanted.iter().copied().filter(|number| chain.at(*number).is_none()).collect();
        if !unknown.is_empty() {
            needs.extend(unknown);
            continue;
        }
        if chain.at(tag.number).is_some_and(|own| *own == tag) {
            heads.extend(wanted.iter().filter_map(|number| chain.at(*number)).map(|own| head(level, own, incarnation)));
        }
    }
    if needs.is_empty() { Sight::Sign(heads) } else { Sight::Needs(needs) }
}

#[cfg(test)]
mod tests;
