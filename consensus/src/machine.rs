//! What must a state machine offer so that the log can drive it?
//!
//! The traits and values at the border between the log and the application. Nothing here runs: see `application.rs`.
//!
//! The log calls a [`Machine`] in this order. A leader takes a [`Candidate`], asks for its keys, reads them in one pass
//! and has [`Machine::build`] drop what does not fit. Everybody else asks for the keys of the finished body, reads them
//! and has [`Machine::apply`] reproduce the same [`Outcome`]; the roots in the header are compared by the log. A block
//! that is final on disk is handed to [`Machine::finalized`].

use std::fmt;

use bytes::Bytes;
use lockstep_protocol::{
    header::{Header, L1Origin},
    ids::{Hash32, Height},
};

use crate::block::Block;
pub use crate::{
    block::Genesis,
    record::{Key, RECORD_BYTES, Record, Records},
};

/// The deterministic state machine that the log drives.
///
/// All methods are synchronous and run on the log's own tasks: none may wait for input, a lock that is held long, or a
/// full queue. Apart from [`candidate`](Self::candidate), [`waiting`](Self::waiting) and
/// [`finalized`](Self::finalized) they must be functions of their arguments alone. Several may run at once.
pub trait Machine: Send + Sync + 'static {
    /// The facts that every validator must agree on before the first block.
    fn genesis(&self) -> Genesis;

    /// Whether there is something to order after `parent`. A leader with nothing waiting keeps silent until the
    /// heartbeat. Too eager an answer costs an empty block, never a wrong one.
    fn waiting(&self, parent: &Header) -> bool;

    /// What to order after `parent`, from whatever is waiting, at most `limit` bytes. The parent may not be final yet:
    /// what its unfinalized ancestors hold may be offered again, and [`build`](Self::build) drops it.
    fn candidate(&self, parent: &Header, limit: usize) -> Candidate;

    /// Every key that executing `body` at `position` may read or write.
    fn keys(&self, position: &Position, body: &Bytes) -> Result<Vec<Key>, Invalid>;

    /// Those of [`keys`](Self::keys) whose records name further keys. Mostly none: they are read in a pass of their own.
    fn leads(&self, _: &Position, _: &Bytes) -> Vec<Key> {
        Vec::new()
    }

    /// The further keys that the records of the [`leads`](Self::leads) name. Theirs must name no others.
    fn more_keys(&self, _: &Position, _: &Bytes, _: &Records) -> Vec<Key> {
        Vec::new()
    }

    /// Proposer: executes a candidate, dropping what does not fit. Returns the final body, whose keys must be among
    /// those of the candidate, and its outcome. `records` holds every key that [`keys`](Self::keys)
    /// and [`more_keys`](Self::more_keys) named.
    fn build(&self, position: &Position, candidate: Bytes, records: &Records) -> (Bytes, Outcome);

    /// Verifier: executes a body exactly as it stands. An error says that the block can never be valid here; a rule that
    /// depends on the local clock or on local knowledge must not be checked.
    fn apply(
        &self,
        position: &Position,
        body: &Bytes,
        records: &Records,
        standing: Standing,
    ) -> Result<Outcome, Invalid>;

    /// Whether this node has itself seen the L1 block that a proposal names. Until it has, it does not vote: a leader cannot
    /// move the origin to a block that a quorum knows nothing of. Asked again while the proposal waits.
    fn seen(&self, origin: &L1Origin) -> bool;

    /// A block is final, in height order, with its state readable and its bytes on disk. It may come again after a
    /// restart (be idempotent by height), and heights may be missing after a state sync or if this call was the last
    /// before a crash: an index compares its own height with [`Handle::tip`](crate::handle::Handle::tip) at start and
    /// reads what it missed with [`Handle::block`](crate::handle::Handle::block).
    fn finalized(&self, block: &Block);
}

/// What a leader would like to order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// An encoded body.
    pub body: Bytes,
    /// The latest L1 block that this node has seen. One behind the parent's is replaced by the parent's.
    pub l1: L1Origin,
}

/// Where in the log a body stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Header of the parent.
    pub parent: Header,
    /// Epoch of the validator set.
    pub epoch: u64,
    /// View in which the block is proposed.
    pub view: u64,
    /// The proposer's ed25519 key.
    pub leader: Hash32,
    /// The block's height: one above its parent's.
    pub height: Height,
    /// Milliseconds since the Unix epoch, strictly greater than the parent's.
    pub timestamp_ms: u64,
    /// The latest L1 block that the log has seen: never behind the parent's, and the same block at the same number.
    pub l1: L1Origin,
}

/// What executing a body did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Records that change, `None` to delete. Only keys that [`Machine::keys`] or
    /// [`Machine::more_keys`] named.
    pub writes: Records,
    /// Root of the lane tree after the block.
    pub lanes: Hash32,
}

/// What is already known about a block that is being executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A proposal: check every rule.
    Candidate,
    /// A quorum finalized it, so checks that leave the state unchanged, such as signatures, may be skipped.
    Finalized,
}

/// Why a body can never be valid at its position.
pub struct Invalid(Box<dyn std::error::Error + Send + Sync>);

impl Invalid {
    /// A reason in words.
    pub fn because(reason: impl Into<String>) -> Self {
        Self(reason.into().into())
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Invalid {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
