//! What do validators send each other, and how much of it?
//!
//! Names, quotas and ends of the channels, and the pump for the application's own messages. What the messages mean is the
//! business of those who hold the ends.

use std::sync::Arc;

use bytes::Bytes;
use commonware_macros::select;
use commonware_p2p::{Receiver, Recipients, Sender};
use commonware_runtime::{IoBuf, IoBufs, Quota};
use commonware_utils::{NZU32, channel::mpsc};
use lockstep_protocol::ids::Hash32;

use crate::{keys::name, types::PublicKey};

/// Messages of the application that wait to be sent, or to be taken.
pub(crate) const GOSSIP_QUEUE: usize = 256;

/// What travels between validators, each with its own channel and quota.
///
/// A quota's burst times the number of peers times the longest message is what a hostile validator can make this one
/// hold, so bursts are small where messages are long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    Votes,
    Certificates,
    Resolver,
    Backfill,
    Blocks,
    State,
    Probe,
    Gossip,
}

impl Channel {
    pub(crate) const ALL: [Self; 8] = [
        Self::Votes,
        Self::Certificates,
        Self::Resolver,
        Self::Backfill,
        Self::Blocks,
        Self::State,
        Self::Probe,
        Self::Gossip,
    ];

    pub(crate) fn id(self) -> u64 {
        self as u64
    }

    pub(crate) fn quota(self) -> Quota {
        match self {
            Self::Votes | Self::Certificates => Quota::per_second(NZU32!(2_048)).allow_burst(NZU32!(256)),
            Self::Resolver => Quota::per_second(NZU32!(256)).allow_burst(NZU32!(64)),
            Self::Blocks => Quota::per_second(NZU32!(256)).allow_burst(NZU32!(16)),
            Self::Backfill | Self::State => Quota::per_second(NZU32!(256)).allow_burst(NZU32!(16)),
            Self::Probe => Quota::per_second(NZU32!(4)),
            Self::Gossip => Quota::per_second(NZU32!(512)).allow_burst(NZU32!(32)),
        }
    }
}

/// One end of every channel, in the order of [`Channel::ALL`].
pub(crate) struct Channels<S, R> {
    pub(crate) votes: (S, R),
    pub(crate) certificates: (S, R),
    pub(crate) resolver: (S, R),
    pub(crate) backfill: (S, R),
    pub(crate) blocks: (S, R),
    pub(crate) state: (S, R),
    pub(crate) probe: (S, R),
    pub(crate) gossip: (S, R),
}

impl<S, R> Channels<S, R> {
    /// Opens every channel with `open`.
    pub(crate) fn open(mut open: impl FnMut(Channel) -> (S, R)) -> Self {
        Self {
            votes: open(Channel::Votes),
            certificates: open(Channel::Certificates),
            resolver: open(Channel::Resolver),
            backfill: open(Channel::Backfill),
            blocks: open(Channel::Blocks),
            state: open(Channel::State),
            probe: open(Channel::Probe),
            gossip: open(Channel::Gossip),
        }
    }
}

/// The network as a validator sees it.
pub(crate) struct Peers<P, B, S, R> {
    /// Who is in the set.
    pub(crate) provider: P,
    /// Cuts off a peer that has sent what no honest peer sends.
    pub(crate) blocker: B,
    pub(crate) channels: Channels<S, R>,
    /// How many are connected.
    pub(crate) connected: Arc<dyn Fn() -> usize + Send + Sync>,
}

/// Sends what the application says and hands it what others say, until the node ends.
pub(crate) async fn gossip<S, R>(
    (mut sender, mut receiver): (S, R),
    mut outgoing: mpsc::Receiver<Bytes>,
    incoming: mpsc::Sender<(Hash32, Bytes)>,
) where
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let deliver = |peer: PublicKey, message: IoBuf| {
        // Full: the application is behind, and bundles are retried by those who sent them.
        let _ = incoming.try_send((name(&peer), Bytes::copy_from_slice(message.as_ref())));
    };
    loop {
        select! {
            message = outgoing.recv() => {
                // Nobody holds a handle any more. The log goes on without one.
                let Some(message) = message else { break };
                sender.send(Recipients::All, IoBufs::from(message), false);
            },
            received = receiver.recv() => {
                let Ok((peer, message)) = received else { return };
                deliver(peer, message);
            },
        }
    }
    while let Ok((peer, message)) = receiver.recv().await {
        deliver(peer, message);
    }
}
