//! What should the next block hold?
//!
//! Takes the best of what waits, by the classes of a body, until the body or the lanes are full; whoever builds the body puts it
//! in order. A guess at what the transition will accept: the transition decides.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use lockstep_protocol::{
    body::{CheckedBundle, Class, FRAME_BYTES},
    bundle::{Leg, SignedCancel},
    genesis::Rules,
    ids::{Height, RollupId},
    limits::{MAX_BUNDLES_PER_BODY, MAX_CANCELS_PER_BODY, MAX_LANE_BYTES},
};

use super::{
    classes,
    waiting::{ENTRY_BYTES, Rank, Waiting, fee},
};

/// Bundles of a class that may be passed over because a lane or the body has no room for them. Keeps a proposal from walking through
/// the whole pool; by the next block the lane has room again.
const PASSED_OVER_MAX: usize = 4_096;

/// What a leader needs.
pub(crate) struct Request<'a> {
    /// Height of the block to be proposed.
    pub(crate) height: Height,
    /// Ids of bundles and digests of cancels that unfinalized ancestors hold.
    pub(crate) taken: &'a HashSet<[u8; 32]>,
    /// Most bytes of the body.
    pub(crate) bytes: usize,
    /// Most bundles and most cancels.
    pub(crate) count: usize,
}

/// What to propose.
#[derive(Default)]
pub(crate) struct Selection {
    pub(crate) cancels: Vec<SignedCancel>,
    pub(crate) bundles: Vec<Arc<CheckedBundle>>,
}

impl Selection {
    pub(crate) fn is_empty(&self) -> bool {
        self.cancels.is_empty() && self.bundles.is_empty()
    }
}

/// What a block under construction has room for.
struct Room {
    bytes: usize,
    count: usize,
    lanes: BTreeMap<RollupId, Lane>,
}

#[derive(Clone, Copy, Default)]
struct Lane {
    used: u64,
    /// By liquidators.
    liquidated: u64,
}

/// What is left to bundles that come later.
#[derive(Clone, Copy, Default)]
struct Kept {
    bytes: usize,
    lane: u64,
}

impl Room {
    /// Takes room for a bundle, if there is any beside what is kept.
    fn take(&mut self, bundle: &CheckedBundle, size: usize, kept: Kept, rules: &Rules) -> bool {
        let liquidates = bundle.class() == Class::Liquidation;
        let fits = |leg: &Leg| {
            let Lane { used, liquidated } = self.lanes.get(&leg.rollup).copied().unwrap_or_default();
            let share = rules.rollups.get(&leg.rollup).map_or(0, |rollup| rollup.liquidation_bytes);
            used + leg.bytes() + kept.lane <= MAX_LANE_BYTES && (!liquidates || liquidated + leg.bytes() <= share)
        };
        let legs = &bundle.signed().bundle.legs;
        if self.count == 0 || size.saturating_add(kept.bytes) > self.bytes || !legs.iter().all(fits) {
            return false;
        }
        self.count -= 1;
        self.bytes -= size;
        for leg in legs {
            let lane = self.lanes.entry(leg.rollup).or_default();
            lane.used += leg.bytes();
            lane.liquidated += if liquidates { leg.bytes() } else { 0 };
        }
        true
    }
}

impl Waiting {
    /// Chooses what to propose, class by class. Bundles that allow too little for the fees of the moment are parked on the way, so
    /// that they are not looked at again in every view.
    pub(crate) fn select(&mut self, request: &Request<'_>, rules: &Rules) -> Selection {
        let mut room = Room {
            bytes: request.bytes.saturating_sub(FRAME_BYTES),
            count: request.count.min(MAX_BUNDLES_PER_BODY),
            lanes: BTreeMap::new(),
        };
        let cancels = self.select_cancels(request, &mut room.bytes);
        let mut bundles = Vec::new();
        let plain = Kept { bytes: classes::kept_for_plain(request.bytes), lane: classes::lane_kept_for_plain() };
        self.fill(Class::Liquidation, request, rules, Kept::default(), &mut room, &mut bundles);
        let late = self.fill(Class::Settlement, request, rules, plain, &mut room, &mut bundles);
        self.fill(Class::Plain, request, rules, Kept::default(), &mut room, &mut bundles);
        // What plain bundles did not need.
        let late = late.into_iter();
        bundles.extend(late.filter(|bundle| room.take(bundle, self.size(bundle), Kept::default(), rules)));
        Selection { cancels, bundles }
    }

