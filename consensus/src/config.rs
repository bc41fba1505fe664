//! What can be chosen about a validator, and what follows from the choice?
//!
//! Values and their reasons only. Keys are in `keys.rs`, addresses in `node.rs`.

use std::{num::NonZeroU64, time::Duration};

use commonware_codec::FixedSize;
use commonware_consensus::{marshal, simplex};
use commonware_cryptography::blake3;
use commonware_glue::stateful::{db::p2p, probe};
use commonware_p2p::max_message_size;
use commonware_storage::{mmr, qmdb::any::ordered::fixed::Operation};
use commonware_utils::{NZU64, sequence::FixedBytes};

use crate::{
    block::Variant,
    record::RECORD_BYTES,
    types::{Digest, Scheme},
};

/// Operations of the state that one peer serves at once. All validators must use the same, or state sync stays silent.
pub(crate) const SYNC_BATCH: NonZeroU64 = NZU64!(256);

/// Longest message of [`Handle::gossip`](crate::handle::Handle::gossip): applications batch below it, and a single thing
/// that they pass on must fit. Far below a block, so that it delays none; 256 of them, the queue of what others say, are
/// the 80 MiB that hostile validators can make this one hold.
pub const GOSSIP_BYTES_MAX: usize = 320 * 1024;

/// Most validators: bounds the keys file and everything that is sized by the committee.
pub const VALIDATORS_MAX: u32 = 64;

/// How a validator keeps time. Everything here may differ between validators without breaking agreement, but a
/// heartbeat longer than another's `leader_timeout` costs a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A leader does not propose sooner than this after its parent's timestamp.
    pub min_interval: Duration,
    /// A leader with nothing to order proposes an empty block this long after its parent's timestamp.
    pub heartbeat: Duration,
    /// A block from further in the future than this is not voted for until the clock gets there.
    pub drift: Duration,
    /// A view without a proposal is given up after this. Must exceed the heartbeat and what clocks may differ.
    pub leader_timeout: Duration,
    /// A view that is not certified is given up after this. Must exceed `leader_timeout`.
    pub certification_timeout: Duration,
    /// Pause between repetitions of giving up a view.
    pub nullify_retry: Duration,
    /// A leader that was not heard for this long is skipped at once. Must exceed `certification_timeout`.
    pub skip_timeout: Duration,
    /// A peer that does not answer a request within this is passed over.
    pub fetch_timeout: Duration,
    /// Pause before an unanswered request is repeated.
    pub fetch_retry: Duration,
    /// How the next leader uses the time until its parent is certified.
    pub handoff: Handoff,
}

/// What the next leader does between having voted for its parent and the parent's certificate, a network delay later.
///
/// No choice can make honest validators disagree. What is said of the last two is so when there is work and the least
/// interval is over; otherwise the leader waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handoff {
    /// Nothing: it takes what is waiting when the certificate is there. A block every two network delays.
    Wait,
    /// Takes what is waiting, builds and sends its block, and votes for it when the certificate is there. Hides the time
    /// to build; what arrives meanwhile waits for the next leader.
    Stage,
    /// Takes what is waiting, builds and sends its block, and votes for it at once. A block every network delay. A parent
    /// that is never certified, because its leader equivocates or is cut off, costs the next view as well.
    #[default]
    Vote,
}

impl Timing {
    /// Timing that follows from a heartbeat.
    pub fn with_heartbeat(heartbeat: Duration) -> Self {
        // Empty views last for the heartbeat, and clocks may be apart by the drift on top.
        let leader_timeout = heartbeat + Duration::from_millis(1_000);
        let certification_timeout = leader_timeout + Duration::from_millis(1_000);
        Self {
            min_interval: Duration::from_millis(0),
            heartbeat,
            drift: Duration::from_millis(500),
            leader_timeout,
            certification_timeout,
            nullify_retry: Duration::from_millis(500),
            skip_timeout: certification_timeout + Duration::from_millis(1_000),
            fetch_timeout: Duration::from_millis(1_000),
            fetch_retry: Duration::from_millis(100),
            handoff: Handoff::default(),
        }
    }

    /// Says which rule between the values is broken, if one is.
    pub fn check(&self) -> Result<(), TimingError> {
        let rules = [
            (self.leader_timeout > self.heartbeat, "leader_timeout must exceed heartbeat"),
            (self.leader_timeout > self.min_interval, "leader_timeout must exceed min_interval"),
            (self.certification_timeout > self.leader_timeout, "certification_timeout must exceed leader_timeout"),
            (self.skip_timeout > self.certification_timeout, "skip_timeout must exceed certification_timeout"),
            (self.skip_timeout > self.nullify_retry, "skip_timeout must exceed nullify_retry"),
            (!self.nullify_retry.is_zero(), "nullify_retry must not be zero"),
            (!self.fetch_timeout.is_zero(), "fetch_timeout must not be zero"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(TimingError(rule)),
            None => Ok(()),
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::with_heartbeat(Duration::from_millis(1_000))
    }
}

/// Two values of a [`Timing`] contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TimingError(&'static str);

/// What a validator keeps of the past.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// Every block and certificate.
    #[default]
    Everything,
    /// About this many final blocks. Older ones are gone for good from this node, and a peer that is further behind
    /// must join by [`Join::Sync`].
    Blocks(u32),
}

/// How a validator with an empty directory begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Join {
    /// From genesis, executing every block. Needs peers that kept everything.
    #[default]
    Replay,
    /// From a recent final block, fetching the state as of then from peers. Waits until more than a third of the
    /// validators have finalized something, so a new network must not begin like this. A warning
    /// every ten seconds says what it waits for, and the metric `validator_join_waited_seconds` how long it took.
    Sync,
}

/// What all parts of a validator share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest body. All validators must use the same, and it must never shrink while longer ones are stored.
    pub body_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes_max: 1 << 20 }
    }
}

impl Limits {
    /// Longest message between validators, for a network that panics on longer ones.
    pub(crate) fn message_bytes_max(&self) -> u32 {
        let operation = Operation::<mmr::Family, FixedBytes<32>, FixedBytes<RECORD_BYTES>>::SIZE;
        max_message_size(&[
            simplex::max_payload_size::<Scheme, Digest>(VALIDATORS_MAX),
            marshal::max_payload_size::<Variant, Scheme>(VALIDATORS_MAX, &self.body_bytes_max),
            probe::max_payload_size::<Variant, Scheme>(VALIDATORS_MAX),
            p2p::max_payload_size::<mmr::Family, blake3::Digest>(SYNC_BATCH, operation),
            GOSSIP_BYTES_MAX,
        ])
    }
}
