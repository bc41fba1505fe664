//! Which of two validators dials the other?
//!
//! The transport refuses a peer for a while after every attempt of its own to reach it, and has no rule for two that dial
//! each other: they may go on refusing each other for seconds, on long links for minutes. So of each pair one dials and
//! the other listens, which the transport calls primary and secondary peers. To everybody else all validators are alike.
//! Connects nothing itself: see `node.rs`.

use std::{future::ready, sync::Arc};

use commonware_p2p::{Address, AddressableTrackedPeers, PeerSetSubscription, PeerSetUpdate, Provider, TrackedPeers};
use commonware_utils::{TryFromIterator, channel::mpsc, ordered::Map, ordered::Set, sync::Mutex};

use crate::{engine::EPOCH, types::PublicKey};

/// Whether the validator at `me` of `count` dials the one at `peer`. Each dials about half of the others, so that one that
/// comes back reaches some at once.
const fn dials(me: usize, peer: usize, count: usize) -> bool {
    let ahead = (peer + count - me) % count;
    let behind = count - ahead;
    ahead < behind || (ahead == behind && me < peer)
}

/// Of every two exactly one dials.
const _: () = {
    let mut count = 2;
    while count <= 16 {
        let mut pair = 0;
        while pair < count * count {
            let (one, other) = (pair / count, pair % count);
            assert!(one == other || dials(one, other, count) != dials(other, one, count));
            pair += 1;
        }
        count += 1;
    }
};

/// Whom `me` dials, and who may connect.
pub(crate) fn parted(me: &PublicKey, addresses: &Map<PublicKey, Address>) -> AddressableTrackedPeers<PublicKey> {
    let count = addresses.len();
    let seat = addresses.position(me).unwrap_or_default();
    let of = |dialed: bool| {
        let chosen = addresses.iter_pairs().enumerate().filter(|(place, _)| dials(seat, *place, count) == dialed);
        let chosen = chosen.map(|(_, (peer, address))| (peer.clone(), address.clone()));
        Map::try_from_iter(chosen).expect("no validator is listed twice")
    };
    AddressableTrackedPeers::new(of(true), of(false))
}

/// The validators as the parts of a validator see them: all alike, whoever dials whom.
#[derive(Clone, Debug)]
pub(crate) struct Committee {
    validators: Set<PublicKey>,
    // A subscription that ends would mean that the network is gone.
    subscriptions: Arc<Mutex<Vec<mpsc::UnboundedSender<PeerSetUpdate<PublicKey>>>>>,
}

impl Committee {
    pub(crate) fn new(validators: Set<PublicKey>) -> Self {
        Self { validators, subscriptions: Arc::default() }
    }

    fn peers(&self) -> TrackedPeers<PublicKey> {
        TrackedPeers::new(self.validators.clone(), Set::default())
    }
}

impl Provider for Committee {
    type PublicKey = PublicKey;

    fn peer_set(&mut self, id: u64) -> impl Future<Output = Option<TrackedPeers<PublicKey>>> + Send {
        ready((id == EPOCH.get()).then(|| self.peers()))
    }

    fn subscribe(&mut self) -> impl Future<Output = PeerSetSubscription<PublicKey>> + Send {
        let (sender, receiver) = mpsc::unbounded_channel();
        let update = PeerSetUpdate { index: EPOCH.get(), latest: self.peers(), all: self.peers() };
        let _ = sender.send(update);
        self.subscriptions.lock().push(sender);
        ready(receiver)
    }
}
