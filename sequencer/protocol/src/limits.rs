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

// A bundle that is within its own limits fits an empty block, whatever else is wrong with it.
const _: () = assert!(MAX_LEG_BYTES as u64 <= MAX_LANE_BYTES && MAX_BUNDLE_BYTES + 9 <= MAX_BODY_BYTES);
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
};
