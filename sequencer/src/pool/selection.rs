//! What should the next block hold?
//!
//! Takes the best of what waits, in the order of a body, until the body or the lanes are full. A guess at what the
//! transition will accept, made in one pass: the transition decides.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use lockstep_protocol::{
    body::{CheckedBundle, FRAME_BYTES},
    bundle::SignedCancel,
    ids::Height,
    limits::{MAX_BUNDLES_PER_BODY, MAX_CANCELS_PER_BODY, MAX_LANE_BYTES},
};

use super::waiting::{ENTRY_BYTES, Rank, Waiting, fee};

/// Bundles that may be passed over because a lane or the body has no room for them. Keeps a proposal from walking through
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

/// What to propose, best first.
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

impl Waiting {
    /// Chooses what to propose. Bundles that allow too little for the fees of the moment are parked on the way, so that
    /// they are not looked at again in every view.
    pub(crate) fn select(&mut self, request: &Request<'_>) -> Selection {
        let mut room = request.bytes.saturating_sub(FRAME_BYTES);
        let mut selection = Selection { cancels: self.select_cancels(request, &mut room), bundles: Vec::new() };
        let mut lanes = BTreeMap::new();
        let mut unpayable = Vec::new();
        let mut passed_over = 0;
        for (rank, bundle) in &self.ready {
            if selection.bundles.len() == request.count.min(MAX_BUNDLES_PER_BODY) || passed_over == PASSED_OVER_MAX {
                break;
            }
            let signed = &bundle.signed().bundle;
            if signed.valid_until < request.height
                || request.taken.contains(&bundle.id().0)
                || self.is_being_cancelled(bundle)
            {
                continue;
            }
            if !fee(signed, &self.base_fees).is_ok_and(|fee| fee <= signed.max_fee) {
                unpayable.push(*rank);
                continue;
            }
            let size = self.bundles[&bundle.id()].size - ENTRY_BYTES;
            let has_room = size <= room
                && signed
                    .legs
                    .iter()
                    .all(|leg| lanes.get(&leg.rollup).copied().unwrap_or_default() + leg.bytes() <= MAX_LANE_BYTES);
            if !has_room {
                passed_over += 1;
                continue;
            }
            room -= size;
            for leg in &signed.legs {
                *lanes.entry(leg.rollup).or_insert(0) += leg.bytes();
            }
            selection.bundles.push(bundle.clone());
        }
        for rank in unpayable {
            let bundle = self.ready.remove(&rank).expect("the rank was just seen");
            self.parked.insert(rank, bundle);
        }
        selection
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
            let bundle = &self.parked[&rank].signed().bundle;
            if fee(bundle, &self.base_fees).is_ok_and(|fee| fee <= bundle.max_fee) {
                let bundle = self.parked.remove(&rank).expect("the rank was just seen");
                self.ready.insert(rank, bundle);
            }
        }
    }
}
