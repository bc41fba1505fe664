//! What can be wrong with what an adapter is given?
//!
//! Two boundaries: bytes from L1 ([`DecodeError`]), and a caller's lane, tip or blocks ([`AdapterError`]).

use lockstep_protocol::ids::{Height, RollupId};

/// Why an adapter refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdapterError {
    /// A lane block belongs to another rollup.
    #[error("lane block {height} belongs to rollup {found}, this adapter serves {expected}")]
    ForeignLane {
        /// The rollup served.
        expected: RollupId,
        /// The rollup that the lane block names.
        found: RollupId,
        /// Its height.
        height: Height,
    },
    /// Heights are missing: an empty height must be given as an empty lane block.
    #[error("the lane jumps from height {after} to {found}")]
    LaneGap {
        /// The last height before the gap.
        after: Height,
        /// The height found instead of its successor.
        found: Height,
    },
    /// The lane does not reach back to what the chain already holds, so something may be missing in between.
    #[error("the lane starts at {first_ms} ms, after {lane_ms} ms where the chain stops")]
    LaneStartsLate {
        /// Up to where the chain holds the lane.
        lane_ms: u64,
        /// Timestamp of the first lane block given.
        first_ms: u64,
    },
    /// Timestamps or L1 numbers go backwards.
    #[error("lane block {height} goes back in time or in L1 number")]
    LaneBackwards {
        /// The height that goes back.
        height: Height,
    },
    /// The view of L1 lacks a block that the lane has seen. Retry with a longer view.
    #[error("the view of L1 ends at block {last}, block {needed} is needed")]
    L1Behind {
        /// Last block of the view.
        last: u64,
        /// The block needed.
        needed: u64,
    },
    /// The view of L1 and the lane or the chain name different blocks at one number: L1 was reorganised.
    #[error("L1 block {number} has another hash in the view than in the lane, the chain or the batch")]
    L1Fork {
        /// The number with two hashes.
        number: u64,
    },
    /// A view of L1 that is not a chain.
    #[error("the view of L1 is not contiguous at block {number}")]
    L1Gap {
        /// The block that does not follow its predecessor.
        number: u64,
    },
    /// An executed block does not follow its parent by the rollup's rules.
    #[error("block {number}: {rule}")]
    Block {
        /// Number of the block.
        number: u64,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// Something exceeds a limit of the rollup or of ours.
    #[error("{what}: {found} exceeds {limit}")]
    Limit {
        /// What is limited.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// What was found.
        found: u64,
    },
    /// Bytes from L1 that are not a batch of this rollup.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end early.
    #[error("{0} ends early")]
    Truncated(&'static str),
    /// Bytes are left over.
    #[error("{0} is followed by bytes that do not belong to it")]
    Trailing(&'static str),
    /// A field has a form or a value that is not allowed.
    #[error("{what}: {reason}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A version or type that is not known.
    #[error("{what}: unknown version or type {found:#04x}")]
    Version {
        /// The field.
        what: &'static str,
        /// The byte found.
        found: u8,
    },
    /// Something exceeds its limit; checked before memory is taken for it.
    #[error("{what}: {found} exceeds {limit}")]
    Limit {
        /// What is limited.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// What was found; one above the limit where counting stopped there.
        found: u64,
    },
    /// RLP that is not canonical or not of the expected shape.
    #[error("{what}: {source}")]
    Rlp {
        /// The field.
        what: &'static str,
        /// What the RLP reader says.
        source: alloy_rlp::Error,
    },
    /// A compressed stream that does not decompress.
    #[error("{0} stream does not decompress")]
    Compression(&'static str),
}

impl DecodeError {
    pub(crate) fn rlp(what: &'static str) -> impl Fn(alloy_rlp::Error) -> Self {
        move |source| Self::Rlp { what, source }
    }
}
