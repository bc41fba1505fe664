//! What of a lane is verified, and what of that was given out? No network, no clock.
//!
//! What continues a lane is decided by `protocol::lane::LaneFollower` alone. Where items come from is in `feed.rs`.

use std::collections::VecDeque;

use lockstep_protocol::{
    ids::{Height, NetworkId, RollupId},
    lane::{LaneError, LaneFollower, LaneItem},
};
use serde::{Deserialize, Serialize};

use crate::{
    error::{CheckError, Error, Fault, Faults},
    trust::Trust,
};

/// A follower's place, to be kept in a file or database. It carries its own proof, so it is checked when it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cursor {
    /// The network.
    pub network: NetworkId,
    /// Whose lane.
    pub rollup: RollupId,
    /// The last item, without its entries and transactions; none before the first.
    pub item: Option<Box<LaneItem>>,
    /// Items below this height are verified, but not given out.
    pub from: Height,
}

impl Cursor {
    /// The height up to which the lane was verified.
    pub fn height(&self) -> Height {
        self.item.as_ref().map_or(Height(0), |item| item.header.height)
    }
}

/// Something verified about a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// The lane's next item.
    Item(Box<LaneItem>),
    /// Nothing came after the last item up to this height.
    Nothing {
        /// The height.
        up_to: Height,
    },
}

/// A lane cannot be followed further. The follower stands where it stood, and may be asked again.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum FollowError {
    #[error("the cursor is of network {found}, this client is of {expected}")]
    WrongNetwork { expected: NetworkId, found: NetworkId },
    #[error("the cursor is of lane {cursor} and has an item of lane {item}")]
    WrongLane { cursor: RollupId, item: RollupId },
    #[error("the cursor does not prove itself: {0}")]
    Cursor(LaneError),
    /// It is proven that there are items, and nobody gives them.
    #[error("items {from}..={to} of lane {rollup}, before height {height}, can be had from no node: {faults}")]
    Gap { rollup: RollupId, from: u64, to: u64, height: Height, faults: Faults },
    #[error("lane {rollup} cannot be joined at height {height}, nothing before it is given by any node: {faults}")]
    NoAnchor { rollup: RollupId, height: Height, faults: Faults },
    #[error("lane {rollup} after height {height}: no node gives anything that can be believed: {faults}")]
    NoAnswer { rollup: RollupId, height: Height, faults: Faults },
    #[error(transparent)]
    Ask(Box<Error>),
}

impl From<Error> for FollowError {
    fn from(error: Error) -> Self {
        Self::Ask(Box::new(error))
    }
}

/// Items that are proven to exist and that were not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) height: Height,
}

/// The verified part of a follower: no network, no clock.
pub(crate) struct Track {
    rollup: RollupId,
    verified: LaneFollower,
    network: NetworkId,
    from: Height,
    /// Verified and not given out yet, each with the place after it. Bounded by a page: nothing is fetched before it is empty.
    ready: VecDeque<(Option<Update>, Box<LaneItem>)>,
    /// Place after the last update that was given out.
    place: Option<Box<LaneItem>>,
    /// Set as long as the lane is proven to have items that were not given.
    pub(crate) missing: Option<Missing>,
}

impl Track {
    pub(crate) fn new(trust: &Trust, rollup: RollupId, cursor: Cursor) -> Result<Self, FollowError> {
        let network = trust.network();
        if cursor.network != network {
            return Err(FollowError::WrongNetwork { expected: network, found: cursor.network });
        }
        let found = cursor.item.as_ref().map_or(cursor.rollup, |item| item.leaf.rollup);
        if cursor.rollup != rollup || found != rollup {
            return Err(FollowError::WrongLane { cursor: cursor.rollup, item: found });
        }
        let verifier = trust.verifier().clone();
        let verified = match &cursor.item {
            None => LaneFollower::from_genesis(verifier, rollup),
            Some(item) => LaneFollower::from_item(verifier, item).map_err(FollowError::Cursor)?,
        };
        Ok(Self {
            rollup,
            verified,
            network,
            from: cursor.from,
            ready: VecDeque::new(),
            place: cursor.item,
            missing: None,
        })
    }

    /// The height up to which everything is verified, given out or not.
    pub(crate) fn height(&self) -> Height {
        self.verified.height()
    }

    /// The place after the last update that was given out.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor { network: self.network, rollup: self.rollup, item: self.place.clone(), from: self.from }
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(crate) fn has_items(&self) -> bool {
        self.ready.iter().any(|(update, _)| matches!(update, Some(Update::Item(_))))
    }

    /// Moves over an item, or says why it is not the next. One that proves that others were left out is remembered.
    pub(crate) fn accept(&mut self, item: LaneItem) -> Result<(), Fault> {
        if let Err(error) = self.verified.accept(&item) {
            // A gap is proven by the item that leaves it: whoever invents one must forge a certificate.
            if let LaneError::Gap { height, from, to } = error {
                self.missing = Some(Missing { from, to, height });
            }
            return Err(CheckError::Lane(error).into());
        }
        if self.missing.is_some_and(|missing| self.verified.leaf().sequence >= missing.to) {
            self.missing = None;
        }
        let place = Box::new(without_content(&item));
        let update = match item.entries.is_empty() {
            true => Some(Update::Nothing { up_to: item.header.height }),
            false if item.header.height < self.from => None,
            false => Some(Update::Item(Box::new(item))),
        };
        self.ready.push_back((update, place));
        Ok(())
    }

    /// The next update, `None` in place of one that lies before where the follower began.
    pub(crate) fn give(&mut self) -> Option<Option<Update>> {
        let (update, place) = self.ready.pop_front()?;
        self.place = Some(place);
        Some(update)
    }
}

/// What proves a place in a lane: the item's header, certificate and leaf.
fn without_content(item: &LaneItem) -> LaneItem {
    LaneItem {
        header: item.header.clone(),
        finality: item.finality.clone(),
        leaf: item.leaf,
        path: item.path.clone(),
        entries: Vec::new(),
        transactions: Vec::new(),
    }
}
