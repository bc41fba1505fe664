//! Which peer is asked for which range, and when?
//!
//! One request a lane at a time: at once while there is more, soon where a gap is known, else now and then, because gossip
//! that never comes makes no sound. Plain state over instants that the caller gives.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use libp2p::PeerId;
use lockstep_protocol::ids::{Height, RollupId};
use rand::{Rng, seq::IndexedRandom};

use super::peers::MAX_OPEN_ANSWERS_PER_PEER;

/// Ranges on their way at once, over all lanes: bounds the bytes of answers that wait to be checked.
const MAX_ASKED: usize = 8;
/// Ranges asked of one peer at once. Half of what it answers at once, because it sees the end of an answer later than we do.
const MAX_ASKED_OF_ONE: usize = MAX_OPEN_ANSWERS_PER_PEER / 2;
/// How long a known gap may close by itself: gossip that overtook other gossip.
const GAP_PATIENCE: Duration = Duration::from_millis(200);
/// Between asking one peer in vain and asking another.
const NEXT_PEER_AFTER: Duration = Duration::from_millis(100);
/// How long a peer that could not answer for a lane is not asked for it.
const REST: Duration = Duration::from_secs(2);

/// What is missing, and who is asked for it.
pub(super) struct Backfill {
    lanes: BTreeMap<RollupId, Lane>,
    resting: HashMap<(PeerId, RollupId), Instant>,
    poll: Duration,
}

struct Lane {
    next: Height,
    waiting: bool,
    asked: Option<PeerId>,
    ask_at: Instant,
}

/// What an answer was worth to the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// There may be more.
    More,
    /// That is all, as far as the peer knows.
    All,
    /// Nothing: another peer may know.
    Nothing,
}

impl Backfill {
    /// Asks for lanes that are quiet for `poll`. All are asked for at once at first.
    pub(super) fn new(rollups: impl IntoIterator<Item = RollupId>, poll: Duration, now: Instant) -> Self {
        let lane = |rollup| (rollup, Lane { next: Height(1), waiting: false, asked: None, ask_at: now });
        Self { lanes: rollups.into_iter().map(lane).collect(), resting: HashMap::new(), poll }
    }