    /// Takes what there is room for of a class; tells what there was none for.
    fn fill(
        &mut self,
        class: Class,
        request: &Request<'_>,
        rules: &Rules,
        kept: Kept,
        room: &mut Room,
        chosen: &mut Vec<Arc<CheckedBundle>>,
    ) -> Vec<Arc<CheckedBundle>> {
        let mut unpayable = Vec::new();
        let mut passed_over = Vec::new();
        for (rank, bundle) in self.ready.range(Rank::all(class)) {
            if room.count == 0 || passed_over.len() == PASSED_OVER_MAX {
                break;
            }
            let signed = &bundle.signed().bundle;
            if classes::last_height(signed) < request.height
                || request.taken.contains(&bundle.id().0)
                || self.is_being_cancelled(bundle)
            {
                continue;
            }
            if !fee(signed, &self.base_fees).is_ok_and(|fee| fee <= signed.max_fee) {
                unpayable.push(*rank);
            } else if room.take(bundle, self.size(bundle), kept, rules) {
                chosen.push(bundle.clone());
            } else {
                passed_over.push(bundle.clone());
            }
        }
        for rank in unpayable {
            let bundle = self.ready.remove(&rank).expect("the rank was just seen");
            self.parked.insert(rank, bundle);
        }
        passed_over
    }

    /// Bytes in a body.
    fn size(&self, bundle: &CheckedBundle) -> usize {
        self.bundles[&bundle.id()].size - ENTRY_BYTES
    }

    fn select_cancels(&self, request: &Request<'_>, room: &mut usize) -> Vec<SignedCancel> {
        let mut chosen = Vec::new();
        for account in &self.cancels {
            let signed = self.accounts[account].cancel.as_ref().expect("an account among the cancels has one");
            let size = borsh::object_length(signed).expect("measuring does not fail");
            if chosen.len() == request.count.min(MAX_CANCELS_PER_BODY) || size > *room {
                break;
            }
            if !request.taken.contains(&signed.cancel.digest().0) {
                *room -= size;
                chosen.push(*signed);
            }
        }
        chosen
    }

    /// Cancels come first in a body, so the bundle would only take up room.
    fn is_being_cancelled(&self, bundle: &CheckedBundle) -> bool {
        if self.cancels.is_empty() {
            return false;
        }
        let bundle = &bundle.signed().bundle;
        let cancel = self.accounts.get(&bundle.account).and_then(|open| open.cancel.as_ref());
        cancel.is_some_and(|signed| {
            let nonces = signed.cancel.nonces;
            (nonces.first..=nonces.last).contains(&bundle.nonce)
        })
    }

    /// Looks at some parked bundles again. Goes round, so that each gets its turn within a bounded number of heights.
    pub(crate) fn unpark(&mut self, most: usize) {
        let start = self.parked_cursor.take();
        let seen: Vec<Rank> = match start {
            Some(start) => self.parked.range(start..).map(|(rank, _)| *rank).take(most + 1).collect(),
            None => self.parked.keys().copied().take(most + 1).collect(),
        };
        self.parked_cursor = seen.get(most).copied();
        for rank in seen.into_iter().take(most) {
            let bundle = &self.parked[&rank];
            if self.is_held(&bundle.id()) {
                continue;
            }
            let bundle = &bundle.signed().bundle;
            if fee(bundle, &self.base_fees).is_ok_and(|fee| fee <= bundle.max_fee) {
                let bundle = self.parked.remove(&rank).expect("the rank was just seen");
                self.ready.insert(rank, bundle);
            }
        }
    }
}
