//! Does what a peer sent continue a lane?
//!
//! Holds the verified place of each lane and judges gossip, pages and our own source's items against it. Plain state: it
//! reads no clock and sends nothing. Items that come out of order wait, few and bounded, until what lies between arrives.

use std::{collections::BTreeMap, sync::Arc};

use libp2p::{PeerId, gossipsub::MessageId};
use lockstep_protocol::{
    certificate::Verifier,
    ids::{Height, RollupId},
    lane::{LaneError, LaneFollower, LaneItem},
    wire::Wire,
};

use super::wire::Fault;

/// Items of one lane that wait for those before them: seconds of blocks, far more than gossip disorders.
const MAX_WAITING_ITEMS: usize = 32;
/// Bytes of waiting items of all lanes.
const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;

/// Every lane that is followed.
pub(super) struct Lanes {
    verifier: Verifier,
    lanes: BTreeMap<RollupId, Lane>,
    waiting_bytes: usize,
}

struct Lane {
    place: Place,
    waiting: BTreeMap<Height, Waiting>,
}

enum Place {
    /// Verified up to here.
    Verified(Box<LaneFollower>),
    /// Our own source's last item. Its proof is checked only when a peer is ahead of it: a node that is never behind spends
    /// no signature check on gossip.
    Own(Arc<LaneItem>),
}

struct Waiting {
    item: LaneItem,
    ticket: Ticket,
    bytes: usize,
}

/// A gossiped message that waits for a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// The message.
    pub(super) message: MessageId,
    /// Who sent it to us.
    pub(super) peer: PeerId,
}

/// What is to become of a gossiped message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It continues its lane to this height: forward it.
    Accept(RollupId, Height),
    /// Nothing is wrong with it, and nothing is known of it that would make it worth forwarding.
    Ignore,
    /// Nobody honest forwards it.
    Reject(Fault),
}

/// What came of judging.
#[derive(Default)]
pub(super) struct Outcome {
    /// Verdicts on gossip, of now or earlier.
    pub(super) verdicts: Vec<(Ticket, Verdict)>,
    /// Items that continued their lanes, in order.
    pub(super) verified: Vec<Arc<LaneItem>>,
}

/// A page as a peer sent it.
pub(super) struct Page {
    /// Height that was asked for.
    pub(super) from: Height,
    /// Items that were asked for.
    pub(super) max_items: u16,
    /// Items with entries.
    pub(super) items: Vec<LaneItem>,
    /// Proof that nothing came after.
    pub(super) tip: Option<LaneItem>,
}

impl Lanes {
    /// Lanes that start at their last known items, or at genesis. What is known is trusted: it is our own.
    pub(super) fn new(verifier: Verifier, known: BTreeMap<RollupId, Option<LaneItem>>) -> Self {
        let lanes = known.into_iter().map(|(rollup, item)| {
            let place = match item {
                Some(item) => Place::Own(Arc::new(item)),
                None => Place::Verified(Box::new(LaneFollower::from_genesis(verifier.clone(), rollup))),
            };
            (rollup, Lane { place, waiting: BTreeMap::new() })
        });
        Self { lanes: lanes.collect(), waiting_bytes: 0, verifier }
    }

    /// The lanes.
    pub(super) fn rollups(&self) -> impl Iterator<Item = RollupId> {
        self.lanes.keys().copied()
    }

    /// Where a lane stands, and whether items wait for others before them.
    pub(super) fn place(&self, rollup: RollupId) -> Option<(Height, bool)> {
        self.lanes.get(&rollup).map(|lane| (lane.place.height(), !lane.waiting.is_empty()))
    }

    /// Judges a message of a lane's topic.
    pub(super) fn gossip(&mut self, topic: RollupId, bytes: &[u8], ticket: Ticket, out: &mut Outcome) {
        let item = match LaneItem::from_wire(bytes) {
            Ok(item) => item,
            Err(error) => return out.verdicts.push((ticket, Verdict::Reject(error.into()))),
        };
        let (found, height) = (item.leaf.rollup, item.header.height);
        if found != topic {
            let error = LaneError::WrongLane { expected: topic, found };
            return out.verdicts.push((ticket, Verdict::Reject(error.into())));
        }
        let Some(lane) = self.lanes.get_mut(&topic) else {
            return out.verdicts.push((ticket, Verdict::Ignore));
        };
        // A proof that there is nothing would be one more message a block and lane: those are asked for, not told.
        if item.entries.is_empty() || height <= lane.place.height() {
            return out.verdicts.push((ticket, Verdict::Ignore));
        }
        let Some(follower) = lane.place.follower(&self.verifier) else {
            return out.verdicts.push((ticket, Verdict::Ignore));
        };
        match follower.accept(&item) {
            Ok(()) => {
                out.verdicts.push((ticket, Verdict::Accept(topic, height)));
                out.verified.push(Arc::new(item));
                self.drain(topic, out);
            }
            Err(LaneError::Gap { .. }) => self.wait(topic, item, bytes.len(), ticket, out),
            Err(LaneError::Replayed { .. }) => out.verdicts.push((ticket, Verdict::Ignore)),
            Err(error) => out.verdicts.push((ticket, Verdict::Reject(error.into()))),
        }
    }

