//! How does the rest of a node talk to the log?
//!
//! A [`Handle`] answers questions and passes messages. It decides nothing and holds no state of its own, apart from the
//! header of the applied tip.

use std::sync::Arc;

use bytes::Bytes;
use commonware_utils::channel::{mpsc, watch};
use lockstep_protocol::{
    header::Header,
    ids::{Hash32, Height},
};

use crate::{
    block::Block,
    machine::{Key, Record, Records},
};

/// Most headers between a block and the first descendant that has a certificate. Simplex certifies every block in
/// calm weather; a gap is as long as the run of blocks that one finalization carried.
pub const DESCENDANTS_MAX: usize = 64;

/// Proof for a third party that a block is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finality {
    /// Empty if the certificate is the block's own. Otherwise the headers of the following blocks, up to and including
    /// the first that has a certificate; each names its parent's digest.
    pub descendants: Vec<Header>,
    /// The certificate over the last of those headers.
    pub certificate: Certificate,
}

/// A finalization certificate: a threshold signature over a round, a parent's view and a header's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Epoch of the validator set.
    pub epoch: u64,
    /// View in which the block was finalized.
    pub view: u64,
    /// View of its parent.
    pub parent_view: u64,
    /// BLS12-381 signature in G1, compressed. See [`crate::keys`] for what it signs.
    pub signature: [u8; 48],
}

/// A record, or its absence, proven against the state root of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The header whose `state` the proof leads to: the applied tip when the proof was made.
    pub header: Header,
    /// The record; `None` if the key is absent.
    pub record: Option<Record>,
    /// For [`crate::proof::verify`].
    pub proof: Bytes,
}

/// The log has stopped and answers no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log has stopped")]
pub struct Stopped;

/// A message was not sent to the other validators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GossipError {
    /// Longer than the longest message; the field is that bound.
    #[error("longer than {0} bytes")]
    Length(usize),
    /// The queue of outgoing messages is full: drop it, or try again later.
    #[error("too many messages are waiting to be sent")]
    Full,
    /// The log has stopped.
    #[error("the log has stopped")]
    Stopped,
}

/// The way to a running log. Cheap to clone, usable from any thread and any async runtime.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// Header of the applied tip: the last final block whose state is readable. Genesis before the first.
    pub fn tip(&self) -> Header;

    /// The applied tip as it moves. A slow watcher skips heights.
    pub fn watch(&self) -> watch::Receiver<Header>;

    /// A final block from the archive. `None` above the tip, or below what is retained.
    pub async fn block(&self, height: Height) -> Option<Block>;

    /// Proof that the block at `height` is final. `None` above the tip, or below what is retained.
    pub async fn finality(&self, height: Height) -> Option<Finality>;

    /// Records at the applied tip, and its header. One batch; order and repetition of keys do not matter.
    pub async fn read(&self, keys: Vec<Key>) -> Result<(Header, Records), Stopped>;

    /// A record at the applied tip with a proof against that header's state root.
    pub async fn prove(&self, key: Key) -> Result<Proven, Stopped>;

    /// Says that work has arrived: an idle leader proposes at once.
    pub fn wake(&self);

    /// Sends an application message to all other validators, best effort. Never waits.
    pub fn gossip(&self, message: Bytes) -> Result<(), GossipError>;

    /// The receiving end of [`gossip`](Self::gossip): `(sender's key, message)`. Bounded; messages that find it full are
    /// dropped. There is one, for whoever asks first.
    pub fn inbox(&self) -> Option<mpsc::Receiver<(Hash32, Bytes)>>;

    /// Metrics of the runtime and everything on it, in the Prometheus text format.
    pub fn metrics(&self) -> String;

    /// Validators connected to this one, itself not counted.
    pub fn peers(&self) -> usize;
}
