//! Every bound of the protocol, each with its reason. `lockstep_getLimits` publishes them.

use serde::Serialize;

/// Legs of one bundle. A leg is a rollup; a bundle across more rollups than this can hardly be hedged by anyone.
pub const MAX_LEGS: usize = 8;
/// Transactions of one leg: a venue's batch of orders and cancels.
pub const MAX_TRANSACTIONS_PER_LEG: usize = 64;
/// Bytes of one transaction: what go-ethereum's pool accepts (`txMaxSize`, 128 KiB).
pub const MAX_TRANSACTION_BYTES: usize = 128 * 1024;
/// Bytes of one leg: one transaction of the largest size, with its framing.
pub const MAX_LEG_BYTES: usize = MAX_TRANSACTION_BYTES + 1024;
/// Bytes of one encoded bundle with its signature: two of the largest legs.
pub const MAX_BUNDLE_BYTES: usize = 2 * MAX_LEG_BYTES + 1024;
/// Bytes of an encoded body: what four validators on ordinary links exchange well within a view.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Bundles of one body: a full body of the smallest useful bundles.
pub const MAX_BUNDLES_PER_BODY: usize = 8_192;
/// Cancels of one body; one for each account at most.
pub const MAX_CANCELS_PER_BODY: usize = 1_024;
/// Bytes that one lane may use in a block: half a body, so that no rollup can fill a block alone.
pub const MAX_LANE_BYTES: u64 = MAX_BODY_BYTES as u64 / 2;
/// Bytes of a lane at which its base fee stands still: half its maximum, as in EIP-1559.
pub const LANE_BYTES_TARGET: u64 = MAX_LANE_BYTES / 2;
/// Heights ahead of the next block that a bundle may stay valid: bounds how long collateral can be promised, and the pool.
pub const MAX_VALIDITY: u64 = 8_192;
/// Nonces below the highest seen that an account still tells apart (RFC 6479), and the furthest jump ahead.
pub const NONCE_WINDOW: u64 = 1_024;
/// Rollups of one network. Every block commits to every lane, so each costs a state read a block.
pub const MAX_ROLLUPS: usize = 64;
/// Accounts that a genesis may fund: block 1 writes them all at once.
pub const MAX_GENESIS_ACCOUNTS: usize = 10_000;
/// Validators of one network: what the consensus engine's keys and messages are sized for.
pub const MAX_VALIDATORS: usize = 64;
/// Bytes of a network's or rollup's name: for people, in one line.
pub const MAX_NAME_BYTES: usize = 64;
/// Bytes of the public commitment to the group key's shares: a 96-byte point for each of `MAX_VALIDATORS`, and framing.
pub const MAX_SHARING_BYTES: usize = 96 * MAX_VALIDATORS + 64;
/// Headers between a block and the certificate that finalizes it. A longer run of views without a certificate of their own
/// does not happen while the validator set lives; a follower need not check one.
pub const MAX_DESCENDANTS: usize = 64;
/// Siblings on a path of the lane tree: six for `MAX_ROLLUPS` leaves, and room for four times as many.
pub const MAX_LANE_PATH: usize = 8;
/// Bytes of an encoded lane item: a lane's share of a body, its hashes, and its proof.
pub const MAX_LANE_ITEM_BYTES: usize = 2 * MAX_BODY_BYTES;

