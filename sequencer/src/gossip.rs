//! How do bundles reach the validators that no client gave them to?
//!
//! Every validator passes on to all others what its clients brought, in messages of many bundles. Receivers verify account
//! signatures, many at once, but not transactions: the node that took a bundle did. Best effort: what is lost is sent again
//! by the pool's reminders, and proposed by its own node in any case.
//!
//! A message is [`WIRE_VERSION`](lockstep_protocol::wire::WIRE_VERSION), then in borsh a list of signed cancels and a list
//! of signed bundles.

mod metrics;

pub use metrics::{GossipMetrics, ValidatorLabel};

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use futures::{
    FutureExt,
    future::{Either, select},
};
use lockstep_consensus::{
    config::GOSSIP_BYTES_MAX,
    handle::{GossipError, Handle},
};
use lockstep_protocol::{
    bundle::{SignedBundle, SignedCancel},
    ids::{Hash32, Height},
    wire::{Wire, WireError},
};
use tracing::{debug, warn};

use crate::pool::{Load, Pool, encoded_bytes};

/// How long the first bundle of a message waits for others: little beside a block, enough for some bundles to share the
/// cost of a message.
const LINGER: Duration = Duration::from_millis(4);
/// Bytes of a message around its content: the version and the lengths of both lists.
const FRAME_BYTES: usize = 9;
/// Messages that are verified together.
const MESSAGES_AT_ONCE: usize = 16;
/// Heights for which a validator is not listened to after it passed on what no honest one would. Without this its garbage
/// would cost every batch of signatures a second pass.
const MUTED_HEIGHTS: u64 = 64;

/// What validators tell each other about what waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Announcement {
    /// Cancels that a client brought.
    pub cancels: Vec<SignedCancel>,
    /// Bundles that a client brought.
    pub bundles: Vec<SignedBundle>,
}

// An item takes at least as many bytes in a message as a quarter of its memory, so the bound on the message bounds the lists.
impl Wire for Announcement {
    const MAX_BYTES: usize = GOSSIP_BYTES_MAX;
}

/// Passes on what clients brought, and takes what others pass on.
pub struct Gossip {
    pool: Arc<Pool>,
    muted: Mutex<HashMap<Hash32, Height>>,
    metrics: GossipMetrics,
}

impl Gossip {
    /// Gossip for `pool`.
    pub fn new(pool: Arc<Pool>) -> Arc<Self> {
        Arc::new(Self { pool, muted: Mutex::default(), metrics: GossipMetrics::default() })
    }

    /// The gossip's numbers.
    pub fn metrics(&self) -> &GossipMetrics {
        &self.metrics
    }

    /// Wakes the leader and passes on whenever a client brought something. Runs until the log has stopped.
    ///
    /// `sleep` is the runtime's.
    pub async fn send<S: Future<Output = ()>>(&self, handle: &Handle, sleep: impl Fn(Duration) -> S) {
        loop {
            self.pool.outbox().filled().await;
            handle.wake();
            // What arrives meanwhile wakes the leader too.
            let mut linger = Box::pin(sleep(LINGER));
            while let Either::Right(((), rest)) = select(linger, self.pool.outbox().filled().boxed()).await {
                handle.wake();
                linger = rest;
            }
            while let Some(load) = self.pool.outbox().take(GOSSIP_BYTES_MAX - FRAME_BYTES) {
                match self.pass_on(handle, load) {
                    Ok(()) => {}
                    Err(GossipError::Stopped) => return,
                    // Everybody else is behind: let them catch up.
                    Err(_) => {
                        sleep(LINGER).await;
                    }
                }
            }
        }
    }

