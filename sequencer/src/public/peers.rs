//! Who has asked too much, and who is kept out for now?
//!
//! Plain bookkeeping over instants that the caller gives; it closes no connection.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use libp2p::{PeerId, request_response::InboundRequestId};

/// Requests that a peer may make at once: one for each of 64 lanes, and as many again while they are answered.
pub(super) const REQUEST_BURST: f64 = 128.0;
/// Requests a second that a peer may make for good: 64 lanes asked every five seconds need 13.
pub(super) const REQUESTS_PER_SECOND: f64 = 32.0;
/// Peers whose requests are counted. A peer that has been quiet for the time of a burst is forgotten.
const MAX_COUNTED_PEERS: usize = 4_096;
/// Peers that are kept out at once. Ids are free to make, so the oldest entries are worth the least.
const MAX_BLOCKED_PEERS: usize = 4_096;

/// Requests of one kind that are answered at once. Times the longest answer, this is what slow readers can make us hold.
const MAX_OPEN_ANSWERS: usize = 32;
/// The same for one peer, so that one slow reader does not hold them all.
pub(super) const MAX_OPEN_ANSWERS_PER_PEER: usize = 4;

/// A token bucket for each peer.
#[derive(Default)]
pub(super) struct Quotas {
    buckets: HashMap<PeerId, Bucket>,
}

struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Quotas {
    /// Takes one request from the peer's quota; false if there is none left.
    pub(super) fn take(&mut self, peer: PeerId, now: Instant) -> bool {
        if self.buckets.len() >= MAX_COUNTED_PEERS && !self.buckets.contains_key(&peer) {
            self.forget_quiet(now);
            if self.buckets.len() >= MAX_COUNTED_PEERS {
                return false;
            }
        }
        let bucket = self.buckets.entry(peer).or_insert(Bucket { tokens: REQUEST_BURST, filled: now });
        bucket.tokens = bucket.tokens_at(now);
        bucket.filled = now;
        let granted = bucket.tokens >= 1.0;
        if granted {
            bucket.tokens -= 1.0;
        }
        granted
    }

    /// Forgets whose bucket is full: they are as good as new. Not on disconnection, or reconnecting would fill it.
    pub(super) fn forget_quiet(&mut self, now: Instant) {
        self.buckets.retain(|_, bucket| bucket.tokens_at(now) < REQUEST_BURST);
    }
}

impl Bucket {
    fn tokens_at(&self, now: Instant) -> f64 {
        let refilled = now.saturating_duration_since(self.filled).as_secs_f64() * REQUESTS_PER_SECOND;
        (self.tokens + refilled).min(REQUEST_BURST)
    }
}

/// Requests that were taken and whose answers have not left yet.
#[derive(Default)]
pub(super) struct OpenAnswers {
    peers: HashMap<InboundRequestId, PeerId>,
}

impl OpenAnswers {
    /// Takes a request; false if too many are open.
    pub(super) fn open(&mut self, request: InboundRequestId, peer: PeerId) -> bool {
        let of_peer = self.peers.values().filter(|other| **other == peer).count();
        let free = self.peers.len() < MAX_OPEN_ANSWERS && of_peer < MAX_OPEN_ANSWERS_PER_PEER;
        if free {
            self.peers.insert(request, peer);
        }
        free
    }

    /// The answer has left, or never will.
    pub(super) fn close(&mut self, request: InboundRequestId) {
        self.peers.remove(&request);
    }
}

/// Peers that are kept out, each until an instant.
#[derive(Default)]
pub(super) struct Blocks {
    until: BTreeMap<PeerId, Instant>,
}

impl Blocks {
    /// Keeps `peer` out. Gives back the peer that had to make room for it, which is to be let in.
    pub(super) fn block(&mut self, peer: PeerId, now: Instant, time: Duration) -> Option<PeerId> {
        self.until.insert(peer, now + time);
        if self.until.len() <= MAX_BLOCKED_PEERS {
            return None;
        }
        let soonest = self.until.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| *peer)?;
        self.until.remove(&soonest);
        Some(soonest)
    }

    /// Those whose time is over; they are forgotten here.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<PeerId> {
        let over: Vec<_> = self.until.iter().filter(|(_, until)| **until <= now).map(|(peer, _)| *peer).collect();
        for peer in &over {
            self.until.remove(peer);
        }
        over
    }

    /// How many are kept out.
    pub(super) fn len(&self) -> usize {
        self.until.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_gets_its_burst_and_then_its_rate() {
        let (mut quotas, start, peer) = (Quotas::default(), Instant::now(), PeerId::random());
        let granted = (0..1_000).filter(|_| quotas.take(peer, start)).count();
        assert_eq!(granted, REQUEST_BURST as usize);
        assert!(quotas.take(PeerId::random(), start), "another peer has a quota of its own");
        let granted = (0..1_000).filter(|_| quotas.take(peer, start + Duration::from_secs(1))).count();
        assert_eq!(granted, REQUESTS_PER_SECOND as usize);
    }

    #[test]
    fn counted_peers_are_bounded_and_the_quiet_ones_make_room() {
        let (mut quotas, start) = (Quotas::default(), Instant::now());
        for _ in 0..MAX_COUNTED_PEERS {
            assert!(quotas.take(PeerId::random(), start));
        }
        assert!(!quotas.take(PeerId::random(), start), "full of peers that have just asked");
        assert!(quotas.take(PeerId::random(), start + Duration::from_secs(1)));
        assert_eq!(quotas.buckets.len(), 1);
    }

    #[test]
    fn a_block_ends_and_the_list_is_bounded() {
        let (mut blocks, start, minute) = (Blocks::default(), Instant::now(), Duration::from_secs(60));
        let first = PeerId::random();
        assert_eq!(blocks.block(first, start, minute), None);
        assert!(blocks.expired(start + minute - Duration::from_millis(1)).is_empty());
        for _ in 1..MAX_BLOCKED_PEERS {
            assert_eq!(blocks.block(PeerId::random(), start + minute, minute), None);
        }
        assert_eq!(blocks.block(PeerId::random(), start + minute, minute), Some(first));
        assert_eq!(blocks.len(), MAX_BLOCKED_PEERS);
        assert_eq!(blocks.expired(start + 2 * minute).len(), MAX_BLOCKED_PEERS);
        assert_eq!(blocks.len(), 0);
    }
}
