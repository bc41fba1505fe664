//! What does a validator sign of the rollups that its own node shows?
//!
//! The rules of `docs/settlement.md`, "heads", written down a second time: one block for each number and incarnation, kept as
//! if on disk; the current incarnation only while the node's chain has every head that the log keeps; else the lowest
//! number that is another block. An observer may also be silent, or lie.

use std::{collections::BTreeMap, sync::Arc};

use lockstep_protocol::{
    ids::{Hash32, NetworkId, RollupId},
    settlement::{Head, HeadAttestation, Level, head::Ed25519Bytes},
    signature::{AccountKey, Signature},
};
use lockstep_sequencer::facts::{Facts, RollupView};

use super::{
    margin::{head_keys, public},
    promises::Rollups,
    rollup::Rollup,
};

/// Blocks that `safe` is behind in these rollups.
const SAFE_LAG: u64 = 4;
/// Looks after which the latest attestations are passed on once more.
const REMIND_LOOKS: u64 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conduct {
    Honest,
    Silent,
    /// Another block for every number, and now and then another history.
    Lies,
}

pub(crate) struct Observer {
    place: usize,
    key: AccountKey,
    network: NetworkId,
    pub(crate) conduct: Conduct,
    /// By rollup, incarnation and number. Survives crashes.
    signed: BTreeMap<(RollupId, u32, u64), Hash32>,
    latest: BTreeMap<(RollupId, Level), HeadAttestation>,
    looks: u64,
    pub(crate) lies: usize,
}

impl Observer {
    pub(crate) fn new(place: usize, network: NetworkId) -> Self {
        let key = head_keys().swap_remove(place);
        let (signed, latest) = (BTreeMap::new(), BTreeMap::new());
        Self { place, key, network, conduct: Conduct::Honest, signed, latest, looks: 0, lies: 0 }
    }

    pub(crate) fn place(&self) -> usize {
        self.place
    }

    pub(crate) fn network(&self) -> NetworkId {
        self.network
    }

    /// Looks at every rollup, and tells this validator's fact pool.
    pub(crate) fn look(&mut self, facts: &Arc<Facts>, rollups: &mut Rollups) {
        self.looks += 1;
        let mut attestations = Vec::new();
        for (id, rollup) in rollups.iter_mut().filter(|(_, rollup)| !rollup.dark) {
            let Some(view) = facts.view(*id) else { continue };
            match self.conduct {
                Conduct::Silent => {}
                Conduct::Lies => attestations.extend(self.lie(&view, rollup)),
                Conduct::Honest => {
                    for head in sight(&view, rollup) {
                        let key = (*id, head.incarnation, head.number);
                        if *self.signed.entry(key).or_insert(head.block_hash) == head.block_hash {
                            attestations.push(self.attest(head));
                        }
                    }
                }
            }
        }
        let fresh = |attestation: &HeadAttestation| {
            let head = attestation.head;
            self.latest.insert((head.rollup, head.level), *attestation).is_none_or(|latest| latest.head != head)
        };
        attestations.retain(fresh);
        if !attestations.is_empty() {
            facts.attest(attestations);
        }
        if self.looks.is_multiple_of(REMIND_LOOKS) {
            facts.remind(self.latest.values().copied().collect());
        }
    }

    /// What a validator forgets when it crashes: only what it has said lately.
    pub(crate) fn crashed(&mut self) {
        self.latest.clear();
    }

    pub(crate) fn attest(&self, head: Head) -> HeadAttestation {
        let signature = match self.key.sign(&head.digest(self.network, &public(&self.key)).0) {
            Signature::Ed25519(bytes) => Ed25519Bytes(bytes),
            Signature::Secp256k1(_) => unreachable!("validators have ed25519 keys"),
        };
        HeadAttestation { head, validator: u8::try_from(self.place).expect("validators are few"), signature }
    }

    fn lie(&mut self, view: &RollupView, rollup: &mut Rollup) -> Vec<HeadAttestation> {
        let incarnation = view.record.incarnation;
        let mut head = rollup.head(Level::Executed, rollup.chain.number(), incarnation);
        head.state_root.0[0] ^= 1;
        let other = Head { level: Level::Final, number: head.number + 1_000, ..head };
        let history = Head { incarnation: incarnation + 1, ..head };
        self.lies += 3;
        [head, other, history].map(|head| self.attest(head)).to_vec()
    }
}

/// What an honest validator may sign now.
fn sight(view: &RollupView, rollup: &mut Rollup) -> Vec<Head> {
    let (incarnation, tip) = (view.record.incarnation, rollup.chain.number());
    let hash = |number: u64| rollup.chain.blocks.get(number as usize).map(|(hash, _)| *hash);
    let gone = view.kept().filter(|kept| hash(kept.number) != Some(kept.block_hash)).map(|kept| kept.number).min();
    match gone {
        Some(lowest) if lowest <= tip => vec![rollup.head(Level::Executed, lowest, incarnation + 1)],
        // The chain has no block of that number yet: it says nothing.
        Some(_) => Vec::new(),
        None => {
            let levels = [(Level::Executed, Some(tip)), (Level::Safe, tip.checked_sub(SAFE_LAG))];
            let levels = levels.into_iter().filter_map(|(level, number)| Some((level, number?)));
            let new = levels
                .filter(|(level, number)| view.record.latest[*level as usize].is_none_or(|latest| latest < *number));
            new.collect::<Vec<_>>().into_iter().map(|(level, number)| rollup.head(level, number, incarnation)).collect()
        }
    }
}
