//! How do bundles and facts reach the validators that no client gave them to?
//!
//! Every validator passes on to all others what its clients brought, in messages of many bundles, and what it has signed of
//! rollups. Receivers verify account signatures, many at once, but not transactions: the node that took a bundle did. Facts are
//! proven by everybody who would propose them. Best effort: what is lost is sent again by the pool's reminders, and proposed by
//! its own node in any case.
//!
//! What a message is, is in `gossip/wire.rs`.

mod metrics;
mod wire;

pub use metrics::GossipMetrics;
pub use wire::Announcement;

use std::{
    collections::HashMap,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

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
    ids::{Hash32, Height},
    limits::MAX_BUNDLE_BYTES,
    wire::{Wire, WireError},
};
use tracing::{debug, warn};

use crate::{
    facts::{Facts, Item},
    pool::{Load, Pool},
};

/// Pause between messages, so that bundles share the cost of one under load: little beside a block. What comes after a
/// silence is passed on at once.
const LINGER: Duration = Duration::from_millis(4);
/// Longest message.
const MESSAGE_BYTES_MAX: usize = GOSSIP_BYTES_MAX;
/// Bytes of a message around its content: the version and the lengths of seven lists.
const FRAME_BYTES: usize = 29;
// Otherwise it would wait until its own node leads, and be lost with that node.
const _: () = assert!(MAX_BUNDLE_BYTES <= MESSAGE_BYTES_MAX - FRAME_BYTES, "the largest bundle fits a message");
/// Messages that are verified together.
const MESSAGES_AT_ONCE: usize = 16;
/// Heights for which a validator is not listened to after it passed on what no honest one would. Without this its garbage
/// would cost every batch of signatures a second pass.
const MUTED_HEIGHTS: u64 = 64;

/// Passes on what clients brought, and takes what others pass on.
pub struct Gossip {
    pool: Arc<Pool>,
    facts: Arc<Facts>,
    muted: Mutex<HashMap<Hash32, Height>>,
    metrics: GossipMetrics,
}

impl Gossip {
    /// Gossip for `pool` and `facts`.
    pub fn new(pool: Arc<Pool>, facts: Arc<Facts>) -> Arc<Self> {
        Arc::new(Self { pool, facts, muted: Mutex::default(), metrics: GossipMetrics::default() })
    }

    /// The gossip's numbers.
    pub fn metrics(&self) -> &GossipMetrics {
        &self.metrics
    }

    /// Wakes the leader and passes on whenever a client brought something. Runs until the log has stopped.
    ///
    /// `sleep` is the runtime's.
    pub async fn send<S: Future<Output = ()>>(&self, handle: &Handle, sleep: impl Fn(Duration) -> S) {
        let (bundles, facts) = (self.send_bundles(handle, &sleep), self.send_facts(handle, &sleep));
        select(pin!(bundles), pin!(facts)).await;
    }

    async fn send_bundles<S: Future<Output = ()>>(&self, handle: &Handle, sleep: impl Fn(Duration) -> S) {
        loop {
            self.pool.outbox().filled().await;
            handle.wake();
            let mut filled = true;
            while filled {
                while let Some(load) = Load::take(self.pool.outbox(), MESSAGE_BYTES_MAX - FRAME_BYTES) {
                    match self.pass_on(handle, load) {
                        Ok(()) => {}
                        Err(GossipError::Stopped) => return,
                        // Everybody else is behind: let them catch up.
                        Err(_) => sleep(LINGER).await,
                    }
                }
                filled = false;
                // What arrives meanwhile wakes the leader at once, and shares the next message.
                let mut linger = Box::pin(sleep(LINGER));
                while let Either::Right(((), rest)) = select(linger, self.pool.outbox().filled().boxed()).await {
                    handle.wake();
                    (linger, filled) = (rest, true);
                }
            }
        }
    }

    async fn send_facts<S: Future<Output = ()>>(&self, handle: &Handle, sleep: impl Fn(Duration) -> S) {
        loop {
            self.facts.outbox().filled().await;
            handle.wake();
            loop {
                let items = self.facts.outbox().take(MESSAGE_BYTES_MAX - FRAME_BYTES);
                if items.is_empty() {
                    break;
                }
                let count = items.len() as u64;
                let message = encode_facts(items);
                loop {
                    match handle.gossip(message.clone()) {
                        Ok(()) => break,
                        // Asserted where facts are bounded: there is no such message.
                        Err(GossipError::Length(_)) => break,
                        Err(GossipError::Stopped) => return,
                        // What is to be sent meanwhile is bounded, and the oldest of it goes.
                        Err(GossipError::Full) => {
                            self.metrics.full.inc();
                            sleep(LINGER).await;
                        }
                    }
                }
                self.metrics.messages.inc();
                self.metrics.facts_sent.inc_by(count);
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

    /// Takes messages into the pool; returns how much of it waits.
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
                    all.append(&mut announcement);
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
            let mut announcement = by_sender.remove(&sender).expect("it was just noted");
            let facts = announcement.take_facts();
            let Announcement { cancels, bundles, attestations, .. } = announcement;
            self.metrics.facts_received.inc_by((attestations.len() + facts.len()) as u64);
            self.metrics.received.inc_by((cancels.len() + bundles.len()) as u64);
            let received = self.pool.receive(bundles, cancels);
            let told = self.facts.receive(sender, attestations, facts);
            taken += received.taken + told.taken;
            let dishonest = received.dishonest + told.dishonest;
            if dishonest > 0 {
                self.metrics.dishonest(sender, dishonest as u64);
                self.mute(sender, height, "passed on bundles or facts with bad signatures");
            }
        }
        taken
    }

    fn pass_on(&self, handle: &Handle, load: Load) -> Result<(), GossipError> {
        let items = (load.bundles.len() + load.cancels.len()) as u64;
        let sent = handle.gossip(encode(&load));
        match sent {
            Ok(()) => {
                self.metrics.messages.inc();
                self.metrics.sent.inc_by(items);
            }
            // Asserted above: there is no such load.
            Err(GossipError::Length(_)) => {}
            Err(GossipError::Full) => {
                self.metrics.full.inc();
                load.put_back(self.pool.outbox());
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

/// The message for a load.
fn encode(load: &Load) -> Bytes {
    let bundles = load.bundles.iter().map(|bundle| bundle.signed().clone()).collect();
    Announcement { cancels: load.cancels.clone(), bundles, ..Announcement::default() }.to_wire().into()
}

/// The message for attestations and facts.
fn encode_facts(items: Vec<Item>) -> Bytes {
    let mut announcement = Announcement::default();
    for item in items {
        match item {
            Item::Attestation(attestation) => announcement.attestations.push(attestation),
            Item::Fact(fact) => announcement.add(fact),
        }
    }
    announcement.to_wire().into()
}

#[cfg(test)]
mod tests;
