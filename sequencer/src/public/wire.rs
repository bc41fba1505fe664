//! What do peers say to each other, byte for byte?
//!
//! Versioned envelopes as in `lockstep_protocol::wire`, each in a frame of its own (`frames.rs`). Refusals and query errors
//! travel as their JSON form, which is the stable one. Gossip carries a lane item's envelope alone.

use borsh::{BorshDeserialize, BorshSerialize};
use lockstep_protocol::{
    certificate::CertificateError,
    ids::{BundleId, Height, RollupId},
    lane::{LaneError, LaneItem},
    limits::MAX_LANE_ITEM_BYTES,
    refusal::Refusal,
    rpc::{LanePage, QueryError},
    wire::{Wire, WireError},
};

/// Items of one answer: a dozen answers a second are a lane's history faster than it can be checked.
pub(super) const MAX_RANGE_ITEMS: u16 = 256;
/// Bytes of one answer: one item of the largest size and the proof of the tip always fit.
pub(super) const MAX_RANGE_BYTES: usize = 2 * MAX_LANE_ITEM_BYTES;
/// Bytes of a refusal or a query error: a sentence and its facts.
pub(super) const MAX_REFUSAL_BYTES: usize = 4 * 1024;

/// Asks for the items of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RangeRequest {
    /// Whose lane.
    pub rollup: RollupId,
    /// The first height.
    pub from_height: Height,
    /// At most this many items.
    pub max_items: u16,
}

/// Answers it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum RangeAnswer {
    /// The items, as many of them as fit.
    Page {
        /// Items with entries, by height.
        items: Vec<LaneItem>,
        /// If the page reaches the tip: an item without entries, the proof that nothing came after.
        tip: Option<Box<LaneItem>>,
        /// Ask for this height next.
        next_height: Height,
    },
    /// The JSON form of a `QueryError`.
    Refused(String),
}

/// Answers a bundle.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum BundleAnswer {
    /// It will be ordered, or expire.
    Taken(BundleId),
    /// The JSON form of a `Refusal`.
    Refused(String),
}

impl Wire for RangeRequest {
    const MAX_BYTES: usize = 1 + 8 + 8 + 2;
}

impl Wire for RangeAnswer {
    const MAX_BYTES: usize = MAX_RANGE_BYTES;
}

impl Wire for BundleAnswer {
    const MAX_BYTES: usize = MAX_REFUSAL_BYTES;
}

/// What is wrong with what a peer sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is no message of this protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It is an item that does not continue its lane.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// It is a page of more items than were asked for.
    #[error("{found} items, {max} were asked for")]
    TooManyItems {
        /// Asked for.
        max: u16,
        /// Sent.
        found: usize,
    },
    /// It is a page item without entries, or a proof of the tip with some.
    #[error("height {0}: items of a page have entries, the proof of the tip has none")]
    Misplaced(Height),
}

impl Fault {
    /// Every stable name, as the metrics show them.
    pub(super) const REASONS: [&'static str; 13] = [
        "malformed",
        "wrong_network",
        "too_many_descendants",
        "broken_chain",
        "forged",
        "wrong_lane",
        "path",
        "replayed",
        "gap",
        "shape",
        "transactions",
        "chain",
        "page",
    ];

    /// Its stable name.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Wire(_) => "malformed",
            Self::TooManyItems { .. } | Self::Misplaced(_) => "page",
            Self::Lane(error) => match error {
                LaneError::Certificate(CertificateError::WrongNetwork { .. }) => "wrong_network",
                LaneError::Certificate(CertificateError::TooManyDescendants(_)) => "too_many_descendants",
                LaneError::Certificate(CertificateError::BrokenChain(_)) => "broken_chain",
                LaneError::Certificate(CertificateError::Forged(_) | CertificateError::GroupKey) => "forged",
                LaneError::WrongLane { .. } => "wrong_lane",
                LaneError::Path { .. } => "path",
                LaneError::Replayed { .. } => "replayed",
                LaneError::Gap { .. } => "gap",
                LaneError::Shape { .. } => "shape",
                LaneError::Transactions { .. } => "transactions",
                LaneError::Chain { .. } => "chain",
            },
        }
    }
}

impl RangeAnswer {
    /// The answer of a page, cut to what one answer may hold.
    pub(super) fn from_page(page: LanePage) -> Self {
        let LanePage { items, tip, next_height } = page;
        // Version, variant, count, the absent tip, the next height.
        let mut bytes = 1 + 1 + 4 + 1 + 8;
        let mut kept = Vec::with_capacity(items.len());
        for item in items {
            bytes += length(&item);
            if bytes > MAX_RANGE_BYTES {
                let next_height = item.header.height;
                return Self::Page { items: kept, tip: None, next_height };
            }
            kept.push(item);
        }
        let tip = tip.filter(|tip| bytes + length(tip) <= MAX_RANGE_BYTES).map(Box::new);
        Self::Page { items: kept, tip, next_height }
    }

    /// The answer of an error.
    pub(super) fn refused(error: &QueryError) -> Self {
        Self::Refused(json(error, r#"{"reason":"bad_request","detail":"the reason is too long to send"}"#))
    }
}

impl BundleAnswer {
    /// The answer of a verdict.
    pub(super) fn from_verdict(verdict: &Result<BundleId, Refusal>) -> Self {
        match verdict {
            Ok(id) => Self::Taken(*id),
            Err(refusal) => Self::Refused(json(refusal, r#"{"reason":"malformed","detail":"too long to send"}"#)),
        }
    }

    /// The verdict in the answer.
    pub(super) fn into_verdict(self) -> Result<Result<BundleId, Refusal>, WireError> {
        match self {
            Self::Taken(id) => Ok(Ok(id)),
            Self::Refused(text) => refusal(&text).map(Err),
        }
    }
}

/// Reads the JSON form of a refusal or a query error.
pub(super) fn refusal<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, WireError> {
    if text.len() > MAX_REFUSAL_BYTES {
        return Err(WireError::TooLong { max: MAX_REFUSAL_BYTES, found: text.len() });
    }
    serde_json::from_str(text).map_err(|error| WireError::Malformed(error.to_string()))
}

/// Bytes of an item inside another message.
pub(super) fn length(item: &LaneItem) -> usize {
    borsh::object_length(item).expect("measuring does not fail")
}

/// A refusal as text. One that quotes a long text of the peer's own is sent as `short`.
fn json(refusal: &impl serde::Serialize, short: &'static str) -> String {
    let text = serde_json::to_string(refusal).expect("a refusal has a JSON form");
    // 16 bytes for envelope, variant and length.
    if text.len() + 16 <= MAX_REFUSAL_BYTES { text } else { short.into() }
}
