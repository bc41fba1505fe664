//! When does a leader propose, and when is a block too early to be voted for?
//!
//! Wraps the state actor from outside, because a wait inside it would delay finalization. Decides nothing about content
//! or validity.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use commonware_consensus::{Application, Handoff, marshal::ancestry::Ancestry};
use commonware_cryptography::Digested;
use commonware_glue::stateful::Mailbox;
use commonware_macros::select;
use commonware_runtime::{Clock, Spawner};
use commonware_storage::Context as StorageContext;
use commonware_utils::channel::watch;
use lockstep_protocol::header::Header;
use tracing::debug;

use crate::{
    application::{Draft, Execution},
    block::Block,
    config::{self, Timing},
    machine::Machine,
    types::{Context, Scheme},
};

/// Longest single sleep while waiting for a block's time to come. A block may name any time, and a sleep that long must
/// not overflow the clock.
const NAP_MAX: Duration = Duration::from_millis(1_000);

/// How often it is asked again whether an L1 block was seen meanwhile: well below a view, and cheap.
const L1_NAP: Duration = Duration::from_millis(50);

/// Wakes leaders that wait for work.
#[derive(Clone)]
pub(crate) struct Waker(Arc<watch::Sender<u64>>);

impl Waker {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    pub(crate) fn wake(&self) {
        self.0.send_modify(|calls| *calls = calls.wrapping_add(1));
    }
}

/// The state actor, with a clock in front of it.
pub(crate) struct Paced<E: StorageContext + Spawner> {
    pub(crate) state: Mailbox<E, Execution>,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) timing: Timing,
    pub(crate) waker: Waker,
    pub(crate) body_bytes_max: usize,
    /// Added to the time that a proposal names. Zero but for an equivocating leader of a simulation.
    pub(crate) skew: Duration,
}

impl<E: StorageContext + Spawner> Clone for Paced<E> {
    fn clone(&self) -> Self {
        Self {
            state: self.state.clone(),
            machine: self.machine.clone(),
            timing: self.timing,
            waker: self.waker.clone(),
            body_bytes_max: self.body_bytes_max,
            skew: self.skew,
        }
    }
}

impl<E: StorageContext + Spawner> Paced<E> {
    fn draft(&self, clock: &E, parent: &Header) -> Draft {
        Draft {
            candidate: self.machine.candidate(parent, self.body_bytes_max),
            now_ms: now_ms(clock).saturating_add(millis(self.skew)),
            handoff: self.timing.handoff,
        }
    }

    /// How long until a block that names this time may be voted for.
    fn early(&self, clock: &E, timestamp_ms: u64) -> Duration {
        until(clock, timestamp_ms.saturating_sub(millis(self.timing.drift)))
    }

    /// Returns when the least interval after `parent` is over.
    async fn wait_for_interval(&self, clock: &E, parent: &Header) {
        // A parent from a faster clock must not hold this one up for longer than the interval.
        let ahead = until(clock, parent.timestamp_ms.saturating_add(millis(self.timing.min_interval)));
        clock.sleep(ahead.min(self.timing.min_interval)).await;
    }

    /// Returns when it is time to propose on `parent`: not before the least interval, and then as soon as there is work
    /// or the heartbeat is due.
    async fn wait_for_turn(&self, clock: &E, parent: &Header) {
        self.wait_for_interval(clock, parent).await;
        let mut wakes = self.waker.0.subscribe();
        let silence =
            until(clock, parent.timestamp_ms.saturating_add(millis(self.timing.heartbeat))).min(self.timing.heartbeat);
        let heartbeat = clock.sleep(silence);
        let work = async {
            while !self.machine.waiting(parent) {
                if wakes.changed().await.is_err() {
                    // The node is stopping: only the heartbeat is left to wait for.
                    std::future::pending::<()>().await;
                }
            }
        };
        select! {
            _ = heartbeat => {},
            _ = work => {},
        }
    }
}

impl<E: StorageContext + Spawner> Application<E> for Paced<E> {
    type SigningScheme = Scheme;
    type Context = Context;
    type Block = Block;
    type Input = ();

    async fn prepare(
        &mut self,
        (clock, context): (E, Context),
        ancestry: impl Ancestry<Block>,
        (): (),
    ) -> Handoff<Digested<Block>> {
        let Some(parent) = ancestry.peek().cloned() else {
            return Handoff::Wait;
        };
        let parent = parent.inner().header();
        if self.timing.handoff == config::Handoff::Wait {
            return Handoff::Wait;
        }
        self.wait_for_interval(&clock, parent).await;
        // The parent was voted for before it was judged. One that this node cannot certify yet is none to build on: nobody
        // else could either, and a time at the end of all times leaves none for a child.
        let early = self.early(&clock, parent.timestamp_ms);
        if !early.is_zero() || !self.machine.seen(&parent.l1) || !self.machine.waiting(parent) {
            return Handoff::Wait;
        }
        let draft = self.draft(&clock, parent);
        self.state.prepare((clock, context), ancestry, draft).await
    }

    async fn propose(
        &mut self,
        (clock, context): (E, Context),
        ancestry: impl Ancestry<Block>,
        (): (),
    ) -> Option<Digested<Block>> {
        let parent = ancestry.peek()?.clone();
        self.wait_for_turn(&clock, parent.inner().header()).await;
        let draft = self.draft(&clock, parent.inner().header());
        self.state.propose((clock, context), ancestry, draft).await
    }

    async fn verify(&mut self, (clock, context): (E, Context), ancestry: impl Ancestry<Block>) -> bool {
        let Some(block) = ancestry.peek().cloned() else {
            // Nothing to judge, so nothing that could be called invalid: abstain until consensus gives the view up.
            return std::future::pending().await;
        };
        let (timestamp_ms, origin) = (block.inner().header().timestamp_ms, block.inner().header().l1);
        loop {
            let early = self.early(&clock, timestamp_ms);
            if early.is_zero() {
                break;
            }
            debug!(?early, "a block is ahead of the clock: waiting");
            clock.sleep(early.min(NAP_MAX)).await;
        }
        // Which of these an unmoved origin is does not matter: a quorum has seen it, and so has this node, or it waits a little.
        while !self.machine.seen(&origin) {
            debug!(number = origin.number, "a block names an L1 block that this node has not seen: waiting");
            clock.sleep(L1_NAP).await;
        }
        self.state.verify((clock, context), ancestry).await
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn now_ms(clock: &impl Clock) -> u64 {
    millis(clock.current().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// How long until `timestamp_ms`; zero once it has passed.
fn until(clock: &impl Clock, timestamp_ms: u64) -> Duration {
    Duration::from_millis(timestamp_ms.saturating_sub(now_ms(clock)))
}