    /// Judges a page. What it proves before its fault stands: it is proven.
    pub(super) fn page(&mut self, rollup: RollupId, page: Page, out: &mut Outcome) -> Result<(), Fault> {
        if page.items.len() > usize::from(page.max_items) {
            return Err(Fault::TooManyItems { max: page.max_items, found: page.items.len() });
        }
        let mut expected = page.from;
        for (item, is_tip) in page.items.into_iter().map(|item| (item, false)).chain(page.tip.map(|tip| (tip, true))) {
            let height = item.header.height;
            if item.entries.is_empty() != is_tip {
                return Err(Fault::Misplaced(height));
            }
            // The tip's own item may be the last of the page, and then the proof of the tip adds nothing to it.
            if height < expected && !is_tip {
                let verified = Height(expected.0.saturating_sub(1));
                return Err(LaneError::Replayed { height, verified }.into());
            }
            expected = height.next();
            self.drain(rollup, out);
            let Some(lane) = self.lanes.get_mut(&rollup) else { return Ok(()) };
            // Gossip may have come this far while the page was on its way.
            if height <= lane.place.height() {
                continue;
            }
            let Some(follower) = lane.place.follower(&self.verifier) else { return Ok(()) };
            follower.accept(&item)?;
            out.verified.push(Arc::new(item));
        }
        self.drain(rollup, out);
        Ok(())
    }

    /// Takes over an item of our own source.
    pub(super) fn own(&mut self, item: Arc<LaneItem>, out: &mut Outcome) {
        let rollup = item.leaf.rollup;
        let Some(lane) = self.lanes.get_mut(&rollup) else { return };
        if item.header.height > lane.place.height() {
            lane.place = Place::Own(item);
            self.drain(rollup, out);
        }
    }

    /// Keeps an item whose predecessors are missing, if it is proven and there is room.
    fn wait(&mut self, rollup: RollupId, item: LaneItem, bytes: usize, ticket: Ticket, out: &mut Outcome) {
        let height = item.header.height;
        let Some(lane) = self.lanes.get_mut(&rollup) else { return };
        let full = lane.waiting.len() >= MAX_WAITING_ITEMS || self.waiting_bytes + bytes > MAX_WAITING_BYTES;
        if full || lane.waiting.contains_key(&height) {
            return out.verdicts.push((ticket, Verdict::Ignore));
        }
        // Its entries cannot be judged yet, its header can.
        if let Err(error) = LaneFollower::from_item(self.verifier.clone(), &item) {
            return out.verdicts.push((ticket, Verdict::Reject(error.into())));
        }
        self.waiting_bytes += bytes;
        lane.waiting.insert(height, Waiting { item, ticket, bytes });
    }

    /// Judges the waiting items whose turn has come.
    fn drain(&mut self, rollup: RollupId, out: &mut Outcome) {
        let Some(lane) = self.lanes.get_mut(&rollup) else { return };
        while let Some(first) = lane.waiting.first_entry() {
            let height = *first.key();
            let verdict = if height <= lane.place.height() {
                Verdict::Ignore
            } else {
                let Some(follower) = lane.place.follower(&self.verifier) else { return };
                match follower.accept(&first.get().item) {
                    Ok(()) => Verdict::Accept(rollup, height),
                    Err(LaneError::Gap { .. }) => return,
                    Err(error) => Verdict::Reject(error.into()),
                }
            };
            let Waiting { item, ticket, bytes } = first.remove();
            self.waiting_bytes -= bytes;
            if matches!(verdict, Verdict::Accept(..)) {
                out.verified.push(Arc::new(item));
            }
            out.verdicts.push((ticket, verdict));
        }
    }
}

impl Place {
    fn height(&self) -> Height {
        match self {
            Self::Verified(follower) => follower.height(),
            Self::Own(item) => item.header.height,
        }
    }

    /// The follower at this place; `None` if our own item does not prove itself, which is said in the log.
    fn follower(&mut self, verifier: &Verifier) -> Option<&mut LaneFollower> {
        if let Self::Own(item) = self {
            match LaneFollower::from_item(verifier.clone(), item) {
                Ok(follower) => *self = Self::Verified(Box::new(follower)),
                Err(error) => {
                    let (rollup, height) = (item.leaf.rollup, item.header.height);
                    tracing::error!(%rollup, %height, %error, "our own lane item does not prove itself");
                    return None;
                }
            }
        }
        match self {
            Self::Verified(follower) => Some(follower),
            Self::Own(_) => None,
        }
    }
}
