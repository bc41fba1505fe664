//! Lanes: a rollup's ordered stream, as a hash chain that every header commits to.
//!
//! ```text
//! feed_0   = blake3("lockstep/lane/genesis/v1" || borsh(network, rollup))
//! feed'    = blake3("lockstep/lane/item/v1" || borsh(feed, rollup, height, timestamp_ms, l1, entries))   if there are entries
//! content  = blake3("lockstep/leg/v1" || borsh(transactions))
//! leaf     = keccak256(keccak256(abi.encode(uint64 rollup, uint64 sequence, bytes32 feed,
//!                                           uint64 decisionSequence, bytes32 decisions)))
//! ```

use borsh::{
    BorshDeserialize, BorshSerialize,
    io::{Read, Result as IoResult},
};
use serde::{Deserialize, Serialize};

use crate::{
    bundle::Transaction,
    certificate::{CertificateError, Finality, Verifier},
    digest::digest,
    header::Header,
    ids::{BundleId, Hash32, Height, NetworkId, RollupId, SettlementId},
    limits::{MAX_BUNDLES_PER_BODY, MAX_LANE_ITEM_BYTES, MAX_LANE_PATH, MAX_TRANSACTIONS_PER_LEG},
    settlement::chain::chain,
    tree::{climb, leaf_hash},
    wire::{self, Wire},
};

/// A lane's state: what a header commits to for a rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaneLeaf {
    /// Whose lane.
    pub rollup: RollupId,
    /// Blocks so far that had something for this rollup.
    pub sequence: u64,
    /// Chain over all of them.
    pub feed: Hash32,
    /// Settlement decisions so far.
    pub decision_sequence: u64,
    /// keccak256 chain over the decisions.
    pub decisions: Hash32,
}

/// One thing that a block has for a rollup.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LaneEntry {
    /// A bundle's leg.
    Leg {
        /// Whose leg.
        bundle: BundleId,
        /// Hash of its transactions.
        content: Hash32,
    },
}

/// What one block has for one rollup, with the proof of it. Without entries: the proof that it has nothing.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaneItem {
    /// The block's header.
    pub header: Header,
    /// Why the block is final.
    pub finality: Finality,
    /// The lane after the block.
    pub leaf: LaneLeaf,
    /// From the leaf to `header.lanes`.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_LANE_PATH>")]
    pub path: Vec<Hash32>,
    /// What the block has for the rollup, in order.
    #[borsh(deserialize_with = "wire::list::<_, _, MAX_BUNDLES_PER_BODY>")]
    pub entries: Vec<LaneEntry>,
    /// For each entry, its transactions.
    #[borsh(deserialize_with = "leg_lists")]
    pub transactions: Vec<Vec<Transaction>>,
}

/// Reads the transactions of legs with the bounds that bundles have.
fn leg_lists<R: Read>(reader: &mut R) -> IoResult<Vec<Vec<Transaction>>> {
    let lists: Vec<LegTransactions> = wire::list::<_, _, MAX_BUNDLES_PER_BODY>(reader)?;
    Ok(lists.into_iter().map(|list| list.0).collect())
}

#[derive(BorshDeserialize)]
struct LegTransactions(#[borsh(deserialize_with = "wire::list::<_, _, MAX_TRANSACTIONS_PER_LEG>")] Vec<Transaction>);

impl Wire for LaneItem {
    const MAX_BYTES: usize = MAX_LANE_ITEM_BYTES;
}

/// Why an item does not continue a lane.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum LaneError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("an item of lane {found}, this follower follows {expected}")]
    WrongLane { expected: RollupId, found: RollupId },
    #[error("the path of {length} hashes does not lead to the lane root of height {height}")]
    Path { height: Height, length: usize },
    #[error("height {height} was passed already: verified up to {verified}")]
    Replayed { height: Height, verified: Height },
    #[error("items {from}..={to} of the lane are missing before height {height}")]
    Gap { height: Height, from: u64, to: u64 },
    #[error("{entries} entries with {transactions} lists of transactions at height {height}")]
    Shape { height: Height, entries: usize, transactions: usize },
    #[error("the transactions of entry {entry} at height {height} are not those that were ordered")]
    Transactions { height: Height, entry: usize },
    #[error("the entries at height {height} do not carry the lane to its new leaf")]
    Chain { height: Height },
}

impl LaneLeaf {
    /// A lane before its first entry.
    pub fn genesis(network: NetworkId, rollup: RollupId) -> Self {
        Self {
            rollup,
            sequence: 0,
            feed: digest("lockstep/lane/genesis/v1", &(network, rollup)),
            decision_sequence: 0,
            decisions: Hash32::default(),
        }
    }

    /// The lane after a block that has `entries` for it.
    pub fn extend(self, header: LaneContext, entries: &[LaneEntry]) -> Self {
        if entries.is_empty() {
            return self;
        }
        let feed = digest("lockstep/lane/item/v1", &(self.feed, self.rollup, header, entries));
        Self { sequence: self.sequence + 1, feed, ..self }
    }