/// Legs of one settlement, at least: one that is debited, one that is credited.
pub const MIN_SETTLEMENT_LEGS: usize = 2;
/// Legs of one settlement: a venue on each rollup that a bundle may touch. Late legs are a bit each in a record.
pub const MAX_SETTLEMENT_LEGS: usize = MAX_LEGS;
/// Flows of one settlement: filling credits from debits in order makes at most one less than there are legs.
pub const MAX_FLOWS: usize = MAX_SETTLEMENT_LEGS - 1;
/// Heights between a settlement and its deadline, at least: it is executed, seen and signed, included, and proven.
pub const MIN_DEADLINE: u64 = 4;
/// Heights between a settlement and its deadline, at most: bounds how long margin is locked.
pub const MAX_DEADLINE: u64 = MAX_VALIDITY;
/// Heights between a deadline and the call that asks who is late, at most. Covers the finality of L1 at four blocks a second.
pub const MAX_APPLY_WINDOW: u64 = 8_192;
/// Deadlines that the state tells apart: those to come, and those whose window is not over.
pub const DUE_RING: u64 = 16_384;
/// Settlements on one page of a deadline: as many as fit a record.
pub const DUE_PER_PAGE: usize = 3;
/// Pages of a deadline. Every block reads those of two deadlines.
pub const DUE_PAGES: usize = 32;
/// Settlements of one deadline: at 20 blocks a second, some 1,900 a second whose deadlines spread as they came.
pub const MAX_DUE: usize = DUE_PER_PAGE * DUE_PAGES;
/// Settlements of one account that are neither aborted nor settled: nobody takes a corridor with many small ones.
pub const MAX_OPEN_SETTLEMENTS: u32 = 64;
/// Heights of each level that the state remembers for a rollup: a minute of blocks of 250 ms. Evidence is against one of them.
pub const HEAD_RING: u64 = 256;
/// Heights without a new head after which a rollup takes no new settlement: it may have halted.
pub const MAX_HEAD_AGE: u64 = 1_024;
/// Heights without new settlements after a reorganization: more may follow.
pub const REORG_QUARANTINE: u64 = 256;
/// Assets of one network: what an account has under way is counted for each in one record.
pub const MAX_ASSETS: usize = 8;
/// Corridors on one page: as many 128-bit numbers as fit a record.
pub const CORRIDORS_PER_PAGE: usize = 15;
/// Corridors of one network: 16 pages, read by every block. Fits a byte.
pub const MAX_CORRIDORS: usize = 16 * CORRIDORS_PER_PAGE;
/// Escrows of one rollup. Fits a byte.
pub const MAX_ESCROWS: usize = 64;
/// Posters of one rollup: one that posts and some that stand by.
pub const MAX_POSTERS: usize = 16;
/// Liquidator accounts of one rollup.
pub const MAX_LIQUIDATORS: usize = 64;
/// Heights that a poster may lease at once: one that stops is replaced within some minutes.
pub const MAX_LEASE: u64 = 1_024;
/// Nodes of one Merkle Patricia proof. Deeper needs hashes that agree in 32 nibbles.
pub const MAX_PROOF_NODES: usize = 32;
/// Bytes of one trie node: a branch of sixteen hashes has 532.
pub const MAX_TRIE_NODE_BYTES: usize = 640;
/// Bytes of one proof with its framing.
pub const MAX_PROOF_BYTES: usize = 4 + MAX_PROOF_NODES * (4 + MAX_TRIE_NODE_BYTES);
/// Claims of one observation: the slots of one `eth_getProof`.
pub const MAX_CLAIMS: usize = 64;
/// Head certificates of one body: one for each rollup, and more for a few.
pub const MAX_HEADS_PER_BODY: usize = 2 * MAX_ROLLUPS;
/// Observations of one body.
pub const MAX_OBSERVATIONS_PER_BODY: usize = 64;
/// Voids of one body: they are rare, and each decides in every lane that it names.
pub const MAX_VOIDS_PER_BODY: usize = 16;
/// Leases of one body: one for each rollup.
pub const MAX_LEASES_PER_BODY: usize = MAX_ROLLUPS;
/// Aborts of one body.
pub const MAX_ABORTS_PER_BODY: usize = 256;
/// Bytes of heads, observations and voids in one body: half of it, so that evidence never keeps bundles out.
pub const MAX_EVIDENCE_BYTES: usize = MAX_BODY_BYTES / 2;
/// Decisions of a lane that are served at once: as many as a hub takes in a call, and more.
pub const MAX_DECISIONS_PER_RANGE: usize = 1_024;

// A deadline is in use from the first block that may name it to the end of its window.
const _: () = assert!(MAX_DEADLINE + MAX_APPLY_WINDOW <= DUE_RING);

// A bundle that is within its own limits fits an empty block, whatever else is wrong with it.
const _: () = assert!(MAX_LEG_BYTES as u64 <= MAX_LANE_BYTES && MAX_BUNDLE_BYTES + 64 <= MAX_BODY_BYTES);
const _: () = assert!(MAX_SETTLEMENT_LEGS <= 8 && MAX_CORRIDORS <= 256 && MAX_ESCROWS <= 256 && MAX_ROLLUPS < 255);
// The rest of a lane item: 65 bytes of entry and 4 of framing a leg, headers, leaf, path.
const LANE_ITEM_FRAMING: usize = 69 * MAX_BUNDLES_PER_BODY + 332 * (MAX_DESCENDANTS + 1) + 1024;
const _: () = assert!(MAX_LANE_BYTES + LANE_ITEM_FRAMING as u64 <= MAX_LANE_ITEM_BYTES as u64);

/// The limits that a submitter needs to know.
#[derive(Clone, Copy, Debug, Serialize, serde::Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "each field is documented at the constant of the same name")]
pub struct Limits {
    pub max_legs: usize,
    pub max_transactions_per_leg: usize,
    pub max_transaction_bytes: usize,
    pub max_leg_bytes: usize,
    pub max_bundle_bytes: usize,
    pub max_body_bytes: usize,
    pub max_lane_bytes: u64,
    pub lane_bytes_target: u64,
    pub max_validity: u64,
    pub nonce_window: u64,
    pub max_rollups: usize,
    pub max_settlement_legs: usize,
    pub min_deadline: u64,
    pub max_deadline: u64,
    pub max_open_settlements: u32,
}

/// The limits in force.
pub const LIMITS: Limits = Limits {
    max_legs: MAX_LEGS,
    max_transactions_per_leg: MAX_TRANSACTIONS_PER_LEG,
    max_transaction_bytes: MAX_TRANSACTION_BYTES,
    max_leg_bytes: MAX_LEG_BYTES,
    max_bundle_bytes: MAX_BUNDLE_BYTES,
    max_body_bytes: MAX_BODY_BYTES,
    max_lane_bytes: MAX_LANE_BYTES,
    lane_bytes_target: LANE_BYTES_TARGET,
    max_validity: MAX_VALIDITY,
    nonce_window: NONCE_WINDOW,
    max_rollups: MAX_ROLLUPS,
    max_settlement_legs: MAX_SETTLEMENT_LEGS,
    min_deadline: MIN_DEADLINE,
    max_deadline: MAX_DEADLINE,
    max_open_settlements: MAX_OPEN_SETTLEMENTS,
};