    /// Takes what other validators pass on. Runs until the log has stopped; uses much of a core under load, so give it a
    /// thread.
    pub async fn receive(&self, handle: &Handle) {
        let Some(mut inbox) = handle.inbox() else {
            warn!("somebody else reads the messages of other validators");
            return;
        };
        let mut messages = Vec::with_capacity(MESSAGES_AT_ONCE);
        while inbox.recv_many(&mut messages, MESSAGES_AT_ONCE).await > 0 {
            if self.take(messages.drain(..)) > 0 {
                handle.wake();
            }
        }
    }

    /// Takes messages into the pool; returns how many of their bundles and cancels wait.
    fn take(&self, messages: impl Iterator<Item = (Hash32, Bytes)>) -> usize {
        let height = self.pool.height();
        let mut by_sender: HashMap<Hash32, Announcement> = HashMap::new();
        let mut order = Vec::new();
        for (sender, message) in messages {
            if self.is_muted(&sender, height) {
                self.metrics.ignored(sender);
                continue;
            }
            match Announcement::from_wire(&message) {
                Ok(mut announcement) => {
                    let all = by_sender.entry(sender).or_insert_with(|| {
                        order.push(sender);
                        Announcement::default()
                    });
                    all.cancels.append(&mut announcement.cancels);
                    all.bundles.append(&mut announcement.bundles);
                }
                // A newer release is no misbehaviour.
                Err(WireError::Version(version)) => {
                    debug!(%sender, version, "a validator gossips in another version");
                    self.metrics.malformed(sender);
                }
                Err(error) => {
                    self.metrics.malformed(sender);
                    self.mute(sender, height, &error.to_string());
                }
            }
        }
        let mut taken = 0;
        for sender in order {
            let Announcement { cancels, bundles } = by_sender.remove(&sender).expect("it was just noted");
            self.metrics.received.inc_by((cancels.len() + bundles.len()) as u64);
            let received = self.pool.receive(bundles, cancels);
            taken += received.taken;
            if received.dishonest > 0 {
                self.metrics.dishonest(sender, received.dishonest as u64);
                self.mute(sender, height, "passed on bundles with bad signatures");
            }
        }
        taken
    }

    fn pass_on(&self, handle: &Handle, load: Load) -> Result<(), GossipError> {
        let items = (load.bundles.len() + load.cancels.len()) as u64;
        let Some(message) = encode(&load) else {
            // A bundle of the largest size does not fit a message: it waits for its own node to lead.
            self.metrics.oversized.inc();
            return Ok(());
        };
        let sent = handle.gossip(message);
        match sent {
            Ok(()) => {
                self.metrics.messages.inc();
                self.metrics.sent.inc_by(items);
            }
            Err(GossipError::Length(_)) => {
                self.metrics.oversized.inc();
            }
            Err(GossipError::Full) => {
                self.metrics.full.inc();
                self.pool.outbox().put_back(load);
            }
            Err(GossipError::Stopped) => {}
        }
        sent
    }

    fn is_muted(&self, sender: &Hash32, height: Height) -> bool {
        let muted = self.muted.lock().expect("no holder of the muted panics");
        muted.get(sender).is_some_and(|until| height < *until)
    }

    fn mute(&self, sender: Hash32, height: Height, reason: &str) {
        warn!(%sender, reason, heights = MUTED_HEIGHTS, "not listening to a validator's gossip for some time");
        // Only validators reach this: the map is bounded by their number.
        let mut muted = self.muted.lock().expect("no holder of the muted panics");
        muted.insert(sender, Height(height.0.saturating_add(MUTED_HEIGHTS)));
    }
}

/// The message for a load; `None` if it is too long.
fn encode(load: &Load) -> Option<Bytes> {
    let content: usize = load.bundles.iter().map(|bundle| encoded_bytes(bundle.signed())).sum();
    if content > GOSSIP_BYTES_MAX - FRAME_BYTES {
        return None;
    }
    let bundles = load.bundles.iter().map(|bundle| bundle.signed().clone()).collect();
    Some(Announcement { cancels: load.cancels.clone(), bundles }.to_wire().into())
}

#[cfg(test)]
mod tests;