    /// The lane after a decision: see `settlement::decision`.
    pub fn decide(self, settlement: SettlementId, outcome: u8) -> Self {
        let decisions = chain(self.decisions, settlement, outcome);
        Self { decision_sequence: self.decision_sequence + 1, decisions, ..self }
    }

    /// Its hash in the lane tree.
    pub fn hash(&self) -> Hash32 {
        let mut encoded = [0; 160];
        encoded[24..32].copy_from_slice(&self.rollup.0.to_be_bytes());
        encoded[56..64].copy_from_slice(&self.sequence.to_be_bytes());
        encoded[64..96].copy_from_slice(&self.feed.0);
        encoded[120..128].copy_from_slice(&self.decision_sequence.to_be_bytes());
        encoded[128..160].copy_from_slice(&self.decisions.0);
        leaf_hash(&encoded)
    }
}

/// What a lane's chain takes from a header: all that a rollup's blocks may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize)]
pub struct LaneContext {
    /// The block's height.
    pub height: Height,
    /// The block's timestamp.
    pub timestamp_ms: u64,
    /// The block's L1 origin.
    pub l1: crate::header::L1Origin,
}

impl From<&Header> for LaneContext {
    fn from(header: &Header) -> Self {
        Self { height: header.height, timestamp_ms: header.timestamp_ms, l1: header.l1 }
    }
}

/// The hash of a leg's transactions.
pub fn content(transactions: &[Transaction]) -> Hash32 {
    digest("lockstep/leg/v1", transactions)
}

/// A follower's place in a lane. It holds the last verified leaf, and moves only over items that prove themselves.
#[derive(Clone)]
pub struct LaneFollower {
    verifier: Verifier,
    leaf: LaneLeaf,
    height: Height,
}

impl LaneFollower {
    /// Starts before the lane's first item.
    pub fn from_genesis(verifier: Verifier, rollup: RollupId) -> Self {
        let leaf = LaneLeaf::genesis(verifier.network(), rollup);
        Self { verifier, leaf, height: Height(0) }
    }

    /// Starts after `item`, whose proof is checked, but not what came before it, nor what the item itself contains.
    /// The lane is the item's: compare `leaf().rollup` with the one that is wanted.
    pub fn from_item(verifier: Verifier, item: &LaneItem) -> Result<Self, LaneError> {
        verify_leaf(&verifier, item)?;
        Ok(Self { verifier, leaf: item.leaf, height: item.header.height })
    }

    /// The lane as verified.
    pub fn leaf(&self) -> LaneLeaf {
        self.leaf
    }

    /// The height up to which the lane is verified.
    pub fn height(&self) -> Height {
        self.height
    }

    /// Moves over `item`, or says why it does not continue the lane. After an error the follower stands where it stood.
    pub fn accept(&mut self, item: &LaneItem) -> Result<(), LaneError> {
        let height = item.header.height;
        if item.leaf.rollup != self.leaf.rollup {
            return Err(LaneError::WrongLane { expected: self.leaf.rollup, found: item.leaf.rollup });
        }
        if height <= self.height {
            return Err(LaneError::Replayed { height, verified: self.height });
        }
        if item.entries.len() != item.transactions.len() {
            return Err(LaneError::Shape {
                height,
                entries: item.entries.len(),
                transactions: item.transactions.len(),
            });
        }
        verify_leaf(&self.verifier, item)?;
        // Only a proven leaf shows that items are missing: a gap is a fact, not the word of whoever sent the item.
        let before = if item.entries.is_empty() { item.leaf.sequence } else { item.leaf.sequence.saturating_sub(1) };
        if before > self.leaf.sequence {
            return Err(LaneError::Gap { height, from: self.leaf.sequence + 1, to: before });
        }
        for (index, (LaneEntry::Leg { content: expected, .. }, transactions)) in
            item.entries.iter().zip(&item.transactions).enumerate()
        {
            if content(transactions) != *expected {
                return Err(LaneError::Transactions { height, entry: index });
            }
        }
        let extended = self.leaf.extend(LaneContext::from(&item.header), &item.entries);
        if (extended.sequence, extended.feed) != (item.leaf.sequence, item.leaf.feed) {
            return Err(LaneError::Chain { height });
        }
        self.leaf = item.leaf;
        self.height = height;
        Ok(())
    }
}

fn verify_leaf(verifier: &Verifier, item: &LaneItem) -> Result<(), LaneError> {
    if item.path.len() > MAX_LANE_PATH || climb(item.leaf.hash(), &item.path) != item.header.lanes {
        return Err(LaneError::Path { height: item.header.height, length: item.path.len() });
    }
    verifier.verify(&item.header, &item.finality)?;
    Ok(())
}