    /// A lane is verified up to `height`; `waiting` if later items are here already.
    pub(super) fn moved(&mut self, rollup: RollupId, height: Height, waiting: bool, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&rollup) else { return };
        let next = height.next();
        if waiting && !lane.waiting {
            lane.ask_at = lane.ask_at.min(now + GAP_PATIENCE);
        } else if !waiting && next > lane.next && lane.ask_at > now {
            lane.ask_at = now + self.poll;
        }
        (lane.next, lane.waiting) = (next, waiting);
    }

    /// The requests that are due, for peers among `peers`.
    pub(super) fn due(
        &mut self,
        peers: &[PeerId],
        now: Instant,
        random: &mut impl Rng,
    ) -> Vec<(PeerId, RollupId, Height)> {
        self.resting.retain(|_, until| *until > now);
        let mut busy: HashMap<PeerId, usize> = HashMap::new();
        for peer in self.lanes.values().filter_map(|lane| lane.asked) {
            *busy.entry(peer).or_default() += 1;
        }
        let mut free = MAX_ASKED.saturating_sub(busy.values().sum());
        let mut lanes: Vec<_> =
            self.lanes.iter_mut().filter(|(_, lane)| lane.asked.is_none() && lane.ask_at <= now).collect();
        // Who has waited longest goes first, or a busy lane would starve the others.
        lanes.sort_by_key(|(_, lane)| lane.ask_at);
        let mut due = Vec::new();
        for (rollup, lane) in lanes {
            if free == 0 {
                break;
            }
            let idle = |peer: &PeerId| busy.get(peer).is_none_or(|asked| *asked < MAX_ASKED_OF_ONE);
            let rested = |peer: &PeerId| !self.resting.contains_key(&(*peer, *rollup));
            let able: Vec<_> = peers.iter().copied().filter(|peer| idle(peer) && rested(peer)).collect();
            let Some(peer) = able.choose(random).copied() else { continue };
            *busy.entry(peer).or_default() += 1;
            lane.asked = Some(peer);
            free -= 1;
            due.push((peer, *rollup, lane.next));
        }
        due
    }

    /// What became of a request.
    pub(super) fn answered(&mut self, rollup: RollupId, peer: PeerId, answer: Answer, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&rollup) else { return };
        if lane.asked != Some(peer) {
            return;
        }
        lane.asked = None;
        match answer {
            Answer::More => lane.ask_at = now,
            Answer::All if !lane.waiting => lane.ask_at = now + self.poll,
            // The peer's tip is behind an item that is here already, or the peer cannot answer.
            Answer::All | Answer::Nothing => {
                self.resting.insert((peer, rollup), now + REST);
                lane.ask_at = now + NEXT_PEER_AFTER;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    const POLL: Duration = Duration::from_secs(5);

    fn setup() -> (Backfill, Instant, Vec<PeerId>, StdRng) {
        let now = Instant::now();
        let peers = vec![PeerId::random(), PeerId::random()];
        (Backfill::new([RollupId(1)], POLL, now), now, peers, StdRng::seed_from_u64(7))
    }

    #[test]
    fn a_lane_is_asked_for_until_its_tip_and_then_left_in_peace() {
        let (mut backfill, now, peers, mut random) = setup();
        let (peer, rollup, height) = backfill.due(&peers, now, &mut random)[0];
        assert_eq!((rollup, height), (RollupId(1), Height(1)));
        assert!(backfill.due(&peers, now + POLL, &mut random).is_empty(), "one request a lane at a time");
        backfill.moved(rollup, Height(40), false, now);
        backfill.answered(rollup, peer, Answer::More, now);
        let (peer, _, height) = backfill.due(&peers, now, &mut random)[0];
        assert_eq!(height, Height(41));
        backfill.answered(rollup, peer, Answer::All, now);
        assert!(backfill.due(&peers, now + POLL - Duration::from_millis(1), &mut random).is_empty());
        // Gossip that carries the lane on puts the question off.
        backfill.moved(rollup, Height(41), false, now + POLL / 2);
        assert!(backfill.due(&peers, now + POLL, &mut random).is_empty());
        assert_eq!(backfill.due(&peers, now + POLL + POLL / 2, &mut random).len(), 1);
    }

    #[test]
    fn a_gap_is_asked_for_soon_and_of_another_peer_where_one_does_not_know() {
        let (mut backfill, now, peers, mut random) = setup();
        let (peer, rollup, _) = backfill.due(&peers, now, &mut random)[0];
        backfill.answered(rollup, peer, Answer::All, now);
        backfill.moved(rollup, Height(3), true, now);
        assert!(backfill.due(&peers, now, &mut random).is_empty());
        let later = now + GAP_PATIENCE;
        let (first, ..) = backfill.due(&peers, later, &mut random)[0];
        backfill.answered(rollup, first, Answer::All, later);
        let (second, ..) = backfill.due(&peers, later + NEXT_PEER_AFTER, &mut random)[0];
        assert_ne!(first, second);
        backfill.answered(rollup, second, Answer::Nothing, later + NEXT_PEER_AFTER);
        assert!(backfill.due(&peers, later + 2 * NEXT_PEER_AFTER, &mut random).is_empty(), "both rest");
        assert_eq!(backfill.due(&peers, later + NEXT_PEER_AFTER + REST, &mut random).len(), 1);
    }

    #[test]
    fn requests_on_their_way_are_bounded_and_no_lane_starves() {
        let now = Instant::now();
        let peers: Vec<_> = (0..5).map(|_| PeerId::random()).collect();
        let mut random = StdRng::seed_from_u64(7);
        let mut backfill = Backfill::new((1..=20).map(RollupId), POLL, now);
        let mut asked = std::collections::BTreeSet::new();
        for step in 0..3 {
            let now = now + Duration::from_millis(step);
            let due = backfill.due(&peers, now, &mut random);
            assert_eq!(due.len(), MAX_ASKED);
            for peer in &peers {
                assert!(due.iter().filter(|(asked, ..)| asked == peer).count() <= MAX_ASKED_OF_ONE);
            }
            for (peer, rollup, _) in due {
                asked.insert(rollup);
                backfill.answered(rollup, peer, Answer::More, now + Duration::from_millis(1));
            }
        }
        assert_eq!(asked.len(), 20);
    }
}
